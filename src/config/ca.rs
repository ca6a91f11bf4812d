//! `[ca]`, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshless_certs::TrustDomain;
use meshless_certs::authority::{Limits, Rule};
use serde::{Serialize, Serializer};

use super::units::print;

/// A certificate authority.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Ca {
    /// The trust domain that its directory must be of; `None`: the one that it was made for.
    #[serde(serialize_with = "some_text")]
    pub trust_domain: Option<TrustDomain>,
    /// Where it listens; `None`: it serves this process alone.
    pub listen: Option<SocketAddr>,
    /// Where its keys, its database and its audit log are.
    pub state_dir: PathBuf,
    /// Lifetime of a leaf. Default 24 h.
    #[serde(serialize_with = "print::period")]
    pub leaf_ttl: Duration,
    /// Lifetime of an intermediate. Default 60 days.
    #[serde(serialize_with = "print::period")]
    pub intermediate_ttl: Duration,
    /// What the keys at rest are sealed with, by its file.
    pub passphrase_file: Option<PathBuf>,
    /// Who gets what.
    #[serde(serialize_with = "rules")]
    pub allow: Vec<Rule>,
    /// What keeps it from being overrun.
    pub limits: CaLimits,
}

/// What keeps the authority from being overrun.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CaLimits {
    /// Certificates in a second, over all. Default 50.
    pub per_second: u32,
    /// Certificates of one identity in a minute. Default 10.
    pub per_identity: u32,
    /// Requests of one source address in a second, ten times as many at once. Default 20.
    pub per_source: u32,
    /// Handshakes at the same time. Default 200.
    pub handshakes: u32,
}

impl From<CaLimits> for Limits {
    fn from(limits: CaLimits) -> Self {
        Self { per_second: limits.per_second, per_identity: limits.per_identity }
    }
}

#[allow(clippy::ref_option, reason = "serde hands it over so")]
fn some_text<S: Serializer>(value: &Option<TrustDomain>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}

fn rules<S: Serializer>(rules: &[Rule], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(rules.iter().map(ToString::to_string))
}
