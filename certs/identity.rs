//! Who we are: SPIFFE ID, chain, key and trust bundle as one value.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::sign::CertifiedKey;
use zeroize::Zeroizing;

use crate::provider::signing_key;
use crate::{Leaf, Refused, SpiffeId, TrustBundle, Verifier};

/// The identity of this workload. Its parts never stand alone, so nobody sees a chain beside another's key, or a leaf
/// beside a bundle that does not know its issuer.
pub struct Identity {
    leaf: Leaf,
    chain: Vec<CertificateDer<'static>>,
    /// PKCS#8, wiped when it is dropped.
    key: Zeroizing<Vec<u8>>,
    certified: Arc<CertifiedKey>,
    bundle: Arc<TrustBundle>,
    verifier: Arc<Verifier>,
}

/// Why parts make no identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The bundle or the chain is not what an SVID must be.
    #[error("{what}: {why}")]
    Refused {
        /// `the bundle` or `the chain`.
        what: &'static str,
        /// Why.
        why: Refused,
    },
    /// The key is none, or another's.
    #[error("the key does not fit the chain: {0}")]
    Key(rustls::Error),
}

impl Identity {
    /// Puts an identity together and checks it as a peer would: `chain` is leaf first, without the root, `key` is PKCS#8.
    /// An identity that has expired, or is not valid yet, is an error too.
    pub fn new(
        chain: Vec<CertificateDer<'static>>,
        key: Zeroizing<Vec<u8>>,
        bundle: Arc<TrustBundle>,
        now: SystemTime,
    ) -> Result<Self, IdentityError> {
        let verifier = Verifier::new(&bundle).map_err(|why| IdentityError::Refused { what: "the bundle", why })?;
        let leaf = verifier.verify(&chain, now).map_err(|why| IdentityError::Refused { what: "the chain", why })?;
        let signing = signing_key(&PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.as_slice())));
        let certified = CertifiedKey::new(chain.clone(), signing.map_err(IdentityError::Key)?);
        certified.keys_match().map_err(IdentityError::Key)?;
        let (certified, verifier) = (Arc::new(certified), Arc::new(verifier));
        Ok(Self { leaf, chain, key, certified, bundle, verifier })
    }

    /// The same leaf and key beside another bundle; an error if the bundle does not know the leaf's issuer.
    pub fn with_bundle(&self, bundle: Arc<TrustBundle>, now: SystemTime) -> Result<Self, IdentityError> {
        Self::new(self.chain.clone(), self.key.clone(), bundle, now)
    }

    /// Returns our SPIFFE ID.
    #[must_use]
    pub fn id(&self) -> &SpiffeId {
        &self.leaf.id
    }

    /// Returns what the leaf says.
    #[must_use]
    pub fn leaf(&self) -> &Leaf {
        &self.leaf
    }

    /// Returns the chain, leaf first.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// Returns the private key, PKCS#8 DER. For those who write it where it is kept; never for a log.
    #[must_use]
    pub fn key(&self) -> &[u8] {
        &self.key
    }

    /// Returns whom we trust.
    #[must_use]
    pub fn bundle(&self) -> &Arc<TrustBundle> {
        &self.bundle
    }

    /// Returns what peers are checked by.
    #[must_use]
    pub fn verifier(&self) -> &Arc<Verifier> {
        &self.verifier
    }

    pub(crate) fn certified(&self) -> &Arc<CertifiedKey> {
        &self.certified
    }

    /// Returns when to renew: at half of the lifetime, 10 % of it sooner or later. `luck` is from 0 to 1.
    #[must_use]
    pub fn renew_at(&self, luck: f64) -> SystemTime {
        renewal(self.leaf.not_before, self.leaf.not_after, luck)
    }

    /// Returns how long the leaf is still valid; zero once it has expired.
    #[must_use]
    pub fn left(&self, now: SystemTime) -> Duration {
        self.leaf.not_after.duration_since(now).unwrap_or_default()
    }
}

fn renewal(not_before: SystemTime, not_after: SystemTime, luck: f64) -> SystemTime {
    let lifetime = not_after.duration_since(not_before).unwrap_or_default();
    let share = (luck.clamp(0.0, 1.0) - 0.5).mul_add(0.2, 0.5);
    not_before + lifetime.mul_f64(share)
}

/// The key stays out of every output.
impl fmt::Debug for Identity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Identity")
            .field("leaf", &self.leaf)
            .field("bundle_sequence", &self.bundle.sequence)
            .finish_non_exhaustive()
    }
}

/// Waits until who we are changed, then returns all of it. The first call answers as soon as there is an identity.
///
/// Like a source of endpoints: all or nothing, no retry, no spawn. The one runner deals with failure.
#[async_trait]
pub trait IdentitySource: fmt::Debug + Send {
    /// Returns the next identity.
    async fn next(&mut self) -> Result<Arc<Identity>, SourceError>;
}

/// Why an identity source has no answer, by what the caller can do.
#[derive(Debug, thiserror::Error)]
pub enum SourceError {
    /// The authority refuses us: asking again the same way will not help soon.
    #[error("the authority refuses: {0}")]
    Denied(String),
    /// What came cannot be used.
    #[error("{0}")]
    Malformed(String),
    /// Too often; ask again after this time.
    #[error("the authority asks for patience")]
    Throttled {
        /// How long.
        retry_after: Option<Duration>,
    },
    /// Nobody answers.
    #[error("{0}")]
    Unreachable(String),
}

impl SourceError {
    /// Returns the word in metrics.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::Denied(_) => "denied",
            Self::Malformed(_) => "malformed",
            Self::Throttled { .. } => "throttled",
            Self::Unreachable(_) => "unreachable",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_leaf_is_renewed_around_half_of_its_life() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_hours(1_000);
        let after = |luck| renewal(begin, begin + Duration::from_hours(10), luck).duration_since(begin).unwrap();
        for (luck, minutes) in [(0.0, 240), (0.5, 300), (1.0, 360), (-7.0, 240), (7.0, 360)] {
            let expected = Duration::from_mins(minutes);
            assert!(after(luck).abs_diff(expected) < Duration::from_millis(1), "{luck}: {:?}", after(luck));
        }
        assert_eq!(renewal(begin, begin, 0.7), begin);
        assert_eq!(renewal(begin, begin - Duration::from_hours(1), 0.7), begin);
    }
}
