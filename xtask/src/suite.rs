//! `cargo xtask test`: all tests, with everything that they need.

use std::io::{BufRead as _, BufReader};
use std::process::Stdio;

use anyhow::Context as _;

use crate::{components, process, workspace};

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Arguments {
    /// Only tests whose name contains this.
    #[arg(long)]
    only: Option<String>,
}

/// How many tests ended how.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Counts {
    passed: u64,
    failed: u64,
    skipped: u64,
}

impl std::fmt::Display for Counts {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "tests: {} passed, {} failed, {} skipped", self.passed, self.failed, self.skipped)
    }
}

/// Runs unit, integration, real-component and documentation tests of all members, and sums them up.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<Counts> {
    let folder = components::prepare()?;
    let mut command = workspace::cargo();
    command.args(["test", "--workspace", "--no-fail-fast"]);
    command.args(&arguments.only).env("MESHLESS_TEST_COMPONENTS", &folder).stdout(Stdio::piped());
    println!("$ {}", process::display(&command));

    let mut child = command.spawn().context("start cargo")?;
    let mut counts = Counts::default();
    for line in BufReader::new(child.stdout.take().context("no output of cargo")?).lines() {
        let line = line.context("read the output of cargo")?;
        println!("{line}");
        counts.add(&line);
    }
    let status = child.wait().context("wait for cargo")?;
    println!("{counts}");
    anyhow::ensure!(
        status.success() && counts.failed == 0,
        "{} tests failed; cargo test ended with {status}",
        counts.failed
    );
    anyhow::ensure!(
        counts.passed > 0,
        "no test ran{}",
        if arguments.only.is_some() { ": no name contains that" } else { "" }
    );
    Ok(counts)
}

impl Counts {
    /// Adds one test binary's closing line: `test result: ok. 3 passed; 0 failed; 1 ignored; …`.
    fn add(&mut self, line: &str) {
        let Some(result) = line.strip_prefix("test result: ") else { return };
        for part in result.split([';', '.']) {
            let Some((number, what)) = part.trim().split_once(' ') else { continue };
            let Ok(number) = number.parse::<u64>() else { continue };
            match what {
                "passed" => self.passed += number,
                "failed" => self.failed += number,
                "ignored" => self.skipped += number,
                _ => {}
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_summed_up() {
        let mut counts = Counts::default();
        counts.add("test config::tests::a_typo ... ok");
        counts.add("test result: ok. 3 passed; 0 failed; 1 ignored; 0 measured; 7 filtered out; finished in 0.02s");
        counts.add("test result: FAILED. 2 passed; 4 failed; 0 ignored; 0 measured; 0 filtered out; finished in 1.10s");
        assert_eq!(counts.to_string(), "tests: 5 passed, 4 failed, 1 skipped");
    }
}
