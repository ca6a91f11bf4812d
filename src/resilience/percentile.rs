//! A percentile of recent latencies (pure; `now` in milliseconds).
//!
//! Counts in buckets of a logarithmic scale, eight for each doubling, so a value is right within 9 %. Two windows of 30 s
//! follow each other: what is asked looks at both, so it never forgets everything at once. Workers share it; a count that
//! is lost when windows change is one of thousands.

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use crate::word::{halves, whole};

/// How long one window counts, in milliseconds.
const WINDOW: u32 = 30_000;
/// How long an answer stands before it is worked out again, in milliseconds (Finagle's three seconds).
const STANDS: u32 = 3000;
/// Fewest latencies from which anything is said: with less, one outlier is the percentile.
const FEWEST: u32 = 20;
/// Buckets for each doubling.
const STEPS: f32 = 8.0;
/// From 0.1 ms to about 100 s.
const BUCKETS: usize = 160;
const SHORTEST_MS: f32 = 0.1;

/// Recent latencies of one service.
#[derive(Debug)]
pub(crate) struct Latencies {
    windows: [[AtomicU32; BUCKETS]; 2],
    /// Which window counts now, and since when.
    turn: AtomicU64,
    /// The last answer, in microseconds above, and when it was worked out below.
    answer: AtomicU64,
    /// Which share it is for, as the bits of `f64`. Two routes that ask for different ones work them out anew each time.
    asked: AtomicU64,
}

impl Default for Latencies {
    fn default() -> Self {
        let window = || std::array::from_fn(|_| AtomicU32::new(0));
        Self {
            windows: [window(), window()],
            turn: AtomicU64::new(0),
            answer: AtomicU64::new(u64::MAX),
            asked: AtomicU64::new(0),
        }
    }
}

impl Latencies {
    /// Counts one.
    pub(crate) fn record(&self, millis: f32, now: u32) {
        let window = self.current(now);
        if let Some(count) = self.windows.get(window).and_then(|window| window.get(bucket(millis))) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Returns the latency, in milliseconds, that `share` of the recent ones stayed below; `None` while too few are known.
    pub(crate) fn percentile(&self, share: f64, now: u32) -> Option<f32> {
        let (micros, at) = halves(self.answer.load(Ordering::Relaxed));
        if self.asked.load(Ordering::Relaxed) == share.to_bits() && micros != u32::MAX && now.wrapping_sub(at) < STANDS
        {
            return Some(micros as f32 / 1000.0);
        }
        self.current(now);
        let count = |bucket: usize| -> u32 {
            let of =
                |window: &[AtomicU32; BUCKETS]| window.get(bucket).map_or(0, |count| count.load(Ordering::Relaxed));
            self.windows.iter().map(of).sum()
        };
        let all: u32 = (0..BUCKETS).map(count).sum();
        if all < FEWEST {
            return None;
        }
        let wanted = share * f64::from(all);
        let mut seen = 0.0;
        let found = (0..BUCKETS).find(|&bucket| {
            seen += f64::from(count(bucket));
            seen >= wanted
        })?;
        let millis = upper(found);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "at most 100 s, in microseconds")]
        let micros = (millis * 1000.0) as u32;
        self.asked.store(share.to_bits(), Ordering::Relaxed);
        self.answer.store(whole(micros, now), Ordering::Relaxed);
        Some(millis)
    }

    /// Returns the window that counts now; empties it when its turn comes.
    fn current(&self, now: u32) -> usize {
        let word = self.turn.load(Ordering::Relaxed);
        let (window, since) = halves(word);
        let passed = now.wrapping_sub(since);
        // What seems to lie ahead is another worker's clock, read a moment later.
        if !(WINDOW..=u32::MAX / 2).contains(&passed) {
            return window as usize;
        }
        let next = 1 - window.min(1);
        if self.turn.compare_exchange(word, whole(next, now), Ordering::Relaxed, Ordering::Relaxed).is_ok() {
            let long_ago = passed >= 2 * WINDOW;
            for (at, window) in self.windows.iter().enumerate() {
                if at == next as usize || long_ago {
                    for count in window {
                        count.store(0, Ordering::Relaxed);
                    }
                }
            }
        }
        next as usize
    }
}

#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "clamped to the buckets")]
fn bucket(millis: f32) -> usize {
    let step = ((millis.max(SHORTEST_MS) / SHORTEST_MS).log2() * STEPS).floor();
    (step as usize).min(BUCKETS - 1)
}

/// The end of a bucket, in milliseconds.
fn upper(bucket: usize) -> f32 {
    SHORTEST_MS * ((bucket + 1) as f32 / STEPS).exp2()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_percentile_is_right_within_a_bucket() {
        let latencies = Latencies::default();
        (1..=1000u16).for_each(|millis| latencies.record(f32::from(millis), 0));
        let p95 = latencies.percentile(0.95, 0).unwrap();
        assert!((950.0..950.0 * 1.1).contains(&p95), "{p95}");
    }

    #[test]
    fn too_few_latencies_say_nothing() {
        let latencies = Latencies::default();
        (0..19).for_each(|_| latencies.record(5.0, 0));
        assert_eq!(latencies.percentile(0.95, 0), None);
        latencies.record(5.0, 0);
        assert!(latencies.percentile(0.95, 0).is_some());
    }

    #[test]
    fn an_answer_stands_for_three_seconds_and_old_latencies_are_forgotten_after_two_windows() {
        let latencies = Latencies::default();
        (0..100).for_each(|_| latencies.record(5.0, 0));
        let slow = |now: u32| (0..1000).for_each(|_| latencies.record(100.0, now));
        assert!(latencies.percentile(0.5, 0).unwrap() < 6.0);
        slow(1000);
        assert!(latencies.percentile(0.5, 2000).unwrap() < 6.0, "it stands");
        assert!(latencies.percentile(0.5, 3000).unwrap() > 90.0);
        (0..100).for_each(|_| latencies.record(5.0, 40_000));
        assert!(latencies.percentile(0.5, 40_000).unwrap() > 90.0, "the window before counts too");
        (0..100).for_each(|_| latencies.record(5.0, 71_000));
        assert!(latencies.percentile(0.5, 71_000).unwrap() < 6.0);
        assert_eq!(latencies.percentile(0.5, 200_000), None, "everything is old");
    }

    #[test]
    fn what_is_out_of_range_is_counted_at_its_ends() {
        assert_eq!((bucket(0.0), bucket(f32::MAX)), (0, BUCKETS - 1));
        assert!(upper(BUCKETS - 1) > 100_000.0);
    }
}
