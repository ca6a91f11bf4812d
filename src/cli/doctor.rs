//! `meshless doctor`: what could stand in the way?

use std::path::PathBuf;
use std::sync::Arc;

use clap::Args;
use meshless::compose::{Examination, LookupError, implied_backends, locate};
use meshless::config::{self, Config};
use meshless::targets::Outcome;
use meshless_platforms::{Process, Surroundings};
use tokio::runtime::Runtime;

use super::{Exit, check, complain, print};

/// Look at this machine and at every backend, and say what to do; exit code 69 unreachable, 77 not permitted, 1 other
#[derive(Debug, Args)]
pub(super) struct Doctor {
    /// Configuration file, or directory of files; may be given again (default: the machine, and the backends that the
    /// environment speaks of)
    #[arg(short, long = "config", value_name = "PATH")]
    config: Vec<PathBuf>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = check::name_and_value, requires = "config")]
    sets: Vec<(String, String)>,
    /// Print JSON
    #[arg(long)]
    json: bool,
}

impl Doctor {
    pub(super) fn run(self) -> Exit {
        let json = self.json;
        let runtime = match Runtime::new() {
            Ok(runtime) => runtime,
            Err(error) => {
                let hint = "hint: the system refuses threads or descriptors: look at `ulimit -u` and `ulimit -n`\n";
                return complain(&format!("error: {error}\n{hint}"), Exit::Failed);
            }
        };
        let (config, surroundings) = match runtime.block_on(self.load()) {
            Ok(loaded) => loaded,
            Err(text) => return complain(&text, Exit::Wrong),
        };
        let report =
            runtime.block_on(async { Ok::<_, LookupError>(Examination::new(config)?.run(surroundings).await) });
        // A disk that hangs must not hold up the end.
        runtime.shutdown_background();
        let report = match report {
            Ok(report) => report,
            Err(error) => return complain(&format!("error: {error}\n"), Exit::Wrong),
        };
        let text = if json {
            match serde_json::to_string_pretty(&report) {
                Ok(text) => text + "\n",
                Err(error) => {
                    let hint = "hint: this is a bug: please report it\n";
                    return complain(&format!("error: {error}\n{hint}"), Exit::Failed);
                }
            }
        } else {
            report.to_string()
        };
        match (print(&text), report.outcome()) {
            (Exit::Done, Outcome::Answered) => Exit::Done,
            (Exit::Done, Outcome::Denied) => Exit::Denied,
            (Exit::Done, Outcome::Failed) => Exit::Failed,
            (Exit::Done, Outcome::Unreachable) => Exit::Unreachable,
            (exit, _) => exit,
        }
    }

    /// Loads what a gateway would, with what the platform says here.
    async fn load(self) -> Result<(Config, Arc<dyn Surroundings>), String> {
        let surroundings = locate(&self.config, Arc::new(Process)).await;
        if self.config.is_empty() {
            let implied = implied_backends(&*surroundings);
            let config = config::load_implied(&implied, &*surroundings).map_err(|problems| format!("{problems}\n"))?;
            return Ok((config, surroundings));
        }
        let sets = check::sets(self.sets)?;
        let loaded = config::load(&self.config, &*surroundings, &sets).map_err(|problems| format!("{problems}\n"))?;
        for warning in &loaded.warnings {
            complain(&format!("{warning}\n"), Exit::Done);
        }
        Ok((loaded.config, surroundings))
    }
}
