//! The four forms of a target.

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
