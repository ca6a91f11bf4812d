//! Fake registries: enough of each protocol for a client to believe it, and every way to break it.
//!
//! Tests of `discovery`, the integration tests and `cargo xtask` use the same ones. Tests against real servers prove that
//! they tell the truth.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::unwrap_used,
    reason = "all of this is test code; clippy excuses only functions that are tests themselves"
)]

pub mod aws;
pub mod consul;
pub mod dns;
pub mod ec2;
pub mod http;
pub mod kubernetes;
pub mod metadata;
pub mod sts;
pub mod tokens;
