//! Each rule of the security paper about heads is a test here.

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

mod lines {
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
}

mod limits {
    use super::*;

    #[test]
    fn a_head_of_exactly_the_limit_passes_and_one_byte_more_does_not() {
        let text = "GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        let limits = |bytes| HeadLimits { bytes, ..HeadLimits::REQUEST };
        assert!(request_with(text.as_bytes(), &limits(text.len())).unwrap().is_some());
        let refusal = request_with(text.as_bytes(), &limits(text.len() - 1)).unwrap_err();
        assert_eq!((refusal.label(), refusal.status().as_u16()), ("head_too_large", 431));
        // The same while it is incomplete: nothing is waited for that cannot fit.
        let incomplete = &text.as_bytes()[..text.len() - 1];
        assert_eq!(request_with(incomplete, &limits(text.len() - 2)).unwrap_err(), Reject::HeadTooLarge);
        // The body that follows does not count.
        let with_body = format!("{text}{}", "x".repeat(100));
        assert!(request_with(with_body.as_bytes(), &limits(text.len())).unwrap().is_some());
    }

    #[test]
    fn a_request_line_beyond_the_limit_is_414() {
        let text = format!("GET /{} HTTP/1.1\r\nHost: a\r\n\r\n", "x".repeat(20_000));
        assert_eq!(request(&text).unwrap_err().status().as_u16(), 414);
    }

    #[test]
    fn more_fields_than_the_limit_are_431() {
        let fields = |count: usize| "X: y\r\n".repeat(count);
        assert!(get(&fields(99)).is_ok());
        let refusal = get(&fields(100)).unwrap_err();
        assert_eq!((refusal.label(), refusal.status().as_u16()), ("too_many_fields", 431));
    }

    #[test]
    fn a_limit_beyond_the_stack_holds_as_well() {
        let limits = HeadLimits { headers: 300, ..HeadLimits::REQUEST };
        let text = |count: usize| format!("GET / HTTP/1.1\r\nHost: a\r\n{}\r\n", "X: y\r\n".repeat(count));
        assert_eq!(request_with(text(299).as_bytes(), &limits).unwrap().unwrap().headers.len(), 300);
        assert_eq!(request_with(text(300).as_bytes(), &limits).unwrap_err(), Reject::TooManyFields);
    }
}

mod request_line {
    use super::*;

    #[test]
    fn any_method_token_passes_up_to_32_bytes() {
        assert_eq!(request("PURGE / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().method.as_str(), "PURGE");
        // Methods are case-sensitive: this is not GET.
        assert_ne!(request("get / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().method, Method::GET);
        let long = request(&format!("{} / HTTP/1.1\r\nHost: a\r\n\r\n", "M".repeat(33))).unwrap_err();
        assert_eq!((long.label(), long.status().as_u16()), ("method_too_long", 501));
    }

    #[test]
    fn a_method_that_is_not_a_token_is_refused() {
        for text in ["G(T / HTTP/1.1\r\nHost: a\r\n\r\n", "G:T / HTTP/1.1\r\nHost: a\r\n\r\n"] {
            assert_eq!(refused(text), "method_malformed", "{text:?}");
        }
    }

    #[test]
    fn words_are_parted_by_exactly_one_space() {
        for text in [
            "GET  / HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET /  HTTP/1.1\r\nHost: a\r\n\r\n",
            "GET / HTTP/1.1 \r\nHost: a\r\n\r\n",
            "GET\r\nHost: a\r\n\r\n",
        ] {
            assert_eq!(refused(text), "request_line", "{text:?}");
        }
        assert_eq!(refused("GET\t/ HTTP/1.1\r\nHost: a\r\n\r\n"), "method_malformed");
    }

    #[test]
    fn http_0_9_is_refused() {
        assert_eq!(refused("GET /\r\n\r\n"), "version_malformed");
    }

    #[test]
    fn a_version_other_than_1_0_and_1_1_is_505() {
        for version in ["HTTP/2.0", "HTTP/1.2", "HTTP/0.9", "HTTP/3.0"] {
            let refusal = request(&format!("GET / {version}\r\nHost: a\r\n\r\n")).unwrap_err();
            assert_eq!((refusal.label(), refusal.status().as_u16()), ("version_unsupported", 505), "{version}");
        }
        for version in ["HTTP/1.10", "http/1.1", "HTTP/1", "HTTP/11", "HTTPS/1.1", "HTTP/1.1x", "HTP/1.1"] {
            let refusal = request(&format!("GET / {version}\r\nHost: a\r\n\r\n")).unwrap_err();
            assert_eq!((refusal.label(), refusal.status().as_u16()), ("version_malformed", 400), "{version}");
        }
    }
}

mod targets {
    use super::*;

    fn of(method: &str, target: &str, host: &str) -> Result<Target, Reject> {
        request(&format!("{method} {target} HTTP/1.1\r\nHost: {host}\r\n\r\n")).map(|head| head.target)
    }

    #[test]
    fn a_path_and_query_pass_as_they_are() {
        for target in ["/", "/a/b?c=d&e", "//x", "/%2e%2E/..", "/a:b@c", "/?a?b"] {
            let parsed = of("GET", target, "a").unwrap();
            assert_eq!(parsed.path_and_query(), Some(target));
            assert_eq!(parsed.into_uri().to_string(), target);
        }
    }

    #[test]
    fn a_fragment_is_refused() {
        for target in ["/#", "/a#b", "/?a#b", "http://a/#x"] {
            assert_eq!(of("GET", target, "a").unwrap_err().label(), "target_fragment", "{target}");
        }
    }

    #[test]
    fn control_and_non_ascii_bytes_are_refused() {
        for target in ["/\u{1}", "/a\tb", "/\u{7f}", "/\u{e9}", "/<", "/?\u{80}"] {
            assert_eq!(of("GET", target, "a").unwrap_err().label(), "target_malformed", "{target:?}");
        }
        assert_eq!(refused("GET /\0 HTTP/1.1\r\nHost: a\r\n\r\n"), "target_malformed");
    }

    #[test]
    fn the_asterisk_is_for_options_alone() {
        assert_eq!(of("OPTIONS", "*", "a").unwrap(), Target::Asterisk);
        assert_eq!(of("GET", "*", "a").unwrap_err().label(), "target_form");
        assert_eq!(of("OPTIONS", "*x", "a").unwrap_err().label(), "target_form");
    }

    #[test]
    fn a_target_that_is_neither_path_nor_url_is_refused() {
        for target in ["a", "a/b", "example.com:80", "?x", "ftp://a/", "javascript:1", "://a/", ".http://a/"] {
            assert_eq!(of("GET", target, "a").unwrap_err().label(), "target_form", "{target}");
        }
    }

    #[test]
    fn an_absolute_target_must_agree_with_host() {
        let target = of("GET", "HTTP://Example.com:80/x?y", "example.COM:80").unwrap();
        assert_eq!(target.path_and_query(), Some("/x?y"));
        assert_eq!(target.authority().unwrap(), "example.com:80");
        assert_eq!(of("GET", "http://a/", "b").unwrap_err().label(), "host_mismatch");
        assert_eq!(of("GET", "http://a:80/", "a").unwrap_err().label(), "host_mismatch");
        for target in ["http://u@a/", "http:///", "http://a,b/", "http://a:/", "http://a:b/", "http://[::1/"] {
            assert_eq!(of("GET", target, "a").unwrap_err().label(), "host_malformed", "{target}");
        }
    }

    #[test]
    fn an_absolute_target_without_path_gets_one() {
        assert_eq!(of("GET", "http://a", "a").unwrap().path_and_query(), Some("/"));
        assert_eq!(of("GET", "http://a?x", "a").unwrap().path_and_query(), Some("/?x"));
        assert_eq!(of("OPTIONS", "http://a", "a").unwrap().path_and_query(), Some("*"));
        assert_eq!(of("OPTIONS", "http://a/", "a").unwrap().path_and_query(), Some("/"));
    }

    #[test]
    fn connect_takes_host_and_port_and_nothing_else() {
        assert_eq!(of("CONNECT", "a:443", "a:443").unwrap().authority().unwrap(), "a:443");
        assert_eq!(of("CONNECT", "[::1]:443", "[::1]:443").unwrap().path_and_query(), None);
        for target in ["a", "/", "http://a:443/", "a:", "a:70000", "u@a:1", "*", "a:443/"] {
            assert_eq!(of("CONNECT", target, "a").unwrap_err().label(), "connect_form", "{target}");
        }
        assert_eq!(of("CONNECT", "a:443", "b:443").unwrap_err().label(), "host_mismatch");
    }

    #[test]
    fn connect_cannot_announce_a_body() {
        for field in ["Content-Length: 3", "Content-Length: 0", "Transfer-Encoding: chunked"] {
            let text = format!("CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n{field}\r\n\r\n");
            assert_eq!(refused(&text), "connect_with_body", "{field}");
        }
    }
}

mod hosts {
    use super::*;

    fn host(value: &str) -> Result<RequestHead, Reject> {
        request(&format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"))
    }

    #[test]
    fn a_name_or_an_address_with_or_without_port_passes() {
        for value in ["a", "example.com", "example.com:8080", "10.0.0.1:80", "[::1]", "[2001:db8::1]:443", "a_b.local"]
        {
            assert_eq!(host(value).expect(value).authority(), Some(value));
        }
    }

    #[test]
    fn a_host_that_is_empty_or_carries_more_than_host_and_port_is_refused() {
        for value in [
            "",
            " ",
            "u@a",
            "a/b",
            "/",
            "a,b",
            "a, b",
            "a b",
            "a:",
            ":80",
            "a:80:80",
            "a:99999",
            "a:+80",
            "a:8a",
            "a?b",
            "a#b",
            "a\\b",
            "a%41",
            "[::1",
            "::1",
            "[::1]x",
            "[a]",
            "[fe80::1%25eth0]",
            "http://a",
            "a;b",
            "\u{e9}",
        ] {
            assert_eq!(host(value).expect_err(value).label(), "host_malformed", "{value:?}");
        }
    }

    #[test]
    fn a_second_host_is_refused_even_if_equal() {
        assert_eq!(get_refused("Host: a\r\n"), "host_repeated");
        assert_eq!(get_refused("HOST: b\r\n"), "host_repeated");
    }

    #[test]
    fn http_1_1_must_have_a_host_and_http_1_0_need_not() {
        assert_eq!(refused("GET / HTTP/1.1\r\n\r\n"), "host_missing");
        assert_eq!(request("GET / HTTP/1.0\r\n\r\n").unwrap().authority(), None);
        assert_eq!(refused("GET / HTTP/1.0\r\nHost: a/b\r\n\r\n"), "host_malformed");
    }
}

mod fields {
    use super::*;

    #[test]
    fn folding_is_refused() {
        assert_eq!(get("X: a\r\n b\r\n").unwrap_err(), Reject::FieldFolded { line: 4 });
        assert_eq!(get_refused("X: a\r\n\tb\r\n"), "field_folded");
        assert_eq!(get_refused("X:\r\n b\r\n"), "field_folded");
        assert_eq!(refused("GET / HTTP/1.1\r\n Host: a\r\n\r\n"), "field_folded");
    }

    #[test]
    fn space_before_the_colon_is_refused() {
        for fields in ["X : a\r\n", "X\t: a\r\n", "Content-Length : 3\r\n", "Transfer-Encoding : chunked\r\n"] {
            assert_eq!(get_refused(fields), "field_space_before_colon", "{fields:?}");
        }
    }

    #[test]
    fn a_name_that_is_not_a_token_is_refused() {
        for fields in [
            ": a\r\n",
            "X(: a\r\n",
            "X\u{e9}: a\r\n",
            "X/Y: a\r\n",
            "X\0: a\r\n",
            "no colon\r\n",
            "nocolon\r\n",
            "\u{7f}: a\r\n",
        ] {
            let label = get_refused(fields);
            assert!(matches!(label, "field_name" | "field_space_before_colon"), "{fields:?}: {label}");
        }
    }

    #[test]
    fn a_control_byte_in_a_value_is_refused() {
        for byte in (0..32_u8).chain([127]).filter(|byte| !b"\t\r\n".contains(byte)) {
            let fields = format!("X: a{}b\r\n", char::from(byte));
            assert_eq!(get_refused(&fields), "field_control", "{byte}");
            assert_eq!(get_refused(&format!("X: {}\r\n", char::from(byte))), "field_control", "{byte}");
        }
        let head = get("X: \t a\tb\u{e9} \t\r\nY:\r\nZ: \r\n").unwrap();
        assert_eq!(head.headers["x"].as_bytes(), "a\tb\u{e9}".as_bytes());
        assert_eq!((head.headers["y"].as_bytes(), head.headers["z"].as_bytes()), (&b""[..], &b""[..]));
    }

    #[test]
    fn names_with_an_underscore_are_refused_by_default() {
        assert_eq!(get("X_Y: a\r\n").unwrap_err(), Reject::FieldUnderscore { line: 3 });
    }

    #[test]
    fn underscore_twins_are_refused_even_where_underscores_pass() {
        let limits = HeadLimits { underscores: Underscores::Pass, ..HeadLimits::REQUEST };
        let with =
            |field: &str| request_with(format!("GET / HTTP/1.1\r\nHost: a\r\n{field}: 1\r\n\r\n").as_bytes(), &limits);
        assert!(with("X_Y").unwrap().is_some());
        for field in ["Content_Length", "TRANSFER_ENCODING", "X_Forwarded_For", "x-forwarded_proto", "X_SPIFFE_ID"] {
            assert_eq!(with(field).unwrap_err().label(), "field_underscore", "{field}");
        }
        assert_eq!(response("HTTP/1.1 200 OK\r\ncontent_length: 1\r\n\r\n").unwrap_err().label(), "field_underscore");
        assert!(response("HTTP/1.1 200 OK\r\nx_y: 1\r\ncontent-length: 0\r\n\r\n").is_ok());
    }

    #[test]
    fn standard_and_repeated_fields_are_kept_in_order() {
        let head = get("Accept: a\r\nACCEPT: b\r\naccept: c\r\n").unwrap();
        let values: Vec<_> = head.headers.get_all("accept").iter().map(|value| value.to_str().unwrap()).collect();
        assert_eq!(values, ["a", "b", "c"]);
    }
}

mod framing {
    use super::*;

    #[test]
    fn a_length_is_plain_digits() {
        for (value, length) in [("0", 0), ("5", 5), ("007", 7), ("9223372036854775807", i64::MAX as u64)] {
            let framing = get(&format!("Content-Length: {value}\r\n")).unwrap().framing;
            assert_eq!(framing, Framing::Length(length));
        }
        for value in [
            "",
            "+5",
            "-5",
            "5,",
            "5, 5",
            "5,5",
            "5 5",
            "0x5",
            "5a",
            "a",
            "5.0",
            "1_0",
            "\u{663}",
            "9223372036854775808",
            "18446744073709551616",
            "00000000000000000005",
            "99999999999999999999999999",
        ] {
            assert_eq!(get_refused(&format!("Content-Length: {value}\r\n")), "content_length", "{value}");
        }
    }

    #[test]
    fn a_second_length_is_refused_even_if_equal() {
        for second in ["5", "6"] {
            let fields = format!("Content-Length: 5\r\nContent-Length: {second}\r\n");
            assert_eq!(get_refused(&fields), "content_length_repeated");
        }
    }

    #[test]
    fn a_length_with_chunks_is_refused_in_either_order() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n",
            "Transfer-Encoding: chunked\r\nContent-Length: 0\r\n",
        ] {
            assert_eq!(get_refused(fields), "content_length_with_transfer_encoding");
        }
    }

    #[test]
    fn the_only_transfer_encoding_is_one_chunked() {
        for value in ["chunked", "CHUNKED", "Chunked", " chunked\t"] {
            assert_eq!(get(&format!("Transfer-Encoding:{value}\r\n")).unwrap().framing, Framing::Chunked);
        }
        for value in [
            "",
            "gzip",
            "identity",
            "gzip, chunked",
            "chunked, gzip",
            "chunked, chunked",
            ",chunked",
            "chunked,",
            "xchunked",
            "chunked;q=1",
            "\"chunked\"",
            "chunked\u{b}",
            "chunk",
            "c hunked",
            "\u{a0}chunked",
        ] {
            let label = get_refused(&format!("Transfer-Encoding: {value}\r\n"));
            assert!(matches!(label, "transfer_encoding" | "field_control"), "{value:?}: {label}");
        }
        let twice = "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n";
        assert_eq!(get_refused(twice), "transfer_encoding");
    }

    #[test]
    fn chunks_in_http_1_0_are_refused() {
        let text = "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(refused(text), "transfer_encoding_in_http_1_0");
        let text = "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n";
        assert_eq!(response(text).unwrap_err().label(), "transfer_encoding_in_http_1_0");
    }

    #[test]
    fn a_request_without_framing_has_no_body() {
        assert_eq!(get("").unwrap().framing, Framing::None);
        assert_eq!(request("POST / HTTP/1.1\r\nHost: a\r\n\r\n").unwrap().framing, Framing::None);
    }
}

mod connection {
    use super::*;

    fn keep_alive(version: &str, connection: &str) -> bool {
        request(&format!("GET / HTTP/{version}\r\nHost: a\r\n{connection}\r\n")).unwrap().keep_alive
    }

    #[test]
    fn a_connection_persists_by_version_and_option_and_close_wins() {
        assert!(keep_alive("1.1", ""));
        assert!(!keep_alive("1.1", "Connection: close\r\n"));
        assert!(!keep_alive("1.1", "Connection: keep-alive, Close\r\n"));
        assert!(!keep_alive("1.1", "Connection: close\r\nConnection: keep-alive\r\n"));
        assert!(!keep_alive("1.0", ""));
        assert!(keep_alive("1.0", "Connection: Keep-Alive\r\n"));
        assert!(!keep_alive("1.0", "Connection: keep-alive, close\r\n"));
        assert!(!keep_alive("1.0", "Proxy-Connection: keep-alive\r\n"));
    }

    #[test]
    fn connection_may_not_name_what_must_stay() {
        for name in [
            "Host",
            "content-length",
            "Transfer-Encoding",
            "authorization",
            "COOKIE",
            "X-Forwarded-For",
            "x-forwarded-proto",
            "x-forwarded-client-cert",
            "x-spiffe",
            "x-spiffe-id",
            "x-client-cert",
            "forwarded",
            "x_forwarded_for",
        ] {
            let label = get_refused(&format!("Connection: close, {name}\r\n"));
            assert_eq!(label, "connection_names_protected", "{name}");
        }
        assert!(get("Connection: x-private, , te\r\n").is_ok());
    }

    #[test]
    fn connection_must_be_a_list_of_tokens() {
        for value in [":authority", "a b", "close;q=1", "\"close\"", "clos\u{e9}"] {
            assert_eq!(get_refused(&format!("Connection: {value}\r\n")), "connection_malformed", "{value}");
        }
    }

    #[test]
    fn an_upgrade_counts_only_if_connection_names_it_once_in_http_1_1() {
        let upgrade = |fields: &str| get(fields).unwrap().upgrade;
        assert_eq!(upgrade("Connection: Upgrade\r\nUpgrade: websocket\r\n").unwrap(), "websocket");
        assert_eq!(upgrade("Upgrade: websocket\r\nConnection: keep-alive, upgrade\r\n").unwrap(), "websocket");
        assert_eq!(upgrade("Upgrade: websocket\r\n"), None);
        assert_eq!(upgrade("Connection: upgrade\r\n"), None);
        assert_eq!(upgrade("Connection: upgrade\r\nUpgrade: websocket\r\nUpgrade: h2c\r\n"), None);
        let old = "GET / HTTP/1.0\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n";
        assert_eq!(request(old).unwrap().upgrade, None);
    }

    #[test]
    fn the_only_expectation_is_100_continue() {
        let body = "Content-Length: 5\r\n";
        assert!(get(&format!("Expect: 100-Continue\r\n{body}")).unwrap().expect_continue);
        assert!(!get("Expect: 100-continue\r\n").unwrap().expect_continue);
        assert!(!get(body).unwrap().expect_continue);
        let old = format!("POST / HTTP/1.0\r\nExpect: 100-continue\r\n{body}\r\n");
        assert!(!request(&old).unwrap().expect_continue);
        let refusal = get("Expect: a-pony\r\n").unwrap_err();
        assert_eq!((refusal.label(), refusal.status().as_u16()), ("expectation", 417));
    }
}

mod responses {
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
            let parsed = parse_response(
                &mut BytesMut::from(&*text),
                &mut 0,
                &HeadLimits::RESPONSE,
                &Method::GET,
                HeaderMap::new(),
            );
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
}

mod writing {
    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_static(name), HeaderValue::from_static(value));
        }
        headers
    }

    fn request_text(target: &str, fields: &[(&'static str, &'static str)], framing: Framing) -> String {
        let mut out = BytesMut::new();
        write_request(&mut out, &Method::GET, target, &headers(fields), &framing);
        String::from_utf8(out.to_vec()).unwrap()
    }

    fn response_text(
        status: u16,
        fields: &[(&'static str, &'static str)],
        framing: Framing,
        keep_alive: bool,
        version: Version,
    ) -> (String, Framing) {
        let mut out = BytesMut::new();
        let written = write_response(
            &mut out,
            StatusCode::from_u16(status).unwrap(),
            &headers(fields),
            &framing,
            keep_alive,
            version,
        );
        (String::from_utf8(out.to_vec()).unwrap(), written)
    }

    #[test]
    fn host_comes_first_and_framing_is_never_relayed() {
        let fields = [
            ("accept", "x"),
            ("content-length", "7"),
            ("transfer-encoding", "gzip"),
            ("connection", "x-evil"),
            ("host", "a"),
        ];
        assert_eq!(
            request_text("/x", &fields, Framing::Chunked),
            "GET /x HTTP/1.1\r\nhost: a\r\naccept: x\r\ntransfer-encoding: chunked\r\n\r\n"
        );
        assert_eq!(
            request_text("/x", &fields, Framing::Length(12)),
            "GET /x HTTP/1.1\r\nhost: a\r\naccept: x\r\ncontent-length: 12\r\n\r\n"
        );
        assert_eq!(request_text("/x", &fields, Framing::None), "GET /x HTTP/1.1\r\nhost: a\r\naccept: x\r\n\r\n");
    }

    #[test]
    fn a_target_cannot_end_the_line() {
        let text = request_text("/a b\r\nX: y", &[("host", "a")], Framing::None);
        assert!(text.starts_with("GET /a%20b%0D%0AX:%20y HTTP/1.1\r\n"), "{text}");
    }

    #[test]
    fn kept_upgrade_and_te_are_named_in_connection() {
        let text = request_text("/", &[("host", "a"), ("upgrade", "websocket"), ("te", "trailers")], Framing::None);
        assert!(text.ends_with("\r\nconnection: te, upgrade\r\n\r\n"), "{text}");
        let (text, _) = response_text(101, &[("upgrade", "websocket")], Framing::None, true, Version::Http11);
        assert_eq!(text, "HTTP/1.1 101 Switching Protocols\r\nupgrade: websocket\r\nconnection: upgrade\r\n\r\n");
    }

    #[test]
    fn a_response_says_when_the_connection_ends() {
        let text = |framing, keep_alive, version| response_text(200, &[], framing, keep_alive, version).0;
        let length = Framing::Length(3);
        assert_eq!(text(length, true, Version::Http11), "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n");
        assert_eq!(
            text(length, false, Version::Http11),
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: close\r\n\r\n"
        );
        assert_eq!(
            text(length, true, Version::Http10),
            "HTTP/1.1 200 OK\r\ncontent-length: 3\r\nconnection: keep-alive\r\n\r\n"
        );
        assert_eq!(text(Framing::UntilClose, true, Version::Http11), "HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n");
    }

    #[test]
    fn http_1_0_is_never_sent_chunks() {
        let (text, written) = response_text(200, &[], Framing::Chunked, true, Version::Http10);
        assert_eq!((text.as_str(), written), ("HTTP/1.1 200 OK\r\nconnection: close\r\n\r\n", Framing::UntilClose));
    }

    #[test]
    fn interim_and_204_responses_announce_nothing() {
        for status in [100, 103] {
            let (text, written) = response_text(status, &[("link", "x")], Framing::Length(5), false, Version::Http11);
            assert!(text.ends_with("\r\nlink: x\r\n\r\n"), "{text}");
            assert_eq!(written, Framing::None);
        }
        let (text, _) = response_text(204, &[("content-length", "0")], Framing::Chunked, true, Version::Http11);
        assert_eq!(text, "HTTP/1.1 204 No Content\r\n\r\n");
        let (text, _) = response_text(304, &[], Framing::Length(5), true, Version::Http11);
        assert_eq!(text, "HTTP/1.1 304 Not Modified\r\ncontent-length: 5\r\n\r\n");
    }

    fn any_headers() -> impl Strategy<Value = HeaderMap> {
        let name = "[a-z][a-z0-9-]{0,20}".prop_filter("the writer's or the connection's own", |name| {
            !["connection", "content-length", "host", "te", "transfer-encoding", "upgrade", "expect"]
                .contains(&name.as_str())
        });
        let value = "([!-~]([ -~\t]{0,30}[!-~])?)?";
        proptest::collection::vec((name, value), 0..20).prop_map(|fields| {
            let mut headers = HeaderMap::new();
            for (name, value) in fields {
                headers
                    .append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
            }
            headers
        })
    }

    fn any_framing() -> impl Strategy<Value = Framing> {
        prop_oneof![Just(Framing::None), Just(Framing::Chunked), (0..=i64::MAX as u64).prop_map(Framing::Length)]
    }

    proptest! {
        #[test]
        fn what_is_written_is_parsed_back(
            method in "[A-Z]{1,12}".prop_filter("its own form", |method| method != "CONNECT"),
            target in "/[a-z0-9/%.?=&-]{0,40}",
            mut fields in any_headers(),
            framing in any_framing(),
        ) {
            fields.insert(header::HOST, HeaderValue::from_static("example.com:80"));
            let method = Method::from_bytes(method.as_bytes()).unwrap();
            let mut out = BytesMut::new();
            write_request(&mut out, &method, &target, &fields, &framing);
            let head = parse_request(&mut out, &mut 0, &HeadLimits::REQUEST, HeaderMap::new()).unwrap().unwrap();
            prop_assert!(out.is_empty());
            prop_assert_eq!(head.method, method);
            prop_assert_eq!(head.target.path_and_query(), Some(target.as_str()));
            prop_assert_eq!(head.framing, framing);
            prop_assert!(head.keep_alive);
            let mut parsed = head.headers;
            parsed.remove(header::CONTENT_LENGTH);
            parsed.remove(header::TRANSFER_ENCODING);
            prop_assert_eq!(parsed, fields);
        }

        #[test]
        fn a_written_response_is_parsed_back(
            status in 200_u16..600,
            fields in any_headers(),
            framing in prop_oneof![any_framing(), Just(Framing::UntilClose)],
            keep_alive: bool,
        ) {
            let status = StatusCode::from_u16(status).unwrap();
            let mut out = BytesMut::new();
            let written = write_response(&mut out, status, &fields, &framing, keep_alive, Version::Http11);
            let head =
                parse_response(&mut out, &mut 0, &HeadLimits::RESPONSE, &Method::GET, HeaderMap::new()).unwrap().unwrap();
            prop_assert!(out.is_empty());
            prop_assert_eq!(head.status, status);
            if status == StatusCode::NOT_MODIFIED || status == StatusCode::NO_CONTENT {
                prop_assert_eq!(head.framing, Framing::None);
            } else if written == Framing::None {
                prop_assert_eq!(head.framing, Framing::UntilClose);
            } else {
                prop_assert_eq!(head.framing, written);
            }
            let mut parsed = head.headers;
            parsed.remove(header::CONNECTION);
            parsed.remove(header::CONTENT_LENGTH);
            parsed.remove(header::TRANSFER_ENCODING);
            prop_assert_eq!(parsed, fields);
        }

        #[test]
        fn any_bytes_are_parsed_or_refused_alike_however_they_are_split(
            bytes in proptest::collection::vec(prop_oneof![any::<u8>(), proptest::sample::select(&b"\r\n: GET/HTP1."[..])], 0..200),
            step in 1_usize..7,
        ) {
            let whole = request_with(&bytes, &HeadLimits::REQUEST);
            let (mut buffer, mut scanned, mut split) = (BytesMut::new(), 0, Ok(None));
            for piece in bytes.chunks(step) {
                buffer.extend_from_slice(piece);
                split = parse_request(&mut buffer, &mut scanned, &HeadLimits::REQUEST, HeaderMap::new());
                if !matches!(split, Ok(None)) {
                    break;
                }
            }
            prop_assert_eq!(whole.is_err(), split.is_err());
            prop_assert_eq!(whole.ok().flatten().is_some(), split.ok().flatten().is_some());
        }
    }
}
