//! `meshless ca serve`: the authority, without a gateway.

use std::io::{self, IsTerminal as _};
use std::sync::Arc;

use clap::Args;
use meshless::compose::{AuthorityAlone, Options, StartError};
use meshless::telemetry::log::{self, LogFormat};
use meshless_platforms::{Process, Surroundings as _};

use super::place::{Failure, Place};
use crate::cli::{Exit, complain, run};

/// Serve the authority of a directory, without a gateway: SIGTERM and SIGINT end it in order
///
/// The configuration needs `[ca]` with `listen`. Beside it `[admin]`, `[node] state_dir` and `[identity] trust_domain`
/// are looked at; the last one, if it is there, must be what the authority was made for.
#[derive(Debug, Args)]
pub(super) struct Serve {
    /// Log more: debug, twice for trace
    #[arg(short, long, action = clap::ArgAction::Count)]
    verbose: u8,
}

impl Serve {
    pub(super) fn run(&self, place: &Place) -> Exit {
        let (paths, sets) = match place.configuration() {
            Ok(given) => given,
            Err(Failure { text, exit }) => return complain(&text, exit),
        };
        let filter = log::filter(self.verbose, Process.variable("RUST_LOG").as_deref());
        let log_level = match log::install(LogFormat::for_terminal(io::stderr().is_terminal()), &filter) {
            Ok(level) => level,
            Err(error) => return complain(&format!("log: {error}\n"), Exit::Wrong),
        };
        let options = Options { paths, sets, surroundings: Arc::new(Process), log_level };
        // Before anything runs: a signal that comes while it starts is handled as soon as it has.
        let (runtime, mut signals) = match run::signals() {
            Ok(handled) => handled,
            Err(error) => return complain(&format!("signals: {error}\n"), Exit::Failed),
        };
        let authority = match AuthorityAlone::start(&options) {
            Ok(authority) => authority,
            Err(error @ StartError::Configuration(_)) => return complain(&format!("{error}\n"), Exit::Wrong),
            Err(error) => return complain(&format!("meshless: {error}\n"), Exit::Failed),
        };
        tracing::info!(
            address = %authority.address, admin = %authority.admin, version = env!("CARGO_PKG_VERSION"), "Started."
        );
        runtime.block_on(async {
            tokio::select! {
                () = signals.end() => {}
                () = authority.told_to_end() => {}
            }
        });
        tracing::info!("Ending: what is under way is answered.");
        authority.drain();
        drop(authority);
        Exit::Done
    }
}
