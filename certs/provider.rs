//! The crypto provider, chosen once.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;
use rustls::server::ProducesTickets;

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
