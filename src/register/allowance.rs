//! How many writes may be made (pure): a few at once, then one in a while.

use std::time::{Duration, Instant};

/// Writes that may follow one another at once.
const BURST: u32 = 3;
/// Time in which one more is earned.
const PERIOD: Duration = Duration::from_secs(20);

/// A bucket of writes, as the time at which it is full again.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Allowance {
    full_at: Option<Instant>,
}

impl Allowance {
    /// Returns when the next write may be made; not later than `now`: at once.
    pub(super) fn next(&self, now: Instant) -> Instant {
        self.full_at.and_then(|full| full.checked_sub(PERIOD * (BURST - 1))).map_or(now, |next| next.max(now))
    }

    /// Takes one, whether or not there is one.
    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = Some(self.full_at.map_or(now, |full| full.max(now)) + PERIOD);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_come_at_once_and_then_one_each_20_seconds() {
        let start = Instant::now();
        let (mut allowance, mut now) = (Allowance::default(), start);
        let mut at = Vec::new();
        for _ in 0..6 {
            now = allowance.next(now);
            allowance.take(now);
            at.push((now - start).as_secs());
        }
        assert_eq!(at, [0, 0, 0, 20, 40, 60]);
        let rested = now + Duration::from_mins(5);
        assert_eq!(allowance.next(rested), rested);
    }
}
