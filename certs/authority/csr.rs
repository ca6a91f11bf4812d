//! What is asked for: a PKCS#10 request, of which only the public key is taken.
//!
//! It comes from whoever can reach the authority, so it is held against a short list of what a request may be, and all
//! else is refused by name: a request that asks for more than it can get is a mistake or an attack.

use rustls::pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::cri_attributes::ParsedCriAttribute;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::{FromDer, X509Version};

use super::Denied;
use super::random::hash;
use crate::{SpiffeId, svid};

/// Longest request, in bytes.
pub(crate) const MOST_BYTES: usize = 16 * 1024;

/// The signatures that prove possession of a key: ECDSA and RSA with SHA-256 to SHA-512, Ed25519.
const SIGNATURES: &[&str] = &[
    "1.2.840.10045.4.3.2",
    "1.2.840.10045.4.3.3",
    "1.2.840.10045.4.3.4",
    "1.2.840.113549.1.1.11",
    "1.2.840.113549.1.1.12",
    "1.2.840.113549.1.1.13",
    "1.3.101.112",
];

/// A request that was signed by the key that is in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Csr {
    /// SPKI, DER.
    pub(crate) public_key: Vec<u8>,
    /// SHA-256 of it, hexadecimal.
    pub(crate) key: String,
    /// The names that it asks for, each with its kind; usually none.
    names: Vec<Name>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Name {
    Uri(String),
    Other(&'static str),
}

impl Csr {
    /// Reads a request and checks that its sender has the key.
    pub(crate) fn parse(der: &[u8]) -> Result<Self, Denied> {
        if der.len() > MOST_BYTES {
            return Err(malformed("csr_size", format!("the request has {} bytes, at most {MOST_BYTES}", der.len())));
        }
        let Ok(([], request)) = X509CertificationRequest::from_der(der) else {
            return Err(malformed("csr", "the request is not PKCS#10 in DER".to_owned()));
        };
        let info = &request.certification_request_info;
        if info.version != X509Version::V1 {
            return Err(malformed("csr_version", "the request is not PKCS#10 version 1".to_owned()));
        }
        let unfit = "the key is none of P-256, P-384, Ed25519 and RSA from 2,048 bits";
        svid::key(&info.subject_pki).map_err(|_| malformed("weak_key", unfit.to_owned()))?;
        let algorithm = request.signature_algorithm.algorithm.to_id_string();
        if !SIGNATURES.contains(&algorithm.as_str()) {
            return Err(malformed("csr_signature", format!("signatures by {algorithm} are not taken")));
        }
        request.verify_signature().map_err(|_| {
            malformed("csr_signature", "the request was not signed by the key that is in it".to_owned())
        })?;
        let public_key = info.subject_pki.raw.to_vec();
        Ok(Self { key: hash(&public_key), public_key, names: names(&request)? })
    }

    /// Checks that a request which names somebody names this identity, once, and nothing else.
    pub(crate) fn names_only(&self, id: &SpiffeId) -> Result<(), Denied> {
        match self.names.as_slice() {
            [] => Ok(()),
            [Name::Uri(uri)] if uri == id.as_str() => Ok(()),
            [Name::Uri(uri)] => Err(malformed("csr_name", format!("the request is for `{uri}`, it would get `{id}`"))),
            [Name::Other(kind)] => {
                Err(malformed("csr_name", format!("the request asks for {kind}; only the URI `{id}` can be had")))
            }
            several => Err(malformed(
                "csr_name",
                format!("the request asks for {} names; leave all out, or ask for the URI `{id}` alone", several.len()),
            )),
        }
    }
}

/// Returns SHA-256 of a certificate's public key, as [`Csr::key`] has it.
pub(crate) fn key_of(certificate: &CertificateDer<'_>) -> Option<String> {
    let (_, certificate) = x509_parser::certificate::X509Certificate::from_der(certificate).ok()?;
    Some(hash(certificate.public_key().raw))
}

fn names(request: &X509CertificationRequest<'_>) -> Result<Vec<Name>, Denied> {
    let mut names = Vec::new();
    for attribute in request.certification_request_info.iter_attributes() {
        let extensions = match attribute.parsed_attribute() {
            ParsedCriAttribute::ExtensionRequest(request) => &request.extensions,
            // What is no request for an extension asks for nothing.
            _ => continue,
        };
        for extension in extensions {
            let ParsedExtension::SubjectAlternativeName(found) = extension.parsed_extension() else {
                return Err(malformed(
                    "csr_extension",
                    format!("the request asks for the extension {}; only a name can be asked for", extension.oid),
                ));
            };
            names.extend(found.general_names.iter().map(|name| match name {
                GeneralName::URI(uri) => Name::Uri((*uri).to_owned()),
                GeneralName::DNSName(_) => Name::Other("a DNS name"),
                GeneralName::IPAddress(_) => Name::Other("an IP address"),
                GeneralName::RFC822Name(_) => Name::Other("an e-mail address"),
                _ => Name::Other("a name of another kind"),
            }));
        }
    }
    Ok(names)
}

fn malformed(reason: &'static str, why: String) -> Denied {
    Denied::Malformed { reason, why }
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, ExtendedKeyUsagePurpose, IsCa, KeyPair, SanType};

    use super::*;

    fn id() -> SpiffeId {
        "spiffe://example.org/svc/web".parse().unwrap()
    }

    fn request(change: impl FnOnce(&mut CertificateParams), key: &KeyPair) -> Vec<u8> {
        let mut params = CertificateParams::default();
        change(&mut params);
        params.serialize_request(key).unwrap().der().to_vec()
    }

    fn uri(text: &str) -> SanType {
        SanType::URI(text.try_into().unwrap())
    }

    fn reason(result: Result<impl std::fmt::Debug, Denied>) -> &'static str {
        result.unwrap_err().label()
    }

    #[test]
    fn only_the_public_key_is_taken() {
        use rcgen::PublicKeyData as _;
        for algorithm in [&rcgen::PKCS_ECDSA_P256_SHA256, &rcgen::PKCS_ECDSA_P384_SHA384, &rcgen::PKCS_ED25519] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let csr = Csr::parse(&request(|_| {}, &key)).unwrap();
            assert_eq!(csr.public_key, key.subject_public_key_info());
            assert_eq!(csr.key, hash(&csr.public_key));
            csr.names_only(&id()).unwrap();
        }
    }

    #[test]
    fn a_request_names_the_identity_that_it_gets_or_none() {
        let key = KeyPair::generate().unwrap();
        let named =
            |names: Vec<SanType>| Csr::parse(&request(|params| params.subject_alt_names = names, &key)).unwrap();
        named(vec![uri("spiffe://example.org/svc/web")]).names_only(&id()).unwrap();
        for names in [
            vec![uri("spiffe://example.org/svc/admin")],
            vec![uri("spiffe://example.org/svc/web/")],
            vec![uri("spiffe://example.org/svc/web"), uri("spiffe://example.org/svc/web")],
            vec![uri("spiffe://example.org/svc/web"), SanType::DnsName("web.example.org".try_into().unwrap())],
            vec![SanType::DnsName("web.example.org".try_into().unwrap())],
            vec![SanType::IpAddress([127, 0, 0, 1].into())],
            vec![SanType::Rfc822Name("a@example.org".try_into().unwrap())],
        ] {
            assert_eq!(reason(named(names.clone()).names_only(&id())), "csr_name", "{names:?}");
        }
    }

    #[test]
    fn every_other_extension_is_refused() {
        let key = KeyPair::generate().unwrap();
        let asks: [fn(&mut CertificateParams); 4] = [
            |params| params.is_ca = IsCa::Ca(rcgen::BasicConstraints::Unconstrained),
            |params| params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign],
            |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::CodeSigning],
            |params| params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 2, 3, 4], vec![5, 0])],
        ];
        for ask in asks {
            assert_eq!(reason(Csr::parse(&request(ask, &key))), "csr_extension");
        }
    }

    #[test]
    fn what_is_no_request_or_not_signed_by_its_key_is_refused() {
        let key = KeyPair::generate().unwrap();
        let good = request(|_| {}, &key);
        assert_eq!(reason(Csr::parse(b"")), "csr");
        assert_eq!(reason(Csr::parse(&good[..good.len() - 1])), "csr");
        assert_eq!(reason(Csr::parse(&[good.as_slice(), b"x"].concat())), "csr", "bytes behind it");
        assert_eq!(reason(Csr::parse(&vec![0; MOST_BYTES + 1])), "csr_size");
        // The key of another: its signature cannot be made.
        let other = request(|_| {}, &KeyPair::generate().unwrap());
        let at = |der: &[u8]| der.windows(2).position(|pair| pair == [0x03, 0x42]).unwrap();
        let mut stolen = good.clone();
        let (from, to) = (at(&other), at(&good));
        stolen[to..to + 0x44].copy_from_slice(&other[from..from + 0x44]);
        assert_eq!(reason(Csr::parse(&stolen)), "csr_signature");
        let version = good.windows(3).position(|part| part == [0x02, 0x01, 0x00]).unwrap();
        let mut later = good.clone();
        later[version + 2] = 1;
        assert_eq!(reason(Csr::parse(&later)), "csr_version");
    }

    #[test]
    fn weak_and_strange_keys_are_refused() {
        let key = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let mut other_curve = request(|_| {}, &key);
        // secp256k1 instead of P-256, by its OID: 1.3.132.0.10 has other bytes, so another prime256 variant is named.
        let oid = [0x2a, 0x86, 0x48, 0xce, 0x3d, 0x03, 0x01, 0x07];
        let place = other_curve.windows(oid.len()).position(|part| part == oid).unwrap();
        other_curve[place + 7] = 0x01;
        assert_eq!(reason(Csr::parse(&other_curve)), "weak_key");
    }
}
