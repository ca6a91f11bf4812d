//! Times as they are stored: whole seconds since 1970, and as people read them.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use time::OffsetDateTime;

/// Returns whole seconds since 1970; times before are 0.
pub(crate) fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// Returns the time of whole seconds since 1970.
pub(crate) fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns a time for a certificate. Years after 9999 are 9999's end (RFC 5280, 4.1.2.5).
pub(crate) fn date(seconds: u64) -> OffsetDateTime {
    const LAST: i64 = 253_402_300_799;
    let seconds = i64::try_from(seconds).unwrap_or(LAST).min(LAST);
    OffsetDateTime::from_unix_timestamp(seconds).unwrap_or(OffsetDateTime::UNIX_EPOCH)
}

/// Returns a time as RFC 3339 has it, in whole seconds of UTC: `2026-11-23T01:02:03Z`.
pub(crate) fn written(seconds: u64) -> String {
    let date = date(seconds);
    let (year, month, day) = (date.year(), u8::from(date.month()), date.day());
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", date.hour(), date.minute(), date.second())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(written(0), "1970-01-01T00:00:00Z");
        assert_eq!(written(1_795_395_723), "2026-11-23T01:02:03Z");
        assert_eq!(written(u64::MAX), "9999-12-31T23:59:59Z");
        assert_eq!(seconds(at(77)), 77);
        assert_eq!(seconds(UNIX_EPOCH - Duration::from_secs(1)), 0);
    }
}
