//! Heads of responses.

use super::*;

#[test]
fn the_status_line_has_a_version_and_three_digits() {
    for (line, status) in [
        ("HTTP/1.1 200 OK", 200),
        ("HTTP/1.1 200 ", 200),
        // Common, and nothing is lost: the reason is dropped anyway.
        ("HTTP/1.1 200", 200),
        ("HTTP/1.0 404 Not  Found\t\u{e9}", 404),
        ("HTTP/1.1 999 odd", 999),
    ] {
        assert_eq!(response(&format!("{line}\r\n\r\n")).expect(line).status.as_u16(), status);
    }
    for (line, label) in [
        ("HTTP/1.1  200 OK", "status_line"),
        ("HTTP/1.1 20 OK", "status_line"),
        ("HTTP/1.1 2000 OK", "status_line"),
        ("HTTP/1.1 2x0 OK", "status_line"),
        ("HTTP/1.1 099 OK", "status_line"),
        ("HTTP/1.1 +20 OK", "status_line"),
        ("HTTP/1.1\t200 OK", "status_line"),
        ("HTTP/1.1 200\tOK", "status_line"),
        ("HTTP/1.1 200 O\0K", "status_line"),
        ("HTTP/1.1", "status_line"),
        ("ICY 200 OK", "version_malformed"),
        ("http/1.1 200 OK", "version_malformed"),
        ("HTTP/2.0 200 OK", "version_unsupported"),
        ("HTTP/1.x 200 OK", "version_malformed"),
        ("HTTP/1.1 200 O\rK", "bare_cr"),
    ] {
        let text = format!("{line}\r\n\r\n");
        let parsed =
            parse_response(&mut BytesMut::from(&*text), &mut 0, &HeadLimits::RESPONSE, &Method::GET, HeaderMap::new());
        assert_eq!(parsed.expect_err(line).label(), label, "{line:?}");
    }
}

#[test]
fn what_cannot_become_a_response_is_refused_at_once() {
    let parse = |text: &str| {
        parse_response(&mut BytesMut::from(text), &mut 0, &HeadLimits::RESPONSE, &Method::GET, HeaderMap::new())
    };
    assert!(parse("HTT").unwrap().is_none());
    assert_eq!(parse("<html>").unwrap_err(), Reject::StatusLine);
}

#[test]
fn folding_and_bare_line_ends_are_refused() {
    for (fields, label) in
        [("X: a\r\n b\r\n", "field_folded"), ("X: a\n", "bare_lf"), ("X : a\r\n", "field_space_before_colon")]
    {
        assert_eq!(response(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n")).unwrap_err().label(), label);
    }
}

#[test]
fn contradicting_framing_is_refused() {
    for (fields, label) in [
        ("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n", "content_length_with_transfer_encoding"),
        ("Content-Length: 5\r\nContent-Length: 6\r\n", "content_length_repeated"),
        ("Content-Length: 5\r\nContent-Length: 5\r\n", "content_length_repeated"),
        ("Content-Length: 5, 5\r\n", "content_length"),
        ("Transfer-Encoding: gzip, chunked\r\n", "transfer_encoding"),
        ("Transfer-Encoding: identity\r\n", "transfer_encoding"),
    ] {
        for method in [Method::GET, Method::HEAD] {
            let text = format!("HTTP/1.1 200 OK\r\n{fields}\r\n");
            assert_eq!(response_to(&method, &text).unwrap_err().label(), label, "{fields}");
        }
    }
}

#[test]
fn the_body_follows_from_status_method_and_fields() {
    let length = "Content-Length: 5\r\n";
    let chunked = "Transfer-Encoding: chunked\r\n";
    for (method, status, fields, framing, announced, keep_alive) in [
        (Method::GET, 200, length, Framing::Length(5), Framing::Length(5), true),
        (Method::GET, 200, chunked, Framing::Chunked, Framing::Chunked, true),
        (Method::GET, 200, "", Framing::UntilClose, Framing::None, false),
        (Method::HEAD, 200, length, Framing::None, Framing::Length(5), true),
        (Method::HEAD, 200, chunked, Framing::None, Framing::Chunked, true),
        (Method::HEAD, 200, "", Framing::None, Framing::None, true),
        (Method::GET, 304, length, Framing::None, Framing::Length(5), true),
        (Method::GET, 304, "", Framing::None, Framing::None, true),
        (Method::GET, 204, "", Framing::None, Framing::None, true),
        (Method::GET, 204, "Content-Length: 0\r\n", Framing::None, Framing::Length(0), true),
        // A server that announces a body here may send it: the connection is not used again.
        (Method::GET, 204, length, Framing::None, Framing::Length(5), false),
        (Method::GET, 204, chunked, Framing::None, Framing::Chunked, false),
        (Method::GET, 100, "", Framing::None, Framing::None, true),
        (Method::GET, 103, length, Framing::None, Framing::Length(5), false),
        (Method::CONNECT, 200, "", Framing::None, Framing::None, true),
        (Method::CONNECT, 200, length, Framing::None, Framing::Length(5), true),
        (Method::CONNECT, 407, length, Framing::Length(5), Framing::Length(5), true),
    ] {
        let head = response_to(&method, &format!("HTTP/1.1 {status} X\r\n{fields}\r\n")).unwrap();
        assert_eq!((head.framing, head.announced), (framing, announced), "{method} {status} {fields}");
        assert_eq!(head.keep_alive, keep_alive, "{method} {status} {fields}");
    }
}

#[test]
fn an_http_1_0_response_persists_only_if_it_says_so_and_has_a_length() {
    let keep_alive = |text: &str| response(&format!("HTTP/1.0 200 OK\r\n{text}\r\n")).unwrap().keep_alive;
    assert!(!keep_alive("Content-Length: 0\r\n"));
    assert!(keep_alive("Content-Length: 0\r\nConnection: keep-alive\r\n"));
    assert!(!keep_alive("Connection: keep-alive\r\n"));
    assert!(!response("HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").unwrap().keep_alive);
}

#[test]
fn interim_responses_are_told_from_a_switch_of_protocols() {
    assert!(response("HTTP/1.1 103 X\r\nLink: a\r\n\r\n").unwrap().is_interim());
    let switch = response("HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n").unwrap();
    assert!(!switch.is_interim());
    assert_eq!(switch.upgrade.unwrap(), "websocket");
}
