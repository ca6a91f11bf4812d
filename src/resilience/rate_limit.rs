//! Rate limits: GCRA, the leaky bucket as a meter (pure; `now` since the process began).
//!
//! All that is kept is the *theoretical arrival time*: when the bucket will be empty again. A request that arrives less
//! than `burst - 1` intervals before it is let in and moves it one interval on (ITU-T I.371, the algorithm of ATM that
//! Linkerd 2 and most limiters use). One word for each limit, no timer, no refill.

mod keyed;

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use http::HeaderMap;

use self::keyed::Keyed;
use crate::config::{RateKey, RateLimit};

/// A limit of one route; workers share it, and it stays over a reload that does not change it.
#[derive(Debug)]
pub(crate) struct RateLimiter {
    settings: RateLimit,
    pace: Pace,
    counted: Counted,
}

#[derive(Debug)]
enum Counted {
    /// One arrival time, in nanoseconds.
    Together(AtomicU64),
    /// One for each key. Keys are told apart by a hash that nobody outside can compute.
    Apart { by: RandomState, each: Box<Keyed> },
}

/// How fast, in nanoseconds.
#[derive(Debug, Clone, Copy)]
struct Pace {
    /// Between two requests.
    interval: u64,
    /// How much earlier than its time a request may come.
    tolerance: u64,
}

/// What a limit's key is taken from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asker<'a> {
    /// SPIFFE ID of the client.
    pub(crate) from: Option<&'a str>,
    pub(crate) address: Option<IpAddr>,
    pub(crate) headers: &'a HeaderMap,
}

impl RateLimiter {
    pub(crate) fn new(settings: RateLimit) -> Self {
        let interval = (nanos(settings.rate.per) / u64::from(settings.rate.count.max(1))).max(1);
        let tolerance = interval.saturating_mul(u64::from(settings.burst.saturating_sub(1)));
        let counted = match settings.per {
            RateKey::Route => Counted::Together(AtomicU64::new(0)),
            RateKey::Address | RateKey::From | RateKey::Header(_) => {
                Counted::Apart { by: RandomState::new(), each: Box::default() }
            }
        };
        Self { settings, pace: Pace { interval, tolerance }, counted }
    }

    /// Tells whether it counts by these settings.
    pub(crate) fn is_for(&self, settings: &RateLimit) -> bool {
        self.settings == *settings
    }

    pub(crate) fn settings(&self) -> &RateLimit {
        &self.settings
    }

    /// Lets a request in, or says when one may come again. Clients without a key share one limit.
    pub(crate) fn admit(&self, asker: &Asker<'_>, now: Duration) -> Result<(), Duration> {
        let now = nanos(now);
        let wait = match &self.counted {
            Counted::Together(arrival) => {
                let admit = |before| self.pace.admit(before, now).ok();
                match arrival.fetch_update(Ordering::Relaxed, Ordering::Relaxed, admit) {
                    Ok(_) => return Ok(()),
                    Err(seen) => self.pace.admit(seen, now).err(),
                }
            }
            Counted::Apart { by, each } => {
                let key = by.hash_one(key(&self.settings.per, asker));
                each.with(key, |arrival| match self.pace.admit(*arrival, now) {
                    Ok(after) => {
                        *arrival = after;
                        None
                    }
                    Err(wait) => Some(wait),
                })
            }
        };
        wait.map_or(Ok(()), |wait| Err(Duration::from_nanos(wait)))
    }
}

impl Pace {
    /// Returns the arrival time after a request at `now`, or how long it is too early.
    fn admit(self, before: u64, now: u64) -> Result<u64, u64> {
        let arrival = before.max(now);
        let early = arrival - now;
        if early > self.tolerance { Err(early - self.tolerance) } else { Ok(arrival.saturating_add(self.interval)) }
    }
}

/// What tells clients apart.
#[derive(Hash)]
enum Key<'a> {
    Nobody,
    Network(u128),
    Text(&'a [u8]),
}

fn key<'a>(per: &RateKey, asker: &Asker<'a>) -> Key<'a> {
    let found = match per {
        RateKey::Route => None,
        RateKey::From => asker.from.map(|id| Key::Text(id.as_bytes())),
        RateKey::Header(name) => asker.headers.get(name).map(|value| Key::Text(value.as_bytes())),
        RateKey::Address => asker.address.map(|address| Key::Network(network(address))),
    };
    found.unwrap_or(Key::Nobody)
}

/// An IPv4 address as it is, an IPv6 address without its last 64 bits: whoever has one has all of its network.
fn network(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};
    use proptest::prelude::*;

    use super::*;
    use crate::config::units::Rate;

    fn limiter(per: RateKey, rate: &str, burst: u32) -> RateLimiter {
        RateLimiter::new(RateLimit { per, rate: rate.parse::<Rate>().unwrap(), burst })
    }

    fn at(limiter: &RateLimiter, millis: u64) -> Result<(), Duration> {
        let asker = Asker { from: None, address: None, headers: &HeaderMap::new() };
        limiter.admit(&asker, Duration::from_millis(millis))
    }

    fn by_address(limiter: &RateLimiter, address: &str) -> bool {
        let asker = Asker { from: None, address: address.parse().ok(), headers: &HeaderMap::new() };
        limiter.admit(&asker, Duration::ZERO).is_ok()
    }

    #[test]
    fn a_burst_passes_and_then_one_each_interval() {
        let limiter = limiter(RateKey::Route, "10/s", 3);
        assert!((0..3).all(|_| at(&limiter, 5000).is_ok()));
        assert_eq!(at(&limiter, 5000), Err(Duration::from_millis(100)));
        assert_eq!(at(&limiter, 5060), Err(Duration::from_millis(40)));
        assert!(at(&limiter, 5100).is_ok() && at(&limiter, 5100).is_err());
        // Calm fills it up again, and no further than the burst.
        assert_eq!((0..10).filter(|_| at(&limiter, 60_000).is_ok()).count(), 3);
    }

    #[test]
    fn a_rate_of_an_hour_waits_for_minutes() {
        let limiter = limiter(RateKey::Route, "6/h", 1);
        assert!(at(&limiter, 0).is_ok());
        assert_eq!(at(&limiter, 0), Err(Duration::from_mins(10)));
    }

    #[test]
    fn each_key_has_a_limit_of_its_own() {
        let limiter = limiter(RateKey::Address, "1/s", 1);
        assert!(by_address(&limiter, "192.0.2.1") && !by_address(&limiter, "192.0.2.1"));
        assert!(by_address(&limiter, "192.0.2.2"));
        assert!(!by_address(&limiter, "::ffff:192.0.2.2"), "the same address");
        assert!(by_address(&limiter, "2001:db8::1") && !by_address(&limiter, "2001:db8::2"), "the same /64");
        assert!(by_address(&limiter, "2001:db8:0:1::1"));
        assert!(by_address(&limiter, "") && !by_address(&limiter, ""), "nobody's is one limit, too");
    }

    #[test]
    fn a_header_or_an_identity_can_be_the_key() {
        let named = limiter(RateKey::Header(HeaderName::from_static("x-key")), "1/s", 1);
        let with = |value: &'static str| {
            let headers = HeaderMap::from_iter([(HeaderName::from_static("x-key"), HeaderValue::from_static(value))]);
            named.admit(&Asker { from: None, address: None, headers: &headers }, Duration::ZERO).is_ok()
        };
        assert!(with("a") && with("b") && !with("a"));
        let known = limiter(RateKey::From, "1/s", 1);
        let id = |from| known.admit(&Asker { from, address: None, headers: &HeaderMap::new() }, Duration::ZERO).is_ok();
        assert!(id(Some("spiffe://a/b")) && id(Some("spiffe://a/c")) && !id(Some("spiffe://a/b")));
    }

    #[test]
    fn workers_share_it() {
        let limiter = limiter(RateKey::Route, "1/s", 1000);
        let admitted: usize = std::thread::scope(|scope| {
            let count = || (0..1000).filter(|_| at(&limiter, 1).is_ok()).count();
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(count)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).sum()
        });
        assert_eq!(admitted, 1000);
    }

    proptest! {
        #[test]
        fn in_no_span_more_passes_than_the_burst_and_the_rate_allow(
            gaps in proptest::collection::vec(0u64..300, 1..200),
            count in 1u32..20,
            burst in 1u32..10,
        ) {
            let limiter = limiter(RateKey::Route, &format!("{count}/s"), burst);
            let mut now = 0;
            let mut passed: Vec<u64> = Vec::new();
            for gap in gaps {
                now += gap;
                match at(&limiter, now) {
                    Ok(()) => passed.push(now),
                    // What is told is the truth: not a moment earlier.
                    Err(wait) => prop_assert!(wait.as_nanos() > 0),
                }
            }
            for (first, begin) in passed.iter().enumerate() {
                for (last, end) in passed.iter().enumerate().skip(first) {
                    let allowed = f64::from(burst) + (end - begin) as f64 / 1000.0 * f64::from(count) + 1e-6;
                    prop_assert!((last - first + 1) as f64 <= allowed);
                }
            }
        }
    }
}
