//! Parses the head of a response.

use bytes::{Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, StatusCode};

use super::fields::{Fields, Sender, with_storage};
use super::{Framing, HeadLimits, Reject, Version, diagnose, end_of_section};

/// The head of a response, checked. The reason phrase is dropped: it means nothing and carries anything.
#[derive(Debug)]
pub struct ResponseHead {
    /// The status, 100 to 999.
    pub status: StatusCode,
    /// The version the server speaks.
    pub version: Version,
    /// All fields as received, hop-by-hop fields included.
    pub headers: HeaderMap,
    /// What follows on the wire: `None` after 1xx, 204, 304, a response to HEAD and a 2xx to CONNECT.
    pub framing: Framing,
    /// What the fields announce, whether it follows or not; `None` if they announce nothing. Relay this in a response
    /// to HEAD and in a 304, and `framing` otherwise.
    pub announced: Framing,
    /// Whether the connection can be used again once the body is read. False if the body ends with the connection, and
    /// if a 1xx or 204 announces a body: it cannot have one, and a server that believes otherwise will send it. False in
    /// an interim response holds for the final one as well.
    pub keep_alive: bool,
    /// The one Upgrade field, if Connection names it and the version is 1.1; what was switched to if the status is 101.
    pub upgrade: Option<HeaderValue>,
}

impl ResponseHead {
    /// Returns whether this is an interim response, after which the real one follows on the connection.
    pub fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// Looks for a response head at the start of `buffer`; `None` if it is not complete. On success the head's bytes are
/// taken off the buffer and `scanned` is 0 again. `request_method` is that of the request which this answers.
///
/// `reuse` gives its allocation to the head's map; what it holds is dropped.
pub fn parse_response(
    buffer: &mut BytesMut,
    scanned: &mut usize,
    limits: &HeadLimits,
    request_method: &Method,
    reuse: HeaderMap,
) -> Result<Option<ResponseHead>, Reject> {
    // One byte more than the limit tells a head that is too large from one that just fits.
    let window = buffer.get(..limits.bytes.saturating_add(1)).unwrap_or(buffer);
    let end = end_of_section(window, scanned)?;
    let Some(end) = end.filter(|&end| end <= limits.bytes) else {
        return incomplete(window, limits);
    };
    if end == 2 || window.starts_with(b"\r\n") {
        return Err(Reject::EmptyLine);
    }
    let head = buffer.split_to(end).freeze();
    *scanned = 0;
    with_storage(limits.headers, |storage| {
        let mut response = httparse::Response::new(&mut []);
        let complete =
            httparse::ParserConfig::default().parse_response_with_uninit_headers(&mut response, &head, storage);
        match (complete, response.version, response.code) {
            (Ok(httparse::Status::Complete(length)), Some(version), Some(code)) if length == head.len() => {
                let version = if version == 0 { Version::Http10 } else { Version::Http11 };
                let status = StatusCode::from_u16(code).map_err(|_| Reject::StatusLine)?;
                interpret(&head, status, version, response.headers, limits, request_method, reuse).map(Some)
            }
            _ => Err(diagnose::response(&head)),
        }
    })
}

/// Decides whether to wait for more of a head.
fn incomplete(window: &[u8], limits: &HeadLimits) -> Result<Option<ResponseHead>, Reject> {
    if window.len() > limits.bytes {
        return Err(Reject::HeadTooLarge);
    }
    let start = window.get(..5).unwrap_or(window);
    if b"HTTP/".starts_with(start) { Ok(None) } else { Err(Reject::StatusLine) }
}

fn interpret(
    head: &Bytes,
    status: StatusCode,
    version: Version,
    lines: &[httparse::Header<'_>],
    limits: &HeadLimits,
    request_method: &Method,
    reuse: HeaderMap,
) -> Result<ResponseHead, Reject> {
    let mut fields = Fields::read(head, lines, limits, Sender::Server, reuse)?;
    let announced = fields.framing(version)?;
    let mut keep_alive = fields.persistent(version);
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    if bodiless && !matches!(announced, Framing::None | Framing::Length(0)) {
        keep_alive = false;
    }
    let framing = if bodiless
        || status == StatusCode::NOT_MODIFIED
        || *request_method == Method::HEAD
        || (*request_method == Method::CONNECT && status.is_success())
    {
        Framing::None
    } else if announced == Framing::None {
        keep_alive = false;
        Framing::UntilClose
    } else {
        announced
    };
    let upgrade = fields.take_upgrade(version);
    Ok(ResponseHead { status, version, headers: fields.headers, framing, announced, keep_alive, upgrade })
}
