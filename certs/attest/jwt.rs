//! Signed tokens (JWS in its compact form, RFC 7515), as far as Kubernetes issues them (pure).
//!
//! Three algorithms, each with the one kind of key that it takes: what a token says of its algorithm never decides what a key
//! is used for, so neither `none` nor an HMAC "with" a public key can pass.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde::Deserialize;
use serde::de::{DeserializeOwned, IgnoredAny};

/// Longest token that is looked at, in bytes. Those of Kubernetes have about one KiB.
pub(super) const MAX_TOKEN: usize = 8 * 1024;

/// Most keys of a set. A cluster has one, and two while it changes them.
const MAX_KEYS: usize = 100;

/// A token, taken apart. Nothing in it was verified.
#[derive(Debug)]
pub(super) struct Token<'a> {
    signed: &'a str,
    algorithm: Algorithm,
    kid: Option<String>,
    payload: Vec<u8>,
    signature: Vec<u8>,
}

/// Why a token is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Bad {
    #[error("{0}")]
    Malformed(&'static str),
    #[error("its algorithm is none of RS256, ES256 and EdDSA")]
    Algorithm,
    #[error("none of the issuer's keys has its key id, or is for its algorithm")]
    UnknownKey,
    #[error("it was not signed by the issuer")]
    Signature,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Algorithm {
    EdDsa,
    Es256,
    Rs256,
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    crit: Option<IgnoredAny>,
}

/// A public key of an issuer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Key {
    kid: Option<String>,
    public: Public,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Public {
    Ed25519(Vec<u8>),
    /// Uncompressed point.
    P256(Vec<u8>),
    Rsa {
        n: Vec<u8>,
        e: Vec<u8>,
    },
}

impl<'a> Token<'a> {
    /// Takes a token apart.
    pub(super) fn parse(text: &'a str) -> Result<Self, Bad> {
        if text.len() > MAX_TOKEN {
            return Err(Bad::Malformed("it is too long"));
        }
        let mut parts = text.split('.');
        let (Some(head), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Bad::Malformed("it does not have three parts"));
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Bad::Malformed("a part is not base64url"));
        let header: Header =
            serde_json::from_slice(&decode(head)?).map_err(|_| Bad::Malformed("its header is no JWS"))?;
        // Extensions that must be understood; we understand none (RFC 7515, 4.1.11).
        if header.crit.is_some() {
            return Err(Bad::Malformed("it has critical extensions"));
        }
        let algorithm = match header.alg.as_str() {
            "EdDSA" => Algorithm::EdDsa,
            "ES256" => Algorithm::Es256,
            "RS256" => Algorithm::Rs256,
            _ => return Err(Bad::Algorithm),
        };
        let signed = text.get(..head.len() + 1 + payload.len()).unwrap_or_default();
        Ok(Self { signed, algorithm, kid: header.kid, payload: decode(payload)?, signature: decode(signature)? })
    }

    /// Reads what it says; a name that stands twice in it is an error.
    pub(super) fn claims<T: DeserializeOwned>(&self) -> Result<T, Bad> {
        serde_json::from_slice(&self.payload)
            .map_err(|_| Bad::Malformed("its claims are not those of a service account"))
    }

    /// Verifies it by the keys of its issuer.
    pub(super) fn verify(&self, keys: &[Key]) -> Result<(), Bad> {
        let fitting = |key: &&Key| self.kid.as_ref().is_none_or(|kid| key.kid.as_ref() == Some(kid));
        let mut found = Err(Bad::UnknownKey);
        for key in keys.iter().filter(fitting) {
            let (message, signature) = (self.signed.as_bytes(), self.signature.as_slice());
            let verified = match (&key.public, self.algorithm) {
                (Public::Ed25519(key), Algorithm::EdDsa) => {
                    UnparsedPublicKey::new(&ED25519, key).verify(message, signature)
                }
                (Public::P256(key), Algorithm::Es256) => {
                    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(message, signature)
                }
                (Public::Rsa { n, e }, Algorithm::Rs256) => {
                    RsaPublicKeyComponents { n, e }.verify(&RSA_PKCS1_2048_8192_SHA256, message, signature)
                }
                _ => continue,
            };
            if verified.is_ok() {
                return Ok(());
            }
            found = Err(Bad::Signature);
        }
        found
    }
}

#[derive(Deserialize)]
struct Set {
    keys: Vec<Jwk>,
}

/// A key as RFC 7517 writes it.
#[derive(Deserialize)]
struct Jwk {
    kty: String,
    kid: Option<String>,
    #[serde(rename = "use")]
    purpose: Option<String>,
    alg: Option<String>,
    crv: Option<String>,
    n: Option<String>,
    e: Option<String>,
    x: Option<String>,
    y: Option<String>,
}

/// Reads a set of keys (RFC 7517, 5). Keys of other kinds and for other purposes are left out; a set that has none for us is
/// an error.
pub(super) fn keys(text: &[u8]) -> Result<Vec<Key>, String> {
    let set: Set = serde_json::from_slice(text).map_err(|error| format!("not a set of keys (JWKS): {error}"))?;
    if set.keys.len() > MAX_KEYS {
        return Err(format!("more than {MAX_KEYS} keys"));
    }
    let keys: Vec<Key> = set.keys.iter().filter_map(Jwk::key).collect();
    if keys.is_empty() {
        return Err("no key for RS256, ES256 or EdDSA in it".to_owned());
    }
    Ok(keys)
}

impl Jwk {
    fn key(&self) -> Option<Key> {
        if self.purpose.as_deref().is_some_and(|purpose| purpose != "sig") {
            return None;
        }
        let part = |text: &Option<String>| URL_SAFE_NO_PAD.decode(text.as_deref()?).ok();
        let (algorithm, public) = match (self.kty.as_str(), self.crv.as_deref()) {
            ("RSA", None) => ("RS256", Public::Rsa { n: part(&self.n)?, e: part(&self.e)? }),
            ("EC", Some("P-256")) => {
                let (x, y) = (part(&self.x)?, part(&self.y)?);
                if (x.len(), y.len()) != (32, 32) {
                    return None;
                }
                ("ES256", Public::P256([&[4], x.as_slice(), y.as_slice()].concat()))
            }
            ("OKP", Some("Ed25519")) => ("EdDSA", Public::Ed25519(part(&self.x)?)),
            _ => return None,
        };
        let fits = self.alg.as_deref().is_none_or(|named| named == algorithm);
        fits.then(|| Key { kid: self.kid.clone(), public })
    }
}

#[cfg(test)]
mod tests;
