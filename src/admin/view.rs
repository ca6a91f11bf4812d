//! What the admin interface asks of the gateway. The composition root implements it; a test scripts it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::explain::answer::Explanation;
use crate::explain::{Question, Refusal};
use crate::targets::TargetView;

/// The gateway, seen from outside. Each call answers at once from what is in memory.
pub trait View: fmt::Debug + Send + Sync {
    /// Returns whether the gateway should get traffic, and why not.
    fn readiness(&self) -> Readiness;

    /// Returns the configuration that runs.
    fn config(&self) -> ConfigView;

    /// Returns all services, inline targets included, in the order of their names.
    fn services(&self) -> Vec<ServiceView>;

    /// Returns the endpoints of all services, or of one; nothing if there is no such service.
    fn endpoints(&self, service: Option<&str>) -> Vec<EndpointView>;

    /// Returns where our own registration stands; `None` where nothing is registered.
    fn registration(&self) -> Option<RegistrationView> {
        None
    }

    /// Returns who we are; `None` where no identity is asked for.
    fn identity(&self) -> Option<IdentityView> {
        None
    }

    /// Returns every target that is followed and what is known of it, in the order of their names.
    fn targets(&self) -> Vec<TargetView>;

    /// Says why a request goes where it goes, by the table that serves.
    fn explain(&self, question: &Question) -> Result<Explanation, Refusal>;

    /// Begins to drain, as SIGTERM does; again, it changes nothing. Does not wait.
    fn drain(&self);
}

/// Whether the gateway should get traffic.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Readiness {
    /// It should.
    pub ready: bool,
    /// Why not, one sentence each; empty if it should.
    pub reasons: Vec<String>,
    /// What is wrong although it should, such as a target that never answered.
    pub warnings: Vec<String>,
}

/// The configuration that runs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ConfigView {
    /// Counts up with each change that was applied; the first one is 1.
    pub version: u64,
    /// When it was applied, as [`Timestamp`](crate::telemetry::timestamp::Timestamp) prints it.
    pub loaded_at: String,
    /// Why a later change was refused; `None` if what is configured is what runs.
    pub last_error: Option<String>,
    /// What `check` warns of.
    pub warnings: Vec<String>,
    /// Keys that were changed but need a restart.
    pub pending_restart: Vec<String>,
    /// Listeners with the addresses that the kernel gave.
    pub listeners: Vec<ListenerView>,
    /// The configuration, defaults included. The implementation leaves secrets out.
    pub config: serde_json::Value,
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ListenerView {
    /// Its name.
    pub name: String,
    /// Where it listens.
    pub address: String,
    /// What it expects.
    pub protocol: String,
    /// Clients' connections that are open.
    pub connections: usize,
}

/// One service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ServiceView {
    /// Its name, or the target as written.
    pub name: String,
    /// Where its endpoints are found.
    pub from: String,
    /// How an endpoint is chosen.
    pub balance: String,
    /// How many endpoints are in which state; the metric `meshless_endpoints` is made of this.
    pub endpoints: BTreeMap<EndpointState, usize>,
    /// Requests in flight.
    pub in_flight: usize,
    /// Retries that the budget allows now.
    pub retry_budget: f64,
}

/// What may be done with an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum EndpointState {
    /// Finishes what it has.
    Draining,
    /// It failed too often and gets nothing for a while, or only its probe.
    Ejected,
    /// Not in the last answer of its backend; used when no listed one is usable.
    Held,
    /// Said to fail by its backend, or by our health checks.
    Unhealthy,
    /// May be picked.
    Usable,
}

impl EndpointState {
    /// All of them, so that a state without endpoints is 0 in the metric and not missing.
    pub const ALL: [Self; 5] = [Self::Draining, Self::Ejected, Self::Held, Self::Unhealthy, Self::Usable];

    /// Returns its name in JSON and in the metric.
    pub const fn label(self) -> &'static str {
        match self {
            Self::Draining => "draining",
            Self::Ejected => "ejected",
            Self::Held => "held",
            Self::Unhealthy => "unhealthy",
            Self::Usable => "usable",
        }
    }
}

/// One endpoint of one service.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EndpointView {
    /// Its service.
    pub service: String,
    /// Target that it was found by.
    pub target: String,
    /// Backend that the target names.
    pub backend: String,
    /// The backend's own id, where it has one.
    pub id: Option<String>,
    /// Step of the failover list within its target, lower ones first: SRV's priority.
    pub priority: u16,
    /// Where it listens.
    pub address: String,
    /// Relative weight.
    pub weight: u32,
    /// Its zone, where known.
    pub zone: Option<String>,
    /// What its backend says: `healthy`, `unhealthy`, `draining`.
    pub health: String,
    /// Whether its backend still lists it.
    pub standing: Standing,
    /// Requests in flight.
    pub in_flight: u64,
    /// Estimate of its latency in milliseconds; `None` before the first reply.
    pub latency_ms: Option<f64>,
    /// What failures add to it for the balancer, in milliseconds; it fades, and successes take it back.
    pub penalty_ms: f64,
    /// Open connections.
    pub connections: u64,
    /// What our health checks say: `unknown` where there are none, or no result yet; `good`, `bad`.
    pub check: String,
    /// Why the last health check failed; `None` where it did not.
    pub check_failure: Option<String>,
    /// The ejection it is under; `None` if it is under none.
    pub ejected: Option<EjectionView>,
    /// How often it was ejected since it is known.
    pub ejections: u32,
    /// Failures in a row.
    pub failures_in_row: u32,
    /// Requests that count for its success rate, and how many of them failed.
    pub window_requests: u64,
    /// How many of `window_requests` failed, or were turned away by a limit.
    pub window_failures: u64,
    /// Where the snapshot came from: `live` (the backend), or `disk`.
    pub source: String,
    /// How long its backend has not been able to confirm it, in seconds; 0 while it answers.
    pub age_seconds: f64,
    /// It may be picked: it is listed, healthy and not ejected.
    pub usable: bool,
    /// Why it gets nothing; `None` if it gets its part. One that is usable may wait in a tier, or a zone, that is not
    /// in use.
    pub unused_because: Option<String>,
}

/// Where our own registration stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RegistrationView {
    /// The backend that is told.
    pub backend: String,
    /// The service that we are part of.
    pub service: String,
    /// Name of our entry.
    pub id: String,
    /// Where others reach us.
    pub address: String,
    /// The port there.
    pub port: u16,
    /// What the backend was told: `absent` (nothing, or it forgot us), `passing`, `critical`, `left`.
    pub state: String,
    /// What an absent entry waits for; `None` where it waits for nothing but the backend.
    pub waits_for: Option<String>,
    /// What our checks say of the application: `unknown`, `good`, `bad`; `None` where we do not check it.
    pub check: Option<String>,
    /// Why the last check failed; `None` where it did not.
    pub check_failure: Option<String>,
    /// How long the backend has not taken what we tell it, in seconds; 0 while it does.
    pub unconfirmed_seconds: f64,
    /// Why it does not; `None` where it does.
    pub failure: Option<String>,
}

/// Who we are, and who comes without saying who it is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct IdentityView {
    /// The trust domain of the mesh.
    pub trust_domain: String,
    /// Where the identity comes from.
    pub source: String,
    /// SPIFFE ID; `None` while there is no identity, and so are the next ones.
    pub id: Option<String>,
    /// Serial number of the certificate, hexadecimal.
    pub serial: Option<String>,
    /// Begin of its validity.
    pub not_before: Option<String>,
    /// End of its validity.
    pub not_after: Option<String>,
    /// How long it is still valid, in seconds; 0 once it has expired.
    pub left_seconds: Option<f64>,
    /// When it is about to be renewed, a tenth of its lifetime sooner or later; `None` where another agent does that.
    pub renew_at: Option<String>,
    /// Number of the trust bundle; 0 where nobody counts them (files).
    pub bundle_sequence: Option<u64>,
    /// Whom we trust.
    pub roots: Vec<RootView>,
    /// Why the last try to get an identity failed; `None` where it did not.
    pub last_error: Option<String>,
    /// Who came in clear text to permissive listeners, the newest first: at most 100 sources of each.
    pub plaintext: Vec<PlaintextView>,
}

/// A root of the trust bundle.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootView {
    /// SHA-256 of the certificate, hexadecimal.
    pub sha256: String,
}

/// A source of connections in clear text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlaintextView {
    /// The permissive listener.
    pub listener: String,
    /// Its address, or `unix`.
    pub address: String,
    /// How many connections it opened.
    pub connections: u64,
    /// When it opened the last one.
    pub last: String,
}

/// The ejection of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EjectionView {
    /// How long it still lasts, in seconds; 0: the next request is its probe.
    pub left_seconds: f64,
    /// A request is its probe just now.
    pub probing: bool,
    /// The rule: `consecutive`, `success_rate`, or `probe` where a probe failed.
    pub reason: String,
    /// The failure that tipped the scales: `answer`, `connect`, `reset`, `timeout`.
    pub cause: String,
    /// The how many-th ejection in a row it is.
    pub times: u32,
}

/// Whether a backend still lists an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// It was in the last answer and is not now; kept for a while.
    Held,
    /// It is in the last answer.
    Listed,
}
