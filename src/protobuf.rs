//! As much of Protocol Buffers' wire format as OTLP and gRPC's health checks need: four kinds of fields to write, two to read.
//!
//! By hand, because what is needed is eighty lines of a format that never changes, and `opentelemetry-proto` would bring
//! `prost` with its code generator, and a second model of spans (docs/decisions/0050-otlp-by-hand.md). A decoder of
//! somebody else checks the bytes: `tests/real/otlp_collector.py`.

/// A message that is being written.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub(crate) struct Message(Vec<u8>);

const VARINT: u32 = 0;
const FIXED64: u32 = 1;
const BYTES: u32 = 2;
const FIXED32: u32 = 5;

impl Message {
    pub(crate) fn into_bytes(self) -> Vec<u8> {
        self.0
    }

    /// A number; 0 is left out, as it is the default.
    pub(crate) fn varint(&mut self, field: u32, value: u64) {
        if value != 0 {
            self.tag(field, VARINT);
            self.raw_varint(value);
        }
    }

    /// A number within `oneof`, where 0 is not the same as none.
    pub(crate) fn varint_always(&mut self, field: u32, value: u64) {
        self.tag(field, VARINT);
        self.raw_varint(value);
    }

    pub(crate) fn fixed64(&mut self, field: u32, value: u64) {
        self.tag(field, FIXED64);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    pub(crate) fn fixed32(&mut self, field: u32, value: u32) {
        self.tag(field, FIXED32);
        self.0.extend_from_slice(&value.to_le_bytes());
    }

    /// Bytes or a string; nothing is left out.
    pub(crate) fn bytes(&mut self, field: u32, value: &[u8]) {
        if !value.is_empty() {
            self.bytes_always(field, value);
        }
    }

    /// Bytes or a string within `oneof`.
    pub(crate) fn bytes_always(&mut self, field: u32, value: &[u8]) {
        self.tag(field, BYTES);
        self.raw_varint(value.len() as u64);
        self.0.extend_from_slice(value);
    }

    /// A message in this one.
    pub(crate) fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes_always(field, &inner.0);
    }

    /// A message that is written already.
    pub(crate) fn written(&mut self, field: u32, message: &Self) {
        self.bytes_always(field, &message.0);
    }

    fn tag(&mut self, field: u32, kind: u32) {
        self.raw_varint(u64::from(field << 3 | kind));
    }

    #[allow(clippy::cast_possible_truncation, reason = "seven bits of it at a time")]
    fn raw_varint(&mut self, mut value: u64) {
        while value >= 0x80 {
            self.0.push(value as u8 | 0x80);
            value >>= 7;
        }
        self.0.push(value as u8);
    }
}

/// What a field of a message that was read holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Value<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

/// A message breaks off in the middle of a field, or has a kind of field that is none.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Returns the fields of a message, with numbers of fixed size left out; what is broken ends it.
pub(crate) fn fields(mut bytes: &[u8]) -> impl Iterator<Item = (u64, Value<'_>)> {
    std::iter::from_fn(move || next_field(&mut bytes).ok().flatten())
}

/// Takes the next field, with numbers of fixed size left out; `None` at the end.
pub(crate) fn next_field<'a>(bytes: &mut &'a [u8]) -> Result<Option<(u64, Value<'a>)>, Malformed> {
    while !bytes.is_empty() {
        let (field, value) = any_field(bytes).ok_or(Malformed)?;
        if let Some(value) = value {
            return Ok(Some((field, value)));
        }
    }
    Ok(None)
}

fn any_field<'a>(bytes: &mut &'a [u8]) -> Option<(u64, Option<Value<'a>>)> {
    let tag = read_varint(bytes)?;
    let value = match u32::try_from(tag & 7).ok()? {
        VARINT => Some(Value::Number(read_varint(bytes)?)),
        BYTES => {
            let length = usize::try_from(read_varint(bytes)?).ok()?;
            Some(Value::Bytes(bytes.split_off(..length)?))
        }
        FIXED64 => bytes.split_off(..8).map(|_| None)?,
        FIXED32 => bytes.split_off(..4).map(|_| None)?,
        _ => return None,
    };
    Some((tag >> 3, value))
}

fn read_varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let byte = *bytes.split_off_first()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_bytes_are_those_of_the_specification() {
        // The examples of protobuf.dev/programming-guides/encoding.
        let mut message = Message::default();
        message.varint(1, 150);
        message.bytes(2, b"testing");
        message.message(3, |inner| inner.varint(1, 150));
        let expected = b"\x08\x96\x01\x12\x07testing\x1a\x03\x08\x96\x01";
        assert_eq!(message.into_bytes(), expected);
        let mut message = Message::default();
        message.fixed64(7, 1);
        message.fixed32(16, 0x0102_0304);
        assert_eq!(message.into_bytes(), b"\x39\x01\0\0\0\0\0\0\0\x85\x01\x04\x03\x02\x01");
    }

    #[test]
    fn defaults_are_left_out_and_kept_where_they_say_something() {
        let mut message = Message::default();
        message.varint(1, 0);
        message.bytes(2, b"");
        message.varint_always(3, 0);
        message.bytes_always(4, b"");
        assert_eq!(message.into_bytes(), b"\x18\x00\x22\x00");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(number: u64, text: Vec<u8>) {
            let mut message = Message::default();
            message.fixed64(9, number);
            message.varint_always(1, number);
            message.bytes_always(2000, &text);
            let bytes = message.into_bytes();
            let read: Vec<_> = fields(&bytes).collect();
            prop_assert_eq!(read, vec![(1, Value::Number(number)), (2000, Value::Bytes(&text))]);
        }

        #[test]
        fn what_a_collector_sends_is_read_without_harm(bytes: Vec<u8>) {
            prop_assert!(fields(&bytes).count() <= bytes.len());
        }
    }
}
