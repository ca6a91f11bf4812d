//! `[ca]`, checked.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use meshless_certs::TrustDomain;
use meshless_certs::authority::Rule;
use serde::Serialize;

use super::units::print;

/// The authority of this process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Ca {
    /// The trust domain that its directory must be of; `None`: the one that it was made for.
    #[serde(serialize_with = "some_text")]
    pub trust_domain: Option<TrustDomain>,
    /// Where it serves the network; `None`: it serves this process and operators alone.
    pub listen: Option<SocketAddr>,
    /// Where it is.
    pub state_dir: PathBuf,
    /// Lifetime of a leaf.
    #[serde(serialize_with = "print::period")]
    pub leaf_ttl: Duration,
    /// Lifetime of an intermediate.
    #[serde(serialize_with = "print::period")]
    pub intermediate_ttl: Duration,
    /// File with what keys at rest are sealed with.
    pub passphrase_file: Option<PathBuf>,
    /// Who gets what.
    pub allow: Vec<Rule>,
    /// What keeps it from being overrun.
    pub limits: CaLimits,
}

/// `[ca.limits]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct CaLimits {
    /// Certificates in a second, over all. Default 50.
    pub per_second: u32,
    /// Certificates of one identity in a minute. Default 10.
    pub per_identity: u32,
    /// Requests of one source address in a second, ten times as many at once. Default 20.
    pub per_source: u32,
    /// Handshakes at a time. Default 200.
    pub handshakes: u32,
}

fn some_text<T: std::fmt::Display, S: serde::Serializer>(value: &Option<T>, serializer: S) -> Result<S::Ok, S::Error> {
    match value {
        Some(value) => serializer.collect_str(value),
        None => serializer.serialize_none(),
    }
}
