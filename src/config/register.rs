//! `[register]`, checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use meshless_discovery::Address;
use serde::{Serialize, Serializer};

use super::Health;
use super::units::print;

/// What others find us by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Register {
    /// Name of the backend: its agent is written to.
    pub backend: String,
    /// Name of the listener that is registered.
    pub listener: String,
    /// Name of the service.
    pub service: String,
    /// Address that others reach us by; `None`: what the listener binds, or the address that this host reaches others from.
    pub address: Option<IpAddr>,
    /// Port that others reach us by; `None`: the listener's.
    pub port: Option<u16>,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Weight while the check passes. Default 1.
    pub weight: u32,
    /// How the application is checked; `None`: it is not.
    pub check: Option<RegisterCheck>,
    /// Taken for dead after so long without a word from us. Default 15 s.
    #[serde(serialize_with = "print::period")]
    pub ttl: Duration,
    /// Removed after so long dead or ill. Default 1 min.
    #[serde(serialize_with = "print::period")]
    pub deregister_after: Duration,
    /// Goes on accepting so long after we were taken out. Default 2 s.
    #[serde(serialize_with = "print::period")]
    pub wait: Duration,
}

/// How the application is checked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RegisterCheck {
    /// Who checks.
    pub by: CheckedBy,
    /// Where the application listens.
    #[serde(serialize_with = "text")]
    pub address: Address,
    /// What is asked, and how often.
    #[serde(flatten)]
    pub health: Health,
}

/// Who checks the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum CheckedBy {
    /// The registry's agent, by itself.
    Agent,
    /// This gateway, which tells the agent.
    Gateway,
}

fn text<S: Serializer>(address: &Address, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(address)
}
