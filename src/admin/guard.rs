//! Who may ask: keeps web pages in a browser on this machine out (pure).
//!
//! A page cannot open a socket, but it can have the browser send requests to `127.0.0.1`. Two things give it away: with
//! DNS rebinding `Host` is the page's name, and a request across origins carries `Origin`.

use std::net::IpAddr;

use http::Uri;
use http::header::{HOST, HeaderMap, HeaderName, HeaderValue, ORIGIN};
use http::uri::Authority;

/// Says why a request that came by TCP is refused; `None` if it is not.
pub(super) fn refusal(uri: &Uri, headers: &HeaderMap) -> Option<&'static str> {
    let mut hosts = headers.get_all(HOST).iter();
    // Browsers always send one; a probe by HTTP/1.0 may not.
    let host = hosts.next();
    if hosts.next().is_some() {
        return Some("more than one Host header");
    }
    let is_local = host.is_none_or(|host| authority(host).is_some_and(|host| is_address_or_localhost(&host)))
        && uri.authority().is_none_or(is_address_or_localhost);
    if !is_local {
        return Some("the Host header is not an IP address or localhost");
    }
    cross_origin(host, headers)
}

/// Refuses what a page of another origin sent.
fn cross_origin(host: Option<&HeaderValue>, headers: &HeaderMap) -> Option<&'static str> {
    let other = Some("the request comes from a web page of another origin");
    if let Some(site) = headers.get(HeaderName::from_static("sec-fetch-site"))
        && site != "same-origin"
        && site != "none"
    {
        return other;
    }
    let mut origins = headers.get_all(ORIGIN).iter();
    let origin = origins.next()?;
    let is_same = origins.next().is_none()
        && origin
            .as_bytes()
            .strip_prefix(b"http://")
            .is_some_and(|origin| Some(origin) == host.map(HeaderValue::as_bytes));
    if is_same { None } else { other }
}

fn authority(value: &HeaderValue) -> Option<Authority> {
    Authority::try_from(value.as_bytes()).ok()
}

fn is_address_or_localhost(authority: &Authority) -> bool {
    if authority.as_str().contains('@') {
        return false;
    }
    let host = authority.host();
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
    host.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ask(target: &str, headers: &[(&'static str, &str)]) -> Option<&'static str> {
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            map.append(HeaderName::from_static(name), value.parse().unwrap());
        }
        refusal(&target.parse().unwrap(), &map)
    }

    #[test]
    fn addresses_and_localhost_may_ask() {
        for host in ["127.0.0.1", "127.0.0.1:9990", "[::1]:9990", "[::1]", "localhost", "LocalHost:1", "10.0.0.1:80"] {
            assert_eq!(ask("/", &[("host", host)]), None, "{host}");
        }
        assert_eq!(ask("/", &[]), None);
    }

    #[test]
    fn a_name_may_not_whatever_it_looks_like() {
        for host in [
            "evil.example",
            "127.0.0.1.evil.example",
            "localhost.evil.example",
            "localhost@evil.example",
            "evil.example@127.0.0.1",
            "",
            "a b",
            "127.0.0.1, evil.example",
        ] {
            assert!(ask("/", &[("host", host)]).is_some(), "{host}");
        }
        assert!(ask("/", &[("host", "127.0.0.1"), ("host", "evil.example")]).is_some());
        assert!(ask("http://evil.example/", &[("host", "127.0.0.1")]).is_some());
    }

    #[test]
    fn a_page_of_another_origin_may_not_ask_even_by_address() {
        let host = ("host", "127.0.0.1:9990");
        for other in ["http://evil.example", "null", "https://127.0.0.1:9990", "http://127.0.0.1:80", ""] {
            assert!(ask("/", &[host, ("origin", other)]).is_some(), "{other}");
        }
        assert_eq!(ask("/", &[host, ("origin", "http://127.0.0.1:9990")]), None);
        assert!(ask("/", &[host, ("sec-fetch-site", "cross-site")]).is_some());
        assert!(ask("/", &[host, ("sec-fetch-site", "same-site")]).is_some());
        assert_eq!(ask("/", &[host, ("sec-fetch-site", "none")]), None);
    }
}
