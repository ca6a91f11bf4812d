//! The authority: who gets which identity, and for how long.
//!
//! ```text
//! Request, Proof ─► attestors ─► facts ─► policy ─► limits ─► (token burnt) ─► signature ─► audit line ─► store ─► Issued
//! Command ────────────────────────────────────────────────────────────────────────────────► audit line ─► store ─► Reply
//! ```
//!
//! [`Issuer`] is what others see; [`Authority`] is the one that keeps its state in a directory of this machine, and
//! [`Desk`] that directory for commands alone.

mod audit;
mod backup;
mod certificate;
mod clock;
pub mod command;
mod csr;
mod desk;
mod directory;
mod engine;
mod execute;
mod hierarchy;
mod issue;
mod keys;
mod limits;
mod nonce;
mod open;
mod options;
mod policy;
pub(crate) mod protocol;
mod random;
mod record;
mod rotate;
pub mod server;
mod store;
mod token;

use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rustls::pki_types::CertificateDer;

use crate::attest::{Challenge, Method};
use crate::{Identity, SpiffeId, TrustBundle};

pub use audit::Broken;
pub use backup::{Restored, backup_bytes, restore};
pub use desk::Desk;
pub use directory::{DirectoryError, SOCKET, publish};
pub use engine::Authority;
pub use execute::request_of;
pub use keys::{KeyError, Passphrase, SHORTEST_PASSPHRASE};
pub use limits::Limits;
pub use open::{Made, OpenError, ROOT_CERTIFICATE, ROOT_KEY, init, make_root_key, read_root_key};
pub use options::{
    Clock, DEFAULT_INTERMEDIATE, DEFAULT_LEAF, LEAVES, LONGEST_INTERMEDIATE, LONGEST_LEAF, Options, OptionsError,
    SHORTEST_LEAF,
};
pub use policy::{Rule, RuleError};
pub use record::{Blocked, Entry};
pub use token::{Cidr, CidrError, DEFAULT_TTL, LONGEST_TTL, Token};

/// What the authority does for those who ask: the server speaks it to the network, a gateway with `[ca]` calls it.
#[async_trait]
pub trait Issuer: fmt::Debug + Send + Sync {
    /// Returns the roots, and the sequence number of this set of them.
    fn bundle(&self) -> Arc<TrustBundle>;

    /// Returns what the authority's own server shows: `spiffe://TRUST-DOMAIN/meshless/ca`, which policy gives to nobody.
    fn serving(&self) -> Arc<Identity>;

    /// Makes a challenge for a key; its nonce can be used once, within a minute.
    fn challenge(&self, key: &str) -> Challenge;

    /// Issues to who proves something.
    async fn issue(&self, request: &Request, proof: Proof) -> Result<Issued, Denied>;
}

/// What is asked for.
#[derive(Debug, Clone)]
pub struct Request {
    /// PKCS#10, DER, at most 16 KiB. Only its public key is taken from it.
    pub csr: Vec<u8>,
    /// The service that the workload wants to be (`node.service`), where what it proved allows several; else it is checked.
    pub service: Option<String>,
    /// Where it came from; `None` within this process.
    pub source: Option<IpAddr>,
}

/// By what an identity is asked for.
#[derive(Debug, Clone)]
pub enum Proof {
    /// Evidence of an attestor.
    Evidence {
        /// Which one.
        method: Method,
        /// In the attestor's form.
        evidence: serde_json::Value,
        /// The nonce of the challenge that it answers.
        nonce: String,
    },
    /// The identity that the caller has, as the handshake verified it: a renewal.
    Renewal {
        /// The chain, leaf first.
        chain: Vec<CertificateDer<'static>>,
    },
    /// The process that the authority runs in; it asks to be this service.
    Embedded {
        /// `node.service`.
        service: String,
    },
}

/// What was issued.
#[derive(Debug, Clone)]
pub struct Issued {
    /// To whom.
    pub id: SpiffeId,
    /// Leaf first, then intermediates, without the root.
    pub chain: Vec<CertificateDer<'static>>,
    /// Whom to trust.
    pub bundle: Arc<TrustBundle>,
    /// End of the leaf's validity.
    pub not_after: SystemTime,
}

/// Why nothing is issued.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Denied {
    /// The request is not one: 400. `reason` is the word in metrics and the audit log.
    #[error("{why}")]
    Malformed {
        /// A word.
        reason: &'static str,
        /// What is wrong with it.
        why: String,
    },
    /// The evidence proves nothing, or the nonce is not ours: 401.
    #[error("the evidence is not taken: {reason}")]
    NotProved {
        /// A word.
        reason: &'static str,
    },
    /// Policy gives nothing for what was proved: 403.
    #[error("{why}")]
    NotAllowed {
        /// What was proved, and what to do.
        why: String,
    },
    /// Too often: 429.
    #[error("too many requests; ask again in {} s", .retry_after.as_secs().max(1))]
    Throttled {
        /// How long to wait.
        retry_after: Duration,
    },
    /// The authority cannot decide or not write down what it decides: 503. Nothing was issued.
    #[error("{0}")]
    Unavailable(String),
}

impl Denied {
    /// Returns the word in metrics and the audit log.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Malformed { reason, .. } | Self::NotProved { reason } => reason,
            Self::NotAllowed { .. } => "not_allowed",
            Self::Throttled { .. } => "throttled",
            Self::Unavailable(_) => "unavailable",
        }
    }

    /// Returns the status of the answer.
    #[must_use]
    pub fn status(&self) -> u16 {
        match self {
            Self::Malformed { .. } => 400,
            Self::NotProved { .. } => 401,
            Self::NotAllowed { .. } => 403,
            Self::Throttled { .. } => 429,
            Self::Unavailable(_) => 503,
        }
    }
}

#[cfg(test)]
mod tests;
