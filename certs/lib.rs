//! Who we are, and who others are: TLS from given certificates. Identities and the authority have their place here.
//!
//! A leaf of the workspace. It reads PEM files and builds rustls configurations; it opens no socket.

mod error;
mod identity;
mod pem;
mod provider;
mod resolve;
mod spiffe;
mod tls;

pub use error::Error;
pub use identity::spiffe_id;
pub use pem::{Anchors, KeyFiles};
pub use provider::provider;
pub use spiffe::{MAX_ID, MAX_TRUST_DOMAIN, SpiffeError, SpiffeId, TrustDomain};
pub use tls::{Server, client, server};
