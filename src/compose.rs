//! The composition root: opens every part, spawns every task. Start-up is a reload from nothing.
//!
//! One task owns what changes (configuration, followed targets, listeners) and is told of everything by messages, so no
//! lock guards it. It publishes a `Table` for the data path and a status for the admin interface.

mod attestors;
mod authority;
mod control;
mod demand;
mod examine;
mod health;
mod identity;
mod listeners;
mod lookup;
mod memory;
mod notices;
mod objects;
mod offline;
mod panics;
mod place;
mod provers;
mod register;
mod status;
mod targets;
mod tls;
mod traces;
mod watch;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use meshless_certs::Mesh;
use meshless_platforms::{Platform, Surroundings};
use tokio::runtime::Runtime;
use tokio::sync::{Notify, Semaphore, mpsc, oneshot};
use tokio::time::Instant;

use crate::admin::{self, Access, Admin, AdminListener};
use crate::config::{self, AccessLog as AccessLogFormat, Config, ListenAddress, Problem, Problems};
use crate::follow::last_known_good::LastKnownGood;
use crate::listener::Crew;
use crate::resilience::memory::Pressure;
use crate::sockets::BindError;
use crate::telemetry::Telemetry;
use crate::telemetry::access_log::{AccessLog, Format};
use crate::telemetry::log::LogLevel;
use crate::telemetry::metrics::{ControlMetrics, Registry, process};
use crate::trust::Terms;
use crate::upstream::Table;
use crate::upstream::live::Wanted;
use crate::worker;

pub use attestors::attestors;
pub use authority::AuthorityAlone;
use control::Control;
pub(crate) use control::Event;
pub use examine::{Examination, implied_backends};
use health::Checker;
use identity::Identities;
pub use identity::IdentityFeed;
pub use lookup::{Lookup, LookupError, Watched};
pub use offline::{Offline, OfflineError};
pub use place::{locate, processors};
pub use provers::prover;
use status::Status;

/// Longest that an access log whose reader hangs may hold up the end.
const LOG_CLOSE: Duration = Duration::from_secs(1);

/// How long a change waits for the first answers of what it names anew, so that it is not served without them.
const FIRST_ANSWERS: Duration = Duration::from_secs(2);

/// Names that workers ask for and that wait for control; beyond, requests are refused.
const WANTED: usize = 1024;
/// Names that control opens before it publishes.
const WANTED_AT_ONCE: usize = 64;

/// What a gateway is started from.
#[derive(Debug, Clone)]
pub struct Options {
    /// Configuration files or directories.
    pub paths: Vec<PathBuf>,
    /// Values of `--set`.
    pub sets: BTreeMap<String, String>,
    /// The environment.
    pub surroundings: Arc<dyn Surroundings>,
    /// Handle of the log's level.
    pub log_level: LogLevel,
}

/// Why a gateway did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The admin interface has no socket.
    #[error("admin: {0}")]
    Admin(#[from] admin::BindError),
    /// A listener has no socket.
    #[error("{0}")]
    Bind(#[from] BindError),
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(Problems),
    /// The platform that `node.platform` names does not answer.
    #[error("node.platform = \"{platform}\": {reason}; `meshless platform` shows what is found without it")]
    Platform {
        /// Which one.
        platform: Platform,
        /// Why.
        reason: String,
    },
    /// The system refuses threads or descriptors.
    #[error("cannot start: {0}")]
    System(#[from] std::io::Error),
    /// Something that the configuration names cannot be used.
    #[error("{0}")]
    Unusable(String),
}

/// A gateway that runs. Dropping it ends it at once.
#[derive(Debug)]
pub struct Gateway {
    runtime: Option<Runtime>,
    events: mpsc::UnboundedSender<Event>,
    ended: Option<oneshot::Receiver<()>>,
    access_log: Option<(AccessLog, std::thread::JoinHandle<()>)>,
    status: Arc<Status>,
    authority: Option<authority::Served>,
    /// Where the admin interface listens.
    pub admin: ListenAddress,
    /// Where `/live /ready /metrics` alone are served.
    pub probes: Option<ListenAddress>,
    /// What `check` warns of.
    pub warnings: Vec<Problem>,
}

impl Gateway {
    /// Reads the configuration and starts everything. Returns when all listeners are bound; see `/ready` for the rest.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let options = place::located(options)?;
        let loaded =
            config::load(&options.paths, &*options.surroundings, &options.sets).map_err(StartError::Configuration)?;
        panics::install();
        let epoch = Instant::now();
        let registry = Registry::new(epoch.into_std());
        process::register(&registry);
        let metrics = ControlMetrics::new(&registry);
        panics::count_in(metrics.panics());
        let node = &loaded.config.node;
        metrics.node(node.platform.map_or("", Platform::as_str), node.zone.as_deref().unwrap_or_default());
        let access_log = open_access_log(&loaded.config, &registry)?;
        let (tracer, switch, exporter) = crate::telemetry::traces::open(&registry);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(2)
            .thread_name("control")
            .enable_all()
            .build()?;
        let handle = runtime.handle().clone();
        let entered = handle.enter();
        let table = Arc::new(ArcSwap::from_pointee(Table::default()));
        let (events, inbox) = mpsc::unbounded_channel();
        let (held_failed, mut held_inbox) = mpsc::unbounded_channel();
        let (wanted, mut wanted_inbox) = mpsc::channel(WANTED);
        let telemetry =
            Telemetry { registry: registry.clone(), access_log: access_log.as_ref().map(|log| log.0.clone()), tracer };
        let pressure = Arc::new(Pressure::default());
        let memory = memory::Watch::new(
            loaded.config.node.memory,
            options.surroundings.clone(),
            pressure.clone(),
            metrics.clone(),
        );
        let mesh = Arc::<Mesh>::default();
        let terms = Terms::new(mesh.clone());
        let count = place::workers(&loaded.config, &*options.surroundings);
        let workers = start_workers(count, &table, &telemetry, epoch, &held_failed, &wanted, &pressure, &terms)?;
        let ca = authority::of(&loaded.config, &*options.surroundings, &registry)?;
        let around = identity::Around {
            surroundings: options.surroundings.clone(),
            authority: ca.as_ref().map(|ca| ca.issuer().clone()),
            state_dir: loaded.config.node.state_dir.clone(),
        };
        let identities = Identities::new(mesh.clone(), metrics.identity(), fastrand::u64(..), around);
        let status = Arc::new(Status::new(table.clone(), events.clone(), epoch, identities.standing().clone()));
        let admin_listener = AdminListener::bind(&loaded.config.admin.listen, Access::Full)?;
        let admin_address = admin_listener.address()?;
        let probes = loaded.config.admin.probes.as_ref().map(|address| AdminListener::bind(address, Access::Probes));
        let probes = probes.transpose()?;
        let probes_address = probes.as_ref().map(AdminListener::address).transpose()?;
        let disk = loaded.config.node.state_dir.as_deref().map(LastKnownGood::new);
        let warnings = loaded.warnings.clone();
        let (end, ended) = oneshot::channel();
        let table_changed = Arc::new(Notify::new());
        let checker = Checker::new(table.clone(), table_changed.clone(), metrics.clone(), epoch, fastrand::u64(..));
        let (registering, registration) =
            register::registering(status.clone(), metrics.clone(), options.surroundings.clone(), fastrand::u64(..));
        runtime.spawn(registration.run());
        let control = Control::new(control::Parts {
            options: options.clone(),
            table,
            table_changed,
            status: status.clone(),
            workers,
            metrics,
            traces: switch,
            registering,
            identities,
            mesh,
            terms,
            disk: disk.as_ref().map(|(handle, _)| handle.clone()),
            events: events.clone(),
            end,
            seed: fastrand::u64(..),
            epoch,
        });
        runtime.spawn(checker.run());
        runtime.spawn(notices::drain_on_notice(options.surroundings.clone(), status.clone()));
        if let Some(memory) = memory {
            runtime.spawn(memory.run());
        }
        let forward = events.clone();
        runtime.spawn(async move {
            while let Some((target, address)) = held_inbox.recv().await {
                let _ = forward.send(Event::HeldFailed(target, address));
            }
        });
        let forward = events.clone();
        runtime.spawn(async move {
            // What control has not looked at yet stays in the bounded channel.
            let room = Arc::new(Semaphore::new(WANTED_AT_ONCE));
            while let Some(wanted) = wanted_inbox.recv().await {
                let Ok(place) = room.clone().acquire_owned().await else { return };
                let _ = forward.send(Event::Wanted(wanted, place));
            }
        });
        let disk_writer = disk.map(|(handle, writer)| {
            drop(handle);
            runtime.spawn(writer.run())
        });
        let admin = Admin { view: status.clone(), registry, log_level: options.log_level };
        runtime.spawn(admin::serve(admin_listener, admin.clone()));
        if let Some(probes) = probes {
            runtime.spawn(admin::serve(probes, admin));
        }
        // Not on the caller's thread: it may be a runtime's of its own.
        let (first, result) = std::sync::mpsc::sync_channel(1);
        let writers = control::Writers { disk: disk_writer, exporter: runtime.spawn(exporter.run()) };
        runtime.spawn(control.run(loaded, inbox, first, writers));
        result.recv().map_err(|_| StartError::Unusable("control ended while it started".to_owned()))??;
        runtime.spawn(watch::watch(options.paths, status.clone(), events.clone()));
        drop(entered);
        Ok(Self {
            runtime: Some(runtime),
            events,
            ended: Some(ended),
            access_log,
            status,
            authority: ca,
            admin: admin_address,
            probes: probes_address,
            warnings,
        })
    }

    /// Returns where the listeners listen, by name, with the ports that the kernel gave.
    pub fn addresses(&self) -> BTreeMap<String, ListenAddress> {
        self.status.addresses()
    }

    /// Returns where the authority of this process serves the network, with the port that the kernel gave.
    pub fn authority(&self) -> Option<SocketAddr> {
        self.authority.as_ref()?.address()
    }

    /// Reads the configuration again, as SIGHUP does. Does not wait; `/config` and the log say how it went.
    pub fn reload(&self) {
        let _ = self.events.send(Event::Reload);
    }

    /// Begins to drain; `grace`: go on accepting for the configured time first. Does not wait.
    pub fn drain(&self, grace: bool) {
        self.status.begin_drain(grace);
    }

    /// Returns what waits until the gateway has drained.
    pub fn ended(&mut self) -> impl Future<Output = ()> + use<> {
        let ended = self.ended.take();
        async move {
            if let Some(ended) = ended {
                let _ = ended.await;
            }
        }
    }

    /// Ends what is left: flushes the access log, stops the control runtime.
    pub fn finish(mut self) {
        self.close();
    }

    fn close(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(Duration::from_millis(200));
        }
        // Others renew by it while this gateway drains, so it goes last.
        self.authority = None;
        if let Some((log, writer)) = self.access_log.take() {
            log.close();
            let deadline = std::time::Instant::now() + LOG_CLOSE;
            while !writer.is_finished() && std::time::Instant::now() < deadline {
                std::thread::park_timeout(Duration::from_millis(5));
            }
        }
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.events.send(Event::End);
        self.close();
    }
}

fn open_access_log(
    config: &Config,
    registry: &Arc<Registry>,
) -> Result<Option<(AccessLog, std::thread::JoinHandle<()>)>, StartError> {
    let format = match config.telemetry.access_log {
        AccessLogFormat::Json => Format::Json,
        AccessLogFormat::Text => Format::Text,
        AccessLogFormat::Off => return Ok(None),
    };
    let (log, writer) = AccessLog::to_stdout(format, registry)?;
    let thread = std::thread::Builder::new().name("access-log".to_owned()).spawn(move || writer.run())?;
    Ok(Some((log, thread)))
}

#[allow(clippy::too_many_arguments, reason = "the parts of a worker, used in one place")]
fn start_workers(
    count: usize,
    table: &Arc<ArcSwap<Table>>,
    telemetry: &Telemetry,
    epoch: Instant,
    held_failed: &mpsc::UnboundedSender<crate::proxy::HeldFailed>,
    wanted: &mpsc::Sender<Wanted>,
    pressure: &Arc<Pressure>,
    terms: &Arc<Terms>,
) -> Result<Vec<worker::Worker>, StartError> {
    let (senders, receivers): (Vec<_>, Vec<_>) = (0..count).map(|_| mpsc::unbounded_channel()).unzip();
    let crew = Crew::new(senders);
    let mut workers = Vec::with_capacity(count);
    for (number, handoffs) in receivers.into_iter().enumerate() {
        workers.push(worker::start(worker::Parts {
            number,
            table: table.clone(),
            telemetry: telemetry.clone(),
            seed: fastrand::u64(..),
            epoch,
            held_failed: held_failed.clone(),
            wanted: wanted.clone(),
            pressure: pressure.clone(),
            terms: terms.clone(),
            crew: crew.clone(),
            handoffs,
        })?);
    }
    Ok(workers)
}
