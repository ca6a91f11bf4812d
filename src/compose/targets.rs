//! The targets that a configuration names: opened, followed, and what is known of them.

use std::collections::{BTreeMap, HashMap};
use std::pin::Pin;
use std::sync::Arc;

use meshless_discovery::{Address, Backend, Target};
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::{Event, StartError};
use crate::config::{Backend as BackendConfig, Config};
use crate::follow::last_known_good::LastKnownGood;
use crate::follow::removals::Removals;
use crate::follow::{Backoff, Followed, follow};
use crate::telemetry::metrics::{ControlMetrics, DiscoverySeries};
use crate::upstream::reconcile::Catalog;

/// Backends by name, with what they were opened from.
type Backends = BTreeMap<String, (Option<BackendConfig>, Arc<dyn Backend>)>;

/// All targets that are followed.
#[derive(Debug)]
pub(super) struct Targets {
    backends: Backends,
    followed: HashMap<Target, Tracked>,
    pub(super) catalog: Catalog,
    events: mpsc::UnboundedSender<Event>,
    disk: Option<LastKnownGood>,
    random: fastrand::Rng,
    generations: u64,
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
    wanted: Vec<Target>,
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
            catalog: Catalog::new(),
            events,
            disk,
            random: fastrand::Rng::with_seed(seed),
            generations: 0,
        }
    }

    /// Opens backends and sources for a configuration; what runs goes on. Nothing is changed by an error.
    pub(super) fn open(&mut self, config: &Config, wanted: Vec<Target>) -> Result<Opened, StartError> {
        let mut backends = Backends::new();
        let configured = config.discovery.iter().map(|(name, config)| (name.clone(), Some(config.clone())));
        for (name, wanted) in configured.chain([("static".to_owned(), None)]) {
            let entry = match self.backends.get(&name) {
                Some((before, backend)) if *before == wanted => (wanted, backend.clone()),
                _ => {
                    let opened = meshless_discovery::open(&name, &discovery_config(wanted.as_ref()))
                        .map_err(|error| StartError::Unusable(error.to_string()))?;
                    (wanted, opened)
                }
            };
            backends.insert(name, entry);
        }
        let mut fresh = Vec::new();
        for target in &wanted {
            let (_, backend) = backends
                .get(&target.backend)
                .ok_or_else(|| StartError::Unusable(format!("{target}: there is no [discovery.{}]", target.backend)))?;
            let runs = self.followed.contains_key(target)
                && self.backends.get(&target.backend).is_some_and(|(_, before)| Arc::ptr_eq(before, backend));
            if runs {
                continue;
            }
            let disk = self.disk.clone().filter(|_| target.backend != "static");
            let (followed, future) =
                follow(target.clone(), backend.clone(), Backoff::default(), self.random.fork(), disk)
                    .map_err(|error| StartError::Unusable(format!("{target}: {error}")))?;
            fresh.push((target.clone(), followed, Box::pin(future) as _));
        }
        Ok(Opened { backends, fresh, wanted })
    }

    /// Puts what was opened in force and lets go of what is no longer named.
    pub(super) fn commit(&mut self, opened: Opened, metrics: &ControlMetrics) {
        self.backends = opened.backends;
        self.followed.retain(|target, _| opened.wanted.contains(target));
        self.catalog.retain(|target, _| opened.wanted.contains(target));
        for (target, followed, _) in opened.fresh {
            self.generations += 1;
            let generation = self.generations;
            // A target whose backend was changed keeps what is known until the new one answers.
            let removals = self.followed.remove(&target).map(|before| before.removals.clone()).unwrap_or_default();
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
            self.take(&target, generation);
        }
    }

    /// Takes what is now known of a target into the catalog; true if that changed.
    pub(super) fn take(&mut self, target: &Target, generation: u64) -> bool {
        let Some(tracked) = self.followed.get_mut(target).filter(|tracked| tracked.generation == generation) else {
            return false;
        };
        let snapshot = tracked.followed.known.borrow().snapshot().cloned();
        let Some(snapshot) = snapshot else { return false };
        tracked.removals.answered(&snapshot, Instant::now().into_std());
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

    /// Tells the metrics what happened since the last time.
    pub(super) fn tell(&mut self, now: Instant) {
        for tracked in self.followed.values_mut() {
            let known = tracked.followed.known.borrow();
            let (told, series) = (&mut tracked.told, &tracked.series);
            if known.answers > told.answers && known.failure.is_none() {
                series.answered();
            } else if known.answers == 0
                && !told.restored
                && let Some(age) = known.age(now)
            {
                series.restored(now.into_std(), age);
                told.restored = true;
            }
            for _ in told.failures..known.failures {
                series.failed(known.failure.as_ref().map_or("unreachable", |failure| failure.kind), now.into_std());
            }
            told.answers = known.answers;
            told.failures = known.failures;
        }
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

fn discovery_config(config: Option<&BackendConfig>) -> meshless_discovery::Config {
    match config {
        None => meshless_discovery::Config::Static,
        Some(BackendConfig::File { path }) => meshless_discovery::Config::File { path: path.clone() },
    }
}
