//! Bodies: taken off the wire and put onto it, with every announced length held to.
//!
//! [`Decoder`] is a state machine over a buffer. It gives out what is there and never waits for more than it needs, so
//! a body streams through with the back-pressure of whoever reads it. [`Encoder`] counts, so that a body that is longer
//! or shorter than its head said is an error of this side and never a desynchronised connection.
//!
//! Chunk extensions are checked, bounded and dropped; trailers are bounded and may not carry what a receiver could take
//! for framing, routing or credentials.

mod decoder;
mod encoder;

pub use self::decoder::{Decoded, Decoder};
pub use self::encoder::{BodyLength, Encoder, Prefix};

#[cfg(test)]
mod tests;
