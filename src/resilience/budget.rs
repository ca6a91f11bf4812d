//! A retry budget: retries are a share of requests, never a multiple (pure; `now` in milliseconds).
//!
//! Each request deposits `share`, each retry withdraws 1. What was deposited fades with a time constant of ten seconds,
//! so an old calm does not pay for a new storm; a reserve of ten seconds of `min_per_second` is always refilled. The
//! numbers are Finagle's (20 %, 10 a second, ten seconds).

use std::sync::atomic::{AtomicU64, Ordering};

use crate::word::{number_and_stamp, stamped};

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
        Self { state: AtomicU64::new(stamped(reserve(min_per_second), 0)) }
    }

    /// A request was made.
    pub(crate) fn deposit(&self, share: f64, min_per_second: f64, now: u32) {
        self.change(now, min_per_second, |balance| Some(balance + to_f32(share)));
    }

    /// A retry wants to be made. True: it may.
    pub(crate) fn withdraw(&self, min_per_second: f64, now: u32) -> bool {
        self.change(now, min_per_second, |balance| (balance >= 1.0).then_some(balance - 1.0))
    }

    /// Returns how many retries it allows now.
    pub(crate) fn balance(&self, min_per_second: f64, now: u32) -> f32 {
        let (balance, stamp) = number_and_stamp(self.state.load(Ordering::Relaxed));
        faded(balance, stamp, min_per_second, now)
    }

    fn change(&self, now: u32, min_per_second: f64, change: impl Fn(f32) -> Option<f32>) -> bool {
        let mut before = self.state.load(Ordering::Relaxed);
        loop {
            let (balance, stamp) = number_and_stamp(before);
            let Some(after) = change(faded(balance, stamp, min_per_second, now)) else { return false };
            match self.state.compare_exchange_weak(
                before,
                stamped(after, now.max(stamp)),
                Ordering::Relaxed,
                Ordering::Relaxed,
            ) {
                Ok(_) => return true,
                Err(seen) => before = seen,
            }
        }
    }
}

/// What is left of a balance after some time: it goes towards the reserve, from above and from below.
fn faded(balance: f32, stamp: u32, min_per_second: f64, now: u32) -> f32 {
    let passed = now.saturating_sub(stamp) as f32 / 1000.0;
    let rest = reserve(min_per_second);
    if passed > 0.0 { rest + (balance - rest) * (-passed / FADE).exp() } else { balance }
}

fn reserve(min_per_second: f64) -> f32 {
    to_f32(min_per_second) * FADE
}

#[allow(clippy::cast_possible_truncation, reason = "a balance needs no more than the precision of f32")]
fn to_f32(value: f64) -> f32 {
    value as f32
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
    fn the_balance_is_what_may_be_withdrawn() {
        let budget = Budget::new(10.0);
        assert!((budget.balance(10.0, 0) - 100.0).abs() < 0.01);
        (0..50).for_each(|_| assert!(budget.withdraw(10.0, 0)));
        assert!((budget.balance(10.0, 0) - 50.0).abs() < 0.01);
        assert!((80.0..83.0).contains(&budget.balance(10.0, 10_000)), "63 % of what was missing is back");
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
