//! How much of a target's endpoints can carry traffic: counted when something changed, not for each request.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use meshless_discovery::Health;

use super::Member;
use crate::follow::removals::Standing;
use crate::word::{halves, whole};

/// No count stands longer than this, in milliseconds, whatever happens; it bounds what a lost race can cost.
const LONGEST: u32 = 1000;

/// Counts of one target's endpoints.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Vitals {
    /// Those that a backend lists for new requests, healthy or not.
    pub(crate) all: u32,
    /// Healthy, by their backend and our checks, ejected or not.
    pub(crate) sound: u32,
    /// Sound, and not ejected; also those whose ejection is over and that wait for their probe.
    pub(crate) usable: u32,
    /// Those that wait for their probe.
    pub(crate) due: u32,
}

impl Vitals {
    /// Returns the share that can carry traffic; 0 where there is nobody.
    pub(crate) fn ratio(&self) -> f32 {
        if self.all == 0 { 0.0 } else { self.usable as f32 / self.all as f32 }
    }

    /// Tells whether so few are healthy that health is no guide any more. Our own ejections count only when they took
    /// everybody: they are bounded, and a bad minute is no reason to send requests to what is known to fail.
    pub(crate) fn is_below(&self, threshold: f64) -> bool {
        let sound = if self.usable == 0 { 0 } else { self.sound };
        self.all == 0 || f64::from(sound) < threshold * f64::from(self.all)
    }

    /// Counts members. Returns also after how many milliseconds the count may be another one by itself.
    pub(crate) fn count(members: &[Arc<Member>], now: u32) -> (Self, u32) {
        let mut vitals = Self::default();
        let mut stands = LONGEST;
        for member in members {
            let listed = member.standing == Standing::Listed && member.endpoint.health != Health::Draining;
            if !listed || member.endpoint.weight == 0 {
                continue;
            }
            vitals.all += 1;
            if !member.is_sound() {
                continue;
            }
            vitals.sound += 1;
            match member.state.breaker.ends_in(now) {
                None => vitals.usable += 1,
                Some(0) => {
                    vitals.usable += 1;
                    vitals.due += 1;
                }
                Some(left) => stands = stands.min(left),
            }
        }
        (vitals, stands)
    }
}

/// Vitals that are counted anew when the epoch of their upstream has changed, or their time is over. Workers share it
/// without a lock: two that count at once count the same.
#[derive(Debug)]
pub(crate) struct Counted {
    /// The epoch above, until when below.
    stamp: AtomicU64,
    usable_and_due: AtomicU64,
    all_and_sound: AtomicU64,
}

impl Counted {
    /// Nothing is counted yet.
    pub(crate) fn new() -> Self {
        // No epoch is the last one: epochs begin at 0 and do not come so far.
        Self { stamp: AtomicU64::new(u64::MAX), usable_and_due: AtomicU64::new(0), all_and_sound: AtomicU64::new(0) }
    }

    /// Returns the counts of members.
    pub(crate) fn of(&self, members: &[Arc<Member>], epoch: &AtomicU32, now: u32) -> Vitals {
        let epoch = epoch.load(Ordering::Relaxed);
        let (counted, until) = halves(self.stamp.load(Ordering::Acquire));
        let left = until.wrapping_sub(now);
        if counted == epoch && left != 0 && left <= LONGEST {
            let (usable, due) = halves(self.usable_and_due.load(Ordering::Relaxed));
            let (all, sound) = halves(self.all_and_sound.load(Ordering::Relaxed));
            return Vitals { all, sound, usable, due };
        }
        let (vitals, stands) = Vitals::count(members, now);
        self.usable_and_due.store(whole(vitals.usable, vitals.due), Ordering::Relaxed);
        self.all_and_sound.store(whole(vitals.all, vitals.sound), Ordering::Relaxed);
        self.stamp.store(whole(epoch, now.wrapping_add(stands.max(1))), Ordering::Release);
        vitals
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn panic_begins_below_the_threshold_and_counts_our_own_ejections_only_when_they_took_everybody() {
        let vitals = |sound, usable| Vitals { all: 4, sound, usable, due: 0 };
        assert!(!vitals(2, 2).is_below(0.5) && vitals(1, 1).is_below(0.5));
        assert!(!vitals(4, 1).is_below(0.5), "three are ejected: that is no panic");
        assert!(vitals(4, 0).is_below(0.5), "all are ejected");
        assert!(!vitals(0, 0).is_below(0.0), "0 % never panics");
    }
}
