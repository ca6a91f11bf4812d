//! How long an endpoint takes: always the same, or log-normal through its median and its 99th percentile.
//!
//! Latencies of services have a long tail to the right and never go below zero, which is what a log-normal distribution
//! looks like; two percentiles that everybody has on a dashboard determine it.

use std::str::FromStr;

use super::Micros;

/// The 99th percentile of the standard normal distribution.
const Z99: f64 = 2.326_347_874;

/// A distribution of latencies.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Latency {
    Constant(Micros),
    /// Logarithm of the median in microseconds, and the standard deviation of the logarithm.
    LogNormal {
        median: f64,
        deviation: f64,
    },
}

impl Latency {
    /// Makes the log-normal distribution with these percentiles; `None` unless 0 < `p50` ≤ `p99`.
    pub(crate) fn of_percentiles(p50: Micros, p99: Micros) -> Option<Self> {
        if p50 == 0 || p99 < p50 {
            return None;
        }
        let median = (p50 as f64).ln();
        Some(Self::LogNormal { median, deviation: ((p99 as f64).ln() - median) / Z99 })
    }

    /// Draws one.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a bounded time in microseconds")]
    pub(crate) fn draw(self, random: &mut fastrand::Rng) -> Micros {
        match self {
            Self::Constant(micros) => micros,
            Self::LogNormal { median, deviation } => {
                // Box and Muller's transform; 1 − u is never 0.
                let (u, v) = (1.0 - random.f64(), random.f64());
                let normal = (-2.0 * u.ln()).sqrt() * (std::f64::consts::TAU * v).cos();
                (median + deviation * normal).exp().min(1e12) as Micros
            }
        }
    }
}

/// A short time as scenarios write it: a number and `us`, `ms`, `s` or `m`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Span(pub(crate) Micros);

impl FromStr for Span {
    type Err = &'static str;

    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked to be within an hour")]
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        const EXPECTED: &str = "expected a time such as \"300us\", \"2.5ms\" or \"1s\", of an hour at the most";
        let units = [("us", 1.0), ("ms", 1e3), ("s", 1e6), ("m", 6e7)];
        let (number, unit) =
            units.iter().find_map(|(name, unit)| Some((text.strip_suffix(name)?, unit))).ok_or(EXPECTED)?;
        let is_plain = |number: &str| number.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let number = number.trim();
        let micros = number.parse::<f64>().ok().filter(|_| is_plain(number)).ok_or(EXPECTED)? * unit;
        if micros > 3.6e9 { Err(EXPECTED) } else { Ok(Self(micros.round() as Micros)) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn drawn_latencies_have_the_percentiles_that_were_asked_for() {
        let latency = Latency::of_percentiles(5_000, 40_000).unwrap();
        let mut random = fastrand::Rng::with_seed(1);
        let mut drawn: Vec<_> = (0..100_000).map(|_| latency.draw(&mut random)).collect();
        drawn.sort_unstable();
        let (p50, p99) = (drawn[50_000], drawn[99_000]);
        assert!((4_900..5_100).contains(&p50) && (38_000..42_000).contains(&p99), "{p50} {p99}");
        assert_eq!(Latency::of_percentiles(10, 5), None);
        assert_eq!(Latency::of_percentiles(0, 5), None);
    }

    #[test]
    fn a_span_has_a_unit_and_may_be_shorter_than_a_millisecond() {
        assert_eq!("300us".parse(), Ok(Span(300)));
        assert_eq!("2.5ms".parse(), Ok(Span(2_500)));
        assert_eq!("1 s".parse(), Ok(Span(1_000_000)));
        for wrong in ["", "5", "ms", "-1ms", "1e3ms", "2h", "infms", "61m"] {
            assert!(wrong.parse::<Span>().is_err(), "{wrong}");
        }
    }
}
