//! See `texts::dtab`.
#![no_main]
#![allow(dead_code, reason = "each target calls one of the shared invariants")]

#[path = "../../support/texts.rs"]
mod texts;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| texts::dtab(bytes));
