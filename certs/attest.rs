//! How a workload proves what it is: what it shows, and what the authority makes of it.
//!
//! Each attestor turns evidence into facts ([`Attested`]); which identity the facts stand for is the authority's policy
//! alone. Nothing that a workload says of itself becomes a part of its identity.

pub mod aws_iam;
pub mod ec2;
mod evidence;
mod http;
mod jwt;
pub mod kubernetes;
mod token;
mod when;
pub mod x509;

use std::fmt;
use std::net::IpAddr;
use std::time::SystemTime;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::SourceError;

pub use token::TokenProver;

/// The ways to prove something, named as in `[identity] attest` and `[ca] allow`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the methods are")]
pub enum Method {
    AwsIam,
    Ec2,
    JoinToken,
    Kubernetes,
    X509,
}

impl Method {
    /// Returns the word in configuration, metrics and the audit log.
    #[must_use]
    pub fn label(self) -> &'static str {
        match self {
            Self::AwsIam => "aws-iam",
            Self::Ec2 => "ec2",
            Self::JoinToken => "join-token",
            Self::Kubernetes => "kubernetes",
            Self::X509 => "x509",
        }
    }
}

impl fmt::Display for Method {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.label())
    }
}

/// What was proved. Facts have names, by which policy selects and which the audit log writes down.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attested {
    /// How.
    pub method: Method,
    /// Name and value of each fact, such as `namespace` and `default`; each name at most once.
    pub facts: Vec<(&'static str, String)>,
}

impl Attested {
    /// Returns a fact by its name.
    #[must_use]
    pub fn fact(&self, name: &str) -> Option<&str> {
        self.facts.iter().find(|(known, _)| *known == name).map(|(_, value)| value.as_str())
    }
}

/// What the authority asks to be answered: evidence is bound to it, so that it is worth nothing elsewhere or later.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Challenge {
    /// Which authority asks: its trust domain's name.
    pub authority: String,
    /// A number used once, of the authority: 32 random bytes in unpadded base64url, taken once within a minute.
    pub nonce: String,
    /// SHA-256 of the public key (SPKI, DER) that a certificate is asked for, hexadecimal, lower case.
    pub key: String,
}

/// The workload's side of an attestor.
#[async_trait]
pub trait Prover: fmt::Debug + Send + Sync {
    /// Returns how it proves.
    fn method(&self) -> Method;
    /// Makes evidence that answers a challenge. Its form is the attestor's own.
    async fn prove(&self, challenge: &Challenge) -> Result<serde_json::Value, SourceError>;
}

/// The authority's side of an attestor.
#[async_trait]
pub trait Attestor: fmt::Debug + Send + Sync {
    /// Returns how it is proved.
    fn method(&self) -> Method;
    /// Turns evidence into facts. The nonce of `presented` was made by this authority and has just been used up.
    async fn attest(&self, presented: &Presented<'_>) -> Result<Attested, Rejected>;
}

/// Evidence, with what it must be bound to.
#[derive(Debug, Clone, Copy)]
pub struct Presented<'a> {
    /// As it came; untrusted, at most 16 KiB.
    pub evidence: &'a serde_json::Value,
    /// What it must answer.
    pub challenge: &'a Challenge,
    /// Where it came from; `None` within this process.
    pub source: Option<IpAddr>,
    /// The time.
    pub now: SystemTime,
}

/// Why evidence is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Rejected {
    /// It proves nothing. `reason` is the word in metrics and the audit log; `why` goes to the log of the authority alone,
    /// who asks hears the reason.
    #[error("{reason}: {why}")]
    Refused {
        /// A word, such as `expired`.
        reason: &'static str,
        /// What is wrong, without secrets.
        why: String,
    },
    /// Who has to be asked (STS, the API server) does not answer: nothing is known.
    #[error("cannot be checked now: {0}")]
    Unavailable(String),
}
