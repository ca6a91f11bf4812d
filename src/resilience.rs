//! Retries, budgets and deadlines: pure, `now` is handed in.

pub(crate) mod budget;
pub(crate) mod deadline;
pub(crate) mod retry;
