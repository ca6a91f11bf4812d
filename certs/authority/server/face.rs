//! The server's side of TLS: what the authority shows, and who is let in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use rustls::ServerConfig;
use rustls::pki_types::CertificateDer;
use rustls::server::NoServerSessionStorage;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::version::TLS13;

use crate::authority::Issuer;
use crate::door::Door;
use crate::{Identity, TrustBundle, Verifier, provider};

/// The one protocol.
pub(super) const ALPN: &[u8] = b"h2";

/// The same warning again after this time.
const COMPLAIN: Duration = Duration::from_secs(10);

/// What handshakes are made with, built anew when the authority's identity or its bundle changes.
#[derive(Debug, Default)]
pub(super) struct Face {
    built: Mutex<Option<Built>>,
    complained: Mutex<Option<Instant>>,
}

#[derive(Debug)]
struct Built {
    identity: Arc<Identity>,
    bundle: Arc<TrustBundle>,
    config: Arc<ServerConfig>,
}

impl Face {
    /// Returns what the next handshake is made with; `None`, and a warning, where there is nothing that clients take.
    pub(super) fn config(&self, issuer: &dyn Issuer, now: SystemTime) -> Option<Arc<ServerConfig>> {
        match self.current(issuer, now) {
            Ok(config) => Some(config),
            Err(problem) => {
                let mut complained = self.complained.lock().unwrap_or_else(PoisonError::into_inner);
                if complained.is_none_or(|at| at.elapsed() >= COMPLAIN) {
                    *complained = Some(Instant::now());
                    tracing::warn!(problem, "The authority has nothing to show, so nobody can ask it.");
                }
                None
            }
        }
    }

    fn current(&self, issuer: &dyn Issuer, now: SystemTime) -> Result<Arc<ServerConfig>, String> {
        // Who is not valid any more is refused by every client.
        if issuer.serving().left(now).is_zero() {
            return Err("its own certificate has expired".to_owned());
        }
        let (identity, bundle) = (issuer.serving(), issuer.bundle());
        let mut built = self.built.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(built) = &*built
            && Arc::ptr_eq(&built.identity, &identity)
            && (Arc::ptr_eq(&built.bundle, &bundle) || built.bundle == bundle)
        {
            return Ok(built.config.clone());
        }
        let config = Arc::new(build(&identity, &bundle, now)?);
        *built = Some(Built { identity, bundle, config: config.clone() });
        Ok(config)
    }
}

fn build(identity: &Identity, bundle: &TrustBundle, now: SystemTime) -> Result<ServerConfig, String> {
    // Clients are checked by the bundle of now, whatever the identity was made with.
    let verifier = Verifier::new(bundle).map_err(|why| format!("the bundle: {why}"))?;
    let door = Door::new(Arc::new(verifier), Vec::new()).optional();
    let mut chain = identity.chain().to_vec();
    chain.push(root_of(identity, bundle, now)?);
    let certified = CertifiedKey::new(chain, identity.certified().key.clone());
    let mut config = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(&[&TLS13])
        .map_err(|why| why.to_string())?
        .with_client_cert_verifier(Arc::new(door))
        .with_cert_resolver(Arc::new(SingleCertAndKey::from(certified)));
    config.alpn_protocols = vec![ALPN.to_vec()];
    // Who asks once in hours has no use for resumption, and each connection is checked by what holds now.
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(NoServerSessionStorage {});
    Ok(config)
}

/// The root is shown too, for clients that know nothing but the hash of its key.
fn root_of(identity: &Identity, bundle: &TrustBundle, now: SystemTime) -> Result<CertificateDer<'static>, String> {
    let signed = |root: &&CertificateDer<'static>| {
        let only = TrustBundle { roots: vec![(*root).clone()], ..bundle.clone() };
        Verifier::new(&only).is_ok_and(|verifier| verifier.verify(identity.chain(), now).is_ok())
    };
    let root = bundle.roots.iter().find(signed);
    root.cloned().ok_or_else(|| "no root of the bundle verifies the authority's own certificate".to_owned())
}
