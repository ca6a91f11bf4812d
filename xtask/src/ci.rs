//! `cargo xtask ci`: everything that a change must pass.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::{docs, process, readme, suite, workspace};

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only this step.
    #[arg(long, value_name = "STEP", conflicts_with = "skip")]
    only: Option<String>,
    /// Not this step; may be given more than once.
    #[arg(long, value_name = "STEP")]
    skip: Vec<String>,
}

struct Step {
    name: &'static str,
    what: &'static str,
    run: fn() -> anyhow::Result<()>,
}

/// Cheap ones first; tests last, so that their counts stand at the end of the output.
const STEPS: [Step; 10] = [
    Step { name: "fmt", what: "the code is formatted", run: format },
    Step { name: "docs", what: "links resolve, nothing names a private path or a registry's host", run: docs::check },
    Step { name: "clippy", what: "no warning, all features", run: || clippy(&[]) },
    Step { name: "clippy-slim", what: "no warning without features", run: || clippy(&["--no-default-features"]) },
    Step { name: "rustdoc", what: "the code's documentation builds", run: rustdoc },
    Step { name: "deny", what: "licences, banned crates, sources", run: deny },
    Step { name: "examples", what: "each example is a right configuration and does what its cases say", run: examples },
    Step { name: "readme", what: "the README's commands and configurations work as written", run: readme::check },
    Step { name: "demo", what: "the demo answers and ends with 0 on Ctrl-C", run: readme::demo },
    Step { name: "test", what: "all tests", run: test },
];

/// Runs all steps, the rest too when one fails, and sums up.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    let known = |name: &String| STEPS.iter().any(|step| step.name == name.as_str());
    if let Some(unknown) = arguments.only.iter().chain(&arguments.skip).find(|name| !known(name)) {
        let names: Vec<&str> = STEPS.iter().map(|step| step.name).collect();
        anyhow::bail!("no step is called `{unknown}`; the steps are {}", names.join(", "));
    }
    let is_wanted = |step: &&Step| match &arguments.only {
        Some(only) => step.name == only.as_str(),
        None => !arguments.skip.iter().any(|skip| skip == step.name),
    };

    let mut done = Vec::new();
    for step in STEPS.iter().filter(is_wanted) {
        println!("\n=== {}: {}", step.name, step.what);
        let start = Instant::now();
        let result = (step.run)();
        let took = start.elapsed();
        match &result {
            Ok(()) => println!("=== {} passed in {}", step.name, seconds(took)),
            Err(error) => println!("=== {} FAILED after {}: {error:#}", step.name, seconds(took)),
        }
        done.push((step, took, result.is_ok()));
    }

    println!("\n=== all steps");
    for (step, took, passed) in &done {
        println!("{} {:<12} {:>8}", if *passed { "ok    " } else { "FAILED" }, step.name, seconds(*took));
    }
    let failed: Vec<&str> = done.iter().filter(|(_, _, passed)| !passed).map(|(step, ..)| step.name).collect();
    for name in &failed {
        println!("step `{name}` failed; alone: cargo xtask ci --only {name}");
    }
    anyhow::ensure!(failed.is_empty(), "{} of {} steps failed: {}", failed.len(), done.len(), failed.join(", "));
    Ok(())
}

fn seconds(took: Duration) -> String {
    format!("{:.1} s", took.as_secs_f64())
}

fn format() -> anyhow::Result<()> {
    process::run(workspace::cargo().args(["fmt", "--all", "--check"])).context("`cargo fmt --all` repairs it")
}

fn clippy(features: &[&str]) -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command.args(["clippy", "--workspace", "--all-targets"]).args(features).args(["--", "-D", "warnings"]);
    process::run(&mut command)
}

fn rustdoc() -> anyhow::Result<()> {
    let mut command = workspace::cargo();
    command.args(["doc", "--workspace", "--no-deps", "--document-private-items"]).env("RUSTDOCFLAGS", "-D warnings");
    process::run(&mut command)
}

/// Advisories are left out: their database is fetched from the network, which CI machines need not have.
fn deny() -> anyhow::Result<()> {
    println!("advisories are not checked here: `cargo deny check advisories` needs its database from the network");
    process::run(workspace::cargo().args(["deny", "--workspace", "check", "licenses", "bans", "sources"]))
        .context("if cargo-deny is missing: cargo install --locked cargo-deny")
}

fn examples() -> anyhow::Result<()> {
    let meshless = gateway()?;
    let folder = workspace::root().join("examples");
    let mut files = Vec::new();
    for entry in std::fs::read_dir(&folder).context("read examples/")? {
        let path = entry.context("read examples/")?.path();
        if path.extension().is_some_and(|ending| ["toml", "yaml", "json"].iter().any(|known| ending == *known)) {
            files.push(path);
        }
    }
    files.sort();
    anyhow::ensure!(!files.is_empty(), "there is no example in examples/");
    for file in &files {
        let name = file.strip_prefix(workspace::root()).unwrap_or(file);
        process::run(meshless.command().args(["check", "-c"]).arg(name))?;
    }
    let mut cases = Vec::new();
    for entry in std::fs::read_dir(folder.join("tests")).context("read examples/tests/")? {
        cases.push(entry.context("read examples/tests/")?.path());
    }
    cases.sort();
    process::run(meshless.command().arg("test").args(cases))?;
    Ok(())
}

fn test() -> anyhow::Result<()> {
    suite::run(&suite::Arguments::default()).map(drop)
}

/// The gateway as built for tests.
pub(crate) struct Gateway(PathBuf);

impl Gateway {
    /// Returns a command in the root of the work tree.
    pub(crate) fn command(&self) -> std::process::Command {
        let mut command = std::process::Command::new(&self.0);
        command.current_dir(workspace::root());
        command
    }
}

/// Builds the gateway.
pub(crate) fn gateway() -> anyhow::Result<Gateway> {
    process::run(workspace::cargo().args(["build", "--bin", "meshless"]))?;
    Ok(Gateway(workspace::target()?.join("debug/meshless")))
}
