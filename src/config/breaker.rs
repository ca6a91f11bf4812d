//! `breaker`, checked: when an endpoint is ejected, and for how long.

use std::time::Duration;

use serde::Serialize;

use super::units::print;

/// When an endpoint is ejected. The numbers stand between Finagle's (5 in a row or under 80 %, 5 s to 300 s) and
/// Linkerd 2's (7 in a row, 1 s to 60 s).
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Breaker {
    /// Failures in a row; 0: they do not count. Default 5.
    pub consecutive: u32,
    /// Success rate under which it is ejected, 0.0 to 1.0; 0: the rate does not count. Default 0.8.
    #[serde(serialize_with = "print::ratio")]
    pub success_below: f64,
    /// Time over which the success rate is taken. Default 10 s.
    #[serde(serialize_with = "print::period")]
    pub window: Duration,
    /// Fewest requests in the window before the success rate counts. Default 10.
    pub min_requests: u32,
    /// The first ejection lasts as long as the first or up to twice, the longest as long as the second. Default 1 s to 60 s.
    #[serde(serialize_with = "print::range")]
    pub eject: (Duration, Duration),
    /// Largest share of an upstream's endpoints that may be ejected, rounded down, at least one. Default 0.5.
    #[serde(serialize_with = "print::ratio")]
    pub max_ejected: f64,
}

impl Default for Breaker {
    fn default() -> Self {
        Self {
            consecutive: 5,
            success_below: 0.8,
            window: Duration::from_secs(10),
            min_requests: 10,
            eject: (Duration::from_secs(1), Duration::from_mins(1)),
            max_ejected: 0.5,
        }
    }
}
