//! The integration tests: one binary.

#![allow(clippy::unwrap_used, clippy::expect_used, reason = "the helpers of tests fail by panicking, like the tests")]

mod check;
