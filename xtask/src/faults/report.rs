//! The figures as a page, and as JSON.

use std::fmt::Write as _;
use std::time::Duration;

use serde_json::{Value, json};

use super::case::{Case, ENDPOINTS, FIRST_TIER, TIMES};
use super::endpoint::LATENCY;
use super::figures::{Figures, Latency};
use super::peers::{MESHLESS_POLICIES, Proxy};

/// One case with one proxy.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) case: Case,
    pub(super) proxy: Proxy,
    pub(super) figures: Figures,
}

/// All figures of a run.
#[derive(Debug, Default)]
pub(super) struct Report {
    pub(super) rate: u32,
    /// Of the day on which it was run.
    pub(super) date: String,
    pub(super) versions: Vec<(Proxy, String)>,
    pub(super) measured: Vec<Measured>,
}

impl Report {
    /// Returns the whole of docs/faults.md.
    pub(super) fn page(&self) -> String {
        let seconds = |from: Duration, to: Duration| to.saturating_sub(from).as_secs();
        let versions: Vec<String> =
            self.versions.iter().map(|(proxy, version)| format!("{} {version}", proxy.name())).collect();
        format!(
            "<!-- Made by `cargo xtask faults`; change xtask/src/faults/report.rs instead. -->\n\
             # Faults\n\n\
             What clients see while endpoints fail, with the gateway and with Envoy. Made again by one command, as root on Linux:\n\n\
             \x20   cargo xtask faults\n\n\
             {ENDPOINTS} endpoints answer after {} ms; {} requests arrive every second, whatever became of those before. After {} s a \
             fault begins, after {} s more it ends, and {} s are left to come back. Of the two tiers the first has {FIRST_TIER} endpoints.\n\n\
             {}\n\
             - **errors**: requests, of those that were due during the fault, that did not end with 200; behind the plus, those \
             that were due after it.\n\
             - **p50, p99**: milliseconds from when a request was due until its answer, whatever that was, before, during and \
             after the fault. A request that is late delays no other one.\n\
             - **share**: of all tries during the fault, those at the endpoints that were struck. Fair is {:.0} %; all, for the tier.\n\
             - **out after**: until the struck ones got less than a tenth of their fair share (over half a second).\n\
             - **back after**: from the end of the fault until they got half of it again; \
             `not yet`: not within the run; `–`: they were never out.\n\
             - **tries**: requests and refused connects at endpoints, for each request of a client. They are counted off the \
             wire, the same for each proxy.\n\n\
             ## Settings\n\n\
             One worker each. The gateway has its defaults (peak EWMA, breaker) but for:\n\n\
             ```toml\n{MESHLESS_POLICIES}```\n\n\
             Envoy: least request, `consecutive_5xx` 5, `failure_percentage_threshold` 20 of at least 10 requests, ejection from 1 s \
             to 60 s and at most 50 %, a look every second; retries on `connect-failure,refused-stream,reset` and 500 and 503, \
             `num_retries` 1, never at the host before, `per_try_timeout` 1 s, back-off 25–250 ms, a retry budget of 20 %; \
             priorities for tiers. Its success rate ejection and its panic threshold (50 %) are its defaults. Neither has active \
             health checks.\n\n\
             {}: {}. Two cores that endpoints, load and proxy share; each case once, in turn.\n",
            LATENCY.as_millis(),
            self.rate,
            seconds(Duration::ZERO, TIMES.fault),
            seconds(TIMES.fault, TIMES.heal),
            seconds(TIMES.heal, TIMES.end),
            self.table(),
            100.0 / ENDPOINTS as f64,
            self.date,
            versions.join(", "),
        )
    }

    /// Returns the table alone.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| | | errors | p50 before, during, after | p99 before, during, after | share | out after | back after | tries |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        let mut last = None;
        for Measured { case, proxy, figures } in &self.measured {
            let title = if last.replace(*case) == Some(*case) { "" } else { case.title() };
            let _ = writeln!(text, "| {title} | {} | {} |", proxy.name(), row(figures));
        }
        text
    }

    /// Returns every figure.
    pub(super) fn json(&self) -> Value {
        let measured = self.measured.iter().map(|measured| {
            json!({
                "case": format!("{:?}", measured.case),
                "proxy": measured.proxy.name(),
                "figures": measured.figures.json(),
            })
        });
        json!({ "date": self.date, "requests_per_second": self.rate, "measured": measured.collect::<Value>() })
    }
}

fn row(figures: &Figures) -> String {
    let Figures { before, during, after, .. } = figures;
    let three = |of: fn(&Latency) -> f64| format!("{:.0}, {:.0}, {:.0}", of(before), of(during), of(after));
    let share = figures.errors as f64 / figures.requests.max(1) as f64 * 100.0;
    let late = if figures.errors_after > 0 { format!(" + {}", figures.errors_after) } else { String::new() };
    let out = figures.eject.map_or_else(|| "never".to_owned(), |seconds| format!("{seconds:.1} s"));
    let back = match (figures.eject, figures.back) {
        (None, _) => "–".to_owned(),
        (Some(_), None) => "not yet".to_owned(),
        (Some(_), Some(seconds)) => format!("{seconds:.1} s"),
    };
    format!(
        "{} ({share:.1} %){late} | {} | {} | {:.1} % | {out} | {back} | {:.2}",
        figures.errors,
        three(|latency| latency.p50),
        three(|latency| latency.p99),
        figures.share * 100.0,
        figures.amplification
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_has_all_figures_and_a_title_stands_once() {
        let latency = Latency { p50: 5.4, p99: 12.0 };
        let figures = Figures {
            requests: 3000,
            errors: 30,
            errors_after: 2,
            before: latency,
            during: latency,
            after: latency,
            eject: Some(0.15),
            back: None,
            amplification: 1.204,
            share: 0.031,
        };
        let measured = [Proxy::Meshless, Proxy::Envoy].map(|proxy| Measured { case: Case::Killed, proxy, figures });
        let report = Report { rate: 500, measured: measured.into(), ..Report::default() };
        let table = report.table();
        let row = "30 (1.0 %) + 2 | 5, 5, 5 | 12, 12, 12 | 3.1 % | 0.1 s | not yet | 1.20 |";
        assert!(table.contains(&format!("| one killed (SIGKILL), started again | meshless | {row}\n")), "{table}");
        assert!(table.contains(&format!("|  | Envoy | {row}\n")), "{table}");
        assert!(report.page().contains(&table));
    }
}
