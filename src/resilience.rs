//! Retries, budgets, deadlines, breakers and rate limits: pure, `now` is handed in.

pub(crate) mod breaker;
pub(crate) mod budget;
pub(crate) mod course;
pub(crate) mod deadline;
pub(crate) mod memory;
pub(crate) mod percentile;
pub(crate) mod rate_limit;
pub(crate) mod retry;
pub(crate) mod verdict;
