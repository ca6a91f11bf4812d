//! What happened, for figures to be made of.

use meshless_discovery::Address;

use super::Micros;
use crate::resilience::breaker::Change;

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// When it was due.
    pub(crate) due: Micros,
    /// Until the head of its reply, or of ours.
    pub(crate) took: Micros,
    pub(crate) status: u16,
    /// The label of `meshless-error` where the answer was ours.
    pub(crate) error: &'static str,
    /// Tries, the first one included.
    pub(crate) tries: u32,
    /// Retries that the budget paid for.
    pub(crate) retries: u32,
}

impl Outcome {
    /// Tells whether its client got an error.
    pub(crate) fn is_error(&self) -> bool {
        self.status >= 400
    }
}

/// One try at an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tried {
    pub(crate) at: Micros,
    /// Position of the endpoint in the scenario.
    pub(crate) endpoint: usize,
    /// Until the head of its reply; `None`: there was none.
    pub(crate) took: Option<Micros>,
}

/// The breaker of an endpoint decided something.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Changed {
    pub(crate) at: Micros,
    pub(crate) endpoint: usize,
    pub(crate) change: Change,
}

/// All of it, in the order of time; outcomes in the order in which requests were due.
#[derive(Debug, Default)]
pub(crate) struct Log {
    /// Of the endpoints by their positions.
    pub(crate) addresses: Vec<Address>,
    pub(crate) outcomes: Vec<Outcome>,
    pub(crate) tries: Vec<Tried>,
    pub(crate) changes: Vec<Changed>,
}
