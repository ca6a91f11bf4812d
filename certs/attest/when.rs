//! Times as AWS writes them, in UTC (pure).

use std::time::{Duration, SystemTime};

use time::{Date, Month, PrimitiveDateTime, Time};

/// Reads `20260102T030405Z`, the one form of `X-Amz-Date`.
pub(super) fn basic(text: &str) -> Option<SystemTime> {
    read(text, "0000-00-00T00:00:00Z".replace(['-', ':'], "").as_str())
}

/// Reads `2026-01-02T03:04:05Z`.
pub(super) fn extended(text: &str) -> Option<SystemTime> {
    read(text, "0000-00-00T00:00:00Z")
}

/// Reads a time in a form in which each `0` stands for a digit, and all else for itself.
fn read(text: &str, form: &str) -> Option<SystemTime> {
    if text.len() != form.len() {
        return None;
    }
    let mut digits = Vec::with_capacity(14);
    for (byte, expected) in text.bytes().zip(form.bytes()) {
        match expected {
            b'0' if byte.is_ascii_digit() => digits.push(byte - b'0'),
            _ if byte == expected && expected != b'0' => {}
            _ => return None,
        }
    }
    let number = |from: usize, count: usize| -> Option<u32> {
        Some(digits.get(from..from + count)?.iter().fold(0, |number, digit| number * 10 + u32::from(*digit)))
    };
    let two = |from: usize| u8::try_from(number(from, 2)?).ok();
    let year = i32::try_from(number(0, 4)?).ok()?;
    let date = Date::from_calendar_date(year, Month::try_from(two(4)?).ok()?, two(6)?).ok()?;
    let time = Time::from_hms(two(8)?, two(10)?, two(12)?).ok()?;
    let seconds = PrimitiveDateTime::new(date, time).assume_utc().unix_timestamp();
    Some(SystemTime::UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_time_has_one_form_and_is_a_day_that_there_is() {
        let at = SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045);
        assert_eq!(basic("20260102T030405Z"), Some(at));
        assert_eq!(extended("2026-01-02T03:04:05Z"), Some(at));
        for text in
            ["", "20260102T030405", "20260102t030405z", "20260102T030405Z ", "20260230T030405Z", "2026010+T030405Z"]
        {
            assert_eq!(basic(text), None, "{text:?}");
        }
        for text in
            ["2026-01-02T03:04:05+01:00", "2026-01-02T03:04:05.1Z", "2026-13-02T03:04:05Z", "1969-01-02T03:04:05Z"]
        {
            assert_eq!(extended(text), None, "{text:?}");
        }
    }
}
