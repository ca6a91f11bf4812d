//! `cargo xtask bench --quick`: the gateway beside other proxies, in one run, on this machine.
//!
//! The figure is the CPU time of the proxy's process tree for each request: it does not depend on which side saturates.
//! Absolute numbers move with the machine; ratios inside one run hold. So every proxy gets every workload in turn, round
//! by round, one worker on core 0, load and origin on core 1, on loopback in a network of their own.

mod certs;
mod load;
pub(crate) mod measure;
pub(crate) mod network;
mod peers;
mod report;

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use anyhow::Context as _;

use crate::process::{self, Service};
use crate::{components, http, workspace};
use peers::{Proxy, Setup};
use report::{Idle, Report, Sample};

/// The core of the proxies, and that of load and origin.
const PROXY_CORE: &str = "0";
const LOAD_CORE: &str = "1";

/// Rounds of a quick run: enough for a median.
const ROUNDS: usize = 3;

/// Idle connections that are held open to see what one costs.
const IDLE_CONNECTIONS: usize = 1000;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Three workloads, three rounds: about three minutes and the time to build.
    #[arg(long, required = true)]
    quick: bool,
    /// Which proxies take part.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "meshless,nginx,haproxy")]
    proxies: Vec<Proxy>,
    /// Which workloads are run.
    #[arg(long, value_enum, value_delimiter = ',', default_value = "w1,w2,w4")]
    workloads: Vec<Workload>,
    /// Another gateway than the one that is built here.
    #[arg(long, value_name = "FILE")]
    meshless: Option<PathBuf>,
    /// We are inside the network of our own already.
    #[arg(long, hide = true)]
    inside: bool,
}

/// What is done to a proxy; the names are those of the performance paper.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Workload {
    /// HTTP/1.1 to HTTP/1.1, 1 KiB, 64 connections.
    W1,
    /// HTTP/2 in clear to HTTP/1.1, 1 KiB, 8 connections of 16 streams.
    W2,
    /// Client to A, mTLS to B, origin; HTTP/1.1, 1 KiB, 64 connections; both proxies counted.
    W4,
}

impl Workload {
    /// Returns what it is, in a table's cell.
    fn title(self) -> &'static str {
        match self {
            Self::W1 => "W1 h1→h1, 1 KiB, 64 connections",
            Self::W2 => "W2 h2c→h1, 1 KiB, 8 × 16 streams",
            Self::W4 => "W4 client→A→mTLS→B→origin, 64 connections",
        }
    }
}

/// Builds what is measured, then goes on inside a network of its own.
pub(crate) fn run(arguments: &Arguments) -> anyhow::Result<()> {
    anyhow::ensure!(arguments.quick, "only the quick benchmark is built: cargo xtask bench --quick");
    if arguments.inside {
        return inside(arguments);
    }
    components::prepare()?;
    let meshless = match &arguments.meshless {
        Some(file) => file.canonicalize().with_context(|| format!("find {}", file.display()))?,
        None => workspace::target()?.join("release/meshless"),
    };
    if arguments.meshless.is_none() && arguments.proxies.contains(&Proxy::Meshless) {
        process::run(workspace::cargo().args(["build", "--release", "--bin", "meshless"]))?;
    }
    let mut again = vec!["bench".to_owned(), "--quick".into(), "--inside".into()];
    again.push(format!("--meshless={}", meshless.display()));
    again.push(format!("--proxies={}", names(&arguments.proxies)));
    again.push(format!("--workloads={}", names(&arguments.workloads)));
    network::enter(&again)
}

/// Measures, prints the table, and writes it as Markdown and JSON.
fn inside(arguments: &Arguments) -> anyhow::Result<()> {
    let start = Instant::now();
    network::prepare()?;
    anyhow::ensure!(
        std::thread::available_parallelism().is_ok_and(|cores| cores.get() >= 2),
        "the benchmark needs two cores: one for the proxy, one for load and origin"
    );
    let folder = workspace::target()?.join("bench");
    std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
    let setup = Setup {
        meshless: arguments.meshless.clone().context("no gateway was given")?,
        certs: certs::write(&folder.join("certs"))?,
        folder: folder.clone(),
    };
    let origin_address = http::free_address()?;
    let mut origin = start_pinned("the origin", &setup.origin(origin_address)?, LOAD_CORE, &folder)?;
    wait_for_ok(&mut origin, origin_address)?;

    let mut report = Report::default();
    for proxy in &arguments.proxies {
        report.idle.push(idle(&setup, *proxy, origin_address)?);
    }
    for round in 1..=ROUNDS {
        for workload in &arguments.workloads {
            for proxy in &arguments.proxies {
                let sample = sample(&setup, *proxy, *workload, round, origin_address)?;
                println!("round {round} {workload:?} {:<9} {}", proxy.name(), sample.summary());
                report.samples.push(sample);
            }
        }
    }
    report.seconds = start.elapsed().as_secs_f64();
    report.versions = arguments.proxies.iter().map(|proxy| (proxy.name(), proxy.version(&setup))).collect();

    let table = report.markdown(&arguments.proxies);
    println!("\n{table}");
    std::fs::write(folder.join("quick.md"), &table).context("write the table")?;
    let json = serde_json::to_string_pretty(&report.json()).context("write the figures as JSON")?;
    std::fs::write(folder.join("quick.json"), json + "\n").context("write the figures")?;
    println!("written to {} and quick.json beside it", folder.join("quick.md").display());
    Ok(())
}

/// Starts a proxy anew, warms it up, and measures one workload for some seconds.
fn sample(setup: &Setup, proxy: Proxy, workload: Workload, round: usize, origin: SocketAddr) -> anyhow::Result<Sample> {
    let (address, services) = start(setup, proxy, workload, origin)?;
    let roots: Vec<u32> = services.iter().map(Service::id).collect();
    load::run(workload, address, Duration::from_secs(1))?;
    let before = measure::cpu_time(&roots)?;
    let outcome = load::run(workload, address, Duration::from_secs(4))?;
    let spent = measure::cpu_time(&roots)?.saturating_sub(before);
    Ok(Sample::new(proxy, workload, round, spent, outcome))
}

/// Sees what an idle proxy and an idle connection cost.
fn idle(setup: &Setup, proxy: Proxy, origin: SocketAddr) -> anyhow::Result<Idle> {
    let (address, services) = start(setup, proxy, Workload::W1, origin)?;
    let roots: Vec<u32> = services.iter().map(Service::id).collect();
    let before = measure::settled_memory(&roots)?;
    let mut open = Vec::new();
    for _ in 0..IDLE_CONNECTIONS {
        open.push(http::open_idle(address)?);
    }
    let after = measure::settled_memory(&roots)?;
    drop(open);
    let idle = Idle { proxy, resident: before, each: after.saturating_sub(before) / IDLE_CONNECTIONS as u64 };
    println!("idle {:<9} {}", proxy.name(), idle.summary());
    Ok(idle)
}

/// Starts the processes of a proxy for a workload and waits until the first one answers.
fn start(
    setup: &Setup,
    proxy: Proxy,
    workload: Workload,
    origin: SocketAddr,
) -> anyhow::Result<(SocketAddr, Vec<Service>)> {
    let mut services = Vec::new();
    let (address, commands) = setup.commands(proxy, workload, origin)?;
    for (name, command) in commands {
        services.push(start_pinned(&name, &command, PROXY_CORE, &setup.folder)?);
    }
    let first = services.last_mut().context("a proxy has at least one process")?;
    match workload {
        Workload::W1 | Workload::W4 => wait_for_ok(first, address)?,
        // A listener that is told to speak HTTP/2 answers no HTTP/1.1: a connection must do.
        Workload::W2 => {
            first.until(Duration::from_secs(10), |_| std::net::TcpStream::connect(address).map(drop).ok())?;
        }
    }
    Ok((address, services))
}

fn wait_for_ok(service: &mut Service, address: SocketAddr) -> anyhow::Result<()> {
    service
        .until(Duration::from_secs(10), |_| http::status(address, "/").ok().filter(|status| *status == 200))
        .map(drop)
}

/// Starts a process that stays on one core, with all its children.
fn start_pinned(name: &str, command: &Command, core: &str, folder: &Path) -> anyhow::Result<Service> {
    let mut pinned = Command::new("taskset");
    pinned.args(["--cpu-list", core]).arg(command.get_program()).args(command.get_args());
    Service::start(name, &mut pinned, &folder.join(format!("{}.log", name.replace(' ', "-"))))
}

fn names<V: clap::ValueEnum>(values: &[V]) -> String {
    let names = values.iter().filter_map(V::to_possible_value).map(|value| value.get_name().to_owned());
    names.collect::<Vec<_>>().join(",")
}
