//! Who a peer is, by the certificate that it was verified with.

use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

use crate::SpiffeId;

/// Returns the SHA-256 of a certificate, DER: what it is known by.
#[must_use]
pub fn fingerprint(certificate: &[u8]) -> [u8; 32] {
    let digest = ring::digest::digest(&ring::digest::SHA256, certificate);
    digest.as_ref().try_into().unwrap_or_default()
}

/// A peer of the mesh, once its chain was verified.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Peer {
    /// Who it is.
    pub id: SpiffeId,
    /// Its leaf's serial number, hexadecimal, lower case.
    pub serial: String,
    /// The last second in which all certificates of its path are valid: its leaf, the intermediates, the root.
    pub not_after: SystemTime,
    /// SHA-256 of its leaf, DER: the `Hash` of `x-forwarded-client-cert`, where it stands in hexadecimal.
    pub fingerprint: [u8; 32],
}

impl Peer {
    /// Returns the fingerprint in hexadecimal, lower case.
    #[must_use]
    pub fn hash(&self) -> String {
        crate::hex(&self.fingerprint)
    }
}

/// Returns the SPIFFE ID of a chain that was verified, leaf first.
///
/// A certificate with no URI name or with several has none: "An X.509 SVID MUST contain exactly one URI SAN"
/// (X509-SVID, 2). Nor has one whose name is not in the one form that an ID has.
#[must_use]
pub fn spiffe_id(chain: &[CertificateDer<'_>]) -> Option<SpiffeId> {
    let leaf = EndEntityCert::try_from(chain.first()?).ok()?;
    let mut names = leaf.valid_uri_names();
    let only = names.next().filter(|_| names.next().is_none())?;
    only.parse().ok()
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn id(uris: &[&str]) -> Option<String> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        spiffe_id(&[certificate.der().clone()]).map(|id| id.to_string())
    }

    #[test]
    fn the_one_uri_name_is_the_id() {
        assert_eq!(id(&["spiffe://example.org/svc/web"]).as_deref(), Some("spiffe://example.org/svc/web"));
        assert_eq!(id(&[]), None);
        assert_eq!(id(&["https://example.org/"]), None);
        for other_form in ["spiffe://Example.org/svc/web", "spiffe://example.org/svc/../web", "spiffe://example.org"] {
            assert_eq!(id(&[other_form]), None, "{other_form}");
        }
        assert_eq!(id(&["spiffe://example.org/svc/web", "spiffe://example.org/svc/admin"]), None);
        assert_eq!(spiffe_id(&[]), None);
    }
}
