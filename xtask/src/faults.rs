//! `cargo xtask faults`: what clients see while endpoints fail, with the gateway and with Envoy.
//!
//! Endpoints are processes of their own, killed and frozen by signals and told by a control port to be slow or to fail.
//! Requests arrive at a steady rate; tries are counted off the wire. Proxies take turns, case by case, in a network of
//! their own.

mod case;
mod endpoint;
mod figures;
mod peers;
mod report;
pub(crate) mod wire;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use clap::ValueEnum as _;

use crate::bench::network;
use crate::load::{self, Outcome};
use crate::process::{self, Service};
use crate::{components, http, workspace};
use case::{Case, ENDPOINTS, FIRST_TIER, TIMES};
use endpoint::Endpoint;
use figures::{Figures, Try};
use peers::{Proxy, Setup};
use report::{Measured, Report};
use wire::{Kind, Seen, Tap};

pub(crate) use endpoint::{Arguments as EndpointArguments, serve as endpoint};

/// The page that a whole run writes.
const PAGE: &str = "docs/faults.md";

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Only these cases; the page is not written then.
    #[arg(long, value_enum, value_delimiter = ',')]
    cases: Vec<Case>,
    /// Only these proxies; the page is not written then.
    #[arg(long, value_enum, value_delimiter = ',')]
    proxies: Vec<Proxy>,
    /// Requests a second.
    #[arg(long, default_value_t = 500)]
    rate: u32,
    /// More lines for the gateway's service, to try settings out; the page is not written then.
    #[arg(long, value_name = "TOML", default_value = "")]
    policies: String,
    /// Another gateway than the one that is built here.
    #[arg(long, value_name = "FILE")]
    meshless: Option<PathBuf>,
    /// Where Envoy is; given by ourselves.
    #[arg(long, hide = true)]
    envoy: Option<PathBuf>,
    /// We are inside the network of our own already.
    #[arg(long, hide = true)]
    inside: bool,
}

/// Builds what is measured, then goes on inside a network of its own.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    if arguments.inside {
        return inside(arguments);
    }
    let envoy = components::envoy()?;
    let meshless = if let Some(file) = &arguments.meshless {
        file.canonicalize().with_context(|| format!("find {}", file.display()))?
    } else {
        process::run(workspace::cargo().args(["build", "--profile", "quick-release", "--bin", "meshless"]))?;
        workspace::target()?.join("quick-release/meshless")
    };
    let mut again = vec!["faults".to_owned(), "--inside".into(), format!("--rate={}", arguments.rate)];
    again.push(format!("--meshless={}", meshless.display()));
    again.push(format!("--envoy={}", envoy.display()));
    again.push(format!("--policies={}", arguments.policies));
    again.extend(given("cases", &arguments.cases));
    again.extend(given("proxies", &arguments.proxies));
    network::enter(&again)
}

/// Measures, prints the table, and writes it as a page and as JSON.
fn inside(arguments: &Arguments) -> anyhow::Result<()> {
    network::prepare()?;
    let folder = workspace::target()?.join("faults");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let setup = Setup {
        meshless: arguments.meshless.clone().context("no gateway was given")?,
        envoy: arguments.envoy.clone().context("no Envoy was given")?,
        policies: arguments.policies.clone(),
        folder,
    };
    let is_whole = arguments.cases.is_empty() && arguments.proxies.is_empty() && arguments.policies.is_empty();
    let cases = if arguments.cases.is_empty() { Case::value_variants() } else { &arguments.cases };
    let proxies = if arguments.proxies.is_empty() { Proxy::value_variants() } else { &arguments.proxies };

    let mut report = Report { rate: arguments.rate, date: date()?, ..Report::default() };
    for proxy in proxies {
        report.versions.push((*proxy, proxy.version(&setup)?));
    }
    for case in cases {
        for proxy in proxies {
            let figures = measure(&setup, *case, *proxy, arguments.rate)
                .with_context(|| format!("{}, {}", case.title(), proxy.name()))?;
            println!("{:<40} {:<9} {}", case.title(), proxy.name(), figures.json());
            report.measured.push(Measured { case: *case, proxy: *proxy, figures });
        }
    }

    println!("\n{}", report.table());
    let json = serde_json::to_string_pretty(&report.json()).context("write the figures as JSON")?;
    std::fs::write(setup.folder.join("faults.json"), json + "\n").context("write the figures")?;
    if is_whole {
        std::fs::write(workspace::root().join(PAGE), report.page()).context("write the page")?;
        println!("written to {PAGE}");
    }
    println!("raw figures: {}", setup.folder.display());
    Ok(())
}

/// Runs one case with one proxy.
fn measure(setup: &Setup, case: Case, proxy: Proxy, rate: u32) -> anyhow::Result<Figures> {
    let mut endpoints = Vec::new();
    for _ in 0..ENDPOINTS {
        endpoints.push(Endpoint::start(&setup.folder)?);
    }
    let addresses: Vec<SocketAddr> = endpoints.iter().map(|endpoint| endpoint.address).collect();
    let tiers: Vec<Vec<SocketAddr>> = if case == Case::Tier {
        let (first, second) = addresses.split_at(FIRST_TIER);
        vec![first.into(), second.into()]
    } else {
        vec![addresses.clone()]
    };
    let (address, mut command) = proxy.command(setup, &tiers)?;
    let log = setup.folder.join(format!("{}.log", proxy.name()));
    let mut service = Service::start(proxy.name(), &mut command, &log)?;
    service.until(Duration::from_secs(10), |_| http::status(address, "/").ok().filter(|status| *status == 200))?;

    let start = Instant::now();
    let tap = Tap::start(addresses.iter().map(SocketAddr::port).collect(), start)?;
    let outcomes = std::thread::scope(|scope| {
        let load = scope.spawn(|| drive(address, rate, start));
        let struck = endpoints.get_mut(..case.bad()).context("there are fewer endpoints")?;
        process::pause(TIMES.fault.saturating_sub(start.elapsed()));
        for endpoint in &mut *struck {
            case.strike(endpoint)?;
        }
        process::pause(TIMES.heal.saturating_sub(start.elapsed()));
        for endpoint in &mut *struck {
            case.heal(endpoint, &setup.folder)?;
        }
        load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?
    })?;
    let seen = tap.finish()?;
    let bad: Vec<u16> = addresses.iter().take(case.bad()).map(SocketAddr::port).collect();
    let tries = tries(&seen, &bad, case);
    std::fs::write(
        setup.folder.join(format!("{case:?}-{}.json", proxy.name())),
        serde_json::json!({
            "outcomes": outcomes.iter().map(|outcome| (outcome.due, outcome.latency, format!("{:?}", outcome.end))).collect::<Vec<_>>(),
            "tries": tries.iter().map(|try_| (try_.at, try_.is_bad)).collect::<Vec<_>>(),
        })
        .to_string(),
    )
    .context("write raw figures")?;
    Ok(Figures::of(&outcomes, &tries, case.fair_share(), TIMES))
}

/// Sends requests until the end of a case, on a runtime of its own.
fn drive(address: SocketAddr, rate: u32, start: Instant) -> anyhow::Result<Vec<Outcome>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    Ok(runtime.block_on(load::run(address, rate, start, |due| due < TIMES.end)))
}

/// A request is a try; so is a connect to where nobody listens. Other connects are for requests that follow.
fn tries(seen: &[Seen], bad: &[u16], case: Case) -> Vec<Try> {
    let dead = TIMES.fault.as_secs_f64()..TIMES.heal.as_secs_f64();
    let counted = seen.iter().filter_map(|segment| {
        let is_bad = bad.contains(&segment.port);
        let is_refused = is_bad && case.is_refusing() && dead.contains(&segment.at);
        (segment.kind == Kind::Request || is_refused).then_some(Try { at: segment.at, is_bad })
    });
    counted.collect()
}

/// Today, in UTC.
pub(crate) fn date() -> anyhow::Result<String> {
    Ok(process::output(Command::new("date").args(["--utc", "+%Y-%m-%d"]))?.trim().to_owned())
}

/// Returns an option with its values, where there are any.
pub(crate) fn given<V: clap::ValueEnum>(option: &str, values: &[V]) -> Option<String> {
    let names = values.iter().filter_map(V::to_possible_value).map(|value| value.get_name().to_owned());
    let names = names.collect::<Vec<_>>().join(",");
    (!names.is_empty()).then(|| format!("--{option}={names}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_connect_is_a_try_and_an_accepted_one_is_not() {
        let seen =
            [(5.0, 1, Kind::Connect), (5.0, 2, Kind::Connect), (5.1, 2, Kind::Request), (12.0, 1, Kind::Connect)]
                .map(|(at, port, kind)| Seen { at, port, kind });
        let refused = Try { at: 5.0, is_bad: true };
        let served = Try { at: 5.1, is_bad: false };
        assert_eq!(tries(&seen, &[1], Case::Killed), [refused, served]);
        assert_eq!(tries(&seen, &[1], Case::Resets), [served]);
    }
}
