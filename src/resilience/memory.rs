//! How short memory is, and what is refused for it (pure; what is used and allowed is handed in).
//!
//! Being killed for using too much ends every request; refusing some ends some. The thresholds are those of the security paper
//! (§1, "overload"): at 90 % of the limit no connection begins, at 95 % no request does, and connections are told to end.

use std::sync::atomic::{AtomicU8, Ordering};

/// Shares of the limit, in percent, at which a level begins, and below which it ends: five points lower, so that it does not
/// come and go.
const CONNECTIONS: (u64, u64) = (90, 85);
const REQUESTS: (u64, u64) = (95, 90);

/// How short memory is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Level {
    Enough,
    /// No connection begins.
    NoConnections,
    /// No request begins either, and connections are told to end.
    NoRequests,
}

impl Level {
    /// Returns the level after `self`, where `used` of `limit` bytes are used.
    pub(crate) fn next(self, used: u64, limit: u64) -> Self {
        let percent = used.saturating_mul(100) / limit.max(1);
        let holds = |level: Self, (begins, ends): (u64, u64)| percent >= if self >= level { ends } else { begins };
        if holds(Self::NoRequests, REQUESTS) {
            Self::NoRequests
        } else if holds(Self::NoConnections, CONNECTIONS) {
            Self::NoConnections
        } else {
            Self::Enough
        }
    }
}

/// The level, for all workers to see.
#[derive(Debug, Default)]
pub(crate) struct Pressure(AtomicU8);

impl Pressure {
    pub(crate) fn set(&self, level: Level) {
        self.0.store(level as u8, Ordering::Relaxed);
    }

    pub(crate) fn level(&self) -> Level {
        match self.0.load(Ordering::Relaxed) {
            0 => Level::Enough,
            1 => Level::NoConnections,
            _ => Level::NoRequests,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_level_begins_at_its_threshold_and_ends_five_points_below() {
        let mut level = Level::Enough;
        let course: Vec<_> = [89, 90, 94, 86, 85, 84, 95, 91, 90, 89, 85, 84, 100, 10]
            .map(|percent| {
                level = level.next(percent, 100);
                level as u8
            })
            .into();
        assert_eq!(course, [0, 1, 1, 1, 1, 0, 2, 2, 2, 1, 1, 0, 2, 0]);
    }

    #[test]
    fn what_is_set_is_read() {
        let pressure = Pressure::default();
        for level in [Level::NoRequests, Level::NoConnections, Level::Enough] {
            pressure.set(level);
            assert_eq!(pressure.level(), level);
        }
    }
}
