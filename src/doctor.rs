//! What could stand in the way of a gateway here, judged (pure): `meshless doctor`.
//!
//! Each file judges one thing from facts that are handed in; `compose` gathers them and asks backends. A finding is
//! good, a warning or a problem, and all but the good ones say what to do.

pub(crate) mod clock;
pub(crate) mod descriptors;
pub(crate) mod machine;
pub(crate) mod ports;
pub(crate) mod state;
mod text;

use meshless_discovery::{Finding, Verdict};
use serde::Serialize;

use crate::targets::Outcome;

/// Number of the form of a [`Report`]: it counts up when a field goes or changes its meaning, not when one comes.
pub const SCHEMA: u32 = 1;

/// Everything that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// [`SCHEMA`].
    pub schema: u32,
    /// What was looked at, in the order in which it is read.
    pub sections: Vec<Section>,
}

/// One thing that was looked at from several sides.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Section {
    /// What it is: `process`, `ports`, `state`, `backend consul`.
    pub name: String,
    /// What was found.
    pub findings: Vec<Found>,
}

/// One finding, as it is printed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Found {
    /// What was looked at.
    pub what: String,
    /// `ok`, `warning` or `problem`.
    pub verdict: &'static str,
    /// Of an error of a backend its kind in one word: `denied`, `unreachable`, …
    pub kind: Option<&'static str>,
    /// What was seen.
    pub seen: String,
    /// What to do.
    pub remedy: Option<String>,
}

impl Section {
    /// Makes one of findings.
    pub(crate) fn new(name: impl Into<String>, findings: impl IntoIterator<Item = Finding>) -> Self {
        Self { name: name.into(), findings: findings.into_iter().map(Found::from).collect() }
    }
}

impl From<Finding> for Found {
    fn from(finding: Finding) -> Self {
        let kind = if finding.verdict == Verdict::Good { None } else { finding.kind() };
        let verdict = match finding.verdict {
            Verdict::Good => "ok",
            Verdict::Warning => "warning",
            Verdict::Bad => "problem",
        };
        Self { what: finding.what, verdict, kind, seen: finding.seen, remedy: finding.remedy }
    }
}

impl Report {
    /// Makes one of sections; those without a finding are left out.
    pub(crate) fn new(sections: impl IntoIterator<Item = Section>) -> Self {
        let sections = sections.into_iter().filter(|section| !section.findings.is_empty()).collect();
        Self { schema: SCHEMA, sections }
    }

    /// Returns what it comes to: the worst of all problems. Warnings leave it at [`Outcome::Answered`].
    pub fn outcome(&self) -> Outcome {
        let problems = self.findings().filter(|found| found.verdict == "problem");
        problems.map(|found| found.kind.map_or(Outcome::Failed, Outcome::of_kind)).max().unwrap_or(Outcome::Answered)
    }

    fn findings(&self) -> impl Iterator<Item = &Found> {
        self.sections.iter().flat_map(|section| &section.findings)
    }
}

/// Bytes as people read them.
pub(crate) fn size(bytes: u64) -> String {
    const UNITS: [(&str, u64); 3] = [("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)];
    let fits = UNITS.iter().find(|(_, unit)| bytes >= *unit);
    fits.map_or_else(|| format!("{bytes} B"), |(name, unit)| format!("{:.1} {name}", bytes as f64 / *unit as f64))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(findings: Vec<Finding>) -> Report {
        Report::new([Section::new("backend consul", findings), Section::new("nothing", [])])
    }

    #[test]
    fn a_refusal_outweighs_silence_and_warnings_are_no_problem() {
        let bad = |seen: &str| Finding::bad("reachable", seen, "do something");
        assert_eq!(report(vec![]).outcome(), Outcome::Answered);
        assert_eq!(report(vec![Finding::warning("clock", "denied: x", "y")]).outcome(), Outcome::Answered);
        assert_eq!(report(vec![bad("something odd")]).outcome(), Outcome::Failed);
        assert_eq!(report(vec![bad("something odd"), bad("unreachable: refused")]).outcome(), Outcome::Unreachable);
        assert_eq!(report(vec![bad("denied: 403"), bad("unreachable: refused")]).outcome(), Outcome::Denied);
    }

    #[test]
    fn sections_without_a_finding_are_left_out() {
        assert_eq!(report(vec![Finding::good("a", "b")]).sections.len(), 1);
    }

    #[test]
    fn sizes_are_readable() {
        assert_eq!((size(900), size(64 << 20), size(3 << 29)), ("900 B".into(), "64.0 MiB".into(), "1.5 GiB".into()));
    }
}
