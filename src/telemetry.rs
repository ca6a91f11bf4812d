//! What the gateway says about itself: metrics, the access log and its own log.
//!
//! All of it follows one rule: a request pays a few plain stores and one formatted line, and nothing here can make it
//! wait. A slow scrape, a full disk or a reader that went away costs a counter, never a request.

pub mod access_log;
pub mod exposition;
pub mod log;
pub mod metrics;
pub mod timestamp;
