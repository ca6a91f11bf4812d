//! The checked configuration: what the rest of the gateway works with.
//!
//! [`raw`] is what a person writes, [`check`] turns it into the types here once, at the edge, and reports *every*
//! problem with file, line and column. After that nothing is validated again: a value of these types is right.
//!
//! ```text
//! files ─► document (tree with places) ─► layers (files, environment) ─► interpolate (`${…}`)
//!       ─► structure (against the schema of raw) ─► check (meaning) ─► Config
//! ```
//!
//! A step that finds something wrong reports it, leaves it out and goes on, so that one run tells everything.
//! The checked types serialize, with units and without secrets, for `/config`.

mod actions;
mod attestors;
mod balance;
mod breaker;
mod ca;
pub mod check;
mod classify;
mod discovery;
mod document;
mod health;
mod hedge;
mod identity;
mod interpolate;
mod layers;
mod listeners;
mod matches;
mod policies;
pub mod problem;
pub mod raw;
mod register;
mod routes;
pub mod schema;
mod structure;
mod template;
mod traces;
pub mod units;
pub(crate) mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use meshless_platforms::Platform;
use serde::Serialize;

use crate::names::Rule;
use crate::target::Expression;

pub use actions::*;
pub use attestors::*;
pub use balance::*;
pub use breaker::Breaker;
pub use ca::{Ca, CaLimits};
pub use check::{Loaded, load, load_implied};
pub use classify::{Classify, StatusWord, Statuses};
pub use discovery::*;
pub use health::{Health, HealthAsk};
pub use hedge::Hedge;
pub use identity::*;
pub use layers::named_platform;
pub use listeners::*;
pub use matches::*;
pub use policies::*;
pub use problem::{Place, Problem, Problems, Severity};
pub use register::{CheckedBy, Register, RegisterCheck};
pub use routes::*;
pub use template::{Template, TemplateError};
pub use traces::*;
use units::print;

/// A whole checked configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// This process.
    pub node: Node,
    /// The admin interface.
    pub admin: Admin,
    /// Backends by name. `static` is always there and never in this map.
    pub discovery: BTreeMap<String, Backend>,
    /// Policies for inline targets: `[defaults]` over the built-in ones.
    pub defaults: Policies,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Listeners; names are unique.
    pub listeners: Vec<Listener>,
    /// Routes in file order: the first match wins.
    pub routes: Vec<Route>,
    /// Logical names in file order: the first match wins, after all routes.
    pub names: Vec<Rule>,
    /// Whose evidence the authority of this process takes; `None`: there is no authority in it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attestors: Option<Attestors>,
    /// Who we are to be; `None`: nobody, and nothing is done that needs an identity.
    pub identity: Option<Identity>,
    /// The authority of this process; `None`: it has none.
    pub ca: Option<Ca>,
    /// What others find us by; `None`: we register nowhere.
    pub register: Option<Register>,
    /// Logs, metrics and traces.
    pub telemetry: Telemetry,
    /// What happens on a signal to end.
    pub shutdown: Shutdown,
}

impl Config {
    /// Says which backends read routes that are not in the files, for those who have only the files; `None`: none does.
    #[must_use]
    pub fn unread_routes(&self) -> Option<String> {
        let reads = self.discovery.iter().filter(|(_, backend)| backend.reads_routes());
        let names: Vec<String> = reads.map(|(name, _)| format!("[discovery.{name}]")).collect();
        (!names.is_empty()).then(|| {
            format!("routes of {} are not looked at: only a gateway that runs asks the cluster", names.join(" and "))
        })
    }
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// The service that we ask to be.
    pub service: Option<String>,
    /// Our zone, as it is written, else as the platform says.
    pub zone: Option<String>,
    /// The address that others reach us by, as it is written, else as the platform says.
    pub address: Option<IpAddr>,
    /// Where this process runs; `None`: `auto`, and nobody was asked.
    pub platform: Option<Platform>,
    /// Where last-known-good snapshots are kept; `None`: nowhere, said once in the log.
    pub state_dir: Option<PathBuf>,
    /// Worker threads; `None`: the CPUs that this process may use.
    pub workers: Option<usize>,
    /// Memory that this process may use, in bytes; `None`: what its control group says.
    #[serde(serialize_with = "print::some_size")]
    pub memory: Option<usize>,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// The whole admin interface. Default `127.0.0.1:9990`.
    pub listen: ListenAddress,
    /// `/live /ready /metrics` alone.
    pub probes: Option<ListenAddress>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 asks the kernel for a free one.
    Tcp(SocketAddr),
    /// A Unix socket, mode 0600 for admin.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `[services.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where its endpoints are found: targets only.
    pub from: Expression,
    /// How it is called.
    pub policies: Policies,
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Telemetry {
    /// Form of the access log. Default JSON.
    pub access_log: AccessLog,
    /// Where spans go; `None`: nowhere.
    pub traces: Option<Traces>,
}

/// Form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLog {
    /// One JSON object a line.
    Json,
    /// None.
    Off,
    /// One line of text.
    Text,
}

/// What AWS says to a spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Notice {
    /// It is taken back in two minutes.
    Interruption,
    /// It may be taken back.
    Rebalance,
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shutdown {
    /// Go on accepting so long after SIGTERM. Default 0 s.
    #[serde(serialize_with = "print::period")]
    pub grace: Duration,
    /// Longest wait for what is in flight. Default 25 s.
    #[serde(serialize_with = "print::period")]
    pub drain: Duration,
    /// What AWS says to a spot instance that drains, too.
    pub notices: BTreeSet<Notice>,
}
