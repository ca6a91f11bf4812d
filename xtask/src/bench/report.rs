//! Medians with their spread, and ratios, in one table.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::load::Outcome;
use super::peers::Proxy;
use super::{IDLE_CONNECTIONS, ROUNDS, Workload};

/// One measured run of one workload.
#[derive(Debug, Clone)]
pub(super) struct Sample {
    proxy: Proxy,
    workload: Workload,
    round: usize,
    /// CPU time of the proxy's processes for each completed request, in microseconds.
    cost: f64,
    outcome: Outcome,
}

/// What an idle proxy and an idle connection cost, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Idle {
    pub(super) proxy: Proxy,
    pub(super) resident: u64,
    pub(super) each: u64,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) samples: Vec<Sample>,
    pub(super) idle: Vec<Idle>,
    pub(super) versions: Vec<(&'static str, String)>,
    pub(super) seconds: f64,
}

/// The middle of some figures, and the outermost ones.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Spread {
    low: f64,
    median: f64,
    high: f64,
}

impl Sample {
    pub(super) fn new(proxy: Proxy, workload: Workload, round: usize, spent: Duration, outcome: Outcome) -> Self {
        let cost = spent.as_secs_f64() * 1e6 / outcome.completed.max(1) as f64;
        Self { proxy, workload, round, cost, outcome }
    }

    pub(super) fn summary(&self) -> String {
        format!("{:>6.2} µs CPU per request, {:>7.0} requests/s", self.cost, self.outcome.rate)
    }
}

impl Idle {
    pub(super) fn summary(&self) -> String {
        format!("{:.1} MiB resident, {:.1} KiB for each idle connection", self.mebibytes(), self.kibibytes())
    }

    fn mebibytes(&self) -> f64 {
        self.resident as f64 / (1024.0 * 1024.0)
    }

    fn kibibytes(&self) -> f64 {
        self.each as f64 / 1024.0
    }
}

impl Spread {
    fn of(mut figures: Vec<f64>) -> Option<Self> {
        figures.sort_by(f64::total_cmp);
        let middle = figures.len() / 2;
        let upper = *figures.get(middle)?;
        let median = if figures.len() % 2 == 1 { upper } else { f64::midpoint(*figures.get(middle - 1)?, upper) };
        Some(Self { low: *figures.first()?, median, high: *figures.last()? })
    }
}

impl Report {
    /// Returns the table, with the gateway's share of each peer's cost.
    pub(super) fn markdown(&self, proxies: &[Proxy]) -> String {
        let peers: Vec<Proxy> = proxies.iter().copied().filter(|proxy| *proxy != Proxy::Meshless).collect();
        let peers = if proxies.contains(&Proxy::Meshless) { peers } else { Vec::new() };
        let mut text = String::from("| ");
        for name in proxies.iter().map(|proxy| proxy.name()) {
            let _ = write!(text, "| {name} ");
        }
        for name in peers.iter().map(|proxy| proxy.name()) {
            let _ = write!(text, "| meshless ÷ {name} ");
        }
        let _ = writeln!(text, "|\n|---{}|", "|---".repeat(proxies.len() + peers.len()));

        for workload in self.workloads() {
            let _ = write!(text, "| {}, µs CPU per request ", workload.title());
            for proxy in proxies {
                let _ = match self.cost(*proxy, workload) {
                    Some(Spread { low, median, high }) => write!(text, "| {median:.1} ({low:.1}–{high:.1}) "),
                    None => write!(text, "| – "),
                };
            }
            let ratio =
                |peer: &Proxy| Some(self.cost(Proxy::Meshless, workload)?.median / self.cost(*peer, workload)?.median);
            ratios(&mut text, &peers, ratio);
        }
        self.memory(&mut text, proxies, &peers, "resident memory, idle, MiB", Idle::mebibytes);
        self.memory(&mut text, proxies, &peers, "each idle connection, KiB", Idle::kibibytes);

        let versions: Vec<String> = self.versions.iter().map(|(name, version)| format!("{name} {version}")).collect();
        let _ = writeln!(
            text,
            "\nMedian (lowest–highest) of {ROUNDS} interleaved rounds, {:.0} s in all; one worker on core 0, load and \
             origin on core 1; both proxies of W4 are counted; {IDLE_CONNECTIONS} idle connections that had one request \
             each. {}.",
            self.seconds,
            versions.join(", ")
        );
        text
    }

    /// Returns every figure of every round.
    pub(super) fn json(&self) -> Value {
        let samples = self.samples.iter().map(|sample| {
            json!({
                "proxy": sample.proxy.name(),
                "workload": format!("{:?}", sample.workload),
                "round": sample.round,
                "cpu_microseconds_per_request": sample.cost,
                "requests": sample.outcome.completed,
                "requests_per_second": sample.outcome.rate,
            })
        });
        let idle = self.idle.iter().map(|idle| {
            json!({
                "proxy": idle.proxy.name(),
                "resident_bytes": idle.resident,
                "bytes_per_idle_connection": idle.each,
            })
        });
        json!({
            "seconds": self.seconds,
            "versions": self.versions.iter().map(|(name, version)| json!({ "proxy": name, "version": version })).collect::<Value>(),
            "samples": samples.collect::<Value>(),
            "idle": idle.collect::<Value>(),
        })
    }

    fn memory(&self, text: &mut String, proxies: &[Proxy], peers: &[Proxy], title: &str, figure: fn(&Idle) -> f64) {
        let of = |proxy: &Proxy| self.idle.iter().find(|idle| idle.proxy == *proxy).map(figure);
        let _ = write!(text, "| {title} ");
        for proxy in proxies {
            text.push_str(&cell(of(proxy), 1));
        }
        ratios(text, peers, |peer| Some(of(&Proxy::Meshless)? / of(peer)?));
    }

    fn workloads(&self) -> Vec<Workload> {
        let mut workloads: Vec<Workload> = self.samples.iter().map(|sample| sample.workload).collect();
        workloads.sort_unstable();
        workloads.dedup();
        workloads
    }

    fn cost(&self, proxy: Proxy, workload: Workload) -> Option<Spread> {
        let wanted = self.samples.iter().filter(|sample| sample.proxy == proxy && sample.workload == workload);
        Spread::of(wanted.map(|sample| sample.cost).collect())
    }
}

/// Ends a row with the gateway's share of each peer's cost.
fn ratios(text: &mut String, peers: &[Proxy], ratio: impl Fn(&Proxy) -> Option<f64>) {
    for peer in peers {
        text.push_str(&cell(ratio(peer), 2));
    }
    text.push_str("|\n");
}

fn cell(figure: Option<f64>, digits: usize) -> String {
    figure.map_or_else(|| "| – ".into(), |figure| format!("| {figure:.digits$} "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(proxy: Proxy, round: usize, microseconds: u64) -> Sample {
        let outcome = Outcome { completed: 1000, rate: 1000.0 };
        Sample::new(proxy, Workload::W1, round, Duration::from_millis(microseconds), outcome)
    }

    #[test]
    fn the_median_is_the_middle_one() {
        assert_eq!(Spread::of(vec![3.0, 1.0, 2.0]), Some(Spread { low: 1.0, median: 2.0, high: 3.0 }));
        assert_eq!(Spread::of(vec![4.0, 2.0]), Some(Spread { low: 2.0, median: 3.0, high: 4.0 }));
        assert_eq!(Spread::of(Vec::new()), None);
    }

    #[test]
    fn the_table_has_a_ratio_for_each_peer() {
        let proxies = [Proxy::Meshless, Proxy::Nginx];
        let samples = vec![sample(Proxy::Meshless, 1, 10), sample(Proxy::Nginx, 1, 20), sample(Proxy::Nginx, 2, 30)];
        let table = Report { samples, ..Report::default() }.markdown(&proxies);
        assert!(table.starts_with("| | meshless | nginx | meshless ÷ nginx |\n|---|---|---|---|\n"), "{table}");
        assert!(table.contains("µs CPU per request | 10.0 (10.0–10.0) | 25.0 (20.0–30.0) | 0.40 |"), "{table}");
    }

    #[test]
    fn without_the_gateway_there_is_no_ratio() {
        let table =
            Report { samples: vec![sample(Proxy::Nginx, 1, 20)], ..Report::default() }.markdown(&[Proxy::Nginx]);
        assert!(!table.contains('÷'), "{table}");
    }
}
