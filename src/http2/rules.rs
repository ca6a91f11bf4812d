//! What an HTTP/2 request must be before the engine sees it (pure).
//!
//! `h2` refuses upper-case names, connection-specific fields, pseudo-headers out of place and a `content-length` that
//! the DATA frames do not keep. What is left concerns the translation to HTTP/1.1: a request that would mean something
//! else there is refused here (security paper §1, "h2->h1").

use http::header::{self, HeaderName};
use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Method};

use crate::http1::Reject;

/// Brings a request into the engine's form: the path alone as target, the authority as `Host`.
pub(crate) fn normalise(parts: &mut Parts, max_headers: usize) -> Result<(), Reject> {
    if parts.method == Method::CONNECT {
        return Err(Reject::ConnectNotAllowed);
    }
    if parts.headers.len() > max_headers {
        return Err(Reject::TooManyFields);
    }
    let authority = parts.uri.authority().map(|authority| authority.as_str().to_owned());
    check_fields(&parts.headers)?;
    let mut hosts = parts.headers.get_all(header::HOST).iter();
    let host = match (&authority, hosts.next(), hosts.next()) {
        (_, _, Some(_)) => return Err(Reject::HostRepeated),
        (Some(authority), Some(host), None) if !host.as_bytes().eq_ignore_ascii_case(authority.as_bytes()) => {
            return Err(Reject::HostMismatch);
        }
        (Some(authority), _, None) => HeaderValue::from_str(authority).map_err(|_| Reject::Host)?,
        (None, Some(host), None) => host.clone(),
        (None, None, _) => return Err(Reject::HostMissing),
    };
    if !crate::http1::head::is_host(host.as_bytes()) {
        return Err(Reject::Host);
    }
    let path = parts.uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let form = path.as_str();
    if !(form.starts_with('/') || form == "*" && parts.method == Method::OPTIONS) {
        return Err(Reject::Target);
    }
    parts.uri = path.into();
    parts.headers.insert(header::HOST, host);
    join_cookies(&mut parts.headers);
    Ok(())
}

fn check_fields(headers: &HeaderMap) -> Result<(), Reject> {
    for (name, value) in headers {
        crate::http1::head::check_name(name)?;
        if value.as_bytes().iter().any(|&byte| byte < 0x20 && byte != b'\t' || byte == 0x7f) {
            return Err(Reject::FieldControl { line: 0 });
        }
    }
    if headers.get_all(header::CONTENT_LENGTH).iter().count() > 1 {
        return Err(Reject::ContentLengthRepeated);
    }
    for value in headers.get_all(header::TE) {
        if value != "trailers" {
            return Err(Reject::Te);
        }
    }
    Ok(())
}

/// Refuses what an HTTP/1.1 client could not put into its trailers either.
pub(crate) fn check_trailers(trailers: &HeaderMap) -> Result<(), Reject> {
    trailers.keys().try_for_each(crate::http1::head::check_trailer_name)
}

/// HTTP/2 may cut `cookie` into several fields; HTTP/1.1 knows one (RFC 9113, 8.2.3).
fn join_cookies(headers: &mut HeaderMap) {
    let mut all = headers.get_all(header::COOKIE).iter();
    if all.next().is_none() || all.next().is_none() {
        return;
    }
    let joined = headers.get_all(header::COOKIE).iter().map(HeaderValue::as_bytes).collect::<Vec<_>>().join(&b"; "[..]);
    if let Ok(value) = HeaderValue::from_bytes(&joined) {
        headers.insert(header::COOKIE, value);
    }
}

/// Fields that mean something for one HTTP/1.1 connection and have no place in HTTP/2 (RFC 9113, 8.2.2).
pub(crate) fn strip_connection_fields(headers: &mut HeaderMap) {
    for name in [header::CONNECTION, header::TRANSFER_ENCODING, header::UPGRADE] {
        headers.remove(name);
    }
    headers.remove(HeaderName::from_static("keep-alive"));
    headers.remove(HeaderName::from_static("proxy-connection"));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn normalised(request: http::request::Builder) -> Result<Parts, Reject> {
        let mut parts = request.body(()).unwrap().into_parts().0;
        normalise(&mut parts, 100)?;
        Ok(parts)
    }

    #[test]
    fn the_authority_becomes_host_and_the_path_the_target() {
        let parts = normalised(http::Request::get("http://Example.org:81/a?b")).unwrap();
        assert_eq!(parts.uri, "/a?b");
        assert_eq!(parts.headers[header::HOST], "Example.org:81");
    }

    #[test]
    fn a_host_that_contradicts_the_authority_is_refused() {
        let request = http::Request::get("http://a.example/").header("host", "b.example");
        assert_eq!(normalised(request).unwrap_err(), Reject::HostMismatch);
        assert!(normalised(http::Request::get("http://a.example/").header("host", "A.example")).is_ok());
    }

    #[test]
    fn cookies_are_joined_into_one_field() {
        let parts =
            normalised(http::Request::get("http://a/").header("cookie", "a=1").header("cookie", "b=2")).unwrap();
        assert_eq!(parts.headers.get_all("cookie").iter().collect::<Vec<_>>(), ["a=1; b=2"]);
    }

    #[test]
    fn connect_te_and_underscore_twins_are_refused() {
        assert!(normalised(http::Request::builder().method("CONNECT").uri("a:80")).is_err());
        assert!(normalised(http::Request::get("http://a/").header("te", "gzip")).is_err());
        assert!(normalised(http::Request::get("http://a/").header("te", "trailers")).is_ok());
        assert!(normalised(http::Request::get("http://a/").header("content_length", "1")).is_err());
    }
}
