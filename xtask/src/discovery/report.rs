//! The figures as a page, and as JSON.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use serde_json::{Value, json};

use super::{delay, ecs, scale, tiers};
use crate::places::Kind;

/// All figures of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Of the day on which it was run.
    pub(super) date: String,
    pub(super) tiers: Option<tiers::Figures>,
    pub(super) delays: Vec<delay::Figures>,
    pub(super) scale: Vec<scale::Cost>,
    pub(super) ecs: Option<ecs::Figures>,
}

impl Report {
    /// Returns the whole of docs/discovery-figures.md.
    pub(super) fn page(&self) -> String {
        format!(
            "<!-- Made by `cargo xtask discovery`; change xtask/src/discovery/report.rs instead. -->\n\
             # Discovery in figures\n\n\
             What looking endpoints up costs, and how soon a change is used. Made again by one command, as root on Linux:\n\n\
             \x20   cargo xtask discovery\n\n\
             {}\n\
             {}: {} cores that registries, endpoints, load and gateways share. Read the figures beside each other; on another machine \
             all of them are others. What happens while a registry fails stands in [outages.md](outages.md).\n",
            self.sections(),
            self.date,
            std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        )
    }

    /// Returns the sections of what was measured.
    pub(super) fn sections(&self) -> String {
        let mut text = String::new();
        if let Some(figures) = &self.tiers {
            text.push_str(&tiers_section(figures));
        }
        if !self.delays.is_empty() {
            text.push_str(&delay_section(&self.delays));
        }
        if !self.scale.is_empty() {
            text.push_str(&scale_section(&self.scale));
        }
        if let Some(figures) = &self.ecs {
            text.push_str(&ecs_section(figures));
        }
        text
    }

    /// Returns every figure.
    pub(super) fn json(&self) -> Value {
        json!({
            "date": self.date,
            "tiers": self.tiers.as_ref().map(tiers::Figures::json),
            "scale": self.scale.iter().map(scale::Cost::json).collect::<Value>(),
            "ecs": self.ecs.as_ref().map(ecs::Figures::json),
            "delays": self.delays.iter().map(delay::Figures::json).collect::<Value>(),
        })
    }
}

fn tiers_section(figures: &tiers::Figures) -> String {
    let mut text = format!(
        "## One name over platforms\n\n\
         `{}`, four endpoints in each tier, 200 requests a second for {:.0} s: {} requests, **{} that a client saw fail**. Tiers \
         are made half unhealthy (says the registry), lost (the endpoints are killed, then the registry lists none) and \
         restored. Shares differ from the formula by {:.1} percent points at most.\n\n\
         | endpoints that are well | expected, % | measured, % | requests | followed after |\n|---|---|---|---|---|\n",
        figures.target,
        figures.seconds,
        figures.requests,
        figures.errors.len(),
        figures.deviation()
    );
    let list = |shares: &[f64]| shares.iter().map(|share| format!("{share:.1}")).collect::<Vec<_>>().join(" / ");
    for phase in &figures.phases {
        let healthy = phase.healthy.iter().map(ToString::to_string).collect::<Vec<_>>().join(" / ");
        let _ = writeln!(
            text,
            "| {healthy} | {} | {} | {} | {:.1} s |",
            list(&phase.expected),
            list(&phase.measured),
            phase.counted,
            phase.followed
        );
    }
    for error in figures.errors.iter().take(10) {
        let _ = writeln!(text, "\n- failed: {error}");
    }
    text.push_str(
        "\nThe formula is that of Envoy's documentation (*Priority levels*), overprovisioning factor 1.4, written a second time \
         in the harness. *Followed after* is until the gateway says that it uses what the change left; ECS is polled every \
         1–2 s here.\n\n",
    );
    text
}

fn delay_section(delays: &[delay::Figures]) -> String {
    let mut text = format!(
        "## From a change to the first request\n\n\
         One more endpoint is listed; until it gets its first request of 500 a second, from before the registry was told. \
         {} changes each, 2 to 3 s apart.\n\n\
         | place | median | longest | errors of clients | why |\n|---|---|---|---|---|\n",
        delay::ROUNDS
    );
    for figures in delays {
        let _ = writeln!(
            text,
            "| {} | {:.0} ms | {:.0} ms | {} | {} |",
            figures.kind.title(),
            figures.median() * 1000.0,
            figures.longest() * 1000.0,
            figures.errors,
            why(figures.kind)
        );
    }
    text.push_str(
        "\nWhat others document for theirs:\n\n\
         | | how it learns of a change | source |\n|---|---|---|\n\
         | Traefik, Consul Catalog | polls every 15 s (`refreshInterval`), then waits up to 2 s (`providersThrottleDuration`) | Traefik's \
         reference, *Traefik & Consul Catalog* |\n\
         | Traefik, ECS | polls every 15 s (`refreshSeconds`), the same 2 s | Traefik's reference, *Traefik & AWS ECS* |\n\
         | fabio, Consul | a blocking query on the state of all checks, then one query for each service; or polls \
         (`registry.consul.pollInterval`) | *fabio.properties*, fabio's pull request 572 |\n\n\
         A poll every 15 s is 7.5 s on average before anything else is done.\n\n",
    );
    text
}

fn scale_section(costs: &[scale::Cost]) -> String {
    let mut text = format!(
        "## Thousands of services in Consul\n\n\
         A real agent, a server in memory, with {services} services of {instances} instances; the gateway watches {watched} of \
         them ({all} endpoints). At rest for {seconds} s, then {changes} instances of watched services a second come or go. An agent \
         takes 200 connections of one client as shipped (`limits.http_max_conns_per_client`); the gateway holds 150 \
         blocking queries by itself and polls the rest of its targets in turn.\n\n\
         | | CPU of the gateway | its memory | CPU of Consul | its memory | requests a minute | connections | all known after | errors |\n\
         |---|---|---|---|---|---|---|---|---|\n",
        services = scale::SERVICES,
        instances = scale::INSTANCES,
        watched = scale::WATCHED,
        all = scale::WATCHED * scale::INSTANCES,
        seconds = scale::LENGTH.as_secs(),
        changes = scale::CHANGES,
    );
    for cost in costs {
        let _ = writeln!(text, "| {} |", cost.row());
    }
    text.push_str(
        "\nCPU in percent of one core. *All known after*: at rest from the start of the gateway, else from the last change. *Errors* are \
         answers of the agent that failed.\n\n",
    );
    text
}

fn ecs_section(figures: &ecs::Figures) -> String {
    let sum = |calls: &BTreeMap<String, f64>| calls.values().sum::<f64>();
    let (rest, deploy) = (ecs::traefik(0.0), ecs::traefik(figures.replaced));
    let mut text = format!(
        "## Calls of the ECS API\n\n\
         {} services with {} tasks on Fargate in one cluster, all of them followed with the defaults (10 s while tasks change, up to \
         60 s at rest): {} s at rest, a deploy that replaces every task in as long by one of a new definition, and one that replaces them \
         by tasks of the same definition. At rest **{:.0}** calls a minute instead of {:.0}, in the deploy **{:.0}** instead of {:.0}, in \
         the second one **{:.0}** instead of {:.0}. The first was known {:.1} s after its last task.\n\n\
         | calls a minute | at rest | Traefik | deploy | Traefik | the same again | Traefik |\n|---|---|---|---|---|---|---|\n",
        ecs::SERVICES,
        ecs::TASKS,
        ecs::LENGTH.as_secs(),
        sum(&figures.rest),
        sum(&rest),
        sum(&figures.deploy),
        sum(&deploy),
        sum(&figures.again),
        sum(&deploy),
        figures.followed
    );
    let actions: BTreeSet<&String> = figures.rest.keys().chain(figures.deploy.keys()).chain(rest.keys()).collect();
    let of = |calls: &BTreeMap<String, f64>, action: &String| calls.get(action).copied().unwrap_or_default();
    for action in actions {
        let cells = [&figures.rest, &rest, &figures.deploy, &deploy, &figures.again, &deploy]
            .map(|calls| format!("{:.1}", of(calls, action)));
        let _ = writeln!(text, "| `{action}` | {} |", cells.join(" | "));
    }
    text.push_str(
        "\nTraefik's columns are arithmetic, not a measurement: `refreshSeconds` 15, pages of 100, one `DescribeTaskDefinition` for each \
         task that is new, kept for 30 minutes under the ARN of the task (Traefik's issue 13884, opened with 536 services and 559 \
         tasks). The limits of AWS are those of an account and region, whoever calls.\n\n",
    );
    text
}

/// Says what the time is made of.
fn why(kind: Kind) -> &'static str {
    match kind {
        Kind::File => "the directory is watched, and read when it was quiet for 100 ms",
        Kind::Consul | Kind::ConsulAgent => "a blocking query",
        Kind::Kubernetes => "a watch",
        Kind::Cloudmap | Kind::Ecs => {
            "polled, here every 1–2 s (`min_interval`, `max_interval`; defaults 5–30 s and 10–60 s)"
        }
        Kind::Dns => "answers hold at least `min_ttl`, here 1 s (default 5 s), and a tenth more",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_has_what_was_measured() {
        let phase = tiers::Phase {
            healthy: vec![2, 4],
            expected: vec![70.0, 30.0],
            measured: vec![69.0, 31.0],
            counted: 1000,
            followed: 0.25,
        };
        let tiers = tiers::Figures {
            target: "a | b".into(),
            seconds: 60.4,
            requests: 12_000,
            errors: Vec::new(),
            phases: vec![phase],
        };
        let delays = vec![delay::Figures { kind: Kind::File, seconds: vec![0.1, 0.12, 0.2], errors: 0 }];
        let page = Report { date: "today".into(), tiers: Some(tiers), delays, ..Report::default() }.page();
        assert!(page.contains("| 2 / 4 | 70.0 / 30.0 | 69.0 / 31.0 | 1000 | 0.2 s |"), "{page}");
        assert!(page.contains("by 1.0 percent points"), "{page}");
        assert!(page.contains("| `file` | 120 ms | 200 ms | 0 |"), "{page}");
    }
}
