//! Whether who answers is the authority: by roots that were given or learned, or by the hash of a root's key.
//!
//! There is no trust on first use: an agent that knows neither speaks to nobody.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use rustls::client::Resumption;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::verify_tls13_signature;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::sign::SingleCertAndKey;
use rustls::version::TLS13;
use rustls::{ClientConfig, DigitallySignedStruct, SignatureScheme};

use crate::authority::protocol::SERVING;
use crate::{Identity, Refused, SpiffeId, TrustBundle, TrustDomain, Verifier, provider, svid};

/// What the authority is known by before anything was learned from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Pin {
    /// Its roots, a PEM file; read at each attempt, so that it may be replaced.
    File(PathBuf),
    /// The key of its root.
    Key(KeyHash),
}

/// SHA-256 of a public key (SPKI, DER), written as `sha256:` and 64 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct KeyHash([u8; 32]);

/// Why a text is no hash of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `sha256:` and 64 hexadecimal digits")]
pub struct KeyHashError;

impl From<[u8; 32]> for KeyHash {
    fn from(hash: [u8; 32]) -> Self {
        Self(hash)
    }
}

impl FromStr for KeyHash {
    type Err = KeyHashError;

    fn from_str(text: &str) -> Result<Self, KeyHashError> {
        let digits = text.strip_prefix("sha256:").filter(|digits| digits.len() == 64).ok_or(KeyHashError)?;
        let mut hash = [0; 32];
        for (byte, pair) in hash.iter_mut().zip(digits.as_bytes().chunks(2)) {
            // A sign is no digit, though `from_str_radix` takes one.
            if !pair.iter().all(u8::is_ascii_hexdigit) {
                return Err(KeyHashError);
            }
            let pair = std::str::from_utf8(pair).map_err(|_| KeyHashError)?;
            *byte = u8::from_str_radix(pair, 16).map_err(|_| KeyHashError)?;
        }
        Ok(Self(hash))
    }
}

impl fmt::Display for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("sha256:")?;
        self.0.iter().try_for_each(|byte| write!(formatter, "{byte:02x}"))
    }
}

impl fmt::Debug for KeyHash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl KeyHash {
    /// Returns the hash of a certificate's key.
    pub fn of(certificate: &CertificateDer<'_>) -> Result<Self, Refused> {
        svid::spki(certificate).map(|key| Self::of_key(&key))
    }

    /// Returns the hash of a key (SPKI, DER).
    #[must_use]
    pub fn of_key(spki: &[u8]) -> Self {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, spki).as_ref());
        Self(hash)
    }

    /// Returns the 64 digits alone, as a challenge names a key.
    #[must_use]
    pub fn digits(&self) -> String {
        self.to_string().split_off("sha256:".len())
    }
}

/// Everything that a server is checked by.
#[derive(Debug)]
pub(super) struct Trusted {
    pub(super) trust_domain: TrustDomain,
    /// Roots that were given, and roots that were learned from the authority itself.
    pub(super) bundles: Vec<Arc<TrustBundle>>,
    pub(super) key: Option<KeyHash>,
}

/// rustls's door to it. It remembers why it refused: through the layers of an HTTP client that would be lost.
#[derive(Debug)]
pub(super) struct Pinned {
    verifiers: Vec<Verifier>,
    key: Option<KeyHash>,
    trust_domain: TrustDomain,
    expected: SpiffeId,
    refused: Mutex<Option<String>>,
}

impl Pinned {
    pub(super) fn new(trust: &Trusted) -> Result<Arc<Self>, String> {
        let verifiers: Result<Vec<_>, _> = trust.bundles.iter().map(|bundle| Verifier::new(bundle)).collect();
        let expected = trust.trust_domain.id(SERVING).map_err(|why| why.to_string())?;
        Ok(Arc::new(Self {
            verifiers: verifiers.map_err(|why| format!("a root of the authority: {why}"))?,
            key: trust.key,
            trust_domain: trust.trust_domain.clone(),
            expected,
            refused: Mutex::default(),
        }))
    }

    /// Returns why the last handshake was refused.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.lock().unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Returns what handshakes are made with; `identity` is shown where there is one.
    pub(super) fn config(self: &Arc<Self>, identity: Option<&Identity>) -> Result<ClientConfig, String> {
        let builder = ClientConfig::builder_with_provider(provider())
            .with_protocol_versions(&[&TLS13])
            .map_err(|why| why.to_string())?
            .dangerous()
            .with_custom_certificate_verifier(self.clone());
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(identity) => {
                builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(identity.certified().clone())))
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        config.resumption = Resumption::disabled();
        Ok(config)
    }

    fn check(&self, chain: &[CertificateDer<'_>], now: SystemTime) -> Result<(), Refused> {
        let mut why = None;
        for verifier in &self.verifiers {
            match verifier.verify(chain, now) {
                Ok(leaf) => return self.is_expected(&leaf.id),
                Err(refused) => why = Some(refused),
            }
        }
        let Some(key) = &self.key else { return Err(why.unwrap_or(Refused::UnknownIssuer)) };
        let is_pinned = |certificate: &&CertificateDer<'_>| KeyHash::of(certificate).is_ok_and(|hash| hash == *key);
        let Some(root) = chain.iter().skip(1).find(is_pinned) else {
            return Err(Refused::Other(format!("it leads to no root with the key {key}")));
        };
        let bundle = TrustBundle {
            trust_domain: self.trust_domain.clone(),
            sequence: 0,
            roots: vec![root.clone().into_owned()],
            refresh_hint: crate::REFRESH_HINT,
        };
        let leaf = Verifier::new(&bundle)?.verify(chain, now)?;
        self.is_expected(&leaf.id)
    }

    /// A workload's certificate leads to the same root; it is not the authority.
    fn is_expected(&self, found: &SpiffeId) -> Result<(), Refused> {
        if *found == self.expected {
            return Ok(());
        }
        Err(Refused::Identity { found: found.clone(), expected: self.expected.to_string() })
    }
}

impl ServerCertVerifier for Pinned {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _server_name: &ServerName<'_>,
        _ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let chain: Vec<_> = std::iter::once(end_entity).chain(intermediates).cloned().collect();
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(now.as_secs());
        self.check(&chain, now).map_err(|why| {
            *self.refused.lock().unwrap_or_else(PoisonError::into_inner) = Some(why.to_string());
            rustls::Error::from(why)
        })?;
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _cert: &CertificateDer<'_>,
        _dss: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Err(rustls::Error::General("TLS 1.2 is not spoken here".to_owned()))
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hash_is_written_in_one_way_and_read_in_either_case() {
        let text = format!("sha256:{}", "0a".repeat(32));
        let hash: KeyHash = text.parse().unwrap();
        assert_eq!(hash.to_string(), text);
        assert_eq!(format!("sha256:{}", "0A".repeat(32)).parse(), Ok(hash));
        assert_eq!(hash.digits(), "0a".repeat(32));
        for wrong in ["", "0a", "sha256:", "sha1:0a", &format!("sha256:{}", "+a".repeat(32)), &text[..70]] {
            assert_eq!(wrong.parse::<KeyHash>(), Err(KeyHashError), "{wrong}");
        }
    }
}
