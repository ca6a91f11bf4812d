//! Two numbers in one atomic word, so that they change together and are read together without a lock.

/// Makes a word of its halves.
pub(crate) fn whole(above: u32, below: u32) -> u64 {
    u64::from(above) << 32 | u64::from(below)
}

/// Returns the halves of a word.
#[allow(clippy::cast_possible_truncation, reason = "the two halves of one word")]
pub(crate) fn halves(word: u64) -> (u32, u32) {
    ((word >> 32) as u32, word as u32)
}

/// Makes a word of a number and the time of its last change.
pub(crate) fn stamped(value: f32, stamp: u32) -> u64 {
    whole(value.to_bits(), stamp)
}

/// Returns the number and the time.
pub(crate) fn number_and_stamp(word: u64) -> (f32, u32) {
    let (bits, stamp) = halves(word);
    (f32::from_bits(bits), stamp)
}
