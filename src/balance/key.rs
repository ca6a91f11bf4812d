//! What a request is known by, for policies that send equal requests to one endpoint (pure).

use std::net::IpAddr;

use http::{HeaderMap, HeaderName, header};

use super::hash::hash;
use crate::config::HashOn;

/// What is known of a request; looked into only by the policies that hash.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Asked<'a> {
    /// None for bytes.
    pub(crate) headers: Option<&'a HeaderMap>,
    /// The client's address; none for a Unix socket.
    pub(crate) client: Option<IpAddr>,
}

/// Returns the hash of a request's key; `None` where it has none. An empty value is none.
pub(super) fn key(on: &HashOn, asked: &Asked<'_>) -> Option<u64> {
    match on {
        // ::ffff:192.0.2.1 is 192.0.2.1.
        HashOn::Address => Some(match asked.client?.to_canonical() {
            IpAddr::V4(address) => hash(&address.octets()),
            IpAddr::V6(address) => hash(&address.octets()),
        }),
        HashOn::Cookie(name) => cookie(asked.headers?, name).map(hash),
        HashOn::Header(name) => value(asked.headers?, name).map(hash),
    }
}

fn value<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a [u8]> {
    Some(headers.get(name)?.as_bytes().trim_ascii()).filter(|value| !value.is_empty())
}

/// The first cookie of a name. HTTP/2 may spread cookies over several fields (RFC 9113, 8.2.3).
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a [u8]> {
    let pairs =
        headers.get_all(header::COOKIE).into_iter().flat_map(|field| field.as_bytes().split(|byte| *byte == b';'));
    pairs
        .filter_map(|pair| {
            let pair = pair.trim_ascii();
            let equals = pair.iter().position(|byte| *byte == b'=')?;
            let (key, value) = pair.split_at_checked(equals)?;
            (key == name.as_bytes()).then(|| value.strip_prefix(b"=").unwrap_or_default())
        })
        .find(|value| !value.is_empty())
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    fn headers(fields: &[(&'static str, &'static str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value))).collect()
    }

    fn of(on: &HashOn, fields: &[(&'static str, &'static str)]) -> Option<u64> {
        let headers = headers(fields);
        key(on, &Asked { headers: Some(&headers), client: None })
    }

    #[test]
    fn a_cookie_is_found_wherever_it_stands() {
        let on = HashOn::Cookie("session".to_owned());
        let expected = Some(hash(b"a=1"));
        assert_eq!(of(&on, &[("cookie", "session=a=1")]), expected);
        assert_eq!(of(&on, &[("cookie", "x=y;  session=a=1 ; session=2")]), expected);
        assert_eq!(of(&on, &[("cookie", "xsession=3; Session=4")]), None);
        assert_eq!(of(&on, &[("cookie", "session=; session")]), None);
        let mut spread = headers(&[("cookie", "x=y")]);
        spread.append("cookie", HeaderValue::from_static("session=a=1"));
        assert_eq!(key(&on, &Asked { headers: Some(&spread), client: None }), expected);
    }

    #[test]
    fn a_header_is_taken_by_its_first_value() {
        let on = HashOn::Header(HeaderName::from_static("x-user"));
        assert_eq!(of(&on, &[("x-user", "bob")]), Some(hash(b"bob")));
        assert_eq!(of(&on, &[("x-user", " ")]), None);
        assert_eq!(of(&on, &[]), None);
        assert_eq!(key(&on, &Asked::default()), None);
    }

    #[test]
    fn an_address_is_the_same_however_it_is_written() {
        let of = |client: &str| key(&HashOn::Address, &Asked { headers: None, client: Some(client.parse().unwrap()) });
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(key(&HashOn::Address, &Asked::default()), None);
    }
}
