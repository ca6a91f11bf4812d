//! What the admin interface sees of the gateway.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use meshless_discovery::{Health, Target};
use meshless_platforms::NoticeKind;
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::Event;
use super::identity::Standing;
use super::listeners::Running;
use super::objects::{self, KnownByBackend};
use super::targets::Targets;
use crate::admin::{
    ConfigView, EndpointState, EndpointView, IdentityView, ListenerView, PlaintextView, Readiness, RegistrationView,
    ServiceView, View,
};
use crate::config::{Config, ListenAddress, Notice, Problem};
use crate::explain::answer::Explanation;
use crate::explain::{self, Provenance, Question, Refusal, Situation, endpoint};
use crate::follow::{Followed, removals};
use crate::proxy::wall;
use crate::resilience::breaker::Usable;
use crate::targets::{EndpointFound, TargetView};
use crate::telemetry::timestamp::Timestamp;
use crate::upstream::{Member, Table};

/// Longest that a target without an answer holds readiness up.
const READY_WITHIN: Duration = Duration::from_secs(10);

/// Everything that `/ready`, `/config`, `/services` and `/endpoints` tell.
#[derive(Debug)]
pub(super) struct Status {
    table: Arc<ArcSwap<Table>>,
    events: mpsc::UnboundedSender<Event>,
    identity: Arc<Standing>,
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
    running: Option<Arc<Config>>,
    services: BTreeMap<String, (String, String)>,
    watched: Vec<PathBuf>,
    /// Files that a configuration named that was not applied (yet): it may be refused because of them.
    attempted: Vec<PathBuf>,
    targets: HashMap<Target, Followed>,
    /// Those of them that only requests asked for: readiness does not wait for them.
    on_demand: HashSet<Target>,
    /// Objects of backends.
    objects: KnownByBackend,
    registered: Option<Registered>,
}

/// Where our own registration stands.
#[derive(Debug)]
pub(super) struct Registered {
    pub(super) view: RegistrationView,
    /// Since when the registry does not take what it is told.
    pub(super) failing_since: Option<Instant>,
}

impl Status {
    pub(super) fn new(
        table: Arc<ArcSwap<Table>>,
        events: mpsc::UnboundedSender<Event>,
        started: Instant,
        identity: Arc<Standing>,
    ) -> Self {
        Self {
            table,
            events,
            identity,
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
                let balance = service.policies.balance.name().to_owned();
                (service.name.clone(), (service.from.to_string(), balance))
            })
            .chain(config.names.iter().map(|rule| {
                let balance = config.defaults.balance.name().to_owned();
                (rule.pattern.to_string(), (rule.target.to_string(), balance))
            }))
            .collect();
        told.config = value;
        told.running = Some(Arc::new(config.clone()));
        told.watched = watched;
        told.attempted = Vec::new();
    }

    /// A changed configuration was refused.
    pub(super) fn refused(&self, error: &str) {
        self.told().last_error = Some(error.to_owned());
    }

    /// Takes over which targets are followed.
    pub(super) fn look(&self, targets: &Targets, objects: KnownByBackend) {
        let mut told = self.told();
        told.objects = objects;
        told.targets = targets.all();
        told.on_demand = targets.on_demand();
    }

    /// Takes over where our own registration stands; `None`: there is none.
    pub(super) fn registered(&self, registered: Option<Registered>) {
        self.told().registered = registered;
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

    /// Says whether what AWS says to a spot instance drains, too.
    pub(super) fn drains_on(&self, notice: NoticeKind) -> bool {
        let notice = match notice {
            NoticeKind::Interruption => Notice::Interruption,
            NoticeKind::Rebalance => Notice::Rebalance,
        };
        self.told().running.as_ref().is_some_and(|config| config.shutdown.notices.contains(&notice))
    }

    /// Milliseconds of the process, as the workers count them.
    #[allow(clippy::cast_possible_truncation, reason = "it wraps on purpose")]
    fn millis(&self) -> u32 {
        self.started.elapsed().as_millis() as u32
    }

    /// Returns what is known of the sources of all targets.
    fn sources(&self) -> HashMap<Target, Provenance> {
        let (targets, now) = (self.told().targets.clone(), Instant::now());
        let of = |followed: &Followed| {
            let known = followed.known.borrow();
            Provenance {
                origin: known.answer.as_ref().map_or("", |answer| answer.origin.label()).to_owned(),
                age_seconds: known.age(now).unwrap_or_default().as_secs_f64(),
                failure: known.failure.as_ref().map(|failure| failure.error.clone()),
                is_assumed: false,
            }
        };
        targets.iter().map(|(target, followed)| (target.clone(), of(followed))).collect()
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
            .filter(|(target, _)| !told.on_demand.contains(*target))
            .filter_map(|(target, followed)| {
                let known = followed.known.borrow();
                if known.answer.is_some() {
                    return None;
                }
                let why = known.failure.as_ref().map_or("no answer yet", |failure| failure.error.as_str());
                Some(format!("{target}: {why}"))
            })
            .collect();
        missing.extend(objects::missing(&told.objects));
        missing.extend(self.identity.missing(SystemTime::now()));
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
        let now = self.millis();
        let told = self.told();
        let millis = self.millis();
        let mut services: Vec<_> = table
            .upstreams
            .iter()
            .map(|upstream| {
                let mut endpoints: BTreeMap<_, _> = EndpointState::ALL.into_iter().map(|state| (state, 0)).collect();
                for member in upstream.members.values() {
                    *endpoints.entry(state(member, now)).or_default() += 1;
                }
                let name = upstream.name.to_string();
                let (from, balance) =
                    told.services.get(&name).cloned().unwrap_or_else(|| (name.clone(), String::new()));
                let in_flight = upstream.state.in_flight.load(Ordering::Relaxed);
                let min_per_second = upstream.policies.retry.min_per_second;
                let retry_budget = f64::from(upstream.state.budget.balance(min_per_second, millis));
                ServiceView { name, from, balance, endpoints, in_flight, retry_budget }
            })
            .collect();
        services.sort_by(|left, right| left.name.cmp(&right.name));
        // The upstreams of one rule of [[names]] share its name.
        services.dedup_by(|other, first| {
            let is_same = other.name == first.name;
            if is_same {
                first.in_flight += other.in_flight;
                for (state, count) in &other.endpoints {
                    *first.endpoints.entry(*state).or_default() += count;
                }
            }
            is_same
        });
        services
    }

    fn endpoints(&self, service: Option<&str>) -> Vec<EndpointView> {
        let table = self.table.load();
        let sources = self.sources();
        let wanted = table.upstreams.iter().filter(|one| service.is_none_or(|name| *one.name == *name));
        wanted.flat_map(|upstream| endpoint::views(upstream, &sources, self.millis())).collect()
    }

    fn targets(&self) -> Vec<TargetView> {
        let (targets, now) = (self.told().targets.clone(), Instant::now());
        let mut views: BTreeMap<Target, TargetView> = targets
            .into_iter()
            .map(|(target, followed)| {
                let view = TargetView::of_known(&target, &followed.known.borrow(), now);
                (target, view)
            })
            .collect();
        for upstream in &self.table.load().upstreams {
            upstream.endpoints.for_each(&mut |set| {
                let Some(view) = views.get_mut(&set.target) else { return };
                // One by itself, or of an override, is its own name.
                if *upstream.name != *view.target && !view.services.iter().any(|name| **name == *upstream.name) {
                    view.services.push(upstream.name.to_string());
                }
                // The snapshot does not list them.
                for member in set.members.iter().filter(|member| member.standing == removals::Standing::Held) {
                    let held = EndpointFound { held: true, ..EndpointFound::of(&member.endpoint) };
                    if !view.endpoints.contains(&held) {
                        view.endpoints.push(held);
                    }
                }
            });
        }
        views.into_values().collect()
    }

    fn registration(&self) -> Option<RegistrationView> {
        let told = self.told();
        let registered = told.registered.as_ref()?;
        let unconfirmed = registered.failing_since.map_or(Duration::ZERO, |since| since.elapsed());
        Some(RegistrationView { unconfirmed_seconds: unconfirmed.as_secs_f64(), ..registered.view.clone() })
    }

    fn identity(&self) -> Option<IdentityView> {
        let plaintext = |running: &Running| {
            let sources = running.shared.plaintext().all();
            let name = running.shared.name.to_string();
            sources.into_iter().map(move |source| PlaintextView {
                listener: name.clone(),
                address: source.address.map_or_else(|| "unix".to_owned(), |address| address.to_string()),
                connections: source.connections,
                last: Timestamp(source.last).to_string(),
            })
        };
        let view = self.identity.view(SystemTime::now())?;
        Some(IdentityView { plaintext: self.told().listeners.iter().flat_map(plaintext).collect(), ..view })
    }

    fn explain(&self, question: &Question) -> Result<Explanation, Refusal> {
        let (config, version) = {
            let told = self.told();
            (told.running.clone(), told.version)
        };
        let Some(config) = config else {
            return Err(Refusal::new("no configuration is in force yet", "ask again in a moment; /ready says why"));
        };
        let (table, sources) = (self.table.load(), self.sources());
        let situation = Situation {
            config: &config,
            table: &table,
            sources: &sources,
            version: Some(version),
            now: self.millis(),
            wall: wall(),
        };
        // What is not in use stays so: a question opens nothing.
        Ok(explain::explain(question, &situation)?.0)
    }

    fn drain(&self) {
        self.begin_drain(true);
    }
}

/// The first that applies: an endpoint is counted once.
fn state(member: &Member, now: u32) -> EndpointState {
    match (member.endpoint.health, member.standing) {
        (Health::Draining, _) => EndpointState::Draining,
        (Health::Unhealthy, _) => EndpointState::Unhealthy,
        _ if member.state.checked.is_bad() => EndpointState::Unhealthy,
        _ if member.state.breaker.usable(now) != Usable::Yes => EndpointState::Ejected,
        (Health::Healthy, removals::Standing::Held) => EndpointState::Held,
        (Health::Healthy, removals::Standing::Listed) => EndpointState::Usable,
    }
}
