//! Which body a request announces.

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
