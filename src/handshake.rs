//! Why a TLS handshake failed, as a word for metrics and as a sentence for a log (pure).

use std::io;

use meshless_certs::{NoIdentity, Refused, refusal};
use rustls::{Error, InvalidMessage, PeerIncompatible};

/// The word where we have no identity to show: no peer is to blame for it.
pub(crate) const NO_IDENTITY: &str = "no_identity";

/// Why a handshake failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Failed {
    /// The word in metrics.
    pub(crate) label: &'static str,
    /// For a log and for the answer of a request that it ended.
    pub(crate) why: String,
}

impl Failed {
    /// Reads the error of a handshake by given certificates, whose rules are not ours: in rustls's own words.
    pub(crate) fn by_files(error: &io::Error) -> Self {
        Self { label: "tls", why: format!("TLS: {error}") }
    }

    /// Reads the error of a handshake of the mesh, on either side.
    pub(crate) fn of(error: &io::Error) -> Self {
        let inner = error.get_ref().and_then(|inner| inner.downcast_ref::<Error>());
        let Some(error) = inner else {
            // The peer left, or the network did.
            return Self { label: "tls_closed", why: format!("TLS: {error}") };
        };
        if let Some(refused) = refusal(error) {
            return Self::refused(&refused);
        }
        let label = match error {
            Error::AlertReceived(_) => "tls_alert",
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => "tls_plaintext",
            Error::NoApplicationProtocol => "tls_alpn",
            Error::PeerIncompatible(
                PeerIncompatible::SupportedVersionsExtensionRequired
                | PeerIncompatible::ServerDoesNotSupportTls12Or13
                | PeerIncompatible::Tls12NotOffered
                | PeerIncompatible::Tls12NotOfferedOrEnabled
                | PeerIncompatible::Tls13RequiredForQuic
                | PeerIncompatible::ServerTlsVersionIsDisabledByOurConfig,
            ) => "tls_version",
            _ => "tls",
        };
        let why = match error {
            Error::AlertReceived(alert) => format!("TLS: the peer refuses us ({alert:?}); its log says why"),
            Error::InvalidMessage(InvalidMessage::InvalidContentType) => "TLS: the peer does not speak TLS".to_owned(),
            error => format!("TLS: {error}"),
        };
        Self { label, why }
    }

    /// A certificate was refused.
    pub(crate) fn refused(refused: &Refused) -> Self {
        let label = match refused.label() {
            "chain_length" => "tls_chain_length",
            "expired" => "tls_expired",
            "identity" => "tls_identity",
            "issuer_expired" => "tls_issuer_expired",
            "issuer_usage" => "tls_issuer_usage",
            "leaf_is_ca" => "tls_leaf_is_ca",
            "malformed" => "tls_malformed",
            "name_constraints" => "tls_name_constraints",
            "no_certificate" => "tls_no_certificate",
            "no_identity" => NO_IDENTITY,
            "no_root" => "tls_no_root",
            "not_yet_valid" => "tls_not_yet_valid",
            "root_expired" => "tls_root_expired",
            "spiffe_id" => "tls_spiffe_id",
            "trust_domain" => "tls_trust_domain",
            "unknown_issuer" => "tls_unknown_issuer",
            "usage" => "tls_usage",
            "weak_key" => "tls_weak_key",
            _ => "tls_certificate",
        };
        Self { label, why: format!("the certificate of the peer is refused: {refused}") }
    }

    /// We have nothing to show.
    pub(crate) fn no_identity(error: &NoIdentity) -> Self {
        Self { label: NO_IDENTITY, why: error.to_string() }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use meshless_certs::Part;

    use super::*;

    fn failed(error: Error) -> Failed {
        Failed::of(&io::Error::new(io::ErrorKind::InvalidData, error))
    }

    #[test]
    fn what_the_verifier_refused_comes_out_of_a_handshake_as_it_was_said() {
        let found = "spiffe://example.org/svc/other".parse().unwrap();
        let expected = "spiffe://example.org/svc/web".to_owned();
        for (refused, label) in [
            (Refused::Identity { found, expected }, "tls_identity"),
            (Refused::Expired { part: Part::Leaf, ago: Duration::from_secs(7) }, "tls_expired"),
            (Refused::Expired { part: Part::Root, ago: Duration::from_secs(7) }, "tls_root_expired"),
            (Refused::NotYetValid { part: Part::Leaf, ahead: Duration::from_secs(7) }, "tls_not_yet_valid"),
            (Refused::UnknownIssuer, "tls_unknown_issuer"),
            (Refused::TrustDomain("other.org".to_owned()), "tls_trust_domain"),
            (Refused::SeveralUris, "tls_spiffe_id"),
        ] {
            let failed = failed(refused.clone().into());
            assert_eq!((failed.label, failed.why.contains(&refused.to_string())), (label, true), "{failed:?}");
        }
        assert_eq!(failed(Error::NoCertificatesPresented).label, "tls_no_certificate");
    }

    #[test]
    fn clear_text_a_peer_that_leaves_and_one_that_refuses_us_are_told_apart() {
        assert_eq!(failed(InvalidMessage::InvalidContentType.into()).label, "tls_plaintext");
        assert_eq!(failed(Error::AlertReceived(rustls::AlertDescription::CertificateExpired)).label, "tls_alert");
        assert_eq!(Failed::of(&io::ErrorKind::UnexpectedEof.into()).label, "tls_closed");
    }
}
