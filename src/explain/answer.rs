//! The form of an answer: stable, and the same in JSON and behind the text. docs/explain.md describes it.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::allow::Allow;
use crate::admin::EndpointView;
use crate::proxy::failure::Failure;
use crate::route;

/// Why a request goes where it goes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Number of this form, [`super::SCHEMA`].
    pub schema: u32,
    /// What was asked.
    pub source: Source,
    /// The request as the gateway sees it.
    pub request: Request,
    /// The listener that it comes by.
    pub listener: Listener,
    /// What becomes of it.
    pub outcome: Outcome,
    /// What the listener's `allow` says; `None`: it has none, and lets in whom TLS lets in.
    pub allow: Option<Allow>,
    /// The route that matched; `None` where none did.
    pub route: Option<Route>,
    /// The other routes of the listener, in file order.
    pub lost: Vec<Lost>,
    /// What the route does besides sending on, in the order in which it does it.
    pub actions: Vec<Action>,
    /// Headers that an endpoint gets otherwise than the client sent them.
    pub headers: Vec<HeaderChange>,
    /// Where it leads; `None` where nothing is sent.
    pub destination: Option<Destination>,
    /// The services and inline targets that the destination names, in its order.
    pub services: Vec<Service>,
    /// How the shares of services and endpoints were found.
    pub draws: Option<Draws>,
    /// What a person should know besides, one sentence each.
    pub notes: Vec<String>,
    /// The line of the access log that was asked about.
    pub logged: Option<Logged>,
}

/// What was asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Source {
    /// `files` or `running`.
    pub kind: String,
    /// Number of the configuration that runs.
    pub config_version: Option<u64>,
}

/// The request as the gateway sees it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Method; empty for bytes.
    pub method: String,
    /// `http`, `https`, `tcp` or `tls`.
    pub scheme: String,
    /// Host with its port, or the name of a TLS handshake.
    pub host: String,
    /// Path in its normal form.
    pub path: String,
    /// What stands behind `?`.
    pub query: String,
    /// Its content type says gRPC.
    pub is_grpc: bool,
    /// It asks to switch protocols.
    pub is_upgrade: bool,
    /// The client's address.
    pub address: String,
    /// SPIFFE ID of the client, where the listener verifies one.
    pub from: Option<String>,
}

/// The listener that a request comes by.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Listener {
    /// Its name.
    pub name: String,
    /// Where it listens, as configured.
    pub address: String,
    /// Why it is this one.
    pub because: String,
}

/// What becomes of a request.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Outcome {
    /// `sent`; `answered` by the route itself; `refused` where the gateway says why it cannot serve; `opens` where a logical
    /// name or an override leads to what is not in use yet: the first request opens it.
    pub kind: String,
    /// Status of an answer of the gateway's own.
    pub status: Option<u16>,
    /// Its label, as in `meshless-error` and the access log.
    pub label: Option<String>,
    /// In words.
    pub says: String,
}

impl Outcome {
    pub(super) fn refused(failure: &Failure) -> Self {
        let (status, label) = (failure.status().as_u16(), failure.label());
        let says = failure.explanation();
        Self { kind: "refused".to_owned(), status: Some(status), label: Some(label.to_owned()), says }
    }

    pub(super) fn answered(status: u16, says: String) -> Self {
        Self { kind: "answered".to_owned(), status: Some(status), label: None, says }
    }

    pub(super) fn opens(what: &str) -> Self {
        let says = format!("{what} is not in use yet: the first request opens it and waits for it, 1 s at most");
        Self { kind: "opens".to_owned(), status: None, label: None, says }
    }

    pub(super) fn sent(services: &[&str]) -> Self {
        let services = services.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", ");
        Self { kind: "sent".to_owned(), status: None, label: None, says: format!("goes to {services}") }
    }
}

/// The route that matched.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// Its name in metrics and logs; of a logical name that of its rule.
    pub name: String,
    /// `route`, `to` (the listener's own: no route is asked) or `name` (a rule of `[[names]]`: no route matched).
    pub kind: String,
    /// A header of the request says where to, in place of what the route says.
    pub overridden: bool,
    /// The how many-th of the listener's routes it is.
    pub position: Option<usize>,
    /// How many routes the listener has.
    pub of: usize,
    /// What its path captured, by name.
    pub captures: BTreeMap<String, String>,
    /// The application beside us: no status retries, no breaker, no timeout unless one is set.
    pub is_local_hop: bool,
    /// Its own timeout, in milliseconds.
    pub timeout_ms: Option<u64>,
}

/// A route that did not win.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Its name.
    pub name: String,
    /// The how many-th of the listener's routes it is.
    pub position: usize,
    /// The first key of its `match` that did not hold; `None`: all hold, and a route before it won.
    pub key: Option<String>,
    /// What was found there.
    pub found: Option<String>,
}

impl Lost {
    pub(super) fn new(position: usize, name: &str, lost: &route::Lost) -> Self {
        let (key, found) = match lost {
            route::Lost::Later => (None, None),
            route::Lost::Missed(miss) => (Some(miss.key.clone()), Some(miss.found.clone())),
        };
        Self { name: name.to_owned(), position: position + 1, key, found }
    }
}

/// Something that a route does with a request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Action {
    /// `rate_limit`, `fault`, `redirect`, `respond`, `rewrite`, `mirror`, `response_headers`.
    pub kind: String,
    /// In words.
    pub says: String,
}

/// A header that an endpoint gets otherwise than the client sent it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeaderChange {
    /// Its name.
    pub name: String,
    /// What the client sent.
    pub before: Option<String>,
    /// What the endpoint gets; `None`: it is removed.
    pub after: Option<String>,
}

/// Where a route leads.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Destination {
    /// As an expression.
    pub expression: String,
    /// So little of every tier is healthy that health is no guide any more: all that are listed may get requests.
    pub panic: bool,
    /// Its parts.
    pub tree: Branch,
}

/// A part of a destination, or of where a service finds its endpoints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Branch {
    /// The first one takes what it can carry, the next one what is left.
    Tiers {
        /// In their order.
        tiers: Vec<Tier>,
    },
    /// By weight.
    Split {
        /// In their order.
        entries: Vec<Entry>,
    },
    /// A service, or an inline target; [`Explanation::services`] has it.
    Service {
        /// Its name.
        name: String,
    },
    /// Endpoints of one target.
    Target(Set),
}

/// One of several tiers.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Tier {
    /// Its share of what comes here, 0 to 1, by the rule of tiers.
    pub share: f64,
    /// How much of all traffic it could carry, spill included; 1 and more is enough.
    pub capacity: f64,
    /// What it is.
    pub to: Branch,
}

/// One entry of a split.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Entry {
    /// As written.
    pub weight: u32,
    /// Its share of what comes here, 0 to 1: entries that have nothing leave theirs to the others.
    pub share: f64,
    /// What it is.
    pub to: Branch,
}

/// The endpoints of one target, or of one priority of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Set {
    /// As written.
    pub target: String,
    /// Where they come from: `live`, `disk`, `static`, `file`, `fixture`; empty: there was no answer yet.
    pub source: String,
    /// How long they have not been confirmed, in seconds; 0 while the backend answers.
    pub age_seconds: f64,
    /// Why the last question to the backend failed.
    pub failure: Option<String>,
    /// The backend was not asked: the endpoints are not known, and taken for healthy where shares are told.
    pub assumed: bool,
    /// In the order of the backend.
    pub endpoints: Vec<Endpoint>,
}

/// One endpoint.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Endpoint {
    /// Its share of all requests like this one, 0 to 1, as drawn.
    pub share: f64,
    /// By what the balancer compares it, lower is better; `None` where it does not compare.
    pub score: Option<f64>,
    /// What would be spoken to it: `http1`, `http2`, `alpn` (what TLS agrees on), `bytes`.
    pub speaks: String,
    /// The next request is its probe.
    pub next_is_probe: bool,
    /// What `/endpoints` says of it.
    #[serde(flatten)]
    pub view: EndpointView,
}

/// A service or inline target.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Service {
    /// Its name in metrics and logs.
    pub name: String,
    /// Its share of all requests like this one, 0 to 1, as drawn.
    pub share: f64,
    /// How an endpoint is chosen.
    pub balance: String,
    /// TLS to its endpoints.
    pub tls: bool,
    /// Requests in flight, over all workers.
    pub in_flight: usize,
    /// Most requests in flight; one more is refused.
    pub most_in_flight: usize,
    /// What a request may take.
    pub time: Time,
    /// When it is sent again.
    pub retry: Retry,
    /// Where its endpoints are found.
    pub from: Branch,
}

/// What a request may take, in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Time {
    /// Until the head of the reply, retries included; `None`: bounded by silence alone.
    pub until_head_ms: Option<u64>,
    /// Where that comes from.
    pub because: String,
    /// What the client's own deadline leaves; it bounds everything, the body too.
    pub deadline_ms: Option<u64>,
    /// For one try, until the head of its reply.
    pub per_try_ms: Option<u64>,
    /// For a connection, TLS included.
    pub connect_ms: u64,
    /// Longest silence of a body.
    pub silence_ms: u64,
    /// After how long a second endpoint is asked; `None`: never, or too few latencies are known.
    pub hedge_ms: Option<u64>,
    /// How hedging is configured; empty: not at all.
    pub hedge: String,
}

/// When a request is sent again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Retry {
    /// All tries, the first one included.
    pub attempts: u32,
    /// What is retried.
    pub on: Vec<String>,
    /// The method may be sent again once an endpoint may have seen it.
    pub repeats: bool,
    /// Shortest and longest ceiling of the wait between tries.
    pub backoff_ms: [u64; 2],
    /// Share of requests that may be retries.
    pub budget: f64,
    /// Retries that are always allowed, per second.
    pub min_per_second: f64,
    /// Retries that the budget allows now.
    pub budget_left: f64,
    /// Largest body that is kept for another try, in bytes.
    pub body_limit: usize,
    /// Tries at other endpoints that follow one that was provably not seen; they need no budget.
    pub requeues: u32,
}

/// How shares were found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Draws {
    /// Requests that were drawn, while load and health stood still.
    pub count: u32,
    /// How many of them found no endpoint.
    pub without_endpoint: u32,
    /// Seed of the draws: the same one draws the same.
    pub seed: u64,
}

/// A line of the access log, beside what would be decided now.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Logged {
    /// Its id.
    pub request_id: String,
    /// When it began.
    pub time: String,
    /// The route that matched.
    pub route: String,
    /// The service that it went to.
    pub service: String,
    /// The endpoint that answered, or was tried last.
    pub endpoint: String,
    /// How often it was sent.
    pub tries: u64,
    /// Status that the client got.
    pub status: Option<u64>,
    /// What went wrong.
    pub error: String,
    /// Where the decision of now is another one.
    pub differences: Vec<String>,
    /// What the log does not have, and a route asks for.
    pub unknown: Vec<String>,
}

impl Explanation {
    /// Returns every endpoint of every service.
    pub fn endpoints(&self) -> impl Iterator<Item = &Endpoint> {
        let mut endpoints = Vec::new();
        self.for_each_set(&mut |set| endpoints.extend(&set.endpoints));
        endpoints.into_iter()
    }

    /// Tells whether endpoints are taken for healthy that nobody asked for.
    pub fn has_assumed(&self) -> bool {
        let mut has = false;
        self.for_each_set(&mut |set| has |= set.assumed);
        has
    }

    fn for_each_set<'a>(&'a self, visit: &mut dyn FnMut(&'a Set)) {
        for service in &self.services {
            service.from.for_each_set(visit);
        }
    }
}

impl Branch {
    /// Visits the endpoints of every target.
    pub(super) fn for_each_set<'a>(&'a self, visit: &mut dyn FnMut(&'a Set)) {
        match self {
            Self::Service { .. } => {}
            Self::Target(set) => visit(set),
            Self::Tiers { tiers } => tiers.iter().for_each(|one| one.to.for_each_set(visit)),
            Self::Split { entries } => entries.iter().for_each(|one| one.to.for_each_set(visit)),
        }
    }
}
