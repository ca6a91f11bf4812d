//! When a request is too late (pure).

use std::time::Duration;

use http::HeaderMap;

/// Longest `grpc-timeout` that is taken; longer ones are cut to it.
const MAX: Duration = Duration::from_hours(365 * 24);

/// Reads `grpc-timeout`: up to eight digits and a unit (gRPC over HTTP/2, "Timeout"). What is none is ignored.
pub(crate) fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get("grpc-timeout")?.as_bytes();
    let (unit, digits) = value.split_last()?;
    if digits.is_empty() || digits.len() > 8 || !digits.iter().all(u8::is_ascii_digit) {
        return None;
    }
    let number = digits.iter().fold(0u64, |number, digit| number * 10 + u64::from(digit - b'0'));
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout.min(MAX))
}

/// Writes what is left as `grpc-timeout`, rounded up to milliseconds so that nothing is lost by rounding.
pub(crate) fn to_grpc_timeout(left: Duration) -> String {
    let millis = left.as_nanos().div_ceil(1_000_000);
    if millis < 100_000_000 { format!("{millis}m") } else { format!("{}S", left.as_secs().min(99_999_999)) }
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn read(value: &str) -> Option<Duration> {
        let value = HeaderValue::from_str(value).unwrap();
        grpc_timeout(&HeaderMap::from_iter([(http::HeaderName::from_static("grpc-timeout"), value)]))
    }

    #[test]
    fn every_unit_is_read_and_nonsense_is_ignored() {
        assert_eq!(read("2H"), Some(Duration::from_hours(2)));
        assert_eq!(read("3M"), Some(Duration::from_mins(3)));
        assert_eq!(read("4S"), Some(Duration::from_secs(4)));
        assert_eq!(read("5m"), Some(Duration::from_millis(5)));
        assert_eq!(read("6u"), Some(Duration::from_micros(6)));
        assert_eq!(read("7n"), Some(Duration::from_nanos(7)));
        for nonsense in ["", "S", "5", "5s", "-5S", "123456789S", "5 S"] {
            assert_eq!(read(nonsense), None, "{nonsense}");
        }
    }

    #[test]
    fn what_is_written_can_be_read_and_is_never_shorter() {
        for left in
            [Duration::ZERO, Duration::from_micros(1), Duration::from_millis(1500), Duration::from_secs(1 << 20)]
        {
            assert!(read(&to_grpc_timeout(left)).unwrap() >= left.min(Duration::from_secs(99_999_999)));
        }
        assert_eq!(to_grpc_timeout(Duration::from_millis(250)), "250m");
    }
}
