//! The trust bundle: the roots that a trust domain's certificates are checked against.

use std::time::Duration;

use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject;

use crate::{Error, TrustDomain, pem};

/// How long a bundle may be used before it is asked for again, where it does not say (SPIFFE Trust Domain and Bundle,
/// 4.1.3, leaves it to the implementation; SPIRE's hint is five minutes).
pub const REFRESH_HINT: Duration = Duration::from_mins(5);

/// The roots of one trust domain. While a root is replaced, the old one and the new one are both in it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TrustBundle {
    /// Whose roots they are.
    pub trust_domain: TrustDomain,
    /// Counts changes: a bundle never gives way to one with a smaller number. 0 where nobody counts (files).
    pub sequence: u64,
    /// Root certificates, DER.
    pub roots: Vec<CertificateDer<'static>>,
    /// How often to ask for another one.
    pub refresh_hint: Duration,
}

impl TrustBundle {
    /// Reads the roots of a PEM text; there is at least one. `origin` names the text in errors.
    pub fn from_pem(trust_domain: TrustDomain, text: &[u8], origin: &std::path::Path) -> Result<Self, Error> {
        let roots: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
        let roots = roots.map_err(|error| Error::Unusable { path: origin.to_owned(), why: error.to_string() })?;
        if roots.is_empty() {
            return Err(Error::Empty { path: origin.to_owned(), what: "certificate" });
        }
        Ok(Self { trust_domain, sequence: 0, roots, refresh_hint: REFRESH_HINT })
    }

    /// Returns the roots as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode_chain(&self.roots)
    }
}
