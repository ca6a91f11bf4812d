//! What one certificate of the mesh must look like: the rules of X509-SVID that webpki does not know.
//!
//! webpki checks signatures, validity and the CA flag of issuers. It does not look at an issuer's key usage, takes a leaf
//! without extended key usage, and knows no SPIFFE ID; all of that is checked here, for every certificate of a chain.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::SubjectPublicKeyInfo;

use crate::SpiffeId;
use crate::verify::Refused;

/// Smallest RSA modulus, in bits (NIST SP 800-131A: below 2,048 is disallowed).
const RSA_BITS: usize = 2048;

const OID_EC: &str = "1.2.840.10045.2.1";
const OID_P256: &str = "1.2.840.10045.3.1.7";
const OID_P384: &str = "1.3.132.0.34";
const OID_ED25519: &str = "1.3.101.112";
const OID_RSA: &str = "1.2.840.113549.1.1.1";

/// What a leaf says, once it was found to be a well-formed SVID. Nothing is said about who signed it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Leaf {
    /// Whose it is.
    pub id: SpiffeId,
    /// Serial number, hexadecimal, lower case.
    pub serial: String,
    /// Begin of its validity.
    pub not_before: SystemTime,
    /// End of its validity.
    pub not_after: SystemTime,
}

/// Reads a leaf by the rules of X509-SVID, 3 to 5; the error says which one it breaks.
pub fn leaf(der: &[u8]) -> Result<Leaf, Refused> {
    let certificate = parse(der)?;
    if is_ca(&certificate)? {
        return Err(Refused::LeafIsCa);
    }
    let usage = certificate.key_usage().map_err(|_| Refused::Malformed)?.ok_or(Refused::KeyUsage)?.value;
    if !usage.digital_signature() {
        return Err(Refused::KeyUsage);
    }
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(Refused::LeafSigns);
    }
    // "any" is no statement of purpose.
    let purposes = certificate.extended_key_usage().map_err(|_| Refused::Malformed)?;
    if !purposes.is_some_and(|purposes| purposes.value.server_auth && purposes.value.client_auth) {
        return Err(Refused::Purpose);
    }
    key(certificate.public_key())?;
    let id = id(&certificate)?;
    let validity = certificate.validity();
    Ok(Leaf {
        id,
        serial: certificate.raw_serial().iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}")),
        not_before: time(validity.not_before.timestamp()),
        not_after: time(validity.not_after.timestamp()),
    })
}

/// Checks that a certificate may sign others: the CA flag, and keyCertSign in its key usage, which webpki leaves out.
pub(crate) fn issuer(der: &[u8]) -> Result<(), Refused> {
    let certificate = parse(der)?;
    if !is_ca(&certificate)? {
        return Err(Refused::IssuerIsNoCa);
    }
    let usage = certificate.key_usage().map_err(|_| Refused::Malformed)?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(Refused::IssuerDoesNotSign);
    }
    key(certificate.public_key())
}

/// Returns when a certificate begins and ends to be valid; a leaf or an authority's.
pub fn validity(der: &[u8]) -> Result<(SystemTime, SystemTime), Refused> {
    let certificate = parse(der)?;
    let validity = certificate.validity();
    Ok((time(validity.not_before.timestamp()), time(validity.not_after.timestamp())))
}

/// Returns a certificate's public key, as SPKI in DER.
pub(crate) fn spki(der: &[u8]) -> Result<Vec<u8>, Refused> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refused> {
    match X509Certificate::from_der(der) {
        Ok(([], certificate)) => Ok(certificate),
        _ => Err(Refused::Malformed),
    }
}

fn is_ca(certificate: &X509Certificate<'_>) -> Result<bool, Refused> {
    let constraints = certificate.basic_constraints().map_err(|_| Refused::Malformed)?;
    Ok(constraints.is_some_and(|constraints| constraints.value.ca))
}

/// "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID, 2); names of other kinds may stand beside it.
fn id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Refused> {
    let names = certificate.subject_alternative_name().map_err(|_| Refused::Malformed)?.ok_or(Refused::NoUri)?;
    let mut uris = names.value.general_names.iter().filter_map(|name| match name {
        GeneralName::URI(uri) => Some(*uri),
        _ => None,
    });
    match (uris.next(), uris.next()) {
        (None, _) => Err(Refused::NoUri),
        (Some(_), Some(_)) => Err(Refused::SeveralUris),
        (Some(uri), None) => uri.parse().map_err(Refused::Id),
    }
}

/// The keys that we take: P-256, P-384, Ed25519, RSA from 2,048 bits.
pub(crate) fn key(info: &SubjectPublicKeyInfo<'_>) -> Result<(), Refused> {
    let algorithm = info.algorithm.algorithm.to_id_string();
    match algorithm.as_str() {
        OID_ED25519 => Ok(()),
        OID_EC => {
            let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            match curve.map(|curve| curve.to_id_string()).as_deref() {
                Some(OID_P256 | OID_P384) => Ok(()),
                _ => Err(Refused::Key),
            }
        }
        OID_RSA => match info.parsed() {
            Ok(PublicKey::RSA(key)) if key.key_size() >= RSA_BITS => Ok(()),
            _ => Err(Refused::Key),
        },
        _ => Err(Refused::Key),
    }
}

/// Times before 1970 are 1970: such a certificate has expired either way.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
