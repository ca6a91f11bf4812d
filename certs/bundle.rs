//! The trust bundle: the roots that a trust domain's certificates are checked against.

use std::time::Duration;

use rustls::pki_types::CertificateDer;

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
        let roots = pem::decode_chain(text, origin)?;
        Ok(Self { trust_domain, sequence: 0, roots, refresh_hint: REFRESH_HINT })
    }

    /// Returns the roots as PEM.
    #[must_use]
    pub fn to_pem(&self) -> String {
        pem::encode_chain(&self.roots)
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn bundle(text: &str) -> Result<TrustBundle, String> {
        TrustBundle::from_pem("example.org".parse().unwrap(), text.as_bytes(), Path::new("ca.pem"))
            .map_err(|error| error.to_string())
    }

    fn certificate(name: &str) -> String {
        rcgen::generate_simple_self_signed(vec![name.to_owned()]).unwrap().cert.pem()
    }

    #[test]
    fn roots_are_read_in_order_and_written_as_they_came() {
        let text = certificate("a.example") + &certificate("b.example");
        let read = bundle(&text).unwrap();
        assert_eq!((read.roots.len(), read.sequence, read.to_pem()), (2, 0, text.clone()));
        // Files that are put together by hand: words between, no line end at the last one, Windows.
        let loose = format!("# old\n{}\n\n# new\n{}", certificate("a.example"), certificate("b.example").trim_end());
        assert_eq!(bundle(&loose).unwrap().roots.len(), 2);
        let glued = certificate("a.example").trim_end().to_owned() + &certificate("b.example");
        assert!(bundle(&glued).unwrap_err().contains("put a line break between them"));
        assert_eq!(bundle(&text.replace('\n', "\r\n")).unwrap(), read);
    }

    #[test]
    fn a_text_without_a_root_is_an_error_that_names_it() {
        assert_eq!(bundle("").unwrap_err(), "ca.pem: no certificate in it (PEM is expected)");
        let key = pem::encode("PRIVATE KEY", b"key");
        assert_eq!(bundle(&key).unwrap_err(), "ca.pem: no certificate in it (PEM is expected)");
        let torn = certificate("a.example");
        let torn = &torn[..torn.len() / 2];
        assert!(bundle(torn).unwrap_err().starts_with("ca.pem: "), "{:?}", bundle(torn));
    }
}
