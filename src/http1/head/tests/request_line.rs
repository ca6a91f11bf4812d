//! Method and version.

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
