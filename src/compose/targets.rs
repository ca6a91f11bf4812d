//! The targets that a configuration names: opened, followed, and what is known of them.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::pin::Pin;
use std::sync::Arc;

use meshless_discovery::{Address, Backend, Target};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Event, StartError};
use crate::config::{Backend as BackendConfig, Config, Dns};
use crate::follow::last_known_good::LastKnownGood;
use crate::follow::removals::Removals;
use crate::follow::{Backoff, Followed, Outage, follow};
use crate::telemetry::metrics::{ControlMetrics, DiscoverySeries, SharedCounter};
use crate::upstream::reconcile::Catalog;

/// Backends by name, with what they were opened from.
pub(super) type Backends = BTreeMap<String, (Option<BackendConfig>, Arc<dyn Backend>)>;

/// What a backend was asked, by its name.
type Asked = BTreeMap<String, BTreeMap<&'static str, Counted>>;

/// One kind of question to a backend. It goes on counting when the backend is opened anew, which begins at 0.
#[derive(Debug)]
struct Counted {
    counter: SharedCounter,
    /// What the open backend had counted when the metric was last told.
    told: u64,
}

/// All targets that are followed.
#[derive(Debug)]
pub(super) struct Targets {
    backends: Backends,
    followed: HashMap<Target, Tracked>,
    /// Targets that the configuration names; the others are followed because requests asked for them.
    planned: HashSet<Target>,
    pub(super) catalog: Catalog,
    events: mpsc::UnboundedSender<Event>,
    disk: Option<LastKnownGood>,
    random: fastrand::Rng,
    generations: u64,
    calls: Asked,
    /// How many targets of each backend fail, so that they do not all say so.
    outages: HashMap<String, Outage>,
}

#[derive(Debug)]
struct Tracked {
    followed: Followed,
    /// Tells messages of this following from those of one before.
    generation: u64,
    removals: Removals,
    series: DiscoverySeries,
    /// What the series was last told.
    told: Told,
    /// Sends a message for every snapshot. It holds what is followed alive, so it ends with this.
    forward: JoinHandle<()>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.forward.abort();
    }
}

#[derive(Debug, Default)]
struct Told {
    answers: u64,
    failures: u64,
    restored: bool,
}

/// What follows a target, not yet spawned.
type Following = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a new configuration needs, opened but not yet in force.
pub(super) struct Opened {
    backends: Backends,
    fresh: Vec<(Target, Followed, Following)>,
    planned: HashSet<Target>,
    /// Asked for by requests; some are planned too.
    live: HashSet<Target>,
}

impl Opened {
    /// Returns what is followed from now on for the first time.
    pub(super) fn fresh(&self) -> Vec<Followed> {
        self.fresh.iter().map(|(_, followed, _)| followed.clone()).collect()
    }

    /// Runs the new sources. They end by themselves if nobody keeps what is followed.
    pub(super) fn spawn(&mut self) {
        for (_, _, future) in &mut self.fresh {
            let future = std::mem::replace(future, Box::pin(std::future::ready(())));
            tokio::spawn(future);
        }
    }
}

impl Targets {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>, disk: Option<LastKnownGood>, seed: u64) -> Self {
        Self {
            backends: Backends::new(),
            followed: HashMap::new(),
            planned: HashSet::new(),
            catalog: Catalog::new(),
            events,
            disk,
            random: fastrand::Rng::with_seed(seed),
            generations: 0,
            calls: Asked::new(),
            outages: HashMap::new(),
        }
    }

    /// Opens the backends that a configuration has tables for; those that run go on. Nothing is changed.
    pub(super) fn backends(&self, config: &Config) -> Result<Backends, StartError> {
        let opened = config
            .discovery
            .iter()
            .map(|(name, wanted)| Ok((name.clone(), opened(name, Some(wanted.clone()), self.backends.get(name))?)));
        opened.collect()
    }

    /// Opens sources for a configuration and for what requests asked for, and the backends that need no table; what runs
    /// goes on. Nothing is changed by an error.
    pub(super) fn open(
        &mut self,
        config: &Config,
        planned: Vec<Target>,
        live: HashSet<Target>,
        configured: &Backends,
    ) -> Result<Opened, StartError> {
        let planned: HashSet<Target> = planned.into_iter().collect();
        let mut backends = configured.clone();
        // These need no table.
        let in_names = config.names.iter().flat_map(|rule| rule.target.written().targets());
        let mut backends_named = planned.iter().chain(&live).chain(in_names).map(|target| target.backend.as_str());
        let names_dns = !config.discovery.contains_key("dns") && backends_named.any(|name| name == "dns");
        drop(backends_named);
        let dns = names_dns.then(|| ("dns".to_owned(), Some(BackendConfig::Dns(Dns::default()))));
        for (name, wanted) in [("static".to_owned(), None)].into_iter().chain(dns) {
            let entry = opened(&name, wanted, self.backends.get(&name))?;
            backends.insert(name, entry);
        }
        let mut fresh = Vec::new();
        for target in planned.union(&live) {
            let (_, backend) = backends
                .get(&target.backend)
                .ok_or_else(|| StartError::Unusable(format!("{target}: there is no [discovery.{}]", target.backend)))?;
            let runs = self.followed.contains_key(target)
                && self.backends.get(&target.backend).is_some_and(|(_, before)| Arc::ptr_eq(before, backend));
            if runs {
                continue;
            }
            let outage = self.outages.entry(target.backend.clone()).or_default().clone();
            let disk = self.disk.clone().filter(|_| target.backend != "static" && planned.contains(target));
            let (followed, future) =
                follow(target.clone(), backend.clone(), Backoff::default(), self.random.fork(), disk, outage)
                    .map_err(|error| StartError::Unusable(format!("{target}: {error}")))?;
            fresh.push((target.clone(), followed, Box::pin(future) as _));
        }
        Ok(Opened { backends, fresh, planned, live })
    }

    /// Puts what was opened in force and lets go of what is no longer named.
    pub(super) fn commit(&mut self, opened: Opened, metrics: &ControlMetrics) {
        // What the backends that go were asked until now counts.
        self.tell_calls(metrics);
        let stays = |name: &String| match (self.backends.get(name), opened.backends.get(name)) {
            (Some((_, before)), Some((_, now))) => Some(Arc::ptr_eq(before, now)),
            _ => None,
        };
        self.calls.retain(|name, calls| {
            let stays = stays(name);
            if stays == Some(false) {
                for counted in calls.values_mut() {
                    counted.told = 0;
                }
            }
            stays.is_some()
        });
        self.outages.retain(|name, _| opened.backends.contains_key(name));
        self.backends = opened.backends;
        self.planned = opened.planned;
        self.release(&opened.live.iter().collect());
        for (target, followed, _) in opened.fresh {
            self.track(&target, followed, metrics);
        }
    }

    /// Lets go of every target that neither the configuration nor `live` names.
    pub(super) fn release(&mut self, live: &HashSet<&Target>) {
        let planned = &self.planned;
        let is_needed = |target: &Target| planned.contains(target) || live.contains(target);
        self.followed.retain(|target, _| is_needed(target));
        self.catalog.retain(|target, _| is_needed(target));
    }

    /// Opens one more target because a request asks for it, and follows it; one that is followed stays as it is. What
    /// requests name is not kept on disk: whoever chooses names would choose how full it gets.
    pub(super) fn open_one(&mut self, target: &Target, metrics: &ControlMetrics) -> Result<(), String> {
        if self.followed.contains_key(target) {
            return Ok(());
        }
        let (_, backend) = self
            .backends
            .get(&target.backend)
            .ok_or_else(|| format!("{target}: there is no [discovery.{}]", target.backend))?;
        let outage = self.outages.entry(target.backend.clone()).or_default().clone();
        let (followed, future) =
            follow(target.clone(), backend.clone(), Backoff::default(), self.random.fork(), None, outage)
                .map_err(|error| error.to_string())?;
        tokio::spawn(future);
        self.track(target, followed, metrics);
        Ok(())
    }

    /// Says whether a target has answered and that was taken, or has failed.
    pub(super) fn is_decided(&self, target: &Target) -> bool {
        self.followed.get(target).is_none_or(|tracked| {
            let known = tracked.followed.known.borrow();
            self.catalog.contains_key(target) || known.answer.is_none() && known.failure.is_some()
        })
    }

    /// Says what is missing of a target that has not answered yet.
    pub(super) fn missing(&self, target: &Target) -> Option<String> {
        if self.catalog.contains_key(target) {
            return None;
        }
        let tracked = self.followed.get(target)?;
        let known = tracked.followed.known.borrow();
        let why = || known.failure.as_ref().map_or("no answer yet", |failure| failure.error.as_str()).to_owned();
        Some(format!("{target}: {}", why()))
    }

    fn track(&mut self, target: &Target, followed: Followed, metrics: &ControlMetrics) {
        self.generations += 1;
        let generation = self.generations;
        // A target whose backend was changed keeps what is known until the new one answers.
        let removals = self.followed.remove(target).map(|before| before.removals.clone()).unwrap_or_default();
        let series = metrics.discovery(&target.backend, &target.to_string(), Instant::now().into_std());
        let mut known = followed.known.clone();
        let (events, named) = (self.events.clone(), target.clone());
        let forward = tokio::spawn(async move {
            while known.changed().await.is_ok() {
                known.mark_unchanged();
                if events.send(Event::Snapshot(named.clone(), generation)).is_err() {
                    return;
                }
            }
        });
        let tracked = Tracked { followed, generation, removals, series, told: Told::default(), forward };
        self.followed.insert(target.clone(), tracked);
        self.take(target, generation);
    }

    /// Takes what is now known of a target into the catalog; true if that changed.
    pub(super) fn take(&mut self, target: &Target, generation: u64) -> bool {
        let Some(tracked) = self.followed.get_mut(target).filter(|tracked| tracked.generation == generation) else {
            return false;
        };
        let snapshot = tracked.followed.known.borrow().snapshot().cloned();
        let Some(snapshot) = snapshot else { return false };
        let held = tracked.removals.answered(&snapshot, Instant::now().into_std());
        if held > 0 {
            tracing::warn!(
                %target,
                held,
                listed = snapshot.endpoints().len(),
                "An answer leaves out so many endpoints that it may be a fault; they are held."
            );
        }
        self.list(target)
    }

    /// A held endpoint could not be connected to.
    pub(super) fn failed(&mut self, target: &Target, address: &Address) -> bool {
        let dropped = self.followed.get_mut(target).is_some_and(|tracked| tracked.removals.failed(address));
        dropped && self.list(target)
    }

    /// Drops held endpoints whose time is over.
    pub(super) fn expire(&mut self, now: Instant) -> bool {
        let due: Vec<Target> = self
            .followed
            .iter_mut()
            .filter_map(|(target, tracked)| tracked.removals.expire(now.into_std()).then(|| target.clone()))
            .collect();
        // Every one is listed anew, also after the first that changed.
        due.iter().filter(|target| self.list(target)).count() > 0
    }

    /// Returns when [`Targets::expire`] has something to do.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.followed.values().filter_map(|tracked| tracked.removals.deadline()).min().map(Instant::from_std)
    }

    /// Tells the metrics how often backends were asked since the last time.
    fn tell_calls(&mut self, metrics: &ControlMetrics) {
        for (name, (_, backend)) in &self.backends {
            for (call, total) in backend.calls().totals() {
                let of_backend = self.calls.entry(name.clone()).or_default();
                let counted = of_backend
                    .entry(call)
                    .or_insert_with(|| Counted { counter: metrics.discovery_calls(name, call), told: 0 });
                counted.counter.add(total.saturating_sub(counted.told));
                counted.told = total;
            }
        }
    }

    /// Tells the metrics what happened since the last time.
    pub(super) fn tell(&mut self, metrics: &ControlMetrics, now: Instant) {
        self.tell_calls(metrics);
        for tracked in self.followed.values_mut() {
            let known = tracked.followed.known.borrow();
            let (told, series) = (&mut tracked.told, &tracked.series);
            for _ in told.failures..known.failures {
                series.failed(known.failure.as_ref().map_or("unreachable", |failure| failure.kind), now.into_std());
            }
            // Behind the failures: what failed and answered between two looks answers now.
            if known.answers > told.answers && known.failure.is_none() {
                series.answered();
            } else if known.answers == 0
                && !told.restored
                && let Some(age) = known.age(now)
            {
                series.restored(now.into_std(), age);
                told.restored = true;
            }
            series.failures_in_row(known.failure.as_ref().map_or(0, |failure| failure.count));
            told.answers = known.answers;
            told.failures = known.failures;
        }
    }

    /// Returns what is followed only because requests asked for it.
    pub(super) fn on_demand(&self) -> HashSet<Target> {
        self.followed.keys().filter(|target| !self.planned.contains(*target)).cloned().collect()
    }

    /// Returns everything that is followed.
    pub(super) fn all(&self) -> HashMap<Target, Followed> {
        self.followed.iter().map(|(target, tracked)| (target.clone(), tracked.followed.clone())).collect()
    }

    fn list(&mut self, target: &Target) -> bool {
        let Some(tracked) = self.followed.get(target) else { return false };
        let list: Arc<[_]> =
            tracked.removals.endpoints().map(|(endpoint, standing)| (endpoint.clone(), standing)).collect();
        if self.catalog.get(target).is_some_and(|before| **before == *list) {
            return false;
        }
        self.catalog.insert(target.clone(), list);
        true
    }
}

/// Returns a backend: the one that runs if nothing was changed about it.
fn opened(
    name: &str,
    wanted: Option<BackendConfig>,
    running: Option<&(Option<BackendConfig>, Arc<dyn Backend>)>,
) -> Result<(Option<BackendConfig>, Arc<dyn Backend>), StartError> {
    match running {
        Some((before, backend)) if *before == wanted => Ok((wanted, backend.clone())),
        _ => {
            let opened = meshless_discovery::open(name, &discovery_config(wanted.as_ref()))
                .map_err(|error| StartError::Unusable(error.to_string()))?;
            Ok((wanted, opened))
        }
    }
}

/// Says whether a target can be opened under a configuration, or what is wrong with it.
pub(super) fn can_open(config: &Config, target: &Target) -> Result<(), String> {
    // These need no table.
    let dns = BackendConfig::Dns(Dns::default());
    let backend = match (config.discovery.get(&target.backend), target.backend.as_str()) {
        (Some(backend), _) => Some(backend),
        (None, "dns") => Some(&dns),
        (None, "static") => None,
        (None, name) => return Err(format!("there is no [discovery.{name}]")),
    };
    meshless_discovery::check(&target.backend, &discovery_config(backend), target).map_err(|error| error.to_string())
}

pub(super) fn discovery_config(config: Option<&BackendConfig>) -> meshless_discovery::Config {
    config.map_or(meshless_discovery::Config::Static, BackendConfig::to_discovery)
}
