//! TLS configurations from the files that a configuration names.

use std::collections::HashMap;
use std::sync::Arc;

use meshless_certs::{Anchors, KeyFiles, Mesh, MeshClient, MeshServer};
use rustls::ClientConfig;
use rustls::pki_types::ServerName;

use super::StartError;
use crate::config::{
    CertifiedKeyFiles, Config, Listener, ListenerProtocol, ListenerTls, Policies, TrustAnchors, UpstreamTls,
};
use crate::listener::Tls;
use crate::upstream::tls::{ByProtocol, TlsClient, name_of};

/// Everything that was built; one value for one configuration.
#[derive(Debug, Default)]
pub(super) struct Built {
    servers: HashMap<String, Arc<Tls>>,
    clients: HashMap<UpstreamTls, Arc<TlsClient>>,
}

impl Built {
    /// Reads all files; the error names the listener or service and the file. What is of the mesh takes its identity from
    /// `mesh` at each handshake.
    pub(super) fn new(config: &Config, mesh: &Arc<Mesh>) -> Result<Self, StartError> {
        let mut built = Self::default();
        for listener in &config.listeners {
            if let Some(server) = server(listener, mesh)? {
                built.servers.insert(listener.name.clone(), server);
            }
        }
        let named = config.services.values().map(|service| (service.name.as_str(), &service.policies));
        for (name, policies) in named.chain([("defaults", &config.defaults)]) {
            if policies.tls != UpstreamTls::Off && !built.clients.contains_key(&policies.tls) {
                let client =
                    client(&policies.tls, mesh).map_err(|why| StartError::Unusable(format!("{name}: tls: {why}")))?;
                if let Some(client) = client {
                    built.clients.insert(policies.tls.clone(), client);
                }
            }
        }
        Ok(built)
    }

    pub(super) fn server(&self, listener: &str) -> Option<Arc<Tls>> {
        self.servers.get(listener).cloned()
    }

    pub(super) fn client(&self, policies: &Policies) -> Option<Arc<TlsClient>> {
        self.clients.get(&policies.tls).cloned()
    }
}

fn server(listener: &Listener, mesh: &Arc<Mesh>) -> Result<Option<Arc<Tls>>, StartError> {
    let alpn: &[&[u8]] = match listener.protocol {
        ListenerProtocol::Auto | ListenerProtocol::Http => &[b"h2", b"http/1.1"],
        ListenerProtocol::Tcp | ListenerProtocol::TlsPassthrough => &[],
    };
    let (certs, client_ca) = match &listener.tls {
        ListenerTls::Off => return Ok(None),
        ListenerTls::Permissive | ListenerTls::Strict => {
            let permissive = listener.tls == ListenerTls::Permissive;
            return Ok(Some(Arc::new(Tls::Mesh { server: MeshServer::new(mesh.clone(), alpn), permissive })));
        }
        ListenerTls::Server { certs, client_ca } => (certs, client_ca),
    };
    let keys: Vec<_> = certs.iter().map(files).collect();
    let anchors = client_ca.as_ref().map(|path| Anchors::File(path.clone()));
    meshless_certs::server(&keys, anchors.as_ref(), alpn)
        .map(|server| Some(Arc::new(Tls::Files(Arc::new(server)))))
        .map_err(|error| StartError::Unusable(format!("listener `{}`: tls: {error}", listener.name)))
}

fn client(tls: &UpstreamTls, mesh: &Arc<Mesh>) -> Result<Option<Arc<TlsClient>>, String> {
    let (ca, client, server_name) = match tls {
        UpstreamTls::Off => return Ok(None),
        UpstreamTls::Mesh { expected } => {
            let clients = Box::new(ByProtocol::new(|alpn| MeshClient::new(mesh.clone(), expected.clone(), alpn)));
            let server_name = expected.first().and_then(name_of);
            return Ok(Some(Arc::new(TlsClient::Mesh { clients, server_name })));
        }
        UpstreamTls::On { ca, client, server_name } => (ca, client, server_name),
    };
    let anchors = match ca {
        TrustAnchors::File(path) => Anchors::File(path.clone()),
        TrustAnchors::System => Anchors::System,
    };
    let keys = client.as_ref().map(files);
    let base = meshless_certs::client(&anchors, keys.as_ref()).map_err(|error| error.to_string())?;
    let server_name = server_name
        .as_ref()
        .map(|name| ServerName::try_from(name.clone()).map_err(|_| format!("`{name}` is no name of a server")))
        .transpose()?;
    let configs = ByProtocol::new(|alpn| {
        let mut config: ClientConfig = base.clone();
        config.alpn_protocols = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Arc::new(config)
    });
    Ok(Some(Arc::new(TlsClient::Files { configs, server_name })))
}

fn files(files: &CertifiedKeyFiles) -> KeyFiles {
    KeyFiles { cert: files.cert.clone(), key: files.key.clone() }
}

/// Returns every file that TLS was built from, to watch them.
pub(super) fn paths(config: &Config) -> Vec<std::path::PathBuf> {
    let mut paths = Vec::new();
    for listener in &config.listeners {
        if let ListenerTls::Server { certs, client_ca } = &listener.tls {
            paths.extend(certs.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]));
            paths.extend(client_ca.clone());
        }
    }
    for policies in config.services.values().map(|service| &service.policies).chain([&config.defaults]) {
        if let UpstreamTls::On { ca, client, .. } = &policies.tls {
            if let TrustAnchors::File(path) = ca {
                paths.push(path.clone());
            }
            paths.extend(client.iter().flat_map(|files| [files.cert.clone(), files.key.clone()]));
        }
    }
    paths.extend(config.telemetry.traces.as_ref().and_then(|traces| traces.ca.clone()));
    paths
}
