//! Certificates that a workload has from elsewhere: it proves that it has the key of one.
//!
//! It signs the challenge, so a signature is worth nothing for another authority, nonce or key. What is signed begins with words of
//! our own, so that a signature that was made for something else (a handshake) is none here, and the other way round.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use async_trait::async_trait;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use rustls::SignatureScheme;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use serde::{Deserialize, Serialize};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;

use super::evidence::{self, fingerprint, refused, shown};
use super::{Attested, Attestor, Challenge, Method, Presented, Prover, Rejected};
use crate::{Error, KeyFiles, MAX_CHAIN, Part, Refused, SourceError, provider, svid};

/// How a signature may be made, by the names of the IANA registry (TLS SignatureScheme).
const SCHEMES: [(&str, SignatureScheme); 6] = [
    ("ecdsa_secp256r1_sha256", SignatureScheme::ECDSA_NISTP256_SHA256),
    ("ecdsa_secp384r1_sha384", SignatureScheme::ECDSA_NISTP384_SHA384),
    ("ed25519", SignatureScheme::ED25519),
    ("rsa_pss_rsae_sha256", SignatureScheme::RSA_PSS_SHA256),
    ("rsa_pss_rsae_sha384", SignatureScheme::RSA_PSS_SHA384),
    ("rsa_pss_rsae_sha512", SignatureScheme::RSA_PSS_SHA512),
];

/// What is shown.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    /// DER, base64, leaf first.
    chain: Vec<String>,
    scheme: String,
    /// Base64.
    signature: String,
}

/// Returns what is signed. No part can have a zero byte in it, so there is one way to read it.
fn message(challenge: &Challenge) -> Vec<u8> {
    ["meshless x509 v1", &challenge.authority, &challenge.nonce, &challenge.key].join("\0").into_bytes()
}

/// Proves by a certificate and its key in files, which are read for each proof.
#[derive(Debug)]
pub struct Certificate {
    files: KeyFiles,
}

impl Certificate {
    /// Proves by these.
    #[must_use]
    pub fn new(files: KeyFiles) -> Self {
        Self { files }
    }
}

#[async_trait]
impl Prover for Certificate {
    fn method(&self) -> Method {
        Method::X509
    }

    async fn prove(&self, challenge: &Challenge) -> Result<serde_json::Value, SourceError> {
        let malformed = |why: String| SourceError::Malformed(format!("{}: {why}", self.files.cert.display()));
        let files = self.files.clone();
        let read = tokio::task::spawn_blocking(move || files.read());
        let read = read.await.map_err(|error| malformed(error.to_string()))?;
        let certified = read.map_err(|error| SourceError::Malformed(error.to_string()))?;
        let offered: Vec<SignatureScheme> = SCHEMES.iter().map(|(_, scheme)| *scheme).collect();
        let signer = certified.key.choose_scheme(&offered);
        let signer = signer.ok_or_else(|| malformed("its key is none of P-256, P-384, Ed25519 and RSA".to_owned()))?;
        let signature = signer.sign(&message(challenge)).map_err(|error| malformed(error.to_string()))?;
        let scheme = SCHEMES.iter().find(|(_, scheme)| *scheme == signer.scheme()).map(|(name, _)| (*name).to_owned());
        let evidence = Evidence {
            chain: certified.cert.iter().map(|certificate| STANDARD.encode(certificate)).collect(),
            scheme: scheme.unwrap_or_default(),
            signature: STANDARD.encode(signature),
        };
        serde_json::to_value(&evidence).map_err(|error| malformed(error.to_string()))
    }
}

/// Takes certificates of given roots.
///
/// Facts: `roots` (their name here), `fingerprint` (SHA-256 of the leaf), and where the leaf has exactly one of it: `common_name`, `dns`,
/// `uri`.
#[derive(Debug)]
pub struct Roots {
    named: BTreeMap<String, PathBuf>,
}

impl Roots {
    /// Takes certificates of these roots: PEM files by their names, which are read now, and again for each proof.
    pub fn open(named: BTreeMap<String, PathBuf>) -> Result<Self, Error> {
        for path in named.values() {
            anchors(path)?;
        }
        Ok(Self { named })
    }
}

/// A root, with the end of its validity, which webpki does not look at.
type Root = (TrustAnchor<'static>, SystemTime);

fn anchors(path: &Path) -> Result<Vec<Root>, Error> {
    let unusable = |why: String| Error::Unusable { path: path.to_owned(), why };
    let text = std::fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })?;
    let mut roots = Vec::new();
    for der in CertificateDer::pem_slice_iter(&text) {
        let der = der.map_err(|error| unusable(error.to_string()))?;
        let anchor = anchor_from_trusted_cert(&der).map_err(|error| unusable(error.to_string()))?.to_owned();
        roots.push((anchor, svid::validity(&der, Part::Root).map_err(|why| unusable(why.to_string()))?.1));
    }
    if roots.is_empty() {
        return Err(Error::Empty { path: path.to_owned(), what: "certificate" });
    }
    Ok(roots)
}

#[async_trait]
impl Attestor for Roots {
    fn method(&self) -> Method {
        Method::X509
    }

    async fn attest(&self, presented: &Presented<'_>) -> Result<Attested, Rejected> {
        let evidence: Evidence = evidence::read(presented.evidence)?;
        let named = self.named.clone();
        let read = tokio::task::spawn_blocking(move || {
            named.into_iter().map(|(name, path)| Ok((name, anchors(&path)?))).collect::<Result<Vec<_>, Error>>()
        });
        let read = read.await.map_err(|error| Rejected::Unavailable(error.to_string()))?;
        let roots = read.map_err(|error| Rejected::Unavailable(error.to_string()))?;
        check(&evidence, presented, &roots)
    }
}

fn check(evidence: &Evidence, presented: &Presented<'_>, roots: &[(String, Vec<Root>)]) -> Result<Attested, Rejected> {
    if evidence.chain.len() > MAX_CHAIN {
        return Err(refused_by(&Refused::TooLong(evidence.chain.len())));
    }
    let decode = |text: &String| STANDARD.decode(text).map(CertificateDer::from);
    let chain: Result<Vec<_>, _> = evidence.chain.iter().map(decode).collect();
    let chain = chain.map_err(|_| refused("malformed", "a certificate is not base64"))?;
    let (leaf, intermediates) = chain.split_first().ok_or_else(|| refused_by(&Refused::None))?;
    let parsed = leaf_of(leaf).map_err(|why| refused_by(&why))?;
    for intermediate in intermediates {
        svid::issuer(intermediate, Part::Intermediate).map_err(|why| refused_by(&why))?;
    }
    let entity = EndEntityCert::try_from(leaf).map_err(|_| refused_by(&Refused::Malformed))?;
    let name = issued_by(&entity, intermediates, roots, presented.now)?;
    signed(&entity, evidence, presented.challenge)?;
    let mut facts = vec![("roots", name.to_owned()), ("fingerprint", fingerprint(leaf))];
    facts.extend(names(&parsed));
    Ok(Attested { method: Method::X509, facts })
}

/// Reads a leaf and checks what webpki does not: that it is none of an authority, is for signing, and has a strong key.
fn leaf_of<'a>(der: &'a CertificateDer<'_>) -> Result<X509Certificate<'a>, Refused> {
    let Ok(([], parsed)) = X509Certificate::from_der(der) else { return Err(Refused::Malformed) };
    if parsed.basic_constraints().map_err(|_| Refused::Malformed)?.is_some_and(|constraints| constraints.value.ca) {
        return Err(Refused::LeafIsCa);
    }
    if let Some(usage) = parsed.key_usage().map_err(|_| Refused::Malformed)? {
        if !usage.value.digital_signature() {
            return Err(Refused::KeyUsage);
        }
        if usage.value.key_cert_sign() || usage.value.crl_sign() {
            return Err(Refused::LeafSigns);
        }
    }
    svid::key(parsed.public_key())?;
    Ok(parsed)
}

/// Returns the name of the roots that a chain leads to. Where the leaf says what it is for, clients must be among it.
fn issued_by<'a>(
    entity: &EndEntityCert<'_>,
    intermediates: &[CertificateDer<'_>],
    roots: &'a [(String, Vec<Root>)],
    now: SystemTime,
) -> Result<&'a str, Rejected> {
    let time = UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default());
    let provider = provider();
    let algorithms = provider.signature_verification_algorithms.all;
    let mut rejected = refused("unknown_issuer", "no roots are configured");
    for (name, roots) in roots {
        let alive: Vec<_> =
            roots.iter().filter(|(_, not_after)| *not_after > now).map(|(anchor, _)| anchor.clone()).collect();
        let usage = KeyUsage::client_auth();
        match entity.verify_for_usage(algorithms, &alive, intermediates, time, usage, None, None) {
            Ok(_) => return Ok(name),
            // Of several roots, the one that knows the chain says what is wrong with it.
            Err(webpki::Error::UnknownIssuer)
                if !matches!(rejected, Rejected::Refused { reason: "unknown_issuer", .. }) => {}
            Err(webpki::Error::RequiredEkuNotFoundContext(_)) => {
                rejected = refused("usage", "the leaf is not for clients (extended key usage)");
            }
            Err(error) => rejected = refused_by(&Refused::of(&error)),
        }
    }
    Err(rejected)
}

fn signed(entity: &EndEntityCert<'_>, evidence: &Evidence, challenge: &Challenge) -> Result<(), Rejected> {
    let scheme = SCHEMES.iter().find(|(name, _)| *name == evidence.scheme).map(|(_, scheme)| *scheme);
    let scheme = scheme
        .ok_or_else(|| refused("algorithm", format!("`{}` is no scheme that is taken", shown(&evidence.scheme))))?;
    let signature =
        STANDARD.decode(&evidence.signature).map_err(|_| refused("malformed", "the signature is not base64"))?;
    let provider = provider();
    let mapping = provider.signature_verification_algorithms.mapping;
    let algorithms = mapping.iter().find(|(known, _)| *known == scheme).map(|(_, algorithms)| *algorithms);
    let message = message(challenge);
    let is_good = |algorithm: &&dyn rustls::pki_types::SignatureVerificationAlgorithm| {
        entity.verify_signature(*algorithm, &message, &signature).is_ok()
    };
    if algorithms.unwrap_or_default().iter().any(is_good) {
        return Ok(());
    }
    Err(refused("signature", "the challenge was not signed by the key of the certificate"))
}

/// Returns what the leaf names, where it names exactly one. A name that could not be shown on a line is none.
fn names(leaf: &X509Certificate<'_>) -> Vec<(&'static str, String)> {
    let mut common = leaf.subject().iter_common_name().map(|name| name.as_str().ok());
    let alternative = leaf.subject_alternative_name().ok().flatten();
    let all = || alternative.iter().flat_map(|names| &names.value.general_names);
    let mut dns = all().filter_map(|name| if let GeneralName::DNSName(name) = name { Some(*name) } else { None });
    let mut uri = all().filter_map(|name| if let GeneralName::URI(name) = name { Some(*name) } else { None });
    let only = |first: Option<&str>, more: bool| {
        let is_plain = |text: &&str| !text.is_empty() && text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
        first.filter(|_| !more).filter(is_plain).map(ToOwned::to_owned)
    };
    [
        ("common_name", only(common.next().flatten(), common.next().is_some())),
        ("dns", only(dns.next(), dns.next().is_some())),
        ("uri", only(uri.next(), uri.next().is_some())),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn refused_by(why: &Refused) -> Rejected {
    refused(why.label(), why.to_string())
}

#[cfg(test)]
mod tests;
