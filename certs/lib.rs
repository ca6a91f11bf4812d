//! Who we are, and who others are: SPIFFE IDs, identities, the authority that issues them, TLS that shows and checks them.
//!
//! ```text
//! attest ──proof──► authority ──chain──► Identity ──► Mesh ──► handshakes of both sides
//!                      └─► TrustBundle ─────┘           └─► Verifier: who the peer is
//! ```
//!
//! A leaf of the workspace.

pub mod agent;
pub mod attest;
pub mod authority;
mod bundle;
mod door;
mod error;
mod files;
mod hex;
mod identity;
mod mesh;
mod peer;
mod pem;
mod provider;
mod refused;
mod resolve;
mod spiffe;
mod svid;
mod tls;
mod verify;
mod write;

pub use bundle::{REFRESH_HINT, TrustBundle};
pub use error::Error;
pub use files::{FilesSource, IdentityFiles};
pub use hex::hex;
pub use identity::{Identity, IdentityError, IdentitySource, SourceError};
pub use mesh::{Mesh, MeshClient, MeshServer, NoIdentity};
pub use peer::{Peer, fingerprint, spiffe_id};
pub use pem::{Anchors, KeyFiles};
pub use provider::provider;
pub use refused::{Part, Refused, refusal};
pub use spiffe::{MAX_ID, MAX_TRUST_DOMAIN, SpiffeError, SpiffeId, TrustDomain};
pub use svid::{Leaf, leaf, validity};
pub use tls::{Server, client, server};
pub use verify::{MAX_CHAIN, Verifier};
pub use write::{FILES, WriteError, write};
