//! What a Host may be.

use super::*;

fn host(value: &str) -> Result<RequestHead, Reject> {
    request(&format!("GET / HTTP/1.1\r\nHost: {value}\r\n\r\n"))
}

#[test]
fn a_name_or_an_address_with_or_without_port_passes() {
    for value in ["a", "example.com", "example.com:8080", "10.0.0.1:80", "[::1]", "[2001:db8::1]:443", "a_b.local"] {
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
