//! See `invariants::response_head`.
#![no_main]
#![allow(dead_code, reason = "each target calls one of the shared invariants")]

#[path = "../../support/differential.rs"]
mod differential;
#[path = "../../support/invariants.rs"]
mod invariants;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| invariants::response_head(bytes));
