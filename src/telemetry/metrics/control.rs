//! The counters of the control side: configuration, discovery, panics.

use std::sync::Arc;
use std::time::{Duration, Instant};

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

    /// Returns the counter of panics, for the panic hook.
    pub fn panics(&self) -> SharedCounter {
        self.panics.clone()
    }

    /// Returns what is counted for one target of a backend; its age begins at `now`.
    pub fn discovery(&self, backend: &str, target: &str, now: Instant) -> DiscoverySeries {
        DiscoverySeries {
            age: self.registry.age(&families::SNAPSHOT_AGE, [backend, target], now),
            registry: Arc::clone(&self.registry),
            backend: backend.into(),
            target: target.into(),
        }
    }
}

/// What is counted for one target of a backend, by the runner that follows it.
#[derive(Debug)]
pub struct DiscoverySeries {
    age: Age,
    registry: Arc<Registry>,
    backend: Box<str>,
    target: Box<str>,
}

impl DiscoverySeries {
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
