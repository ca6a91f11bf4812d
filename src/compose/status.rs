//! What the admin interface sees of the gateway.

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use meshless_discovery::{Health, Target};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Event;
use super::listeners::Running;
use super::targets::Targets;
use crate::admin::{ConfigView, EndpointState, EndpointView, ListenerView, Readiness, ServiceView, Standing, View};
use crate::config::{Config, ListenAddress, Problem};
use crate::follow::{Followed, removals};
use crate::telemetry::timestamp::Timestamp;
use crate::upstream::{Member, Table};

/// Longest that a target without an answer holds readiness up.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Everything that `/ready`, `/config`, `/services` and `/endpoints` tell.
#[derive(Debug)]
pub(super) struct Status {
    table: Arc<ArcSwap<Table>>,
    events: mpsc::UnboundedSender<Event>,
    started: Instant,
    draining: AtomicBool,
    was_ready: AtomicBool,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    version: u64,
    loaded_at: Option<SystemTime>,
    last_error: Option<String>,
    warnings: Vec<String>,
    pending_restart: Vec<String>,
    listeners: Vec<Running>,
    protocols: BTreeMap<String, String>,
    config: serde_json::Value,
    services: BTreeMap<String, (String, String)>,
    watched: Vec<PathBuf>,
    /// Files that a configuration named that was not applied (yet): it may be refused because of them.
    attempted: Vec<PathBuf>,
    targets: HashMap<Target, Followed>,
}

impl Status {
    pub(super) fn new(table: Arc<ArcSwap<Table>>, events: mpsc::UnboundedSender<Event>, started: Instant) -> Self {
        Self {
            table,
            events,
            started,
            draining: AtomicBool::new(false),
            was_ready: AtomicBool::new(false),
            told: Mutex::default(),
        }
    }

    /// A configuration is in force.
    pub(super) fn applied(
        &self,
        config: &Config,
        version: u64,
        warnings: &[Problem],
        pending_restart: Vec<String>,
        watched: Vec<PathBuf>,
        listeners: Vec<Running>,
    ) {
        let value = serde_json::to_value(config).unwrap_or_default();
        let text = |value: Option<&serde_json::Value>| {
            value.and_then(|value| value.as_str().map(ToOwned::to_owned)).unwrap_or_default()
        };
        let mut told = self.told();
        told.version = version;
        told.loaded_at = Some(SystemTime::now());
        told.last_error = None;
        told.warnings = warnings.iter().map(ToString::to_string).collect();
        told.pending_restart = pending_restart;
        told.listeners = listeners;
        told.protocols = config
            .listeners
            .iter()
            .map(|listener| (listener.name.clone(), text(serde_json::to_value(listener.protocol).ok().as_ref())))
            .collect();
        told.services = config
            .services
            .values()
            .map(|service| {
                let balance = text(serde_json::to_value(service.policies.balance).ok().as_ref());
                (service.name.clone(), (service.from.to_string(), balance))
            })
            .collect();
        told.config = value;
        told.watched = watched;
        told.attempted = Vec::new();
    }

    /// A changed configuration was refused.
    pub(super) fn refused(&self, error: &str) {
        self.told().last_error = Some(error.to_owned());
    }

    /// Takes over which targets are followed.
    pub(super) fn look(&self, targets: &Targets) {
        self.told().targets = targets.all();
    }

    pub(super) fn watched_files(&self) -> Vec<PathBuf> {
        let told = self.told();
        told.watched.iter().chain(&told.attempted).cloned().collect()
    }

    /// A configuration that names these files is about to be applied.
    pub(super) fn attempts(&self, files: Vec<PathBuf>) {
        self.told().attempted = files;
    }

    pub(super) fn addresses(&self) -> BTreeMap<String, ListenAddress> {
        let told = self.told();
        told.listeners.iter().map(|one| (one.shared.name.to_string(), one.address.clone())).collect()
    }

    pub(super) fn begin_drain(&self, grace: bool) {
        self.draining.store(true, Ordering::Relaxed);
        let _ = self.events.send(Event::Drain { grace });
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // What is told is replaced piece by piece; a panic elsewhere leaves nothing half done.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl View for Status {
    fn readiness(&self) -> Readiness {
        if self.draining.load(Ordering::Relaxed) {
            return Readiness { ready: false, reasons: vec!["draining".to_owned()], warnings: Vec::new() };
        }
        let told = self.told();
        if told.version == 0 {
            let reasons = vec!["no configuration is in force yet".to_owned()];
            return Readiness { ready: false, reasons, warnings: Vec::new() };
        }
        let mut missing: Vec<String> = told
            .targets
            .iter()
            .filter_map(|(target, followed)| {
                let known = followed.known.borrow();
                if known.answer.is_some() {
                    return None;
                }
                let why = known.failure.as_ref().map_or("no answer yet", |failure| failure.error.as_str());
                Some(format!("{target}: {why}"))
            })
            .collect();
        missing.sort();
        // Once ready, a target that a later configuration names does not take traffic away.
        let waits = self.started.elapsed() < READY_WITHIN && !self.was_ready.load(Ordering::Relaxed);
        if waits && !missing.is_empty() {
            return Readiness { ready: false, reasons: missing, warnings: Vec::new() };
        }
        self.was_ready.store(true, Ordering::Relaxed);
        Readiness { ready: true, reasons: Vec::new(), warnings: missing }
    }

    fn config(&self) -> ConfigView {
        let told = self.told();
        ConfigView {
            version: told.version,
            loaded_at: told.loaded_at.map(|at| Timestamp(at).to_string()).unwrap_or_default(),
            last_error: told.last_error.clone(),
            warnings: told.warnings.clone(),
            pending_restart: told.pending_restart.clone(),
            listeners: told
                .listeners
                .iter()
                .map(|one| ListenerView {
                    name: one.shared.name.to_string(),
                    address: one.address.to_string(),
                    protocol: told.protocols.get(&*one.shared.name).cloned().unwrap_or_default(),
                    connections: one.shared.open(),
                })
                .collect(),
            config: told.config.clone(),
        }
    }

    fn services(&self) -> Vec<ServiceView> {
        let table = self.table.load();
        let told = self.told();
        let mut services: Vec<_> = table
            .upstreams
            .iter()
            .map(|upstream| {
                let mut endpoints: BTreeMap<_, _> = EndpointState::ALL.into_iter().map(|state| (state, 0)).collect();
                for member in upstream.members.values() {
                    *endpoints.entry(state(member)).or_default() += 1;
                }
                let name = upstream.name.to_string();
                let (from, balance) =
                    told.services.get(&name).cloned().unwrap_or_else(|| (name.clone(), String::new()));
                let in_flight = upstream.state.in_flight.load(Ordering::Relaxed);
                ServiceView { name, from, balance, endpoints, in_flight }
            })
            .collect();
        services.sort_by(|left, right| left.name.cmp(&right.name));
        services
    }

    fn endpoints(&self, service: Option<&str>) -> Vec<EndpointView> {
        let table = self.table.load();
        let targets = self.told().targets.clone();
        let now = Instant::now();
        let millis = u32::try_from(self.started.elapsed().as_millis()).unwrap_or(u32::MAX);
        let mut views = Vec::new();
        for upstream in table.upstreams.iter().filter(|one| service.is_none_or(|name| *one.name == *name)) {
            upstream.endpoints.for_each(&mut |set| {
                let known = targets.get(&set.target).map(|followed| followed.known.borrow().clone());
                let origin =
                    known.as_ref().and_then(|known| known.answer.as_ref()).map_or("", |answer| answer.origin.label());
                let age = known.as_ref().and_then(|known| known.age(now)).unwrap_or_default();
                for member in &set.members {
                    views.push(EndpointView {
                        service: upstream.name.to_string(),
                        target: set.target.to_string(),
                        address: member.endpoint.address.to_string(),
                        weight: member.endpoint.weight,
                        zone: member.endpoint.zone.clone(),
                        health: health(member.endpoint.health).to_owned(),
                        standing: match member.standing {
                            removals::Standing::Held => Standing::Held,
                            removals::Standing::Listed => Standing::Listed,
                        },
                        in_flight: u64::from(member.state.load.in_flight()),
                        latency_ms: member.state.load.latency(millis).map(f64::from),
                        connections: member.state.connections.load(Ordering::Relaxed) as u64,
                        source: origin.to_owned(),
                        age_seconds: age.as_secs_f64(),
                        unused_because: member.unused_because().map(ToOwned::to_owned),
                    });
                }
            });
        }
        views
    }

    fn drain(&self) {
        self.begin_drain(true);
    }
}

fn state(member: &Member) -> EndpointState {
    match (member.endpoint.health, member.standing) {
        (Health::Draining, _) => EndpointState::Draining,
        (Health::Unhealthy, _) => EndpointState::Unhealthy,
        (Health::Healthy, removals::Standing::Held) => EndpointState::Held,
        (Health::Healthy, removals::Standing::Listed) => EndpointState::Usable,
    }
}

fn health(health: Health) -> &'static str {
    match health {
        Health::Draining => "draining",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}
