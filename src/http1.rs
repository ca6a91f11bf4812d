//! HTTP/1.1, both sides: a strict codec of our own.
//!
//! Why our own: what must be refused (security paper §1 and §3) is only visible to whoever parses the bytes, and one
//! task that owns both sockets with one flat write a message is the only way found to a clear lead in CPU per request
//! (performance paper, point 5). `httparse` tokenises heads; everything that gives them meaning is here.
//!
//! `head`, `body` and `hop` are pure: bytes in, meaning or [`Reject`] out. They do no IO and read no clock.
//! `connection` is the server's side of a connection, `client` the client's, `wire` the bytes under both.

pub mod body;
pub(crate) mod client;
pub(crate) mod connection;
mod digits;
pub mod head;
pub mod hop;
mod names;
pub mod reject;
pub(crate) mod wire;

pub use reject::Reject;
