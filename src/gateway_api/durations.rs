//! Durations of the Gateway API (GEP-2257): `10s`, `1h30m`, `500ms`; `0s` is no limit.

use std::time::Duration;

/// Units and their milliseconds, the largest first: each may stand once, in any order.
const UNITS: [(&str, u64); 4] = [("ms", 1), ("h", 3_600_000), ("m", 60_000), ("s", 1000)];
/// Most pairs of a number and a unit.
const MAX_PAIRS: usize = 4;
/// Most digits of a number.
const MAX_DIGITS: usize = 5;

/// Reads a duration.
pub(super) fn parse(text: &str) -> Result<Duration, String> {
    let refuse =
        || Err(format!("expected a duration such as `10s`, `1m30s` or `500ms`, found `{}`", text.escape_debug()));
    let (mut rest, mut total) = (text, Duration::ZERO);
    for _ in 0..MAX_PAIRS {
        let digits = rest.bytes().take_while(u8::is_ascii_digit).count();
        let Some((number, after)) = rest.split_at_checked(digits) else { return refuse() };
        // `ms` is looked for before `m`.
        let unit = UNITS.iter().find_map(|(unit, millis)| Some((after.strip_prefix(unit)?, millis)));
        let (Some((after, millis)), Ok(number), true) = (unit, number.parse::<u64>(), digits <= MAX_DIGITS) else {
            return refuse();
        };
        total += Duration::from_millis(number * millis);
        rest = after;
        if rest.is_empty() {
            return Ok(total);
        }
    }
    refuse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_read_as_gep_2257_writes_them() {
        // From its examples.
        for (text, millis) in [
            ("0h", Some(0)),
            ("0s", Some(0)),
            ("0h0m0s", Some(0)),
            ("1h", Some(3_600_000)),
            ("30m", Some(1_800_000)),
            ("10s", Some(10_000)),
            ("500ms", Some(500)),
            ("2h30m", Some(9_000_000)),
            ("150m", Some(9_000_000)),
            ("7230s", Some(7_230_000)),
            ("1h30m10s", Some(5_410_000)),
            ("10s30m1h", Some(5_410_000)),
            ("100ms200ms300ms", Some(600)),
            ("", None),
            ("1", None),
            ("1d", None),
            ("10s30m1h10s1m", None),
            ("-1s", None),
            ("1.5h", None),
            ("0.5m", None),
            ("100000s", None),
            ("1s ", None),
            ("1us", None),
        ] {
            assert_eq!(parse(text).ok(), millis.map(Duration::from_millis), "{text}");
        }
    }
}
