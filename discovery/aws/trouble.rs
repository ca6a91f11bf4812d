//! What went wrong with a call, named by what to do about it (pure).

use std::error::Error as StdError;
use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use http::StatusCode;

use crate::Error;

/// Most bytes of a service's own message that are repeated.
const MAX_MESSAGE: usize = 500;

/// What services call an action that IAM does not allow.
const NOT_PERMITTED: [&str; 4] = ["AccessDenied", "AccessDeniedException", "NotAuthorized", "UnauthorizedOperation"];

/// A call that failed.
#[derive(Debug, Clone)]
pub(crate) struct Trouble {
    /// The service's own name for it, such as `AccessDeniedException`, where it answered.
    pub(crate) code: Option<String>,
    /// What the service took the time to be.
    pub(crate) date: Option<SystemTime>,
    pub(crate) error: Error,
}

impl Trouble {
    pub(crate) fn of(error: Error) -> Self {
        Self { code: None, date: None, error }
    }

    /// Tells whether the credentials were taken, and do not allow this action.
    pub(crate) fn is_not_permitted(&self) -> bool {
        self.code.as_deref().is_some_and(|code| NOT_PERMITTED.contains(&code))
    }
}

impl From<Trouble> for Error {
    fn from(trouble: Trouble) -> Self {
        trouble.error
    }
}

/// Names an answer that is no success. `named` is the header that says which error it is; JSON and XML say it too.
pub(super) fn refused(
    action: &str,
    status: StatusCode,
    named: Option<&str>,
    body: &[u8],
    retry_after: Option<Duration>,
) -> Trouble {
    let text = String::from_utf8_lossy(body);
    let (code, message) = json(&text).or_else(|| xml(&text)).unwrap_or_default();
    let code = if code.is_empty() { plain(named.unwrap_or_default()) } else { code };
    let message: String = message.chars().filter(|letter| !letter.is_control()).take(MAX_MESSAGE).collect();
    let error = error(action, status, &code, &message, retry_after);
    Trouble { code: Some(code).filter(|code| !code.is_empty()), date: None, error }
}

fn error(action: &str, status: StatusCode, code: &str, message: &str, retry_after: Option<Duration>) -> Error {
    let mut said = format!("{action}: {}", if code.is_empty() { status.to_string() } else { code.to_owned() });
    if !message.is_empty() {
        let _ = write!(said, ": {message}");
    }
    let is_throttle =
        code.contains("Throttl") || ["RequestLimitExceeded", "TooManyRequestsException", "SlowDown"].contains(&code);
    if is_throttle || status == StatusCode::TOO_MANY_REQUESTS {
        return Error::Throttled { retry_after };
    }
    if code == "RequestTimeTooSkewed" || message.contains("Signature expired") || message.contains("not yet current") {
        return Error::Denied(format!("{said}; the clock of this machine is wrong, let NTP set it"));
    }
    let remedy = match code {
        _ if NOT_PERMITTED.contains(&code) => "give the role of this process that action in IAM",
        "ExpiredToken" | "ExpiredTokenException" | "RequestExpired" => {
            "the credentials have expired and were not renewed; look where they are from"
        }
        "UnrecognizedClientException" | "InvalidClientTokenId" | "InvalidAccessKeyId" | "AuthFailure" => {
            "no such key in that account and region; look where the credentials are from"
        }
        "InvalidSignatureException" | "SignatureDoesNotMatch" | "IncompleteSignature" => "the secret key is not right",
        "OptInRequired" => "the account is not enabled for that region",
        _ if matches!(status.as_u16(), 401 | 403) => "the credentials are not taken; look where they are from",
        "ClusterNotFoundException" => {
            return Error::Gone(format!("{said}; look at the name of the cluster, the region and the account"));
        }
        "NamespaceNotFound" | "ServiceNotFound" => {
            return Error::Gone(format!("{said}; look at the name, the region and the account"));
        }
        _ if status == StatusCode::SERVICE_UNAVAILABLE && retry_after.is_some() => {
            return Error::Throttled { retry_after };
        }
        _ if status.is_server_error() => return Error::Unreachable(said),
        _ => return Error::Malformed(said),
    };
    Error::Denied(format!("{said}; {remedy}"))
}

/// `{"__type": "com.amazonaws.ecs#AccessDeniedException", "message": "…"}`, in one of the spellings.
fn json(text: &str) -> Option<(String, String)> {
    let value: serde_json::Value = serde_json::from_str(text).ok()?;
    let field = |names: [&str; 2]| names.iter().find_map(|name| value.get(*name)?.as_str()).unwrap_or_default();
    Some((plain(field(["__type", "code"])), field(["message", "Message"]).to_owned()))
}

/// `…<Error><Code>AccessDenied</Code><Message>…</Message></Error>…`
fn xml(text: &str) -> Option<(String, String)> {
    let between = |tag: &str| {
        let (_, rest) = text.split_once(&format!("<{tag}>"))?;
        Some(rest.split_once(&format!("</{tag}>"))?.0.trim().to_owned())
    };
    Some((between("Code")?, between("Message").unwrap_or_default()))
}

/// The name alone: what stands before `#` is a namespace, what follows `:` is a URL.
fn plain(name: &str) -> String {
    let name = name.rsplit_once('#').map_or(name, |(_, name)| name);
    name.split_once(':').map_or(name, |(name, _)| name).trim().to_owned()
}

/// An error with all its causes, each said once.
pub(super) fn chain_of(error: &dyn StdError) -> String {
    let mut said = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let text = error.to_string();
        if !said.contains(&text) {
            let _ = write!(said, ": {text}");
        }
        cause = error.source();
    }
    said
}

#[cfg(test)]
mod tests {
    use super::*;

    fn named(status: u16, body: &str) -> Error {
        refused("ListTasks", StatusCode::from_u16(status).unwrap(), None, body.as_bytes(), None).error
    }

    #[test]
    fn each_error_is_named_by_what_to_do_about_it() {
        for (status, body, label, says) in [
            (400, r#"{"__type":"ThrottlingException","message":"Rate exceeded"}"#, "throttled", ""),
            (429, "", "throttled", ""),
            (
                503,
                "<Response><Errors><Error><Code>RequestLimitExceeded</Code></Error></Errors></Response>",
                "throttled",
                "",
            ),
            (400, r#"{"__type":"com.amazon#AccessDeniedException","Message":"no"}"#, "denied", "that action in IAM"),
            (400, r#"{"__type":"UnrecognizedClientException","message":"x"}"#, "denied", "no such key"),
            (400, r#"{"__type":"ExpiredTokenException","message":"x"}"#, "denied", "expired"),
            (
                403,
                r#"{"__type":"InvalidSignatureException","message":"Signature expired: 1 is now earlier than 2"}"#,
                "denied",
                "NTP",
            ),
            (
                403,
                "<ErrorResponse><Error><Code>SignatureDoesNotMatch</Code><Message>m</Message></Error></ErrorResponse>",
                "denied",
                "secret key",
            ),
            (403, "<html>blocked</html>", "denied", "403"),
            (
                400,
                r#"{"__type":"ClusterNotFoundException","message":"Cluster not found."}"#,
                "gone",
                "name of the cluster",
            ),
            (
                400,
                r#"{"__type":"InvalidParameterException","message":"taskIds can have at most 100 items"}"#,
                "malformed",
                "100 items",
            ),
            (500, r#"{"__type":"ServerException"}"#, "unreachable", "ServerException"),
            (502, "bad gateway", "unreachable", "502"),
            (404, "what?", "malformed", "404"),
        ] {
            let error = named(status, body);
            assert_eq!(error.label(), label, "{body}: {error}");
            assert!(error.to_string().contains(says), "{body}: {error}");
        }
    }

    #[test]
    fn the_header_names_an_error_whose_body_does_not() {
        let named = Some("ThrottlingException:http://internal.amazon.com/coral/");
        let trouble = refused("ListTasks", StatusCode::BAD_REQUEST, named, b"", Some(Duration::from_secs(3)));
        assert_eq!(trouble.code.as_deref(), Some("ThrottlingException"));
        assert_eq!(trouble.error, Error::Throttled { retry_after: Some(Duration::from_secs(3)) });
    }
}
