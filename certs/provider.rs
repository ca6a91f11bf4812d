//! The crypto provider, chosen once.

use std::sync::Arc;

use rustls::crypto::CryptoProvider;

/// Returns the one crypto provider of this build: ring.
///
/// ring and aws-lc-rs were level in handshakes (performance paper, point 6); ring builds without a C toolchain of its own.
pub fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}
