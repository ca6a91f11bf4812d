//! What the authority signs: roots, intermediates and leaves, each in its one form.
//!
//! No certificate has name constraints of URIs: rustls's verifier refuses every chain that has one
//! (docs/decisions/0105-no-uri-name-constraints.md).

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer,
    KeyUsagePurpose, SanType, SerialNumber, SubjectPublicKeyInfo,
};
use rustls::pki_types::CertificateDer;

use super::clock::date;
use super::keys::Key;
use super::random;
use crate::hex;
use crate::{SpiffeId, TrustDomain};

/// How far back the validity of a certificate begins at most, for peers whose clock is slow (step-ca: 1 min).
const BACKDATE: u64 = 60;

/// From when to when, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Validity {
    pub(crate) not_before: u64,
    pub(crate) not_after: u64,
}

impl Validity {
    /// From now on for so many seconds, but not beyond the issuer's end. It begins a tenth of that earlier, a minute at
    /// most: half of a short life is still ahead when it begins.
    pub(crate) fn from(now: u64, lifetime: u64, issuer_ends: u64) -> Self {
        Self {
            not_before: now.saturating_sub(BACKDATE.min(lifetime / 10)),
            not_after: (now + lifetime).min(issuer_ends),
        }
    }
}

/// Why nothing was signed. That is never the asker's fault.
#[derive(Debug, thiserror::Error)]
#[error("the certificate cannot be signed: {0}")]
pub(crate) struct Unsigned(String);

impl From<rcgen::Error> for Unsigned {
    fn from(error: rcgen::Error) -> Self {
        Self(error.to_string())
    }
}

impl From<random::NoRandom> for Unsigned {
    fn from(error: random::NoRandom) -> Self {
        Self(error.to_string())
    }
}

/// Makes a name that no other certificate of the trust domain has: `root 3f2a90c1b7d4e865`.
pub(crate) fn name(kind: &str) -> Result<String, random::NoRandom> {
    Ok(format!("{kind} {}", hex(&random::bytes::<8>()?)))
}

/// Makes a root: it signs intermediates, and those sign leaves.
pub(crate) fn root(
    trust_domain: &TrustDomain,
    name: &str,
    key: &Key,
    validity: Validity,
) -> Result<CertificateDer<'static>, Unsigned> {
    let params = authority(trust_domain, name, 1, validity)?;
    Ok(params.self_signed(key.pair())?.der().clone())
}

/// Makes an intermediate: it signs leaves alone.
pub(crate) fn intermediate(
    trust_domain: &TrustDomain,
    name: &str,
    key: &Key,
    validity: Validity,
    (root_name, root_key): (&str, &Key),
) -> Result<CertificateDer<'static>, Unsigned> {
    let mut params = authority(trust_domain, name, 0, validity)?;
    params.use_authority_key_identifier_extension = true;
    let issuer = Issuer::new(names(root_name), root_key.pair());
    Ok(params.signed_by(key.pair(), &issuer)?.der().clone())
}

/// Signs a leaf for a public key (SPKI, DER); returns it and its serial number, hexadecimal.
pub(crate) fn leaf(
    id: &SpiffeId,
    public_key: &[u8],
    validity: Validity,
    (issuer_name, issuer_key): (&str, &Key),
) -> Result<(CertificateDer<'static>, String), Unsigned> {
    let serial = serial()?;
    let mut params = CertificateParams::default();
    // An empty subject makes the alternative name critical (RFC 5280, 4.1.2.6): nobody can leave the SPIFFE ID unread.
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::ExplicitNoCa;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
    params.use_authority_key_identifier_extension = true;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.not_before = date(validity.not_before);
    params.not_after = date(validity.not_after);
    let public_key = SubjectPublicKeyInfo::from_der(public_key)?;
    let issuer = Issuer::new(names(issuer_name), issuer_key.pair());
    Ok((params.signed_by(&public_key, &issuer)?.der().clone(), hex(&serial)))
}

fn authority(
    trust_domain: &TrustDomain,
    name: &str,
    below: u8,
    validity: Validity,
) -> Result<CertificateParams, Unsigned> {
    let mut params = names(name);
    // The name of the trust domain alone: the SPIFFE ID of an authority has no path (X509-SVID, 3.2).
    let id = format!("spiffe://{trust_domain}");
    params.subject_alt_names = vec![SanType::URI(id.as_str().try_into()?)];
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(below));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    params.serial_number = Some(SerialNumber::from_slice(&serial()?));
    params.not_before = date(validity.not_before);
    params.not_after = date(validity.not_after);
    Ok(params)
}

fn names(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::OrganizationName, "Meshless");
    params.distinguished_name.push(DnType::CommonName, name);
    params
}

/// 20 octets, the most that RFC 5280, 4.1.2.2 allows: positive, 158 bits of them random.
fn serial() -> Result<[u8; 20], random::NoRandom> {
    let mut bytes = random::bytes::<20>()?;
    if let Some(first) = bytes.first_mut() {
        *first = (*first & 0x7f) | 0x40;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use rcgen::PublicKeyData as _;
    use x509_parser::certificate::X509Certificate;
    use x509_parser::oid_registry;
    use x509_parser::prelude::FromDer as _;

    use super::*;
    use crate::authority::clock::at;
    use crate::{REFRESH_HINT, TrustBundle, Verifier, leaf as read_leaf};

    const VALIDITY: Validity = Validity { not_before: 1_000, not_after: 2_000 };

    fn domain() -> TrustDomain {
        "example.org".parse().unwrap()
    }

    #[test]
    fn a_chain_is_what_our_verifier_and_the_standards_want() {
        let (root_key, key, leaf_key) = (Key::generate().unwrap(), Key::generate().unwrap(), Key::generate().unwrap());
        let root = root(&domain(), "root 1", &root_key, VALIDITY).unwrap();
        let middle = intermediate(&domain(), "intermediate 1", &key, VALIDITY, ("root 1", &root_key)).unwrap();
        let id = domain().id("/svc/web").unwrap();
        let public = leaf_key.pair().subject_public_key_info();
        let (leaf, serial) = leaf(&id, &public, VALIDITY, ("intermediate 1", &key)).unwrap();

        let bundle =
            TrustBundle { trust_domain: domain(), sequence: 1, roots: vec![root.clone()], refresh_hint: REFRESH_HINT };
        let found = Verifier::new(&bundle).unwrap().verify(&[leaf.clone(), middle.clone()], at(1_500)).unwrap();
        assert_eq!((&found.id, &found.serial), (&id, &serial));
        assert_eq!((found.not_before, found.not_after), (at(1_000), at(2_000)));
        assert_eq!(read_leaf(&leaf).unwrap(), found);

        let (_, parsed) = X509Certificate::from_der(&leaf).unwrap();
        assert_eq!(parsed.subject().iter().count(), 0);
        let critical = |oid: &oid_registry::Oid<'_>| parsed.get_extension_unique(oid).unwrap().unwrap().critical;
        assert!(critical(&oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME));
        assert!(critical(&oid_registry::OID_X509_EXT_KEY_USAGE));
        assert!(critical(&oid_registry::OID_X509_EXT_BASIC_CONSTRAINTS));
        assert_eq!(parsed.key_usage().unwrap().unwrap().value.flags, 1, "digitalSignature alone");
        for oid in
            [oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER, oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER]
        {
            assert!(parsed.get_extension_unique(&oid).unwrap().is_some());
        }
        assert_eq!(parsed.raw_serial().len(), 20);

        for (der, below) in [(&root, 1), (&middle, 0)] {
            let (_, parsed) = X509Certificate::from_der(der).unwrap();
            let constraints = parsed.basic_constraints().unwrap().unwrap();
            assert!(constraints.critical && constraints.value.ca);
            assert_eq!(constraints.value.path_len_constraint, Some(below));
            let usage = parsed.key_usage().unwrap().unwrap();
            assert!(usage.critical && usage.value.key_cert_sign() && usage.value.crl_sign());
            assert_eq!(usage.value.flags.count_ones(), 2);
            assert!(parsed.name_constraints().unwrap().is_none());
        }
    }

    #[test]
    fn a_certificate_begins_a_minute_ago_and_ends_with_its_issuer() {
        assert_eq!(Validity::from(10_000, 3_600, 99_999), Validity { not_before: 9_940, not_after: 13_600 });
        assert_eq!(Validity::from(10_000, 3_600, 11_000), Validity { not_before: 9_940, not_after: 11_000 });
        assert_eq!(Validity::from(10_000, 50, 99_999), Validity { not_before: 9_995, not_after: 10_050 });
    }

    #[test]
    fn names_and_serials_do_not_repeat() {
        assert_ne!(name("root").unwrap(), name("root").unwrap());
        let serial = serial().unwrap();
        assert!((0x40..0x80).contains(&serial[0]));
        assert_ne!(serial, super::serial().unwrap());
    }
}
