//! The one integration binary: every file here is a `mod` line, or it would be forgotten (architecture.rs checks it).

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "a test that fails may panic; clippy.toml allows it in test functions alone, not in what they share"
)]

mod architecture;
mod real_programs;
