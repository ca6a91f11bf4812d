//! Certificates, keys and trust anchors from PEM files.

use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rustls::RootCertStore;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;

use crate::{Error, provider};

/// What comes of `cat` where a file does not end with a line break.
const GLUED: &[u8] = b"----------BEGIN ";

/// A certificate chain and its key, in files.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key: PKCS#8, PKCS#1 or SEC1.
    pub key: PathBuf,
}

/// What a peer's certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Anchors {
    /// A PEM file.
    File(PathBuf),
    /// The system's store.
    System,
}

impl KeyFiles {
    /// Reads chain and key and checks that they belong together.
    pub fn read(&self) -> Result<CertifiedKey, Error> {
        let chain = certificates(&self.cert)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?)
            .map_err(|_| Error::Empty { path: self.key.clone(), what: "private key" })?;
        CertifiedKey::from_der(chain, key, &provider()).map_err(|error| Error::Unusable {
            path: self.cert.clone(),
            why: format!("does not fit the key in {}: {error}", self.key.display()),
        })
    }
}

impl Anchors {
    /// Reads the anchors; at least one must be usable.
    pub fn read(&self) -> Result<Arc<RootCertStore>, Error> {
        let mut store = RootCertStore::empty();
        match self {
            Self::File(path) => {
                for certificate in certificates(path)? {
                    store
                        .add(certificate)
                        .map_err(|error| Error::Unusable { path: path.clone(), why: error.to_string() })?;
                }
            }
            Self::System => {
                let found = rustls_native_certs::load_native_certs();
                let (added, _ignored) = store.add_parsable_certificates(found.certs);
                if added == 0 {
                    let why = found.errors.first().map_or_else(
                        || "it is empty; install the package ca-certificates or name a file".to_owned(),
                        ToString::to_string,
                    );
                    return Err(Error::System(why));
                }
            }
        }
        Ok(Arc::new(store))
    }
}

fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    decode_chain(&read(path)?, path)
}

/// Reads the certificates of a PEM text, in order; there is at least one. `origin` names the text in errors.
pub(crate) fn decode_chain(text: &[u8], origin: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let unusable = |why: String| Error::Unusable { path: origin.to_owned(), why };
    // The reader would pass the second one over.
    if text.windows(GLUED.len()).any(|part| part == GLUED) {
        return Err(unusable(
            "a block begins on the line where another one ends; put a line break between them".to_owned(),
        ));
    }
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(text).collect();
    let chain = chain.map_err(|error| unusable(error.to_string()))?;
    if chain.is_empty() {
        return Err(Error::Empty { path: origin.to_owned(), what: "certificate" });
    }
    Ok(chain)
}

fn read(path: &Path) -> Result<Vec<u8>, Error> {
    fs::read(path).map_err(|source| Error::Unreadable { path: path.to_owned(), source })
}

/// Returns certificates as PEM, in order.
pub(crate) fn encode_chain(chain: &[CertificateDer<'_>]) -> String {
    chain.iter().map(|certificate| encode("CERTIFICATE", certificate)).collect()
}

/// Returns one PEM block (RFC 7468): lines of 64 characters.
pub(crate) fn encode(label: &str, der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut pem = format!("-----BEGIN {label}-----\n");
    for line in text.as_bytes().chunks(64) {
        pem.push_str(std::str::from_utf8(line).unwrap_or_default());
        pem.push('\n');
    }
    pem + "-----END " + label + "-----\n"
}
