//! What a run says in numbers (pure).

use serde_json::{Value, json};

use super::case::Times;
use crate::load::{End, Outcome};

/// Width of the window over which a share is taken, and its step, in seconds.
const WINDOW: f64 = 0.5;
const STEP: f64 = 0.05;

/// A try that went to an endpoint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Try {
    /// In seconds from the start.
    pub(super) at: f64,
    /// It went to an endpoint that is struck, or will be, or was.
    pub(super) is_bad: bool,
}

/// Milliseconds that a client waited for an answer, whatever it was.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Latency {
    pub(super) p50: f64,
    pub(super) p99: f64,
}

/// The figures of one case with one proxy.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) struct Figures {
    /// Requests that were due while the fault lasted.
    pub(super) requests: usize,
    /// Of them, those that did not end with 200.
    pub(super) errors: usize,
    /// Failed ones among those that were due after it.
    pub(super) errors_after: usize,
    pub(super) before: Latency,
    pub(super) during: Latency,
    pub(super) after: Latency,
    /// Seconds from the fault until the struck endpoints got less than a tenth of their share; `None`: never.
    pub(super) eject: Option<f64>,
    /// Seconds from the end of the fault until they got at least half of their share; `None`: not within the run.
    pub(super) back: Option<f64>,
    /// Tries at endpoints for each request of a client, while the fault lasted.
    pub(super) amplification: f64,
    /// Share of the tries that the struck endpoints got, while the fault lasted.
    pub(super) share: f64,
}

impl Figures {
    pub(super) fn of(outcomes: &[Outcome], tries: &[Try], fair_share: f64, times: Times) -> Self {
        let [warm, fault, heal, end] = [times.warm, times.fault, times.heal, times.end].map(|time| time.as_secs_f64());
        let due = |from: f64, to: f64| -> Vec<Outcome> {
            outcomes.iter().filter(|outcome| (from..to).contains(&outcome.due)).copied().collect()
        };
        let (before, during, after) = (due(warm, fault), due(fault, heal), due(heal, end));
        let (all, bad) = count(tries, fault, heal);
        Self {
            requests: during.len(),
            errors: errors(&during),
            errors_after: errors(&after),
            before: latency(&before),
            during: latency(&during),
            after: latency(&after),
            eject: first_window(tries, fault, heal, |share| share < fair_share / 10.0),
            back: first_window(tries, heal, end, |share| share >= fair_share / 2.0),
            amplification: ratio(all, during.len()),
            share: ratio(bad, all),
        }
    }

    pub(super) fn json(&self) -> Value {
        let latency = |latency: Latency| json!({ "p50_ms": latency.p50, "p99_ms": latency.p99 });
        json!({
            "requests_during": self.requests,
            "errors_during": self.errors,
            "errors_after": self.errors_after,
            "before": latency(self.before),
            "during": latency(self.during),
            "after": latency(self.after),
            "eject_seconds": self.eject,
            "back_seconds": self.back,
            "amplification": self.amplification,
            "share_of_the_struck": self.share,
        })
    }
}

fn errors(outcomes: &[Outcome]) -> usize {
    outcomes.iter().filter(|outcome| outcome.end != End::Status(200)).count()
}

fn latency(outcomes: &[Outcome]) -> Latency {
    let mut figures: Vec<f64> = outcomes.iter().map(|outcome| outcome.latency).collect();
    figures.sort_by(f64::total_cmp);
    Latency { p50: percentile(&figures, 50), p99: percentile(&figures, 99) }
}

/// The smallest figure that is not exceeded by so many of a hundred (nearest rank).
fn percentile(sorted: &[f64], of_a_hundred: usize) -> f64 {
    let rank = (sorted.len() * of_a_hundred).div_ceil(100).max(1);
    sorted.get(rank - 1).copied().unwrap_or(f64::NAN)
}

/// Returns how long after `from` the first window begins in which the struck ones have a share as asked for.
fn first_window(tries: &[Try], from: f64, to: f64, is_it: impl Fn(f64) -> bool) -> Option<f64> {
    let mut offset = 0.0;
    while from + offset + WINDOW <= to {
        let (all, bad) = count(tries, from + offset, from + offset + WINDOW);
        if all > 0 && is_it(ratio(bad, all)) {
            return Some(offset);
        }
        offset += STEP;
    }
    None
}

/// Counts tries, all and those at the struck ones.
fn count(tries: &[Try], from: f64, to: f64) -> (usize, usize) {
    let within = tries.iter().filter(|try_| (from..to).contains(&try_.at));
    within.fold((0, 0), |(all, bad), try_| (all + 1, bad + usize::from(try_.is_bad)))
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::super::case::TIMES;
    use super::*;

    /// A try every 10 ms; each fifth one at the struck endpoint, save between `from` and `to`.
    fn tries(from: f64, to: f64) -> Vec<Try> {
        (0..1900)
            .map(|number| {
                let at = f64::from(number) / 100.0;
                Try { at, is_bad: number % 5 == 0 && !(from..to).contains(&at) }
            })
            .collect()
    }

    fn outcome(due: f64, latency: f64, end: End) -> Outcome {
        Outcome { due, latency, end }
    }

    #[test]
    fn a_percentile_is_a_figure_that_was_measured() {
        let figures: Vec<f64> = (1..=200).map(f64::from).collect();
        assert_eq!((percentile(&figures, 50), percentile(&figures, 99)), (100.0, 198.0));
        assert!((percentile(&[7.0], 99) - 7.0).abs() < 1e-9);
        assert!(percentile(&[], 50).is_nan());
    }

    #[test]
    fn ejection_and_return_are_found_in_the_shares() {
        let figures = Figures::of(&[], &tries(4.7, 12.0), 0.2, TIMES);
        // The first window with nothing for the struck one begins when its last try is over.
        assert!((figures.eject.unwrap() - 0.7).abs() < 0.06, "{figures:?}");
        // Half of the share is there when half of a window is.
        assert!((figures.back.unwrap() - 1.75).abs() < 0.06, "{figures:?}");
        assert!(figures.share < 0.03, "{figures:?}");
    }

    #[test]
    fn who_is_never_ejected_is_back_at_once_and_who_never_returns_is_not() {
        let figures = Figures::of(&[], &tries(0.0, 0.0), 0.2, TIMES);
        assert_eq!((figures.eject, figures.back), (None, Some(0.0)));
        let figures = Figures::of(&[], &tries(4.0, 19.0), 0.2, TIMES);
        assert_eq!((figures.eject, figures.back), (Some(0.0), None));
    }

    #[test]
    fn errors_and_latencies_belong_to_the_time_when_they_were_due() {
        let outcomes = [
            outcome(0.5, 900.0, End::Broken),
            outcome(2.0, 5.0, End::Status(200)),
            outcome(9.9, 2000.0, End::Status(504)),
            outcome(9.95, 8000.0, End::Late),
            outcome(11.0, 6.0, End::Status(200)),
            outcome(12.0, 7.0, End::Status(503)),
        ];
        let figures = Figures::of(&outcomes, &[Try { at: 5.0, is_bad: true }; 3], 0.2, TIMES);
        assert_eq!((figures.requests, figures.errors, figures.errors_after), (2, 2, 1));
        assert_eq!((figures.before.p99, figures.during.p50, figures.during.p99), (5.0, 2000.0, 8000.0));
        assert!((figures.amplification - 1.5).abs() < 1e-9);
    }
}
