//! Parses the head of a request.

use bytes::{Buf, Bytes, BytesMut};
use http::header::{HeaderMap, HeaderValue};
use http::{Method, header};

use super::fields::{Fields, Sender, with_storage};
use super::{Framing, HeadLimits, Reject, Target, Version, diagnose, end_of_section, target};
use crate::http1::names::is_token_byte;

/// No registered method is longer than 17 bytes (`UPDATEREDIRECTREF`).
const LONGEST_METHOD: usize = 32;

/// The head of a request, checked.
#[derive(Debug)]
pub struct RequestHead {
    /// The method; any token of up to 32 bytes.
    pub method: Method,
    /// What is asked for.
    pub target: Target,
    /// The version the client speaks.
    pub version: Version,
    /// All fields as received, hop-by-hop fields included.
    pub headers: HeaderMap,
    /// What follows on the wire; never `UntilClose`.
    pub framing: Framing,
    /// Whether another request may follow on the connection.
    pub keep_alive: bool,
    /// Whether the client waits for `100 Continue` before it sends a body; never without a body or in HTTP/1.0.
    pub expect_continue: bool,
    /// The one Upgrade field, if Connection names it and the version is 1.1.
    pub upgrade: Option<HeaderValue>,
}

impl RequestHead {
    /// Returns host and port as the client gave them; `None` only for an HTTP/1.0 request without Host.
    pub fn authority(&self) -> Option<&str> {
        match self.target.authority() {
            Some(authority) => Some(authority.as_str()),
            None => self.headers.get(header::HOST).and_then(|host| host.to_str().ok()),
        }
    }
}

/// Looks for a request head at the start of `buffer`; `None` if it is not complete. On success the head's bytes are
/// taken off the buffer and `scanned` is 0 again. One empty line before the head is skipped (RFC 9112 §2.2).
///
/// `reuse` gives its allocation to the head's map; what it holds is dropped.
pub fn parse_request(
    buffer: &mut BytesMut,
    scanned: &mut usize,
    limits: &HeadLimits,
    reuse: HeaderMap,
) -> Result<Option<RequestHead>, Reject> {
    let start = if buffer.starts_with(b"\r\n") { 2 } else { 0 };
    // One byte more than the limit tells a head that is too large from one that just fits.
    let window = buffer.get(start..).unwrap_or_default();
    let window = window.get(..limits.bytes.saturating_add(1)).unwrap_or(window);
    let mut relative = scanned.saturating_sub(start);
    let end = end_of_section(window, &mut relative)?;
    let Some(end) = end.filter(|&end| end <= limits.bytes) else {
        *scanned = start + relative;
        return incomplete(window, limits);
    };
    if end == 2 {
        return Err(Reject::EmptyLine);
    }
    buffer.advance(start);
    let head = buffer.split_to(end).freeze();
    *scanned = 0;
    with_storage(limits.headers, |storage| {
        let mut request = httparse::Request::new(&mut []);
        let complete = request.parse_with_uninit_headers(&head, storage);
        match (complete, request.method, request.path, request.version) {
            (Ok(httparse::Status::Complete(length)), Some(method), Some(path), Some(version))
                if length == head.len() =>
            {
                let version = if version == 0 { Version::Http10 } else { Version::Http11 };
                interpret(&head, method, path, version, request.headers, limits, reuse).map(Some)
            }
            _ => Err(diagnose::request(&head)),
        }
    })
}

/// Decides whether to wait for more of a head.
fn incomplete(window: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, Reject> {
    if window.len() > limits.bytes {
        let has_line = memchr::memchr(b'\n', window).is_some();
        return Err(if has_line { Reject::HeadTooLarge } else { Reject::TargetTooLong });
    }
    match window.first() {
        // Anything else, say a TLS hello, will never become a request: do not wait for its end.
        Some(&byte) if !is_token_byte(byte) && byte != b'\r' => Err(Reject::Method),
        // Neither will what does not begin with a request line, say the first command of another protocol.
        _ => match memchr::memchr(b'\n', window).and_then(|end| window.get(..end)?.strip_suffix(b"\r")) {
            Some(line) if !line.is_empty() => diagnose::request_line(line).map_or(Ok(None), Err),
            _ => Ok(None),
        },
    }
}

fn interpret(
    head: &Bytes,
    method: &str,
    path: &str,
    version: Version,
    lines: &[httparse::Header<'_>],
    limits: &HeadLimits,
    reuse: HeaderMap,
) -> Result<RequestHead, Reject> {
    if method.len() > LONGEST_METHOD {
        return Err(Reject::MethodTooLong);
    }
    let method = Method::from_bytes(method.as_bytes()).map_err(|_| Reject::Method)?;
    let target = target::parse(&method, path, head)?;
    let mut fields = Fields::read(head, lines, limits, Sender::Client, reuse)?;
    match (&fields.host, target.authority()) {
        (None, _) if version == Version::Http11 => return Err(Reject::HostMissing),
        (Some(host), Some(authority)) if !host.as_bytes().eq_ignore_ascii_case(authority.as_str().as_bytes()) => {
            return Err(Reject::HostMismatch);
        }
        _ => {}
    }
    let framing = fields.framing(version)?;
    if method == Method::CONNECT && framing != Framing::None {
        return Err(Reject::ConnectWithBody);
    }
    let has_body = !matches!(framing, Framing::None | Framing::Length(0));
    Ok(RequestHead {
        target,
        version,
        framing,
        keep_alive: fields.persistent(version),
        // RFC 9110 §10.1.1: an HTTP/1.0 client does not know interim responses.
        expect_continue: fields.expect_continue && has_body && version == Version::Http11,
        upgrade: fields.take_upgrade(version),
        method,
        headers: fields.headers,
    })
}
