//! What active health checks say about an endpoint (pure).
//!
//! An endpoint that no check has answered for yet counts as healthy, or a start would be an outage. Its first check decides
//! alone, good or bad, as with HAProxy; from then on it takes `unhealthy` bad ones in a row to fall, and `healthy` good ones
//! to rise.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;

use crate::config::Health;

/// Share of the interval by which the time between two checks is moved at most, to either side.
const JITTER: f64 = 0.1;
/// Longest wait for the first check of an endpoint: what is new is asked soon, and yet not all at one moment.
const FIRST: Duration = Duration::from_secs(1);

/// What the checks say, for everybody to read; kept as long as the endpoint is.
#[derive(Debug, Default)]
pub(crate) struct Checked {
    verdict: AtomicU8,
    /// Why the last check was bad. Only control and the admin interface look at it.
    why: ArcSwapOption<String>,
}

/// What the checks say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Bad,
    Good,
    /// Not checked, or not yet.
    Unknown,
}

impl Condition {
    /// The word in views.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Bad => "bad",
            Self::Good => "good",
            Self::Unknown => "unknown",
        }
    }
}

impl Checked {
    /// Returns what the checks say.
    pub(crate) fn condition(&self) -> Condition {
        match self.verdict.load(Ordering::Relaxed) {
            0 => Condition::Unknown,
            1 => Condition::Good,
            _ => Condition::Bad,
        }
    }

    /// Tells whether checks forbid to use the endpoint.
    pub(crate) fn is_bad(&self) -> bool {
        self.condition() == Condition::Bad
    }

    /// Returns why the last check was bad; `None` where it was good.
    pub(crate) fn why(&self) -> Option<Arc<String>> {
        self.why.load_full()
    }

    /// Notes the result of a check.
    pub(crate) fn set(&self, condition: Condition, why: Option<String>) {
        let verdict = match condition {
            Condition::Unknown => 0,
            Condition::Good => 1,
            Condition::Bad => 2,
        };
        self.verdict.store(verdict, Ordering::Relaxed);
        self.why.store(why.map(Arc::new));
    }
}

/// The checks of one endpoint so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Rounds {
    condition: Condition,
    /// Checks in a row that say the opposite of the condition.
    against: u32,
}

impl Rounds {
    /// Goes on where earlier checks of the endpoint stopped.
    pub(crate) fn resume(condition: Condition) -> Self {
        Self { condition, against: 0 }
    }

    /// Takes the result of a check, and returns what is to be thought of the endpoint.
    pub(crate) fn note(&mut self, is_good: bool, policy: &Health) -> Condition {
        let (said, needed) =
            if is_good { (Condition::Good, policy.healthy) } else { (Condition::Bad, policy.unhealthy) };
        if self.condition == said {
            self.against = 0;
        } else {
            self.against += 1;
            if self.condition == Condition::Unknown || self.against >= needed {
                *self = Self::resume(said);
            }
        }
        self.condition
    }
}

/// How long to wait for the first check; `random` is from 0 to 1.
pub(crate) fn first_wait(policy: &Health, random: f64) -> Duration {
    policy.interval.min(FIRST).mul_f64(random.clamp(0.0, 1.0))
}

/// How long to wait from the begin of one check to the next one; `random` is from 0 to 1.
pub(crate) fn next_wait(policy: &Health, random: f64) -> Duration {
    policy.interval.mul_f64(1.0 - JITTER + 2.0 * JITTER * random.clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::HealthAsk;

    fn policy() -> Health {
        Health {
            ask: HealthAsk::Tcp,
            interval: Duration::from_secs(5),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        }
    }

    /// Results as `+` and `-`, what is thought after each as `?`, `g` and `b`.
    fn course(results: &str) -> String {
        let mut rounds = Rounds::resume(Condition::Unknown);
        results.chars().map(|result| rounds.note(result == '+', &policy()).label().chars().next().unwrap()).collect()
    }

    #[test]
    fn the_first_check_decides_alone() {
        assert_eq!(course("+"), "g");
        assert_eq!(course("-"), "b");
    }

    #[test]
    fn an_endpoint_falls_and_rises_by_checks_in_a_row() {
        assert_eq!(course("+--+---"), "ggggggb");
        assert_eq!(course("-+-++"), "bbbbg");
        assert_eq!(course("+---+-++"), "gggbbbbg");
    }

    #[test]
    fn checks_are_spread_in_time() {
        let waits = [0.0, 0.5, 1.0].map(|random| next_wait(&policy(), random).as_millis());
        assert_eq!(waits, [4500, 5000, 5500]);
        assert_eq!([0.0, 1.0].map(|random| first_wait(&policy(), random).as_millis()), [0, 1000]);
        let often = Health { interval: Duration::from_millis(200), ..policy() };
        assert_eq!(first_wait(&often, 1.0).as_millis(), 200);
    }
}
