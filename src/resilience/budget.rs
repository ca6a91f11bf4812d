//! A retry budget: retries are a share of requests, never a multiple (pure; `now` in milliseconds).
//!
//! Each request deposits `share`, each retry withdraws 1. What was deposited fades with a time constant of ten seconds,
//! so an old calm does not pay for a new storm; a reserve of ten seconds of `min_per_second` is always refilled. The
//! numbers are Finagle's (20 %, 10 a second, ten seconds).

use std::sync::atomic::{AtomicU64, Ordering};

/// How long a deposit counts, in seconds.
const FADE: f32 = 10.0;

/// A budget that workers share: one word, changed by compare and swap.
#[derive(Debug)]
pub(crate) struct Budget {
    /// The balance as `f32` bits above, the stamp in milliseconds below.
    state: AtomicU64,
}

impl Budget {
    /// A budget with its reserve filled.
    pub(crate) fn new(min_per_second: f64) -> Self {
        Self { state: AtomicU64::new(pack(reserve(min_per_second), 0)) }
    }

    /// A request was made.
    pub(crate) fn deposit(&self, share: f64, min_per_second: f64, now: u32) {
        self.change(now, min_per_second, |balance| Some(balance + to_f32(share)));
    }

    /// A retry wants to be made. True: it may.
    pub(crate) fn withdraw(&self, min_per_second: f64, now: u32) -> bool {
        self.change(now, min_per_second, |balance| (balance >= 1.0).then_some(balance - 1.0))
    }

    fn change(&self, now: u32, min_per_second: f64, change: impl Fn(f32) -> Option<f32>) -> bool {
        let mut before = self.state.load(Ordering::Relaxed);
        loop {
            let (balance, stamp) = unpack(before);
            let passed = now.saturating_sub(stamp) as f32 / 1000.0;
            let rest = reserve(min_per_second);
            let faded = if passed > 0.0 { rest + (balance - rest) * (-passed / FADE).exp() } else { balance };
            let Some(after) = change(faded) else { return false };
            match self.state.compare_exchange_weak(
                before,
                pack(after, now.max(stamp)),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => before = seen,
            }
        }
    }
}

fn reserve(min_per_second: f64) -> f32 {
    to_f32(min_per_second) * FADE
}

#[allow(clippy::cast_possible_truncation, reason = "a balance needs no more than the precision of f32")]
fn to_f32(value: f64) -> f32 {
    value as f32
}

fn pack(balance: f32, stamp: u32) -> u64 {
    u64::from(balance.to_bits()) << 32 | u64::from(stamp)
}

#[allow(clippy::cast_possible_truncation, reason = "the two halves of one word")]
fn unpack(state: u64) -> (f32, u32) {
    (f32::from_bits((state >> 32) as u32), state as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retries(budget: &Budget, min_per_second: f64, now: u32) -> usize {
        (0..1_000_000).take_while(|_| budget.withdraw(min_per_second, now)).count()
    }

    #[test]
    fn the_reserve_allows_ten_seconds_of_the_minimum() {
        assert_eq!(retries(&Budget::new(10.0), 10.0, 0), 100);
        assert_eq!(retries(&Budget::new(0.0), 0.0, 0), 0);
    }

    #[test]
    fn requests_pay_for_a_fifth_of_their_number() {
        let budget = Budget::new(0.0);
        (0..1000).for_each(|_| budget.deposit(0.2, 0.0, 0));
        let count = retries(&budget, 0.0, 0);
        assert!((199..=200).contains(&count), "{count}");
    }

    #[test]
    fn deposits_fade() {
        let budget = Budget::new(0.0);
        (0..1000).for_each(|_| budget.deposit(0.2, 0.0, 0));
        assert_eq!(retries(&budget, 0.0, 60_000), 0);
    }

    #[test]
    fn an_empty_reserve_fills_again() {
        let budget = Budget::new(10.0);
        assert_eq!(retries(&budget, 10.0, 0), 100);
        let later = retries(&budget, 10.0, 10_000);
        assert!((60..=66).contains(&later), "63 % of the reserve after one time constant, got {later}");
    }
}
