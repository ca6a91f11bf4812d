//! What a look at a backend's place found: reachable, authenticated, permitted.

/// One thing that was looked at, and what came of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Finding {
    /// What was looked at, in a few words: `reachable`, `ecs:ListTasks`, `clock`.
    pub what: String,
    /// What came of it.
    pub verdict: Verdict,
    /// What was seen: a version, a number, the error as it came.
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

    /// Something does not work.
    pub fn bad(what: impl Into<String>, seen: impl Into<String>, remedy: impl Into<String>) -> Self {
        Self { what: what.into(), verdict: Verdict::Bad, seen: seen.into(), remedy: Some(remedy.into()) }
    }
}
