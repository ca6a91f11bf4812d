//! Writes heads. Framing, Host and Connection are made here and never relayed, so that nothing can contradict them.

use bytes::{BufMut, BytesMut};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, StatusCode};

use super::super::digits::put_decimal;
use super::{Framing, Version};

/// What a field takes on average; too small costs a copy of the buffer, too large some idle bytes.
const FIELD_ESTIMATE: usize = 48;

/// Appends the head of an HTTP/1.1 request.
///
/// `target` is a path and query, `*`, or host and port for CONNECT; a byte that may not be there is percent-encoded, so
/// that a target can never end the line. Host is written first, empty if the map has none. Of `framing`, `UntilClose`
/// and `None` write nothing: a request that announces no body has none.
pub fn write_request(out: &mut BytesMut, method: &Method, target: &str, headers: &HeaderMap, framing: &Framing) {
    out.reserve(32 + target.len() + (headers.len() + 2) * FIELD_ESTIMATE);
    out.put_slice(method.as_str().as_bytes());
    out.put_u8(b' ');
    put_target(out, target);
    out.put_slice(b" HTTP/1.1\r\nhost: ");
    if let Some(host) = headers.get(header::HOST) {
        out.put_slice(host.as_bytes());
    }
    out.put_slice(b"\r\n");
    let mut options = Options::default();
    for (name, value) in headers {
        match *name {
            header::CONNECTION | header::CONTENT_LENGTH | header::HOST | header::TRANSFER_ENCODING => continue,
            header::TE => options.te = true,
            header::UPGRADE => options.upgrade = true,
            _ => {}
        }
        put_field(out, name, value);
    }
    put_framing(out, framing);
    options.put(out);
    out.put_slice(b"\r\n");
}

/// Appends the head of a response and returns the framing that was written.
///
/// The status line says HTTP/1.1, as RFC 9110 §6.2 asks for; `version` is the client's: HTTP/1.0 is not sent chunks but
/// the end of the connection, and is told if the connection stays. A 1xx or 204 announces nothing. `framing` may be the
/// length of a body that will not be sent (HEAD, 304); `None` writes no framing field at all, so a response without a
/// body is `Length(0)` otherwise.
pub fn write_response(
    out: &mut BytesMut,
    status: StatusCode,
    headers: &HeaderMap,
    framing: &Framing,
    keep_alive: bool,
    version: Version,
) -> Framing {
    let bodiless = status.is_informational() || status == StatusCode::NO_CONTENT;
    let framing = match *framing {
        _ if bodiless => Framing::None,
        Framing::Chunked if version == Version::Http10 => Framing::UntilClose,
        framing => framing,
    };
    let interim = status.is_informational();
    let keep_alive = keep_alive && framing != Framing::UntilClose;
    let mut options = Options {
        close: !keep_alive && !interim,
        keep_alive: keep_alive && !interim && version == Version::Http10,
        ..Options::default()
    };
    out.reserve(48 + (headers.len() + 2) * FIELD_ESTIMATE);
    if status == StatusCode::OK {
        out.put_slice(b"HTTP/1.1 200 OK\r\n");
    } else {
        out.put_slice(b"HTTP/1.1 ");
        out.put_slice(status.as_str().as_bytes());
        out.put_u8(b' ');
        out.put_slice(status.canonical_reason().unwrap_or_default().as_bytes());
        out.put_slice(b"\r\n");
    }
    for (name, value) in headers {
        match *name {
            header::CONNECTION | header::CONTENT_LENGTH | header::TRANSFER_ENCODING => continue,
            header::UPGRADE => options.upgrade = true,
            _ => {}
        }
        put_field(out, name, value);
    }
    put_framing(out, &framing);
    options.put(out);
    out.put_slice(b"\r\n");
    framing
}

/// What the Connection field has to say.
#[derive(Default)]
struct Options {
    close: bool,
    keep_alive: bool,
    te: bool,
    upgrade: bool,
}

impl Options {
    fn put(&self, out: &mut BytesMut) {
        let options: [(bool, &[u8]); 4] =
            [(self.close, b"close"), (self.keep_alive, b"keep-alive"), (self.te, b"te"), (self.upgrade, b"upgrade")];
        let mut before: &[u8] = b"connection: ";
        for (_, option) in options.iter().filter(|(set, _)| *set) {
            out.put_slice(before);
            out.put_slice(option);
            before = b", ";
        }
        if before == b", " {
            out.put_slice(b"\r\n");
        }
    }
}

pub(in crate::http1) fn put_field(out: &mut BytesMut, name: &HeaderName, value: &HeaderValue) {
    out.put_slice(name.as_str().as_bytes());
    out.put_slice(b": ");
    out.put_slice(value.as_bytes());
    out.put_slice(b"\r\n");
}

fn put_framing(out: &mut BytesMut, framing: &Framing) {
    match framing {
        Framing::Chunked => out.put_slice(b"transfer-encoding: chunked\r\n"),
        Framing::Length(length) => {
            out.put_slice(b"content-length: ");
            put_decimal(out, *length);
            out.put_slice(b"\r\n");
        }
        Framing::None | Framing::UntilClose => {}
    }
}

fn put_target(out: &mut BytesMut, target: &str) {
    if target.bytes().all(|byte| byte.is_ascii_graphic()) {
        out.put_slice(target.as_bytes());
        return;
    }
    for byte in target.bytes() {
        if byte.is_ascii_graphic() {
            out.put_u8(byte);
        } else {
            out.put_slice(&[b'%', hexadecimal(byte >> 4), hexadecimal(byte & 15)]);
        }
    }
}

fn hexadecimal(digit: u8) -> u8 {
    if digit < 10 { b'0' + digit } else { b'A' + digit - 10 }
}
