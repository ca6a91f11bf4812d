//! Private keys in the one form that the rest works with.
//!
//! OpenSSL and several authorities write SEC1 (`EC PRIVATE KEY`) and PKCS#1 (`RSA PRIVATE KEY`). Both are the inner part of
//! PKCS#8 (RFC 5208, 5), which only adds what kind of key it is.

use rustls::pki_types::PrivateKeyDer;
use zeroize::Zeroizing;

/// `rsaEncryption` with NULL parameters (RFC 8017, A.1).
const RSA: &[u8] = &[0x30, 0x0d, 0x06, 0x09, 0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01, 0x05, 0x00];
/// `id-ecPublicKey` on P-256 and on P-384 (RFC 5480, 2.1.1).
const P256: &[u8] = &[
    0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03,
    0x01, 0x07,
];
const P384: &[u8] =
    &[0x30, 0x10, 0x06, 0x07, 0x2a, 0x86, 0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x05, 0x2b, 0x81, 0x04, 0x00, 0x22];
/// Version 0.
const VERSION: &[u8] = &[0x02, 0x01, 0x00];
/// How a SEC1 key begins, behind its own head: version 1, then the private number as long as the curve has it.
const SEC1_P256: &[u8] = &[0x02, 0x01, 0x01, 0x04, 32];
const SEC1_P384: &[u8] = &[0x02, 0x01, 0x01, 0x04, 48];

const SEQUENCE: u8 = 0x30;
const OCTET_STRING: u8 = 0x04;

/// Returns a key as PKCS#8; the error says why it cannot be used.
pub(super) fn to_pkcs8(key: PrivateKeyDer<'static>) -> Result<Zeroizing<Vec<u8>>, &'static str> {
    match key {
        PrivateKeyDer::Pkcs8(key) => Ok(Zeroizing::new(key.secret_pkcs8_der().to_vec())),
        PrivateKeyDer::Pkcs1(key) => Ok(wrap(RSA, key.secret_pkcs1_der())),
        PrivateKeyDer::Sec1(key) => {
            let inner = key.secret_sec1_der();
            let curve = if has(inner, SEC1_P256) {
                P256
            } else if has(inner, SEC1_P384) {
                P384
            } else {
                return Err("this key is on none of the curves P-256 and P-384");
            };
            Ok(wrap(curve, inner))
        }
        _ => Err("a kind of private key that is not known; write it as PKCS#8"),
    }
}

/// The head of the sequence has two or three bytes: its lengths are below 256 here.
fn has(der: &[u8], begin: &[u8]) -> bool {
    [2, 3].into_iter().any(|head| der.get(head..).is_some_and(|rest| rest.starts_with(begin)))
}

fn wrap(algorithm: &[u8], inner: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut body = Zeroizing::new(Vec::with_capacity(inner.len() + 64));
    body.extend_from_slice(VERSION);
    body.extend_from_slice(algorithm);
    head(&mut body, OCTET_STRING, inner.len());
    body.extend_from_slice(inner);
    let mut whole = Zeroizing::new(Vec::with_capacity(body.len() + 8));
    head(&mut whole, SEQUENCE, body.len());
    whole.extend_from_slice(&body);
    whole
}

/// Writes tag and length (X.690, 8.1.3).
fn head(into: &mut Vec<u8>, tag: u8, length: usize) {
    into.push(tag);
    match u8::try_from(length) {
        Ok(length) if length < 0x80 => into.push(length),
        _ => {
            let bytes = length.to_be_bytes();
            let zeros = bytes.iter().take_while(|&&byte| byte == 0).count();
            let significant = bytes.get(zeros..).unwrap_or_default();
            into.push(0x80 | u8::try_from(significant.len()).unwrap_or_default());
            into.extend_from_slice(significant);
        }
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384};
    use rustls::pki_types::{PrivatePkcs8KeyDer, PrivateSec1KeyDer};

    use super::*;
    use crate::provider;

    /// The inner part of PKCS#8: behind the version and the algorithm.
    fn inner(pkcs8: &[u8], algorithm: &[u8]) -> Vec<u8> {
        let at = pkcs8.windows(algorithm.len()).position(|part| part == algorithm).unwrap() + algorithm.len();
        let head = if pkcs8[at + 1] < 0x80 { 2 } else { 2 + usize::from(pkcs8[at + 1] & 0x7f) };
        pkcs8[at + head..].to_vec()
    }

    #[test]
    fn a_key_of_sec1_is_wrapped_and_can_sign() {
        for (kind, curve) in [(&PKCS_ECDSA_P256_SHA256, P256), (&PKCS_ECDSA_P384_SHA384, P384)] {
            let pkcs8 = KeyPair::generate_for(kind).unwrap().serialize_der();
            let sec1 = inner(&pkcs8, curve);
            let wrapped = to_pkcs8(PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(sec1))).unwrap();
            assert_eq!(*wrapped, pkcs8);
            let der = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(wrapped.to_vec()));
            assert!(provider().key_provider.load_private_key(der).is_ok());
        }
    }

    #[test]
    fn a_key_on_another_curve_says_so() {
        let strange = PrivateKeyDer::Sec1(PrivateSec1KeyDer::from(vec![0x30, 0x05, 2, 1, 1, 4, 66]));
        assert!(to_pkcs8(strange).unwrap_err().contains("curves"));
    }

    #[test]
    fn lengths_are_written_in_their_shortest_form() {
        let written = |length| {
            let mut bytes = Vec::new();
            head(&mut bytes, SEQUENCE, length);
            bytes
        };
        assert_eq!(written(0x7f), [0x30, 0x7f]);
        assert_eq!(written(0x80), [0x30, 0x81, 0x80]);
        assert_eq!(written(0x1234), [0x30, 0x82, 0x12, 0x34]);
    }
}
