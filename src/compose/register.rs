//! Registers this workload: checks the application, asks the course what to tell the registry, tells it, shows where we
//! stand. One task; it waits for the registry and nothing waits for it but the end of the process.

mod active;
mod entry;
mod perform;

use std::net::IpAddr;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshless_discovery::{Config as Kind, Registrar, registrar};
use meshless_platforms::Surroundings;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, interval, sleep_until, timeout};

use super::StartError;
use super::listeners::Running;
use super::status::Status;
use crate::admin::View as _;
use crate::config::{Config, ListenAddress, Register};
use crate::register::leftovers::Mark;
use crate::telemetry::metrics::ControlMetrics;
use active::Active;

/// How often it is looked whether the gateway is ready, until it is.
const LOOK: Duration = Duration::from_millis(50);
/// Longest that the end of the process, or an entry that takes the place of another one, waits for the old one to be gone.
pub(super) const WITHDRAWAL: Duration = Duration::from_secs(5);

/// What is registered, where and how.
#[derive(Debug)]
pub(super) struct Plan {
    registrar: Arc<dyn Registrar>,
    backend: Kind,
    config: Register,
    zone: Option<String>,
    /// `node.address`.
    address: Option<IpAddr>,
    bound: SocketAddr,
}

/// A plan that does not know yet where its listener listens.
#[derive(Debug)]
pub(super) struct Opened {
    registrar: Arc<dyn Registrar>,
    backend: Kind,
    config: Register,
    zone: Option<String>,
    /// `node.address`.
    address: Option<IpAddr>,
}

/// Opens what a configuration wants to register in; does nothing yet.
pub(super) fn open(config: &Config) -> Result<Option<Opened>, StartError> {
    let Some(register) = &config.register else { return Ok(None) };
    let backend = config.discovery.get(&register.backend).map(crate::config::Backend::to_discovery);
    let missing = || StartError::Unusable(format!("there is no backend `{}` to register in", register.backend));
    let backend = backend.ok_or_else(missing)?;
    let registrar =
        registrar(&register.backend, &backend).map_err(|error| StartError::Unusable(error.to_string()))?.into();
    let (zone, address) = (config.node.zone.clone(), config.node.address);
    Ok(Some(Opened { registrar, backend, config: register.clone(), zone, address }))
}

impl Opened {
    /// Returns the whole plan, with where the listener listens now.
    fn at(self, listeners: &[Running]) -> Option<Plan> {
        let Self { registrar, backend, config, zone, address } = self;
        let bound = listeners.iter().find(|one| *one.shared.name == *config.listener).map(|one| &one.address);
        // The configuration lets nothing but TCP listeners that exist be registered.
        let Some(ListenAddress::Tcp(bound)) = bound else { return None };
        Some(Plan { registrar, backend, config, zone, address, bound: *bound })
    }
}

#[derive(Debug)]
enum Command {
    /// The process ends: leave, then say whether there was anything to leave.
    Leave(watch::Sender<Option<bool>>),
    /// Register this, and nothing else.
    Set(Option<Box<Plan>>),
}

/// Tells the task what to do. When it is dropped the task ends and leaves everything as it is.
#[derive(Debug)]
pub(super) struct Registering(mpsc::UnboundedSender<Command>);

impl Registering {
    /// Registers what a configuration says, and nothing else.
    pub(super) fn set(&self, opened: Option<Opened>, listeners: &[Running]) {
        let plan = opened.and_then(|opened| opened.at(listeners)).map(Box::new);
        let _ = self.0.send(Command::Set(plan));
    }

    /// Leaves. What is returned becomes `Some` when that is done: whether anybody could have seen us before.
    pub(super) fn leave(&self) -> watch::Receiver<Option<bool>> {
        let (sender, receiver) = watch::channel(None);
        if let Err(error) = self.0.send(Command::Leave(sender))
            && let Command::Leave(sender) = error.0
        {
            sender.send_replace(Some(false));
        }
        receiver
    }
}

/// Waits until [`Registering::leave`] is done, but not for ever; returns whether anybody could have seen us before.
pub(super) async fn left(mut leaving: watch::Receiver<Option<bool>>) -> bool {
    match timeout(WITHDRAWAL, leaving.wait_for(Option::is_some)).await {
        Ok(Ok(left)) => *left == Some(true),
        // The task is gone; it has said why.
        Ok(Err(_)) => false,
        Err(_) => {
            tracing::warn!(limit = ?WITHDRAWAL, "We could not be taken out of the registry before the end.");
            false
        }
    }
}

/// Makes the task and what tells it what to do.
pub(super) fn registering(
    status: Arc<Status>,
    metrics: ControlMetrics,
    surroundings: Arc<dyn Surroundings>,
    seed: u64,
) -> (Registering, Task) {
    let (sender, commands) = mpsc::unbounded_channel();
    let mark = perform::own_mark(&*surroundings);
    let random = fastrand::Rng::with_seed(seed);
    (
        Registering(sender),
        Task { tools: Tools { status, metrics, surroundings, mark, random }, commands, current: None },
    )
}

/// What an entry needs of its surroundings.
#[derive(Debug)]
struct Tools {
    status: Arc<Status>,
    metrics: ControlMetrics,
    surroundings: Arc<dyn Surroundings>,
    mark: Option<Mark>,
    random: fastrand::Rng,
}

/// The task.
#[derive(Debug)]
pub(super) struct Task {
    tools: Tools,
    commands: mpsc::UnboundedReceiver<Command>,
    current: Option<Active>,
}

impl Task {
    /// Keeps what is registered true until nobody can tell it anything any more.
    pub(super) async fn run(mut self) {
        let mut look = interval(LOOK);
        loop {
            let Some(active) = &mut self.current else {
                match self.commands.recv().await {
                    Some(command) => self.obey(command).await,
                    None => return,
                }
                continue;
            };
            let wait = active.step(&mut self.tools);
            tokio::select! {
                command = self.commands.recv() => match command {
                    Some(command) => self.obey(command).await,
                    None => return,
                },
                () = active.event(&mut self.tools) => {}
                () = sleep_until(wait.unwrap_or_else(Instant::now)), if wait.is_some() => {}
                _ = look.tick(), if !active.is_ready() => {
                    if self.tools.status.readiness().ready {
                        active.ready();
                    }
                }
            }
        }
    }

    async fn obey(&mut self, command: Command) {
        match command {
            Command::Leave(left) => {
                let was_there = match self.current.take() {
                    Some(active) => active.retire(&mut self.tools).await,
                    None => false,
                };
                left.send_replace(Some(was_there));
            }
            Command::Set(None) => {
                if let Some(active) = self.current.take() {
                    retired(active, &mut self.tools).await;
                    self.tools.status.registered(None);
                }
            }
            Command::Set(Some(plan)) => {
                let fresh = Active::new(*plan, &self.tools);
                match self.current.take() {
                    Some(mut active) if active.is_same_entry(&fresh) => {
                        active.replace(fresh);
                        self.current = Some(active);
                    }
                    Some(active) => {
                        // First: at the same agent the same id may be meant, and what is removed last would be missing.
                        retired(active, &mut self.tools).await;
                        self.current = Some(fresh);
                    }
                    None => self.current = Some(fresh),
                }
            }
        }
    }
}

/// Takes an entry out that a changed configuration does not have any more.
async fn retired(active: Active, tools: &mut Tools) {
    if timeout(WITHDRAWAL, active.retire(tools)).await.is_err() {
        tracing::warn!(limit = ?WITHDRAWAL, "An entry that is not configured any more could not be taken out of the registry.");
    }
}
