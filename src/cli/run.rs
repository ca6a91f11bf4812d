//! `meshless run`: the gateway or sidecar.

use std::collections::BTreeMap;
use std::io::{self, IsTerminal};
use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use meshless::compose::{Gateway, Options, StartError};
use meshless::telemetry::log::{self, LogFormat};
use meshless_platforms::{Process, Surroundings};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use super::{Exit, complain};

/// Run the gateway: SIGTERM drains, SIGINT drains without grace, a second one ends at once, SIGHUP reloads.
#[derive(Debug, Args)]
pub(super) struct Run {
    /// Configuration file, or directory of files.
    #[arg(short, long = "config", required = true, value_name = "PATH")]
    config: Vec<PathBuf>,
    /// Value for `${KEY}` in the configuration, such as `ecs.cluster=prod`.
    #[arg(long = "set", value_name = "KEY=VALUE", value_parser = super::check::name_and_value)]
    sets: Vec<(String, String)>,
    /// Log more: debug, twice for trace.
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Run {
    pub(super) fn run(self) -> Exit {
        let filter = log::filter(self.verbose, Process.variable("RUST_LOG").as_deref());
        let log_level = match log::install(LogFormat::for_terminal(io::stderr().is_terminal()), &filter) {
            Ok(level) => level,
            Err(error) => return complain(&format!("log: {error}\n"), Exit::Wrong),
        };
        let sets: BTreeMap<_, _> = self.sets.into_iter().collect();
        let options = Options { paths: self.config, sets, surroundings: Arc::new(Process), log_level };
        // Before anything runs: a signal that comes while it starts is handled as soon as it has.
        let (runtime, signals) = match signals() {
            Ok(handled) => handled,
            Err(error) => return complain(&format!("signals: {error}\n"), Exit::Failed),
        };
        let mut gateway = match Gateway::start(options) {
            Ok(gateway) => gateway,
            Err(error @ StartError::Configuration(_)) => return complain(&format!("{error}\n"), Exit::Wrong),
            Err(error @ StartError::Platform { .. }) => {
                return complain(&format!("meshless: {error}\n"), Exit::Unreachable);
            }
            Err(error) => return complain(&format!("meshless: {error}\n"), Exit::Failed),
        };
        tracing::info!(admin = %gateway.admin, version = env!("CARGO_PKG_VERSION"), "Started.");
        runtime.block_on(serve(&mut gateway, signals));
        gateway.finish();
        Exit::Done
    }
}

/// What a person or a supervisor may tell the process.
pub(super) struct Signals {
    hangup: Signal,
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Waits until the process is told to end. SIGHUP has nothing to read again here.
    pub(super) async fn end(&mut self) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => tracing::warn!("A changed configuration of an authority needs a restart."),
                _ = self.interrupt.recv() => return,
                _ = self.terminate.recv() => return,
            }
        }
    }
}

/// Handles signals until the gateway has ended.
pub(super) async fn serve(gateway: &mut Gateway, mut signals: Signals) {
    let mut ended = std::pin::pin!(gateway.ended());
    let mut draining = false;
    loop {
        let grace = tokio::select! {
            () = &mut ended => return,
            _ = signals.hangup.recv() => {
                gateway.reload();
                continue;
            }
            _ = signals.interrupt.recv() => false,
            _ = signals.terminate.recv() => true,
        };
        if draining {
            tracing::warn!("A second signal: ending at once.");
            return;
        }
        draining = true;
        gateway.drain(grace);
    }
}

/// Takes the signals over, and the runtime to wait for them on.
pub(super) fn signals() -> io::Result<(Runtime, Signals)> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let entered = runtime.enter();
    let signals = Signals {
        hangup: signal(SignalKind::hangup())?,
        interrupt: signal(SignalKind::interrupt())?,
        terminate: signal(SignalKind::terminate())?,
    };
    drop(entered);
    Ok((runtime, signals))
}
