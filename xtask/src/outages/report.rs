//! The figures as a page, and as JSON.

use std::fmt::Write as _;

use serde_json::{Value, json};

use super::drill::{Figures, Times};
use crate::places::{Kind, Trouble};

/// One trouble of one place.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) place: Kind,
    pub(super) trouble: Trouble,
    pub(super) figures: Figures,
}

/// All figures of a run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) rate: u32,
    /// Of the day on which it was run.
    pub(super) date: String,
    pub(super) times: Times,
    pub(super) measured: Vec<Measured>,
}

impl Report {
    /// Returns the whole of docs/outages.md.
    pub(super) fn page(&self) -> String {
        format!(
            "<!-- Made by `cargo xtask outages`; change xtask/src/outages/report.rs instead. -->\n\
             # Outages\n\n\
             What clients see while the place that endpoints are looked up in fails, and what tells of it. Made again by one \
             command, as root on Linux:\n\n\
             \x20   cargo xtask outages\n\n\
             Each gateway is a process of its own with three endpoints, which are well all the time: a request that fails is the \
             registry's doing. {rate} requests arrive every second, from {before} s before the trouble until {after} s after the \
             last change was followed. A trouble lasts {length} s (`--length 600` makes it ten minutes; what is known is kept \
             for as long as the process lives). When it ends, a fourth endpoint is listed. The longest back-off is 30 s, so \
             *followed after* is a matter of luck between 0 and 30 s where the outage was long.\n\n\
             {errors}\n\n\
             {table}\n\
             - **errors**: requests that did not end with 200, of the whole run.\n\
             - **noticed after**: from the beginning of the trouble until `meshless_discovery_snapshot_age_seconds` rose. `–`: it \
             did not, because the place answers.\n\
             - **rose to**: the largest value of that gauge; `held` is the largest `meshless_endpoints{{state=\"held\"}}`: endpoints that \
             are no longer listed and still used, because the answer looks like a fault.\n\
             - **counted as**: `meshless_discovery_errors_total`, by `kind`.\n\
             - **followed after**: until the new endpoint got its first request, from when it was listed. For *late and in pieces* and \
             *other data* it is listed while the trouble lasts.\n\n\
             ## What the log says\n\n\
             The first warning of each run. The level of all of them is `warn`, once for each outage.\n\n\
             {log}\n\
             ## Settings\n\n\
             Defaults, but for what makes waiting shorter: `[discovery.dns] min_ttl = \"1s\"`; for Consul `wait = \"5s\"`; for ECS and Cloud \
             Map `min_interval = \"1s\"`, `max_interval = \"2s\"`. One worker. A fake is a server of ours that speaks the protocol \
             (`tests/fakes`).\n\n\
             {date}, {cores} cores that registries, endpoints, load and gateways share; each trouble once, all places at the same time.\n",
            rate = self.rate,
            before = self.times.before.as_secs(),
            after = self.times.after.as_secs(),
            length = self.times.length.as_secs(),
            errors = self.summary(),
            table = self.table(),
            log = self.log(),
            date = self.date,
            cores = std::thread::available_parallelism().map_or(0, std::num::NonZero::get),
        )
    }

    /// Says in one sentence what came of all of them.
    fn summary(&self) -> String {
        let requests: usize = self.measured.iter().map(|measured| measured.figures.requests).sum();
        let failed: usize = self.measured.iter().map(|measured| measured.figures.failed()).sum();
        let lost = self.measured.iter().filter(|measured| measured.figures.followed.is_none()).count();
        let lost = if lost == 0 {
            "every change was followed".to_owned()
        } else {
            format!("{lost} changes were not followed")
        };
        format!("**{} troubles, {requests} requests, {failed} that a client saw fail; {lost}.**", self.measured.len())
    }

    /// Returns the table of figures.
    pub(super) fn table(&self) -> String {
        let mut text = String::from(
            "| place | trouble | requests | errors | noticed after | rose to | counted as | followed after |\n\
             |---|---|---|---|---|---|---|---|\n",
        );
        let mut last = None;
        for Measured { place, trouble, figures } in &self.measured {
            let title = if last.replace(*place) == Some(*place) { "" } else { place.title() };
            let _ = writeln!(text, "| {title} | {} | {} |", trouble.title(), row(figures));
        }
        text
    }

    /// Returns the table of log lines.
    pub(super) fn log(&self) -> String {
        let mut text = String::from("| place | trouble | message | `error` |\n|---|---|---|---|\n");
        let mut last = None;
        for Measured { place, trouble, figures } in &self.measured {
            let Some(line) = &figures.line else { continue };
            let title = if last.replace(*place) == Some(*place) { "" } else { place.title() };
            let error = shortened(&line.error);
            let _ = writeln!(text, "| {title} | {} | {} | {error} |", trouble.title(), line.message);
        }
        text
    }

    /// Returns every figure.
    pub(super) fn json(&self) -> Value {
        let measured = self.measured.iter().map(|measured| {
            json!({
                "place": format!("{:?}", measured.place),
                "trouble": format!("{:?}", measured.trouble),
                "figures": measured.figures.json(),
            })
        });
        json!({ "date": self.date, "requests_per_second": self.rate, "measured": measured.collect::<Value>() })
    }
}

fn row(figures: &Figures) -> String {
    let seconds = |figure: Option<f64>, none: &str| figure.map_or_else(|| none.to_owned(), |it| format!("{it:.1} s"));
    let errors: Vec<String> = figures.errors.iter().map(|(how, count)| format!("{count} × {how}")).collect();
    let errors = if errors.is_empty() { "0".to_owned() } else { errors.join(", ") };
    let mut rose = Vec::new();
    if figures.age > 0.0 {
        rose.push(format!("{:.0} s", figures.age));
    }
    if figures.held > 0.0 {
        rose.push(format!("{:.0} held", figures.held));
    }
    let rose = if rose.is_empty() { "–".to_owned() } else { rose.join(", ") };
    let kinds: Vec<String> = figures.kinds.iter().map(|(kind, count)| format!("{kind} {count}")).collect();
    let kinds = if kinds.is_empty() { "–".to_owned() } else { kinds.join(", ") };
    format!(
        "{} | {errors} | {} | {rose} | {kinds} | {}",
        figures.requests,
        seconds(figures.noticed, "–"),
        seconds(figures.followed, "not yet")
    )
}

/// Returns an error so that it fits a cell: ports and folders of one run say nothing to a reader.
fn shortened(error: &str) -> String {
    let words = error.split(' ').map(|word| {
        if word.contains("127.0.0.1:") {
            let (before, after) = word.split_once("127.0.0.1:").unwrap_or_default();
            let rest = after.trim_start_matches(|letter: char| letter.is_ascii_digit());
            format!("{before}127.0.0.1:…{rest}")
        } else if let Some(at) = word.rfind("/outages/") {
            let start = word.find('/').unwrap_or(at);
            let rest = word.get(at + "/outages/".len()..).and_then(|rest| rest.split_once('/'));
            format!("{}…/{}", word.get(..start).unwrap_or_default(), rest.map_or("", |(_, rest)| rest))
        } else {
            word.to_owned()
        }
    });
    let text = words.collect::<Vec<_>>().join(" ").replace('|', "\\|").replace('\n', " ");
    if text.chars().count() > LONGEST { text.chars().take(LONGEST).chain(['…']).collect() } else { text }
}

/// Longest error in a cell.
const LONGEST: usize = 240;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::gateway::Line;

    #[test]
    fn a_row_has_all_figures_and_a_title_stands_once() {
        let figures = Figures {
            requests: 5000,
            noticed: Some(0.14),
            age: 24.6,
            kinds: [("unreachable".to_owned(), 9)].into(),
            line: Some(Line { level: "WARN".into(), message: "No.".into(), error: "at 127.0.0.1:8500: a | b".into() }),
            followed: Some(12.34),
            ..Figures::default()
        };
        let measured = [Trouble::Killed, Trouble::Frozen];
        let measured = measured.map(|trouble| Measured { place: Kind::Dns, trouble, figures: figures.clone() });
        let report = Report { rate: 200, date: "today".into(), times: Times::default(), measured: measured.into() };
        let row = "5000 | 0 | 0.1 s | 25 s | unreachable 9 | 12.3 s |";
        let table = report.table();
        assert!(table.contains(&format!("| {} | killed, started again | {row}\n", Kind::Dns.title())), "{table}");
        assert!(table.contains(&format!("|  | frozen, thawed | {row}\n")), "{table}");
        assert!(report.log().contains("| No. | at 127.0.0.1:…: a \\| b |"), "{}", report.log());
        assert!(
            report
                .page()
                .contains("**2 troubles, 10000 requests, 0 that a client saw fail; every change was followed.**")
        );
    }

    #[test]
    fn an_error_loses_what_is_of_one_run_only() {
        assert_eq!(shortened("read `/a/target/outages/X-Y/endpoints.d`: gone"), "read `…/endpoints.d`: gone");
    }
}
