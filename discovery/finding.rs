//! What a look at a backend's place found: reachable, authenticated, permitted.

/// One thing that was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a few words: `reachable`, `ecs:ListTasks`, `clock`.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen: a version, a number, the error as it came. One of [`crate::Error`] begins with its label, by which
    /// `meshless doctor` tells a refusal from an outage.
    pub seen: String,
    /// What to do about it; there for all but what is good.
    pub remedy: Option<String>,
}

/// What came of a look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Verdict {
    /// As it should be.
    Good,
    /// Works, but not as it should, or could not be looked at.
    Warning,
    /// Does not work.
    Bad,
}

impl Finding {
    /// Something is as it should be.
    pub fn good(what: impl Into<String>, seen: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Good, seen: seen.into(), remedy: None }
    }

    /// Something works, but not as it should.
    pub fn warning(what: impl Into<String>, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Warning, seen: seen.into(), remedy: Some(remedy.into()) }
    }

    /// Returns the label of the error that `seen` is: `denied`, `unreachable`, …; `None` where it is none.
    pub fn kind(&self) -> Option<&'static str> {
        const LABELS: [&str; 5] = ["denied", "gone", "malformed", "throttled", "unreachable"];
        let ends = |rest: &str| rest.is_empty() || rest.starts_with([':', ',']);
        LABELS.into_iter().find(|label| self.seen.strip_prefix(label).is_some_and(ends))
    }

    /// Something does not work.
    pub fn bad(what: impl Into<String>, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Bad, seen: seen.into(), remedy: Some(remedy.into()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Error;

    #[test]
    fn an_error_is_told_by_its_label() {
        let kind = |seen: &str| Finding::bad("x", seen, "y").kind();
        let throttled = Error::Throttled { retry_after: Some(std::time::Duration::from_secs(3)) };
        assert_eq!(kind(&throttled.to_string()), Some("throttled"));
        assert_eq!(kind(&Error::Throttled { retry_after: None }.to_string()), Some("throttled"));
        assert_eq!(kind(&Error::Denied("403".to_owned()).to_string()), Some("denied"));
        assert_eq!(kind("deniedly odd"), None);
        assert_eq!(kind("1.20.1"), None);
    }
}
