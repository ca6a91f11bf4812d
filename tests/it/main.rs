//! The integration tests, in one binary: every further one would be another link.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "all of this is test code; clippy excuses only functions that are tests themselves"
)]

mod architecture;
mod check;
mod discovery_file;
mod http1;
mod lifecycle;
mod limits;
mod real_programs;
mod reload;
mod tcp;
mod tls;
mod wire_http1;

#[path = "../support/tls.rs"]
mod authority;
#[path = "../support/corpus.rs"]
mod corpus;
#[path = "../support/differential.rs"]
mod differential;
#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/invariants.rs"]
mod invariants;
#[path = "../support/plain.rs"]
mod plain;
#[path = "../support/process.rs"]
mod process;
