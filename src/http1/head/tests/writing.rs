//! Heads as they are written, and parsed back.

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
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(&value).unwrap());
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
