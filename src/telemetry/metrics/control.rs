//! The counters of the control side: configuration, discovery, panics.

mod identity;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

pub use self::identity::IdentitySeries;

use super::{Age, Gauge, Registry, SharedCounter, families};

/// What the composition root counts; clones share the numbers.
#[derive(Debug, Clone)]
pub struct ControlMetrics {
    registry: Arc<Registry>,
    applied: SharedCounter,
    refused: SharedCounter,
    unchanged: SharedCounter,
    last_reload_success: Gauge,
    version: Gauge,
    panics: SharedCounter,
    live_names: Gauge,
    names_full: SharedCounter,
    names_unusable: SharedCounter,
    /// Made where there is a limit.
    memory: Arc<OnceLock<[Gauge; 3]>>,
    /// Made once it is known.
    node: Arc<OnceLock<Gauge>>,
    _build: Gauge,
}

impl ControlMetrics {
    /// Makes them; each is listed from the start, so that a rate over the first event is not lost.
    pub fn new(registry: &Arc<Registry>) -> Self {
        let build = registry.gauge(&families::BUILD_INFO, [env!("CARGO_PKG_VERSION")]);
        build.set(1.0);
        Self {
            registry: Arc::clone(registry),
            applied: registry.shared_counter(&families::CONFIG_RELOADS, ["applied"]),
            refused: registry.shared_counter(&families::CONFIG_RELOADS, ["refused"]),
            unchanged: registry.shared_counter(&families::CONFIG_RELOADS, ["unchanged"]),
            last_reload_success: registry.gauge(&families::CONFIG_LAST_RELOAD_SUCCESS, []),
            version: registry.gauge(&families::CONFIG_VERSION, []),
            panics: registry.shared_counter(&families::PANICS, []),
            live_names: registry.gauge(&families::LIVE_NAMES, []),
            names_full: registry.shared_counter(&families::NAMES_REFUSED, ["full"]),
            names_unusable: registry.shared_counter(&families::NAMES_REFUSED, ["unusable"]),
            memory: Arc::default(),
            node: Arc::default(),
            _build: build,
        }
    }

    /// The first configuration runs.
    pub fn started(&self, version: u64) {
        self.version.set(version as f64);
        self.last_reload_success.set(1.0);
    }

    /// A changed configuration runs.
    pub fn reload_applied(&self, version: u64) {
        self.applied.increment();
        self.started(version);
    }

    /// What runs has this number now.
    pub fn version(&self, version: u64) {
        self.version.set(version as f64);
    }

    /// The configuration was read again and is the one that runs.
    pub fn reload_unchanged(&self) {
        self.unchanged.increment();
        self.last_reload_success.set(1.0);
    }

    /// A changed configuration was refused; the old one goes on.
    pub fn reload_refused(&self) {
        self.refused.increment();
        self.last_reload_success.set(0.0);
    }

    /// So many logical names and override targets are in use.
    pub fn live_names(&self, count: usize) {
        self.live_names.set(count as f64);
    }

    /// A logical name or override target was refused because as many as may be are in use.
    pub fn name_refused_full(&self) {
        self.names_full.increment();
    }

    /// A logical name or override target was refused because what it stands for cannot be opened.
    pub fn name_refused_unusable(&self) {
        self.names_unusable.increment();
    }

    /// Returns the counter of panics, for the panic hook.
    pub fn panics(&self) -> SharedCounter {
        self.panics.clone()
    }

    /// How much memory is used and allowed, in bytes, and what is refused for it: 0 nothing, 1 connections, 2 requests too.
    pub fn memory(&self, used: u64, limit: u64, pressure: u8) {
        let gauges = self.memory.get_or_init(|| {
            let gauge = |family| self.registry.gauge(family, []);
            [&families::MEMORY_USED, &families::MEMORY_LIMIT, &families::MEMORY_PRESSURE].map(gauge)
        });
        for (gauge, value) in gauges.iter().zip([used as f64, limit as f64, f64::from(pressure)]) {
            gauge.set(value);
        }
    }

    /// Where this process runs; what is not known is empty.
    pub fn node(&self, platform: &str, zone: &str) {
        self.node.get_or_init(|| self.registry.gauge(&families::NODE_INFO, [platform, zone])).set(1.0);
    }

    /// A health check of an endpoint of `service` had a result. Checks come at their own cadence, so the look-up does
    /// not matter.
    pub fn health_checked(&self, service: &str, is_good: bool) {
        let result = if is_good { "good" } else { "bad" };
        self.registry.shared_counter(&families::HEALTH_CHECKS, [service, result]).increment();
    }

    /// A good health check ended an ejection.
    pub fn returned_by_check(&self, service: &str) {
        self.registry.shared_counter(&families::RETURNS, [service, "check"]).increment();
    }

    /// Returns what is told of the objects of a backend.
    pub fn objects(&self, backend: &str) -> ObjectSeries {
        ObjectSeries {
            objects: self.registry.gauge(&families::ROUTE_OBJECTS, [backend]),
            used: self.registry.gauge(&families::ROUTE_RULES, [backend, "used"]),
            refused: self.registry.gauge(&families::ROUTE_RULES, [backend, "refused"]),
        }
    }

    /// Returns what is told of the identity of this workload.
    pub fn identity(&self) -> IdentitySeries {
        IdentitySeries::new(&self.registry)
    }

    /// Returns what is counted for our own registration.
    pub fn registration(&self, service: &str) -> RegisterSeries {
        let state = |state| self.registry.gauge(&families::REGISTER_STATE, [service, state]);
        // It begins to count when the first write fails.
        let unconfirmed = self.registry.age(&families::REGISTER_UNCONFIRMED, [service], Instant::now());
        unconfirmed.stop();
        RegisterSeries {
            states: STATES.map(|name| (name, state(name))),
            unconfirmed,
            registry: Arc::clone(&self.registry),
            service: service.into(),
        }
    }

    /// Returns the counter of one kind of question to a backend. Whoever keeps it keeps what it counted listed.
    pub fn discovery_calls(&self, backend: &str, call: &str) -> SharedCounter {
        self.registry.shared_counter(&families::DISCOVERY_CALLS, [backend, call])
    }

    /// Returns what is counted for one target of a backend; its age begins at `now`.
    pub fn discovery(&self, backend: &str, target: &str, now: Instant) -> DiscoverySeries {
        DiscoverySeries {
            in_row: self.registry.gauge(&families::DISCOVERY_FAILURES, [backend, target]),
            age: self.registry.age(&families::SNAPSHOT_AGE, [backend, target], now),
            registry: Arc::clone(&self.registry),
            backend: backend.into(),
            target: target.into(),
        }
    }
}

/// What is told of the objects of a backend.
#[derive(Debug)]
pub struct ObjectSeries {
    objects: Gauge,
    used: Gauge,
    refused: Gauge,
}

impl ObjectSeries {
    /// So many objects are known, and so many of their rules are served as they are written, or not.
    pub fn set(&self, objects: usize, used: usize, refused: usize) {
        self.objects.set(objects as f64);
        self.used.set(used as f64);
        self.refused.set(refused as f64);
    }
}

/// What is counted for one target of a backend, by the runner that follows it.
#[derive(Debug)]
pub struct DiscoverySeries {
    age: Age,
    in_row: Gauge,
    registry: Arc<Registry>,
    backend: Box<str>,
    target: Box<str>,
}

impl DiscoverySeries {
    /// So many answers in a row failed; 0: none.
    pub fn failures_in_row(&self, count: u64) {
        self.in_row.set(count as f64);
    }

    /// The backend answered: what is known is true until it fails. A source that waits for change says nothing for
    /// hours when all is well, so silence is not age.
    pub fn answered(&self) {
        self.age.stop();
    }

    /// What runs was read back from disk at `now` and was `age` old then.
    pub fn restored(&self, now: Instant, age: Duration) {
        self.age.renew(now, age);
    }

    /// The backend failed at `now`; `kind` is the label of the error. What is known begins to age, if it does not yet.
    pub fn failed(&self, kind: &'static str, now: Instant) {
        self.age.begin(now);
        // Errors come at the cadence of a back-off, so the look-up does not matter.
        self.registry.shared_counter(&families::DISCOVERY_ERRORS, [&self.backend, &self.target, kind]).increment();
    }
}

/// What a registry may have been told of us.
const STATES: [&str; 4] = ["absent", "critical", "left", "passing"];

/// What is counted for our own registration. Words to a registry come at their own slow cadence, so look-ups do not matter.
#[derive(Debug)]
pub struct RegisterSeries {
    states: [(&'static str, Gauge); 4],
    unconfirmed: Age,
    registry: Arc<Registry>,
    service: Box<str>,
}

impl RegisterSeries {
    /// The registry was told this.
    pub fn state(&self, state: &str) {
        for (name, gauge) in &self.states {
            gauge.set(if *name == state { 1.0 } else { 0.0 });
        }
    }

    /// Something was written or said.
    pub fn wrote(&self, kind: &'static str) {
        self.registry.shared_counter(&families::REGISTER_WRITES, [&self.service, kind]).increment();
    }

    /// It was not taken.
    pub fn failed(&self, kind: &'static str, error: &'static str) {
        self.registry.shared_counter(&families::REGISTER_FAILURES, [&self.service, kind, error]).increment();
    }

    /// The registry takes what it is told.
    pub fn answered(&self) {
        self.unconfirmed.stop();
    }

    /// It does not, from `now` on if it did before.
    pub fn unconfirmed(&self, now: Instant) {
        self.unconfirmed.begin(now);
    }

    /// A check of the application had a result.
    pub fn checked(&self, is_good: bool) {
        let result = if is_good { "good" } else { "bad" };
        self.registry.shared_counter(&families::REGISTER_CHECKS, [&self.service, result]).increment();
    }

    /// Nobody waits for the registry any more.
    pub fn left(&self) {
        self.unconfirmed.stop();
    }
}
