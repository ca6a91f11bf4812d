//! Who a peer is, by its chain: webpki for signatures and validity, then the rules of SPIFFE.
//!
//! No URI name constraint is looked at, because webpki refuses every chain that has one
//! (docs/decisions/0105-no-uri-name-constraints.md): that an authority speaks for its own trust domain alone is checked
//! here, by keeping the roots of each trust domain apart.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{verify_tls12_signature, verify_tls13_signature};
use rustls::pki_types::{CertificateDer, ServerName, TrustAnchor, UnixTime};
use rustls::server::danger::{ClientCertVerified, ClientCertVerifier};
use rustls::{CertificateError, DigitallySignedStruct, DistinguishedName, OtherError, SignatureScheme};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

use crate::{Leaf, SpiffeError, SpiffeId, TrustBundle, provider, svid};

/// Longest chain that is looked at: a leaf and two intermediates. Ours has one.
pub const MAX_CHAIN: usize = 3;

/// Why a peer's certificate is refused. [`Refused::label`] is the word in metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("the peer showed no certificate")]
    None,
    #[error("a certificate cannot be parsed")]
    Malformed,
    #[error("the chain has {0} certificates, at most {MAX_CHAIN} are taken")]
    TooLong(usize),
    #[error("the leaf is a certificate of an authority")]
    LeafIsCa,
    #[error("the leaf may sign certificates or revocation lists")]
    LeafSigns,
    #[error("the leaf's key usage has no digitalSignature")]
    KeyUsage,
    #[error("the leaf is not for clients and servers (extended key usage)")]
    Purpose,
    #[error("the key is none of P-256, P-384, Ed25519 and RSA from 2,048 bits")]
    Key,
    #[error("the leaf names no URI, so it has no SPIFFE ID")]
    NoUri,
    #[error("the leaf names several URIs; an SVID has exactly one")]
    SeveralUris,
    #[error("the leaf's URI is no SPIFFE ID: {0}")]
    Id(SpiffeError),
    #[error("its trust domain `{0}` is not ours and not federated")]
    TrustDomain(String),
    #[error("the issuer is no authority (CA flag)")]
    IssuerIsNoCa,
    #[error("the issuer may not sign certificates (key usage without keyCertSign)")]
    IssuerDoesNotSign,
    #[error("it has expired")]
    Expired,
    #[error("it is not valid yet; compare the clocks of both machines")]
    NotYetValid,
    #[error("the root that it leads to has expired")]
    RootExpired,
    #[error("it was not signed by an authority of its trust domain")]
    UnknownIssuer,
    #[error("it is {found}, expected {expected}")]
    Identity { found: SpiffeId, expected: String },
    #[error("{0}")]
    Other(String),
}

impl Refused {
    /// Returns the word in metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::None => "no_certificate",
            Self::Malformed => "malformed",
            Self::TooLong(_) => "chain_length",
            Self::LeafIsCa | Self::LeafSigns => "leaf_is_ca",
            Self::KeyUsage | Self::Purpose => "usage",
            Self::Key => "weak_key",
            Self::NoUri | Self::SeveralUris | Self::Id(_) => "spiffe_id",
            Self::TrustDomain(_) => "trust_domain",
            Self::IssuerIsNoCa | Self::IssuerDoesNotSign => "issuer_usage",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::RootExpired => "root_expired",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Identity { .. } => "identity",
            Self::Other(_) => "other",
        }
    }

    pub(crate) fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        match error {
            Error::CertExpired { .. } => Self::Expired,
            Error::CertNotValidYet { .. } => Self::NotYetValid,
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Self::UnknownIssuer,
            Error::EndEntityUsedAsCa => Self::IssuerIsNoCa,
            Error::CaUsedAsEndEntity => Self::LeafIsCa,
            other => Self::Other(other.to_string()),
        }
    }
}

impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        // The alert that the peer gets says what it can act on; our log has the words.
        Self::InvalidCertificate(match refused {
            Refused::Expired => CertificateError::Expired,
            Refused::NotYetValid => CertificateError::NotValidYet,
            Refused::UnknownIssuer => CertificateError::UnknownIssuer,
            Refused::Malformed => CertificateError::BadEncoding,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

/// A root, with the end of its validity: webpki takes an anchor for valid for ever.
struct Root {
    anchor: TrustAnchor<'static>,
    not_after: SystemTime,
}

/// The roots of each trust domain whose members may be peers, apart from each other.
pub struct Verifier {
    own: String,
    domains: BTreeMap<String, Vec<Root>>,
}

impl fmt::Debug for Verifier {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let roots: BTreeMap<_, _> = self.domains.iter().map(|(domain, roots)| (domain, roots.len())).collect();
        formatter.debug_struct("Verifier").field("own", &self.own).field("roots", &roots).finish()
    }
}

impl Verifier {
    /// Trusts the roots of one bundle, for its own trust domain. A root that is none is an error.
    pub fn new(bundle: &TrustBundle) -> Result<Self, Refused> {
        let own = bundle.trust_domain.as_str().to_owned();
        let mut roots = Vec::new();
        for der in &bundle.roots {
            svid::issuer(der)?;
            let anchor = anchor_from_trusted_cert(der).map_err(|_| Refused::Malformed)?.to_owned();
            roots.push(Root { anchor, not_after: svid::validity(der)?.1 });
        }
        Ok(Self { domains: BTreeMap::from([(own.clone(), roots)]), own })
    }

    /// Returns the name of our own trust domain.
    #[must_use]
    pub fn own(&self) -> &str {
        &self.own
    }

    /// Verifies a chain, leaf first, as that of a client and of a server; returns what its leaf says.
    pub fn verify(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<Leaf, Refused> {
        let (first, intermediates) = chain.split_first().ok_or(Refused::None)?;
        self.verify_parts(first, intermediates, now)
    }

    fn verify_parts(
        &self,
        first: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: SystemTime,
    ) -> Result<Leaf, Refused> {
        if intermediates.len() >= MAX_CHAIN {
            return Err(Refused::TooLong(intermediates.len() + 1));
        }
        let leaf = svid::leaf(first)?;
        let domain = leaf.id.trust_domain();
        let roots = self.domains.get(domain).ok_or_else(|| Refused::TrustDomain(domain.to_owned()))?;
        for intermediate in intermediates {
            svid::issuer(intermediate)?;
        }
        let alive: Vec<_> = roots.iter().filter(|root| root.not_after > now).map(|root| root.anchor.clone()).collect();
        if alive.is_empty() && !roots.is_empty() {
            return Err(Refused::RootExpired);
        }
        let time = unix(now);
        let provider = provider();
        let algorithms = provider.signature_verification_algorithms.all;
        let entity = EndEntityCert::try_from(first).map_err(|_| Refused::Malformed)?;
        entity
            .verify_for_usage(algorithms, &alive, intermediates, time, KeyUsage::server_auth(), None, None)
            .map_err(|error| Refused::of(&error))?;
        Ok(leaf)
    }
}

fn unix(now: SystemTime) -> UnixTime {
    UnixTime::since_unix_epoch(now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default())
}

fn system(now: UnixTime) -> SystemTime {
    SystemTime::UNIX_EPOCH + std::time::Duration::from_secs(now.as_secs())
}

/// rustls's door to a [`Verifier`], for both sides of a handshake.
#[derive(Debug)]
pub(crate) struct Door {
    pub(crate) verifier: Arc<Verifier>,
    /// Whom a client of ours wants to speak to; discovery cannot change it.
    pub(crate) expected: Vec<SpiffeId>,
    /// Whether a server of ours lets clients in that show no certificate.
    pub(crate) optional: bool,
}

impl ClientCertVerifier for Door {
    fn root_hint_subjects(&self) -> &[DistinguishedName] {
        // Clients have one identity; a list would only tell everybody which authorities there are.
        &[]
    }

    fn client_auth_mandatory(&self) -> bool {
        !self.optional
    }

    fn verify_client_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        now: UnixTime,
    ) -> Result<ClientCertVerified, rustls::Error> {
        self.verifier.verify_parts(end_entity, intermediates, system(now))?;
        Ok(ClientCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls12_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        verify_tls13_signature(message, cert, dss, &provider().signature_verification_algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        provider().signature_verification_algorithms.supported_schemes()
    }
}

impl ServerCertVerifier for Door {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let leaf = self.verifier.verify_parts(end_entity, intermediates, system(now))?;
        if !self.expected.contains(&leaf.id) {
            let expected = self.expected.iter().map(SpiffeId::as_str).collect::<Vec<_>>().join(" or ");
            return Err(Refused::Identity { found: leaf.id, expected }.into());
        }
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls12_signature(self, message, cert, dss)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        cert: &CertificateDer<'_>,
        dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        ClientCertVerifier::verify_tls13_signature(self, message, cert, dss)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        ClientCertVerifier::supported_verify_schemes(self)
    }
}
