//! What a person writes: the whole shape of the configuration, its schema and its documentation.
//!
//! Everything is optional here; [`check`](super::check) says what is missing. Keys that the product has and this build
//! has not carry `x-later` in the schema (`x-later-values` for single values of an enumeration, `x-later-unless` for
//! the one value that says what is done anyway), and are refused with what to do. Unknown keys are refused.

mod attestors;
mod ca;
mod discovery;
mod identity;
mod listener;
mod process;
mod register;
mod resilience;
mod route;
mod service;

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

pub use attestors::{CaAws, CaEc2, CaKubernetes, CaX509};
pub use ca::{Attestor, Ca, CaAllow, CaLimits};
pub use discovery::{ConsulConsistency, Discovery, DiscoveryType, DnsFamily, KubernetesAddresses};
pub use identity::{Attest, Authority, AuthorityFiles, Identity};
pub use listener::{
    Allow, CertifiedKey, ControlFrames, Listener, ListenerLimits, ListenerProtocol, ListenerTls, TlsMode,
};
pub use process::{AccessLog, Admin, Name, Node, Notice, Platform, Shutdown, Telemetry, Traces};
pub use register::{CheckedBy, Register, RegisterCheck, RegisterCheckType};
pub use resilience::{Breaker, Classify, Health, HealthType};
pub use route::{
    Fault, HeaderChanges, Match, Mirror, NotMatch, PathMatch, RateLimit, Redirect, Regex, Respond, Rewrite, Route,
    ValueMatch, ValueRule,
};
pub use service::{
    Balance, BalanceName, HashKind, HashOn, Hedge, Limits, Policies, Protocol, Retry, RetryMethods, Service, Tls,
    TlsFiles, TlsName, Zones,
};

/// Configuration of Meshless.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Raw {
    /// This process. All of it is detected or has a default. It is read first: `${…}` is not taken here.
    pub node: Option<Node>,
    /// The admin interface.
    pub admin: Option<Admin>,
    /// Backends: places that know endpoints. The table's name is the backend's name in targets.
    pub discovery: BTreeMap<String, Discovery>,
    /// Policies for all services, inline targets and names.
    pub defaults: Option<Policies>,
    /// Services: named upstreams.
    pub services: BTreeMap<String, Service>,
    /// Logical names for a host that no route matched; the first match wins.
    pub names: Vec<Name>,
    /// Where requests come in.
    pub listeners: Vec<Listener>,
    /// What decides where requests go; the first match wins.
    pub routes: Vec<Route>,
    /// A certificate authority inside this process, or alone by `meshless ca serve`.
    pub ca: Option<Ca>,
    /// The identity of this workload.
    pub identity: Option<Identity>,
    /// Registers this workload in Consul, so that others find it.
    pub register: Option<Register>,
    /// Logs, metrics and traces.
    pub telemetry: Option<Telemetry>,
    /// What happens on a signal to end.
    pub shutdown: Option<Shutdown>,
}
