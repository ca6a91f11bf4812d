//! `hedge`, checked: a second request when the first one is slow.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Serialize, Serializer};

use super::units::Period;

/// After how long a second request is sent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub enum Hedge {
    /// Once the first one takes longer than this share of recent requests, 0.5 to below 1.
    Percentile(f64),
    /// Once the first one takes longer than this.
    Time(Duration),
}

impl FromStr for Hedge {
    type Err = ();

    /// Reads `p95`, `p99.9`, or a duration.
    fn from_str(text: &str) -> Result<Self, ()> {
        if let Some(percent) = text.strip_prefix('p') {
            let is_number = percent.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
            let percent = percent.parse::<f64>().ok().filter(|_| is_number).ok_or(())?;
            return if (50.0..100.0).contains(&percent) { Ok(Self::Percentile(percent / 100.0)) } else { Err(()) };
        }
        let period = text.parse::<Period>().map_err(|_| ())?.0;
        if period.is_zero() { Err(()) } else { Ok(Self::Time(period)) }
    }
}

impl fmt::Display for Hedge {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            // Thousandths of a percent are what a person writes at the most.
            Self::Percentile(share) => write!(formatter, "p{}", (share * 100_000.0).round() / 1000.0),
            Self::Time(period) => Period(*period).fmt(formatter),
        }
    }
}

impl Serialize for Hedge {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_or_a_duration_is_read_and_printed_as_it_was() {
        for text in ["p50", "p95", "p99.9", "250ms", "1s"] {
            assert_eq!(text.parse::<Hedge>().map(|hedge| hedge.to_string()).as_deref(), Ok(text));
        }
        for wrong in ["", "p", "p100", "p49", "p-95", "pinf", "95", "0s", "95%"] {
            assert_eq!(wrong.parse::<Hedge>(), Err(()), "{wrong}");
        }
    }
}
