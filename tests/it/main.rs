//! The integration tests, in one binary: every further one would be another link.

mod http1;

#[path = "../support/corpus.rs"]
mod corpus;
#[path = "../support/differential.rs"]
mod differential;
#[path = "../support/invariants.rs"]
mod invariants;
