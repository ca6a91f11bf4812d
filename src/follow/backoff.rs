//! How long to wait before a source that failed is asked again (pure; randomness is handed in).

use std::time::Duration;

/// Exponential back-off with full jitter.
///
/// The n-th wait is drawn evenly from zero to `first` times 2ⁿ, at most `longest`: a thousand gateways that lost one
/// registry come back spread out. A tenth of `first` is the floor, so that bad luck is no tight loop.
#[derive(Debug, Clone)]
pub struct Backoff {
    first: Duration,
    longest: Duration,
    failures: u32,
}

impl Default for Backoff {
    /// 0.1 s to 30 s.
    fn default() -> Self {
        Self::new(Duration::from_millis(100), Duration::from_secs(30))
    }
}

impl Backoff {
    /// Returns a back-off whose first wait is at most `first` and whose waits never exceed `longest`.
    pub fn new(first: Duration, longest: Duration) -> Self {
        Self { first, longest, failures: 0 }
    }

    /// Returns the next wait, after one more failure.
    pub fn next(&mut self, random: &mut fastrand::Rng) -> Duration {
        let factor = 1_u32.checked_shl(self.failures).unwrap_or(u32::MAX);
        self.failures = self.failures.saturating_add(1);
        let ceiling = self.first.saturating_mul(factor).min(self.longest);
        ceiling.mul_f64(random.f64()).max(self.first / 10).min(self.longest)
    }

    /// Returns the next wait where the backend itself asked for one: at least that, and up to a quarter more, so that
    /// clients which were throttled together do not come back together.
    pub fn asked(&mut self, asked: Duration, random: &mut fastrand::Rng) -> Duration {
        // A day is as good as for ever; a wrong unit in a header must not end discovery.
        let asked = asked.min(LONGEST_ASKED);
        self.next(random).max(asked + asked.mul_f64(random.f64() / 4.0))
    }

    /// Begins anew after a success.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

/// Longest wait that a backend can ask for.
const LONGEST_ASKED: Duration = Duration::from_mins(10);

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_wait_stays_within_its_bounds(seed: u64, failures in 0_u32..80) {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut backoff = Backoff::default();
            for failure in 0..failures {
                let ceiling = Duration::from_millis(100).saturating_mul(1_u32.checked_shl(failure).unwrap_or(u32::MAX));
                let wait = backoff.next(&mut random);
                prop_assert!(wait <= ceiling.min(Duration::from_secs(30)));
                prop_assert!(wait >= Duration::from_millis(10));
            }
        }

        #[test]
        fn what_was_asked_for_is_honoured(seed: u64, seconds in 0_u64..600) {
            let asked = Duration::from_secs(seconds);
            let wait = Backoff::default().asked(asked, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(wait >= asked);
            prop_assert!(wait <= asked + asked / 4 + Duration::from_millis(100));
        }
    }

    #[test]
    fn waits_grow_and_begin_anew_after_a_success() {
        let mut random = fastrand::Rng::with_seed(1);
        let mean = |backoff: &Backoff, random: &mut fastrand::Rng| {
            (0..200).map(|_| backoff.clone().next(random)).sum::<Duration>() / 200
        };
        let mut backoff = Backoff::default();
        let first = mean(&backoff, &mut random);
        for _ in 0..20 {
            backoff.next(&mut random);
        }
        let late = mean(&backoff, &mut random);
        assert!(late > Duration::from_secs(12) && late < Duration::from_secs(18), "{late:?}");
        backoff.reset();
        assert!(mean(&backoff, &mut random) < first * 2);
    }

    #[test]
    fn an_absurd_request_to_wait_does_not_end_discovery() {
        let wait = Backoff::default().asked(Duration::MAX, &mut fastrand::Rng::with_seed(1));
        assert!(wait <= LONGEST_ASKED + LONGEST_ASKED / 4);
    }
}
