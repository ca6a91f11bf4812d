//! When to ask again, and when "nobody is there" is believed (pure; `now` and randomness are handed in).

use std::time::Duration;

use tokio::time::Instant;

/// How often a name is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Schedule {
    /// Shortest time that an answer holds: a TTL of 0 does not mean "ask without end".
    pub(super) min: Duration,
    /// Longest: what a server promised for a day may be wrong after a deploy, so a TTL alone is never trusted.
    pub(super) max: Duration,
    /// Time between two answers that say "nobody".
    pub(super) confirm_after: Duration,
    /// Answers in a row that it takes to be believed.
    pub(super) confirmations: u32,
}

impl Default for Schedule {
    /// Three answers over four seconds: enough to ask every one of a few servers behind one address, where one lags or
    /// has lost its zone, and little beside the 30 s that the engine holds what an empty answer removes.
    fn default() -> Self {
        Self {
            min: crate::DnsConfig::DEFAULT_MIN_TTL,
            max: crate::DnsConfig::DEFAULT_MAX_TTL,
            confirm_after: Duration::from_secs(2),
            confirmations: 3,
        }
    }
}

impl Schedule {
    /// Returns how long an answer with this TTL in seconds holds.
    ///
    /// A tenth of it is jitter, so that the targets of one process, and many gateways, do not ask in step: before
    /// the answer expires, save at the floor, which is never undercut.
    pub(super) fn wait(&self, ttl: u32, random: &mut fastrand::Rng) -> Duration {
        let held = Duration::from_secs(u64::from(ttl)).min(self.max).max(self.min);
        let earliest = held.mul_f64(0.9).max(self.min);
        let latest = held.max(self.min.mul_f64(1.1));
        earliest + latest.saturating_sub(earliest).mul_f64(random.f64())
    }
}

/// Answers in a row that say "nobody" where somebody was known.
#[derive(Debug, Clone, Copy)]
pub(super) struct Doubt {
    since: Instant,
    pub(super) answers: u32,
}

impl Doubt {
    pub(super) fn new(now: Instant) -> Self {
        Self { since: now, answers: 0 }
    }

    /// Counts one more; tells whether it is believed now.
    pub(super) fn another(&mut self, now: Instant, schedule: &Schedule) -> bool {
        self.answers = self.answers.saturating_add(1);
        // Over some time as well as often: answers in quick succession may come from one and the same cache.
        let long_enough = schedule.confirm_after * schedule.confirmations.saturating_sub(1);
        self.answers >= schedule.confirmations && now.saturating_duration_since(self.since) >= long_enough
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_ttl_of_zero_is_the_floor_and_one_of_a_day_the_ceiling() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..1000 {
            let floor = Schedule::default().wait(0, &mut random).as_secs_f64();
            assert!((5.0..=5.5).contains(&floor), "{floor}");
            let ceiling = Schedule::default().wait(86_400, &mut random).as_secs_f64();
            assert!((270.0..=300.0).contains(&ceiling), "{ceiling}");
        }
    }

    proptest! {
        #[test]
        fn an_answer_is_asked_for_again_before_it_expires_but_never_below_the_floor(ttl: u32, seed: u64) {
            let schedule = Schedule::default();
            let wait = schedule.wait(ttl, &mut fastrand::Rng::with_seed(seed));
            prop_assert!(wait >= schedule.min && wait <= schedule.max, "{wait:?}");
            prop_assert!(wait <= Duration::from_secs(u64::from(ttl)).max(schedule.min.mul_f64(1.1)), "{wait:?}");
        }
    }

    #[test]
    fn many_targets_do_not_ask_in_step() {
        let mut random = fastrand::Rng::with_seed(1);
        let waits: std::collections::BTreeSet<_> =
            (0..100).map(|_| Schedule::default().wait(0, &mut random).as_millis()).collect();
        assert!(waits.len() > 50, "{waits:?}");
    }

    #[test]
    fn nobody_is_believed_after_three_answers_over_four_seconds() {
        let (schedule, start) = (Schedule::default(), Instant::now());
        let after = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut doubt = Doubt::new(start);
        assert!(!doubt.another(start, &schedule));
        assert!(!doubt.another(after(2000), &schedule));
        assert!(doubt.another(after(4000), &schedule));
        let mut hasty = Doubt::new(start);
        assert!((0..20).all(|number| !hasty.another(after(number * 100), &schedule)));
    }
}
