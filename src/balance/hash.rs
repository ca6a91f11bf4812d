//! The hash of keys and endpoints: FNV-1a of 64 bits over the bytes, then the finaliser of `MurmurHash3`, which spreads what
//! FNV leaves close together.
//!
//! Gateways of all versions and platforms must agree on it, or a client's requests go to another endpoint behind each of
//! them. It is **part of what users rely on**: a change is a breaking one. It is not made to withstand attackers, who could
//! anyway send the same key again and again.

/// Hashes bytes.
pub(super) fn hash(bytes: &[u8]) -> u64 {
    let fnv = bytes
        .iter()
        .fold(0xcbf2_9ce4_8422_2325, |state: u64, &byte| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    mix(fnv)
}

/// Spreads a number over 64 bits; one to one.
pub(super) fn mix(mut number: u64) -> u64 {
    number ^= number >> 33;
    number = number.wrapping_mul(0xff51_afd7_ed55_8ccd);
    number ^= number >> 33;
    number = number.wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    number ^ number >> 33
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_the_same_everywhere_and_for_ever() {
        // FNV-1a's own vectors are af63dc4c8601ec8c for "a" and 85944171f73967e8 for "foobar".
        assert_eq!(hash(b"a"), mix(0xaf63_dc4c_8601_ec8c));
        assert_eq!(hash(b"foobar"), mix(0x8594_4171_f739_67e8));
        assert_eq!(mix(0), 0);
        assert_eq!(mix(1), 0xb456_bcfc_34c2_cb2c);
    }
}
