//! How an agent reaches the authority: by the network, or within its own process.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use rcgen::{CertificateParams, KeyPair, PKCS_ECDSA_P256_SHA256, PublicKeyData as _};
use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::pin::KeyHash;
use crate::{Identity, SourceError, TrustBundle};

/// What was issued to a key of ours.
pub(super) struct Granted {
    pub(super) key: Zeroizing<Vec<u8>>,
    pub(super) chain: Vec<CertificateDer<'static>>,
    pub(super) bundle: TrustBundle,
}

/// A way to the authority. `known` is what was learned from it before, by which it may be known, too.
#[async_trait]
pub(super) trait Channel: fmt::Debug + Send {
    /// Asks for the roots.
    async fn bundle(&mut self, known: Option<&Arc<TrustBundle>>) -> Result<TrustBundle, SourceError>;
    /// Asks for an identity by proving what we are.
    async fn attest(&mut self, known: Option<&Arc<TrustBundle>>) -> Result<Granted, SourceError>;
    /// Asks for the next leaf by the one in force. `Denied` means that it will not do, and attesting may.
    async fn renew(&mut self, identity: &Identity, known: Option<&Arc<TrustBundle>>) -> Result<Granted, SourceError>;
}

/// A key of ours, and the request for a certificate for it.
pub(super) struct Ours {
    /// PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// PKCS#10, DER. It names nothing: the authority takes the key alone.
    pub(super) csr: Vec<u8>,
    pub(super) hash: KeyHash,
}

impl Ours {
    /// Makes a key that nobody has seen: P-256, which every peer takes.
    pub(super) fn generate() -> Result<Self, SourceError> {
        let broken = |why: rcgen::Error| SourceError::Malformed(format!("no key could be made: {why}"));
        let pair = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(broken)?;
        let params = CertificateParams::default();
        let csr = params.serialize_request(&pair).map_err(broken)?.der().to_vec();
        let hash = KeyHash::of_key(&pair.subject_public_key_info());
        Ok(Self { key: Zeroizing::new(pair.serialize_der()), csr, hash })
    }
}
