//! Takes a body off the wire.

use bytes::{Buf, Bytes, BytesMut};
use http::HeaderMap;

use super::super::head::{Framing, Reject, end_of_section, parse_trailers};
use super::super::names::is_token;

/// Hexadecimal digits of a chunk size: a `u64` in full.
const SIZE_DIGITS: usize = 16;
/// Chunk extensions of one message, in bytes. Nobody uses them, and each is a way to spend our time.
const EXTENSION_BYTES: usize = 1024;

/// What a [`Decoder`] found.
#[derive(Debug, PartialEq, Eq)]
pub enum Decoded {
    /// Bytes of the body; never empty.
    Data(Bytes),
    /// The trailers; never empty, and `End` follows.
    Trailers(HeaderMap),
    /// The body is complete. It stays so.
    End,
    /// The buffer must hold more first.
    NeedMore,
}

/// Takes one body off a buffer that is filled from the wire.
#[derive(Debug)]
pub struct Decoder {
    state: State,
    /// Bytes left for chunk extensions.
    extensions: usize,
    trailer_bytes: usize,
    /// How far the buffer was looked at for the end of a line or section.
    scanned: usize,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    ChunkData(u64),
    ChunkEnd,
    ChunkSize,
    Done,
    Length(u64),
    Trailers,
    UntilClose,
}

impl Decoder {
    /// Starts on a body; its trailer section may have `trailer_bytes`, the closing empty line included.
    pub fn new(framing: &Framing, trailer_bytes: usize) -> Self {
        let state = match *framing {
            Framing::Chunked => State::ChunkSize,
            Framing::None | Framing::Length(0) => State::Done,
            Framing::Length(length) => State::Length(length),
            Framing::UntilClose => State::UntilClose,
        };
        Self { state, extensions: EXTENSION_BYTES, trailer_bytes, scanned: 0 }
    }

    /// Takes the next piece off `buffer`. After an error the connection is of no more use.
    pub fn decode(&mut self, buffer: &mut BytesMut) -> Result<Decoded, Reject> {
        loop {
            match self.state {
                State::ChunkData(left) => {
                    let Some((data, left)) = take(buffer, left) else { return Ok(Decoded::NeedMore) };
                    self.state = if left == 0 { State::ChunkEnd } else { State::ChunkData(left) };
                    return Ok(Decoded::Data(data));
                }
                State::ChunkEnd => match buffer.get(..2).unwrap_or(buffer) {
                    b"\r\n" => {
                        buffer.advance(2);
                        self.state = State::ChunkSize;
                    }
                    b"" | b"\r" => return Ok(Decoded::NeedMore),
                    _ => return Err(Reject::ChunkEnd),
                },
                State::ChunkSize => match self.chunk_size(buffer)? {
                    None => return Ok(Decoded::NeedMore),
                    Some(0) => self.state = State::Trailers,
                    Some(size) => self.state = State::ChunkData(size),
                },
                State::Done => return Ok(Decoded::End),
                State::Length(left) => {
                    let Some((data, left)) = take(buffer, left) else { return Ok(Decoded::NeedMore) };
                    self.state = if left == 0 { State::Done } else { State::Length(left) };
                    return Ok(Decoded::Data(data));
                }
                State::Trailers => {
                    return Ok(match self.trailers(buffer)? {
                        None => Decoded::NeedMore,
                        Some(trailers) if trailers.is_empty() => Decoded::End,
                        Some(trailers) => Decoded::Trailers(trailers),
                    });
                }
                State::UntilClose if buffer.is_empty() => return Ok(Decoded::NeedMore),
                State::UntilClose => return Ok(Decoded::Data(buffer.split().freeze())),
            }
        }
    }

    /// Returns whether the body is complete; true with its last byte, before `End` was asked for.
    pub fn is_end(&self) -> bool {
        self.state == State::Done
    }

    /// Judges the end of the connection: it ends a body without framing of its own, and truncates any other.
    pub fn end_of_input(&self) -> Result<(), Reject> {
        match self.state {
            State::Done | State::UntilClose => Ok(()),
            _ => Err(Reject::Truncated),
        }
    }

    /// Returns how much of the body is left, where that is known.
    pub fn remaining(&self) -> Option<u64> {
        match self.state {
            State::Length(left) => Some(left),
            State::Done => Some(0),
            State::ChunkData(_) | State::ChunkEnd | State::ChunkSize | State::Trailers | State::UntilClose => None,
        }
    }

    /// Takes a chunk-size line.
    fn chunk_size(&mut self, buffer: &mut BytesMut) -> Result<Option<u64>, Reject> {
        let unseen = buffer.get(self.scanned..).unwrap_or_default();
        let Some(offset) = memchr::memchr(b'\n', unseen) else {
            self.scanned = buffer.len();
            return self.incomplete_chunk_size(buffer).map(|()| None);
        };
        let end = self.scanned + offset;
        let line = buffer.get(..end).unwrap_or_default().strip_suffix(b"\r").ok_or(Reject::ChunkSize)?;
        let (size, extensions) = chunk_size(line)?;
        if extensions.len() > self.extensions {
            return Err(Reject::ChunkExtensionsTooLong);
        }
        if !are_extensions(extensions) {
            return Err(Reject::ChunkExtension);
        }
        self.extensions -= extensions.len();
        self.scanned = 0;
        buffer.advance(end + 1);
        Ok(Some(size))
    }

    /// Refuses what no continuation can make a chunk-size line, so that it is not waited for.
    fn incomplete_chunk_size(&self, buffer: &[u8]) -> Result<(), Reject> {
        let digits = buffer.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
        match buffer.get(digits..).unwrap_or_default() {
            _ if digits > SIZE_DIGITS => Err(Reject::ChunkSize),
            [] => Ok(()),
            // One more for the CR.
            [b';', ..] if digits > 0 && buffer.len() - digits > self.extensions + 1 => {
                Err(Reject::ChunkExtensionsTooLong)
            }
            [b'\r'] | [b';', ..] if digits > 0 => Ok(()),
            _ => Err(Reject::ChunkSize),
        }
    }

    /// Takes the trailer section, the empty line after it included.
    fn trailers(&mut self, buffer: &mut BytesMut) -> Result<Option<HeaderMap>, Reject> {
        let window = buffer.get(..self.trailer_bytes.max(2).saturating_add(1)).unwrap_or(buffer);
        let full = window.len() > self.trailer_bytes.max(2);
        match end_of_section(window, &mut self.scanned)? {
            Some(2) => {
                buffer.advance(2);
                self.state = State::Done;
                Ok(Some(HeaderMap::new()))
            }
            Some(end) if end <= self.trailer_bytes => {
                self.scanned = 0;
                self.state = State::Done;
                parse_trailers(&buffer.split_to(end).freeze()).map(Some)
            }
            None if !full => Ok(None),
            _ => Err(Reject::TrailersTooLarge),
        }
    }
}

/// Takes at most `left` bytes; returns them and what is then left. `None` if the buffer is empty.
fn take(buffer: &mut BytesMut, left: u64) -> Option<(Bytes, u64)> {
    if buffer.is_empty() {
        return None;
    }
    let length = usize::try_from(left).unwrap_or(usize::MAX).min(buffer.len());
    Some((buffer.split_to(length).freeze(), left - length as u64))
}

/// Splits a chunk-size line into the size and the extensions. A size beyond 2^63 - 1 is refused like a length of it.
fn chunk_size(line: &[u8]) -> Result<(u64, &[u8]), Reject> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    if !(1..=SIZE_DIGITS).contains(&digits) {
        return Err(Reject::ChunkSize);
    }
    let (size, rest) = line.split_at_checked(digits).ok_or(Reject::ChunkSize)?;
    if !rest.is_empty() && !rest.starts_with(b";") {
        return Err(Reject::ChunkSize);
    }
    let size = size.iter().fold(0_u64, |size, &digit| {
        let value = match digit {
            b'0'..=b'9' => digit - b'0',
            _ => (digit | 0x20) - b'a' + 10,
        };
        size << 4 | u64::from(value)
    });
    if i64::try_from(size).is_ok() { Ok((size, rest)) } else { Err(Reject::ChunkSize) }
}

/// Returns whether `bytes` is `*( ";" name [ "=" ( token / quoted-string ) ] )` without the white space that RFC 9112
/// §7.1.1 calls bad.
fn are_extensions(mut bytes: &[u8]) -> bool {
    while let [b';', rest @ ..] = bytes {
        let name = rest.iter().position(|byte| matches!(byte, b';' | b'=')).unwrap_or(rest.len());
        let Some((name, after)) = rest.split_at_checked(name) else { return false };
        if !is_token(name) {
            return false;
        }
        bytes = match after {
            [b'=', b'"', quoted @ ..] => match after_quoted(quoted) {
                Some(after) => after,
                None => return false,
            },
            [b'=', value @ ..] => {
                let end = memchr::memchr(b';', value).unwrap_or(value.len());
                let Some((value, after)) = value.split_at_checked(end) else { return false };
                if !is_token(value) {
                    return false;
                }
                after
            }
            after => after,
        };
    }
    bytes.is_empty()
}

/// Returns what follows a quoted string whose opening quote was taken; `None` if it is malformed.
fn after_quoted(mut bytes: &[u8]) -> Option<&[u8]> {
    loop {
        bytes = match bytes {
            [b'"', rest @ ..] => return Some(rest),
            [b'\\', escaped, rest @ ..] if is_text(*escaped) => rest,
            [b'\\', ..] | [] => return None,
            [byte, rest @ ..] if is_text(*byte) => rest,
            _ => return None,
        }
    }
}

fn is_text(byte: u8) -> bool {
    byte == b'\t' || !byte.is_ascii_control()
}
