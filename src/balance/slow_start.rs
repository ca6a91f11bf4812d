//! Slow start (pure): an endpoint that comes beside established ones begins with a tenth of its weight.
//!
//! The share grows linearly, as Envoy's does with its default aggression of 1.0 and minimum of 10 %. It begins with the
//! first choice in which the endpoint takes part, so that nobody needs a clock to begin it.

use std::sync::atomic::{AtomicU64, Ordering};

use super::load::age;

/// Share of its weight that an endpoint begins with.
const FIRST_SHARE: f32 = 0.1;
/// Has its whole weight.
const WARM: u64 = 0;
/// Begins with the next choice.
const BEGINS: u64 = 1;
/// Set in what stands for "since", so that no stamp is taken for another state.
const SINCE: u64 = 1 << 32;

/// How far an endpoint is in its slow start; warm by default.
#[derive(Debug, Default)]
pub(crate) struct Warmth(AtomicU64);

impl Warmth {
    /// Begins a slow start: the endpoint is new, or comes back. It means nothing where the policy has no `slow_start`.
    pub(crate) fn begin(&self) {
        self.0.store(BEGINS, Ordering::Relaxed);
    }

    /// Ends a slow start early.
    pub(crate) fn finish(&self) {
        self.0.store(WARM, Ordering::Relaxed);
    }

    /// Returns the share of its weight that it has now, 0.1 to 1. `window` is the length of a slow start; both are in
    /// milliseconds.
    #[allow(clippy::cast_possible_truncation, reason = "the stamp is the lower half")]
    pub(crate) fn share(&self, now: u32, window: u32) -> f32 {
        let state = self.0.load(Ordering::Relaxed);
        let next = match state {
            WARM => return 1.0,
            BEGINS => SINCE | u64::from(now),
            since => {
                let elapsed = age(now, since as u32);
                if elapsed < window {
                    return FIRST_SHARE + (1.0 - FIRST_SHARE) * elapsed as f32 / window as f32;
                }
                // Forgotten, or it would begin again when the clock has wrapped.
                WARM
            }
        };
        // Another worker that was faster wrote the same within a moment, or has just begun another slow start.
        let _ = self.0.compare_exchange(state, next, Ordering::Relaxed, Ordering::Relaxed);
        if next == WARM { 1.0 } else { FIRST_SHARE }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::float_cmp, reason = "numbers that floats hold exactly")]

    use super::*;

    #[test]
    fn the_share_grows_from_a_tenth_to_all_and_stays_there() {
        let warmth = Warmth::default();
        assert_eq!(warmth.share(0, 1000), 1.0);
        warmth.begin();
        // The window begins with the first look, here just before the clock wraps.
        let start = u32::MAX - 200;
        let shares = [0, 250, 500, 999, 1000, 5].map(|elapsed| warmth.share(start.wrapping_add(elapsed), 1000));
        for (share, expected) in shares.iter().zip([0.1, 0.325, 0.55, 0.9991, 1.0, 1.0]) {
            assert!((share - expected).abs() < 1e-4, "{shares:?}");
        }
        warmth.begin();
        assert_eq!(warmth.share(0, 1000), 0.1);
        warmth.finish();
        assert_eq!(warmth.share(0, 1000), 1.0);
    }
}
