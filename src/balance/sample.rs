//! What a try taught about its endpoint (pure): the one rule that says which replies repel.

use std::time::Duration;

use crate::resilience::breaker::{Cause, Verdict};

/// What a try taught.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Sample {
    /// It answered. The latency is that to the first byte of the reply, so that a long body does not count.
    Answered { latency_ms: f32 },
    /// It failed: a 5xx, a reset, a reply that nobody understands, or none in time.
    Failed { latency_ms: f32 },
    /// It asked to be left alone for a while.
    Refused { retry_after: Duration },
    /// No connection.
    Unreachable,
}

impl Sample {
    /// Tells what a try taught whose verdict is known, so that balancing and the breaker call the same things failures. A
    /// fast 5xx or 429 would attract requests if its latency were believed.
    ///
    /// `retry_after` is what a reply asked for.
    pub(crate) fn of(verdict: Verdict, retry_after: Option<Duration>, latency_ms: f32) -> Self {
        match (verdict, retry_after) {
            (Verdict::Success, _) => Self::Answered { latency_ms },
            (Verdict::Failure(Cause::Connect), _) => Self::Unreachable,
            (Verdict::Failure(_) | Verdict::Limited, Some(retry_after)) => Self::Refused { retry_after },
            (Verdict::Failure(_) | Verdict::Limited, None) => Self::Failed { latency_ms },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Classify;
    use crate::resilience::verdict::verdict;

    #[test]
    fn failures_and_fast_rejections_repel_and_answers_do_not() {
        let wait = Some(Duration::from_secs(7));
        let failed = Sample::Failed { latency_ms: 1.0 };
        let answered = Sample::Answered { latency_ms: 1.0 };
        let refused = Sample::Refused { retry_after: Duration::from_secs(7) };
        for (status, grpc, retry_after, expected) in [
            (200, None, None, answered),
            (404, None, None, answered),
            (301, None, wait, answered),
            (429, None, None, failed),
            (429, None, wait, refused),
            (500, None, None, failed),
            (503, None, wait, refused),
            (200, Some(0), None, answered),
            (200, Some(7), None, answered),
            (200, Some(14), None, failed),
            (200, Some(8), wait, refused),
        ] {
            let verdict = verdict(&Classify::default(), status, grpc, None);
            assert_eq!(Sample::of(verdict, retry_after, 1.0), expected, "{status} {grpc:?} {retry_after:?}");
        }
        assert_eq!(Sample::of(Verdict::Failure(Cause::Connect), None, 1.0), Sample::Unreachable);
        assert_eq!(Sample::of(Verdict::Failure(Cause::Timeout), None, 1.0), failed);
    }
}
