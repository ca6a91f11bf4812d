//! See `invariants::differential`.
#![no_main]
#![allow(dead_code, reason = "each target calls one of the shared invariants")]

#[path = "../../support/differential.rs"]
mod differential;
#[path = "../../support/invariants.rs"]
mod invariants;

thread_local! {
    static ORACLE: differential::Oracle = differential::Oracle::new();
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| ORACLE.with(|oracle| invariants::differential(oracle, bytes)));
