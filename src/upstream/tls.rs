//! TLS to an upstream: what a handshake with an endpoint is made with.

use std::sync::Arc;
use std::time::SystemTime;

use meshless_certs::{MeshClient, NoIdentity, Refused, SpiffeId};
use meshless_discovery::Address;
use rustls::pki_types::ServerName;
use rustls::{ClientConfig, ClientConnection};

use super::connect::Wanted;
use crate::trust::Shown;

/// TLS to an upstream; built by compose, because it reads files.
#[derive(Debug)]
pub(crate) enum TlsClient {
    /// By given certificates.
    Files {
        /// What handshakes are made with.
        configs: ByProtocol<Arc<ClientConfig>>,
        /// Name to ask for and to check; `None`: the endpoint's address.
        server_name: Option<ServerName<'static>>,
    },
    /// By the identity of this workload. What discovery says of an endpoint changes nothing of whom we expect there.
    Mesh {
        /// What handshakes are made with.
        clients: ByProtocol<MeshClient>,
        /// Name to ask for, after the identity; nothing is checked by it.
        server_name: Option<ServerName<'static>>,
    },
}

/// One of a kind for each set of protocols that is offered (ALPN).
#[derive(Debug)]
pub(crate) struct ByProtocol<T> {
    bytes: T,
    either: T,
    http1: T,
    http2: T,
}

/// Why a handshake cannot begin.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CannotBegin {
    /// We have nothing to show.
    #[error("{0}")]
    NoIdentity(#[from] NoIdentity),
    /// There is nothing to check a certificate by.
    #[error("TLS over a Unix socket needs `tls.server_name`")]
    NoName,
}

impl<T> ByProtocol<T> {
    /// Makes all four from the protocols that each of them offers.
    pub(crate) fn new(make: impl Fn(&[&[u8]]) -> T) -> Self {
        Self {
            bytes: make(&[]),
            either: make(&[b"h2", b"http/1.1"]),
            http1: make(&[b"http/1.1"]),
            http2: make(&[b"h2"]),
        }
    }

    fn of(&self, wanted: Wanted) -> &T {
        match wanted {
            Wanted::Bytes => &self.bytes,
            Wanted::Either => &self.either,
            Wanted::Http1 => &self.http1,
            Wanted::Http2 => &self.http2,
        }
    }
}

impl TlsClient {
    /// Returns what the next handshake is made with, and the name that is asked for.
    pub(crate) fn begin(
        &self,
        address: &Address,
        wanted: Wanted,
        now: SystemTime,
    ) -> Result<(Arc<ClientConfig>, ServerName<'static>), CannotBegin> {
        match self {
            Self::Files { configs, server_name } => {
                let name = match (server_name, address) {
                    (Some(name), _) => name.clone(),
                    (None, Address::Tcp(address)) => ServerName::from(address.ip()),
                    (None, Address::Unix(_)) => return Err(CannotBegin::NoName),
                };
                Ok((configs.of(wanted).clone(), name))
            }
            Self::Mesh { clients, server_name } => {
                // An address is never sent as a name (RFC 6066, 3), so any will do.
                let name = server_name.clone().unwrap_or_else(|| match address {
                    Address::Tcp(address) => ServerName::from(address.ip()),
                    Address::Unix(_) => ServerName::from(std::net::IpAddr::from(std::net::Ipv4Addr::UNSPECIFIED)),
                });
                Ok((clients.of(wanted).config(now)?, name))
            }
        }
    }

    /// Returns the name of the endpoints, where the configuration says one.
    pub(crate) fn configured_name(&self) -> Option<&ServerName<'static>> {
        match self {
            Self::Files { server_name, .. } => server_name.as_ref(),
            Self::Mesh { .. } => None,
        }
    }

    /// Tells whether it shows the identity of this workload.
    pub(crate) fn is_mesh(&self) -> bool {
        matches!(self, Self::Mesh { .. })
    }

    /// Returns who a handshake was made with, for TLS of the mesh; to be asked after each.
    pub(crate) fn shown(
        &self,
        wanted: Wanted,
        connection: &ClientConnection,
        now: SystemTime,
    ) -> Result<Option<Shown>, Refused> {
        let Self::Mesh { clients, .. } = self else { return Ok(None) };
        let peer = clients.of(wanted).peer(connection, now)?;
        Ok(Some(Shown::new(peer, connection.peer_certificates())))
    }
}

/// Returns the name that endpoints of an identity are asked for: `web.svc.example.org` for
/// `spiffe://example.org/svc/web`; `None` where that is no name of DNS.
pub(crate) fn name_of(id: &SpiffeId) -> Option<ServerName<'static>> {
    let service = id.path().strip_prefix("/svc/").filter(|service| !service.contains('/'))?;
    let name = format!("{service}.svc.{}", id.trust_domain());
    match ServerName::try_from(name).ok()? {
        name @ ServerName::DnsName(_) => Some(name),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_that_is_asked_for_is_made_of_the_identity() {
        let name = |id: &str| name_of(&id.parse().unwrap()).map(|name| name.to_str().into_owned());
        assert_eq!(name("spiffe://example.org/svc/web").as_deref(), Some("web.svc.example.org"));
        for nameless in [
            "spiffe://example.org/ns/a/sa/web",
            "spiffe://example.org/svc/a/b",
            "spiffe://example.org/svc/-",
            &format!("spiffe://example.org/svc/{}", "a".repeat(64)),
        ] {
            assert_eq!(name(nameless), None, "{nameless}");
        }
    }

    #[test]
    fn without_an_identity_no_handshake_of_the_mesh_begins() {
        let mesh = Arc::<meshless_certs::Mesh>::default();
        let clients = ByProtocol::new(|alpn| MeshClient::new(mesh.clone(), Vec::new(), alpn));
        let client = TlsClient::Mesh { clients, server_name: None };
        let address = Address::Tcp("127.0.0.1:1".parse().unwrap());
        let error = client.begin(&address, Wanted::Http1, SystemTime::now()).unwrap_err();
        assert!(matches!(error, CannotBegin::NoIdentity(NoIdentity::Missing)), "{error}");
    }
}
