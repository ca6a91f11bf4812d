//! Thousands of services in Consul, many of them watched: what it costs, at rest and while they change.

use std::fmt::Write as _;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::bench::measure;
use crate::faults::wire::{Kind, Tap};
use crate::gateway::Gateway;
use crate::places::{Agent, Place as _};
use crate::process;

/// Services in the registry.
pub(super) const SERVICES: usize = 5000;

/// Instances of each.
pub(super) const INSTANCES: usize = 20;

/// Services that the gateway watches.
pub(super) const WATCHED: usize = 1000;

/// Changes of watched services a second.
pub(super) const CHANGES: u32 = 50;

/// How long each figure is taken over.
pub(super) const LENGTH: Duration = Duration::from_mins(1);

/// Longest wait until all is known.
const PATIENCE: Duration = Duration::from_mins(5);

/// How the agent and the gateway are set.
#[derive(Debug, Clone, Copy)]
struct Setting {
    title: &'static str,
    /// Connections that the agent takes from one client; `None`: as shipped.
    connections: Option<u32>,
    /// Lines of the gateway's `[discovery.consul]`.
    gateway: &'static str,
}

const SETTINGS: [Setting; 2] = [
    Setting { title: "limit as shipped (200), defaults", connections: None, gateway: "" },
    Setting { title: "limit 2000, `blocking = 1200`", connections: Some(2000), gateway: "blocking = 1200\n" },
];

/// What it costs for some time.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Cost {
    pub(super) what: String,
    /// CPU time of the gateway, in percent of a core.
    pub(super) gateway_cpu: f64,
    /// Its resident memory, in MiB.
    pub(super) gateway_memory: f64,
    pub(super) consul_cpu: f64,
    pub(super) consul_memory: f64,
    /// Requests to the agent a minute.
    pub(super) requests: f64,
    /// Connections to the agent at the end.
    pub(super) connections: usize,
    /// Seconds until everything was known: from the start, or from the last change.
    pub(super) followed: Option<f64>,
    /// Answers that failed.
    pub(super) errors: f64,
}

impl Cost {
    pub(super) fn row(&self) -> String {
        let followed = self.followed.map_or_else(|| "–".to_owned(), |seconds| format!("{seconds:.1} s"));
        format!(
            "{} | {:.1} % | {:.0} MiB | {:.1} % | {:.0} MiB | {:.0} | {} | {followed} | {:.0}",
            self.what,
            self.gateway_cpu,
            self.gateway_memory,
            self.consul_cpu,
            self.consul_memory,
            self.requests,
            self.connections,
            self.errors
        )
    }

    pub(super) fn json(&self) -> Value {
        json!({
            "what": self.what,
            "gateway_cpu_percent": self.gateway_cpu,
            "gateway_memory_mib": self.gateway_memory,
            "consul_cpu_percent": self.consul_cpu,
            "consul_memory_mib": self.consul_memory,
            "requests_per_minute": self.requests,
            "connections": self.connections,
            "followed_seconds": self.followed,
            "errors": self.errors,
        })
    }
}

/// Measures with each setting; `consul` is the program.
pub(super) fn run(folder: &Path, meshless: &Path, consul: &Path) -> anyhow::Result<Vec<Cost>> {
    let mut costs = Vec::new();
    for (number, setting) in SETTINGS.iter().enumerate() {
        let folder = folder.join(format!("scale-{number}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        println!("{SERVICES} services, {}", setting.title);
        let mut agent = Agent::start(consul, &folder, setting.connections)?;
        fill(&mut agent).context("register the services")?;
        let began = Instant::now();
        let gateway = Gateway::start(meshless, &folder, &configuration(&agent, setting), &[])?;
        gateway.until_usable(WATCHED * INSTANCES, PATIENCE)?;
        let known = began.elapsed().as_secs_f64();
        let mut bench = Bench { agent, gateway, more: vec![false; WATCHED] };
        let mut rest = bench.over(format!("{}: at rest", setting.title), |_| {
            process::pause(LENGTH);
            Ok(None)
        })?;
        rest.followed = Some(known);
        costs.push(rest);
        costs.push(bench.over(format!("{CHANGES} changes a second"), Bench::change)?);
    }
    Ok(costs)
}

fn name(service: usize) -> String {
    format!("service-{service}")
}

/// An address that nobody has; no request is sent.
fn address(service: usize, instance: usize) -> SocketAddr {
    let [.., high, low] = service.to_be_bytes();
    let instance = u16::try_from(instance).unwrap_or_default();
    (Ipv4Addr::new(10, 20, high, low), 8000 + instance).into()
}

fn instance(service: usize, instance: usize) -> Value {
    Agent::instance(&name(service), &format!("{}-{instance}", name(service)), address(service, instance))
}

/// Registers everything.
fn fill(agent: &mut Agent) -> anyhow::Result<()> {
    agent.transact(&[Agent::node()])?;
    for service in 0..SERVICES {
        let instances: Vec<Value> = (0..INSTANCES).map(|number| instance(service, number)).collect();
        agent.transact(&instances)?;
    }
    Ok(())
}

fn configuration(agent: &Agent, setting: &Setting) -> String {
    // The agent's own settings shorten the wait for the sake of outages; costs are those of the defaults.
    let mut text = agent.configuration().replace("wait = \"5s\"\n", "") + setting.gateway;
    for service in 0..WATCHED {
        let name = name(service);
        let _ = write!(
            text,
            "\n[services.{name}]\nfrom = \"consul/{name}\"\n\n[[routes]]\nmatch = {{ host = \"{name}.test\" }}\nto = \"{name}\"\n"
        );
    }
    text
}

struct Bench {
    agent: Agent,
    gateway: Gateway,
    /// Whether a watched service has one more instance than the others.
    more: Vec<bool>,
}

impl Bench {
    /// Takes the figures of what is done for [`LENGTH`].
    fn over(
        &mut self,
        what: String,
        work: impl FnOnce(&mut Self) -> anyhow::Result<Option<f64>>,
    ) -> anyhow::Result<Cost> {
        let (gateway, consul) = (self.gateway.id(), self.agent.id()?);
        let failed = |bench: &Self| -> anyhow::Result<f64> {
            Ok(bench.gateway.metrics()?.sum("meshless_discovery_errors_total", &[]))
        };
        let errors = failed(self)?;
        let began = Instant::now();
        let before = (measure::cpu_time(&[gateway])?, measure::cpu_time(&[consul])?);
        // What the gateway asks is GET, what this harness writes is not.
        let tap = Tap::start(vec![self.agent.port()], began)?;
        let followed = work(self)?;
        let asked = tap.finish()?.iter().filter(|seen| seen.kind == Kind::Request).count();
        let seconds = began.elapsed().as_secs_f64();
        let percent = |now: Duration, then: Duration| now.saturating_sub(then).as_secs_f64() / seconds * 100.0;
        let gateway_cpu = percent(measure::cpu_time(&[gateway])?, before.0);
        let consul_cpu = percent(measure::cpu_time(&[consul])?, before.1);
        let mebibytes = |bytes: u64| bytes as f64 / 1024.0 / 1024.0;
        Ok(Cost {
            what,
            gateway_cpu,
            gateway_memory: mebibytes(measure::settled_memory(&[gateway])?),
            consul_cpu,
            consul_memory: mebibytes(measure::settled_memory(&[consul])?),
            requests: asked as f64 / seconds * 60.0,
            connections: connections(
                &std::fs::read_to_string("/proc/net/tcp").context("list connections")?,
                self.agent.port(),
            ),
            followed,
            errors: failed(self)? - errors,
        })
    }

    /// Adds or takes away one instance of a watched service, again and again, at a steady rate.
    fn change(&mut self) -> anyhow::Result<Option<f64>> {
        let began = Instant::now();
        for number in 0.. {
            let due = Duration::from_secs(1) * number / CHANGES;
            if due >= LENGTH {
                break;
            }
            process::pause(due.saturating_sub(began.elapsed()));
            // A prime: each service has its turn, neighbours do not follow each other.
            let service = usize::try_from(number).unwrap_or_default() * 7919 % WATCHED;
            let Some(more) = self.more.get_mut(service) else { continue };
            let name = name(service);
            let operation = if *more {
                Agent::without(&name, &format!("{name}-{INSTANCES}"))
            } else {
                instance(service, INSTANCES)
            };
            *more = !*more;
            self.agent.transact(&[operation])?;
        }
        let last = Instant::now();
        let more = self.more.iter().filter(|more| **more).count();
        self.gateway.until_usable(WATCHED * INSTANCES + more, PATIENCE)?;
        Ok(Some(last.elapsed().as_secs_f64()))
    }
}

/// Counts established connections to a port of loopback, as their clients see them.
fn connections(table: &str, port: u16) -> usize {
    let remote = format!(":{port:04X}");
    let is_one = |line: &&str| {
        let mut fields = line.split_whitespace().skip(2);
        fields.next().is_some_and(|address| address.ends_with(&remote)) && fields.next() == Some("01")
    };
    table.lines().filter(is_one).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn connections_are_counted_once_and_only_those_that_are_open() {
        let table = "  sl  local_address rem_address   st\n\
             0: 0100007F:1F40 00000000:0000 0A 0\n\
             1: 0100007F:C350 0100007F:1F40 01 0\n\
             2: 0100007F:1F40 0100007F:C350 01 0\n\
             3: 0100007F:C351 0100007F:1F40 06 0\n";
        assert_eq!(connections(table, 8000), 1);
    }

    #[test]
    fn no_two_instances_share_an_address() {
        let all: std::collections::BTreeSet<_> =
            (0..SERVICES).flat_map(|service| (0..INSTANCES).map(move |instance| address(service, instance))).collect();
        assert_eq!(all.len(), SERVICES * INSTANCES);
    }
}
