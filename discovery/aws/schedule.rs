//! When to look again (pure; randomness is handed in).

use std::time::Duration;

/// Longest wait that a service may ask for; the engine has the same bound.
const MAX_ASKED: Duration = Duration::from_mins(10);

/// How often a place is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Schedule {
    /// After a change: where one task was replaced the next one follows.
    pub(crate) min: Duration,
    /// Where nothing changes.
    pub(crate) max: Duration,
}

/// What a look came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Came {
    Changed,
    Same,
    Failed,
    /// The service wants fewer calls, and may say for how long.
    Throttled(Option<Duration>),
}

/// How fast things go at present.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Pace {
    interval: Duration,
    /// No interval is shorter: rises by half of itself with each throttle, and sinks by a tenth with each good look. The limits
    /// of AWS are those of a whole account, so whoever is throttled slows down for longer than one look.
    floor: Duration,
    failures: u32,
}

impl Pace {
    /// Takes in what a look came to, and returns how long to wait before the next one.
    pub(super) fn after(&mut self, came: Came, schedule: Schedule, random: &mut fastrand::Rng) -> Duration {
        self.floor = self.floor.clamp(schedule.min, schedule.max);
        match came {
            Came::Changed | Came::Same => {
                self.failures = 0;
                self.floor = self.floor.mul_f64(0.9).max(schedule.min);
                let next = if came == Came::Changed { schedule.min } else { self.interval.mul_f64(1.5) };
                self.interval = next.clamp(self.floor, schedule.max);
                // A tenth is jitter, so that gateways that were started together do not ask in step; the floor is kept.
                let earliest = self.interval.mul_f64(0.9).max(schedule.min);
                let latest = self.interval.max(schedule.min.mul_f64(1.1));
                between(earliest, latest, random)
            }
            Came::Failed => {
                self.failures = self.failures.saturating_add(1);
                self.interval = schedule.min;
                let first = schedule.min.min(Duration::from_secs(1));
                let wait = first.saturating_mul(1 << self.failures.saturating_sub(1).min(20)).min(schedule.max);
                between(wait / 2, wait, random)
            }
            Came::Throttled(asked) => {
                self.failures = self.failures.saturating_add(1);
                self.floor = self.floor.mul_f64(1.5).min(schedule.max);
                self.interval = self.floor;
                let doubled = self.floor.saturating_mul(1 << self.failures.saturating_sub(1).min(20)).min(schedule.max);
                let wait = doubled.max(asked.unwrap_or_default().min(MAX_ASKED));
                between(wait, wait.mul_f64(1.25), random)
            }
        }
    }
}

fn between(earliest: Duration, latest: Duration, random: &mut fastrand::Rng) -> Duration {
    earliest + latest.saturating_sub(earliest).mul_f64(random.f64())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const ECS: Schedule = Schedule { min: Duration::from_secs(10), max: Duration::from_mins(1) };

    fn waits(pace: &mut Pace, came: &[Came]) -> Vec<f64> {
        let mut random = fastrand::Rng::with_seed(1);
        came.iter().map(|came| pace.after(*came, ECS, &mut random).as_secs_f64()).collect()
    }

    #[test]
    fn at_rest_looks_become_seldom_and_a_change_makes_them_frequent() {
        let mut pace = Pace::default();
        let waits = waits(
            &mut pace,
            &[Came::Changed, Came::Same, Came::Same, Came::Same, Came::Same, Came::Same, Came::Changed],
        );
        for (wait, expected) in waits.iter().zip([10.0, 15.0, 22.5, 33.75, 50.6, 60.0, 10.0]) {
            assert!((expected * 0.89..=expected * 1.1).contains(wait), "{waits:?}");
        }
    }

    #[test]
    fn failures_back_off_and_a_good_look_forgets_them() {
        let mut pace = Pace::default();
        let waits = waits(&mut pace, &[Came::Failed, Came::Failed, Came::Failed, Came::Same, Came::Failed]);
        for (wait, expected) in waits.iter().zip([1.0, 2.0, 4.0, 15.0, 1.0]) {
            assert!((expected * 0.5..=expected * 1.1).contains(wait), "{waits:?}");
        }
    }

    #[test]
    fn who_is_throttled_waits_as_asked_and_stays_slower_for_a_while() {
        let mut pace = Pace::default();
        let asked = Came::Throttled(Some(Duration::from_secs(45)));
        let after = waits(&mut pace, &[Came::Changed, asked, Came::Changed]);
        assert!(after[1] >= 45.0 && after[2] > 11.0, "{after:?}");
        let calm = waits(&mut pace, &[Came::Changed; 10]);
        assert!(calm[9] <= 11.0, "{calm:?}");
    }

    proptest! {
        #[test]
        fn a_wait_is_never_below_the_floor_nor_without_end(seed: u64, steps: Vec<u8>) {
            let (mut pace, mut random) = (Pace::default(), fastrand::Rng::with_seed(seed));
            for step in steps {
                let came = match step % 4 {
                    0 => Came::Changed,
                    1 => Came::Same,
                    2 => Came::Failed,
                    _ => Came::Throttled((step > 128).then(|| Duration::from_secs(u64::from(step) * 60))),
                };
                let wait = pace.after(came, ECS, &mut random);
                let floor = if came == Came::Failed { Duration::from_millis(500) } else { ECS.min };
                prop_assert!(wait >= floor && wait <= MAX_ASKED.mul_f64(1.25), "{came:?} {wait:?}");
            }
        }
    }
}
