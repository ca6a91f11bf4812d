//! The counters of one worker, named after what happens on the path of a request.
//!
//! The data path asks [`WorkerMetrics`] once for each listener, service or pair of both, keeps the `Rc`, and then pays
//! plain stores: one when a request begins, three when it ends. What differs from reply to reply (status, reason) is
//! found in a short list that belongs to the handle: no hash, no string is made.

use std::cell::{OnceCell, RefCell};
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::{Counter, Counts, Family, Histogram, Level, Registry, families};

/// Makes the handles of one worker.
#[derive(Debug, Clone)]
pub struct WorkerMetrics {
    registry: Arc<Registry>,
}

/// Which way traffic goes, seen from the workload that this process stands beside.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// To the workload.
    Inbound,
    /// From the workload to others; also what a gateway does.
    Outbound,
}

impl Direction {
    const fn label(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
        }
    }
}

impl WorkerMetrics {
    /// Makes one for a worker.
    pub fn new(registry: &Arc<Registry>) -> Self {
        Self { registry: Arc::clone(registry) }
    }

    /// Returns the counters of requests that came by `listener` and go to `service`; empty where none was found.
    pub fn request(&self, direction: Direction, listener: &str, service: &str) -> Rc<RequestSeries> {
        let labels = [direction.label(), listener, service];
        Rc::new(RequestSeries {
            requests: self.registry.counter(&families::REQUESTS, labels),
            latency: self.registry.histogram(&families::RESPONSE_LATENCY, labels),
            added: self.registry.histogram(&families::ADDED_LATENCY, [service]),
            duration: self.registry.histogram(&families::REQUEST_DURATION, [service]),
            outcomes: RefCell::default(),
            registry: Arc::clone(&self.registry),
            direction,
            listener: listener.into(),
            service: service.into(),
        })
    }

    /// Returns the counters of clients' connections.
    pub fn source(&self, direction: Direction, listener: &str) -> Rc<TcpSeries> {
        self.tcp([direction.label(), "src", listener, ""])
    }

    /// Returns the counters of connections to endpoints.
    pub fn destination(&self, direction: Direction, service: &str) -> Rc<TcpSeries> {
        self.tcp([direction.label(), "dst", "", service])
    }

    /// Returns what is counted for a service besides requests.
    pub fn service(&self, service: &str) -> Rc<ServiceSeries> {
        Rc::new(ServiceSeries {
            requeues: self.registry.counter(&families::REQUEUES, [service]),
            connect_duration: self.registry.histogram(&families::CONNECT_DURATION, [service]),
            retries: ByReason::new(&self.registry, &families::RETRIES, service),
            connects: ByReason::new(&self.registry, &families::CONNECTS, service),
            spared: ByReason::new(&self.registry, &families::EJECTIONS_SPARED, service),
            returns: ByReason::new(&self.registry, &families::RETURNS, service),
            probes: self.registry.counter(&families::PROBES, [service]),
            registry: Arc::clone(&self.registry),
            service: service.into(),
        })
    }

    /// Returns the counter of copies that a route's mirror made, or did not.
    pub fn mirror(&self, route: &str, result: &'static str) -> Counter {
        self.registry.counter(&families::MIRRORS, [route, result])
    }

    /// A connection ends because of the certificate of its peer: of a client (`src`) or an endpoint (`dst`). It is rare enough
    /// to be looked up.
    pub fn peer_lost(&self, peer: &'static str, reason: &'static str) {
        self.registry.shared_counter(&families::PEERS_LOST, [peer, reason]).increment();
    }

    /// Returns what is counted for a listener besides requests.
    pub fn listener(&self, listener: &str) -> Rc<ListenerSeries> {
        Rc::new(ListenerSeries {
            malformed: ByReason::new(&self.registry, &families::MALFORMED, listener),
            refused: ByReason::new(&self.registry, &families::REFUSED, listener),
            plaintext: OnceCell::new(),
            registry: Arc::clone(&self.registry),
            listener: listener.into(),
            http: Authorized::new(&self.registry, &families::HTTP_ALLOWED, &families::HTTP_DENIED, listener),
            tcp: Authorized::new(&self.registry, &families::TCP_ALLOWED, &families::TCP_DENIED, listener),
        })
    }

    fn tcp(&self, labels: [&str; 4]) -> Rc<TcpSeries> {
        Rc::new(TcpSeries {
            opened: self.registry.counter(&families::TCP_OPENED, labels),
            closed: self.registry.counter(&families::TCP_CLOSED, labels),
            open: self.registry.level(&families::TCP_OPEN, labels),
            read: self.registry.counter(&families::TCP_READ, labels),
            written: self.registry.counter(&families::TCP_WRITTEN, labels),
        })
    }
}

/// Whether an exchange counts as a success of the service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Classification {
    /// The service failed.
    Failure,
    /// It did what it should, a client's error included.
    Success,
}

impl Classification {
    /// Classifies as Linkerd 2 does: 5xx fail, and of gRPC statuses unknown, deadline exceeded, internal, unavailable
    /// and data loss.
    pub fn of(status: StatusCode, grpc_status: Option<u16>) -> Self {
        let fails = status.is_server_error() || matches!(grpc_status, Some(2 | 4 | 13..=15));
        if fails { Self::Failure } else { Self::Success }
    }

    const fn label(self) -> &'static str {
        match self {
            Self::Failure => "failure",
            Self::Success => "success",
        }
    }
}

/// How an exchange ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Outcome {
    /// Status that the client got.
    pub status: StatusCode,
    /// Status in the trailers or the head, for gRPC.
    pub grpc_status: Option<u16>,
    /// Whether it counts as a success.
    pub classification: Classification,
    /// Our label of what went wrong, the same as in `meshless-error` and the access log; empty if nothing did.
    pub error: &'static str,
}

/// How long an exchange took, from the first byte of the request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Times {
    /// Until the head of the reply was there, ours or an endpoint's.
    pub first_byte: Duration,
    /// The part of that which no endpoint took.
    pub added: Duration,
    /// Until the last byte of the reply.
    pub total: Duration,
}

/// Requests of one listener to one service, of one worker.
#[derive(Debug)]
pub struct RequestSeries {
    requests: Counter,
    latency: Histogram,
    added: Histogram,
    duration: Histogram,
    outcomes: RefCell<Vec<(Outcome, Counter)>>,
    registry: Arc<Registry>,
    direction: Direction,
    listener: Box<str>,
    service: Box<str>,
}

impl RequestSeries {
    /// Most outcomes that one handle tells apart: an endpoint that makes up statuses must not make the list long. What
    /// comes after is counted with `other` as its status.
    pub const MOST_OUTCOMES: usize = 64;

    /// A request was routed here.
    pub fn begin(&self) {
        self.requests.increment();
    }

    /// The exchange ended.
    pub fn end(&self, outcome: Outcome, times: &Times) {
        self.latency.observe(times.first_byte);
        self.added.observe(times.added);
        self.duration.observe(times.total);
        let mut outcomes = self.outcomes.borrow_mut();
        match outcomes.iter().position(|(known, _)| *known == outcome) {
            Some(at) => {
                if let Some((_, counter)) = outcomes.get(at) {
                    counter.increment();
                }
                // The common ones move to the front.
                if at > 0 {
                    outcomes.swap(at, at - 1);
                }
            }
            None => self.end_anew(&mut outcomes, outcome),
        }
    }

    #[cold]
    fn end_anew(&self, outcomes: &mut Vec<(Outcome, Counter)>, outcome: Outcome) {
        let is_full = outcomes.len() >= Self::MOST_OUTCOMES;
        let status = if is_full { "other" } else { outcome.status.as_str() };
        let grpc_status = match outcome.grpc_status {
            None => String::new(),
            Some(code @ 0..=16) if !is_full => code.to_string(),
            Some(_) => "other".into(),
        };
        let counter = self.registry.counter(
            &families::RESPONSES,
            [
                self.direction.label(),
                &self.listener,
                &self.service,
                status,
                outcome.classification.label(),
                &grpc_status,
                outcome.error,
            ],
        );
        counter.increment();
        // When the list is full the handle is dropped at once, and the series keeps its count.
        if !is_full {
            outcomes.push((outcome, counter));
        }
    }
}

/// Connections of one listener's clients or to one service's endpoints, of one worker.
#[derive(Debug)]
pub struct TcpSeries {
    opened: Counter,
    closed: Counter,
    open: Level,
    read: Counter,
    written: Counter,
}

impl TcpSeries {
    /// A connection was opened; it is closed when the guard is dropped.
    pub fn open(self: &Rc<Self>) -> TcpConnection {
        self.opened.increment();
        self.open.up();
        TcpConnection(Rc::clone(self))
    }
}

/// A connection that is open; counts its bytes.
#[derive(Debug)]
pub struct TcpConnection(Rc<TcpSeries>);

impl TcpConnection {
    /// Bytes were read from the peer.
    pub fn read(&self, bytes: usize) {
        self.0.read.add(bytes as u64);
    }

    /// Bytes were written to the peer.
    pub fn written(&self, bytes: usize) {
        self.0.written.add(bytes as u64);
    }
}

impl Drop for TcpConnection {
    fn drop(&mut self) {
        self.0.open.down();
        self.0.closed.increment();
    }
}

/// What is counted for a service besides requests, of one worker.
#[derive(Debug)]
pub struct ServiceSeries {
    requeues: Counter,
    connect_duration: Histogram,
    retries: ByReason,
    connects: ByReason,
    spared: ByReason,
    returns: ByReason,
    probes: Counter,
    registry: Arc<Registry>,
    service: Box<str>,
}

impl ServiceSeries {
    /// A request is sent again because of `reason`.
    pub fn retried(&self, reason: &'static str) {
        self.retries.increment(reason);
    }

    /// A request that was never sent goes to another connection.
    pub fn requeued(&self) {
        self.requeues.increment();
    }

    /// A connection was made, TLS included.
    pub fn connected(&self, took: Duration) {
        self.connects.increment("ok");
        self.connect_duration.observe(took);
    }

    /// A connection was not made; `result` is the label of the failure.
    pub fn connect_failed(&self, result: &'static str) {
        self.connects.increment(result);
    }

    /// An endpoint was ejected by this rule; `cause` is the failure that tipped the scales. It is rare enough to be
    /// looked up.
    pub fn ejected(&self, reason: &'static str, cause: &'static str) {
        self.registry.shared_counter(&families::EJECTIONS, [&self.service, reason, cause]).increment();
    }

    /// An endpoint would have been ejected if not too many others were.
    pub fn spared(&self, reason: &'static str) {
        self.spared.increment(reason);
    }

    /// A request is the probe of an ejected endpoint.
    pub fn probed(&self) {
        self.probes.increment();
    }

    /// An ejected endpoint is back, because its probe was good.
    pub fn returned(&self) {
        self.returns.increment("probe");
    }
}

/// What is counted for a listener besides requests, of one worker.
#[derive(Debug)]
pub struct ListenerSeries {
    malformed: ByReason,
    refused: ByReason,
    /// Made when a connection in clear text comes to a listener that counts them.
    plaintext: OnceCell<Counter>,
    registry: Arc<Registry>,
    listener: Box<str>,
    http: Authorized,
    tcp: Authorized,
}

impl ListenerSeries {
    /// A request was refused as malformed.
    pub fn malformed(&self, label: &'static str) {
        self.malformed.increment(label);
    }

    /// A connection in clear text was let in where certificates are wished for.
    pub fn plaintext(&self) {
        self.plaintext_counter().increment();
    }

    /// Lists that counter from the start, so that nothing is a number too.
    pub fn counts_plaintext(&self) {
        self.plaintext_counter();
    }

    fn plaintext_counter(&self) -> &Counter {
        let make = || self.registry.counter(&families::PLAINTEXT_CONNECTIONS, [&*self.listener]);
        self.plaintext.get_or_init(make)
    }

    /// A connection was closed before a request.
    pub fn refused(&self, reason: &'static str) {
        self.refused.increment(reason);
    }

    /// The rule of `allow` at this position, from 0, allowed a request, or a connection that carries bytes.
    pub fn allowed(&self, is_http: bool, rule: usize) {
        self.authorized(is_http).allowed(rule);
    }

    /// No rule of `allow` allowed it; with `is_dry_run` it went on nevertheless.
    pub fn denied(&self, is_http: bool, is_dry_run: bool) {
        self.authorized(is_http).denied.increment(if is_dry_run { "true" } else { "" });
    }

    fn authorized(&self, is_http: bool) -> &Authorized {
        if is_http { &self.http } else { &self.tcp }
    }
}

/// What the rules of `allow` decided.
#[derive(Debug)]
struct Authorized {
    registry: Arc<Registry>,
    family: &'static Family<Counts, 2>,
    listener: Box<str>,
    /// By position of the rule; `None` until it allows something.
    allowed: RefCell<Vec<Option<Counter>>>,
    denied: ByReason,
}

impl Authorized {
    fn new(
        registry: &Arc<Registry>,
        family: &'static Family<Counts, 2>,
        denied: &'static Family<Counts, 2>,
        listener: &str,
    ) -> Self {
        let denied = ByReason::new(registry, denied, listener);
        Self { registry: Arc::clone(registry), family, listener: listener.into(), allowed: RefCell::default(), denied }
    }

    fn allowed(&self, rule: usize) {
        if let Some(Some(counter)) = self.allowed.borrow().get(rule) {
            return counter.increment();
        }
        self.allowed_anew(rule);
    }

    #[cold]
    fn allowed_anew(&self, rule: usize) {
        let mut allowed = self.allowed.borrow_mut();
        if allowed.len() <= rule {
            allowed.resize_with(rule + 1, || None);
        }
        if let Some(place) = allowed.get_mut(rule) {
            let counter = self.registry.counter(self.family, [&self.listener, &format!("allow[{rule}]")]);
            counter.increment();
            *place = Some(counter);
        }
    }
}

/// Counters that differ in one label, whose values are words of ours: so they are few, and come into being when used.
#[derive(Debug)]
struct ByReason {
    registry: Arc<Registry>,
    family: &'static Family<Counts, 2>,
    owner: Box<str>,
    counters: RefCell<Vec<(&'static str, Counter)>>,
}

impl ByReason {
    fn new(registry: &Arc<Registry>, family: &'static Family<Counts, 2>, owner: &str) -> Self {
        Self { registry: Arc::clone(registry), family, owner: owner.into(), counters: RefCell::default() }
    }

    fn increment(&self, reason: &'static str) {
        let mut counters = self.counters.borrow_mut();
        if let Some((_, counter)) = counters.iter().find(|(known, _)| *known == reason) {
            counter.increment();
        } else {
            let counter = self.registry.counter(self.family, [&self.owner, reason]);
            counter.increment();
            counters.push((reason, counter));
        }
    }
}
