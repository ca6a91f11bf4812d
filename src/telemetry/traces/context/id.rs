//! The ids of traces and spans: random bytes of which at least one is not 0.

use std::fmt;

/// Names a trace; never all zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct TraceId([u8; 16]);

/// Names a span within its trace; never all zeroes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SpanId([u8; 8]);

impl TraceId {
    /// Makes one of random bits.
    pub fn from_random(high: u64, low: u64) -> Self {
        // All zeroes is no id.
        Self((u128::from(high) << 64 | u128::from(low.max(1))).to_be_bytes())
    }

    /// Reads 32 lower-case hexadecimal digits.
    pub(super) fn parse(digits: &[u8]) -> Option<Self> {
        hexadecimal(digits).filter(|bytes: &[u8; 16]| bytes.iter().any(|byte| *byte != 0)).map(Self)
    }

    /// Reads 16 digits as well, which older tracers of Zipkin send; the upper half is zeroes then.
    pub(super) fn parse_short(digits: &[u8]) -> Option<Self> {
        let low: [u8; 8] = hexadecimal(digits)?;
        let low = u64::from_be_bytes(low);
        (low != 0).then(|| Self(u128::from(low).to_be_bytes()))
    }

    /// Returns its bytes, as OTLP has them.
    pub fn bytes(&self) -> &[u8; 16] {
        &self.0
    }

    /// Returns the low half.
    #[allow(clippy::cast_possible_truncation, reason = "the low half is meant")]
    pub fn low(&self) -> u64 {
        u128::from_be_bytes(self.0) as u64
    }
}

impl SpanId {
    /// Makes one of random bits.
    pub fn from_random(bits: u64) -> Self {
        Self(bits.max(1).to_be_bytes())
    }

    /// Reads 16 lower-case hexadecimal digits.
    pub(super) fn parse(digits: &[u8]) -> Option<Self> {
        hexadecimal(digits).filter(|bytes: &[u8; 8]| bytes.iter().any(|byte| *byte != 0)).map(Self)
    }

    /// Returns its bytes, as OTLP has them.
    pub fn bytes(&self) -> &[u8; 8] {
        &self.0
    }
}

impl fmt::Display for TraceId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Display for SpanId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{:016x}", u64::from_be_bytes(self.0))
    }
}

/// Reads exactly so many bytes. Upper case is malformed in W3C, and no tracer of Zipkin writes it.
pub(super) fn hexadecimal<const BYTES: usize>(digits: &[u8]) -> Option<[u8; BYTES]> {
    let digit = |digit: u8| match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        _ => None,
    };
    let (pairs, rest) = digits.as_chunks::<2>();
    if pairs.len() != BYTES || !rest.is_empty() {
        return None;
    }
    let mut bytes = [0; BYTES];
    for (byte, [high, low]) in bytes.iter_mut().zip(pairs) {
        *byte = digit(*high)? << 4 | digit(*low)?;
    }
    Some(bytes)
}
