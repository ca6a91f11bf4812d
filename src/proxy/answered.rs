//! What a reply says about whether it may be had better elsewhere.

use std::task::Poll;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, StatusCode, header};

use super::account::head_grpc_status;
use super::body::Frame;
use super::failure;
use crate::config::Classify;
use crate::http1::client::Answer;
use crate::resilience::course::{Answered, Pushback};
use crate::resilience::{self, breaker::Verdict};

/// Longest `Retry-After` that is believed (Linkerd 2's cap).
const MAX_RETRY_AFTER: Duration = Duration::from_mins(5);

/// Reads it. Of gRPC the status is looked for in the head, and in trailers that are there already; it is not waited for,
/// because a stream may begin long before it says anything.
pub(super) async fn read(answer: &mut Answer, is_grpc: bool) -> Answered {
    let head = answer.response.headers();
    let mut grpc = head_grpc_status(head);
    let mut pushback = pushback_of(head);
    if is_grpc && grpc.is_none() && answer.response.status() == StatusCode::OK {
        std::future::poll_fn(|context| {
            if let Some(Frame::Trailers(trailers)) = answer.response.body_mut().peek(context) {
                grpc = status_of(trailers);
                pushback = pushback_of(trailers).or(pushback);
            }
            Poll::Ready(())
        })
        .await;
    }
    let headers = answer.response.headers();
    Answered {
        status: answer.response.status().as_u16(),
        grpc,
        retry_after: headers.get(header::RETRY_AFTER).and_then(|value| retry_after(value, SystemTime::now)),
        pushback,
        is_limit: headers.get(failure::MESHLESS_ERROR).is_some_and(failure::is_limit),
    }
}

/// Says what a reply tells about the endpoint that made it.
pub(super) fn verdict(classify: &Classify, said: &Answered, headers: &HeaderMap) -> Verdict {
    let error = headers.get(failure::MESHLESS_ERROR).map(HeaderValue::as_bytes);
    resilience::verdict::verdict(classify, said.status, said.grpc, error)
}

/// Returns nanoseconds since 1970.
pub(crate) fn wall() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

fn status_of(trailers: &HeaderMap) -> Option<u8> {
    trailers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// Reads `grpc-retry-pushback-ms`: what is no number, or below zero, says "never" (gRFC A6).
fn pushback_of(headers: &HeaderMap) -> Option<Pushback> {
    let value = headers.get("grpc-retry-pushback-ms")?;
    let millis = value.to_str().ok().and_then(|text| text.parse::<u64>().ok());
    Some(millis.map_or(Pushback::Never, |millis| Pushback::After(Duration::from_millis(millis))))
}

/// Reads `Retry-After`: seconds, or a date (RFC 9110, 10.2.3). What cannot be read says nothing.
fn retry_after(value: &HeaderValue, now: impl Fn() -> SystemTime) -> Option<Duration> {
    let text = value.to_str().ok()?.trim();
    let wait = match text.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => httpdate::parse_http_date(text).ok()?.duration_since(now()).unwrap_or_default(),
    };
    Some(wait.min(MAX_RETRY_AFTER))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn retry_after_is_seconds_or_a_date_and_never_more_than_five_minutes() {
        let now = || httpdate::parse_http_date("Sun, 22 Nov 2026 10:00:00 GMT").unwrap();
        let read = |text: &'static str| retry_after(&HeaderValue::from_static(text), now).map(|wait| wait.as_secs());
        assert_eq!(read("3"), Some(3));
        assert_eq!(read("Sun, 22 Nov 2026 10:00:07 GMT"), Some(7));
        assert_eq!(read("Sun, 22 Nov 2026 09:00:00 GMT"), Some(0));
        assert_eq!(read("86400"), Some(300));
        assert_eq!((read("soon"), read("-1"), read("")), (None, None, None));
    }

    #[test]
    fn a_pushback_that_is_no_number_means_never() {
        let read = |text: &'static str| {
            pushback_of(&HeaderMap::from_iter([(
                http::HeaderName::from_static("grpc-retry-pushback-ms"),
                HeaderValue::from_static(text),
            )]))
        };
        assert_eq!(read("250"), Some(Pushback::After(Duration::from_millis(250))));
        assert_eq!((read("-1"), read("x")), (Some(Pushback::Never), Some(Pushback::Never)));
        assert_eq!(pushback_of(&HeaderMap::new()), None);
    }
}
