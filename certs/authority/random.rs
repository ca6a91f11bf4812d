//! Random numbers of the operating system, and the hashes that the authority compares by.

use ring::digest::{SHA256, digest};
use ring::rand::{SecureRandom as _, SystemRandom};

/// Returns random bytes; an error where the system has none.
pub(crate) fn bytes<const N: usize>() -> Result<[u8; N], NoRandom> {
    let mut bytes = [0; N];
    SystemRandom::new().fill(&mut bytes).map_err(|_| NoRandom)?;
    Ok(bytes)
}

/// The system has no random numbers.
#[derive(Debug, Clone, Copy, thiserror::Error)]
#[error("the system gives no random numbers")]
pub(crate) struct NoRandom;

/// Returns SHA-256 as hexadecimal digits.
pub(crate) fn hash(bytes: &[u8]) -> String {
    crate::hex(digest(&SHA256, bytes).as_ref())
}

/// Compares in a time that does not depend on where the first difference is.
pub(crate) fn same(one: &[u8], other: &[u8]) -> bool {
    let differences = one.iter().zip(other).fold(0, |found, (a, b)| std::hint::black_box(found | (a ^ b)));
    one.len() == other.len() && differences == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_is_equal_in_every_byte() {
        assert!(same(b"abc", b"abc") && same(b"", b""));
        assert!(!same(b"abc", b"abd") && !same(b"abc", b"ab") && !same(b"xbc", b"abc"));
        assert_eq!(hash(b""), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
        assert_ne!(bytes::<16>().unwrap(), bytes::<16>().unwrap());
    }
}
