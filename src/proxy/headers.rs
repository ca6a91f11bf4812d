//! What a proxy changes in heads: hop-by-hop fields, who asked and by which way, identity fields (pure).

use std::net::IpAddr;

use http::header::{self, HeaderName};
use http::{HeaderMap, HeaderValue, Version};

use crate::http1::hop;

/// Who asked, as the certificate of the connection says: Envoy's name and form.
pub(crate) const X_FORWARDED_CLIENT_CERT: HeaderName = HeaderName::from_static("x-forwarded-client-cert");
const X_FORWARDED_FOR: HeaderName = HeaderName::from_static("x-forwarded-for");
/// By which scheme the client asked, as far as it can be known.
pub(crate) const X_FORWARDED_PROTO: HeaderName = HeaderName::from_static("x-forwarded-proto");
/// A request's id: kept if the client sent a fitting one, else made.
pub(crate) const X_REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");
/// Longest id that is taken from a client.
const MAX_REQUEST_ID: usize = 128;
/// The name in `Via`.
const PSEUDONYM: &str = "meshless";

/// Who sent a request.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sender<'a> {
    /// Its address; `None` on a Unix socket.
    pub(crate) address: Option<IpAddr>,
    /// It came by TLS.
    pub(crate) tls: bool,
    /// What is said of its certificate, by [`client_certificate`]; `None`: it showed no identity.
    pub(crate) certificate: Option<&'a HeaderValue>,
}

impl Sender<'_> {
    /// A client on this machine is the application that this sidecar serves: what it says about who asked is passed on.
    /// Everybody else's word is replaced (trusted hops: 0).
    fn is_trusted(self) -> bool {
        self.address.is_none_or(|address| address.to_canonical().is_loopback())
    }
}

/// What happens to headers by which a client says where and how its request goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Claims {
    /// They are passed on (`overrides = true`).
    Keep,
    /// They go.
    Strip,
}

/// Makes a request's head one that we send.
pub(crate) fn rewrite_request(
    headers: &mut HeaderMap,
    sender: Sender<'_>,
    version: Version,
    upgrade: bool,
    claims: Claims,
    new_id: impl FnOnce() -> HeaderValue,
) {
    let keep = if upgrade { hop::Upgrade::Keep } else { hop::Upgrade::Strip };
    hop::strip(headers, hop::Direction::Request, keep);
    strip_claims(headers, claims);
    if let Some(certificate) = sender.certificate {
        headers.insert(X_FORWARDED_CLIENT_CERT, certificate.clone());
    }
    if !sender.is_trusted() {
        headers.remove(X_FORWARDED_FOR);
        headers.remove(X_FORWARDED_PROTO);
        headers.remove(header::FORWARDED);
    }
    if let Some(address) = sender.address {
        append(headers, &X_FORWARDED_FOR, &address.to_canonical().to_string());
    }
    if !headers.contains_key(X_FORWARDED_PROTO) {
        headers.insert(X_FORWARDED_PROTO, HeaderValue::from_static(if sender.tls { "https" } else { "http" }));
    }
    append_via(headers, version);
    let fits = |id: &HeaderValue| {
        id.len() <= MAX_REQUEST_ID && !id.is_empty() && id.as_bytes().iter().all(u8::is_ascii_graphic)
    };
    if !headers.get(X_REQUEST_ID).is_some_and(fits) {
        headers.insert(X_REQUEST_ID, new_id());
    }
}

/// Returns what `x-forwarded-client-cert` says of a client whose certificate was verified, in Envoy's form: who we are where
/// that is an identity, the SHA-256 of the client's certificate, and who it is.
pub(crate) fn client_certificate(ours: Option<&str>, fingerprint: &[u8; 32], peer: &str) -> Option<HeaderValue> {
    let mut text = String::with_capacity(256);
    if let Some(ours) = ours {
        text.push_str("By=");
        text.push_str(ours);
        text.push(';');
    }
    text.push_str("Hash=");
    text.push_str(&meshless_certs::hex(fingerprint));
    // A SPIFFE ID has none of the characters that would have to be quoted.
    text.push_str(";URI=");
    text.push_str(peer);
    HeaderValue::try_from(text).ok()
}

/// Makes a reply's head one that we send.
pub(crate) fn rewrite_response(headers: &mut HeaderMap, version: Version, switches: bool) {
    let keep = if switches { hop::Upgrade::Keep } else { hop::Upgrade::Strip };
    hop::strip(headers, hop::Direction::Response, keep);
    append_via(headers, version);
}

/// Counts the proxies that a request has passed.
pub(crate) fn hops(headers: &HeaderMap) -> usize {
    headers.get_all(header::VIA).iter().map(|via| via.as_bytes().split(|&byte| byte == b',').count()).sum()
}

fn append_via(headers: &mut HeaderMap, version: Version) {
    let ours = match version {
        Version::HTTP_2 => "2.0 meshless",
        Version::HTTP_10 => "1.0 meshless",
        _ => "1.1 meshless",
    };
    debug_assert!(ours.ends_with(PSEUDONYM));
    if headers.contains_key(header::VIA) {
        headers.append(header::VIA, HeaderValue::from_static(ours));
    } else {
        headers.insert(header::VIA, HeaderValue::from_static(ours));
    }
}

/// Adds a value to a list that may be spread over several fields, and makes one field of it.
fn append(headers: &mut HeaderMap, name: &HeaderName, value: &str) {
    let mut joined = Vec::new();
    for before in headers.get_all(name) {
        joined.extend_from_slice(before.as_bytes());
        joined.extend_from_slice(b", ");
    }
    joined.extend_from_slice(value.as_bytes());
    if let Ok(value) = HeaderValue::try_from(joined) {
        headers.insert(name, value);
    }
}

/// Removes what a client may not say: who it is (identities are set from certificates, and until then by nobody), and
/// where its request should go (`overrides = false`). Deadlines stay: they may only shorten.
fn strip_claims(headers: &mut HeaderMap, claims: Claims) {
    let goes = |name: &str| is_identity(name) || claims == Claims::Strip && is_override(name);
    let found: Vec<HeaderName> = headers.keys().filter(|name| goes(name.as_str())).cloned().collect();
    for name in found {
        headers.remove(name);
    }
}

/// Who somebody is, and what only we say; nobody may claim it on any listener.
fn is_identity(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => name == "x-forwarded-client-cert" || name == "x-client-cert" || name.starts_with("x-spiffe"),
        // Linkerd 2's.
        Some(b'l') => matches!(name, "l5d-client-id" | "l5d-remote-ip" | "l5d-server-id"),
        Some(b'm') => name == "meshless-error",
        _ => false,
    }
}

/// What changes how we, or a proxy behind us, treat a request. Linkerd 1's trace context stays, as those of others do: it
/// decides nothing.
fn is_override(name: &str) -> bool {
    match name.as_bytes().first() {
        Some(b'x') => name.starts_with("x-envoy-") && name != "x-envoy-expected-rq-timeout-ms",
        Some(b'l') => name.starts_with("l5d-") && !matches!(name, "l5d-ctx-deadline" | "l5d-ctx-trace"),
        Some(b'm') => name == "meshless-route",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(fields: &[(&'static str, &'static str)], from: &str, upgrade: bool) -> HeaderMap {
        rewritten_with(fields, from, upgrade, Claims::Strip)
    }

    fn rewritten_with(fields: &[(&'static str, &'static str)], from: &str, upgrade: bool, claims: Claims) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let sender = Sender { address: Some(from.parse().unwrap()), tls: true, certificate: None };
        rewrite_request(&mut headers, sender, Version::HTTP_11, upgrade, claims, || HeaderValue::from_static("made"));
        headers
    }

    #[test]
    fn identity_fields_of_clients_are_removed() {
        let claims = [
            ("x-forwarded-client-cert", "By=spiffe://a/svc/b"),
            ("x-spiffe-id", "spiffe://a/svc/b"),
            ("l5d-client-id", "admin"),
            ("meshless-route", "consul/secret"),
            ("x-envoy-upstream-rq-timeout-ms", "1"),
        ];
        let headers = rewritten(&claims, "192.0.2.1", false);
        for (name, _) in claims {
            assert!(!headers.contains_key(name), "{name}");
        }
    }

    #[test]
    fn what_we_know_of_a_client_replaces_what_it_says() {
        let ours = client_certificate(Some("spiffe://a/svc/b"), &[0xab; 32], "spiffe://a/svc/web").unwrap();
        assert!(ours.to_str().unwrap().starts_with("By=spiffe://a/svc/b;Hash="), "{ours:?}");
        assert!(ours.to_str().unwrap().ends_with(";URI=spiffe://a/svc/web"), "{ours:?}");
        let mut headers = HeaderMap::new();
        headers.append("x-forwarded-client-cert", HeaderValue::from_static("By=x;URI=spiffe://a/svc/admin"));
        headers.append("x-forwarded-client-cert", HeaderValue::from_static("URI=spiffe://a/svc/root"));
        let sender = Sender { address: None, tls: true, certificate: Some(&ours) };
        let id = || HeaderValue::from_static("made");
        rewrite_request(&mut headers, sender, Version::HTTP_2, false, Claims::Strip, id);
        assert_eq!(headers.get_all(X_FORWARDED_CLIENT_CERT).iter().collect::<Vec<_>>(), [&ours]);
    }

    #[test]
    fn deadlines_and_trace_context_stay() {
        let stay = [("l5d-ctx-deadline", "1 2"), ("x-envoy-expected-rq-timeout-ms", "5"), ("l5d-ctx-trace", "AAA=")];
        let headers = rewritten(&stay, "192.0.2.1", false);
        assert!(stay.iter().all(|(name, _)| headers.contains_key(*name)), "{headers:?}");
    }

    #[test]
    fn where_a_request_goes_is_said_by_clients_only_where_they_may_and_who_they_are_nowhere() {
        let overrides =
            ["meshless-route", "l5d-dtab", "l5d-ctx-dtab", "l5d-retry-limit", "l5d-sample", "x-envoy-max-retries"];
        let identities = ["l5d-client-id", "x-forwarded-client-cert", "x-spiffe-id", "meshless-error"];
        let said: Vec<_> = overrides.iter().chain(&identities).map(|name| (*name, "a")).collect();
        let stripped = rewritten(&said, "127.0.0.1", false);
        assert!(said.iter().all(|(name, _)| !stripped.contains_key(*name)), "{stripped:?}");
        let kept = rewritten_with(&said, "127.0.0.1", false, Claims::Keep);
        assert!(overrides.iter().all(|name| kept.contains_key(*name)), "{kept:?}");
        assert!(identities.iter().all(|name| !kept.contains_key(*name)), "{kept:?}");
    }

    #[test]
    fn a_remote_clients_word_about_who_asked_is_replaced_and_a_local_ones_is_kept() {
        let said = [("x-forwarded-for", "203.0.113.9"), ("forwarded", "for=203.0.113.9")];
        let remote = rewritten(&said, "192.0.2.1", false);
        assert_eq!(remote["x-forwarded-for"], "192.0.2.1");
        assert_eq!((remote.get("forwarded"), &remote["x-forwarded-proto"]), (None, &HeaderValue::from_static("https")));
        let local = rewritten(&said, "::ffff:127.0.0.1", false);
        assert_eq!(local["x-forwarded-for"], "203.0.113.9, 127.0.0.1");
        assert!(local.contains_key("forwarded"));
    }

    #[test]
    fn an_id_is_made_where_none_fits() {
        assert_eq!(rewritten(&[], "192.0.2.1", false)["x-request-id"], "made");
        assert_eq!(rewritten(&[("x-request-id", "a b")], "192.0.2.1", false)["x-request-id"], "made");
        assert_eq!(rewritten(&[("x-request-id", "abc")], "192.0.2.1", false)["x-request-id"], "abc");
    }

    #[test]
    fn via_counts_hops_in_every_form() {
        let mut headers = HeaderMap::new();
        headers.append("via", HeaderValue::from_static("1.1 a, 1.1 b"));
        headers.append("via", HeaderValue::from_static("2.0 c"));
        assert_eq!(hops(&headers), 3);
        append_via(&mut headers, Version::HTTP_2);
        assert_eq!(hops(&headers), 4);
    }

    #[test]
    fn only_an_upgrade_that_may_happen_is_passed_on() {
        let fields = [("connection", "upgrade, x-private"), ("upgrade", "websocket"), ("x-private", "1")];
        let kept = rewritten(&fields, "192.0.2.1", true);
        assert_eq!((kept.get("upgrade").is_some(), kept.get("x-private")), (true, None));
        assert!(!rewritten(&fields, "192.0.2.1", false).contains_key("upgrade"));
    }
}
