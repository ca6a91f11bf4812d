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
//! The decision core (`target`, `route`, `authorize`, `balance`, `resilience`) is pure: `now` and randomness are handed in.

pub mod admin;
mod authorize;
mod balance;
pub mod cases;
pub mod compose;
pub mod config;
pub mod doctor;
pub mod explain;
pub mod follow;
mod gateway_api;
mod handshake;
pub mod http1;
mod http2;
mod listener;
pub mod names;
mod offline;
pub mod overrides;
mod protobuf;
mod proxy;
mod register;
mod resilience;
mod route;
mod shutdown;
pub mod simulate;
mod sockets;
mod stream;
pub mod target;
pub mod targets;
pub mod telemetry;
mod timer;
mod trust;
mod upstream;
mod word;
mod worker;
