//! What is known about a target, and how far it can be trusted.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshless_discovery::Snapshot;
use tokio::time::Instant;

/// Everything known about one target at this moment.
#[derive(Debug, Clone, Default)]
pub struct Known {
    /// The last good answer; `None` until there was one.
    pub answer: Option<Answer>,
    /// The outage that goes on; `None` while the source answers or waits.
    pub failure: Option<Failure>,
    /// Answers so far, unchanged ones included.
    pub answers: u64,
    /// Failures so far, panics included.
    pub failures: u64,
    /// Panics of the source so far.
    pub panics: u64,
}

/// The last good answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// All endpoints. The same `Arc` as long as nothing changed.
    pub snapshot: Arc<Snapshot>,
    /// Where it is from.
    pub origin: Origin,
    /// Since when it is in use here.
    pub since: Instant,
    /// When the backend said so last, for people to read; for an age use [`Known::age`].
    pub confirmed: SystemTime,
    /// How old it was when it came here: zero, save from disk.
    pub(super) age_at_start: Duration,
}

/// Where an answer is from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// From the disk, since the process started without an answer yet.
    Disk,
    /// From the backend.
    Live,
}

impl Origin {
    /// Returns the origin as one word, for labels and `/endpoints`.
    pub fn label(self) -> &'static str {
        match self {
            Self::Disk => "disk",
            Self::Live => "live",
        }
    }
}

/// An outage of a source.
#[derive(Debug, Clone)]
pub struct Failure {
    /// When it began.
    pub since: Instant,
    /// When the last call failed.
    pub at: SystemTime,
    /// How many calls failed, one after another.
    pub count: u64,
    /// Kind of the last error in one word: `denied`, `gone`, `malformed`, `panic`, `throttled` or `unreachable`.
    pub kind: &'static str,
    /// The last error.
    pub error: String,
}

impl Failure {
    pub(super) fn first(since: Instant) -> Self {
        Self { since, at: SystemTime::UNIX_EPOCH, count: 0, kind: "", error: String::new() }
    }
}

impl Known {
    /// Returns how long what is known may be out of date; the gauge `meshless_discovery_snapshot_age_seconds`.
    ///
    /// A source that waits says by waiting that nothing changed, so the age of a live answer is zero until a call
    /// fails and then counts from that failure. What came from disk counts from when the backend had confirmed it.
    /// `None` where nothing is known.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let answer = self.answer.as_ref()?;
        Some(match (answer.origin, &self.failure) {
            (Origin::Disk, _) => answer.age_at_start + now.saturating_duration_since(answer.since),
            (Origin::Live, Some(failure)) => now.saturating_duration_since(failure.since),
            (Origin::Live, None) => Duration::ZERO,
        })
    }

    /// Returns the snapshot, if one is known.
    pub fn snapshot(&self) -> Option<&Arc<Snapshot>> {
        self.answer.as_ref().map(|answer| &answer.snapshot)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known(origin: Origin, since: Instant, failure: Option<Instant>) -> Known {
        let answer = Answer {
            snapshot: Arc::default(),
            origin,
            since,
            confirmed: SystemTime::UNIX_EPOCH,
            age_at_start: if origin == Origin::Disk { Duration::from_hours(1) } else { Duration::ZERO },
        };
        Known { answer: Some(answer), failure: failure.map(Failure::first), ..Known::default() }
    }

    #[test]
    fn the_age_is_zero_while_the_source_waits_and_grows_from_the_first_failure() {
        let start = Instant::now();
        let now = start + Duration::from_secs(100);
        assert_eq!(Known::default().age(now), None);
        assert_eq!(known(Origin::Live, start, None).age(now), Some(Duration::ZERO));
        let failed = start + Duration::from_mins(1);
        assert_eq!(known(Origin::Live, start, Some(failed)).age(now), Some(Duration::from_secs(40)));
    }

    #[test]
    fn what_came_from_disk_is_as_old_as_it_was_there_and_grows() {
        let start = Instant::now();
        let now = start + Duration::from_secs(100);
        assert_eq!(known(Origin::Disk, start, None).age(now), Some(Duration::from_secs(3700)));
        assert_eq!(known(Origin::Disk, start, Some(now)).age(now), Some(Duration::from_secs(3700)));
    }
}
