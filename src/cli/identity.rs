//! `meshless identity`: this workload's identity, for other programs.

use std::io::{self, IsTerminal as _};
use std::path::PathBuf;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use clap::{Args, Subcommand};
use meshless::compose::{IdentityFeed, Options, StartError};
use meshless::telemetry::log::{self, LogFormat};
use meshless_platforms::{Process, Surroundings as _};

use super::{Exit, check, complain, print, run};

/// Longest wait for a first identity with `--once`.
const FIRST: Duration = Duration::from_secs(30);
/// Pause before a write that failed is tried again.
const AGAIN: Duration = Duration::from_secs(5);

/// This workload's identity for programs that speak TLS themselves
#[derive(Debug, Args)]
pub(super) struct Identity {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    Write(Write),
}

/// Keep chain.pem, key.pem and bundle.pem in a directory fresh until SIGTERM or SIGINT; they change as one
///
/// The identity is asked for as `[identity]` says. Exit code 69 if there is none within 30 s with `--once`.
#[derive(Debug, Args)]
struct Write {
    /// The directory; it is made where it is not there
    directory: PathBuf,
    /// Configuration file, or directory of files; may be given again
    #[arg(short, long = "config", required = true, value_name = "PATH")]
    config: Vec<PathBuf>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = check::name_and_value)]
    sets: Vec<(String, String)>,
    /// A command for /bin/sh that makes the program read the files again; runs after each change but the first
    #[arg(long, value_name = "COMMAND")]
    reload: Option<String>,
    /// Write it once and end
    #[arg(long, conflicts_with = "reload")]
    once: bool,
    /// Log more: debug, twice for trace
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Identity {
    pub(super) fn run(self) -> Exit {
        match self.what {
            What::Write(write) => write.run(),
        }
    }
}

impl Write {
    fn run(self) -> Exit {
        let filter = log::filter(self.verbose, Process.variable("RUST_LOG").as_deref());
        let log_level = match log::install(LogFormat::for_terminal(io::stderr().is_terminal()), &filter) {
            Ok(level) => level,
            Err(error) => return complain(&format!("log: {error}\n"), Exit::Wrong),
        };
        let sets = match check::sets(self.sets.clone()) {
            Ok(sets) => sets,
            Err(text) => return complain(&text, Exit::Wrong),
        };
        let options = Options { paths: self.config.clone(), sets, surroundings: Arc::new(Process), log_level };
        let (runtime, mut signals) = match run::signals() {
            Ok(handled) => handled,
            Err(error) => return complain(&format!("signals: {error}\n"), Exit::Failed),
        };
        let mut feed = match IdentityFeed::start(options) {
            Ok(feed) => feed,
            Err(error @ StartError::Configuration(_)) => return complain(&format!("{error}\n"), Exit::Wrong),
            Err(error) => return complain(&format!("meshless: {error}\n"), Exit::Wrong),
        };
        runtime.block_on(async {
            if self.once {
                let Ok(identity) = tokio::time::timeout(FIRST, feed.next()).await else {
                    let why = feed.missing().unwrap_or_default();
                    return complain(
                        &format!("meshless: no identity within {} s: {why}\n", FIRST.as_secs()),
                        Exit::Unreachable,
                    );
                };
                return match meshless_certs::write(&self.directory, &identity) {
                    Ok(()) => print(&format!("{} is in {}\n", identity.id(), self.directory.display())),
                    Err(error) => complain(&format!("meshless: {error}\n"), Exit::Failed),
                };
            }
            tokio::select! {
                () = signals.end() => Exit::Done,
                exit = self.keep(&mut feed) => exit,
            }
        })
    }

    /// Writes for ever. A directory that cannot be written at the start is an error; later it is tried again.
    async fn keep(&self, feed: &mut IdentityFeed) -> Exit {
        let mut is_first = true;
        loop {
            let identity = feed.next().await;
            while let Err(error) = meshless_certs::write(&self.directory, &identity) {
                if is_first {
                    return complain(&format!("meshless: {error}\n"), Exit::Failed);
                }
                tracing::error!(%error, "The identity cannot be written; the files hold the one before.");
                tokio::time::sleep(AGAIN).await;
            }
            let (id, directory) = (identity.id(), self.directory.display());
            tracing::info!(%id, serial = identity.leaf().serial, %directory, "The identity was written.");
            if let (false, Some(command)) = (is_first, &self.reload) {
                reload(command).await;
            }
            is_first = false;
        }
    }
}

/// Runs the command and waits for it. That it fails changes nothing here: the files are right.
async fn reload(command: &str) {
    let text = command.to_owned();
    let ran = tokio::task::spawn_blocking(move || Command::new("/bin/sh").arg("-c").arg(text).status()).await;
    match ran {
        Ok(Ok(status)) if status.success() => tracing::info!(command, "The program was told to read them again."),
        Ok(Ok(status)) => tracing::error!(command, %status, "The command after `--reload` failed."),
        Ok(Err(error)) => tracing::error!(command, %error, "The command after `--reload` cannot be run."),
        Err(error) => tracing::error!(command, %error, "The command after `--reload` failed."),
    }
}
