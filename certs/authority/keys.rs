//! The authority's private keys: made, sealed under a passphrase, opened; never shown.

use std::fmt;
use std::path::Path;

use pkcs8::der::{Decode as _, SecretDocument};
use pkcs8::{EncryptedPrivateKeyInfoRef, PrivateKeyInfoRef};
use rcgen::{KeyPair, PublicKeyData as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use zeroize::Zeroizing;

use super::random::hash;
use crate::pem;

/// Fewest bytes of a passphrase: with scrypt in front, shorter ones can be guessed.
pub const SHORTEST_PASSPHRASE: usize = 12;

/// Longest file of a key or a passphrase that is read, in bytes.
const MOST_BYTES: usize = 64 * 1024;

/// What keys at rest are sealed with.
#[derive(Clone)]
pub struct Passphrase(Zeroizing<Vec<u8>>);

/// A P-256 key.
pub(crate) struct Key {
    pair: Zeroizing<KeyPair>,
}

/// Why a key cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// It is sealed, and no passphrase was given.
    #[error("the key is sealed; give the passphrase (`passphrase_file` of [ca], or --passphrase-file)")]
    Sealed,
    /// The passphrase does not open it.
    #[error("the passphrase does not open the key")]
    Passphrase,
    /// It is no P-256 key in PKCS#8.
    #[error("not a P-256 key in PKCS#8: {0}")]
    Unusable(String),
    /// The passphrase is too short.
    #[error("the passphrase has {0} bytes, at least {SHORTEST_PASSPHRASE} are needed")]
    Short(usize),
    /// A file cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl Passphrase {
    /// Takes the bytes without the end of line that editors write; at least [`SHORTEST_PASSPHRASE`] must be left.
    pub fn new(mut bytes: Zeroizing<Vec<u8>>) -> Result<Self, KeyError> {
        while bytes.last().is_some_and(|byte| matches!(byte, b'\n' | b'\r')) {
            bytes.pop();
        }
        if bytes.len() < SHORTEST_PASSPHRASE { Err(KeyError::Short(bytes.len())) } else { Ok(Self(bytes)) }
    }

    /// Reads it from a file, such as one of systemd's `LoadCredential=` (`$CREDENTIALS_DIRECTORY/NAME`).
    pub fn read(path: &Path) -> Result<Self, KeyError> {
        let bytes = Zeroizing::new(std::fs::read(path).map_err(|error| unreadable(path, &error))?);
        if bytes.len() > MOST_BYTES {
            return Err(KeyError::Unreadable(format!("{}: too large for a passphrase", path.display())));
        }
        Self::new(bytes).map_err(|error| KeyError::Unreadable(format!("{}: {error}", path.display())))
    }

    pub(crate) fn bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Passphrase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Passphrase")
    }
}

impl Key {
    /// Makes a new one.
    pub(crate) fn generate() -> Result<Self, KeyError> {
        let pair = KeyPair::generate().map_err(|error| KeyError::Unusable(error.to_string()))?;
        Ok(Self { pair: Zeroizing::new(pair) })
    }

    /// Reads one, sealed or not. DER.
    pub(crate) fn open(der: &[u8], passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let Ok(sealed) = EncryptedPrivateKeyInfoRef::try_from(der) else {
            return Self::from_pkcs8(der);
        };
        let opened = sealed.decrypt(passphrase.ok_or(KeyError::Sealed)?.bytes()).map_err(|_| KeyError::Passphrase)?;
        Self::from_pkcs8(opened.as_bytes())
    }

    /// Reads one from PEM, sealed or not.
    pub(crate) fn from_pem(text: &str, passphrase: Option<&Passphrase>) -> Result<Self, KeyError> {
        let (label, document) =
            SecretDocument::from_pem(text).map_err(|error| KeyError::Unusable(format!("PEM: {error}")))?;
        match label {
            "PRIVATE KEY" | "ENCRYPTED PRIVATE KEY" => Self::open(document.as_bytes(), passphrase),
            other => Err(KeyError::Unusable(format!("the file is a `{other}`, expected a `PRIVATE KEY`"))),
        }
    }

    fn from_pkcs8(der: &[u8]) -> Result<Self, KeyError> {
        let unusable = |error: rcgen::Error| KeyError::Unusable(error.to_string());
        let der = PrivatePkcs8KeyDer::from(der);
        let pair = KeyPair::from_pkcs8_der_and_sign_algo(&der, &rcgen::PKCS_ECDSA_P256_SHA256).map_err(unusable)?;
        Ok(Self { pair: Zeroizing::new(pair) })
    }

    /// Returns what signs.
    pub(crate) fn pair(&self) -> &KeyPair {
        &self.pair
    }

    /// Returns SHA-256 of the public key (SPKI), hexadecimal.
    pub(crate) fn hash(&self) -> String {
        hash(&self.pair.subject_public_key_info())
    }

    /// Returns PKCS#8, not sealed.
    pub(crate) fn pkcs8(&self) -> Zeroizing<Vec<u8>> {
        Zeroizing::new(self.pair.serialized_der().to_vec())
    }

    /// Returns what is kept: PKCS#8, sealed (PBES2: scrypt, AES-256-CBC) if there is a passphrase.
    pub(crate) fn at_rest(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<Vec<u8>>, KeyError> {
        let Some(passphrase) = passphrase else { return Ok(self.pkcs8()) };
        let unusable = |error: &dyn fmt::Display| KeyError::Unusable(error.to_string());
        let info = PrivateKeyInfoRef::from_der(self.pair.serialized_der()).map_err(|error| unusable(&error))?;
        let sealed = info.encrypt(passphrase.bytes()).map_err(|error| unusable(&error))?;
        Ok(Zeroizing::new(sealed.as_bytes().to_vec()))
    }

    /// Returns what is kept as PEM.
    pub(crate) fn to_pem(&self, passphrase: Option<&Passphrase>) -> Result<Zeroizing<String>, KeyError> {
        let label = if passphrase.is_some() { "ENCRYPTED PRIVATE KEY" } else { "PRIVATE KEY" };
        Ok(Zeroizing::new(pem::encode(label, &self.at_rest(passphrase)?)))
    }
}

/// Says whether what is kept is sealed.
pub(crate) fn is_sealed(der: &[u8]) -> bool {
    EncryptedPrivateKeyInfoRef::try_from(der).is_ok()
}

/// The public half stays out as well: a hash says which one it is.
impl fmt::Debug for Key {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Key({})", self.hash())
    }
}

fn unreadable(path: &Path, error: &std::io::Error) -> KeyError {
    KeyError::Unreadable(format!("{}: {error}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passphrase(text: &str) -> Passphrase {
        Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap()
    }

    #[test]
    fn a_sealed_key_opens_with_its_passphrase_alone() {
        let key = Key::generate().unwrap();
        let right = passphrase("correct horse battery\n");
        let sealed = key.at_rest(Some(&right)).unwrap();
        assert!(is_sealed(&sealed) && !is_sealed(&key.pkcs8()));
        assert!(!sealed.windows(16).any(|part| key.pkcs8()[40..56] == *part), "the key shows through");
        assert_eq!(Key::open(&sealed, Some(&right)).unwrap().hash(), key.hash());
        assert!(matches!(Key::open(&sealed, None), Err(KeyError::Sealed)));
        assert!(matches!(Key::open(&sealed, Some(&passphrase("another passphrase"))), Err(KeyError::Passphrase)));
        let pem = key.to_pem(Some(&right)).unwrap();
        assert!(pem.starts_with("-----BEGIN ENCRYPTED PRIVATE KEY-----"));
        assert_eq!(Key::from_pem(&pem, Some(&right)).unwrap().hash(), key.hash());
        assert_eq!(Key::from_pem(&key.to_pem(None).unwrap(), None).unwrap().hash(), key.hash());
    }

    #[test]
    fn what_is_no_key_is_refused() {
        assert!(matches!(Key::open(b"abc", None), Err(KeyError::Unusable(_))));
        assert!(matches!(Key::from_pem("-----BEGIN X-----\n-----END X-----\n", None), Err(KeyError::Unusable(_))));
        assert!(matches!(Passphrase::new(Zeroizing::new(b"short\n".to_vec())), Err(KeyError::Short(5))));
    }

    #[test]
    fn secrets_are_not_in_the_debug_output() {
        let key = Key::generate().unwrap();
        assert_eq!(format!("{key:?}"), format!("Key({})", key.hash()));
        assert_eq!(format!("{:?}", passphrase("correct horse battery")), "Passphrase");
    }
}
