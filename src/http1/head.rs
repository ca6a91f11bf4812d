//! Heads of requests and responses: parsed strictly, written plainly.
//!
//! A head is taken in three steps. The end is looked for line by line, and each LF must have its CR; so `httparse`,
//! which would take a bare LF, never sees one. `httparse` then cuts the head into start line and fields, and one pass
//! over the fields gives them meaning or a [`Reject`]. The values are slices of the read buffer, not copies.
//!
//! What a caller must know:
//! - [`parse_request`] and [`parse_response`] take what they parsed off the buffer; what follows is the body's.
//! - [`Framing`] says what follows on the wire. [`ResponseHead::announced`] says what the fields announce; the two
//!   differ for HEAD and 304, where the length of a body that is not sent may be relayed.
//! - `scanned` belongs to the buffer: 0 for a new message, and otherwise untouched by the caller.
//! - The writers own Content-Length, Transfer-Encoding, Connection and Host: what the map holds of the first three is
//!   never relayed. An `upgrade` or `te` field left in the map puts that option into Connection.
//! - [`write_response`] returns the framing that it wrote: the one to make the `Encoder` from.

mod diagnose;
mod fields;
mod request;
mod response;
mod section;
mod target;
mod write;

#[cfg(test)]
mod tests;

pub use self::request::{RequestHead, parse_request};
pub use self::response::{ResponseHead, parse_response};
pub use self::target::Target;
pub use self::write::{write_request, write_response};
pub use super::reject::Reject;

pub(super) use self::fields::parse_trailers;
pub(crate) use self::fields::{check_name, check_trailer_name, is_host};
pub(super) use self::section::end_of_section;
pub(super) use self::write::put_field;

/// Limits of one head.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HeadLimits {
    /// Start line and fields together, in bytes.
    pub bytes: usize,
    /// Field lines.
    pub headers: usize,
    /// What happens to field names with an underscore.
    pub underscores: Underscores,
}

impl HeadLimits {
    /// The defaults for requests: 16 KiB, 100 fields, no underscores.
    pub const REQUEST: Self = Self { bytes: 16 * 1024, headers: 100, underscores: Underscores::Refuse };
    /// The defaults for responses: 64 KiB, 100 fields, underscores pass.
    pub const RESPONSE: Self = Self { bytes: 64 * 1024, headers: 100, underscores: Underscores::Pass };
}

/// What happens to field names with an underscore.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Underscores {
    /// They pass, save the twins of fields that carry framing, routing, credentials or identity.
    Pass,
    /// All are refused.
    Refuse,
}

/// The versions that are spoken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// HTTP/1.0.
    Http10,
    /// HTTP/1.1.
    Http11,
}

/// How the end of a body is known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Framing {
    /// By a chunk of size zero.
    Chunked,
    /// By its length in bytes.
    Length(u64),
    /// There is no body and no field that announces one.
    None,
    /// By the end of the connection; only responses have it.
    UntilClose,
}
