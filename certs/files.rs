//! An identity that another agent writes: chain, key and bundle in three files.
//!
//! Nobody renames three files at one time, so what is read may be half of the old state and half of the new one. The
//! three are taken as one value or not at all: parts that do not fit each other are read again, and if they still do not,
//! that is an error and the caller keeps what it has.

mod private_key;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use tokio::io::AsyncReadExt;
use zeroize::Zeroizing;

use crate::{Error, Identity, IdentitySource, SourceError, TrustBundle, TrustDomain};

/// How often the files are looked at. An agent renews hours before the end, so seconds do not matter.
const POLL: Duration = Duration::from_secs(2);
/// Wait before parts that do not fit are read again: an agent writes three small files in less …
const AGAIN: Duration = Duration::from_millis(100);
/// … and tries in all.
const TRIES: u32 = 5;
/// Largest file, in bytes: a chain of three certificates has about 4 KiB.
const LARGEST: u64 = 1 << 20;

/// Where the parts of an identity are.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IdentityFiles {
    /// Chain, PEM, leaf first, without the root.
    pub chain: PathBuf,
    /// Private key, PEM: PKCS#8, SEC1 or PKCS#1.
    pub key: PathBuf,
    /// Roots, PEM.
    pub bundle: PathBuf,
}

/// The identity in files, and each one that comes after it.
#[derive(Debug)]
pub struct FilesSource {
    files: IdentityFiles,
    trust_domain: TrustDomain,
    /// Hash of what was returned last.
    last: Option<[u8; 32]>,
    /// The last answer was an error: the next one says whether it still is.
    failed: bool,
}

/// The contents of the three files.
struct Contents {
    chain: Vec<u8>,
    key: Zeroizing<Vec<u8>>,
    bundle: Vec<u8>,
}

impl IdentityFiles {
    /// Reads all three files and puts an identity of `trust_domain` together.
    pub async fn read(&self, trust_domain: &TrustDomain, now: SystemTime) -> Result<Identity, SourceError> {
        let contents = self.contents().await?;
        self.identity(&contents, trust_domain, now)
    }

    async fn contents(&self) -> Result<Contents, SourceError> {
        Ok(Contents {
            chain: read(&self.chain).await?.to_vec(),
            key: read(&self.key).await?,
            bundle: read(&self.bundle).await?.to_vec(),
        })
    }

    fn identity(
        &self,
        contents: &Contents,
        trust_domain: &TrustDomain,
        now: SystemTime,
    ) -> Result<Identity, SourceError> {
        let malformed = |error: Error| SourceError::Malformed(error.to_string());
        let bundle = TrustBundle::from_pem(trust_domain.clone(), &contents.bundle, &self.bundle).map_err(malformed)?;
        let chain: Result<Vec<CertificateDer<'static>>, _> = CertificateDer::pem_slice_iter(&contents.chain).collect();
        let chain = chain.map_err(|error| wrong(&self.chain, &error))?;
        if chain.is_empty() {
            return Err(malformed(Error::Empty { path: self.chain.clone(), what: "certificate" }));
        }
        let key = PrivateKeyDer::from_pem_slice(&contents.key)
            .map_err(|_| malformed(Error::Empty { path: self.key.clone(), what: "private key" }))?;
        let key = private_key::to_pkcs8(key).map_err(|why| wrong(&self.key, &why))?;
        Identity::new(chain, key, Arc::new(bundle), now).map_err(|error| {
            let Self { chain, key, bundle } = self;
            let files = format!("{}, {} and {}", chain.display(), key.display(), bundle.display());
            SourceError::Malformed(format!("{files} make no identity: {error}"))
        })
    }
}

fn wrong(path: &Path, why: &dyn std::fmt::Display) -> SourceError {
    SourceError::Malformed(format!("{}: {why}", path.display()))
}

async fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, SourceError> {
    let failed = |error: std::io::Error| SourceError::Unreachable(format!("{}: {error}", path.display()));
    let file = tokio::fs::File::open(path).await.map_err(failed)?;
    let mut bytes = Zeroizing::new(Vec::new());
    file.take(LARGEST + 1).read_to_end(&mut bytes).await.map_err(failed)?;
    if bytes.len() as u64 > LARGEST {
        return Err(wrong(path, &"larger than 1 MiB; this is no file of certificates"));
    }
    Ok(bytes)
}

impl Contents {
    /// Lengths are hashed too: a byte that moves from one file to the next is a change.
    fn digest(&self) -> [u8; 32] {
        let mut hash = ring::digest::Context::new(&ring::digest::SHA256);
        for part in [&self.chain[..], &self.key, &self.bundle] {
            hash.update(&(part.len() as u64).to_be_bytes());
            hash.update(part);
        }
        hash.finish().as_ref().try_into().unwrap_or_default()
    }
}

impl FilesSource {
    /// Follows files. They may come later: until they are there, [`IdentitySource::next`] says what is missing.
    #[must_use]
    pub fn new(files: IdentityFiles, trust_domain: TrustDomain) -> Self {
        Self { files, trust_domain, last: None, failed: false }
    }

    /// Reads until the parts fit, or for the last time.
    async fn settled(&self, first: Contents) -> Result<(Identity, [u8; 32]), SourceError> {
        let mut contents = first;
        let mut tries = 1;
        loop {
            match self.files.identity(&contents, &self.trust_domain, SystemTime::now()) {
                Ok(identity) => return Ok((identity, contents.digest())),
                Err(error) if tries == TRIES => return Err(error),
                Err(_) => {
                    tries += 1;
                    tokio::time::sleep(AGAIN).await;
                    contents = self.files.contents().await?;
                }
            }
        }
    }
}

#[async_trait]
impl IdentitySource for FilesSource {
    /// Cancel-safe: what was not returned is looked at again.
    async fn next(&mut self) -> Result<Arc<Identity>, SourceError> {
        if self.last.is_some() && !self.failed {
            tokio::time::sleep(POLL).await;
        }
        loop {
            let found = match self.files.contents().await {
                // What was in force before a failure is said again, so that everybody knows that it is over.
                Ok(contents) if self.last == Some(contents.digest()) && !self.failed => None,
                Ok(contents) => Some(self.settled(contents).await),
                Err(error) => Some(Err(error)),
            };
            match found {
                None => tokio::time::sleep(POLL).await,
                Some(Ok((identity, digest))) => {
                    self.last = Some(digest);
                    self.failed = false;
                    return Ok(Arc::new(identity));
                }
                Some(Err(error)) => {
                    self.failed = true;
                    return Err(error);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
