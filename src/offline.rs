//! The gateway without wires: the decision core with endpoints that are written down, on virtual time.
//!
//! ```text
//! simulate ─► Engine ─► events in order of time ─► pick, try, verdict, course (the decision core)
//! test ─────►    └────► World: what an endpoint does with a request at that time
//! ```
//!
//! What a request meets is decided by the code that serves: here are only the things around it, which are clocks, wires
//! and endpoints in the proxy. Nothing reads a clock or draws luck that was not seeded.

pub(crate) mod catalog;
pub(crate) mod engine;
mod flight;
pub(crate) mod gateway;
pub(crate) mod latency;
pub(crate) mod log;
mod queue;
pub(crate) mod request;
pub(crate) mod world;

/// Microseconds of virtual time, from the start.
pub(crate) type Micros = u64;

/// Returns a time span in microseconds.
pub(crate) fn micros(span: std::time::Duration) -> Micros {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
