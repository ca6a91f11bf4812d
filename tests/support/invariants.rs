//! What must hold for any bytes at all. The fuzz targets call these, and a normal test replays the seeds through them.

use bytes::BytesMut;
use http::Method;
use http::header::{self, HeaderMap, HeaderValue};
use meshless::http1::Reject;
use meshless::http1::body::{Decoded, Decoder, Encoder};
use meshless::http1::head::{
    Framing, HeadLimits, RequestHead, ResponseHead, Version, parse_request, parse_response, write_request,
    write_response,
};
use meshless::http1::hop::{self, Direction, Upgrade};

use crate::differential::Oracle;

/// A request head is parsed alike however it arrives, and what we write of it we parse back as the same.
pub(crate) fn request_head(bytes: &[u8]) {
    let limits = HeadLimits::REQUEST;
    let mut rest = BytesMut::from(bytes);
    let whole = parse_request(&mut rest, &mut 0, &limits, HeaderMap::new());
    let split = by_pieces(bytes, |buffer, scanned| parse_request(buffer, scanned, &limits, HeaderMap::new()));
    same_outcome(&whole, &split);
    let Ok(Some(mut head)) = whole else { return };
    let Some(target) = head.target.path_and_query().map(str::to_owned) else { return };
    hop::strip(&mut head.headers, Direction::Request, Upgrade::Strip);
    // Only HTTP/1.0 may lack it; whoever relays it as HTTP/1.1 gives it one.
    head.headers.entry(header::HOST).or_insert(HeaderValue::from_static("a"));
    let mut out = BytesMut::new();
    write_request(&mut out, &head.method, &target, &head.headers, &head.framing);
    assert!(!out.windows(2).any(|pair| pair[1] == b'\n' && pair[0] != b'\r'), "bare LF written");
    // Growth by the fields that the writer adds must not push it over a limit.
    let limits = HeadLimits { bytes: limits.bytes + 256, headers: limits.headers + 3, ..limits };
    let again: RequestHead = parse_request(&mut out, &mut 0, &limits, HeaderMap::new())
        .expect("what we write we accept")
        .expect("what we write is complete");
    assert!(out.is_empty());
    assert_eq!((&again.method, again.target.path_and_query()), (&head.method, Some(target.as_str())));
    assert_eq!(again.framing, head.framing);
    let mut headers = without_framing(again.headers);
    headers.remove(header::CONNECTION);
    assert_eq!(headers, without_framing(head.headers));
}

/// The same for the head of a response to any method.
pub(crate) fn response_head(bytes: &[u8]) {
    let limits = HeadLimits::RESPONSE;
    for method in [Method::GET, Method::HEAD, Method::CONNECT] {
        let whole = parse_response(&mut BytesMut::from(bytes), &mut 0, &limits, &method, HeaderMap::new());
        let split =
            by_pieces(bytes, |buffer, scanned| parse_response(buffer, scanned, &limits, &method, HeaderMap::new()));
        same_outcome(&whole, &split);
        let Ok(Some(mut head)) = whole else { continue };
        hop::strip(&mut head.headers, Direction::Response, Upgrade::Strip);
        let mut out = BytesMut::new();
        let written =
            write_response(&mut out, head.status, &head.headers, &head.framing, head.keep_alive, Version::Http11);
        let limits = HeadLimits { bytes: limits.bytes + 256, headers: limits.headers + 3, ..limits };
        let again: ResponseHead = parse_response(&mut out, &mut 0, &limits, &method, HeaderMap::new())
            .expect("what we write we accept")
            .expect("what we write is complete");
        assert!(out.is_empty());
        assert_eq!((again.status, again.framing), (head.status, head.framing));
        assert_eq!(written, head.framing);
        let mut headers = without_framing(again.headers);
        headers.remove(header::CONNECTION);
        assert_eq!(headers, without_framing(head.headers));
    }
}

/// A chunked body is decoded alike however it arrives, and survives being encoded again.
pub(crate) fn chunked_body(bytes: &[u8]) {
    let whole = body(&[bytes]);
    for step in [1, 2, 3, 7] {
        let split = body(&bytes.chunks(step).collect::<Vec<_>>());
        match (&whole, &split) {
            (Ok(whole), Ok(split)) => assert_eq!(whole, split),
            (Err(_), Err(_)) => {}
            _ => panic!("in one piece {whole:?}, in pieces of {step} {split:?}"),
        }
    }
    let Ok((data, trailers, true)) = whole else { return };
    let mut out = BytesMut::new();
    let mut encoder = Encoder::new(&Framing::Chunked);
    encoder.data(&mut out, &data).expect("chunks have no announced length");
    encoder.end(&mut out, Some(&trailers)).expect("chunks have no announced length");
    assert_eq!(body(&[&out]), Ok((data, trailers, true)));
}

/// hyper agrees: the first byte chooses the side and method, the rest is what comes over the wire.
pub(crate) fn differential(oracle: &Oracle, bytes: &[u8]) {
    let Some((&choice, bytes)) = bytes.split_first() else { return };
    let compared = match choice % 8 {
        0 => oracle.compare_response(&Method::GET, bytes),
        1 => oracle.compare_response(&Method::HEAD, bytes),
        2 => oracle.compare_response(&Method::CONNECT, bytes),
        _ => oracle.compare_requests(bytes),
    };
    if let Err(difference) = compared {
        panic!("{difference}");
    }
}

fn body(pieces: &[&[u8]]) -> Result<(Vec<u8>, HeaderMap, bool), Reject> {
    let mut decoder = Decoder::new(&Framing::Chunked, 8 * 1024);
    let (mut buffer, mut data, mut trailers) = (BytesMut::new(), Vec::new(), HeaderMap::new());
    for piece in pieces {
        buffer.extend_from_slice(piece);
        loop {
            match decoder.decode(&mut buffer)? {
                Decoded::Data(bytes) => data.extend_from_slice(&bytes),
                Decoded::Trailers(fields) => trailers = fields,
                Decoded::End => return Ok((data, trailers, true)),
                Decoded::NeedMore => break,
            }
        }
    }
    Ok((data, trailers, false))
}

fn by_pieces<T>(
    bytes: &[u8],
    mut parse: impl FnMut(&mut BytesMut, &mut usize) -> Result<Option<T>, Reject>,
) -> Result<Option<T>, Reject> {
    let (mut buffer, mut scanned) = (BytesMut::new(), 0);
    for piece in bytes.chunks(3) {
        buffer.extend_from_slice(piece);
        match parse(&mut buffer, &mut scanned) {
            Ok(None) => {}
            done => return done,
        }
    }
    Ok(None)
}

/// A refusal may come earlier in pieces, for another reason that was seen first; but never not at all.
fn same_outcome<T: std::fmt::Debug>(whole: &Result<Option<T>, Reject>, split: &Result<Option<T>, Reject>) {
    match (whole, split) {
        (Ok(Some(_)), Ok(Some(_))) | (Ok(None), Ok(None)) | (Err(_), Err(_)) => {}
        _ => panic!("in one piece {whole:?}, in several {split:?}"),
    }
}

fn without_framing(mut headers: HeaderMap) -> HeaderMap {
    headers.remove(header::CONTENT_LENGTH);
    headers.remove(header::TRANSFER_ENCODING);
    headers
}
