//! The project's own commands: `cargo xtask demo | test | bench | faults | outages | discovery | soak | ci`.
//!
//! Each does its set-up by itself, so that a fresh clone needs Rust and nothing else that must be remembered.

#![allow(clippy::print_stdout, clippy::print_stderr, reason = "a tool that talks to a person at a terminal")]

mod archive;
mod bench;
mod ci;
mod components;
mod debian;
mod discovery;
mod docs;
mod faults;
mod gateway;
mod golang;
mod http;
mod load;
mod origins;
mod outages;
mod places;
mod process;
mod readme;
mod suite;
mod workspace;

use std::os::unix::process::CommandExt as _;
use std::process::{Command, ExitCode};

use clap::{Parser, Subcommand};

#[derive(Debug, Parser)]
#[command(name = "cargo xtask", about = "The project's own commands")]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Debug, Subcommand)]
enum Task {
    /// Measures the gateway beside other proxies: CPU time per request and memory.
    Bench(bench::Arguments),
    /// Everything that a change must pass, as `.ci/run` calls it.
    Ci(ci::Arguments),
    /// Builds, then shows the gateway between small services on loopback; Ctrl-C ends it.
    Demo,
    /// Measures how soon changes of registries are used and what they cost, and writes docs/discovery-figures.md.
    Discovery(discovery::Arguments),
    /// An endpoint that can be told to fail; `faults` starts it.
    #[command(hide = true)]
    Endpoint(faults::EndpointArguments),
    /// Measures what clients see of failing endpoints, beside Envoy, and writes docs/faults.md: about five minutes.
    Faults(faults::Arguments),
    /// Measures what clients see while each kind of registry fails, and writes docs/outages.md: about ten minutes.
    Outages(outages::Arguments),
    /// Reloads a thousand times and changes endpoints ten thousand times under load: about five minutes.
    Soak,
    /// Installs real programs to test with, then runs all tests.
    Test(suite::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Bench(arguments) => bench::run(&arguments),
        Task::Ci(arguments) => ci::run(&arguments),
        Task::Demo => demo(),
        Task::Discovery(arguments) => discovery::run(&arguments),
        Task::Endpoint(arguments) => faults::endpoint(&arguments),
        Task::Faults(arguments) => faults::run(&arguments),
        Task::Outages(arguments) => outages::run(&arguments),
        Task::Soak => soak(),
        Task::Test(arguments) => suite::run(&arguments).map(drop),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Builds the gateway without optimisation (the traffic is light, a first build is not) and becomes `meshless demo`, so
/// that Ctrl-C reaches it and its exit code is ours.
fn demo() -> anyhow::Result<()> {
    process::run(workspace::cargo().args(["build", "--bin", "meshless"]))?;
    let meshless = workspace::target()?.join("debug/meshless");
    Err(anyhow::Error::from(Command::new(&meshless).arg("demo").exec())
        .context(format!("start {}", meshless.display())))
}

/// Runs the long test of docs/soak.md against an optimised build.
fn soak() -> anyhow::Result<()> {
    process::run(workspace::cargo().args(["build", "--profile", "quick-release", "--bin", "meshless"]))?;
    let meshless = workspace::target()?.join("quick-release/meshless");
    let test = ["test", "--test", "it", "--", "--ignored", "--nocapture", "soak"];
    process::run(workspace::cargo().args(test).env("MESHLESS_BINARY", meshless))
}
