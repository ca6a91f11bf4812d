//! Why a peer is refused, and how that reaches the log through rustls.

use std::fmt;
use std::io;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::UnixTime;
use rustls::{CertificateError, OtherError};

use crate::verify::MAX_CHAIN;
use crate::{SpiffeError, SpiffeId};

/// Which certificate of a chain is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(missing_docs, reason = "they are named as the certificates are")]
pub enum Part {
    Leaf,
    Intermediate,
    Root,
}

impl fmt::Display for Part {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(match self {
            Self::Leaf => "leaf",
            Self::Intermediate => "intermediate certificate",
            Self::Root => "root",
        })
    }
}

/// Why a peer's certificate is refused. [`Refused::label`] is the word in metrics.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Refused {
    #[error("the peer showed no certificate")]
    None,
    #[error("a certificate cannot be parsed")]
    Malformed,
    #[error("the serial number of the {0} is none: it must be positive and have 20 bytes at most")]
    Serial(Part),
    #[error("the {0} ends to be valid before it begins")]
    Validity(Part),
    #[error("the chain has {0} certificates, at most {MAX_CHAIN} are taken")]
    TooLong(usize),
    #[error("the chain is longer than an authority in it allows (path length)")]
    PathLength,
    #[error("the leaf is a certificate of an authority")]
    LeafIsCa,
    #[error("the leaf may sign certificates or revocation lists")]
    LeafSigns,
    #[error("the leaf's key usage has no digitalSignature")]
    KeyUsage,
    #[error("the leaf is not for clients and servers (extended key usage)")]
    Purpose,
    #[error("the key of the {0} is none of P-256, P-384, Ed25519 and RSA of 2,048 to 8,192 bits")]
    Key(Part),
    #[error("a certificate is signed by an algorithm that is not taken, such as one with SHA-1")]
    SignatureAlgorithm,
    #[error("a certificate has a critical extension that is not known here")]
    CriticalExtension,
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
    #[error("the issuer is not for certificates of clients and servers (extended key usage)")]
    IssuerPurpose,
    #[error(
        "the issuer names itself `{found}`, an authority of `{expected}` is `spiffe://{expected}` or has no SPIFFE ID"
    )]
    IssuerId { found: String, expected: String },
    #[error("an authority has URI name constraints, which webpki does not check; issue it without them")]
    UriConstraints,
    #[error("a name of the leaf is outside of an authority's name constraints")]
    NameConstraints,
    #[error("the {part} has expired {ago:?} ago")]
    Expired { part: Part, ago: Duration },
    #[error("the {part} is not valid yet, but in {ahead:?}; compare the clocks of both machines")]
    NotYetValid { part: Part, ahead: Duration },
    #[error("it was not signed by an authority of its trust domain")]
    UnknownIssuer,
    #[error("it is {found}, expected {expected}")]
    Identity { found: SpiffeId, expected: String },
    #[error("the trust bundle has no root")]
    NoRoot,
    #[error("this gateway has no identity yet, so it has nothing to check by")]
    NoIdentity,
    #[error("{0}")]
    Other(String),
}

impl Refused {
    /// Returns the word in metrics and logs.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::None => "no_certificate",
            Self::Malformed | Self::Serial(_) | Self::Validity(_) | Self::CriticalExtension => "malformed",
            Self::TooLong(_) | Self::PathLength => "chain_length",
            Self::LeafIsCa | Self::LeafSigns => "leaf_is_ca",
            Self::KeyUsage | Self::Purpose => "usage",
            Self::Key(_) | Self::SignatureAlgorithm => "weak_key",
            Self::NoUri | Self::SeveralUris | Self::Id(_) => "spiffe_id",
            Self::TrustDomain(_) => "trust_domain",
            Self::IssuerIsNoCa | Self::IssuerDoesNotSign | Self::IssuerPurpose | Self::IssuerId { .. } => {
                "issuer_usage"
            }
            Self::UriConstraints | Self::NameConstraints => "name_constraints",
            Self::Expired { part: Part::Leaf, .. } => "expired",
            Self::Expired { part: Part::Intermediate, .. } => "issuer_expired",
            Self::Expired { part: Part::Root, .. } => "root_expired",
            Self::NotYetValid { .. } => "not_yet_valid",
            Self::UnknownIssuer => "unknown_issuer",
            Self::Identity { .. } => "identity",
            Self::NoRoot => "no_root",
            Self::NoIdentity => "no_identity",
            Self::Other(_) => "other",
        }
    }

    /// Turns webpki's reason into ours. The leaf's own validity was checked before, so a time here is an issuer's.
    pub(crate) fn of(error: &webpki::Error) -> Self {
        use webpki::Error;
        let between = |from: &UnixTime, to: &UnixTime| Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()));
        match error {
            Error::CertExpired { time, not_after } => {
                Self::Expired { part: Part::Intermediate, ago: between(not_after, time) }
            }
            Error::CertNotValidYet { time, not_before } => {
                Self::NotYetValid { part: Part::Intermediate, ahead: between(time, not_before) }
            }
            Error::UnknownIssuer | Error::InvalidSignatureForPublicKey => Self::UnknownIssuer,
            Error::EndEntityUsedAsCa => Self::IssuerIsNoCa,
            Error::CaUsedAsEndEntity => Self::LeafIsCa,
            Error::PathLenConstraintViolated => Self::PathLength,
            Error::NameConstraintViolation => Self::NameConstraints,
            Error::RequiredEkuNotFoundContext(_) | Error::EmptyEkuExtension => Self::IssuerPurpose,
            Error::UnsupportedCriticalExtension => Self::CriticalExtension,
            Error::InvalidCertValidity => Self::Validity(Part::Intermediate),
            Error::InvalidSerialNumber => Self::Serial(Part::Intermediate),
            Error::UnsupportedSignatureAlgorithmContext(_)
            | Error::UnsupportedSignatureAlgorithmForPublicKeyContext(_) => Self::SignatureAlgorithm,
            Error::BadDer | Error::BadDerTime | Error::TrailingData(_) | Error::ExtensionValueInvalid => {
                Self::Malformed
            }
            other => Self::Other(format!("webpki: {other}")),
        }
    }
}

/// The alert that the peer gets says what it can act on; [`refusal`] finds the words for our log again.
impl From<Refused> for rustls::Error {
    fn from(refused: Refused) -> Self {
        Self::InvalidCertificate(match refused {
            Refused::Expired { part: Part::Leaf, ago } => CertificateError::ExpiredContext {
                time: UnixTime::since_unix_epoch(ago),
                not_after: UnixTime::since_unix_epoch(Duration::ZERO),
            },
            Refused::NotYetValid { part: Part::Leaf, ahead } => CertificateError::NotValidYetContext {
                time: UnixTime::since_unix_epoch(Duration::ZERO),
                not_before: UnixTime::since_unix_epoch(ahead),
            },
            Refused::UnknownIssuer => CertificateError::UnknownIssuer,
            Refused::Malformed => CertificateError::BadEncoding,
            other => CertificateError::Other(OtherError(Arc::new(other))),
        })
    }
}

/// Returns why *we* refused the peer's certificate, out of the error of a handshake (rustls's, or the [`io::Error`] around
/// it); `None` for an error of another kind, such as a lost connection or an alert of the peer.
#[must_use]
pub fn refusal(error: &(dyn std::error::Error + 'static)) -> Option<Refused> {
    if let Some(error) = error.downcast_ref::<io::Error>() {
        return refusal(error.get_ref()?);
    }
    match error.downcast_ref::<rustls::Error>() {
        Some(rustls::Error::InvalidCertificate(error)) => Some(of_rustls(error)),
        Some(rustls::Error::NoCertificatesPresented) => Some(Refused::None),
        Some(_) => None,
        None => refusal(error.source()?),
    }
}

fn of_rustls(error: &CertificateError) -> Refused {
    let between = |from: &UnixTime, to: &UnixTime| Duration::from_secs(to.as_secs().saturating_sub(from.as_secs()));
    match error {
        CertificateError::ExpiredContext { time, not_after } => {
            Refused::Expired { part: Part::Leaf, ago: between(not_after, time) }
        }
        CertificateError::NotValidYetContext { time, not_before } => {
            Refused::NotYetValid { part: Part::Leaf, ahead: between(time, not_before) }
        }
        CertificateError::UnknownIssuer => Refused::UnknownIssuer,
        CertificateError::BadEncoding => Refused::Malformed,
        CertificateError::Other(OtherError(inner)) => {
            inner.downcast_ref::<Refused>().cloned().unwrap_or_else(|| Refused::Other(inner.to_string()))
        }
        // What rustls finds by itself, such as a signature of the handshake that is not by the leaf's key.
        other => Refused::Other(other.to_string()),
    }
}
