//! When to count anew how much of a set is usable: endpoints are ejected and come back without a new table.

use std::sync::atomic::{AtomicU32, Ordering};

use super::load::age;

/// Between two counts, in milliseconds. A choice never falls on what is not usable whatever the count says; it only
/// settles shares.
const EVERY_MS: u32 = 100;

/// Says when the next count is due, to one of the workers.
#[derive(Debug, Default)]
pub(super) struct Census(AtomicU32);

impl Census {
    pub(super) fn is_due(&self, now: u32) -> bool {
        let last = self.0.load(Ordering::Relaxed);
        age(now, last) >= EVERY_MS && self.0.compare_exchange(last, now, Ordering::Relaxed, Ordering::Relaxed).is_ok()
    }
}
