//! How many endpoints of one upstream are ejected at a time, against `breaker.max_ejected` (pure).

use std::sync::atomic::{AtomicU32, Ordering};

/// The endpoints of an upstream that are ejected now: a place is claimed before an ejection and released after it.
#[derive(Debug, Default)]
pub(crate) struct Ejected(AtomicU32);

impl Ejected {
    /// Returns how many endpoints are ejected.
    pub(crate) fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }

    /// Takes a place for one more; false: `share` of `endpoints` are ejected already.
    pub(super) fn claim(&self, share: f64, endpoints: usize) -> bool {
        let most = most(share, endpoints);
        let more = |count: u32| (count < most).then_some(count + 1);
        self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_ok()
    }

    /// Gives a place back.
    pub(super) fn release(&self) {
        let less = |count: u32| Some(count.saturating_sub(1));
        let _ = self.0.fetch_update(Ordering::Relaxed, Ordering::Relaxed, less);
    }
}

/// How many endpoints may be ejected: rounded down, at least 1. So the only endpoint of a service may be ejected: the
/// next tier takes over, and where there is none, panic sends to it all the same.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a share of a number of endpoints")]
fn most(share: f64, endpoints: usize) -> u32 {
    ((endpoints as f64 * share) as u32).max(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_rounds_down_and_is_one_at_least() {
        let allowed = [0, 1, 2, 3, 4, 5, 7, 10].map(|endpoints| most(0.5, endpoints));
        assert_eq!(allowed, [1, 1, 1, 1, 2, 2, 3, 5]);
        assert_eq!(most(0.1, 100), 10);
        assert_eq!(most(1.0, 3), 3);
    }

    #[test]
    fn a_place_is_given_back_before_another_is_taken() {
        let ejected = Ejected::default();
        assert!(ejected.claim(0.5, 3));
        assert!(!ejected.claim(0.5, 3));
        ejected.release();
        assert!(ejected.claim(0.5, 3));
        assert_eq!(ejected.count(), 1);
    }
}
