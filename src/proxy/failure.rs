//! What can go wrong with a request, and the only map from that to a status.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Response, StatusCode, header, response};

use super::body::{Body, BodyError};
use crate::http1::Reject;

/// Carries the label of every answer that is our own.
pub(crate) const MESHLESS_ERROR: &str = "meshless-error";
/// Label of what no rule of `allow` allows.
pub(crate) const DENIED: &str = "denied";
/// gRPC status `DEADLINE_EXCEEDED`.
pub(crate) const GRPC_DEADLINE_EXCEEDED: u8 = 4;
/// gRPC status `PERMISSION_DENIED`.
const GRPC_PERMISSION_DENIED: u8 = 7;
/// gRPC status `RESOURCE_EXHAUSTED`.
const GRPC_RESOURCE_EXHAUSTED: u8 = 8;
/// gRPC status `UNAVAILABLE`.
pub(crate) const GRPC_UNAVAILABLE: u8 = 14;

/// Why one try to send a request to one endpoint failed.
#[derive(Debug)]
pub(crate) enum TryError {
    /// The client's own body broke: not the endpoint's fault, never retried.
    Client(BodyError),
    /// No connection: nothing was sent, and the same endpoint would fail again.
    Connect { why: String },
    /// We have no identity to show: nobody was asked, and it is no endpoint's fault.
    NoIdentity { why: String },
    /// No answer in the time for one try.
    Late,
    /// A limit of ours.
    Limit(Limit),
    /// The endpoint answered what is no answer.
    Malformed(Reject),
    /// The endpoint may have seen it: the connection broke or the stream was reset before a reply.
    Reset {
        why: String,
        /// The connection had served before: it may have been closed while idle.
        reused: bool,
    },
    /// Provably not seen by the application: it may go elsewhere whatever its method.
    Unsent { why: String },
}

impl TryError {
    /// Returns why, as the access log and the span of a try say it; where the same ends a request, by the same word.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Client(_) => "client_body",
            Self::Connect { .. } | Self::NoIdentity { .. } => "connect_failed",
            Self::Late => "late",
            Self::Limit(limit) => limit.label(),
            Self::Malformed(_) => "bad_reply",
            Self::Reset { .. } => "broken",
            Self::Unsent { .. } => "unsent",
        }
    }
}

/// A limit of ours that was reached.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Limit {
    /// `limits.requests` of the listener.
    Listener,
    /// The memory of this process.
    Memory,
    /// `limits.pending`.
    Pending,
    /// `limits.queue`.
    Queue,
    /// `limits.requests`.
    Requests,
}

impl Limit {
    fn label(self) -> &'static str {
        match self {
            Self::Listener => "limit_listener_requests",
            Self::Memory => "limit_memory",
            Self::Pending => "limit_pending",
            Self::Queue => "limit_queue",
            Self::Requests => "limit_requests",
        }
    }
}

/// Why a request is answered by us.
#[derive(Debug)]
pub(crate) enum Failure {
    /// The endpoint's answer was none.
    BadReply(Reject),
    /// Connections to the endpoint broke before a reply.
    Broken(String),
    /// The client left.
    ClientGone,
    /// No connection to any endpoint.
    ConnectFailed(String),
    /// Its deadline passed.
    Deadline,
    /// No rule of the listener's `allow` allows it.
    Denied,
    /// Its route makes it fail.
    Fault(StatusCode),
    /// It has passed too many proxies: it goes in circles.
    Loop,
    Limit(Limit),
    /// The client sent what we do not take.
    Malformed(Reject),
    /// The certificate of its connection is not good for its host.
    Misdirected,
    /// The targets of a logical name have not answered yet: these, and why.
    NameUnanswered(Arc<str>),
    /// What a logical name stands for cannot be opened, and why.
    NameUnusable(Arc<str>),
    /// As many logical names are in use, or asked for, as may be.
    NamesFull,
    /// The service has no endpoint.
    NoEndpoint,
    NoRoute,
    /// The rate limit of its route is reached.
    RateLimit {
        retry_after: Duration,
    },
    /// A header that would change where the request goes cannot be read.
    OverrideMalformed(String),
    /// A header that would change where the request goes names what there is not, or what it may not name.
    OverrideRefused(String),
    /// The client stopped in the middle of its body.
    SlowBody,
    /// The head did not end in time.
    SlowHead,
}

impl Failure {
    /// Returns the status that the client gets.
    pub(crate) fn status(&self) -> StatusCode {
        match self {
            Self::BadReply(_) | Self::Broken(_) => StatusCode::BAD_GATEWAY,
            // Nobody reads it; the number is nginx's and stands in the access log.
            Self::ClientGone => StatusCode::from_u16(499).unwrap_or(StatusCode::BAD_REQUEST),
            Self::ConnectFailed(_) | Self::Limit(_) | Self::NameUnanswered(_) | Self::NamesFull | Self::NoEndpoint => {
                StatusCode::SERVICE_UNAVAILABLE
            }
            Self::Deadline => StatusCode::GATEWAY_TIMEOUT,
            Self::Denied => StatusCode::FORBIDDEN,
            Self::Fault(status) => *status,
            Self::Loop => StatusCode::LOOP_DETECTED,
            Self::Malformed(reject) => reject.status(),
            Self::Misdirected => StatusCode::MISDIRECTED_REQUEST,
            Self::RateLimit { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::NameUnusable(_) | Self::NoRoute => StatusCode::NOT_FOUND,
            Self::OverrideMalformed(_) | Self::OverrideRefused(_) => StatusCode::BAD_REQUEST,
            Self::SlowBody | Self::SlowHead => StatusCode::REQUEST_TIMEOUT,
        }
    }

    /// Returns the gRPC status that a gRPC client gets (product paper, "Answers of our own").
    pub(crate) fn grpc_status(&self) -> u8 {
        match self {
            Self::ClientGone => 1,
            // INTERNAL: what gRPC's own mapping makes of an HTTP 400.
            Self::Malformed(_)
            | Self::OverrideMalformed(_)
            | Self::OverrideRefused(_)
            | Self::SlowBody
            | Self::SlowHead => 13,
            Self::Deadline => GRPC_DEADLINE_EXCEEDED,
            Self::Denied => GRPC_PERMISSION_DENIED,
            Self::Fault(status) => grpc_status_of(*status),
            Self::RateLimit { .. } => GRPC_RESOURCE_EXHAUSTED,
            Self::NameUnusable(_) | Self::NoRoute | Self::Loop => 12,
            // On another connection it may work, which is what UNAVAILABLE says.
            Self::BadReply(_)
            | Self::Broken(_)
            | Self::ConnectFailed(_)
            | Self::Limit(_)
            | Self::Misdirected
            | Self::NameUnanswered(_)
            | Self::NamesFull
            | Self::NoEndpoint => GRPC_UNAVAILABLE,
        }
    }

    /// Returns the name that the metric, the access log and `meshless-error` share.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::BadReply(_) => "bad_reply",
            Self::Broken(_) => "broken",
            Self::ClientGone => "client_gone",
            Self::ConnectFailed(_) => "connect_failed",
            Self::Deadline => "deadline",
            Self::Denied => DENIED,
            Self::Fault(_) => "fault",
            Self::Limit(limit) => limit.label(),
            Self::Loop => "loop",
            Self::Malformed(reject) => reject.label(),
            Self::Misdirected => "misdirected",
            Self::NameUnanswered(_) => "name_unanswered",
            Self::NameUnusable(_) => "name_unusable",
            Self::NamesFull => "names_full",
            Self::NoEndpoint => "no_endpoint",
            Self::NoRoute => "no_route",
            Self::RateLimit { .. } => "rate_limit",
            Self::OverrideMalformed(_) => "override_malformed",
            Self::OverrideRefused(_) => "override_refused",
            Self::SlowBody => "slow_body",
            Self::SlowHead => "slow_head",
        }
    }

    /// Returns a sentence for a person: what happened, and where to look.
    pub(crate) fn explanation(&self) -> String {
        match self {
            Self::BadReply(reject) => format!("the endpoint's reply is malformed: {reject}"),
            Self::Broken(why) => format!("the connection to the endpoint broke before a reply: {why}"),
            Self::ClientGone => "the client went away".to_owned(),
            Self::ConnectFailed(why) => format!("no connection to an endpoint: {why}"),
            Self::Deadline => "no reply within the time of this request (`timeout` of the service or route)".to_owned(),
            // Which rules there are is nothing that a stranger should learn.
            Self::Denied => "this client may not do that here (`allow` of the listener)".to_owned(),
            Self::Limit(Limit::Listener) => {
                "too many requests of the listener are in flight (`limits.requests` of the listener)".to_owned()
            }
            Self::Limit(Limit::Memory) => "this gateway has no memory left for more requests".to_owned(),
            Self::Limit(Limit::Pending) => "too many requests wait for a connection (`limits.pending`)".to_owned(),
            Self::Limit(Limit::Queue) => "no connection became free in time (`limits.queue`)".to_owned(),
            Self::Limit(Limit::Requests) => "too many requests are in flight (`limits.requests`)".to_owned(),
            Self::Loop => "the request passed too many proxies: it goes in circles".to_owned(),
            Self::Malformed(reject) => reject.to_string(),
            Self::Misdirected => "this connection's certificate is not good for this host; open another one".to_owned(),
            Self::NameUnanswered(why) => format!("discovery has not answered for this name yet: {why}"),
            Self::NameUnusable(why) => format!("what this name stands for cannot be had: {why}"),
            Self::NamesFull => "too many logical names are in use or asked for; try again later".to_owned(),
            Self::NoEndpoint => "the service has no endpoint (see `/endpoints` of the admin interface)".to_owned(),
            Self::Fault(_) => "the route makes this request fail (`fault`)".to_owned(),
            Self::RateLimit { .. } => "too many requests for this route (`rate_limit`)".to_owned(),
            Self::OverrideMalformed(why) | Self::OverrideRefused(why) => why.clone(),
            Self::NoRoute => "no route matches this host and path".to_owned(),
            Self::SlowBody => "the client sent nothing more of its body".to_owned(),
            Self::SlowHead => "the head of the request did not end in time".to_owned(),
        }
    }

    /// Makes the answer.
    pub(crate) fn answer(&self, is_grpc: bool) -> (response::Parts, Body) {
        let mut response = Response::new(());
        let label = HeaderValue::from_static(self.label());
        if is_grpc {
            *response.headers_mut() = grpc_trailers(self.grpc_status(), &self.explanation());
            response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
            response.headers_mut().insert(MESHLESS_ERROR, label);
            return (response.into_parts().0, Body::Empty);
        }
        if let Self::RateLimit { retry_after } = self {
            response.headers_mut().insert(header::RETRY_AFTER, super::actions::retry_after(*retry_after));
        }
        *response.status_mut() = self.status();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("text/plain; charset=utf-8"));
        headers.insert(MESHLESS_ERROR, label);
        let body = Body::Full(Bytes::from(format!("{}\n", self.explanation())));
        (response.into_parts().0, body)
    }
}

/// Tells whether a value of [`MESHLESS_ERROR`] names a limit of the gateway that answered: that says "less", not "again".
pub(crate) fn is_limit(label: &HeaderValue) -> bool {
    label.as_bytes().starts_with(b"limit_") || label == "rate_limit"
}

/// Tells whether a message is gRPC's.
pub(crate) fn is_grpc(headers: &HeaderMap) -> bool {
    headers.get(header::CONTENT_TYPE).is_some_and(|value| {
        value
            .as_bytes()
            .strip_prefix(b"application/grpc")
            .is_some_and(|rest| matches!(rest.first(), None | Some(b'+' | b';')))
    })
}

/// Returns the gRPC status that stands for one of HTTP (gRPC, "HTTP to gRPC Status Code Mapping").
pub(crate) fn grpc_status_of(status: StatusCode) -> u8 {
    match status.as_u16() {
        400 => 13,
        401 => 16,
        403 => GRPC_PERMISSION_DENIED,
        404 => 12,
        429 | 502..=504 => GRPC_UNAVAILABLE,
        // UNKNOWN.
        _ => 2,
    }
}

/// Returns a gRPC status as trailers (or as the head of a trailers-only answer).
pub(crate) fn grpc_trailers(status: u8, message: &str) -> HeaderMap {
    let mut trailers = HeaderMap::new();
    trailers.insert("grpc-status", HeaderValue::from(u16::from(status)));
    if let Ok(message) = HeaderValue::from_str(&percent_encoded(message)) {
        trailers.insert("grpc-message", message);
    }
    trailers
}

/// Encodes a message as gRPC's protocol asks for it: space to `~` but `%` as they are, the rest as `%XX`.
fn percent_encoded(message: &str) -> String {
    use std::fmt::Write as _;
    message.bytes().fold(String::with_capacity(message.len()), |mut out, byte| {
        if (b' '..=b'~').contains(&byte) && byte != b'%' {
            out.push(char::from(byte));
        } else {
            // Writing to a string cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
        out
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grpc_clients_get_a_trailers_only_answer() {
        let (head, body) = Failure::NoEndpoint.answer(true);
        assert_eq!(head.status, StatusCode::OK);
        assert_eq!(head.headers["grpc-status"], "14");
        assert_eq!(head.headers[MESHLESS_ERROR], "no_endpoint");
        assert!(body.is_end());
    }

    #[test]
    fn grpc_is_told_by_its_content_type_and_not_by_a_prefix_of_another() {
        let with =
            |value: &'static str| HeaderMap::from_iter([(header::CONTENT_TYPE, HeaderValue::from_static(value))]);
        assert!(is_grpc(&with("application/grpc")));
        assert!(is_grpc(&with("application/grpc+proto")));
        assert!(!is_grpc(&with("application/grpc-web")));
        assert!(!is_grpc(&HeaderMap::new()));
    }

    #[test]
    fn messages_are_percent_encoded() {
        assert_eq!(percent_encoded("50% ü\n"), "50%25 %C3%BC%0A");
    }
}
