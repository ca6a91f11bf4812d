//! What keeps the authority from being overrun: buckets that refill, for all, for each identity, for each source.
//!
//! `now` is handed in; a clock that goes back refills nothing.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

/// Most identities or sources that are remembered; further ones push out those that waited longest.
const MOST: usize = 10_000;

/// Wrong tokens from one address within a minute before it has to wait (security.md, 2: brute force).
const FAILURES: f64 = 5.0;

/// How often certificates are issued.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// In a second, over all. Default 50.
    pub per_second: u32,
    /// In a minute, for one identity. Default 10.
    pub per_identity: u32,
}

impl Default for Limits {
    fn default() -> Self {
        Self { per_second: 50, per_identity: 10 }
    }
}

/// Holds some number of goes, and fills up again.
#[derive(Debug, Clone, Copy)]
struct Bucket {
    left: f64,
    since: SystemTime,
}

/// One bucket for each of many.
#[derive(Debug)]
struct Buckets<K> {
    size: f64,
    /// How long from empty to full.
    refill: Duration,
    of: HashMap<K, Bucket>,
}

impl<K: Clone + Eq + Hash> Buckets<K> {
    fn new(size: f64, refill: Duration) -> Self {
        Self { size, refill, of: HashMap::new() }
    }

    fn level(&self, bucket: Bucket, now: SystemTime) -> f64 {
        let passed = now.duration_since(bucket.since).unwrap_or_default();
        (bucket.left + self.size * passed.as_secs_f64() / self.refill.as_secs_f64()).min(self.size)
    }

    /// Returns how long to wait until there is a go; `None`: now.
    fn wait(&self, key: &K, now: SystemTime) -> Option<Duration> {
        let left = self.of.get(key).map_or(self.size, |bucket| self.level(*bucket, now));
        (left < 1.0).then(|| self.refill.mul_f64((1.0 - left) / self.size))
    }

    fn take(&mut self, key: &K, now: SystemTime) {
        let left = self.of.get(key).map_or(self.size, |bucket| self.level(*bucket, now));
        if self.of.len() >= MOST && !self.of.contains_key(key) {
            self.forget(now);
        }
        self.of.insert(key.clone(), Bucket { left: (left - 1.0).max(0.0), since: now });
    }

    /// Drops those that are full; if none is, the tenth that has waited longest.
    fn forget(&mut self, now: SystemTime) {
        let (size, refill) = (self.size, self.refill);
        let before = self.of.len();
        self.of.retain(|_, bucket| {
            let passed = now.duration_since(bucket.since).unwrap_or_default();
            bucket.left + size * passed.as_secs_f64() / refill.as_secs_f64() < size
        });
        if self.of.len() == before {
            let mut oldest: Vec<_> = self.of.iter().map(|(key, bucket)| (bucket.since, key.clone())).collect();
            oldest.sort_by_key(|(since, _)| *since);
            for (_, key) in oldest.into_iter().take(MOST / 10) {
                self.of.remove(&key);
            }
        }
    }
}

/// All limits of one authority.
#[derive(Debug)]
pub(crate) struct Throttle {
    all: Buckets<()>,
    identities: Buckets<String>,
    /// Refusals that are written down: whoever is refused all the time must not fill the disk.
    refusals: Buckets<()>,
    failures: Buckets<Option<IpAddr>>,
}

impl Throttle {
    pub(crate) fn new(limits: Limits) -> Self {
        let second = Duration::from_secs(1);
        let minute = Duration::from_mins(1);
        Self {
            all: Buckets::new(f64::from(limits.per_second.max(1)), second),
            identities: Buckets::new(f64::from(limits.per_identity.max(1)), minute),
            refusals: Buckets::new(f64::from(limits.per_second.max(1)), second),
            failures: Buckets::new(FAILURES, minute),
        }
    }

    /// Takes a go for a certificate, or says how long to wait.
    pub(crate) fn issue(&mut self, id: &str, now: SystemTime) -> Result<(), Duration> {
        let id = id.to_owned();
        let waits = [self.all.wait(&(), now), self.identities.wait(&id, now)];
        if let Some(wait) = waits.into_iter().flatten().max() {
            return Err(wait);
        }
        self.all.take(&(), now);
        self.identities.take(&id, now);
        Ok(())
    }

    /// Takes a go for a refusal that is written down, or says how long to wait.
    pub(crate) fn refuse(&mut self, now: SystemTime) -> Result<(), Duration> {
        self.refusals.wait(&(), now).map_or(Ok(()), Err)?;
        self.refusals.take(&(), now);
        Ok(())
    }

    /// Says how long a source has to wait that showed wrong tokens.
    pub(crate) fn tries(&self, source: Option<IpAddr>, now: SystemTime) -> Result<(), Duration> {
        self.failures.wait(&source, now).map_or(Ok(()), Err)
    }

    /// Counts a wrong token.
    pub(crate) fn failed(&mut self, source: Option<IpAddr>, now: SystemTime) {
        self.failures.take(&source, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authority::clock::at;

    #[test]
    fn an_identity_has_ten_in_a_minute_and_is_told_how_long_to_wait() {
        let mut throttle = Throttle::new(Limits::default());
        for _ in 0..10 {
            throttle.issue("web", at(1_000)).unwrap();
        }
        assert_eq!(throttle.issue("web", at(1_000)).unwrap_err(), Duration::from_secs(6));
        throttle.issue("api", at(1_000)).unwrap();
        throttle.issue("web", at(1_006)).unwrap();
        assert!(throttle.issue("web", at(1_006)).is_err());
        assert!(throttle.issue("web", at(900)).is_err(), "a clock that goes back refills nothing");
    }

    #[test]
    fn all_together_have_fifty_in_a_second_and_who_waits_takes_nothing() {
        let mut throttle = Throttle::new(Limits::default());
        for number in 0..50 {
            throttle.issue(&number.to_string(), at(1_000)).unwrap();
        }
        assert!(throttle.issue("late", at(1_000)).is_err());
        throttle.issue("late", at(1_001)).unwrap();
        for _ in 0..9 {
            throttle.issue("late", at(1_001)).unwrap();
        }
        assert!(throttle.issue("late", at(1_001)).is_err());
    }

    #[test]
    fn five_wrong_tokens_in_a_minute_are_enough() {
        let mut throttle = Throttle::new(Limits::default());
        let source = Some(IpAddr::from([192, 0, 2, 1]));
        for _ in 0..5 {
            throttle.tries(source, at(1_000)).unwrap();
            throttle.failed(source, at(1_000));
        }
        assert_eq!(throttle.tries(source, at(1_000)).unwrap_err(), Duration::from_secs(12));
        throttle.tries(Some(IpAddr::from([192, 0, 2, 2])), at(1_000)).unwrap();
        throttle.tries(source, at(1_012)).unwrap();
    }

    #[test]
    fn memory_is_bounded_however_many_ask() {
        let mut buckets = Buckets::new(1.0, Duration::from_mins(1));
        for number in 0..2 * MOST {
            buckets.take(&number, at(1_000));
        }
        assert!(buckets.of.len() <= MOST && buckets.of.len() > MOST / 2);
        // Those that are full again are what nobody needs.
        buckets.take(&usize::MAX, at(2_000));
        assert_eq!(buckets.of.len(), 1);
    }
}
