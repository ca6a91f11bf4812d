//! Is what is known kept on disk, so that a start while a registry is away is no outage?

use std::path::Path;
use std::time::Duration;

use meshless_discovery::Finding;

/// What the disk has of one target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Kept {
    /// A snapshot, so old.
    Aged(Duration),
    /// Nothing yet.
    Nothing,
    /// A file that is not trusted, and why.
    Untrusted(String),
}

/// Judges whether the directory can be written; `why` it cannot.
pub(crate) fn directory(path: &Path, unwritable: Option<&str>) -> Finding {
    match unwritable {
        None => Finding::good("state_dir", format!("{} can be written", path.display())),
        Some(why) => Finding::warning(
            "state_dir",
            format!("{}: {why}", path.display()),
            "StateDirectory=meshless in the unit, or node.state_dir with a directory that the gateway's user may write, on a \
             volume that outlives the container; without it a start while discovery is away finds no endpoints",
        ),
    }
}

/// Judges what is kept of the targets that a configuration names.
pub(crate) fn snapshots(kept: &[(String, Kept)]) -> Vec<Finding> {
    let what = "last known good";
    let mut findings = Vec::new();
    let ages: Vec<Duration> =
        kept.iter().filter_map(|(_, kept)| if let Kept::Aged(age) = kept { Some(*age) } else { None }).collect();
    if let (Some(oldest), Some(youngest)) = (ages.iter().max(), ages.iter().min()) {
        findings.push(Finding::good(
            what,
            format!(
                "{} of {} targets; the oldest {}, the youngest {}",
                ages.len(),
                kept.len(),
                ago(*oldest),
                ago(*youngest)
            ),
        ));
    } else if !kept.is_empty() {
        let seen = format!("none of {} targets yet: the first answer of each is kept", kept.len());
        findings.push(Finding::good(what, seen));
    }
    for (target, kept) in kept {
        if let Kept::Untrusted(why) = kept {
            let remedy = "it is written anew with the next answer; remove it if it stays";
            findings.push(Finding::warning(what, format!("of `{target}` cannot be used: {why}"), remedy));
        }
    }
    findings
}

fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds @ 120..7200 => format!("{} min", seconds / 60),
        seconds => format!("{} h", seconds / 3600),
    }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Verdict;

    use super::*;

    #[test]
    fn ages_are_summed_up_and_a_file_that_is_not_trusted_is_named() {
        let kept = [
            ("consul/a".to_owned(), Kept::Aged(Duration::from_secs(5))),
            ("consul/b".to_owned(), Kept::Aged(Duration::from_hours(3))),
            ("consul/c".to_owned(), Kept::Nothing),
            ("consul/d".to_owned(), Kept::Untrusted("it is damaged".to_owned())),
        ];
        let findings = snapshots(&kept);
        assert_eq!(findings[0].seen, "2 of 4 targets; the oldest 3 h, the youngest 5 s");
        assert!(findings[1].verdict == Verdict::Warning && findings[1].seen.contains("`consul/d`"));
        assert!(snapshots(&[]).is_empty());
    }
}
