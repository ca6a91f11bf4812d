//! The PROXY header, versions 1 and 2: who the client of a balancer is.

use std::future::poll_fn;
use std::net::IpAddr;

use bytes::{Buf, BytesMut};
use ppp::{HeaderResult, PartialResult, v1, v2};

use crate::http1::wire::poll_read_scratch;
use crate::stream::Stream;

/// Most that a header may take, in bytes: version 2 with a few extensions; version 1 ends at 107.
const MAX: usize = 4096;

/// Longest header of version 1.
const MAX_V1: usize = 107;

/// Why there is no header.
#[derive(Debug, thiserror::Error)]
pub(super) enum HeaderError {
    #[error("the connection ended before a PROXY header")]
    Closed,
    #[error("the connection does not begin with a PROXY header")]
    Malformed,
    #[error("the PROXY header is longer than {MAX} bytes")]
    TooLong,
}

/// Reads the header; `None`: the balancer speaks for itself (LOCAL, UNKNOWN).
pub(super) async fn read(stream: &mut Stream) -> Result<Option<IpAddr>, HeaderError> {
    let mut buffer = BytesMut::new();
    loop {
        let length = poll_fn(|context| {
            poll_read_scratch(stream, context, |bytes| {
                buffer.extend_from_slice(bytes);
                bytes.len()
            })
        });
        if length.await.map_err(|_| HeaderError::Closed)? == 0 {
            return Err(HeaderError::Closed);
        }
        if let Some((client, length)) = parse(&buffer)? {
            buffer.advance(length);
            stream.unread(buffer);
            return Ok(client);
        }
        if buffer.len() > MAX {
            return Err(HeaderError::TooLong);
        }
    }
}

/// `None`: more bytes are needed.
fn parse(bytes: &[u8]) -> Result<Option<(Option<IpAddr>, usize)>, HeaderError> {
    // `ppp` takes a version 1 header that is cut within its last fields for a wrong one.
    if bytes.starts_with(b"PROXY ") && bytes.len() < MAX_V1 && !bytes.windows(2).any(|pair| pair == b"\r\n") {
        return Ok(None);
    }
    let header = HeaderResult::parse(bytes);
    if header.is_incomplete() {
        return Ok(None);
    }
    match header {
        HeaderResult::V1(Ok(header)) => {
            let client = match header.addresses {
                v1::Addresses::Tcp4(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Tcp6(addresses) => Some(addresses.source_address.into()),
                v1::Addresses::Unknown => None,
            };
            Ok(Some((client, header.header.len())))
        }
        HeaderResult::V2(Ok(header)) => {
            let client = match header.addresses {
                _ if header.command == v2::Command::Local => None,
                v2::Addresses::IPv4(addresses) => Some(addresses.source_address.into()),
                v2::Addresses::IPv6(addresses) => Some(addresses.source_address.into()),
                v2::Addresses::Unix(_) | v2::Addresses::Unspecified => None,
            };
            Ok(Some((client, header.len())))
        }
        HeaderResult::V1(Err(_)) | HeaderResult::V2(Err(_)) => Err(HeaderError::Malformed),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const V2: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\x00\x0c\xc0\x00\x02\x07\xc0\x00\x02\x08\x1f\x90\x00\x50";

    #[test]
    fn both_versions_name_the_client_and_leave_the_rest() {
        let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 8080 80\r\nGET / HTTP/1.1\r\n";
        assert_eq!(parse(v1).unwrap(), Some((Some("192.0.2.7".parse().unwrap()), 40)));
        let mut v2 = V2.to_vec();
        v2.extend_from_slice(b"GET");
        assert_eq!(parse(&v2).unwrap(), Some((Some("192.0.2.7".parse().unwrap()), V2.len())));
        assert_eq!(parse(b"PROXY UNKNOWN\r\n").unwrap(), Some((None, 15)));
        assert_eq!(
            parse(b"PROXY TCP6 2001:db8::1 ::1 1 2\r\n").unwrap().unwrap().0,
            Some("2001:db8::1".parse().unwrap())
        );
    }

    #[test]
    fn every_beginning_of_a_header_asks_for_more_and_nothing_else_does() {
        let v1 = b"PROXY TCP4 192.0.2.7 192.0.2.8 8080 80\r\n";
        for cut in 1..v1.len() {
            assert!(matches!(parse(&v1[..cut]), Ok(None)), "{cut}");
        }
        for cut in 1..V2.len() {
            assert!(matches!(parse(&V2[..cut]), Ok(None)), "{cut}");
        }
        assert!(parse(b"GET / HTTP/1.1\r\n\r\n").is_err());
    }
}
