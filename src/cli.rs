//! The command line: one file a subcommand.
//!
//! A subcommand is a struct of its arguments with `run(self) -> Exit`. It prints; what it prints about comes from the
//! library, which does not.

mod ca;
mod check;
mod demo;
mod doctor;
mod explain;
mod healthcheck;
mod identity;
mod platform;
mod run;
mod schema;
mod simulate;
mod status;
mod targets;
mod test;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use meshless_platforms::Process;

/// A mesh-less gateway: routing, resilience and mTLS identity without a control plane.
#[derive(Debug, Parser)]
#[command(name = "meshless", version, arg_required_else_help = true)]
struct Command {
    #[command(subcommand)]
    subcommand: Subcommands,
}

#[derive(Debug, Subcommand)]
enum Subcommands {
    Ca(Box<ca::Ca>),
    Check(check::Check),
    Demo(demo::Demo),
    Doctor(doctor::Doctor),
    Explain(Box<explain::Explain>),
    Healthcheck(healthcheck::Arguments),
    Identity(identity::Identity),
    Platform(platform::Arguments),
    Run(run::Run),
    Schema(schema::Schema),
    Simulate(simulate::Simulate),
    Status(status::Arguments),
    Targets(targets::Targets),
    Test(test::Test),
}

/// How the process ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exit {
    /// It did what it was asked for.
    Done = 0,
    /// It failed while running.
    Failed = 1,
    /// The configuration or the command line is wrong (`EX_USAGE`).
    Wrong = 64,
    /// Something that it needs does not answer (`EX_UNAVAILABLE`).
    Unreachable = 69,
    /// It is not permitted (`EX_NOPERM`).
    Denied = 77,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        Self::from(exit as u8)
    }
}

/// Reads the command line and runs what it asks for.
pub(crate) fn main() -> ExitCode {
    match Command::try_parse() {
        Ok(command) => match command.subcommand {
            Subcommands::Ca(ca) => ca.run().into(),
            Subcommands::Check(check) => check.run().into(),
            Subcommands::Demo(demo) => demo.run().into(),
            Subcommands::Doctor(doctor) => doctor.run().into(),
            Subcommands::Explain(explain) => explain.run().into(),
            Subcommands::Healthcheck(arguments) => healthcheck::run(&arguments, &Process),
            Subcommands::Platform(arguments) => arguments.run().into(),
            Subcommands::Identity(identity) => identity.run().into(),
            Subcommands::Run(run) => run.run().into(),
            Subcommands::Schema(schema) => schema.run().into(),
            Subcommands::Simulate(simulate) => simulate.run().into(),
            Subcommands::Status(arguments) => status::run(&arguments, &Process),
            Subcommands::Targets(targets) => targets.run().into(),
            Subcommands::Test(test) => test.run().into(),
        },
        Err(error) => {
            let asked_for_help = !error.use_stderr();
            // With nowhere to print to there is nobody to tell.
            let _ = error.print();
            if asked_for_help { Exit::Done.into() } else { Exit::Wrong.into() }
        }
    }
}

/// Prints to stdout. A reader that went away (`meshless schema | head`) is no failure of ours.
fn print(text: &str) -> Exit {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            complain(&format!("stdout: {error}\n"), Exit::Failed)
        }
        _ => Exit::Done,
    }
}

/// Prints to stderr and ends so.
fn complain(text: &str, exit: Exit) -> Exit {
    // With nowhere to print to, the exit code is left.
    let _ = io::stderr().lock().write_all(text.as_bytes());
    exit
}
