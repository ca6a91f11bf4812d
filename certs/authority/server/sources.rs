//! What one source address may use up: attempts in a second, and handshakes at a time (pure).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::time::{Duration, Instant};

/// Addresses that are kept apart; the others share one account.
const SOURCES: usize = 16 * 1024;

/// Attempts that may come at once, as a multiple of those of a second: a machine that starts has many workloads.
const BURST: f64 = 10.0;

/// The accounts of all sources.
#[derive(Debug)]
pub(super) struct Sources {
    /// Attempts in a second.
    rate: f64,
    /// Handshakes of one source at a time.
    handshakes: usize,
    known: HashMap<IpAddr, Account>,
}

#[derive(Debug)]
struct Account {
    attempts: f64,
    at: Instant,
    handshakes: usize,
}

impl Sources {
    pub(super) fn new(rate: u32, handshakes: usize) -> Self {
        Self { rate: f64::from(rate.max(1)), handshakes: handshakes.max(1), known: HashMap::new() }
    }

    /// Takes one attempt; the error is how long to wait.
    pub(super) fn attempt(&mut self, source: IpAddr, now: Instant) -> Result<(), Duration> {
        let rate = self.rate;
        let account = self.account(source, now);
        if account.attempts >= 1.0 {
            account.attempts -= 1.0;
            return Ok(());
        }
        Err(Duration::from_secs_f64((1.0 - account.attempts) / rate))
    }

    /// Begins a handshake; false where the source has too many under way. Each that begins ends by [`Self::end`].
    pub(super) fn begin(&mut self, source: IpAddr, now: Instant) -> bool {
        let most = self.handshakes;
        let account = self.account(source, now);
        if account.handshakes >= most {
            return false;
        }
        account.handshakes += 1;
        true
    }

    pub(super) fn end(&mut self, source: IpAddr, now: Instant) {
        let account = self.account(source, now);
        account.handshakes = account.handshakes.saturating_sub(1);
    }

    fn account(&mut self, source: IpAddr, now: Instant) -> &mut Account {
        let (rate, full) = (self.rate, self.rate * BURST);
        let mut key = network(source);
        if self.known.len() >= SOURCES && !self.known.contains_key(&key) {
            self.known.retain(|_, account| account.handshakes > 0 || account.refilled(rate, full, now) < full);
            if self.known.len() >= SOURCES {
                key = IpAddr::V4(Ipv4Addr::UNSPECIFIED);
            }
        }
        let account = self.known.entry(key).or_insert(Account { attempts: full, at: now, handshakes: 0 });
        account.attempts = account.refilled(rate, full, now);
        account.at = now;
        account
    }
}

impl Account {
    fn refilled(&self, rate: f64, full: f64, now: Instant) -> f64 {
        now.saturating_duration_since(self.at).as_secs_f64().mul_add(rate, self.attempts).min(full)
    }
}

/// A customer has a /64 of IPv6 at least, so one address of it says nothing.
fn network(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V4(address) => IpAddr::V4(address),
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_source_has_its_burst_and_then_its_rate_and_others_have_their_own() {
        let (mut sources, now) = (Sources::new(2, 5), Instant::now());
        for _ in 0..20 {
            assert_eq!(sources.attempt(address("192.0.2.1"), now), Ok(()));
        }
        let wait = sources.attempt(address("192.0.2.1"), now).unwrap_err();
        assert_eq!(wait, Duration::from_millis(500));
        assert_eq!(sources.attempt(address("192.0.2.2"), now), Ok(()));
        assert_eq!(sources.attempt(address("192.0.2.1"), now + wait), Ok(()));
    }

    #[test]
    fn addresses_of_one_v6_network_are_one_source_and_a_mapped_v4_address_is_itself() {
        let (mut sources, now) = (Sources::new(1, 1), Instant::now());
        assert!(sources.begin(address("2001:db8::1"), now));
        assert!(!sources.begin(address("2001:db8::ffff"), now));
        assert!(sources.begin(address("2001:db8:0:1::1"), now));
        assert!(sources.begin(address("::ffff:192.0.2.1"), now));
        assert!(!sources.begin(address("192.0.2.1"), now));
        sources.end(address("192.0.2.1"), now);
        assert!(sources.begin(address("192.0.2.1"), now));
    }

    #[test]
    fn more_sources_than_are_kept_share_an_account() {
        let (mut sources, now) = (Sources::new(1, 1), Instant::now());
        for number in 0..u32::try_from(SOURCES).unwrap() {
            sources.attempt(IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + number)), now).unwrap();
        }
        for _ in 0..10 {
            sources.attempt(address("192.0.2.1"), now).unwrap();
        }
        assert!(sources.attempt(address("192.0.2.2"), now).is_err());
        assert!(sources.known.len() <= SOURCES + 1);
        // Once they are as if they had never come, they are forgotten.
        assert_eq!(sources.attempt(address("192.0.2.2"), now + Duration::from_secs(20)), Ok(()));
        assert!(sources.known.len() < 10, "{}", sources.known.len());
    }
}
