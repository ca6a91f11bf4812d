//! The admin interface: HTTP on loopback or a Unix socket, for people, probes and scrapers.
//!
//! It runs on the control side by hyper, apart from the workers, and knows the gateway by one trait, [`View`]. What it
//! may show and do is the first thing an attacker on the machine looks for, so: no other address than loopback or a
//! socket of mode 0600, no name but an address or `localhost` in `Host` (DNS rebinding), no request of another origin
//! (a web page that posts to `127.0.0.1`), GET to read, POST to act, and bounds on everything.
//!
//! `admin.probes` answers `/live`, `/ready` and `/metrics` alone, on any address.

mod answer;
pub mod client;
mod explain;
mod guard;
mod listen;
mod server;
pub mod summary;
mod view;

pub use explain::path as explain_path;
pub use listen::{Access, AdminListener, BindError, SocketFile, bind_private};
pub use server::serve;
pub use view::{
    ConfigView, EjectionView, EndpointState, EndpointView, IdentityView, ListenerView, PlaintextView, Readiness,
    RegistrationView, RootView, ServiceView, Standing, View,
};

use std::sync::Arc;

use crate::telemetry::log::LogLevel;
use crate::telemetry::metrics::Registry;

/// What the admin interface shows and changes; clones are the same.
#[derive(Debug, Clone)]
pub struct Admin {
    /// The gateway.
    pub view: Arc<dyn View>,
    /// Its metrics.
    pub registry: Arc<Registry>,
    /// Its log.
    pub log_level: LogLevel,
}

#[cfg(test)]
pub(crate) mod tests;
