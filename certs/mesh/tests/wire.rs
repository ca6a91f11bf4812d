//! Both sides of TLS in memory.

use std::sync::Arc;

use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, ServerConfig, ServerConnection};

use crate::door::Door;
use crate::{Identity, Mesh, MeshClient, MeshServer, SpiffeId, provider};

pub(super) const ALPN: &[&[u8]] = &[b"h2", b"http/1.1"];

/// Which side found the handshake wrong, and why.
#[derive(Debug)]
pub(super) enum Broken {
    Client(rustls::Error),
    Server(rustls::Error),
}

/// Makes a handshake and hands over all that the sides have to say, session tickets among it.
pub(super) fn handshake(
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
) -> Result<(ClientConnection, ServerConnection), Broken> {
    let name = ServerName::try_from("peer.mesh").unwrap();
    let mut client = ClientConnection::new(client, name).unwrap();
    let mut server = ServerConnection::new(server).unwrap();
    while client.wants_write() || server.wants_write() {
        let mut wire = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut wire).unwrap();
        }
        feed(&wire, |part| server.read_tls(part).unwrap());
        server.process_new_packets().map_err(Broken::Server)?;
        let mut wire = Vec::new();
        while server.wants_write() {
            server.write_tls(&mut wire).unwrap();
        }
        feed(&wire, |part| client.read_tls(part).unwrap());
        client.process_new_packets().map_err(Broken::Client)?;
    }
    assert!(!client.is_handshaking() && !server.is_handshaking());
    Ok((client, server))
}

fn feed(wire: &[u8], mut read: impl FnMut(&mut &[u8]) -> usize) {
    let mut rest = wire;
    while !rest.is_empty() {
        assert!(read(&mut rest) > 0, "the other side takes no more");
    }
}

/// A gateway of a test.
pub(super) fn mesh(identity: Arc<Identity>) -> Arc<Mesh> {
    let mesh = Arc::new(Mesh::default());
    mesh.publish(identity);
    mesh
}

pub(super) fn server(identity: Arc<Identity>) -> MeshServer {
    MeshServer::new(mesh(identity), ALPN)
}

/// A client that speaks to this service alone.
pub(super) fn client(identity: Arc<Identity>, service: &str) -> MeshClient {
    MeshClient::new(mesh(identity), vec![id(service)], ALPN)
}

pub(super) fn id(service: &str) -> SpiffeId {
    format!("spiffe://{}/svc/{service}", super::made::DOMAIN).parse().unwrap()
}

/// A server that shows any chain. Its key need not fit: who checks looks at the chain first.
pub(super) fn server_with(chain: Vec<CertificateDer<'static>>, other: &Identity) -> Arc<ServerConfig> {
    let door = Door::new(other.verifier().clone(), Vec::new());
    let config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .with_client_cert_verifier(Arc::new(door))
        .with_cert_resolver(shown(chain, other));
    Arc::new(config)
}

/// A client that shows any chain, to a server that is what it should be.
pub(super) fn client_with(chain: Vec<CertificateDer<'static>>, other: &Identity) -> Arc<ClientConfig> {
    let door = Door::new(other.verifier().clone(), vec![other.id().clone()]);
    let config = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .unwrap()
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(door))
        .with_client_cert_resolver(shown(chain, other));
    Arc::new(config)
}

fn shown(chain: Vec<CertificateDer<'static>>, other: &Identity) -> Arc<SingleCertAndKey> {
    Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, other.certified().key.clone())))
}
