//! `meshless test`: does the configuration still do what it should?

use std::path::PathBuf;

use clap::Args;
use meshless::cases::{self, Cases};
use meshless_platforms::Process;

use super::{Exit, check, complain, print};

/// Run cases: where requests go, without sending any
#[derive(Debug, Args)]
pub(super) struct Test {
    /// Files of cases: .toml, .yaml or .json
    #[arg(required = true)]
    files: Vec<PathBuf>,
    /// Fail, too, where a route is reached by no case
    #[arg(long)]
    require_coverage: bool,
    /// A value for `${NAME}` that the platform would give, such as ecs.cluster=prod; may be given again
    #[arg(long = "set", value_name = "NAME=VALUE", value_parser = check::name_and_value)]
    sets: Vec<(String, String)>,
}

impl Test {
    pub(super) fn run(self) -> Exit {
        let sets = match check::sets(self.sets) {
            Ok(sets) => sets,
            Err(message) => return complain(&message, Exit::Wrong),
        };
        let mut tested = Vec::new();
        let mut wrong = Vec::new();
        for file in &self.files {
            match Cases::load(file, &Process, &sets) {
                Ok(cases) => match cases.run() {
                    Ok(results) => tested.push((cases, results)),
                    Err(problem) => wrong.push(problem),
                },
                Err(problems) => wrong.push(problems.to_string()),
            }
        }
        if !wrong.is_empty() {
            return complain(&(wrong.join("\n") + "\n"), Exit::Wrong);
        }
        let summary = cases::summary(&tested);
        let is_bad = summary.failed > 0 || self.require_coverage && !summary.unreached.is_empty();
        match print(&summary.text) {
            Exit::Done if is_bad => Exit::Failed,
            exit => exit,
        }
    }
}
