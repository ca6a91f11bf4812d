//! When and from where to ask again: indexes and a bucket of tokens (pure; `now` is handed in).

use std::time::Duration;

use tokio::time::Instant;

/// Where a blocking query goes on.
///
/// The rules are Consul's (blocking.mdx): an index that goes back begins anew, and one below 1 never waits.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Cursor {
    /// What was seen last; 0: nothing, the next query does not wait.
    index: u64,
}

impl Cursor {
    /// Returns the index to wait on; `None`: ask at once.
    pub(super) fn index(self) -> Option<u64> {
        (self.index > 0).then_some(self.index)
    }

    /// Takes in the index of an answer. One that is missing counts as the lowest that can be waited on: it returns at
    /// once where anything was ever written, and the bucket keeps that from being a storm.
    pub(super) fn saw(&mut self, index: Option<u64>) {
        let index = index.unwrap_or(0).max(1);
        self.index = if index < self.index { 0 } else { index };
    }

    /// Begins anew.
    pub(super) fn reset(&mut self) {
        self.index = 0;
    }
}

/// Bounds how often one target asks: a burst of ten, then one each second.
///
/// It never sleeps while changes are rare, so that a change is never late in the ordinary case. Consul proposes a burst
/// of 2 and one each 15 s; ten make a rolling deploy visible step by step, and one each second is what is promised.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Bucket {
    /// When it would be full again.
    full_at: Instant,
}

/// How many may be taken at once.
const BURST: u32 = 10;

/// How long it takes to earn one.
const EARN: Duration = Duration::from_secs(1);

impl Bucket {
    /// Returns a full one.
    pub(super) fn new(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// Returns when the next one may be taken: now, or later.
    pub(super) fn due(&self, now: Instant) -> Instant {
        let lead = EARN * (BURST - 1);
        self.full_at.checked_sub(lead).map_or(now, |due| due.max(now))
    }

    /// Takes one.
    pub(super) fn take(&mut self, now: Instant) {
        self.full_at = self.full_at.max(now) + EARN;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn an_index_that_goes_backwards_begins_anew() {
        let mut cursor = Cursor::default();
        assert_eq!(cursor.index(), None);
        cursor.saw(Some(100));
        assert_eq!(cursor.index(), Some(100));
        cursor.saw(Some(100));
        assert_eq!(cursor.index(), Some(100));
        cursor.saw(Some(99));
        assert_eq!(cursor.index(), None);
        cursor.saw(Some(99));
        assert_eq!(cursor.index(), Some(99));
    }

    #[test]
    fn an_index_below_one_waits_on_one() {
        for index in [Some(0), None] {
            let mut cursor = Cursor::default();
            cursor.saw(index);
            assert_eq!(cursor.index(), Some(1));
        }
    }

    #[test]
    fn rare_changes_never_wait_and_a_storm_is_one_each_second() {
        let start = Instant::now();
        let at = |milliseconds| start + Duration::from_millis(milliseconds);
        let mut bucket = Bucket::new(start);
        for second in 0..100 {
            assert_eq!(bucket.due(at(second * 1000)), at(second * 1000));
            bucket.take(at(second * 1000));
        }
        let mut storm = Bucket::new(start);
        let mut now = start;
        let mut taken = Vec::new();
        for _ in 0..15 {
            now = storm.due(now);
            storm.take(now);
            taken.push((now - start).as_millis());
        }
        assert_eq!(taken[..10], [0; 10]);
        assert_eq!(taken[10..], [1000, 2000, 3000, 4000, 5000]);
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_has_more_than_a_burst_and_one_each_second(gaps in prop::collection::vec(0_u64..3000, 1..80)) {
            let start = Instant::now();
            let (mut bucket, mut now, mut taken) = (Bucket::new(start), start, Vec::new());
            for gap in gaps {
                now = bucket.due(now + Duration::from_millis(gap));
                bucket.take(now);
                taken.push(now);
            }
            for (first, from) in taken.iter().enumerate() {
                for (last, to) in taken.iter().enumerate().skip(first) {
                    let most = u64::from(BURST) + (*to - *from).as_secs();
                    prop_assert!((last - first + 1) as u64 <= most);
                }
            }
        }
    }
}
