//! The identity on disk, so that a restart while the authority is away is no outage.
//!
//! One file, 0600, in a directory of 0700: chain, key and bundle never stand apart, and a crash leaves the old file or the
//! new one.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject as _;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::pin::{KeyHash, Pin};
use crate::authority::protocol::{BundleBody, read_chain};
use crate::{Identity, TrustBundle, TrustDomain, pem};

/// Its name in the state directory.
const FILE: &str = "identity.json";
/// The form of the file.
const VERSION: u32 = 1;

/// Where an identity is kept, and whose it is.
#[derive(Debug, Clone)]
pub(super) struct Store {
    pub(super) directory: PathBuf,
    pub(super) trust_domain: TrustDomain,
    pub(super) service: Option<String>,
    pub(super) pin: Pin,
}

/// What was kept. Where the leaf has expired, what was learned of the authority is still worth something.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) identity: Option<Arc<Identity>>,
    pub(super) bundle: Option<Arc<TrustBundle>>,
}

#[derive(Serialize, Deserialize)]
struct Kept {
    version: u32,
    /// What was asked for.
    service: Option<String>,
    /// Hashes of the keys that the authority was known by.
    pins: Vec<String>,
    chain: String,
    key: String,
    bundle: BundleBody,
}

impl Drop for Kept {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.key);
    }
}

impl Store {
    /// Reads what is kept; what cannot be used is logged and left out.
    pub(super) fn load(&self, now: SystemTime) -> Found {
        let path = self.directory.join(FILE);
        match self.read(&path, now) {
            Ok(found) => found,
            Err(problem) => {
                tracing::warn!(path = %path.display(), problem, "The identity that was kept is not used.");
                Found::default()
            }
        }
    }

    fn read(&self, path: &Path, now: SystemTime) -> Result<Found, String> {
        let bytes = match fs::read(path) {
            Ok(bytes) => Zeroizing::new(bytes),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Found::default()),
            Err(error) => return Err(error.to_string()),
        };
        warn_of_readers(path);
        let kept: Kept = serde_json::from_slice(&bytes).map_err(|error| error.to_string())?;
        if kept.version != VERSION {
            return Err(format!("it has the form {}, this build knows {VERSION}", kept.version));
        }
        let bundle = Arc::new(kept.bundle.read()?);
        if bundle.trust_domain != self.trust_domain {
            return Err(format!("it is of the trust domain `{}`", bundle.trust_domain));
        }
        if !self.is_same_authority(&kept.pins, &bundle) {
            return Err("identity.authority_bundle or identity.authority_pin names another authority now".to_owned());
        }
        if kept.service != self.service {
            tracing::info!("Another service is asked for than before: asking anew.");
            return Ok(Found { identity: None, bundle: Some(bundle) });
        }
        let key = PrivatePkcs8KeyDer::from_pem_slice(kept.key.as_bytes()).map_err(|_| "it has no key")?;
        let key = Zeroizing::new(key.secret_pkcs8_der().to_vec());
        let identity = Identity::new(read_chain(&kept.chain)?, key, bundle.clone(), now);
        let identity =
            identity.inspect_err(|why| tracing::info!(%why, "The leaf that was kept is of no use any more."));
        Ok(Found { identity: identity.ok().map(Arc::new), bundle: Some(bundle) })
    }

    /// A pin that changed because roots are being replaced names a root that the bundle knows. One that names none is
    /// another authority: what was learned from the one before is worth nothing.
    fn is_same_authority(&self, pins: &[String], bundle: &TrustBundle) -> bool {
        let now = self.pins();
        now.is_empty() || now == pins || hashes(bundle).iter().any(|known| now.contains(known))
    }

    /// Empty where the file cannot be read: then nothing is known of a change.
    fn pins(&self) -> Vec<String> {
        match &self.pin {
            Pin::Key(key) => vec![key.to_string()],
            Pin::File(path) => fs::read(path)
                .ok()
                .and_then(|text| TrustBundle::from_pem(self.trust_domain.clone(), &text, path).ok())
                .map(|bundle| hashes(&bundle))
                .unwrap_or_default(),
        }
    }

    /// Keeps an identity in place of the one before.
    pub(super) fn save(&self, identity: &Identity) -> io::Result<()> {
        let kept = Kept {
            version: VERSION,
            service: self.service.clone(),
            pins: self.pins(),
            chain: pem::encode_chain(identity.chain()),
            key: pem::encode("PRIVATE KEY", identity.key()),
            bundle: BundleBody::of(identity.bundle()),
        };
        let bytes = Zeroizing::new(serde_json::to_vec_pretty(&kept)?);
        DirBuilder::new().recursive(true).mode(0o700).create(&self.directory)?;
        let (path, beside) = (self.directory.join(FILE), self.directory.join(format!(".{FILE}.new")));
        // What a crash left behind; the file is made anew so that nobody else's mode or link is taken over.
        match fs::remove_file(&beside) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&beside)?;
        file.write_all(&bytes)?;
        file.sync_all()?;
        fs::rename(&beside, &path)?;
        File::open(&self.directory)?.sync_all()
    }
}

fn hashes(bundle: &TrustBundle) -> Vec<String> {
    bundle.roots.iter().filter_map(|root| KeyHash::of(root).ok()).map(|hash| hash.to_string()).collect()
}

fn warn_of_readers(path: &Path) {
    if fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
        tracing::warn!(
            path = %path.display(),
            "Others than its owner may read the key of this identity; its file should have the mode 0600."
        );
    }
}
