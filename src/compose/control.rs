//! The task that owns what changes.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use meshless_certs::Mesh;
use meshless_discovery::{Address, Target};
use tokio::sync::{Notify, OwnedSemaphorePermit, mpsc, oneshot};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::demand::{Demand, Kept};
use super::identity::Identities;
use super::listeners::Listeners;
use super::objects::{Merged, Objects};
use super::register::{self, Registering};
use super::status::Status;
use super::targets::{Backends, Opened as OpenedTargets, Targets, can_open};
use super::{FIRST_ANSWERS, Options, StartError, tls};
use crate::config::{self, Config, Loaded, Problem};
use crate::follow::Followed;
use crate::follow::last_known_good::LastKnownGood;
use crate::telemetry::metrics::ControlMetrics;
use crate::telemetry::traces::Switch;
use crate::trust::Terms;
use crate::upstream::Table;
use crate::upstream::live::Wanted;
use crate::upstream::plan::Plan;
use crate::upstream::reconcile::Reconciler;
use crate::worker::{Command, Worker};

/// How often metrics of discovery and readiness are looked after.
const TICK: Duration = Duration::from_millis(500);
/// Longest wait for the disk at the end.
const FLUSH: Duration = Duration::from_secs(2);

/// What control is told.
#[derive(Debug)]
pub(crate) enum Event {
    /// Drain: after the grace period, or at once.
    Drain { grace: bool },
    /// End without waiting for anything.
    End,
    /// A held endpoint could not be connected to.
    HeldFailed(Target, Address),
    /// A backend told other objects than before.
    Objects,
    /// Read the configuration again.
    Reload,
    /// Another snapshot of a target, by a following of this generation.
    Snapshot(Target, u64),
    /// A request asks for something that is not in the table; the permit is held until it was looked at.
    Wanted(Wanted, #[allow(dead_code, reason = "it counts while it is there")] OwnedSemaphorePermit),
}

pub(super) struct Parts {
    pub(super) options: Options,
    pub(super) table: Arc<ArcSwap<Table>>,
    /// Told of each new table.
    pub(super) table_changed: Arc<Notify>,
    pub(super) status: Arc<Status>,
    pub(super) workers: Vec<Worker>,
    pub(super) metrics: ControlMetrics,
    pub(super) traces: Switch,
    pub(super) registering: Registering,
    pub(super) identities: Identities,
    pub(super) mesh: Arc<Mesh>,
    pub(super) terms: Arc<Terms>,
    pub(super) disk: Option<LastKnownGood>,
    pub(super) events: mpsc::UnboundedSender<Event>,
    pub(super) end: oneshot::Sender<()>,
    pub(super) seed: u64,
    pub(super) epoch: Instant,
}

/// What writes beside control, and is given time to end.
#[derive(Debug)]
pub(super) struct Writers {
    pub(super) disk: Option<JoinHandle<()>>,
    pub(super) exporter: JoinHandle<()>,
}

/// Owns configuration, targets and listeners.
pub(super) struct Control {
    options: Options,
    table: Arc<ArcSwap<Table>>,
    table_changed: Arc<Notify>,
    status: Arc<Status>,
    workers: Vec<Worker>,
    metrics: ControlMetrics,
    traces: Switch,
    registering: Registering,
    identities: Identities,
    mesh: Arc<Mesh>,
    terms: Arc<Terms>,
    end: oneshot::Sender<()>,
    targets: Targets,
    objects: Objects,
    demand: Demand,
    listeners: Listeners,
    reconciler: Reconciler,
    plan: Arc<Plan>,
    /// What was read last and is in force.
    base: Option<Arc<Base>>,
    /// With the routes that backends told.
    running: Option<Config>,
    version: u64,
    epoch: Instant,
}

/// A configuration as it was read, with what was built from it; what backends tell is laid over it.
struct Base {
    config: Config,
    warnings: Vec<Problem>,
    pending_restart: Vec<String>,
    watched: Vec<PathBuf>,
    tls: tls::Built,
}

/// A table's plan and targets, opened but not yet in force.
struct Prepared {
    plan: Arc<Plan>,
    kept: Kept,
    targets: OpenedTargets,
}

impl Control {
    pub(super) fn new(parts: Parts) -> Self {
        let Parts {
            options,
            table,
            table_changed,
            status,
            workers,
            metrics,
            traces,
            registering,
            identities,
            mesh,
            terms,
            disk,
            events,
            end,
            seed,
            epoch,
        } = parts;
        Self {
            options,
            table,
            table_changed,
            status,
            workers,
            demand: Demand::new(epoch, metrics.clone()),
            metrics,
            traces,
            registering,
            identities,
            mesh,
            terms,
            end,
            objects: Objects::new(events.clone(), seed ^ 1),
            targets: Targets::new(events, disk, seed),
            listeners: Listeners::default(),
            reconciler: Reconciler::default(),
            plan: Arc::default(),
            base: None,
            running: None,
            version: 0,
            epoch,
        }
    }

    /// Applies the first configuration, says how that went, then serves events until the end.
    pub(super) async fn run(
        mut self,
        loaded: Loaded,
        mut inbox: mpsc::UnboundedReceiver<Event>,
        first: std::sync::mpsc::SyncSender<Result<(), StartError>>,
        writers: Writers,
    ) {
        let applied = self.apply(loaded).await;
        let failed = applied.is_err();
        if applied.is_ok() {
            self.metrics.started(self.version);
        }
        if first.send(applied).is_err() || failed {
            return;
        }
        let drain = self.serve(&mut inbox).await;
        if let Some(grace) = drain {
            self.drain(grace, &mut inbox).await;
        }
        let Self { targets, traces, end, .. } = self;
        drop(targets);
        traces.close();
        // The last snapshots are on disk, and the last spans sent, before the process says that it has ended.
        let flush = async {
            if let Some(disk) = writers.disk {
                let _ = disk.await;
            }
            let _ = writers.exporter.await;
        };
        let _ = timeout(FLUSH, flush).await;
        let _ = end.send(());
    }

    /// Serves events; returns when to drain, `None`: end at once.
    async fn serve(&mut self, inbox: &mut mpsc::UnboundedReceiver<Event>) -> Option<bool> {
        let mut tick = tokio::time::interval(TICK);
        loop {
            let deadline = self.targets.deadline().unwrap_or_else(|| Instant::now() + Duration::from_hours(1));
            let look = self.demand.look(Instant::now());
            let mut changed = false;
            tokio::select! {
                event = inbox.recv() => match event? {
                    Event::Drain { grace } => return Some(grace),
                    Event::End => return None,
                    Event::Reload => self.reload().await,
                    Event::Objects => self.objects_changed().await,
                    event => {
                        changed |= self.note(&event);
                        // What else has come is one change with it.
                        while let Ok(next) = inbox.try_recv() {
                            match next {
                                Event::Drain { grace } => return Some(grace),
                                Event::End => return None,
                                Event::Reload => self.reload().await,
                                Event::Objects => self.objects_changed().await,
                                event => changed |= self.note(&event),
                            }
                        }
                    }
                },
                () = sleep_until(deadline) => changed |= self.targets.expire(Instant::now()),
                () = sleep_until(look.unwrap_or(deadline)), if look.is_some() => {
                    changed |= self.demand.settle(&self.targets, Instant::now());
                }
                _ = tick.tick() => {
                    changed |= self.demand.sweep(&self.table.load(), &mut self.targets, Instant::now());
                    self.targets.tell(&self.metrics, Instant::now());
                    self.objects.tell(Instant::now());
                    self.status.look(&self.targets, self.objects.known());
                }
            }
            if changed {
                self.publish();
            }
        }
    }

    fn note(&mut self, event: &Event) -> bool {
        match event {
            Event::HeldFailed(target, address) => self.targets.failed(target, address),
            Event::Snapshot(target, generation) => {
                let changed = self.targets.take(target, *generation);
                self.demand.settle(&self.targets, Instant::now()) || changed
            }
            Event::Wanted(wanted, _) => self.demand.want(wanted, &self.plan, &mut self.targets, Instant::now()),
            Event::Drain { .. } | Event::End | Event::Objects | Event::Reload => false,
        }
    }

    /// Reads and applies the configuration; on any error everything stays as it is.
    async fn reload(&mut self) {
        let options = self.options.clone();
        let loaded =
            tokio::task::spawn_blocking(move || config::load(&options.paths, &*options.surroundings, &options.sets))
                .await;
        let result = match loaded {
            Ok(Ok(loaded)) => self.apply(loaded).await,
            Ok(Err(problems)) => Err(StartError::Configuration(problems)),
            Err(panic) => Err(StartError::Unusable(format!("reading the configuration failed: {panic}"))),
        };
        match result {
            Ok(()) => {
                self.metrics.reload_applied(self.version);
                tracing::info!(version = self.version, "The configuration was applied.");
            }
            Err(error) => {
                self.metrics.reload_refused();
                self.status.refused(&error.to_string());
                tracing::error!(%error, version = self.version, "A changed configuration was refused; the old one stays.");
            }
        }
    }

    /// Opens everything that a configuration needs, and only then lets go of anything.
    async fn apply(&mut self, loaded: Loaded) -> Result<(), StartError> {
        let Loaded { mut config, warnings, files } = loaded;
        let pending_restart = self.keep_what_needs_a_restart(&mut config);
        for warning in &warnings {
            tracing::warn!(%warning, "The configuration is probably not meant so.");
        }
        self.status.attempts(tls::paths(&config));
        let identity = self.identities.open(&config)?;
        let (for_tls, mesh) = (config.clone(), self.mesh.clone());
        let tls = tokio::task::spawn_blocking(move || tls::Built::new(&for_tls, &mesh))
            .await
            .map_err(|panic| StartError::Unusable(panic.to_string()))??;
        let for_traces = config.clone();
        let collector = tokio::task::spawn_blocking(move || super::traces::collector(&for_traces))
            .await
            .map_err(|panic| StartError::Unusable(panic.to_string()))??;
        let register = register::open(&config)?;
        let backends = self.targets.backends(&config)?;
        let objects = self.objects.open(&backends).await;
        let merged = self.objects.merge(&config, &objects);
        let mut prepared = self.prepare(&merged.config, &tls, &backends)?;
        let listening = self.listeners.open(&config, &tls, self.workers.len())?;
        prepared.targets.spawn();
        self.identities.commit(identity);
        tokio::join!(wait_for_answers(prepared.targets.fresh()), self.identities.first(FIRST_ANSWERS));
        self.terms.set_grace(config.shutdown.drain);
        // From here on nothing can fail.
        self.objects.commit(objects, &merged, &self.metrics);
        self.take_over(prepared);
        self.traces.configure(collector);
        self.listeners.leave(&config, &self.table.load());
        self.publish();
        self.listeners.commit(listening, &self.workers);
        self.registering.set(register, &self.listeners.all());
        let watched = files.iter().cloned().chain(tls::paths(&config)).collect();
        let base = Arc::new(Base { config, warnings, pending_restart, watched, tls });
        self.base = Some(base.clone());
        self.tell(&base, merged);
        Ok(())
    }

    /// Lays what backends tell now over the configuration that was read last; on any error everything stays as it is.
    async fn objects_changed(&mut self) {
        // One look takes all that came until now.
        let (true, Some(base)) = (self.objects.is_behind(), self.base.clone()) else { return };
        let objects = self.objects.current();
        let merged = self.objects.merge(&base.config, &objects);
        let prepared = self.targets.backends(&base.config);
        match prepared.and_then(|backends| self.prepare(&merged.config, &base.tls, &backends)) {
            Ok(mut prepared) => {
                prepared.targets.spawn();
                wait_for_answers(prepared.targets.fresh()).await;
                self.objects.commit(objects, &merged, &self.metrics);
                self.take_over(prepared);
                self.publish();
                self.tell(&base, merged);
                tracing::info!(version = self.version, "Routes that a backend told were applied.");
            }
            Err(error) => {
                self.status.refused(&error.to_string());
                tracing::error!(%error, version = self.version, "Routes that a backend told were refused; the old ones stay.");
            }
        }
    }

    /// Opens what a configuration with all its routes names.
    fn prepare(&mut self, config: &Config, tls: &tls::Built, backends: &Backends) -> Result<Prepared, StartError> {
        let mut plan = Plan::new(config, &mut |policies| tls.client(policies));
        plan.take_counts_of(&self.plan);
        let plan = Arc::new(plan);
        let kept = self.demand.keep(&plan, |target| can_open(config, target).is_ok());
        let live = kept.targets().cloned().collect();
        let targets = self.targets.open(config, plan.targets(), live, backends)?;
        Ok(Prepared { plan, kept, targets })
    }

    fn take_over(&mut self, prepared: Prepared) {
        self.targets.commit(prepared.targets, &self.metrics);
        self.demand.take_over(prepared.kept);
        self.plan = prepared.plan;
    }

    /// Tells everybody what is in force now.
    fn tell(&mut self, base: &Base, merged: Merged) {
        self.version += 1;
        let warnings: Vec<Problem> = base.warnings.iter().cloned().chain(merged.warnings).collect();
        let (pending, watched) = (base.pending_restart.clone(), base.watched.clone());
        self.status.applied(&merged.config, self.version, &warnings, pending, watched, self.listeners.all());
        self.status.look(&self.targets, self.objects.known());
        self.running = Some(merged.config);
        self.metrics.version(self.version);
    }

    /// `[node]`, `[admin]` and `[ca]` are read at the start; a change is told, not taken.
    fn keep_what_needs_a_restart(&self, config: &mut Config) -> Vec<String> {
        let Some(running) = &self.running else { return Vec::new() };
        let mut pending = Vec::new();
        if config.node != running.node {
            pending.push("node".to_owned());
            config.node = running.node.clone();
        }
        if config.admin != running.admin {
            pending.push("admin".to_owned());
            config.admin = running.admin.clone();
        }
        if config.ca != running.ca || config.attestors != running.attestors {
            pending.push("ca".to_owned());
            config.ca.clone_from(&running.ca);
            config.attestors.clone_from(&running.attestors);
        }
        if config.telemetry.access_log != running.telemetry.access_log {
            pending.push("telemetry.access_log".to_owned());
            config.telemetry.access_log = running.telemetry.access_log;
        }
        if !pending.is_empty() {
            tracing::warn!(keys = pending.join(", "), "Changed keys need a restart.");
        }
        pending
    }

    fn publish(&mut self) {
        self.reconciler.live = self.demand.live(&self.plan, &self.targets);
        let table = self.reconciler.reconcile(&self.table.load(), self.plan.clone(), &self.targets.catalog);
        self.table.store(Arc::new(table));
        self.table_changed.notify_one();
        for worker in &self.workers {
            // A worker that is gone has panicked; its thread's end is counted and logged.
            let _ = worker.commands.send(Command::TableChanged);
        }
    }

    /// Ends in order: see [`crate::shutdown`].
    async fn drain(&mut self, grace: bool, inbox: &mut mpsc::UnboundedReceiver<Event>) {
        let shutdown = self.running.as_ref().map(|config| config.shutdown.clone());
        let (grace_time, drain_time) = shutdown.map_or((Duration::ZERO, Duration::ZERO), |one| (one.grace, one.drain));
        tracing::info!(grace = ?if grace { grace_time } else { Duration::ZERO }, limit = ?drain_time, "Draining.");
        // First of all, so that nobody is sent here any more when the listeners close. Without grace it goes on beside.
        let leaving = self.registering.leave();
        let wait = self.running.as_ref().and_then(|config| config.register.as_ref()).map(|register| register.wait);
        if grace && (!grace_time.is_zero() || wait.is_some()) {
            let unseen = async {
                if let Some(wait) = wait
                    && register::left(leaving.clone()).await
                {
                    sleep(wait).await;
                }
            };
            let mut over = std::pin::pin!(async { tokio::join!(sleep(grace_time), unseen) });
            loop {
                tokio::select! {
                    _ = &mut over => break,
                    event = inbox.recv() => match event {
                        None | Some(Event::End) => return,
                        Some(Event::Drain { grace: false }) => break,
                        Some(event) => if self.note(&event) { self.publish(); },
                    },
                }
            }
        }
        let began = Instant::now();
        let until = began + drain_time;
        // First: what connects to a Unix socket while it is being closed would be reset.
        self.listeners.remove_sockets();
        for worker in &self.workers {
            let _ = worker.commands.send(Command::Drain { until });
        }
        let threads: Vec<_> = self.workers.drain(..).map(|worker| worker.thread).collect();
        let joined = tokio::task::spawn_blocking(move || {
            for thread in threads {
                let _ = thread.join();
            }
        });
        let mut joined = std::pin::pin!(joined);
        loop {
            tokio::select! {
                _ = &mut joined => break,
                event = inbox.recv() => match event {
                    None | Some(Event::End) => return,
                    // Requests that are in flight may still be retried: the table goes on.
                    Some(event) => if self.note(&event) { self.publish(); },
                },
            }
        }
        if leaving.borrow().is_none() {
            register::left(leaving).await;
        }
        tracing::info!(after = ?began.elapsed(), uptime = ?self.epoch.elapsed(), "Drained.");
    }
}

async fn wait_for_answers(fresh: Vec<Followed>) {
    let all = async {
        for followed in fresh {
            let mut known = followed.known.clone();
            while known.borrow_and_update().answer.is_none() && known.borrow().failure.is_none() {
                // Failures do not wake the receiver, so look again soon.
                let _ = timeout(Duration::from_millis(20), known.changed()).await;
            }
        }
    };
    let _ = timeout(FIRST_ANSWERS, all).await;
}
