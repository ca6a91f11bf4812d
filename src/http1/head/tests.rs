//! Each rule of the security paper about heads is a test here.

mod connection;
mod fields;
mod framing;
mod hosts;
mod limits;
mod lines;
mod request_line;
mod responses;
mod targets;
mod writing;

use bytes::BytesMut;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use proptest::prelude::*;

use super::*;

fn request_with(bytes: &[u8], limits: &HeadLimits) -> Result<Option<RequestHead>, Reject> {
    parse_request(&mut BytesMut::from(bytes), &mut 0, limits, HeaderMap::new())
}

/// Parses one complete request head.
fn request(text: &str) -> Result<RequestHead, Reject> {
    request_with(text.as_bytes(), &HeadLimits::REQUEST).map(|head| head.expect("a complete head"))
}

/// Parses a GET with Host and the given field lines.
fn get(fields: &str) -> Result<RequestHead, Reject> {
    request(&format!("GET / HTTP/1.1\r\nHost: a\r\n{fields}\r\n"))
}

fn refused(text: &str) -> &'static str {
    request(text).expect_err(text).label()
}

fn get_refused(fields: &str) -> &'static str {
    get(fields).expect_err(fields).label()
}

fn response_to(method: &Method, text: &str) -> Result<ResponseHead, Reject> {
    parse_response(&mut BytesMut::from(text), &mut 0, &HeadLimits::RESPONSE, method, HeaderMap::new())
        .map(|head| head.expect("a complete head"))
}

fn response(text: &str) -> Result<ResponseHead, Reject> {
    response_to(&Method::GET, text)
}
