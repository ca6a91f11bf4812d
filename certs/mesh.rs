//! TLS of the mesh: both sides show the identity that is in force at the handshake, and check the other's.
//!
//! A rustls configuration is built once for each generation of the identity. So what was agreed on under one identity or
//! bundle (session tickets, remembered sessions) is never taken up again under another.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::SystemTime;

use arc_swap::{ArcSwap, ArcSwapOption};
use rustls::pki_types::CertificateDer;
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, ServerConfig};

use crate::provider::ticketer;
use crate::verify::Door;
use crate::{Identity, Leaf, Refused, SpiffeId, provider};

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

    /// Checks the chain of a peer that was verified before against what is trusted now.
    pub fn check(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Leaf, Refused> {
        match &*self.current.load() {
            Some(current) => current.identity.verifier().verify(chain, now),
            None => Err(Refused::Other(NoIdentity::Missing.to_string())),
        }
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
    built: ArcSwapOption<(u64, Arc<ServerConfig>)>,
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
            && built.0 == current.generation
        {
            return Ok(built.1.clone());
        }
        let config = Arc::new(self.build(&current.identity)?);
        self.built.store(Some(Arc::new((current.generation, config.clone()))));
        Ok(config)
    }

    fn build(&self, identity: &Identity) -> Result<ServerConfig, rustls::Error> {
        let door = Door { verifier: identity.verifier().clone(), expected: Vec::new(), optional: false };
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .with_client_cert_verifier(Arc::new(door))
            .with_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified().clone())));
        config.alpn_protocols.clone_from(&self.alpn);
        // The ticket keys are this configuration's own: what was agreed on before is not taken up again.
        config.ticketer = ticketer()?;
        config.send_tls13_tickets = 1;
        Ok(config)
    }
}

/// The client side of mesh TLS: TLS 1.3, the server must have one of the expected identities.
#[derive(Debug)]
pub struct MeshClient {
    mesh: Arc<Mesh>,
    expected: Vec<SpiffeId>,
    alpn: Vec<Vec<u8>>,
    built: ArcSwap<Option<(u64, Arc<ClientConfig>)>>,
}

impl MeshClient {
    /// Shows the identity that `mesh` has at each handshake; the server must be one of `expected`.
    #[must_use]
    pub fn new(mesh: Arc<Mesh>, expected: Vec<SpiffeId>, alpn: &[&[u8]]) -> Self {
        let alpn = alpn.iter().map(|protocol| protocol.to_vec()).collect();
        Self { mesh, expected, alpn, built: ArcSwap::default() }
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
        if let Some(built) = &**self.built.load()
            && built.0 == current.generation
        {
            return Ok(built.1.clone());
        }
        let config = Arc::new(self.build(&current.identity)?);
        self.built.store(Arc::new(Some((current.generation, config.clone()))));
        Ok(config)
    }

    fn build(&self, identity: &Identity) -> Result<ClientConfig, rustls::Error> {
        let door = Door { verifier: identity.verifier().clone(), expected: self.expected.clone(), optional: false };
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])?
            .dangerous()
            .with_custom_certificate_verifier(Arc::new(door))
            .with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified().clone())));
        config.alpn_protocols.clone_from(&self.alpn);
        Ok(config)
    }
}
