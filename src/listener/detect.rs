//! What a client speaks, told by its first bytes.

use std::future::poll_fn;
use std::io::Cursor;
use std::task::{Poll, ready};
use std::time::Duration;

use bytes::BytesMut;
use rustls::server::Acceptor;
use tokio::time::Instant;

use crate::http1::wire::poll_read_scratch;
use crate::http2::PREFACE;
use crate::shutdown::Drain;
use crate::stream::Stream;
use crate::timer::{Timer, after};

/// Longest method by which HTTP is recognised.
const MAX_METHOD: usize = 24;
/// Largest `ClientHello` that is looked at, in bytes: the largest that TLS can send in one record and a bit.
const MAX_HELLO: usize = 20 * 1024;
/// While draining, a connection that was just accepted may still say what it came for.
const DRAIN_FIRST: Duration = Duration::from_secs(1);

/// What a client speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Detected {
    Bytes,
    Http1,
    Http2,
}

/// Reads until the protocol is clear. `None`: the client left, or said nothing while the drain began.
pub(super) async fn protocol(stream: &mut Stream, sniffs: bool, drain: &mut Drain) -> Option<(Detected, BytesMut)> {
    let mut buffer = BytesMut::new();
    let (deadline, mut timer) = (after(Instant::now(), DRAIN_FIRST), Timer::default());
    loop {
        if let Some(detected) = detect(&buffer, sniffs) {
            return Some((detected, buffer));
        }
        let length = poll_fn(|context| {
            let read = poll_read_scratch(stream, context, |bytes| {
                buffer.extend_from_slice(bytes);
                bytes.len()
            });
            if read.is_pending() && buffer.is_empty() && drain.poll_draining(context).is_ready() {
                return timer.poll_expired(context, deadline).map(|()| Ok(0));
            }
            read
        });
        if length.await.ok()? == 0 {
            // A head that was cut off is the codec's to judge; silence is nobody's.
            return (!buffer.is_empty()).then_some((Detected::Http1, buffer));
        }
    }
}

/// `None`: more bytes are needed.
fn detect(bytes: &[u8], sniffs: bool) -> Option<Detected> {
    if bytes.is_empty() {
        return None;
    }
    if bytes.starts_with(PREFACE) {
        return Some(Detected::Http2);
    }
    if PREFACE.starts_with(bytes) {
        return None;
    }
    if !sniffs {
        return Some(Detected::Http1);
    }
    // A method is letters and a space; everything else is not HTTP.
    let letters = bytes.iter().take_while(|byte| byte.is_ascii_alphabetic() || matches!(byte, b'-' | b'_')).count();
    match bytes.get(letters) {
        Some(b' ') if letters > 0 && letters <= MAX_METHOD => Some(Detected::Http1),
        None if letters <= MAX_METHOD => None,
        _ => Some(Detected::Bytes),
    }
}

/// Reads a `ClientHello` and returns the name it asks for (empty where it asks for none) and the bytes that were read.
pub(super) async fn server_name(stream: &mut Stream) -> Result<(String, BytesMut), &'static str> {
    let mut acceptor = Acceptor::default();
    let mut buffer = BytesMut::new();
    poll_fn(|context| {
        loop {
            let fed = ready!(poll_read_scratch(stream, context, |bytes| {
                buffer.extend_from_slice(bytes);
                let mut cursor = Cursor::new(bytes);
                while cursor.position() < bytes.len() as u64 {
                    match acceptor.read_tls(&mut cursor) {
                        Ok(0) => break,
                        Ok(_) => {}
                        Err(error) => return Err(error),
                    }
                }
                Ok(bytes.len())
            }));
            match fed {
                Ok(Ok(0)) | Err(_) => return Poll::Ready(Err("closed")),
                Ok(Err(_)) => return Poll::Ready(Err("tls_hello")),
                Ok(Ok(_)) => {}
            }
            match acceptor.accept() {
                Ok(Some(accepted)) => {
                    let name = accepted.client_hello().server_name().unwrap_or_default().to_ascii_lowercase();
                    return Poll::Ready(Ok((name, std::mem::take(&mut buffer))));
                }
                Ok(None) if buffer.len() > MAX_HELLO => return Poll::Ready(Err("tls_hello")),
                Ok(None) => {}
                Err(_) => return Poll::Ready(Err("tls_hello")),
            }
        }
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_preface_is_told_from_a_method_that_begins_like_it() {
        assert_eq!(detect(b"PRI * HTTP/2.0\r\n", false), None);
        assert_eq!(detect(PREFACE, false), Some(Detected::Http2));
        assert_eq!(detect(b"PRI * HTTP/2.1", false), Some(Detected::Http1));
        assert_eq!(detect(b"P", false), None);
        assert_eq!(detect(b"POST / HT", false), Some(Detected::Http1));
    }

    #[test]
    fn what_is_no_http_is_bytes_only_where_bytes_can_be_carried() {
        for bytes in [&b"\x16\x03\x01"[..], b"*1\r\n$4\r\nPING\r\n", b"\0\0\0\x08\x04\xd2\x16\x2f", b"PING\r\n"] {
            assert_eq!(detect(bytes, true), Some(Detected::Bytes));
            assert_eq!(detect(bytes, false), Some(Detected::Http1));
        }
        assert_eq!(detect(b"GET", true), None);
        assert_eq!(detect(b"GET /", true), Some(Detected::Http1));
        assert_eq!(detect(&[b'A'; 25], true), Some(Detected::Bytes));
    }

    #[tokio::test]
    async fn the_name_of_a_client_hello_is_read_and_its_bytes_are_kept() {
        use tokio::io::AsyncWriteExt;
        let anchors = rustls::RootCertStore::empty();
        let config = rustls::ClientConfig::builder_with_provider(meshless_certs::provider())
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(anchors)
            .with_no_client_auth();
        let mut client =
            rustls::ClientConnection::new(std::sync::Arc::new(config), "Db.example".try_into().unwrap()).unwrap();
        let mut hello = Vec::new();
        client.write_tls(&mut hello).unwrap();
        let (mut near, far) = tokio::io::duplex(16);
        let mut stream = Stream::from(far);
        let sent = hello.clone();
        let writing = async move {
            near.write_all(&sent).await.unwrap();
            near
        };
        let (found, _near) = tokio::join!(server_name(&mut stream), writing);
        let (name, bytes) = found.unwrap();
        assert_eq!((name.as_str(), &bytes[..]), ("db.example", &hello[..]));
    }
}
