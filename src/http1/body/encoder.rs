//! Puts a body onto the wire.

use bytes::{BufMut, BytesMut};
use http::HeaderMap;

use super::super::digits;
use super::super::head::Framing;
use super::super::names::is_forbidden_in_trailers;

/// A body does not have the length that its head announced. The connection is of no more use.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum BodyLength {
    /// There is more data than announced, or data after the end.
    #[error("the body is longer than its head announced")]
    Long,
    /// The body ended early.
    #[error("the body is {missing} bytes shorter than its head announced")]
    Short {
        /// Bytes that did not come.
        missing: u64,
    },
}

/// Frames one body.
#[derive(Debug)]
pub struct Encoder {
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Chunked,
    Length(u64),
    UntilClose,
}

impl Encoder {
    /// Starts on a body with the framing that its head was written with; for a response that is what
    /// `write_response` returned, and `None` for one whose body is not sent (HEAD, 304).
    pub fn new(framing: &Framing) -> Self {
        let state = match *framing {
            Framing::Chunked => State::Chunked,
            Framing::Length(length) => State::Length(length),
            Framing::None => State::Length(0),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state }
    }

    /// Appends `data`, framed. No data writes nothing: an empty chunk would end the body.
    pub fn data(&mut self, out: &mut BytesMut, data: &[u8]) -> Result<(), BodyLength> {
        let prefix = self.prefix(data.len())?;
        out.reserve(data.len() + 20);
        out.put_slice(prefix.as_ref());
        out.put_slice(data);
        if !data.is_empty() {
            out.put_slice(self.suffix());
        }
        Ok(())
    }

    /// Counts `length` bytes of data and returns what must be written before them; for data that is not copied. Write
    /// [`Encoder::suffix`] after them. Do not call it for no data at all.
    pub fn prefix(&mut self, length: usize) -> Result<Prefix, BodyLength> {
        match &mut self.state {
            State::Chunked if length > 0 => Ok(Prefix::chunk(length as u64)),
            State::Chunked | State::UntilClose => Ok(Prefix::EMPTY),
            State::Length(left) => {
                *left = left.checked_sub(length as u64).ok_or(BodyLength::Long)?;
                Ok(Prefix::EMPTY)
            }
        }
    }

    /// Returns what must be written after data that [`Encoder::prefix`] was written for.
    pub fn suffix(&self) -> &'static [u8] {
        if self.state == State::Chunked { b"\r\n" } else { b"" }
    }

    /// Returns whether a body of announced length is complete, so that no call of `end` is needed to know it.
    pub fn is_complete(&self) -> bool {
        self.state == State::Length(0)
    }

    /// Ends the body. Only chunks can carry trailers, and only trailers that may be trailers: others are dropped, as
    /// RFC 9110 §6.5 allows any hop to.
    pub fn end(&mut self, out: &mut BytesMut, trailers: Option<&HeaderMap>) -> Result<(), BodyLength> {
        let ended = std::mem::replace(&mut self.state, State::Length(0));
        match ended {
            State::Length(0) | State::UntilClose => Ok(()),
            State::Length(missing) => Err(BodyLength::Short { missing }),
            State::Chunked => {
                out.put_slice(b"0\r\n");
                for (name, value) in trailers.into_iter().flatten() {
                    if !is_forbidden_in_trailers(name.as_str().as_bytes()) {
                        super::super::head::put_field(out, name, value);
                    }
                }
                out.put_slice(b"\r\n");
                Ok(())
            }
        }
    }
}

/// The few bytes before a piece of data; empty unless the body is chunked.
#[derive(Debug, Clone, Copy)]
pub struct Prefix {
    /// Up to sixteen digits, at the end, then CRLF.
    bytes: [u8; 18],
    start: usize,
}

impl Prefix {
    const EMPTY: Self = Self { bytes: [0; 18], start: 18 };

    fn chunk(length: u64) -> Self {
        let mut bytes = *b"0000000000000000\r\n";
        let start = bytes.first_chunk_mut::<16>().map_or(0, |digits| digits::fill(digits, length, 16));
        Self { bytes, start }
    }
}

impl AsRef<[u8]> for Prefix {
    fn as_ref(&self) -> &[u8] {
        self.bytes.get(self.start..).unwrap_or_default()
    }
}
