//! See `certificates::spiffe_id`.
#![no_main]
#![allow(dead_code, reason = "each target calls one of the shared invariants")]

#[path = "../../support/certificates.rs"]
mod certificates;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| certificates::spiffe_id(bytes));
