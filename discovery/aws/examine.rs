//! What `meshless doctor` is told about an account: region, credentials, clock, permissions.

use std::time::{Duration, SystemTime};

use super::endpoint::Service;
use super::{Aws, Trouble};
use crate::{Error, Finding};

/// How far our clock may be from AWS's: signatures are refused from 5 min on, and half of that is worth a word.
const SKEW_WARNS: Duration = Duration::from_secs(150);

/// What one dry call was to show.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Permission {
    /// As IAM writes it.
    pub(crate) action: &'static str,
    /// When it is not needed; `None`: it always is.
    pub(crate) only_for: Option<&'static str>,
}

impl Permission {
    /// Says what a dry call came to; `taken` are errors that only who may call gets.
    pub(crate) fn found(self, result: Result<(), Trouble>, taken: &[&str]) -> Finding {
        let what = self.action;
        let trouble = match result {
            Ok(()) => return Finding::good(what, "permitted"),
            Err(trouble) => trouble,
        };
        if trouble.code.as_deref().is_some_and(|code| taken.contains(&code)) {
            return Finding::good(what, "permitted");
        }
        let seen = trouble.error.to_string();
        match (&trouble.error, self.only_for) {
            (Error::Denied(_), Some(only_for)) if trouble.is_not_permitted() => {
                Finding::warning(what, seen, format!("needed {only_for}: {}", statement(&[what])))
            }
            (Error::Denied(_), _) if trouble.is_not_permitted() => Finding::bad(what, seen, statement(&[what])),
            (Error::Throttled { .. }, _) => Finding::warning(
                what,
                seen,
                "the account's limit is used up; look who else calls, or raise `min_interval`",
            ),
            (Error::Gone(_), _) => Finding::bad(what, seen, "correct the target, `region`, or the account"),
            _ => Finding::bad(what, seen, "look at the endpoint, the network, and the credentials"),
        }
    }
}

/// The statement that an IAM policy lacks.
fn statement(actions: &[&str]) -> String {
    let actions: Vec<String> = actions.iter().map(|action| format!("\"{action}\"")).collect();
    format!("add to the role: {{\"Effect\": \"Allow\", \"Action\": [{}], \"Resource\": \"*\"}}", actions.join(", "))
}

impl Aws {
    /// Looks at region, credentials and clock. Where the last finding is bad, there is nothing else to look at.
    pub(crate) async fn examine(&self) -> Vec<Finding> {
        let session = match self.session().await {
            Ok(session) => session,
            Err(trouble) => {
                return vec![Finding::bad("region", trouble.error.to_string(), "set `region`, or AWS_REGION")];
            }
        };
        let mut findings = vec![Finding::good("region", session.region.clone())];
        match session.credentials().await {
            Ok(credentials) => {
                let link = session.link().unwrap_or("unknown");
                findings.push(Finding::good("credentials", format!("key {} of {link}", credentials.access_key_id())));
            }
            Err(error) => {
                let remedy = "give the task or the instance a role, or set `profile`";
                findings.push(Finding::bad("credentials", error.to_string(), remedy));
                return findings;
            }
        }
        let asked = SystemTime::now();
        let identity = session.form(&self.calls, self.timeout, Service::Sts, "GetCallerIdentity", &[]).await;
        let date = match &identity {
            Ok(answered) => answered.date,
            Err(trouble) => trouble.date,
        };
        findings.extend(date.map(|date| clock(asked, date)));
        findings.push(match identity {
            Ok(answered) => Finding::good("identity", arn(&answered.body)),
            Err(trouble) if matches!(trouble.error, Error::Denied(_)) => Finding::bad(
                "identity",
                trouble.error.to_string(),
                "look where the credentials are from, and whether they are still valid",
            ),
            // A private network may have no way to STS and one to all that is needed.
            Err(trouble) => Finding::warning(
                "identity",
                trouble.error.to_string(),
                "without a way to STS only keys that need no role can be used; the calls below tell more",
            ),
        });
        findings
    }
}

/// The service's time is of when it answered, to the second.
fn clock(ours: SystemTime, theirs: SystemTime) -> Finding {
    let apart = ours.duration_since(theirs).unwrap_or_else(|error| error.duration());
    let seen = format!("{} s from AWS's", apart.as_secs());
    if apart < SKEW_WARNS {
        Finding::good("clock", seen)
    } else {
        Finding::warning("clock", seen, "let NTP set the clock; signatures are refused from 5 min on")
    }
}

fn arn(body: &[u8]) -> String {
    let text = String::from_utf8_lossy(body);
    let arn = text.split_once("<Arn>").and_then(|(_, rest)| rest.split_once("</Arn>"));
    arn.map_or_else(|| "answered without a name".to_owned(), |(arn, _)| arn.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn a_clock_that_is_off_is_told_before_signatures_are_refused() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_hours(1);
        assert_eq!(clock(now, now - Duration::from_secs(100)).verdict, Verdict::Good);
        assert_eq!(clock(now, now + Duration::from_secs(200)).verdict, Verdict::Warning);
    }
}
