//! Who a peer is, by the certificate that it was verified with.

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

/// Returns the SPIFFE ID of a chain that was verified, leaf first.
///
/// A certificate with no URI name or with several has none: "An X.509 SVID MUST contain exactly one URI SAN"
/// (X509-SVID, 2).
#[must_use]
pub fn spiffe_id(chain: &[CertificateDer<'_>]) -> Option<String> {
    let leaf = EndEntityCert::try_from(chain.first()?).ok()?;
    let mut names = leaf.valid_uri_names();
    let only = names.next().filter(|_| names.next().is_none())?;
    only.starts_with("spiffe://").then(|| only.to_owned())
}

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn id(uris: &[&str]) -> Option<String> {
        let mut params = CertificateParams::new(vec!["a.example".to_owned()]).unwrap();
        params.subject_alt_names.extend(uris.iter().map(|uri| SanType::URI((*uri).try_into().unwrap())));
        let certificate = params.self_signed(&KeyPair::generate().unwrap()).unwrap();
        spiffe_id(&[certificate.der().clone()])
    }

    #[test]
    fn the_one_uri_name_is_the_id() {
        assert_eq!(id(&["spiffe://example.org/svc/web"]).as_deref(), Some("spiffe://example.org/svc/web"));
        assert_eq!(id(&[]), None);
        assert_eq!(id(&["https://example.org/"]), None);
        assert_eq!(id(&["spiffe://example.org/svc/web", "spiffe://example.org/svc/admin"]), None);
        assert_eq!(spiffe_id(&[]), None);
    }
}
