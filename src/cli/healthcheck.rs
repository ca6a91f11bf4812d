//! `meshless healthcheck`: a probe for images that have no shell and no curl.

use std::process::ExitCode;
use std::time::Duration;

use meshless::admin::client::{Client, ClientError, DEFAULT_ADDRESS, parse_address};
use meshless::config::ListenAddress;
use meshless_platforms::Surroundings;

/// Tells whether a running gateway is ready: exit code 0 yes, 1 no or no answer.
#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Its admin or probes listener: IP:PORT or unix:PATH (default: what the environment configures, else 127.0.0.1:9990)
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) admin: Option<String>,
    /// Asks only whether the process answers.
    #[arg(long)]
    pub(crate) live: bool,
}

/// Shorter than the limits that Docker, ECS (5 s) and Kubernetes set in practice, so that the line is still seen.
const TIMEOUT: Duration = Duration::from_secs(3);

/// Asks and prints one line.
#[allow(clippy::print_stdout, reason = "the command line speaks to a person")]
pub(crate) fn run(arguments: &Arguments, surroundings: &dyn Surroundings) -> ExitCode {
    match ask(arguments, surroundings) {
        Ok(line) => {
            println!("{line}");
            ExitCode::SUCCESS
        }
        Err(line) => {
            // On standard output as well: that is what Docker and ECS keep of a failed check.
            println!("{line}");
            ExitCode::FAILURE
        }
    }
}

fn ask(arguments: &Arguments, surroundings: &dyn Surroundings) -> Result<String, String> {
    let address = address(arguments.admin.as_deref(), surroundings).map_err(|error| error.to_string())?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| format!("the system refused a runtime: {error}"))?;
    let client = Client::new(address, TIMEOUT);
    let (path, good) = if arguments.live { ("/live", "live") } else { ("/ready", "ready") };
    let reply = runtime.block_on(client.get(path)).map_err(|error| error.to_string())?;
    if reply.status.is_success() { Ok(good.into()) } else { Err(reply.failure(good)) }
}

/// Returns where to ask: what was said, else what the environment configures, else the default.
pub(crate) fn address(said: Option<&str>, surroundings: &dyn Surroundings) -> Result<ListenAddress, ClientError> {
    match said {
        Some(said) => parse_address(said),
        None => match surroundings.variable("MESHLESS__ADMIN__LISTEN") {
            Some(variable) => parse_address(&variable),
            None => parse_address(DEFAULT_ADDRESS),
        },
    }
}

#[cfg(test)]
mod tests {
    use meshless_platforms::Scripted;

    use super::*;

    #[test]
    fn what_is_said_wins_over_the_environment_and_that_over_the_default() {
        let configured = Scripted([("MESHLESS__ADMIN__LISTEN".into(), "unix:/run/a.sock".into())].into());
        let asked = |said, surroundings| address(said, surroundings).map(|address| address.to_string()).ok();
        assert_eq!(asked(Some("127.0.0.1:1"), &configured).as_deref(), Some("127.0.0.1:1"));
        assert_eq!(asked(None, &configured).as_deref(), Some("unix:/run/a.sock"));
        assert_eq!(asked(None, &Scripted::default()).as_deref(), Some("127.0.0.1:9990"));
    }

    #[test]
    fn an_address_that_is_none_fails_with_one_line() {
        let arguments = Arguments { admin: Some("nowhere".into()), live: false };
        let line = ask(&arguments, &Scripted::default()).unwrap_err();
        assert!(line.contains("`nowhere`") && !line.contains('\n'), "{line}");
    }
}
