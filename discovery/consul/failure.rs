//! What an exchange that failed means, and what to do about it (pure).

use std::error::Error as StdError;
use std::time::Duration;

use reqwest::StatusCode;
use reqwest::header::{HeaderMap, RETRY_AFTER};

use crate::Error;

/// Most characters of an agent's complaint that are shown.
const MAX_SHOWN: usize = 300;

/// What it means that no answer came, or only a part of one.
pub(super) fn of_exchange(at: &str, error: &reqwest::Error) -> Error {
    let mut cause: &dyn StdError = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    of_cause(at, &cause.to_string(), error.is_connect())
}

fn of_cause(at: &str, cause: &str, was_connecting: bool) -> Error {
    let advice = |text: &str| Error::Denied(format!("{at}: {cause}; {text}"));
    if cause.contains("invalid peer certificate") {
        return advice("name its authority with `ca`, or the name that stands in it with `server_name`");
    }
    if cause.contains("received fatal alert") {
        return advice("the agent refuses our side of TLS: does it want a client certificate (`cert`, `key`)?");
    }
    if cause.contains("corrupt message") {
        return advice("the agent does not speak TLS on that port; write `http://`, or the port of HTTPS");
    }
    if was_connecting {
        return Error::Unreachable(format!("{at}: {cause}"));
    }
    // An agent that has too many connections of one client closes the next one without a word.
    Error::Unreachable(format!(
        "{at}: {cause}; the agent ended, or has more than `limits.http_max_conns_per_client` connections of this host"
    ))
}

/// What a status other than 200 means. `permission` is what Consul wants for what was asked.
pub(super) fn of_status(at: &str, status: StatusCode, headers: &HeaderMap, body: &[u8], permission: &str) -> Error {
    let complaint = shown(body);
    let said = format!("{at}: {}: {complaint}", status.as_u16());
    // Servers answer for others, and an agent passes that on as 500 in some versions.
    let is_denied = complaint.contains("Permission denied") || complaint.contains("ACL not found");
    match status.as_u16() {
        401 => Error::Denied(said),
        403 | 500 if complaint.contains("ACL not found") => {
            Error::Denied(format!("{said}; Consul does not know the token: it was revoked, or is of another cluster"))
        }
        403 => Error::Denied(format!("{said}; the token needs {permission}")),
        500 if is_denied => Error::Denied(format!("{said}; the token needs {permission}")),
        500 if complaint.contains("No path to datacenter") => {
            Error::Unreachable(format!("{said}; is `dc` right, and are the datacenters joined?"))
        }
        404 => Error::Gone(said),
        429 => {
            let seconds = headers.get(RETRY_AFTER).and_then(|value| value.to_str().ok()?.trim().parse().ok());
            Error::Throttled { retry_after: seconds.map(Duration::from_secs) }
        }
        500.. => Error::Unreachable(said),
        _ => Error::Malformed(said),
    }
}

/// Returns the beginning of a complaint on one line.
fn shown(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut shown: String = line.chars().filter(|character| !character.is_control()).take(MAX_SHOWN).collect();
    if shown.len() < line.len() {
        shown.push('…');
    }
    if shown.is_empty() { "(no text)".to_owned() } else { shown }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(status: u16, body: &str) -> Error {
        let status = StatusCode::from_u16(status).unwrap();
        of_status("GET /v1/x at a", status, &HeaderMap::new(), body.as_bytes(), "service:read on `web`")
    }

    #[test]
    fn a_403_says_which_permission_is_missing() {
        let error = status(403, "Permission denied");
        assert_eq!(
            error.to_string(),
            "denied: GET /v1/x at a: 403: Permission denied; the token needs service:read on `web`"
        );
        assert!(status(500, "rpc error making call: Permission denied").to_string().contains("service:read on `web`"));
    }

    #[test]
    fn a_token_that_consul_does_not_know_is_not_one_without_permission() {
        for code in [403, 500] {
            let error = status(code, "rpc error making call: ACL not found").to_string();
            assert!(error.starts_with("denied: ") && error.contains("revoked"), "{error}");
        }
    }

    #[test]
    fn an_election_and_a_datacenter_that_does_not_exist_may_pass() {
        for (code, body) in [(500, "No cluster leader"), (500, "No path to datacenter"), (503, ""), (502, "bad")] {
            assert!(matches!(status(code, body), Error::Unreachable(_)), "{code} {body}");
        }
        assert!(status(500, "No path to datacenter").to_string().contains("`dc`"));
    }

    #[test]
    fn what_waiting_does_not_mend_is_told_apart() {
        assert!(matches!(status(404, "Query not found"), Error::Gone(_)));
        assert!(matches!(status(400, "Failed to create boolean expression evaluator"), Error::Malformed(_)));
        assert!(matches!(status(301, ""), Error::Malformed(_)));
        assert!(matches!(status(204, ""), Error::Malformed(_)));
    }

    #[test]
    fn an_agent_that_asks_for_fewer_requests_says_for_how_long() {
        let mut headers = HeaderMap::new();
        let throttled = |headers: &HeaderMap| of_status("x", StatusCode::TOO_MANY_REQUESTS, headers, b"", "y");
        assert_eq!(throttled(&headers), Error::Throttled { retry_after: None });
        headers.insert(RETRY_AFTER, "7".parse().unwrap());
        assert_eq!(throttled(&headers), Error::Throttled { retry_after: Some(Duration::from_secs(7)) });
    }

    #[test]
    fn what_fails_in_tls_is_for_a_person_and_says_where_to_turn() {
        for (cause, advice) in [
            ("invalid peer certificate: UnknownIssuer", "`ca`"),
            ("received fatal alert: CertificateRequired", "`cert`"),
            ("received corrupt message of type InvalidContentType", "`http://`"),
        ] {
            let error = of_cause("x", cause, true);
            assert!(matches!(&error, Error::Denied(text) if text.contains(advice)), "{error}");
        }
        assert!(matches!(of_cause("x", "Connection refused (os error 111)", true), Error::Unreachable(_)));
        assert!(of_cause("x", "connection closed", false).to_string().contains("http_max_conns_per_client"));
    }

    #[test]
    fn a_complaint_is_shown_on_one_line_and_in_bounds() {
        assert_eq!(shown(b" two\n  lines\x07 \n"), "two lines…");
        assert_eq!(shown(b""), "(no text)");
        assert!(shown(&[b'x'; 9999]).chars().count() <= MAX_SHOWN + 1);
    }
}
