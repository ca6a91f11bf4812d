//! What requests of one client connection share, and what connections of one worker share.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::{HashMap, HashSet};
use std::net::IpAddr;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use arc_swap::cache::Cache;
use http::HeaderValue;
use meshless_certs::SpiffeId;
use meshless_discovery::{Address, Target};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::demand::Demand;
use super::failure::Limit;
use super::headers::Sender;
use crate::authorize::ration::Ration;
use crate::balance::Sample;
use crate::config::{Listener, ListenerLimits};
use crate::follow::removals::Standing;
use crate::listener::Shared;
use crate::resilience::memory::{Level, Pressure};
use crate::stream::Stream;
use crate::telemetry::WorkerTelemetry;
use crate::telemetry::access_log::Record;
use crate::telemetry::metrics::{Counter, ListenerSeries, RequestSeries, WorkerMetrics};
use crate::telemetry::rarely::Rarely;
use crate::telemetry::traces::Tracer;
use crate::trust::{Bond, Cut, Terms, Trust};
use crate::upstream::live::Wanted;
use crate::upstream::plan::{MIRROR, Plan};
use crate::upstream::pool::{Pools, Series};
use crate::upstream::{Member, Table, Upstream};
use crate::worker::Aside;

/// A connection to an endpoint that was held over its removal failed: it may go.
pub(crate) type HeldFailed = (Target, Address);

type ListenerAndService = (Arc<str>, Arc<str>);

/// What the connections of one worker share. Lives on the worker's thread.
#[derive(Debug)]
pub(crate) struct WorkerContext {
    table: RefCell<Cache<Arc<ArcSwap<Table>>, Arc<Table>>>,
    pools: Rc<Pools>,
    trust: Rc<Trust>,
    rarely: Rarely,
    telemetry: WorkerTelemetry,
    random: RefCell<fastrand::Rng>,
    epoch: Instant,
    held_failed: mpsc::UnboundedSender<HeldFailed>,
    demand: Rc<Demand>,
    pressure: Arc<Pressure>,
    services: RefCell<HashMap<Arc<str>, Rc<Series>>>,
    requests: RefCell<HashMap<ListenerAndService, Rc<RequestSeries>>>,
    mirrors: RefCell<HashMap<(Arc<str>, &'static str), Counter>>,
    aside: Aside,
    /// Connections that end where a change of rules shuts their clients out: those that showed identities, and bytes.
    by_rules: RefCell<Vec<Weak<Session>>>,
    audit: Ration,
    ids: Cell<u64>,
    /// The configuration that `services` and `requests` were last cleared by.
    plan: RefCell<Arc<Plan>>,
}

impl WorkerContext {
    pub(crate) fn new(
        table: Arc<ArcSwap<Table>>,
        telemetry: WorkerTelemetry,
        random: fastrand::Rng,
        epoch: Instant,
        held_failed: mpsc::UnboundedSender<HeldFailed>,
        wanted: mpsc::Sender<Wanted>,
        pressure: Arc<Pressure>,
        terms: Arc<Terms>,
    ) -> Rc<Self> {
        let mut random = random;
        let trust = Trust::new(terms, telemetry.metrics.clone());
        let ids = Cell::new(random.u64(..));
        Rc::new(Self {
            table: RefCell::new(Cache::new(table)),
            pools: Pools::new(trust.clone()),
            trust,
            rarely: Rarely::default(),
            telemetry,
            random: RefCell::new(random),
            epoch,
            held_failed,
            demand: Rc::new(Demand::new(wanted)),
            pressure,
            services: RefCell::default(),
            requests: RefCell::default(),
            mirrors: RefCell::default(),
            aside: Aside::default(),
            by_rules: RefCell::default(),
            audit: Ration::default(),
            ids,
            plan: RefCell::default(),
        })
    }

    /// Returns the table that is in force.
    pub(crate) fn table(&self) -> Arc<Table> {
        self.table.borrow_mut().load().clone()
    }

    pub(super) fn demand(&self) -> &Rc<Demand> {
        &self.demand
    }

    /// Returns how short memory is.
    pub(crate) fn memory(&self) -> Level {
        self.pressure.level()
    }

    /// Returns the connections that live as long as their peers are trusted.
    pub(crate) fn trust(&self) -> &Rc<Trust> {
        &self.trust
    }

    /// Returns what was said lately of what peers can make happen at will.
    pub(crate) fn rarely(&self) -> &Rarely {
        &self.rarely
    }

    pub(crate) fn pools(&self) -> &Rc<Pools> {
        &self.pools
    }

    pub(crate) fn metrics(&self) -> &WorkerMetrics {
        &self.telemetry.metrics
    }

    /// Milliseconds since the process began; wraps after 49 days, which averages and budgets take for "long ago".
    #[allow(clippy::cast_possible_truncation, reason = "it wraps on purpose")]
    pub(crate) fn millis(&self) -> u32 {
        self.epoch.elapsed().as_millis() as u32
    }

    /// Time since the process began.
    pub(crate) fn uptime(&self) -> Duration {
        self.epoch.elapsed()
    }

    /// Where work runs that no request waits for.
    pub(crate) fn aside(&self) -> &Aside {
        &self.aside
    }

    /// How many lines denials may write.
    pub(super) fn audit(&self) -> &Ration {
        &self.audit
    }

    /// Counts what became of a copy for a mirror.
    pub(crate) fn mirrored(&self, mirror: &Arc<str>, result: &'static str) {
        let mut mirrors = self.mirrors.borrow_mut();
        let counter = mirrors
            .entry((mirror.clone(), result))
            .or_insert_with(|| self.telemetry.metrics.mirror(mirror.strip_suffix(MIRROR).unwrap_or(mirror), result));
        counter.increment();
    }

    pub(crate) fn with_random<T>(&self, use_it: impl FnOnce(&mut fastrand::Rng) -> T) -> T {
        use_it(&mut self.random.borrow_mut())
    }

    /// A number from 0 to 1.
    pub(crate) fn random_share(&self) -> f64 {
        self.random.borrow_mut().f64()
    }

    /// Returns what is counted for an upstream, once something was.
    pub(super) fn known_series(&self, upstream: &Upstream) -> Option<Rc<Series>> {
        self.services.borrow().get(&upstream.name).cloned()
    }

    /// Takes what a try taught into what is known of its endpoint.
    pub(crate) fn observe(&self, member: &Member, sample: Sample) {
        member.state.load.observe(sample, self.millis());
    }

    /// Says that an endpoint could not be connected to: one that was held over its removal is dropped then.
    pub(crate) fn connect_failed(&self, upstream: &Upstream, member: &Member) {
        if member.standing != Standing::Held {
            return;
        }
        upstream.endpoints.for_each(&mut |set| {
            if set.members.iter().any(|other| other.state.id == member.state.id) {
                // The receiver is gone only when the process ends.
                let _ = self.held_failed.send((set.target.clone(), member.endpoint.address.clone()));
            }
        });
    }

    /// Forgets series and connections of upstreams that are gone, and tells which denials were not written down.
    pub(crate) fn sweep(&self, now: Instant) {
        let left_out = self.audit.owed(self.uptime());
        if left_out > 0 {
            tracing::info!(target: "audit", left_out, "Denials were left out of this log.");
        }
        let table = self.table();
        self.trust.sweep(SystemTime::now(), now);
        self.pools.sweep(&table.upstreams, now);
    }

    /// Closes connections to endpoints that are gone.
    pub(crate) fn table_changed(&self) {
        self.pools.forget_gone();
        self.demand.table_changed();
        let table = self.table();
        if Arc::ptr_eq(&table.plan, &*self.plan.borrow()) {
            return;
        }
        // Names come and go only with a configuration.
        let names: HashSet<&str> = table.upstreams.iter().map(|upstream| &*upstream.name).collect();
        self.services.borrow_mut().retain(|name, _| names.contains(&**name));
        self.requests.borrow_mut().retain(|(_, service), _| service.is_empty() || names.contains(&**service));
        self.mirrors.borrow_mut().clear();
        self.end_denied(Instant::now());
        self.plan.replace(table.plan.clone());
    }
}

impl WorkerContext {
    /// Watches a connection whose client may be shut out while it is open; again, it changes nothing.
    fn watch_rules(&self, session: &Rc<Session>) {
        if session.is_watched.replace(true) {
            return;
        }
        let mut sessions = self.by_rules.borrow_mut();
        if sessions.len() == sessions.capacity() {
            // Those that ended go before the list grows.
            sessions.retain(|session| session.strong_count() > 0);
        }
        sessions.push(Rc::downgrade(session));
    }

    /// The rules changed: ends connections whose clients nothing allows any more.
    fn end_denied(&self, now: Instant) {
        let sessions: Vec<Rc<Session>> = self.by_rules.borrow().iter().filter_map(Weak::upgrade).collect();
        for session in sessions {
            let bytes = session.bytes.get();
            if session.is_still_allowed(bytes.is_some()) {
                continue;
            }
            match (session.tls.as_ref().and_then(|tls| tls.bond.as_ref()), bytes) {
                (Some(bond), _) => self.trust.deny(bond, now),
                (None, Some(cut)) => self.trust.deny_bytes(cut, now),
                (None, None) => {}
            }
        }
    }
}

/// What is known of a connection that came by TLS.
#[derive(Debug)]
pub(crate) struct Encrypted {
    /// The certificates that its own was chosen from, by name; `None`: it was our identity.
    pub(crate) server: Option<Arc<meshless_certs::Server>>,
    /// The name that the client asked for.
    pub(crate) name: Option<String>,
    /// The SPIFFE ID in the certificate that the client was verified by.
    pub(crate) identity: Option<SpiffeId>,
    /// What requests say of the client, in `x-forwarded-client-cert`.
    pub(crate) certificate: Option<HeaderValue>,
    /// Ends the connection when the client is trusted no longer; of mesh TLS.
    pub(crate) bond: Option<Rc<Bond>>,
}

/// What requests of one client connection share.
#[derive(Debug)]
pub(crate) struct Session {
    worker: Rc<WorkerContext>,
    shared: Arc<Shared>,
    /// As it was when the connection began.
    listener: Arc<Listener>,
    client: Option<IpAddr>,
    tls: Option<Encrypted>,
    listener_series: Rc<ListenerSeries>,
    last_requests: RefCell<Option<(Arc<str>, Rc<RequestSeries>)>>,
    /// Ends the stream of a connection that carries bytes.
    bytes: OnceCell<Rc<Cut>>,
    is_watched: Cell<bool>,
}

impl Session {
    pub(crate) fn new(
        worker: Rc<WorkerContext>,
        shared: Arc<Shared>,
        listener: Arc<Listener>,
        client: Option<IpAddr>,
        tls: Option<Encrypted>,
        listener_series: Rc<ListenerSeries>,
    ) -> Rc<Self> {
        let (last_requests, bytes, is_watched) = (RefCell::default(), OnceCell::new(), Cell::new(false));
        let session =
            Rc::new(Self { worker, shared, listener, client, tls, listener_series, last_requests, bytes, is_watched });
        if session.tls.as_ref().is_some_and(|tls| tls.bond.is_some()) {
            session.worker.watch_rules(&session);
        }
        session
    }

    /// The connection carries bytes: nobody decides about its requests one by one.
    pub(super) fn carries_bytes(self: &Rc<Self>, stream: &mut Stream) {
        let bond = self.tls.as_ref().and_then(|tls| tls.bond.as_ref());
        let cut = self.bytes.get_or_init(|| bond.map_or_else(Rc::default, |bond| bond.cut().clone()));
        stream.cut_by(cut.clone());
        self.worker.watch_rules(self);
    }

    pub(crate) fn worker(&self) -> &Rc<WorkerContext> {
        &self.worker
    }

    /// Returns what requests are decided by: the table in force, or the last one of a listener that is gone.
    pub(crate) fn table(&self) -> Arc<Table> {
        let table = self.worker.table();
        match self.shared.last_table() {
            Some(last) if table.listener(&self.shared.name).is_none() => last,
            _ => table,
        }
    }

    /// Tells whether a host belongs to another certificate of the listener than the one that the client was shown: it
    /// came by the way of one site, and asks for another.
    pub(super) fn misdirects(&self, host: &str) -> bool {
        let Some(Encrypted { server: Some(server), name: Some(name), .. }) = &self.tls else { return false };
        server.misdirects(name, crate::route::without_port(host))
    }

    /// Tells whether requests may say where they go.
    pub(super) fn takes_overrides(&self) -> bool {
        self.listener.overrides
    }

    /// Counts a request in, or says which limit keeps it out.
    pub(super) fn count_in(&self) -> Result<(), Limit> {
        if self.worker.memory() == Level::NoRequests {
            return Err(Limit::Memory);
        }
        if self.shared.count_in(self.limits().requests) { Ok(()) } else { Err(Limit::Listener) }
    }

    /// A request that was counted in has ended.
    pub(super) fn count_out(&self) {
        self.shared.count_out();
    }

    pub(crate) fn limits(&self) -> &ListenerLimits {
        &self.listener.limits
    }

    pub(crate) fn listener_name(&self) -> &str {
        &self.shared.name
    }

    pub(crate) fn client(&self) -> Option<IpAddr> {
        self.client
    }

    /// Returns the client's SPIFFE ID, where it was verified.
    pub(crate) fn identity(&self) -> Option<&str> {
        self.tls.as_ref()?.identity.as_ref().map(SpiffeId::as_str)
    }

    pub(super) fn sender(&self) -> Sender<'_> {
        let certificate = self.tls.as_ref().and_then(|tls| tls.certificate.as_ref());
        Sender { address: self.client, tls: self.tls.is_some(), certificate }
    }

    /// Returns what is counted for the listener besides requests.
    pub(super) fn listener_series(&self) -> &ListenerSeries {
        &self.listener_series
    }

    /// A request of this connection was malformed.
    pub(crate) fn malformed(&self, label: &'static str) {
        self.listener_series.malformed(label);
    }

    /// Makes a request id: 64 random bits of the worker, then a count.
    pub(super) fn new_id(&self) -> HeaderValue {
        let ids = &self.worker.ids;
        ids.set(ids.get().wrapping_add(0x9e37_79b9_7f4a_7c15));
        let random = self.worker.with_random(|random| random.u64(..));
        HeaderValue::try_from(format!("{:016x}{random:016x}", ids.get()))
            .unwrap_or_else(|_| HeaderValue::from_static("0"))
    }

    /// Returns the counters of requests to a service.
    pub(super) fn requests(&self, service: &str) -> Rc<RequestSeries> {
        if let Some((name, series)) = &*self.last_requests.borrow()
            && **name == *service
        {
            return series.clone();
        }
        let key = (self.shared.name.clone(), Arc::from(service));
        let series = self
            .worker
            .requests
            .borrow_mut()
            .entry(key)
            .or_insert_with(|| self.worker.telemetry.metrics.request(self.shared.direction, &self.shared.name, service))
            .clone();
        *self.last_requests.borrow_mut() = Some((Arc::from(service), series.clone()));
        series
    }

    /// Returns what is counted for an upstream besides requests.
    pub(crate) fn series(&self, upstream: &Upstream) -> Rc<Series> {
        let mut services = self.worker.services.borrow_mut();
        if let Some(series) = services.get(&upstream.name) {
            return series.clone();
        }
        let series = Rc::new(Series {
            service: self.worker.telemetry.metrics.service(&upstream.name),
            destination: self.worker.telemetry.metrics.destination(self.shared.direction, &upstream.name),
        });
        services.insert(upstream.name.clone(), series.clone());
        series
    }

    /// Returns where spans of recorded requests go.
    pub(super) fn tracer(&self) -> &Tracer {
        &self.worker.telemetry.tracer
    }

    /// Random bits, for ids.
    pub(super) fn random_bits(&self) -> u64 {
        self.worker.with_random(|random| random.u64(..))
    }

    /// Tells whether requests are written to the access log.
    pub(super) fn writes_log(&self) -> bool {
        self.worker.telemetry.lane.is_some()
    }

    /// Writes a line of the access log.
    pub(super) fn log(&self, record: &Record<'_>) {
        if let Some(lane) = &self.worker.telemetry.lane {
            lane.log(record);
        }
    }
}
