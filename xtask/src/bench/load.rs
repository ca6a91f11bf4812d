//! Load on a proxy, bounded in time and connections, and what came of it.

use std::net::SocketAddr;
use std::process::Command;
use std::time::Duration;

use anyhow::Context as _;

use super::{LOAD_CORE, Workload};
use crate::process;

/// What a load generator counted.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Outcome {
    /// Requests that were answered as they should be.
    pub(super) completed: u64,
    /// Requests per second.
    pub(super) rate: f64,
}

/// Runs a workload for some time. A single failed request makes the figure worthless and is an error.
pub(super) fn run(workload: Workload, address: SocketAddr, length: Duration) -> anyhow::Result<Outcome> {
    let seconds = length.as_secs();
    let mut command = Command::new("taskset");
    command.args(["--cpu-list", LOAD_CORE]);
    let url = format!("http://{address}/");
    let read = match workload {
        Workload::W1 | Workload::W4 => {
            command.args(["wrk", "--threads", "1", "--connections", "64", "--duration", &format!("{seconds}s"), &url]);
            wrk
        }
        Workload::W2 => {
            command.args(["h2load", "--threads=1", "--clients=8", "--max-concurrent-streams=16"]);
            command.args([&format!("--duration={seconds}"), &url]);
            h2load
        }
    };
    let printed = process::output(&mut command)?;
    let completed = read(&printed).with_context(|| format!("the load on {address} failed:\n{printed}"))?;
    Ok(Outcome { completed, rate: completed as f64 / length.as_secs_f64() })
}

/// Reads wrk's count; `None` where a request failed, or none was done.
fn wrk(printed: &str) -> Option<u64> {
    if printed.contains("Non-2xx or 3xx responses") || printed.contains("Socket errors") {
        return None;
    }
    let line = printed.lines().map(str::trim).find(|line| line.contains(" requests in "))?;
    line.split(' ').next()?.parse().ok().filter(|count| *count > 0)
}

/// Reads h2load's counts. What is under way when the time is over is neither a success nor a failure.
fn h2load(printed: &str) -> Option<u64> {
    let line = printed.lines().find_map(|line| line.strip_prefix("requests: "))?;
    let count = |what: &str| -> Option<u64> {
        let part = line.split(", ").find_map(|part| part.strip_suffix(what))?;
        part.trim().parse().ok()
    };
    let statuses = printed.lines().find_map(|line| line.strip_prefix("status codes: "))?;
    let good: u64 = statuses.split(' ').next()?.parse().ok()?;
    let succeeded = count("succeeded")?;
    let failed = count("failed")? + count("errored")? + count("timeout")?;
    (failed == 0 && succeeded > 0 && good >= succeeded).then_some(succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WRK: &str = "Running 4s test\n  1 threads and 64 connections\n  131072 requests in 4.00s, 150.00MB read\nRequests/sec:  32768.00\n";

    #[test]
    fn wrk_is_read_and_a_failed_request_spoils_it() {
        assert_eq!(wrk(WRK), Some(131_072));
        assert_eq!(wrk(&format!("{WRK}  Non-2xx or 3xx responses: 1\n")), None);
        assert_eq!(wrk(&format!("{WRK}  Socket errors: connect 0, read 3, write 0, timeout 0\n")), None);
        assert_eq!(wrk("  0 requests in 4.00s, 0.00B read\n"), None);
    }

    #[test]
    fn h2load_is_read_and_a_failed_request_spoils_it() {
        let good = "requests: 900 total, 900 started, 900 done, 900 succeeded, 0 failed, 0 errored, 0 timeout\nstatus codes: 900 2xx, 0 3xx, 0 4xx, 0 5xx\n";
        assert_eq!(h2load(good), Some(900));
        assert_eq!(h2load(&good.replace("0 errored", "2 errored")), None);
        assert_eq!(h2load(&good.replace("codes: 900 2xx", "codes: 10 2xx")), None);
    }
}
