//! The other direction: telling a registry that we exist.
//!
//! A [`Registrar`] writes what it is told, once, and says how that went. When to write, how often and what to do about a
//! failure is its caller's business (the engine's `register`), as with sources.

use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::time::Duration;

use crate::{Config, Error, OpenError, async_trait};

/// An entry of a registry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Registration {
    /// What tells it from all other entries of the agent; writing it again replaces it.
    pub id: String,
    /// The service that others ask for.
    pub service: String,
    /// Where others reach us; `None`: at the address of the registry's own node.
    pub address: Option<IpAddr>,
    /// The port there.
    pub port: u16,
    /// Tags.
    pub tags: Vec<String>,
    /// Metadata.
    pub meta: BTreeMap<String, String>,
    /// Weight while it passes, at least 1.
    pub weight: u32,
    /// Who finds out how we are.
    pub upkeep: Upkeep,
    /// The registry removes it when it was dead or ill for so long.
    pub deregister_after: Duration,
}

/// Who finds out how we are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Upkeep {
    /// The registry's agent asks the application.
    Asked {
        /// What it asks.
        ask: Ask,
        /// How often.
        interval: Duration,
        /// Limit for one check.
        timeout: Duration,
        /// Good checks in a row until it passes.
        healthy: u32,
        /// Bad checks in a row until it fails.
        unhealthy: u32,
    },
    /// We say so, within `ttl`, or are taken for dead.
    Told {
        /// Longest time without a word.
        ttl: Duration,
    },
}

/// What an agent asks of an application.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Ask {
    /// `grpc.health.v1.Health/Check`.
    Grpc {
        /// Where.
        address: String,
        /// Whose health; empty: the server's as a whole.
        service: String,
    },
    /// A GET that 2xx answers.
    Http {
        /// What is asked for.
        url: String,
        /// The `Host`, where it is not that of the URL.
        host: Option<String>,
    },
    /// A connection.
    Tcp {
        /// Where.
        address: String,
    },
}

/// How we are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Condition {
    /// We get no requests.
    Critical,
    /// We get requests.
    Passing,
}

/// An entry that is there already.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Its id.
    pub id: String,
    /// Its metadata.
    pub meta: BTreeMap<String, String>,
}

/// Writes entries of one registry.
///
/// Each call is one exchange with a time limit of its own. An error says whether it may have been done all the same:
/// [`Error::Unreachable`] may, the others are not.
#[async_trait]
pub trait Registrar: fmt::Debug + Send + Sync {
    /// Writes the entry, or replaces it, with this condition.
    async fn announce(&self, registration: &Registration, condition: Condition) -> Result<(), Error>;

    /// Looks whether the entry is still there; [`Error::Gone`] says that it is not.
    async fn confirm(&self, id: &str) -> Result<(), Error>;

    /// Says how we are; [`Error::Gone`] says that the entry is not there. The same condition and note again are no write
    /// beyond the agent.
    async fn report(&self, id: &str, condition: Condition, note: &str) -> Result<(), Error>;

    /// Removes the entry; one that is not there is removed already.
    async fn withdraw(&self, id: &str) -> Result<(), Error>;

    /// Returns the agent's entries of a service.
    async fn entries(&self, service: &str) -> Result<Vec<Entry>, Error>;
}

/// Opens what writes to a configured backend, or says why one cannot register there. Does no IO but reading the files that
/// the configuration names.
pub fn registrar(name: &str, config: &Config) -> Result<Box<dyn Registrar>, OpenError> {
    match config {
        #[cfg(feature = "consul")]
        Config::Consul(config) => Ok(Box::new(crate::consul::register::Agent::new(config))),
        other => {
            Err(OpenError::new(name, &format!("nothing can be registered in a backend of type `{}`", other.kind())))
        }
    }
}
