//! The bodies of the protocol, version 1: docs/ca-protocol.md is the text for other implementations.
//!
//! What is asked is read strictly: an unknown field is an error, so that nobody believes in a request that means less
//! here than he thinks. Answers may grow: who reads them ignores what he does not know.

use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, CertificateSigningRequestDer};
use serde::{Deserialize, Serialize};

use super::Issued;
use crate::attest::{Challenge, Method};
use crate::{Part, REFRESH_HINT, TrustBundle, TrustDomain, pem, svid};

/// Path of the authority's own SPIFFE ID.
pub(crate) const SERVING: &str = "/meshless/ca";

pub(crate) const BUNDLE: &str = "/v1/bundle";
pub(crate) const CHALLENGE: &str = "/v1/challenge";
pub(crate) const ISSUE: &str = "/v1/issue";
pub(crate) const RENEW: &str = "/v1/renew";

/// Largest body of a request, in bytes: a CSR and evidence of 16 KiB each, as base64 and JSON make them longer.
pub(crate) const REQUEST_BYTES: usize = 64 * 1024;
/// Largest body of an answer, in bytes: a chain, and a bundle while roots are replaced, many times over.
pub(crate) const ANSWER_BYTES: usize = 256 * 1024;
/// Largest CSR, DER, and largest evidence, JSON, in bytes.
pub(crate) const PART_BYTES: usize = 16 * 1024;
/// How long a nonce can be used.
pub(crate) const NONCE_AGE: Duration = Duration::from_mins(1);

/// Roots, and what stands beside them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct BundleBody {
    pub(crate) trust_domain: String,
    pub(crate) sequence: u64,
    /// Seconds.
    pub(crate) refresh_hint: u64,
    /// PEM, one after the other.
    pub(crate) roots: String,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ChallengeRequest {
    /// SHA-256 of the public key (SPKI, DER), hexadecimal, lower case.
    pub(crate) key: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ChallengeBody {
    pub(crate) authority: String,
    pub(crate) nonce: String,
    pub(crate) key: String,
    /// Seconds.
    pub(crate) expires_in: u64,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct IssueRequest {
    /// PEM.
    pub(crate) csr: String,
    pub(crate) method: Method,
    pub(crate) evidence: serde_json::Value,
    pub(crate) nonce: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) service: Option<String>,
}

#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct RenewRequest {
    /// PEM.
    pub(crate) csr: String,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct IssuedBody {
    pub(crate) id: String,
    /// PEM, leaf first, without the root.
    pub(crate) chain: String,
    pub(crate) bundle: BundleBody,
    /// Seconds since 1970.
    pub(crate) not_after: u64,
    /// Half of the lifetime, seconds since 1970.
    pub(crate) renew_after: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct ErrorBody {
    /// For people.
    pub(crate) error: String,
    /// A word for machines.
    #[serde(default)]
    pub(crate) reason: String,
    /// Seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) retry_after: Option<u64>,
}

impl BundleBody {
    pub(crate) fn of(bundle: &TrustBundle) -> Self {
        Self {
            trust_domain: bundle.trust_domain.to_string(),
            sequence: bundle.sequence,
            refresh_hint: bundle.refresh_hint.as_secs(),
            roots: bundle.to_pem(),
        }
    }

    /// Reads it; the error says what is wrong.
    pub(crate) fn read(&self) -> Result<TrustBundle, String> {
        let trust_domain: TrustDomain =
            self.trust_domain.parse().map_err(|why| format!("the bundle's trust domain: {why}"))?;
        let mut bundle = TrustBundle::from_pem(trust_domain, self.roots.as_bytes(), Path::new("the bundle"))
            .map_err(|why| why.to_string())?;
        bundle.sequence = self.sequence;
        bundle.refresh_hint =
            if self.refresh_hint == 0 { REFRESH_HINT } else { Duration::from_secs(self.refresh_hint) };
        Ok(bundle)
    }
}

impl ChallengeBody {
    pub(crate) fn of(challenge: Challenge) -> Self {
        let Challenge { authority, nonce, key } = challenge;
        Self { authority, nonce, key, expires_in: NONCE_AGE.as_secs() }
    }
}

impl IssuedBody {
    /// A leaf that cannot be read is an error: the authority does not hand out what is none.
    pub(crate) fn of(issued: &Issued) -> Result<Self, String> {
        let leaf = issued.chain.first().ok_or("the chain is empty")?;
        let (from, until) = svid::validity(leaf, Part::Leaf).map_err(|why| why.to_string())?;
        let half = from + until.duration_since(from).unwrap_or_default() / 2;
        Ok(Self {
            id: issued.id.to_string(),
            chain: pem::encode_chain(&issued.chain),
            bundle: BundleBody::of(&issued.bundle),
            not_after: seconds(issued.not_after),
            renew_after: seconds(half),
        })
    }
}

/// Returns the DER of a CSR in PEM.
pub(crate) fn read_csr(text: &str) -> Result<Vec<u8>, &'static str> {
    let der = CertificateSigningRequestDer::from_pem_slice(text.as_bytes()).map_err(|_| "csr: it is no PEM")?;
    if der.len() > PART_BYTES { Err("csr: it is longer than 16 KiB") } else { Ok(der.to_vec()) }
}

/// Returns the certificates of a PEM text; there is at least one.
pub(crate) fn read_chain(text: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text.as_bytes()).collect();
    match chain {
        Ok(chain) if chain.is_empty() => Err("the chain is empty".to_owned()),
        Ok(chain) => Ok(chain),
        Err(why) => Err(format!("the chain: {why}")),
    }
}

fn seconds(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_field_of_a_request_is_an_error_and_one_of_an_answer_is_not() {
        assert!(serde_json::from_str::<RenewRequest>(r#"{"csr":"x","lifetime":"1y"}"#).is_err());
        assert!(serde_json::from_str::<ChallengeRequest>(r#"{"key":"x","id":"/svc/admin"}"#).is_err());
        let body = r#"{"authority":"example.org","nonce":"n","key":"k","expires_in":60,"later":1}"#;
        assert!(serde_json::from_str::<ChallengeBody>(body).is_ok());
    }

    #[test]
    fn what_is_no_csr_says_so() {
        assert_eq!(read_csr("hello"), Err("csr: it is no PEM"));
        assert_eq!(read_csr(&pem::encode("CERTIFICATE", b"x")), Err("csr: it is no PEM"));
        assert_eq!(read_csr(&pem::encode("CERTIFICATE REQUEST", b"x")), Ok(b"x".to_vec()));
        let long = pem::encode("CERTIFICATE REQUEST", &vec![0; PART_BYTES + 1]);
        assert_eq!(read_csr(&long), Err("csr: it is longer than 16 KiB"));
    }

    #[test]
    fn a_bundle_comes_back_as_it_was() {
        let root = rcgen::generate_simple_self_signed(vec!["root".to_owned()]).unwrap();
        let bundle = TrustBundle {
            trust_domain: "example.org".parse().unwrap(),
            sequence: 7,
            roots: vec![root.cert.der().clone()],
            refresh_hint: Duration::from_mins(1),
        };
        assert_eq!(BundleBody::of(&bundle).read(), Ok(bundle.clone()));
        let mut broken = BundleBody::of(&bundle);
        broken.roots = "nothing".to_owned();
        assert!(broken.read().unwrap_err().contains("no certificate"));
    }
}
