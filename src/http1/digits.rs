//! Numbers as the wire wants them, written without allocation and without the formatting machinery.

use bytes::{BufMut, BytesMut};

/// Appends `number` in decimal.
pub(super) fn put_decimal(out: &mut BytesMut, number: u64) {
    let mut digits = [0_u8; 20];
    let start = fill(&mut digits, number, 10);
    out.put_slice(digits.get(start..).unwrap_or_default());
}

/// Writes `number` in `base` (at most 16) to the end of `digits`; returns where it starts.
pub(super) fn fill(digits: &mut [u8], mut number: u64, base: u64) -> usize {
    let mut start = digits.len();
    for slot in digits.iter_mut().rev() {
        // The low byte of a number below 16 is the number.
        let [digit, ..] = (number % base).to_le_bytes();
        *slot = if digit < 10 { b'0' + digit } else { b'a' + digit - 10 };
        start -= 1;
        number /= base;
        if number == 0 {
            break;
        }
    }
    start
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_in_full() {
        for number in [0, 1, 9, 10, 15, 16, 255, 65_536, u64::MAX] {
            let mut out = BytesMut::new();
            put_decimal(&mut out, number);
            assert_eq!(out, number.to_string().as_bytes());
            let mut digits = [0_u8; 16];
            let start = fill(&mut digits, number, 16);
            assert_eq!(&digits[start..], format!("{number:x}").as_bytes());
        }
    }
}
