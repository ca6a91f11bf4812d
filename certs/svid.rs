//! What one certificate of the mesh must look like: the rules of X509-SVID that webpki does not know.
//!
//! webpki checks signatures, validity and the CA flag of issuers. It does not look at an issuer's key usage, takes a leaf
//! without extended key usage, and knows no SPIFFE ID; all of that is checked here, for every certificate of a chain.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey, RSAPublicKey};
use x509_parser::x509::{SubjectPublicKeyInfo, X509Version};

use crate::SpiffeId;
use crate::refused::{Part, Refused};

/// RSA moduli that are taken, in bits (NIST SP 800-131A: below 2,048 is disallowed; ring takes no more than 8,192).
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Smallest public exponent of RSA (FIPS 186-5, A.1.1).
const RSA_EXPONENT: u64 = 65_537;

/// Longest serial number, in bytes (RFC 5280, 4.1.2.2).
const SERIAL: usize = 20;

/// How many characters of a name that breaks the rules are told.
const LONGEST_TOLD: usize = 256;

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
    /// Serial number, hexadecimal, lower case, two digits for each byte, without the sign byte of its encoding.
    pub serial: String,
    /// Begin of its validity.
    pub not_before: SystemTime,
    /// End of its validity; that second is still within it (RFC 5280, 4.1.2.5).
    pub not_after: SystemTime,
}

/// Reads a leaf by the rules of X509-SVID, 3 to 5; the error says which one it breaks.
pub fn leaf(der: &[u8]) -> Result<Leaf, Refused> {
    let certificate = parse(der)?;
    if is_ca(&certificate)? {
        return Err(Refused::LeafIsCa);
    }
    let usage = certificate.key_usage().map_err(|_| Refused::Malformed)?.ok_or(Refused::KeyUsage)?.value;
    if usage.key_cert_sign() || usage.crl_sign() {
        return Err(Refused::LeafSigns);
    }
    if !usage.digital_signature() {
        return Err(Refused::KeyUsage);
    }
    // "any" is no statement of purpose.
    let purposes = certificate.extended_key_usage().map_err(|_| Refused::Malformed)?;
    if !purposes.is_some_and(|purposes| purposes.value.server_auth && purposes.value.client_auth) {
        return Err(Refused::Purpose);
    }
    key(certificate.public_key())?;
    let id = id(&certificate)?;
    let serial = serial(&certificate).ok_or(Refused::Serial(Part::Leaf))?;
    let (not_before, not_after) = validity_of(&certificate, Part::Leaf)?;
    Ok(Leaf { id, serial, not_before, not_after })
}

/// What an authority's certificate says, once it was found that it may sign.
#[derive(Debug)]
pub(crate) struct Issuer {
    pub(crate) not_before: SystemTime,
    pub(crate) not_after: SystemTime,
    /// How many authorities may stand below it.
    pub(crate) path_length: Option<u32>,
    serial: Option<String>,
    /// Whether its extended key usage, if it has one, is for clients and for servers.
    for_both: bool,
    /// URIs that claim to be SPIFFE IDs.
    ids: Vec<String>,
}

/// Checks that a certificate may sign others: the CA flag, and keyCertSign in its key usage, which webpki leaves out.
///
/// This is all that is asked of a root: who trusts it decided for it as it is.
pub(crate) fn issuer(der: &[u8], part: Part) -> Result<Issuer, Refused> {
    let certificate = parse(der)?;
    if !is_ca(&certificate)? {
        return Err(Refused::IssuerIsNoCa);
    }
    let usage = certificate.key_usage().map_err(|_| Refused::Malformed)?;
    if !usage.is_some_and(|usage| usage.value.key_cert_sign()) {
        return Err(Refused::IssuerDoesNotSign);
    }
    key(certificate.public_key()).map_err(|_| Refused::Key(part))?;
    // webpki refuses every chain below such an authority; here that has a name.
    let constraints = certificate.name_constraints().map_err(|_| Refused::Malformed)?;
    if let Some(constraints) = constraints {
        let permitted = constraints.value.permitted_subtrees.iter().flatten();
        let mut all = permitted.chain(constraints.value.excluded_subtrees.iter().flatten());
        if all.any(|tree| matches!(tree.base, GeneralName::URI(_))) {
            return Err(Refused::UriConstraints);
        }
    }
    let constraints = certificate.basic_constraints().map_err(|_| Refused::Malformed)?;
    let purposes = certificate.extended_key_usage().map_err(|_| Refused::Malformed)?;
    let names = certificate.subject_alternative_name().map_err(|_| Refused::Malformed)?;
    let names = names.iter().flat_map(|names| &names.value.general_names);
    let (not_before, not_after) = validity_of(&certificate, part)?;
    Ok(Issuer {
        not_before,
        not_after,
        path_length: constraints.and_then(|constraints| constraints.value.path_len_constraint),
        serial: serial(&certificate),
        for_both: purposes.is_none_or(|purposes| {
            let purposes = purposes.value;
            purposes.any || (purposes.server_auth && purposes.client_auth)
        }),
        ids: names
            .filter_map(|name| match name {
                GeneralName::URI(uri) if is_spiffe(uri) => Some((*uri).to_owned()),
                _ => None,
            })
            .collect(),
    })
}

/// Checks that an intermediate may stand between a root and a leaf of a trust domain.
///
/// By X509-SVID, 3.2, the ID of a signing certificate has no path and *should* be of the trust domain of its leaves. For us
/// that is a must: who may speak for one trust domain speaks for no other.
pub(crate) fn intermediate(der: &[u8], trust_domain: &str) -> Result<(), Refused> {
    let issuer = issuer(der, Part::Intermediate)?;
    if issuer.serial.is_none() {
        return Err(Refused::Serial(Part::Intermediate));
    }
    if !issuer.for_both {
        return Err(Refused::IssuerPurpose);
    }
    match issuer.ids.as_slice() {
        [] => Ok(()),
        [id] if id.strip_prefix("spiffe://") == Some(trust_domain) => Ok(()),
        // Nobody has vouched for these words yet, and they go to a log.
        ids => {
            let found = ids.join(" ").escape_debug().take(LONGEST_TOLD).collect();
            Err(Refused::IssuerId { found, expected: trust_domain.to_owned() })
        }
    }
}

/// Returns when a certificate begins and ends to be valid; `part` says in the error which one it is.
pub fn validity(der: &[u8], part: Part) -> Result<(SystemTime, SystemTime), Refused> {
    validity_of(&parse(der)?, part)
}

fn is_spiffe(uri: &str) -> bool {
    uri.get(.."spiffe:".len()).is_some_and(|scheme| scheme.eq_ignore_ascii_case("spiffe:"))
}

/// Returns a certificate's public key, as SPKI in DER.
pub(crate) fn spki(der: &[u8]) -> Result<Vec<u8>, Refused> {
    Ok(parse(der)?.public_key().raw.to_vec())
}

fn parse(der: &[u8]) -> Result<X509Certificate<'_>, Refused> {
    let Ok(([], certificate)) = X509Certificate::from_der(der) else { return Err(Refused::Malformed) };
    // x509-parser takes a basic constraint that it cannot read for one that is not there.
    let readable = certificate
        .extensions()
        .iter()
        .all(|extension| !matches!(extension.parsed_extension(), ParsedExtension::ParseError { .. }));
    if certificate.version() == X509Version::V3 && readable { Ok(certificate) } else { Err(Refused::Malformed) }
}

fn is_ca(certificate: &X509Certificate<'_>) -> Result<bool, Refused> {
    let constraints = certificate.basic_constraints().map_err(|_| Refused::Malformed)?;
    Ok(constraints.is_some_and(|constraints| constraints.value.ca))
}

/// "An X.509 SVID MUST contain exactly one URI SAN" (X509-SVID, 2); names of other kinds may stand beside it.
fn id(certificate: &X509Certificate<'_>) -> Result<SpiffeId, Refused> {
    let names = certificate.subject_alternative_name().map_err(|_| Refused::Malformed)?.ok_or(Refused::NoUri)?;
    let mut only = None;
    for name in &names.value.general_names {
        match name {
            // It may be a second URI that cannot be read.
            GeneralName::Invalid(..) => return Err(Refused::Malformed),
            GeneralName::URI(_) if only.is_some() => return Err(Refused::SeveralUris),
            GeneralName::URI(uri) => only = Some(*uri),
            _ => {}
        }
    }
    only.ok_or(Refused::NoUri)?.parse().map_err(Refused::Id)
}

/// Serial numbers are positive and have 20 bytes at most, not counting a byte for the sign.
fn serial(certificate: &X509Certificate<'_>) -> Option<String> {
    let digits = match certificate.raw_serial() {
        [0, rest @ ..] => rest,
        [first, ..] if first & 0x80 != 0 => return None,
        all => all,
    };
    let is_taken = !digits.is_empty() && digits.len() <= SERIAL;
    is_taken.then(|| crate::hex(digits))
}

fn validity_of(certificate: &X509Certificate<'_>, part: Part) -> Result<(SystemTime, SystemTime), Refused> {
    let validity = certificate.validity();
    let (begin, end) = (validity.not_before.timestamp(), validity.not_after.timestamp());
    if begin > end { Err(Refused::Validity(part)) } else { Ok((time(begin), time(end))) }
}

/// The keys that we take, here as that of a leaf: P-256, P-384, Ed25519, RSA of 2,048 to 8,192 bits.
pub(crate) fn key(info: &SubjectPublicKeyInfo<'_>) -> Result<(), Refused> {
    let is_taken = match info.algorithm.algorithm.to_id_string().as_str() {
        OID_ED25519 => true,
        OID_EC => {
            let curve = info.algorithm.parameters.as_ref().and_then(|curve| curve.as_oid().ok());
            matches!(curve.map(|curve| curve.to_id_string()).as_deref(), Some(OID_P256 | OID_P384))
        }
        OID_RSA => matches!(info.parsed(), Ok(PublicKey::RSA(key)) if rsa_is_taken(&key)),
        _ => false,
    };
    if is_taken { Ok(()) } else { Err(Refused::Key(Part::Leaf)) }
}

/// x509-parser counts the bytes of a modulus, not its bits.
fn rsa_is_taken(key: &RSAPublicKey<'_>) -> bool {
    let is_negative = key.modulus.first().is_some_and(|first| first & 0x80 != 0);
    let zeros = key.modulus.iter().take_while(|byte| **byte == 0).count();
    let unused = key.modulus.get(zeros).map_or(0, |first| first.leading_zeros() as usize);
    let bits = (key.modulus.len() - zeros) * 8 - unused;
    let exponent = key.try_exponent().unwrap_or_default();
    !is_negative && RSA_BITS.contains(&bits) && exponent >= RSA_EXPONENT && exponent % 2 == 1
}

/// Times before 1970 are 1970: such a certificate has expired either way.
fn time(seconds: i64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(u64::try_from(seconds).unwrap_or_default())
}
