//! Who exists: pluggable backends that turn a target into snapshots of endpoints.
//!
//! A [`Backend`] is one configured place that knows endpoints. It opens a [`Source`] for each [`Target`]; a source waits
//! until what it knows changed and returns the whole new truth as a [`Snapshot`]. It never retries, spawns or logs above
//! debug: the one runner (`follow` in the engine) deals with failure, for every backend alike.

mod address;
#[cfg(feature = "aws")]
mod aws;
mod calls;
#[cfg(feature = "cloudmap")]
mod cloudmap;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "consul")]
mod consul;
#[cfg(feature = "dns")]
mod dns;
#[cfg(feature = "ecs")]
mod ecs;
mod error;
mod file;
mod finding;
mod inline;
#[cfg(feature = "kubernetes")]
mod kubernetes;
#[cfg(any(feature = "cloudmap", feature = "consul", feature = "dns"))]
mod local;
mod objects;
mod register;
mod snapshot;
mod target;

use std::fmt;

pub use async_trait::async_trait;

#[cfg(feature = "aws")]
pub use aws::signer;

pub use address::{Address, AddressError};
pub use calls::Calls;
pub use config::{
    AwsConfig, AwsKeys, CloudmapConfig, Config, ConsulAddress, ConsulConfig, ConsulConsistency, ConsulHost, DnsConfig,
    DnsFamily, EcsConfig, KubernetesAddresses, KubernetesConfig, KubernetesSurroundings, OpenError, check, open,
    written,
};
#[cfg(feature = "ecs")]
pub use ecs::attested_tasks;
pub use error::{Error, TargetError};
pub use file::fixtures;
pub use finding::{Finding, Verdict};
pub use objects::ObjectSource;
pub use register::{Ask, Condition, Entry, Registrar, Registration, Upkeep, registrar};
pub use snapshot::{AppProtocol, Endpoint, Health, Snapshot, SnapshotError};
pub use target::Target;

/// One configured backend.
///
/// It may share one connection or poller among its sources.
#[async_trait]
pub trait Backend: fmt::Debug + Send + Sync {
    /// Opens a source for a target of its own, or says what is wrong with the target. Does no IO.
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError>;

    /// Opens a source of the objects that it was told to read beside endpoints; `None`: of none. Does no IO.
    fn objects(&self) -> Option<Box<dyn ObjectSource>> {
        None
    }

    /// Looks whether its place is reachable, takes the credentials and permits every call that a source makes (a dry
    /// call each), for `meshless doctor`. `targets` are those that the configuration names. Answers within 10 s.
    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        let _ = targets;
        Vec::new()
    }

    /// Returns how often it asked its place.
    fn calls(&self) -> Calls {
        Calls::default()
    }
}

/// Waits for change in what a backend knows about one target.
///
/// All or nothing: a part that could not be read fails the call. An error is not an empty answer.
/// A call that waits says by waiting that what it returned last still holds, so a source must notice by itself that
/// its backend stopped answering (a time limit on each exchange) and then return an error.
#[async_trait]
pub trait Source: fmt::Debug + Send {
    /// Waits until the target changed, then returns all of it. The first call answers at once.
    ///
    /// After an error the next call tries anew, and answers even if nothing changed; the caller owns cadence and
    /// back-off. Cancel-safe: a call that is dropped loses no change, the next one reports it.
    async fn next(&mut self) -> Result<Snapshot, Error>;
}
