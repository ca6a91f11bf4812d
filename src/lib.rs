//! The Meshless engine.
//!
//! ```text
//!  platforms/ ◄── discovery/            certs/          know the place, who exists, who we are
//!                     │ Snapshot          │ TLS material
//!                     ▼                   ▼
//!  compose: follow(source) → last known good → reconcile (pure) → ArcSwap<Table>      control thread
//!                                                    │
//!                                                    ▼ load (no lock)
//!  client → listener → proxy (route, pick, send, retry) → this worker's pool → endpoint    N workers
//! ```
//!
//! The decision core (`target`, `route`, `balance`, `resilience`) is pure: `now` and randomness are handed in.

pub mod admin;
mod balance;
pub mod compose;
pub mod config;
pub mod follow;
pub mod http1;
mod http2;
mod listener;
mod proxy;
mod resilience;
mod route;
mod shutdown;
mod sockets;
mod stream;
pub mod target;
pub mod telemetry;
mod timer;
mod upstream;
mod worker;
