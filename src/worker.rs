//! A worker: one thread, one runtime, its own listening sockets and its own connections to endpoints.
//!
//! The path of a request crosses no thread and takes no lock. Control talks to a worker by [`Command`]s; what all of
//! them share (the table, loads, limits) are atomics and one pointer.

mod aside;

use std::cell::RefCell;
use std::collections::HashMap;
use std::io;
use std::rc::Rc;
use std::sync::Arc;
use std::thread::{self, JoinHandle};

use arc_swap::ArcSwap;
use tokio::runtime::{Builder, LocalOptions};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, MissedTickBehavior};

pub(crate) use self::aside::Aside;

use crate::listener::{self, Crew, Handoff, Local, Place, Shared};
use crate::proxy::{HeldFailed, WorkerContext};
use crate::resilience::memory::{Level, Pressure};
use crate::shutdown::{self, DrainTrigger};
use crate::sockets::ListenSocket;
use crate::telemetry::Telemetry;
use crate::trust::Terms;
use crate::upstream::Table;
use crate::upstream::live::Wanted;
use crate::upstream::pool::SWEEP;

/// What control asks of a worker.
#[derive(Debug)]
pub(crate) enum Command {
    /// Stop accepting everywhere, end connections in order, then the thread. The deadline ends what is left.
    Drain { until: Instant },
    /// Accept connections of a listener.
    Listen { shared: Arc<Shared>, socket: ListenSocket },
    /// Stop accepting for a listener and let its connections end in order.
    Retire { name: Arc<str> },
    /// A new table is in force.
    TableChanged,
    /// Listeners that have the sockets of others, by their names, from now on; all at once, for two may change places.
    TakeOver { moves: Vec<(Arc<str>, Arc<Shared>)> },
}

/// What a worker needs to begin.
#[derive(Debug)]
pub(crate) struct Parts {
    pub(crate) number: usize,
    pub(crate) table: Arc<ArcSwap<Table>>,
    pub(crate) telemetry: Telemetry,
    pub(crate) seed: u64,
    pub(crate) epoch: Instant,
    pub(crate) held_failed: mpsc::UnboundedSender<HeldFailed>,
    pub(crate) wanted: mpsc::Sender<Wanted>,
    pub(crate) pressure: Arc<Pressure>,
    pub(crate) terms: Arc<Terms>,
    pub(crate) crew: Arc<Crew>,
    pub(crate) handoffs: mpsc::UnboundedReceiver<Handoff>,
}

/// Control's end of a worker.
#[derive(Debug)]
pub(crate) struct Worker {
    pub(crate) commands: mpsc::UnboundedSender<Command>,
    pub(crate) thread: JoinHandle<()>,
}

/// Starts a worker's thread.
pub(crate) fn start(parts: Parts) -> io::Result<Worker> {
    let (commands, receiver) = mpsc::unbounded_channel();
    let (started, result) = std::sync::mpsc::sync_channel(1);
    let thread = thread::Builder::new().name(format!("worker-{}", parts.number)).spawn(move || {
        let runtime = match Builder::new_current_thread().enable_all().build_local(LocalOptions::default()) {
            Ok(runtime) => runtime,
            Err(error) => {
                let _ = started.send(Err(error));
                return;
            }
        };
        let _ = started.send(Ok(()));
        runtime.block_on(run(parts, receiver));
    })?;
    result.recv().map_err(|_| io::Error::other("the worker's thread ended while it started"))??;
    Ok(Worker { commands, thread })
}

/// A listener that this worker accepts for.
struct Listening {
    /// Whose connections they are; another listener may take its place.
    place: Place,
    stop: DrainTrigger,
    end: DrainTrigger,
    /// Ready when accepting has stopped.
    stopped: Option<oneshot::Receiver<()>>,
}

struct State {
    context: Rc<WorkerContext>,
    crew: Arc<Crew>,
    number: usize,
    listening: HashMap<Arc<str>, Listening>,
    /// Listeners that are gone and whose last connections are not.
    leaving: Vec<Rc<Local>>,
    /// Handed over by a worker that heard of a listener before this one did, and since which sweep they wait.
    early: Vec<(u64, Handoff)>,
    sweeps: u64,
    /// How short memory was when it was last looked at.
    memory: Level,
}

async fn run(parts: Parts, mut commands: mpsc::UnboundedReceiver<Command>) {
    let Parts { number, table, telemetry, seed, epoch, held_failed, wanted, pressure, terms, crew, mut handoffs } =
        parts;
    let random = fastrand::Rng::with_seed(seed);
    let context = WorkerContext::new(table, telemetry.worker(), random, epoch, held_failed, wanted, pressure, terms);
    let mut state = State {
        context,
        crew,
        number,
        listening: HashMap::new(),
        leaving: Vec::new(),
        early: Vec::new(),
        sweeps: 0,
        memory: Level::Enough,
    };
    let mut sweep = tokio::time::interval(SWEEP);
    sweep.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            command = commands.recv() => match command {
                Some(Command::Listen { shared, socket }) => state.listen(shared, socket),
                Some(Command::Retire { name }) => state.retire(&name),
                Some(Command::TableChanged) => state.context.table_changed(),
                Some(Command::TakeOver { moves }) => state.take_over(moves),
                Some(Command::Drain { until }) => {
                    state.drain(until, &mut handoffs).await;
                    return;
                }
                None => return,
            },
            Some(handoff) = handoffs.recv() => state.adopt(handoff),
            now = sweep.tick() => state.sweep(now),
        }
    }
}

impl State {
    fn listen(&mut self, shared: Arc<Shared>, socket: ListenSocket) {
        let (stop, stopping) = shutdown::drain();
        let name = shared.name.clone();
        let (local, end) = self.local(shared);
        let place = Rc::new(RefCell::new(local));
        let (done, stopped) = oneshot::channel();
        let accepting = listener::accept(place.clone(), socket, self.crew.clone(), self.number, stopping);
        tokio::task::spawn_local(async move {
            accepting.await;
            let _ = done.send(());
        });
        if let Some(before) = self.listening.insert(name, Listening { place, stop, end, stopped: Some(stopped) }) {
            // Same name, another address: the old sockets retire.
            self.leave(before);
        }
        self.adopt_early();
    }

    fn local(&self, shared: Arc<Shared>) -> (Rc<Local>, DrainTrigger) {
        let (end, drain) = shutdown::drain();
        let metrics = self.context.metrics();
        let local = Local {
            worker: self.context.clone(),
            series: metrics.listener(&shared.name),
            source: metrics.source(shared.direction, &shared.name),
            shared,
            drain,
        };
        (Rc::new(local), end)
    }

    fn take_over(&mut self, moves: Vec<(Arc<str>, Arc<Shared>)>) {
        let take = |(before, shared)| Some((self.listening.remove(&before)?, shared));
        let taken: Vec<_> = moves.into_iter().filter_map(take).collect();
        for (mut listening, shared) in taken {
            let name = shared.name.clone();
            let (local, end) = self.local(shared);
            self.leaving.push(listening.place.replace(local));
            std::mem::replace(&mut listening.end, end).begin();
            if let Some(before) = self.listening.insert(name, listening) {
                self.leave(before);
            }
        }
        self.adopt_early();
    }

    fn retire(&mut self, name: &str) {
        if let Some(listening) = self.listening.remove(name) {
            self.leave(listening);
        }
    }

    /// Stops accepting, then lets connections end in order.
    fn leave(&mut self, listening: Listening) {
        let Listening { place, stop, end, stopped } = listening;
        self.leaving.push(place.borrow().clone());
        stop.begin();
        tokio::task::spawn_local(async move {
            if let Some(stopped) = stopped {
                let _ = stopped.await;
            }
            end.begin();
        });
    }

    fn adopt(&mut self, handoff: Handoff) {
        match self.known(&handoff) {
            Some(local) => listener::adopt(local, handoff),
            // The other worker has heard of its listener before us, or of its end after us.
            None => self.early.push((self.sweeps, handoff)),
        }
    }

    fn known(&self, handoff: &Handoff) -> Option<Rc<Local>> {
        let listening = self.listening.values().map(|listening| listening.place.borrow().clone());
        let mut here = listening.chain(self.leaving.iter().cloned());
        here.find(|local| Arc::ptr_eq(&local.shared, &handoff.shared))
    }

    /// A listener was heard of: what came too early for it is served.
    fn adopt_early(&mut self) {
        for (since, handoff) in std::mem::take(&mut self.early) {
            match self.known(&handoff) {
                Some(local) => listener::adopt(local, handoff),
                None => self.early.push((since, handoff)),
            }
        }
    }

    /// Serves what was handed over for a listener that is gone, if it waits since before a sweep: one request, in order.
    fn adopt_late(&mut self, before: u64) {
        for (since, handoff) in std::mem::take(&mut self.early) {
            if since >= before {
                self.early.push((since, handoff));
                continue;
            }
            let local = self.known(&handoff).unwrap_or_else(|| {
                let (local, end) = self.local(handoff.shared.clone());
                end.begin();
                self.leaving.push(local.clone());
                local
            });
            listener::adopt(local, handoff);
        }
    }

    fn sweep(&mut self, now: Instant) {
        self.adopt_late(self.sweeps);
        self.sweeps += 1;
        // What another worker is about to hand over counts as open too.
        self.leaving.retain(|local| local.shared.open() > 0);
        self.context.sweep(now);
        let memory = self.context.memory();
        if std::mem::replace(&mut self.memory, memory) < Level::NoRequests && memory == Level::NoRequests {
            self.let_go();
        }
    }

    /// Memory is very short: connections that are open end in order, those that idle at once, and so do idle ones to
    /// endpoints. Listeners go on with what comes afterwards.
    fn let_go(&mut self) {
        let shared: Vec<_> =
            self.listening.iter().map(|(name, one)| (name.clone(), one.place.borrow().shared.clone())).collect();
        for (name, shared) in shared {
            let (local, end) = self.local(shared);
            if let Some(listening) = self.listening.get_mut(&name) {
                listening.place.replace(local);
                std::mem::replace(&mut listening.end, end).begin();
            }
        }
        self.context.pools().close_idle();
    }

    async fn drain(&mut self, until: Instant, handoffs: &mut mpsc::UnboundedReceiver<Handoff>) {
        self.crew.close();
        for listening in self.listening.values() {
            listening.stop.begin();
        }
        // Only when everything that waited was accepted are connections told to end; so each of them is served once.
        for listening in self.listening.values_mut() {
            if let Some(stopped) = listening.stopped.take() {
                let _ = stopped.await;
            }
        }
        tokio::task::yield_now().await;
        while let Ok(handoff) = handoffs.try_recv() {
            self.adopt(handoff);
        }
        self.adopt_late(u64::MAX);
        for listening in self.listening.values() {
            listening.end.begin();
        }
        let mut look = tokio::time::interval(std::time::Duration::from_millis(10));
        while self.crew.load(self.number) > 0 && Instant::now() < until {
            tokio::select! {
                Some(handoff) = handoffs.recv() => {
                    self.adopt(handoff);
                    self.adopt_late(u64::MAX);
                }
                _ = look.tick() => {}
            }
        }
        let left = self.crew.load(self.number);
        if left > 0 {
            tracing::warn!(worker = self.number, connections = left, "The drain limit ends connections that are open.");
        }
    }
}
