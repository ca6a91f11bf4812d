//! The crypto provider, chosen once.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::pki_types::PrivateKeyDer;
use rustls::server::ProducesTickets;
use rustls::sign::SigningKey;

/// Returns the one crypto provider of this build: ring.
///
/// ring and aws-lc-rs were level in handshakes (performance paper, point 6); ring builds without a C toolchain of its own.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

/// Returns what makes and opens session tickets, by keys of its own.
pub(crate) fn ticketer() -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
    rustls::crypto::ring::Ticketer::new()
}

/// Reads a private key. Unlike the provider's own loader it borrows the key, so no copy of it stays behind in memory.
pub(crate) fn signing_key(key: &PrivateKeyDer<'_>) -> Result<Arc<dyn SigningKey>, rustls::Error> {
    rustls::crypto::ring::sign::any_supported_type(key)
}
