//! What can go wrong, named by what the caller can do about it.

use std::time::Duration;

/// Why a source could not answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Credentials or permissions are missing; a person must act.
    #[error("denied: {0}")]
    Denied(String),
    /// The target does not exist there any more and will not come back by waiting.
    #[error("gone: {0}")]
    Gone(String),
    /// An answer came that cannot be understood or breaks a bound.
    #[error("malformed: {0}")]
    Malformed(String),
    /// The backend asks for fewer requests.
    #[error("throttled{}", retry_after.map_or_else(String::new, |wait| format!(", retry after {} s", wait.as_secs())))]
    Throttled {
        /// How long the backend asked to wait, where it said so.
        retry_after: Option<Duration>,
    },
    /// No answer; trying again may help.
    #[error("unreachable: {0}")]
    Unreachable(String),
}

impl Error {
    /// Returns the kind as one word, for a metric's label or a log's field.
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Gone(_) => "gone",
            Self::Malformed(_) => "malformed",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

/// Why a target cannot be opened: what was written is wrong for this backend.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TargetError(pub String);
