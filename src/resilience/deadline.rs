//! When a request is too late, as its client says it (pure).
//!
//! Three forms are read, taken together (the strictest binds) and passed on in the forms that came in, shrunk by what was
//! spent: `grpc-timeout` (gRPC over HTTP/2, "Timeout"), `x-envoy-expected-rq-timeout-ms` (Envoy) and `l5d-ctx-deadline`
//! (Linkerd 1: two decimal counts of nanoseconds since 1970, when it was written and when it ends, one space between).
//! What cannot be read is ignored, as the three do it themselves.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

/// Longest deadline that is taken; longer ones are cut to it.
const MAX: Duration = Duration::from_hours(365 * 24);

const GRPC_TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
const ENVOY: HeaderName = HeaderName::from_static("x-envoy-expected-rq-timeout-ms");
const LINKERD: HeaderName = HeaderName::from_static("l5d-ctx-deadline");

/// What a client said about when its request is too late.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Deadline {
    /// Time that was left when it was read.
    pub(crate) left: Duration,
    grpc: bool,
    envoy: bool,
    /// When it was written, in nanoseconds since 1970.
    linkerd: Option<u64>,
}

impl Deadline {
    /// Reads what a request says. `wall` gives nanoseconds since 1970 and is asked only where the form needs it.
    pub(crate) fn read(headers: &HeaderMap, is_grpc: bool, wall: impl Fn() -> u64) -> Option<Self> {
        let grpc = if is_grpc { grpc_timeout(headers) } else { None };
        let envoy = envoy_timeout(headers);
        let linkerd = linkerd_deadline(headers, wall);
        let left = [grpc, envoy, linkerd.map(|(_, left)| left)].into_iter().flatten().min()?;
        Some(Self {
            left: left.min(MAX),
            grpc: grpc.is_some(),
            envoy: envoy.is_some(),
            linkerd: linkerd.map(|(written, _)| written),
        })
    }

    /// Writes what is left in the forms that came in. It is never more than what came in.
    pub(crate) fn write(&self, headers: &mut HeaderMap, left: Duration, wall: impl Fn() -> u64) {
        let mut set = |name: &HeaderName, text: String| {
            if let Ok(value) = HeaderValue::try_from(text) {
                headers.insert(name, value);
            }
        };
        if self.grpc {
            set(&GRPC_TIMEOUT, to_grpc_timeout(left));
        }
        if self.envoy {
            set(&ENVOY, left.as_millis().max(1).to_string());
        }
        if let Some(written) = self.linkerd {
            let end = wall().saturating_add(u64::try_from(left.as_nanos()).unwrap_or(u64::MAX));
            set(&LINKERD, format!("{written} {end}"));
        }
    }
}

fn envoy_timeout(headers: &HeaderMap) -> Option<Duration> {
    // Envoy writes 0 for "no timeout".
    digits(headers.get(ENVOY)?.as_bytes()).filter(|&millis| millis > 0).map(Duration::from_millis)
}

/// Returns when it was written and the time that is left. Clocks differ: more than what the sender gave is never left.
fn linkerd_deadline(headers: &HeaderMap, wall: impl Fn() -> u64) -> Option<(u64, Duration)> {
    let read = |value: &HeaderValue| {
        let mut parts = value.as_bytes().split(|&byte| byte == b' ');
        let (written, end) = (digits(parts.next()?)?, digits(parts.next()?)?);
        parts.next().is_none().then_some((written, end))
    };
    let all = headers.get_all(LINKERD).iter().filter_map(read);
    // Of several the strictest binds, and it was written when the last one was (Linkerd 1 combines them so).
    let (written, end) = all.reduce(|(written, end), (later, sooner)| (written.max(later), end.min(sooner)))?;
    let left = end.saturating_sub(wall()).min(end.saturating_sub(written));
    Some((written, Duration::from_nanos(left)))
}

fn digits(text: &[u8]) -> Option<u64> {
    if text.is_empty() || !text.iter().all(u8::is_ascii_digit) {
        return None;
    }
    text.iter().try_fold(0u64, |number, digit| number.checked_mul(10)?.checked_add(u64::from(digit - b'0')))
}

/// Reads `grpc-timeout`: up to eight digits and a unit. What is none is ignored.
fn grpc_timeout(headers: &HeaderMap) -> Option<Duration> {
    let value = headers.get(GRPC_TIMEOUT)?.as_bytes();
    let (unit, text) = value.split_last()?;
    let number = digits(text).filter(|_| text.len() <= 8)?;
    let timeout = match unit {
        b'H' => Duration::from_secs(number * 3600),
        b'M' => Duration::from_secs(number * 60),
        b'S' => Duration::from_secs(number),
        b'm' => Duration::from_millis(number),
        b'u' => Duration::from_micros(number),
        b'n' => Duration::from_nanos(number),
        _ => return None,
    };
    Some(timeout)
}

/// Writes what is left as `grpc-timeout`, rounded up to milliseconds so that nothing is lost by rounding.
fn to_grpc_timeout(left: Duration) -> String {
    let millis = left.as_nanos().div_ceil(1_000_000);
    if millis < 100_000_000 { format!("{millis}m") } else { format!("{}S", left.as_secs().min(99_999_999)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn with(fields: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        }
        headers
    }

    fn read(value: &str) -> Option<Duration> {
        grpc_timeout(&with(&[("grpc-timeout", value)]))
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

    #[test]
    fn the_strictest_of_all_forms_binds_and_each_is_passed_on_shrunk() {
        let wall = || 1_000_000_000;
        let mut headers = with(&[
            ("grpc-timeout", "3S"),
            ("x-envoy-expected-rq-timeout-ms", "2500"),
            ("l5d-ctx-deadline", "900000000 3000000000"),
        ]);
        let deadline = Deadline::read(&headers, true, wall).unwrap();
        assert_eq!(deadline.left, Duration::from_secs(2));
        deadline.write(&mut headers, Duration::from_millis(1500), || 1_500_000_000);
        assert_eq!(headers["grpc-timeout"], "1500m");
        assert_eq!(headers["x-envoy-expected-rq-timeout-ms"], "1500");
        assert_eq!(headers["l5d-ctx-deadline"], "900000000 3000000000");
    }

    #[test]
    fn only_the_forms_that_came_in_are_written_and_grpc_timeout_means_nothing_outside_of_grpc() {
        let mut headers = with(&[("grpc-timeout", "3S"), ("x-envoy-expected-rq-timeout-ms", "2500")]);
        let deadline = Deadline::read(&headers, false, || 0).unwrap();
        assert_eq!(deadline.left, Duration::from_millis(2500));
        deadline.write(&mut headers, Duration::from_micros(1), || 0);
        assert!(headers["grpc-timeout"] == "3S" && headers["x-envoy-expected-rq-timeout-ms"] == "1");
        assert!(!headers.contains_key("l5d-ctx-deadline"));
    }

    #[test]
    fn of_several_linkerd_deadlines_the_strictest_binds_and_clocks_that_differ_give_no_more_than_was_given() {
        let several = with(&[("l5d-ctx-deadline", "100 900"), ("l5d-ctx-deadline", "200 800")]);
        assert_eq!(Deadline::read(&several, false, || 300).unwrap().left, Duration::from_nanos(500));
        // Their clock is ahead of ours: 600 were given, not 800.
        assert_eq!(Deadline::read(&several, false, || 0).unwrap().left, Duration::from_nanos(600));
        assert_eq!(Deadline::read(&several, false, || 900).unwrap().left, Duration::ZERO);
        for nonsense in ["", "5", "5 ", "5  6", "a b", "1 2 3", "1 99999999999999999999"] {
            assert_eq!(Deadline::read(&with(&[("l5d-ctx-deadline", nonsense)]), false, || 0), None, "{nonsense}");
        }
        assert_eq!(Deadline::read(&with(&[("x-envoy-expected-rq-timeout-ms", "0")]), false, || 0), None);
    }
}
