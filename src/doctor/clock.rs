//! Is the clock sane? Certificates, tokens and requests that are signed depend on it.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshless_discovery::Finding;

use crate::telemetry::timestamp::Timestamp;

/// This build is younger than that: 2026-01-01.
const EARLIEST: Duration = Duration::from_hours(490_896);
/// No gateway of this version runs as late as that: 2100-01-01.
const LATEST: Duration = Duration::from_hours(1_139_568);
/// How far ahead of us a file of ours may be; file systems round, and clocks are slewed.
const AHEAD: Duration = Duration::from_mins(1);

/// Judges the clock by itself, and by the youngest file that a gateway wrote here.
pub(crate) fn judge(now: SystemTime, youngest: Option<SystemTime>) -> Finding {
    let (what, at) = ("clock", Timestamp(now).to_string());
    let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let remedy = "set the clock and keep it so: chrony or systemd-timesyncd; certificates and signed requests are refused \
                  while it is wrong";
    if since < EARLIEST || since > LATEST {
        return Finding::bad(what, format!("{at}, which cannot be"), remedy);
    }
    match youngest.and_then(|youngest| youngest.duration_since(now).ok()).filter(|ahead| *ahead > AHEAD) {
        Some(ahead) => {
            let seen = format!("{at}: a file in the state directory was written {} s later", ahead.as_secs());
            Finding::warning(what, seen, remedy)
        }
        None => Finding::good(what, at),
    }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Verdict;

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_clock_that_began_in_1970_or_is_a_century_ahead_is_a_problem() {
        let now = 1_790_771_696;
        for (seconds, verdict) in [(0, Verdict::Bad), (now, Verdict::Good), (5_000_000_000, Verdict::Bad)] {
            assert_eq!(judge(at(seconds), None).verdict, verdict, "{seconds}");
        }
        assert_eq!(judge(at(now), Some(at(now + 59))).verdict, Verdict::Good);
        let back = judge(at(now), Some(at(now + 3600)));
        assert!(back.verdict == Verdict::Warning && back.seen.contains("3600 s later"), "{back:?}");
    }
}
