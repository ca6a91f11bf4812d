//! Routes that backends keep: followed like targets, and merged behind `[[routes]]` of the configuration.

use std::collections::{BTreeMap, BTreeSet};
use std::pin::Pin;
use std::sync::Arc;

use meshless_discovery::Backend;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::targets::{Backends, can_open};
use super::{Event, FIRST_ANSWERS};
use crate::config::{Config, Place as Written, Problem, Severity};
use crate::follow::{Backoff, KnownObjects, follow_objects};
use crate::gateway_api::{self, Place, Remark, Translated};
use crate::telemetry::metrics::{ControlMetrics, DiscoverySeries, ObjectSeries};

/// Most remarks that one change writes to the log; `/config` has them all.
const MOST_LOGGED: usize = 50;
/// What stands for all objects where metrics and readiness name a target.
const TARGET: &str = "routes";

/// What is known of the objects of backends, by their names.
pub(super) type KnownByBackend = BTreeMap<String, watch::Receiver<KnownObjects>>;

/// All backends whose objects are followed.
#[derive(Debug)]
pub(super) struct Objects {
    followed: BTreeMap<String, Tracked>,
    events: mpsc::UnboundedSender<Event>,
    random: fastrand::Rng,
    /// Remarks that are in the log.
    logged: BTreeSet<String>,
}

#[derive(Debug)]
struct Tracked {
    backend: Arc<dyn Backend>,
    known: watch::Receiver<KnownObjects>,
    /// What is in force.
    applied: Option<Arc<Vec<Value>>>,
    discovery: DiscoverySeries,
    series: ObjectSeries,
    /// Answers and failures that the series were told of.
    told: (u64, u64),
    /// Sends a message for every change. It holds what is followed alive, so it ends with this.
    forward: JoinHandle<()>,
}

impl Drop for Tracked {
    fn drop(&mut self) {
        self.forward.abort();
    }
}

type Following = Pin<Box<dyn Future<Output = ()> + Send>>;

/// What a configuration needs, followed but not yet in force.
pub(super) struct Opened {
    /// Every backend that reads objects.
    known: BTreeMap<String, (Arc<dyn Backend>, watch::Receiver<KnownObjects>)>,
}

/// The objects that routes were made of; `None` while they are not known.
type Made = Option<Arc<Vec<Value>>>;

/// A configuration with the routes of its backends.
pub(super) struct Merged {
    pub(super) config: Config,
    /// Remarks on objects.
    pub(super) warnings: Vec<Problem>,
    /// What each backend's routes were made of, and what became of them.
    of: BTreeMap<String, (Made, Translated)>,
}

impl Objects {
    pub(super) fn new(events: mpsc::UnboundedSender<Event>, seed: u64) -> Self {
        let random = fastrand::Rng::with_seed(seed);
        Self { followed: BTreeMap::new(), events, random, logged: BTreeSet::new() }
    }

    /// Follows the objects of every backend that reads some, and waits for the first answers of those that are new, so
    /// that nothing is served without their routes.
    pub(super) async fn open(&mut self, backends: &Backends) -> Opened {
        let (mut known, mut fresh) = (BTreeMap::new(), Vec::new());
        for (name, (_, backend)) in backends {
            if let Some(tracked) = self.followed.get(name).filter(|tracked| Arc::ptr_eq(&tracked.backend, backend)) {
                known.insert(name.clone(), (backend.clone(), tracked.known.clone()));
                continue;
            }
            let followed = follow_objects(name, backend.clone(), Backoff::default(), self.random.fork());
            let Some((receiver, future)) = followed else { continue };
            let future: Following = Box::pin(future);
            tokio::spawn(future);
            fresh.push(receiver.clone());
            known.insert(name.clone(), (backend.clone(), receiver));
        }
        let all = async {
            for mut known in fresh {
                while known.borrow_and_update().objects.is_none() && known.borrow().failure.is_none() {
                    // Failures do not wake the receiver, so look again soon.
                    let _ = tokio::time::timeout(std::time::Duration::from_millis(20), known.changed()).await;
                }
            }
        };
        let _ = tokio::time::timeout(FIRST_ANSWERS, all).await;
        Opened { known }
    }

    /// Adds the routes that are known now behind those of a configuration.
    pub(super) fn merge(&self, config: &Config, opened: &Opened) -> Merged {
        let mut merged = Merged { config: config.clone(), warnings: Vec::new(), of: BTreeMap::new() };
        for (name, (backend, known)) in &opened.known {
            let mut objects = known.borrow().objects.clone();
            if objects.is_none() {
                // A backend that was changed and has not answered yet: what the one before it said holds.
                let before = self.followed.get(name).filter(|before| !Arc::ptr_eq(&before.backend, backend));
                objects = before.and_then(|before| before.applied.clone());
            }
            let check = |target: &meshless_discovery::Target| can_open(config, target);
            let place = Place { backend: name, listeners: &config.listeners, check: &check };
            let mut translated =
                gateway_api::translate(objects.as_deref().map(Vec::as_slice).unwrap_or_default(), &place);
            merged.config.routes.append(&mut translated.routes);
            merged.warnings.extend(translated.remarks.iter().map(|remark| warning(name, remark)));
            merged.of.insert(name.clone(), (objects, translated));
        }
        merged
    }

    /// Puts what was opened in force and lets go of what is not read any more.
    pub(super) fn commit(&mut self, opened: Opened, merged: &Merged, metrics: &ControlMetrics) {
        self.followed.retain(|name, _| opened.known.contains_key(name));
        for (name, (backend, known)) in opened.known {
            let is_same = self.followed.get(&name).is_some_and(|tracked| Arc::ptr_eq(&tracked.backend, &backend));
            if !is_same {
                // Before its successor is made: the series of both have the same labels.
                self.followed.remove(&name);
                let tracked = self.track(&name, backend, known, metrics);
                self.followed.insert(name, tracked);
            }
        }
        let mut remarks = BTreeSet::new();
        for (name, (objects, translated)) in &merged.of {
            let Some(tracked) = self.followed.get_mut(name) else { continue };
            tracked.applied.clone_from(objects);
            let count = objects.as_ref().map_or(0, |objects| objects.len());
            tracked.series.set(count, translated.used, translated.refused);
            remarks.extend(translated.remarks.iter().map(|remark| format!("{name}: {remark}")));
        }
        let fresh: Vec<&String> = remarks.difference(&self.logged).collect();
        for remark in fresh.iter().take(MOST_LOGGED) {
            tracing::warn!(%remark, "A route that a backend told is not served as it is written.");
        }
        if fresh.len() > MOST_LOGGED {
            let more = fresh.len() - MOST_LOGGED;
            tracing::warn!(more, "More routes are not served as they are written; /config has them all.");
        }
        self.logged = remarks;
    }

    fn track(
        &self,
        name: &str,
        backend: Arc<dyn Backend>,
        known: watch::Receiver<KnownObjects>,
        metrics: &ControlMetrics,
    ) -> Tracked {
        let (events, mut changes) = (self.events.clone(), known.clone());
        // What is known now is about to be in force; a change since then is not lost: it is looked at by control.
        changes.mark_changed();
        let forward = tokio::spawn(async move {
            while changes.changed().await.is_ok() {
                changes.mark_unchanged();
                if events.send(Event::Objects).is_err() {
                    return;
                }
            }
        });
        let discovery = metrics.discovery(name, TARGET, Instant::now().into_std());
        let series = metrics.objects(name);
        Tracked { backend, known, applied: None, discovery, series, told: (0, 0), forward }
    }

    /// Tells whether any backend knows other objects than those that are in force.
    pub(super) fn is_behind(&self) -> bool {
        self.followed.values().any(|tracked| match (&tracked.known.borrow().objects, &tracked.applied) {
            (Some(known), Some(applied)) => !Arc::ptr_eq(known, applied),
            (known, _) => known.is_some(),
        })
    }

    /// Returns what is followed, to go on with under the same configuration.
    pub(super) fn current(&self) -> Opened {
        let of =
            |(name, tracked): (&String, &Tracked)| (name.clone(), (tracked.backend.clone(), tracked.known.clone()));
        Opened { known: self.followed.iter().map(of).collect() }
    }

    /// Returns what is known, by backend.
    pub(super) fn known(&self) -> KnownByBackend {
        self.followed.iter().map(|(name, tracked)| (name.clone(), tracked.known.clone())).collect()
    }

    /// Tells the metrics what happened since the last time.
    pub(super) fn tell(&mut self, now: Instant) {
        for tracked in self.followed.values_mut() {
            let known = tracked.known.borrow();
            let (answers, failures) = tracked.told;
            for _ in failures..known.failures {
                let kind = known.failure.as_ref().map_or("unreachable", |failure| failure.kind);
                tracked.discovery.failed(kind, now.into_std());
            }
            // Behind the failures: what failed and answered between two looks answers now.
            if known.answers > answers && known.failure.is_none() {
                tracked.discovery.answered();
            }
            tracked.told = (known.answers, known.failures);
        }
    }
}

/// A remark, as the configuration's own warnings are shown.
fn warning(backend: &str, remark: &Remark) -> Problem {
    Problem {
        place: Written::Backend(format!("discovery.{backend}")),
        severity: Severity::Warning,
        key: String::new(),
        message: remark.to_string(),
    }
}

/// Says what is missing of the objects of backends, one sentence each.
pub(super) fn missing(known: &KnownByBackend) -> Vec<String> {
    let of = |(name, known): (&String, &watch::Receiver<KnownObjects>)| {
        let known = known.borrow();
        if known.objects.is_some() {
            return None;
        }
        let why = known.failure.as_ref().map_or("no answer yet", |failure| failure.error.as_str());
        Some(format!("{TARGET} of {name}: {why}"))
    };
    known.iter().filter_map(of).collect()
}
