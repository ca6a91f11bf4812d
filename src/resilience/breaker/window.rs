//! How many requests an endpoint answered in the last seconds, and how many of them failed: exact counts (pure).
//!
//! A ring of ten buckets, each one word that names the time it counts for. A moving average was the other choice; it
//! gives a burst at a high rate almost no weight, because it decays by time while the burst takes none (Linkerd 2
//! replaced one by such a ring for this). Here a thousand failures in a millisecond weigh what they weigh in a second.

use std::sync::atomic::{AtomicU64, Ordering};

/// Buckets of a window; the oldest one leaves whole, so the window's length is exact to a tenth.
pub(crate) const BUCKETS: u32 = 10;
/// Bits of each of the two counts in a bucket: four million requests, which a bucket of a minute holds at 70,000 a
/// second. Beyond that it stays full, and the share of failures stays as it was.
const COUNT_BITS: u32 = 22;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// Bits of a bucket's time: with buckets of a second the same number comes back after 12 days.
const TIME_BITS: u32 = 64 - 2 * COUNT_BITS;
const TIME_MASK: u32 = (1 << TIME_BITS) - 1;

/// Counts of the last `10 * bucket` milliseconds.
#[derive(Debug, Default)]
pub(crate) struct Window([AtomicU64; BUCKETS as usize]);

/// Exact counts of a window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Requests that were answered, or failed.
    pub(crate) requests: u64,
    /// Of these, the ones that failed or were turned away by a limit.
    pub(crate) failures: u64,
}

impl Window {
    /// Counts a request; `bucket` is the length of one bucket in milliseconds, at least 1.
    pub(crate) fn add(&self, failed: bool, bucket: u32, now: u32) {
        let time = number(bucket, now);
        let Some(word) = self.0.get((time % BUCKETS) as usize) else { return };
        let mut before = word.load(Ordering::Relaxed);
        loop {
            let (mut counted, mut counts) = unpack(before);
            if counted != time & TIME_MASK {
                (counted, counts) = (time & TIME_MASK, Counts::default());
            }
            if counts.requests == COUNT_MAX {
                return;
            }
            counts.requests += 1;
            counts.failures += u64::from(failed);
            let after = pack(counted, counts);
            match word.compare_exchange_weak(before, after, Ordering::Relaxed, Ordering::Relaxed) {
                Ok(_) => return,
                Err(seen) => before = seen,
            }
        }
    }

    /// Returns what the window holds now.
    pub(crate) fn counts(&self, bucket: u32, now: u32) -> Counts {
        let time = number(bucket, now);
        let mut sum = Counts::default();
        for word in &self.0 {
            let (counted, counts) = unpack(word.load(Ordering::Relaxed));
            if time.wrapping_sub(counted) & TIME_MASK < BUCKETS {
                sum.requests += counts.requests;
                sum.failures += counts.failures;
            }
        }
        sum
    }

    /// Forgets everything: what an endpoint did before it was ejected is not held against it afterwards.
    pub(crate) fn clear(&self) {
        self.0.iter().for_each(|word| word.store(0, Ordering::Relaxed));
    }
}

/// The number of the bucket that `now` falls in. It begins at ten, so that a word of zeros, which counts nothing, is
/// not taken for a bucket of the process's first seconds.
fn number(bucket: u32, now: u32) -> u32 {
    (now / bucket.max(1)).wrapping_add(BUCKETS)
}

fn pack(time: u32, counts: Counts) -> u64 {
    u64::from(time) << (2 * COUNT_BITS) | counts.requests << COUNT_BITS | counts.failures
}

#[allow(clippy::cast_possible_truncation, reason = "twenty bits")]
fn unpack(word: u64) -> (u32, Counts) {
    let counts = Counts { requests: word >> COUNT_BITS & COUNT_MAX, failures: word & COUNT_MAX };
    ((word >> (2 * COUNT_BITS)) as u32, counts)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_older_than_the_window_does_not_count() {
        let window = Window::default();
        window.add(true, 1000, 500);
        window.add(false, 1000, 9_999);
        assert_eq!(window.counts(1000, 9_999), Counts { requests: 2, failures: 1 });
        assert_eq!(window.counts(1000, 10_000), Counts { requests: 1, failures: 0 });
        window.add(true, 1000, 10_400);
        assert_eq!(window.counts(1000, 10_999), Counts { requests: 2, failures: 1 });
        window.clear();
        assert_eq!(window.counts(1000, 10_999), Counts::default());
    }

    #[test]
    fn workers_lose_no_count() {
        let window = Window::default();
        std::thread::scope(|scope| {
            for worker in 0..4 {
                let window = &window;
                scope.spawn(move || (0..5000).for_each(|request| window.add(request % 5 == 0, 1000, worker)));
            }
        });
        assert_eq!(window.counts(1000, 0), Counts { requests: 20_000, failures: 4000 });
    }

    proptest! {
        /// The ring says what a list of all requests would say.
        #[test]
        fn the_counts_are_exact(steps in prop::collection::vec((0u32..4000, any::<bool>()), 1..200), start: u32) {
            let start = start % (u32::MAX / 2);
            let window = Window::default();
            let mut all = Vec::new();
            let mut now = start;
            for (step, failed) in steps {
                now += step;
                window.add(failed, 1000, now);
                all.push((now / 1000, failed));
                let within: Vec<_> = all.iter().filter(|(time, _)| now / 1000 - time < BUCKETS).collect();
                let failures = within.iter().filter(|(_, failed)| *failed).count() as u64;
                prop_assert_eq!(window.counts(1000, now), Counts { requests: within.len() as u64, failures });
            }
        }
    }
}
