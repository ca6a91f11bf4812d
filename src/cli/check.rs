//! `meshless check`: is the configuration right?

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

use clap::Args;
use meshless::config;
use meshless_platforms::Process;

use super::{Exit, complain, print};

/// Check the configuration and print every problem at once
#[derive(Debug, Args)]
pub(super) struct Check {
    /// File, or directory of .toml, .yaml, .yml and .json files; may be given again
    #[arg(short, long = "config", value_name = "PATH", required = true)]
    config: Vec<PathBuf>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = name_and_value)]
    sets: Vec<(String, String)>,
}

impl Check {
    pub(super) fn run(self) -> Exit {
        let sets = match sets(self.sets) {
            Ok(sets) => sets,
            Err(message) => return complain(&message, Exit::Wrong),
        };
        match config::load(&self.config, &Process, &sets) {
            Ok(loaded) => {
                let mut warnings = String::new();
                for warning in &loaded.warnings {
                    // Writing to a string cannot fail.
                    let _ = writeln!(warnings, "{warning}");
                }
                complain(&warnings, Exit::Done);
                let config = &loaded.config;
                let note = config.unread_routes().map_or_else(String::new, |note| format!("note: {note}\n"));
                print(&format!(
                    "ok: {}, {}, {}\n{note}",
                    count(config.listeners.len(), "listener"),
                    count(config.routes.len(), "route"),
                    count(config.services.len(), "service")
                ))
            }
            Err(problems) => complain(&format!("{problems}\n"), Exit::Wrong),
        }
    }
}

pub(super) fn name_and_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((name, value)) if !name.is_empty() => Ok((name.to_owned(), value.to_owned())),
        _ => Err("expected NAME=VALUE, such as ecs.cluster=prod".to_owned()),
    }
}

/// Makes one map of what `--set` gave, or says what is given twice.
pub(super) fn sets(given: Vec<(String, String)>) -> Result<BTreeMap<String, String>, String> {
    let mut sets = BTreeMap::new();
    for (name, value) in given {
        if sets.insert(name.clone(), value).is_some() {
            return Err(format!("--set {name}: error: is given twice; keep one of them\n"));
        }
    }
    Ok(sets)
}

fn count(number: usize, what: &str) -> String {
    format!("{number} {what}{}", if number == 1 { "" } else { "s" })
}
