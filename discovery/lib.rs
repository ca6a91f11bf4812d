//! Who exists: pluggable backends that turn a target into snapshots of endpoints.
//!
//! A [`Backend`] is one configured place that knows endpoints. It opens a [`Source`] for each [`Target`]; a source waits
//! until what it knows changed and returns the whole new truth as a [`Snapshot`]. It never retries, spawns or logs above
//! debug: the one runner (`follow` in the engine) deals with failure, for every backend alike.

mod address;
mod config;
#[cfg(any(test, feature = "conformance"))]
pub mod conformance;
#[cfg(feature = "dns")]
mod dns;
mod error;
mod file;
mod inline;
mod snapshot;
mod target;

use std::fmt;

pub use async_trait::async_trait;

pub use address::{Address, AddressError};
pub use config::{Config, DnsConfig, DnsFamily, OpenError, check, open, written};
pub use error::{Error, TargetError};
pub use file::fixtures;
pub use snapshot::{AppProtocol, Endpoint, Health, Snapshot, SnapshotError};
pub use target::Target;

/// One configured backend.
///
/// It may share one connection or poller among its sources.
pub trait Backend: fmt::Debug + Send + Sync {
    /// Opens a source for a target of its own, or says what is wrong with the target. Does no IO.
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError>;
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
