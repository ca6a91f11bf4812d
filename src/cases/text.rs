//! What a person reads of all files of cases.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use super::case::Tested;
use super::file::Cases;

/// All files together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Summary {
    /// What to print.
    pub text: String,
    /// Cases that failed.
    pub failed: usize,
    /// Routes that no case reached, each with its configuration.
    pub unreached: Vec<String>,
}

/// Sums up what came of files of cases.
pub fn summary(tested: &[(Cases, Vec<Tested>)]) -> Summary {
    let mut text = String::new();
    let (mut count, mut failed) = (0, 0);
    // By configuration: its routes, and those that were reached.
    let mut routes: BTreeMap<&str, (BTreeSet<&str>, BTreeSet<&str>)> = BTreeMap::new();
    for (cases, results) in tested {
        // Writing to a string cannot fail.
        let _ = writeln!(text, "{}", cases.name);
        for tested in results {
            count += 1;
            let has_failed = !tested.mismatches.is_empty();
            failed += usize::from(has_failed);
            let _ = writeln!(text, "  {:<6}  {}", if has_failed { "FAILED" } else { "ok" }, tested.name);
            for mismatch in &tested.mismatches {
                let _ = writeln!(
                    text,
                    "            {}: expected {}, found {}",
                    mismatch.what, mismatch.expected, mismatch.found
                );
            }
        }
        let (all, reached) = routes.entry(&cases.configuration).or_default();
        all.extend(cases.routes());
        reached.extend(results.iter().filter_map(|tested| tested.route.as_deref()));
    }
    let unreached: Vec<String> = routes
        .iter()
        .flat_map(|(config, (all, reached))| all.difference(reached).map(move |route| format!("{route} ({config})")))
        .collect();
    let total: usize = routes.values().map(|(all, _)| all.len()).sum();
    let _ = writeln!(
        text,
        "{count} case{}, {failed} failed; {} of {total} route{} reached",
        if count == 1 { "" } else { "s" },
        total - unreached.len(),
        if total == 1 { "" } else { "s" }
    );
    if !unreached.is_empty() {
        let _ = writeln!(text, "not reached: {}", unreached.join(", "));
    }
    Summary { text, failed, unreached }
}
