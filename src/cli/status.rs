//! `meshless status`: a running gateway, seen from the terminal.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use meshless::admin::client::{Client, DEFAULT_ADDRESS};
use meshless::admin::summary::{Summary, SummaryError};
use meshless_platforms::Surroundings;

/// Shows what a running gateway says of itself: exit code 0 ready, 1 not ready, 69 no answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its admin interface: IP:PORT or unix:PATH (default: what the environment configures, else 127.0.0.1:9990)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Prints JSON.
    #[arg(long)]
    pub(crate) json: bool,
}

/// Limit for each question; the gateway answers from memory.
const TIMEOUT: Duration = Duration::from_secs(5);

/// Asks and prints.
pub(crate) fn run(arguments: &Arguments, surroundings: &dyn Surroundings) -> ExitCode {
    let address = match super::healthcheck::address(arguments.admin.as_deref(), surroundings) {
        Ok(address) => address,
        Err(error) => return fail(64, &error, "--admin takes the value of admin.listen"),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return fail(1, &error, "the system refused a runtime; look at its limits"),
    };
    let client = Client::new(address, TIMEOUT);
    let summary = match runtime.block_on(Summary::ask(&client, SystemTime::now())) {
        Ok(summary) => summary,
        Err(error @ SummaryError::Client(_)) => {
            let hint = format!(
                "is it running? --admin tells where: admin.listen in its configuration, {DEFAULT_ADDRESS} if not set"
            );
            return fail(69, &error, &hint);
        }
        Err(error @ SummaryError::Strange { .. }) => return fail(1, &error, "--admin tells where to ask"),
    };
    let text = if arguments.json {
        match serde_json::to_string_pretty(&summary) {
            Ok(text) => text + "\n",
            Err(error) => return fail(1, &error, "this is a bug: please report it"),
        }
    } else {
        summary.to_string()
    };
    // A reader that went away (`| head`) has what it wants.
    let _ = std::io::stdout().write_all(text.as_bytes());
    if summary.readiness.ready { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

#[allow(clippy::print_stderr, reason = "the command line speaks to a person")]
fn fail(code: u8, error: &dyn std::fmt::Display, hint: &str) -> ExitCode {
    eprintln!("error: {error}\nhint: {hint}");
    ExitCode::from(code)
}
