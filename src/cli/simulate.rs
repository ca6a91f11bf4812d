//! `meshless simulate`: what would clients see?

use std::path::PathBuf;

use clap::Args;
use meshless::simulate::Scenario;
use meshless_platforms::Process;

use super::{Exit, check, complain, print};

/// Simulate what clients see while endpoints are slow, fail, come and go
#[derive(Debug, Args)]
pub(super) struct Simulate {
    /// The scenario: .toml, .yaml or .json
    file: PathBuf,
    /// Print every figure as JSON
    #[arg(long)]
    json: bool,
    /// Write the share and the p99 of each endpoint over time as a picture
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = check::name_and_value)]
    sets: Vec<(String, String)>,
}

impl Simulate {
    pub(super) fn run(self) -> Exit {
        let sets = match check::sets(self.sets) {
            Ok(sets) => sets,
            Err(message) => return complain(&message, Exit::Wrong),
        };
        let scenario = match Scenario::load(&self.file, &Process, &sets) {
            Ok(scenario) => scenario,
            Err(problems) => return complain(&format!("{problems}\n"), Exit::Wrong),
        };
        for warning in scenario.warnings() {
            complain(&format!("{warning}\n"), Exit::Done);
        }
        let report = match scenario.run() {
            Ok(report) => report,
            Err(problems) => return complain(&format!("{problems}\n"), Exit::Wrong),
        };
        if let Some(file) = &self.svg
            && let Err(error) = std::fs::write(file, report.svg())
        {
            return complain(&format!("{}: cannot be written: {error}\n", file.display()), Exit::Failed);
        }
        print(&if self.json { report.json() } else { report.text() })
    }
}
