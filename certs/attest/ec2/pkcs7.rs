//! One signature of AWS over one document: `SignedData` of PKCS #7 (RFC 2315), in the one shape that instances are given (pure).
//!
//! One signer, SHA-256, RSA from 2,048 bits, signed attributes, the document within or beside it. Certificates in the signature are
//! not looked at: the keys that count are those that the operator gave.

use ring::digest::{SHA256, digest};
use ring::signature::{RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents};
use rustls::pki_types::CertificateDer;
use x509_parser::certificate::X509Certificate;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;

use super::ber::{INTEGER, Node, OCTETS, OID, SEQUENCE, SET, TAGGED_0};
use crate::attest::Rejected;
use crate::attest::evidence::refused;

/// 1.2.840.113549.1.7.1, id-data.
const DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x01];
/// 1.2.840.113549.1.7.2, id-signedData.
const SIGNED_DATA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x07, 0x02];
/// 1.2.840.113549.1.9.3, id-contentType.
const CONTENT_TYPE: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x03];
/// 1.2.840.113549.1.9.4, id-messageDigest.
const MESSAGE_DIGEST: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x09, 0x04];
/// 2.16.840.1.101.3.4.2.1, id-sha256.
const SHA_256: &[u8] = &[0x60, 0x86, 0x48, 0x01, 0x65, 0x03, 0x04, 0x02, 0x01];
/// 1.2.840.113549.1.1.1, rsaEncryption, and 1.2.840.113549.1.1.11, sha256WithRSAEncryption.
const RSA: [&[u8]; 2] =
    [&[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01], &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x0b]];

/// Smallest RSA modulus, in bits, as for certificates.
const RSA_BITS: usize = 2048;

/// A key that AWS signs with.
#[derive(Debug)]
pub(super) struct SignerKey {
    n: Vec<u8>,
    e: Vec<u8>,
}

impl SignerKey {
    /// Takes the key of a certificate; its validity is not looked at, since the operator trusts the key itself.
    pub(super) fn of(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        let parsed = match X509Certificate::from_der(certificate) {
            Ok(([], parsed)) => parsed,
            _ => return Err("a certificate cannot be parsed"),
        };
        match parsed.public_key().parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_BITS => {
                // ring wants numbers without leading zeros.
                let trimmed = |number: &[u8]| number.iter().copied().skip_while(|byte| *byte == 0).collect();
                Ok(Self { n: trimmed(key.modulus), e: trimmed(key.exponent) })
            }
            _ => Err("a certificate's key is not RSA from 2,048 bits; take those that AWS publishes as RSA-2048"),
        }
    }
}

/// Verifies that one of `keys` signed the document.
pub(super) fn verify(signature: &[u8], document: &[u8], keys: &[SignerKey]) -> Result<(), Rejected> {
    let malformed = || refused("malformed", "`rsa2048` is not a signature of one signer by SHA-256 and RSA");
    let Parts { content, digest: said, attributes, signature } =
        Node::parse(signature).as_ref().and_then(parts).ok_or_else(malformed)?;
    if content.is_some_and(|content| content != document) {
        return Err(refused("signature", "the document that was signed is another one"));
    }
    if digest(&SHA256, document).as_ref() != said {
        return Err(refused("signature", "the signature is over another document"));
    }
    let is_good = |key: &SignerKey| {
        let key = RsaPublicKeyComponents { n: &key.n, e: &key.e };
        key.verify(&RSA_PKCS1_2048_8192_SHA256, &attributes, &signature).is_ok()
    };
    if keys.iter().any(is_good) { Ok(()) } else { Err(refused("signature", "no key of AWS that is known signed it")) }
}

struct Parts {
    content: Option<Vec<u8>>,
    /// What the signer says that the digest of the document is.
    digest: Vec<u8>,
    /// What was signed: the attributes as a SET OF (RFC 2315, 9.3).
    attributes: Vec<u8>,
    signature: Vec<u8>,
}

fn parts(node: &Node<'_>) -> Option<Parts> {
    let [kind, body] = node.within(SEQUENCE)? else { return None };
    let [body] = body.within(TAGGED_0)? else { return None };
    is(kind, SIGNED_DATA)?;
    let [_version, _digests, inner, rest @ ..] = body.within(SEQUENCE)? else { return None };
    let content = match inner.within(SEQUENCE)? {
        [kind] => {
            is(kind, DATA)?;
            None
        }
        [kind, content] => {
            is(kind, DATA)?;
            let [content] = content.within(TAGGED_0)? else { return None };
            Some(content.octets()?)
        }
        _ => return None,
    };
    // Certificates and revocation lists may stand between, tagged; the signers stand last.
    let [signer] = rest.last()?.within(SET)? else { return None };
    let [version, _issuer, algorithm, attributes, encryption, signature, ..] = signer.within(SEQUENCE)? else {
        return None;
    };
    (version.bytes(INTEGER)? == [1]).then_some(())?;
    is(algorithm.within(SEQUENCE)?.first()?, SHA_256)?;
    let encryption = encryption.within(SEQUENCE)?.first()?.bytes(OID)?;
    RSA.contains(&encryption).then_some(())?;
    let digest = digest_of(attributes)?;
    Some(Parts { content, digest, attributes: as_set(attributes)?, signature: signature.bytes(OCTETS)?.to_vec() })
}

fn is(node: &Node<'_>, oid: &[u8]) -> Option<()> {
    (node.bytes(OID)? == oid).then_some(())
}

/// Reads the attributes: what was signed is data, and has this digest. Each stands once, with one value.
fn digest_of(attributes: &Node<'_>) -> Option<Vec<u8>> {
    let (mut kind, mut digest) = (None, None);
    for attribute in attributes.within(TAGGED_0)? {
        let [name, values] = attribute.within(SEQUENCE)? else { return None };
        let name = name.bytes(OID)?;
        if name != CONTENT_TYPE && name != MESSAGE_DIGEST {
            continue;
        }
        let [value] = values.within(SET)? else { return None };
        let before =
            if name == CONTENT_TYPE { kind.replace(value.bytes(OID)?) } else { digest.replace(value.bytes(OCTETS)?) };
        before.is_none().then_some(())?;
    }
    (kind? == DATA).then_some(())?;
    digest.map(<[u8]>::to_vec)
}

/// "The IMPLICIT `[0]` tag in the authenticatedAttributes field is not part of the Attributes value" (RFC 2315, 9.3): its DER has the
/// tag of a SET.
fn as_set(attributes: &Node<'_>) -> Option<Vec<u8>> {
    let (_, rest) = attributes.raw.split_first().filter(|_| attributes.is_definite)?;
    Some([&[SET], rest].concat())
}
