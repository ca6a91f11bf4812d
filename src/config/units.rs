//! Values that carry their unit: `"250ms"`, `"64KiB"`, `"20%"`, `"25ms..250ms"`, `"100/s"`.
//!
//! A bare number is never taken for one of them: `timeout = 15` could mean anything.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A time span: a whole number and `ms`, `s`, `m`, `h` or `d`; at most 365 days.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Period(pub Duration);

/// A number of bytes: a whole number and `B`, `KiB`, `MiB` or `GiB`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Size(pub usize);

/// A share, 0.0 to 1.0, written in percent: `"20%"`, `"0.5%"`.
#[derive(Debug, Clone, Copy, PartialEq, PartialOrd)]
pub struct Ratio(pub f64);

/// From one time span to another one that is not shorter: `"25ms..250ms"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PeriodRange(pub Duration, pub Duration);

/// A number of events in a second, a minute or an hour: `"100/s"`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rate {
    /// How many; at least 1.
    pub count: u32,
    /// In which time.
    pub per: Duration,
}

/// Why a text is not a value with its unit: what is expected, with an example.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct UnitError(String);

const LONGEST: Duration = Duration::from_hours(8760);
const PERIODS: [(&str, u64); 5] = [("ms", 1), ("s", 1000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];
const SIZES: [(&str, usize); 4] = [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30)];

impl FromStr for Period {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = || UnitError(format!("expected {}", Self::EXPECTED));
        let (digits, unit) = number_and_unit(text);
        let (_, milliseconds) = PERIODS.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        let count = digits.parse::<u64>().map_err(|_| expected())?;
        let period = count.checked_mul(*milliseconds).map(Duration::from_millis);
        match period {
            Some(period) if period <= LONGEST => Ok(Self(period)),
            _ => Err(UnitError("expected a duration of at most 365d".to_owned())),
        }
    }
}

impl fmt::Display for Period {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let milliseconds = self.0.as_millis();
        let whole = |unit: u64| milliseconds.is_multiple_of(u128::from(unit));
        // Days are understood, and printed in hours as people write them.
        let fitting = PERIODS.iter().rev().filter(|(name, _)| *name != "d").find(|(_, unit)| whole(*unit));
        match fitting {
            _ if milliseconds == 0 => formatter.write_str("0s"),
            Some((name, unit)) => write!(formatter, "{}{name}", milliseconds / u128::from(*unit)),
            None => write!(formatter, "{milliseconds}ms"),
        }
    }
}

impl FromStr for Size {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = || UnitError(format!("expected {}", Self::EXPECTED));
        let (digits, unit) = number_and_unit(text);
        let (_, bytes) = SIZES.iter().find(|(name, _)| *name == unit).ok_or_else(expected)?;
        let count = digits.parse::<usize>().map_err(|_| expected())?;
        count.checked_mul(*bytes).map(Self).ok_or_else(|| UnitError("expected a size that fits in memory".to_owned()))
    }
}

impl fmt::Display for Size {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fitting = SIZES.iter().rev().find(|(_, unit)| self.0 > 0 && self.0.is_multiple_of(*unit));
        let (name, unit) = fitting.copied().unwrap_or(("B", 1));
        write!(formatter, "{}{name}", self.0 / unit)
    }
}

impl FromStr for Ratio {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let plain = |digits: &&str| digits.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        let percent = text.strip_suffix('%').filter(plain).and_then(|digits| digits.parse::<f64>().ok());
        match percent {
            Some(percent) if percent <= 100.0 => Ok(Self(percent / 100.0)),
            _ => Err(UnitError(format!("expected {}", Self::EXPECTED))),
        }
    }
}

impl fmt::Display for Ratio {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Six digits after the point hide what dividing by 100 and multiplying again does to the last bits.
        let percent = format!("{:.6}", self.0 * 100.0);
        write!(formatter, "{}%", percent.trim_end_matches('0').trim_end_matches('.'))
    }
}

impl FromStr for PeriodRange {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let expected = || UnitError(format!("expected {}", Self::EXPECTED));
        let (low, high) = text.split_once("..").ok_or_else(expected)?;
        let (low, high) = (low.trim().parse::<Period>()?, high.trim().parse::<Period>()?);
        if low > high { Err(expected()) } else { Ok(Self(low.0, high.0)) }
    }
}

impl fmt::Display for PeriodRange {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}..{}", Period(self.0), Period(self.1))
    }
}

impl FromStr for Rate {
    type Err = UnitError;

    fn from_str(text: &str) -> Result<Self, UnitError> {
        let parsed = text.split_once('/').and_then(|(count, unit)| {
            let seconds = match unit.trim() {
                "s" => 1,
                "m" => 60,
                "h" => 3600,
                _ => return None,
            };
            let count = count.trim();
            let digits = count.bytes().all(|byte| byte.is_ascii_digit());
            let count = count.parse::<u32>().ok().filter(|count| digits && *count > 0)?;
            Some(Self { count, per: Duration::from_secs(seconds) })
        });
        parsed.ok_or_else(|| UnitError(format!("expected {}", Self::EXPECTED)))
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.count, Period(self.per).to_string().trim_start_matches('1'))
    }
}

/// Splits after the digits; spaces between number and unit are free.
fn number_and_unit(text: &str) -> (&str, &str) {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let (number, unit) = text.split_at_checked(digits).unwrap_or((text, ""));
    (number, unit.trim_start())
}

/// The schema's `format` of a value with its unit, and how it is checked; `None` for other formats.
pub(super) fn check(format: &str, text: &str) -> Option<Result<(), UnitError>> {
    match format {
        Period::FORMAT => Some(text.parse::<Period>().map(drop)),
        Size::FORMAT => Some(text.parse::<Size>().map(drop)),
        Ratio::FORMAT => Some(text.parse::<Ratio>().map(drop)),
        PeriodRange::FORMAT => Some(text.parse::<PeriodRange>().map(drop)),
        Rate::FORMAT => Some(text.parse::<Rate>().map(drop)),
        _ => None,
    }
}

/// What a format of [`check`] expects, with an example.
pub(super) fn expectation(format: &str) -> Option<&'static str> {
    match format {
        Period::FORMAT => Some(Period::EXPECTED),
        Size::FORMAT => Some(Size::EXPECTED),
        Ratio::FORMAT => Some(Ratio::EXPECTED),
        PeriodRange::FORMAT => Some(PeriodRange::EXPECTED),
        Rate::FORMAT => Some(Rate::EXPECTED),
        _ => None,
    }
}

/// Text on both sides of serde, and a schema of which editors understand the pattern.
macro_rules! text {
    ($name:ident, $format:literal, $pattern:literal, $expected:literal) => {
        impl $name {
            const FORMAT: &'static str = $format;
            const EXPECTED: &'static str = $expected;
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(de::Error::custom)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl JsonSchema for $name {
            fn inline_schema() -> bool {
                true
            }

            fn schema_name() -> std::borrow::Cow<'static, str> {
                stringify!($name).into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                json_schema!({ "type": "string", "format": $format, "pattern": $pattern })
            }
        }
    };
}

text!(
    Period,
    "meshless-duration",
    r"^[0-9]+ *(ms|s|m|h|d)$",
    "a duration with its unit, such as \"250ms\", \"15s\" or \"5m\""
);
text!(Size, "meshless-size", r"^[0-9]+ *(B|KiB|MiB|GiB)$", "a size with its unit, such as \"64KiB\"");
text!(Ratio, "meshless-ratio", r"^[0-9]+(\.[0-9]*)?%$", "a share from 0% to 100%, such as \"20%\"");
text!(
    PeriodRange,
    "meshless-duration-range",
    r"^[0-9]+ *(ms|s|m|h|d) *\.\. *[0-9]+ *(ms|s|m|h|d)$",
    "a range of durations, the shorter one first, such as \"25ms..250ms\""
);
text!(Rate, "meshless-rate", r"^[0-9]+ */ *(s|m|h)$", "a rate, such as \"100/s\"");

/// Serde functions that print the checked types' plain values with their units, for `/config`.
pub(super) mod print {
    use super::{Duration, Period, PeriodRange, Ratio, Serialize, Serializer, Size};

    pub(in crate::config) fn period<S: Serializer>(value: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        Period(*value).serialize(serializer)
    }

    #[allow(clippy::ref_option, reason = "serde hands in a reference to the field")]
    pub(in crate::config) fn some_period<S: Serializer>(
        value: &Option<Duration>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(Period).serialize(serializer)
    }

    pub(in crate::config) fn range<S: Serializer>(
        value: &(Duration, Duration),
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        PeriodRange(value.0, value.1).serialize(serializer)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference to the field")]
    pub(in crate::config) fn ratio<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
        Ratio(*value).serialize(serializer)
    }

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands in a reference to the field")]
    pub(in crate::config) fn size<S: Serializer>(value: &usize, serializer: S) -> Result<S::Ok, S::Error> {
        Size(*value).serialize(serializer)
    }

    #[allow(clippy::ref_option, reason = "serde hands in a reference to the field")]
    pub(in crate::config) fn some_range<S: Serializer>(
        value: &Option<(Duration, Duration)>,
        serializer: S,
    ) -> Result<S::Ok, S::Error> {
        value.map(|(low, high)| PeriodRange(low, high)).serialize(serializer)
    }

    #[allow(clippy::ref_option, reason = "serde hands in a reference to the field")]
    pub(in crate::config) fn some_size<S: Serializer>(value: &Option<usize>, serializer: S) -> Result<S::Ok, S::Error> {
        value.map(Size).serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_value_carries_its_unit() {
        assert_eq!("250ms".parse(), Ok(Period(Duration::from_millis(250))));
        assert_eq!("24h".parse(), Ok(Period(Duration::from_hours(24))));
        assert_eq!("64KiB".parse(), Ok(Size(65_536)));
        assert_eq!("20%".parse(), Ok(Ratio(0.2)));
        assert_eq!("25ms..1s".parse(), Ok(PeriodRange(Duration::from_millis(25), Duration::from_secs(1))));
        assert_eq!("100/s".parse(), Ok(Rate { count: 100, per: Duration::from_secs(1) }));
    }

    #[test]
    fn what_has_no_unit_or_a_wrong_one_is_refused_with_an_example() {
        for text in ["15", "", "s", "1.5s", "-1s", "+1s", "15 sec", "1m30s", "15S", "٣s"] {
            let error = text.parse::<Period>().unwrap_err().to_string();
            assert_eq!(error, "expected a duration with its unit, such as \"250ms\", \"15s\" or \"5m\"", "{text}");
        }
        assert_eq!("9999999d".parse::<Period>().unwrap_err().to_string(), "expected a duration of at most 365d");
        for text in ["64", "64KB", "64kib", "-1B"] {
            assert!(text.parse::<Size>().is_err(), "{text}");
        }
        for text in ["20", "101%", "%", "nan%", "inf%", "-1%", "1e1%"] {
            assert!(text.parse::<Ratio>().is_err(), "{text}");
        }
        for text in ["25ms", "1s..25ms", "..", "1s.."] {
            assert!(text.parse::<PeriodRange>().is_err(), "{text}");
        }
        for text in ["100", "0/s", "1/d", "+1/s"] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn values_print_as_people_write_them() {
        for text in ["0s", "1ms", "1500ms", "15s", "5m", "90m", "24h"] {
            assert_eq!(text.parse::<Period>().unwrap().to_string(), text);
        }
        for text in ["0B", "100B", "16KiB", "1MiB"] {
            assert_eq!(text.parse::<Size>().unwrap().to_string(), text);
        }
        for text in ["0%", "0.5%", "20%", "33.3%", "100%"] {
            assert_eq!(text.parse::<Ratio>().unwrap().to_string(), text);
        }
        assert_eq!("25ms..250ms".parse::<PeriodRange>().unwrap().to_string(), "25ms..250ms");
        for text in ["100/s", "11/m", "1/h"] {
            assert_eq!(text.parse::<Rate>().unwrap().to_string(), text);
        }
    }

    proptest! {
        #[test]
        fn what_is_printed_parses_to_the_same(milliseconds in 0..LONGEST.as_millis(), bytes: u32) {
            let period = Period(Duration::from_millis(u64::try_from(milliseconds).unwrap()));
            prop_assert_eq!(period.to_string().parse(), Ok(period));
            let size = Size(bytes as usize);
            prop_assert_eq!(size.to_string().parse(), Ok(size));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,12}") {
            let _ = text.parse::<Period>();
            let _ = text.parse::<Size>();
            let _ = text.parse::<Ratio>();
            let _ = text.parse::<PeriodRange>();
            let _ = text.parse::<Rate>();
        }
    }
}
