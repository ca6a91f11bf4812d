//! Line ends, empty lines and how a head arrives.

use super::*;

#[test]
fn a_bare_lf_is_refused_wherever_it_is() {
    for text in [
        "GET / HTTP/1.1\nHost: a\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: a\r\n\n",
        "GET / HTTP/1.1\r\nHost: a\n\r\n",
        "\nGET / HTTP/1.1\r\nHost: a\r\n\r\n",
    ] {
        assert_eq!(refused(text), "bare_lf", "{text:?}");
    }
}

#[test]
fn a_bare_lf_is_refused_before_the_head_is_complete() {
    assert_eq!(request_with(b"GET / HTTP/1.1\nHo", &HeadLimits::REQUEST).unwrap_err(), Reject::BareLineFeed);
}

#[test]
fn a_bare_cr_is_refused_wherever_it_is() {
    for (line, text) in [
        (1, "GET /\r HTTP/1.1\r\nHost: a\r\n\r\n"),
        (1, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"),
        (2, "GET / HTTP/1.1\r\nHost: a\rb\r\n\r\n"),
        (2, "GET / HTTP/1.1\r\nHost: a\r\r\n\r\n"),
        (3, "GET / HTTP/1.1\r\nHost: a\r\nX\r: b\r\n\r\n"),
        (3, "GET / HTTP/1.1\r\nHost: a\r\n\rX: b\r\n\r\n"),
    ] {
        assert_eq!(request(text).expect_err(text), Reject::BareCarriageReturn { line }, "{text:?}");
    }
}

#[test]
fn one_empty_line_before_a_request_is_skipped_and_two_are_refused() {
    assert!(request("\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n").is_ok());
    assert_eq!(refused("\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"), "empty_line");
}

#[test]
fn an_empty_line_before_a_response_is_refused() {
    let text = "\r\nHTTP/1.1 200 OK\r\n\r\n";
    // It cannot be told from an empty head, and neither is a response.
    assert_eq!(response(text).unwrap_err().label(), "empty_line");
}

#[test]
fn a_head_that_arrives_byte_by_byte_is_the_same_head() {
    let text = b"\r\nPOST /a?b HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc";
    let (mut buffer, mut scanned, mut found) = (BytesMut::new(), 0, None);
    for (at, &byte) in text.iter().enumerate() {
        buffer.extend_from_slice(&[byte]);
        if found.is_some() {
            continue;
        }
        found = parse_request(&mut buffer, &mut scanned, &HeadLimits::REQUEST, HeaderMap::new()).unwrap();
        if found.is_none() {
            assert!(scanned >= at.saturating_sub(1), "what was seen is remembered");
        }
    }
    let head = found.unwrap();
    assert_eq!((head.method, head.framing, scanned), (Method::POST, Framing::Length(3), 0));
    assert_eq!(&buffer[..], b"abc");
}

#[test]
fn only_the_head_is_taken_off_the_buffer() {
    let mut buffer = BytesMut::from("GET /1 HTTP/1.1\r\nHost: a\r\n\r\nGET /2 HTTP/1.1\r\nHost: a\r\n\r\n\nrest");
    for path in ["/1", "/2"] {
        let head = parse_request(&mut buffer, &mut 0, &HeadLimits::REQUEST, HeaderMap::new()).unwrap().unwrap();
        assert_eq!(head.target.path_and_query(), Some(path));
    }
    assert_eq!(&buffer[..], b"\nrest");
}

#[test]
fn what_cannot_become_a_request_is_refused_at_once() {
    assert_eq!(request_with(b"\x16\x03\x01\x02", &HeadLimits::REQUEST).unwrap_err(), Reject::Method);
    assert_eq!(request_with(b" GET / HT", &HeadLimits::REQUEST).unwrap_err(), Reject::Method);
    for start in [&b""[..], b"\r", b"\r\n", b"GE", b"GET / HTTP/1.1\r\nHost: a\r\n"] {
        assert!(request_with(start, &HeadLimits::REQUEST).unwrap().is_none());
    }
}

#[test]
fn values_are_slices_of_the_read_buffer() {
    let text = "GET /path HTTP/1.1\r\nHost: example.com\r\n\r\n";
    let mut buffer = BytesMut::from(text);
    let range = buffer.as_ptr_range();
    let head = parse_request(&mut buffer, &mut 0, &HeadLimits::REQUEST, HeaderMap::new()).unwrap().unwrap();
    assert!(range.contains(&head.headers["host"].as_bytes().as_ptr()));
    assert!(range.contains(&head.target.path_and_query().unwrap().as_ptr()));
}

#[test]
fn what_the_reused_map_held_is_gone() {
    let mut reuse = HeaderMap::new();
    reuse.insert("x-old", HeaderValue::from_static("old"));
    let mut buffer = BytesMut::from("GET / HTTP/1.1\r\nHost: a\r\n\r\n");
    let head = parse_request(&mut buffer, &mut 0, &HeadLimits::REQUEST, reuse).unwrap().unwrap();
    assert_eq!(head.headers.len(), 1);
}
