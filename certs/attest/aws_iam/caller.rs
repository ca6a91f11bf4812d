//! Who STS says that somebody is (pure).

use serde::Deserialize;

use crate::attest::Rejected;
use crate::attest::evidence::{is_account, refused, shown};
use crate::attest::http::Answer;

/// A session of a role.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Caller {
    /// `aws`, `aws-cn`, `aws-us-gov`, …
    pub(super) partition: String,
    pub(super) account: String,
    /// Name of the role, without its path, which STS does not say.
    pub(super) role: String,
    /// Whoever assumes a role chooses the name of the session.
    pub(super) session: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Document {
    #[serde(rename = "GetCallerIdentityResponse")]
    response: Response,
}

#[derive(Deserialize)]
struct Response {
    #[serde(rename = "GetCallerIdentityResult")]
    result: Found,
}

#[derive(Deserialize)]
struct Found {
    #[serde(rename = "Account")]
    account: String,
    #[serde(rename = "Arn")]
    arn: String,
}

#[derive(Deserialize)]
struct Complaint {
    #[serde(rename = "Error")]
    error: Cause,
}

#[derive(Deserialize)]
struct Cause {
    #[serde(rename = "Code")]
    code: String,
    #[serde(rename = "Message", default)]
    message: String,
}

impl Caller {
    /// Reads what STS answered: JSON of one shape, or nothing.
    pub(super) fn read(answer: &Answer) -> Result<Self, Rejected> {
        match answer.status {
            200 => {}
            400 | 401 | 403 => return Err(complaint(answer)),
            status => return Err(Rejected::Unavailable(format!("it answered {status}"))),
        }
        if answer.content_type != "application/json" {
            let why = format!("STS answered in `{}`, not in JSON", shown(&answer.content_type));
            return Err(refused("answer", why));
        }
        let Document { response: Response { result } } = serde_json::from_slice(&answer.body)
            .map_err(|error| refused("answer", format!("STS's answer is not that of GetCallerIdentity: {error}")))?;
        let Some(caller) = Self::parse(&result.arn) else {
            return Err(refused("not_a_role", format!("`{}` is no session of a role", shown(&result.arn))));
        };
        if caller.account != result.account {
            return Err(refused("answer", "STS names two accounts"));
        }
        Ok(caller)
    }

    /// Reads `arn:PARTITION:sts::ACCOUNT:assumed-role/ROLE/SESSION`.
    fn parse(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", partition, "sts", "", account, resource] = parts.as_slice() else { return None };
        let resource: Vec<&str> = resource.split('/').collect();
        let ["assumed-role", role, session] = resource.as_slice() else { return None };
        let is_sound = is_partition(partition) && is_account(account) && is_name(role) && is_name(session);
        is_sound.then(|| Self {
            partition: (*partition).to_owned(),
            account: (*account).to_owned(),
            role: (*role).to_owned(),
            session: (*session).to_owned(),
        })
    }

    /// Returns the ARN of the role, without a path.
    pub(super) fn role_arn(&self) -> String {
        format!("arn:{}:iam::{}:role/{}", self.partition, self.account, self.role)
    }
}

/// Why STS does not answer who it is.
fn complaint(answer: &Answer) -> Rejected {
    let cause = serde_json::from_slice::<Complaint>(&answer.body).map(|complaint| complaint.error);
    match cause {
        Ok(Cause { code, .. }) if code.contains("Throttl") => Rejected::Unavailable("it is asked too often".to_owned()),
        Ok(Cause { code, message }) => {
            refused("not_authenticated", format!("STS: {}: {}", shown(&code), shown(&message)))
        }
        Err(_) => refused("not_authenticated", format!("STS answered {}", answer.status)),
    }
}

/// Returns the ARN of a role without its path: names of roles are unique in an account, and STS does not say the path. What is no
/// ARN of a role is `None`.
#[must_use]
pub fn plain_role(arn: &str) -> Option<String> {
    let parts: Vec<&str> = arn.split(':').collect();
    let ["arn", partition, "iam", "", account, resource] = parts.as_slice() else { return None };
    let (kind, rest) = resource.split_once('/')?;
    let name = rest.rsplit('/').next()?;
    let is_sound = kind == "role" && is_partition(partition) && is_account(account) && is_name(name);
    is_sound.then(|| format!("arn:{partition}:iam::{account}:role/{name}"))
}

fn is_partition(text: &str) -> bool {
    text.starts_with("aws") && text.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-')
}

/// What names of roles and sessions may have in them (IAM, limits for names); `*` is not among it.
fn is_name(text: &str) -> bool {
    (1..=64).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_+=,.@-".contains(&byte))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn answer(status: u16, content_type: &str, body: impl ToString) -> Answer {
        Answer { status, content_type: content_type.to_owned(), body: body.to_string().into_bytes() }
    }

    fn read(account: &str, arn: &str) -> Result<Caller, Rejected> {
        let result = json!({ "Account": account, "Arn": arn, "UserId": "AROA:x" });
        let body = json!({ "GetCallerIdentityResponse": {
            "GetCallerIdentityResult": result, "ResponseMetadata": { "RequestId": "r" } } });
        Caller::read(&answer(200, "application/json", body))
    }

    fn reason(result: Result<Caller, Rejected>) -> &'static str {
        match result.unwrap_err() {
            Rejected::Refused { reason, .. } => reason,
            Rejected::Unavailable(_) => "unavailable",
        }
    }

    #[test]
    fn a_session_of_a_role_is_a_role_and_a_session() {
        let caller = read("123456789012", "arn:aws:sts::123456789012:assumed-role/web/0af1").unwrap();
        assert_eq!(caller.role_arn(), "arn:aws:iam::123456789012:role/web");
        assert_eq!(caller.session, "0af1");
    }

    #[test]
    fn what_is_no_session_of_a_role_is_refused() {
        for arn in [
            "arn:aws:iam::123456789012:user/web",
            "arn:aws:iam::123456789012:root",
            "arn:aws:sts::123456789012:federated-user/web",
            "arn:aws:iam::123456789012:role/web",
            "arn:aws:sts::123456789012:assumed-role/team/web/session",
            "arn:aws:sts::123456789012:assumed-role/web",
            "arn:aws:sts::123456789012:assumed-role//session",
            "arn:aws:sts::123456789012:assumed-role/*/session",
            "arn:aws:sts::123456789012:assumed-role/web/a:b",
            "arn:aws:sts:eu-west-1:123456789012:assumed-role/web/a",
            "arn:evil:sts::123456789012:assumed-role/web/a",
            "x arn:aws:sts::123456789012:assumed-role/web/a",
            "",
        ] {
            assert_eq!(reason(read("123456789012", arn)), "not_a_role", "{arn}");
        }
        assert_eq!(reason(read("210987654321", "arn:aws:sts::123456789012:assumed-role/web/a")), "answer");
    }

    #[test]
    fn only_json_of_one_shape_is_an_answer() {
        let inner = json!({ "Account": "123456789012", "Arn": "arn:aws:sts::123456789012:assumed-role/web/a" });
        let good = json!({ "GetCallerIdentityResponse": { "GetCallerIdentityResult": inner } });
        assert!(Caller::read(&answer(200, "application/json", &good)).is_ok());
        for (status, content_type, body, expected) in [
            (200, "text/xml", good.to_string(), "answer"),
            (200, "", good.to_string(), "answer"),
            (200, "application/json", "<GetCallerIdentityResponse/>".to_owned(), "answer"),
            (200, "application/json", json!({ "GetSessionTokenResponse": {} }).to_string(), "answer"),
            (200, "application/json", json!({ "GetCallerIdentityResponse": {} }).to_string(), "answer"),
            (200, "application/json", inner.to_string(), "answer"),
            (200, "application/json", format!("{good}{good}"), "answer"),
            (302, "application/json", good.to_string(), "unavailable"),
            (201, "application/json", good.to_string(), "unavailable"),
            (503, "application/json", good.to_string(), "unavailable"),
            (403, "application/json", good.to_string(), "not_authenticated"),
            (403, "text/html", "<html>".to_owned(), "not_authenticated"),
            (400, "application/json", json!({ "Error": { "Code": "Throttling" } }).to_string(), "unavailable"),
            (
                403,
                "application/json",
                json!({ "Error": { "Code": "ExpiredToken", "Message": "m" } }).to_string(),
                "not_authenticated",
            ),
        ] {
            assert_eq!(reason(Caller::read(&answer(status, content_type, &body))), expected, "{status} {body}");
        }
        let twice = r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012","Arn":"a","Arn":"b"}}}"#;
        assert_eq!(reason(Caller::read(&answer(200, "application/json", twice))), "answer");
    }

    #[test]
    fn a_role_is_the_same_with_and_without_its_path() {
        for arn in ["arn:aws:iam::123456789012:role/team/a/web", "arn:aws:iam::123456789012:role/web"] {
            assert_eq!(plain_role(arn).as_deref(), Some("arn:aws:iam::123456789012:role/web"));
        }
        for other in
            ["web", "arn:aws:iam::123456789012:role/*", "arn:aws:iam::123456789012:user/web", "arn:aws:iam::1:role/a/"]
        {
            assert_eq!(plain_role(other), None, "{other}");
        }
    }
}
