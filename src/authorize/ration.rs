//! How many lines a flood of denials may write (pure).

use std::cell::Cell;
use std::time::Duration;

/// Lines that may come at once.
const BURST: f64 = 100.0;
/// Lines in a second that may go on for ever; each is some 400 bytes, so that is below 350 MB a day and worker.
const PER_SECOND: f64 = 10.0;

/// Lets so many lines through, and counts those that it does not.
#[derive(Debug)]
pub(crate) struct Ration {
    left: Cell<f64>,
    at: Cell<Duration>,
    omitted: Cell<u64>,
}

impl Default for Ration {
    fn default() -> Self {
        Self { left: Cell::new(BURST), at: Cell::default(), omitted: Cell::default() }
    }
}

impl Ration {
    /// Asks for a line at `now`, a time of the process. Returns how many were left out since the last one; `None`: this
    /// one is left out too.
    pub(crate) fn admit(&self, now: Duration) -> Option<u64> {
        if self.take(now) {
            return Some(self.omitted.replace(0));
        }
        self.omitted.set(self.omitted.get().saturating_add(1));
        None
    }

    /// Returns how many lines were left out and not told yet, where there is room to tell it now; 0: nothing to tell.
    pub(crate) fn owed(&self, now: Duration) -> u64 {
        if self.omitted.get() > 0 && self.take(now) { self.omitted.replace(0) } else { 0 }
    }

    /// Takes one line of what is left.
    fn take(&self, now: Duration) -> bool {
        let past = now.saturating_sub(self.at.get());
        self.at.set(now.max(self.at.get()));
        let left = PER_SECOND.mul_add(past.as_secs_f64(), self.left.get()).min(BURST);
        let has_room = left >= 1.0;
        self.left.set(if has_room { left - 1.0 } else { left });
        has_room
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_and_told() {
        let ration = Ration::default();
        let second = Duration::from_secs(1);
        let through = (0..1000).filter(|_| ration.admit(second).is_some()).count();
        assert_eq!(through, 100);
        assert_eq!(ration.admit(second), None);
        assert_eq!(ration.admit(2 * second), Some(901), "ten more a second, and the first says what was left out");
        let through = (0..1000).filter(|_| ration.admit(2 * second).is_some()).count();
        assert_eq!(through, 9);
    }

    #[test]
    fn what_was_left_out_last_is_owed_until_it_is_told() {
        let ration = Ration::default();
        assert_eq!(ration.owed(Duration::ZERO), 0);
        for _ in 0..103 {
            ration.admit(Duration::ZERO);
        }
        assert_eq!(ration.owed(Duration::ZERO), 0, "there is no room yet");
        let told = ration.owed(Duration::from_secs(1));
        assert_eq!(told, 3);
        assert_eq!(ration.owed(Duration::from_secs(1)), 0);
    }
}
