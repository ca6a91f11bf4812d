//! TLS of the mesh: both sides show the identity that is in force at the handshake, and check the other's.
//!
//! A rustls configuration is built once for each generation of the identity. So what was agreed on under one identity or
//! bundle (session tickets, remembered sessions) is never taken up again under another. A resumed handshake verifies no
//! certificate, so the peer is asked for after each handshake: [`MeshServer::peer`], [`MeshClient::peer`].

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::ArcSwapOption;
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ClientConnection, CommonState, HandshakeKind, ServerConfig, ServerConnection};

use crate::door::{Door, expect};
use crate::peer::Peer;
use crate::provider::ticketer;
use crate::{Identity, Refused, SpiffeId, provider};

/// Where the identity of this process is, for everybody who shows it or checks by it.
#[derive(Debug, Default)]
pub struct Mesh {
    current: ArcSwapOption<Current>,
    generation: AtomicU64,
}

#[derive(Debug)]
struct Current {
    generation: u64,
    identity: Arc<Identity>,
}

/// Why no handshake of the mesh can be made.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum NoIdentity {
    /// None was issued yet.
    #[error("this gateway has no identity yet")]
    Missing,
    /// It was not renewed in time.
    #[error("this gateway's identity has expired")]
    Expired,
    /// rustls refuses it.
    #[error("TLS: {0}")]
    Tls(#[from] rustls::Error),
}

impl Mesh {
    /// Puts another identity in force: the next handshakes show it and check by it.
    pub fn publish(&self, identity: Arc<Identity>) {
        let generation = self.generation.fetch_add(1, Ordering::AcqRel) + 1;
        self.current.store(Some(Arc::new(Current { generation, identity })));
    }

    /// Returns the identity that was published last, even where it has expired.
    #[must_use]
    pub fn identity(&self) -> Option<Arc<Identity>> {
        self.current.load().as_ref().map(|current| current.identity.clone())
    }

    /// Counts identities, 0 for none: whoever keeps something that was checked checks it again when this changes.
    #[must_use]
    pub fn generation(&self) -> u64 {
        self.current.load().as_ref().map_or(0, |current| current.generation)
    }

    /// Checks the chain of a peer against what is trusted now, and says who it is. A chain that this generation has seen
    /// costs a hash, so this may be asked as often as wanted: after each handshake, and of connections that are open.
    pub fn peer(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Peer, Refused> {
        self.current.load().as_ref().ok_or(Refused::NoIdentity)?.identity.verifier().peer(chain, now)
    }

    fn peer_of(&self, connection: &CommonState, now: SystemTime) -> Result<Peer, Refused> {
        self.peer(connection.peer_certificates().unwrap_or_default(), now)
    }

    fn current(&self, now: SystemTime) -> Result<Arc<Current>, NoIdentity> {
        let current = self.current.load_full().ok_or(NoIdentity::Missing)?;
        // A certificate that no peer takes is not shown: the reason is ours to say, not theirs to guess.
        if current.identity.left(now).is_zero() { Err(NoIdentity::Expired) } else { Ok(current) }
    }
}

/// The server side of mesh TLS: TLS 1.3, a client certificate is required.
#[derive(Debug)]
pub struct MeshServer {
    mesh: Arc<Mesh>,
    alpn: Vec<Vec<u8>>,
    built: ArcSwapOption<Built<ServerConfig>>,
}

/// What a generation's handshakes are made with.
#[derive(Debug)]
struct Built<Config> {
    generation: u64,
    config: Arc<Config>,
    door: Arc<Door>,
}

impl MeshServer {
    /// Shows and checks by the identity that `mesh` has at each handshake.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { mesh, alpn, built: ArcSwapOption::empty() }
    }

    /// Returns where the identity is.
    #[must_use]
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Returns what the next handshake is made with.
    pub fn config(&self, now: SystemTime) -> Result<Arc<ServerConfig>, NoIdentity> {
        let current = self.mesh.current(now)?;
        if let Some(built) = &*self.built.load()
            && built.generation == current.generation
        {
            return Ok(built.config.clone());
        }
        let built = self.build(&current)?;
        let config = built.config.clone();
        self.built.store(Some(Arc::new(built)));
        Ok(config)
    }

    /// Returns who the peer is. To be called after each handshake, and to close the connection on an error: a handshake
    /// that resumed a session verified nothing, and its peer's certificate may have expired since.
    pub fn peer(&self, connection: &ServerConnection, now: SystemTime) -> Result<Peer, Refused> {
        let peer = self.mesh.peer_of(connection, now);
        if peer.is_err() && connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            // With other ticket keys, the next handshake is a full one: a peer that was renewed in between gets in.
            self.built.store(None);
        }
        peer
    }

    fn build(&self, current: &Current) -> Result<Built<ServerConfig>, rustls::Error> {
        let identity = &current.identity;
        let door = Arc::new(Door::new(identity.verifier().clone(), Vec::new()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(door.clone())
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified().clone())));
        config.alpn_protocols.clone_from(&self.alpn);
        // The ticket keys are this configuration's own: what was agreed on before is not taken up again.
        config.ticketer = ticketer()?;
        config.send_tls13_tickets = 1;
        Ok(Built { generation: current.generation, config: Arc::new(config), door })
    }
}

/// The client side of mesh TLS: TLS 1.3, the server must have one of the expected identities.
#[derive(Debug)]
pub struct MeshClient {
    mesh: Arc<Mesh>,
    expected: Vec<SpiffeId>,
    alpn: Vec<Vec<u8>>,
    built: ArcSwapOption<Built<ClientConfig>>,
}

impl MeshClient {
    /// Shows the identity that `mesh` has at each handshake; the server must be one of `expected`.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>, expected: Vec<SpiffeId>, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { mesh, expected, alpn, built: ArcSwapOption::empty() }
    }

    /// Returns where the identity is.
    #[must_use]
    pub fn mesh(&self) -> &Arc<Mesh> {
        &self.mesh
    }

    /// Returns whom it speaks to.
    #[must_use]
    pub fn expected(&self) -> &[SpiffeId] {
        &self.expected
    }

    /// Returns what the next handshake is made with.
    pub fn config(&self, now: SystemTime) -> Result<Arc<ClientConfig>, NoIdentity> {
        let current = self.mesh.current(now)?;
        // Once a server's certificate has expired, no session with it is resumed: all are forgotten.
        if let Some(built) = &*self.built.load()
            && built.generation == current.generation
            && !built.door.knows_expired(now)
        {
            return Ok(built.config.clone());
        }
        let built = self.build(&current)?;
        let config = built.config.clone();
        self.built.store(Some(Arc::new(built)));
        Ok(config)
    }

    /// Returns who the peer is. To be called after each handshake, and to close the connection on an error: a handshake
    /// that resumed a session verified nothing, and its peer's certificate may have expired since.
    pub fn peer(&self, connection: &ClientConnection, now: SystemTime) -> Result<Peer, Refused> {
        let peer = self.mesh.peer_of(connection, now).and_then(|peer| {
            expect(&peer.id, &self.expected)?;
            Ok(peer)
        });
        if peer.is_err() && connection.handshake_kind() == Some(HandshakeKind::Resumed) {
            self.built.store(None);
        }
        peer
    }

    fn build(&self, current: &Current) -> Result<Built<ClientConfig>, rustls::Error> {
        let identity = &current.identity;
        let door = Arc::new(Door::new(identity.verifier().clone(), self.expected.clone()));
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(door.clone())
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified().clone())));
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(Built { generation: current.generation, config: Arc::new(config), door })
    }
}

#[cfg(test)]
mod tests;
