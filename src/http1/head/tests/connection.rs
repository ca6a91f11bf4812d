//! Persistence, upgrades and expectations.

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
