//! Making an authority, once; opening it, every time. What is not whole is not opened, and nothing but `init` makes a root.

use std::path::{Path, PathBuf};

use rustls::pki_types::CertificateDer;
use zeroize::Zeroizing;

use super::audit::{AuditError, Head};
use super::certificate::{self, Unsigned, Validity};
use super::clock::seconds;
use super::directory::{self, DATABASE, DirectoryError, UNFINISHED};
use super::hierarchy::{Hierarchy, New};
use super::keys::{Key, KeyError};
use super::options::{Options, OptionsError};
use super::random::NoRandom;
use super::record::{self, HIERARCHY, KEYS};
use super::store::{Embedded, StoreError};
use crate::{TrustDomain, pem};

/// The root's key, where it is kept elsewhere.
pub const ROOT_KEY: &str = "root.key";
/// The root's certificate beside it.
pub const ROOT_CERTIFICATE: &str = "root.pem";

/// Why an authority is not made, not restored, or not opened. Each message says what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// There is none.
    #[error("there is no authority in {}; make one by `meshless ca init`, or restore a backup by `meshless ca restore`", .0.display())]
    None(PathBuf),
    /// There is one already.
    #[error("there is an authority in {} already; a second root would cut off everybody who trusts the first: to replace a root use `meshless ca rotate root`, for another authority another directory", .0.display())]
    Exists(PathBuf),
    /// The directory has something in it, but no whole authority.
    #[error("{} has files ({found}) but no authority's database; nothing is made there: if an authority was there, restore a backup into an empty directory, else choose another one", path.display())]
    Torn {
        /// Which directory.
        path: PathBuf,
        /// What is in it.
        found: String,
    },
    /// Another process works on it.
    #[error("another process has the authority in {} open; a server takes commands at its socket {}", .0.display(), directory::SOCKET)]
    InUse(PathBuf),
    /// The database cannot be read.
    #[error("the database in {} cannot be read: {why}; nothing was changed: restore a backup into an empty directory (`meshless ca restore`)", path.display())]
    Unreadable {
        /// Which directory.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Who may look into the directory is not right.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// A key cannot be used.
    #[error("{what}: {error}")]
    Key {
        /// Which key.
        what: String,
        /// Why not.
        error: KeyError,
    },
    /// The audit log is not what the database says.
    #[error("{0}")]
    Audit(String),
    /// The options cannot be worked with.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// The system refuses something.
    #[error("{0}")]
    Failed(String),
}

impl From<StoreError> for OpenError {
    fn from(error: StoreError) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<AuditError> for OpenError {
    fn from(error: AuditError) -> Self {
        Self::Audit(error.to_string())
    }
}

impl From<Unsigned> for OpenError {
    fn from(error: Unsigned) -> Self {
        Self::Failed(error.to_string())
    }
}

impl From<NoRandom> for OpenError {
    fn from(error: NoRandom) -> Self {
        Self::Failed(error.to_string())
    }
}

impl OpenError {
    pub(crate) fn key(what: &str) -> impl FnOnce(KeyError) -> Self {
        move |error| Self::Key { what: what.to_owned(), error }
    }
}

/// What [`init`] made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Made {
    /// The root, PEM: what others need to trust this authority.
    pub root: String,
    /// SHA-256 of the root's public key as `sha256:` and hexadecimal digits: what others can pin instead.
    pub pin: String,
}

/// Makes an authority in an empty directory, or one that is not there yet: a root and an intermediate, both active.
///
/// With `root_directory` the root's key goes there (`root.key`, `root.pem`, both 0600) and is not kept here: the place
/// is to be taken off this machine, and is needed again for the next intermediate.
pub fn init(
    directory: &Path,
    trust_domain: &TrustDomain,
    options: &Options,
    root_directory: Option<&Path>,
) -> Result<Made, OpenError> {
    options.check()?;
    empty(directory)?;
    let now = seconds((options.clock)());
    let (root, root_key) = new_root(trust_domain, options, now, None)?;
    let (below, key) = new_intermediate(trust_domain, options, now, (&root.name, root.not_after, &root_key))?;
    let made = Made {
        root: pem::encode_chain(&[CertificateDer::from(root.certificate.clone())]),
        pin: format!("sha256:{}", root.key),
    };
    let mut root = root;
    root.key_here = root_directory.is_none();
    let hierarchy = Hierarchy::new(trust_domain, root, below, now);
    let passphrase = options.passphrase.as_ref();
    let mut values = vec![
        (HIERARCHY.to_owned(), Zeroizing::new(record::bytes(HIERARCHY, &hierarchy)?)),
        (record::AUDIT.to_owned(), Zeroizing::new(record::bytes(record::AUDIT, &Head::new())?)),
    ];
    let at_rest = |key: &Key| key.at_rest(passphrase).map_err(OpenError::key("the new key"));
    for one in hierarchy.intermediates.iter().take(1) {
        values.push((format!("{KEYS}{}", one.number), at_rest(&key)?));
    }
    match (root_directory, hierarchy.roots.first()) {
        (Some(elsewhere), _) => write_root(elsewhere, &root_key, &made.root, options)?,
        (None, Some(root)) => values.push((format!("{KEYS}{}", root.number), at_rest(&root_key)?)),
        (None, None) => {}
    }
    create(directory, &values)?;
    Ok(made)
}

/// Makes a key for a root that is kept elsewhere, and writes it there. What it returns, PEM and not sealed, is for
/// [`Command::RotateRoot`](super::command::Command).
pub fn make_root_key(elsewhere: &Path, options: &Options) -> Result<Zeroizing<String>, OpenError> {
    let key = Key::generate().map_err(OpenError::key("the new root's key"))?;
    directory::make(elsewhere)?;
    let kept = key.to_pem(options.passphrase.as_ref()).map_err(OpenError::key("the new root's key"))?;
    directory::write_new(&elsewhere.join(ROOT_KEY), kept.as_bytes())?;
    key.to_pem(None).map_err(OpenError::key("the new root's key"))
}

/// Reads a root's key from a file, sealed or not; returns PEM that is not sealed, for a command.
pub fn read_root_key(path: &Path, options: &Options) -> Result<Zeroizing<String>, OpenError> {
    let what = path.display().to_string();
    directory::guard(path, "a file", 0o600)?;
    let text = std::fs::read_to_string(path).map_err(|error| OpenError::Failed(format!("{what}: {error}")))?;
    let key = Key::from_pem(&Zeroizing::new(text), options.passphrase.as_ref()).map_err(OpenError::key(&what))?;
    key.to_pem(None).map_err(OpenError::key(&what))
}

fn write_root(elsewhere: &Path, key: &Key, certificate: &str, options: &Options) -> Result<(), OpenError> {
    directory::make(elsewhere)?;
    let key = key.to_pem(options.passphrase.as_ref()).map_err(OpenError::key("the root's key"))?;
    // The key first: a certificate whose key is nowhere would be worth nothing.
    directory::write_new(&elsewhere.join(ROOT_KEY), key.as_bytes())?;
    directory::write_new(&elsewhere.join(ROOT_CERTIFICATE), certificate.as_bytes())?;
    Ok(())
}

/// Makes a root of a new key, or of one that was given.
pub(crate) fn new_root(
    trust_domain: &TrustDomain,
    options: &Options,
    now: u64,
    given: Option<Key>,
) -> Result<(New, Key), OpenError> {
    let (key, key_here) = match given {
        Some(key) => (key, false),
        None => (Key::generate().map_err(OpenError::key("the new root's key"))?, true),
    };
    let name = certificate::name("root")?;
    let validity = Validity::from(now, options.root_ttl.as_secs(), u64::MAX);
    let certificate = certificate::root(trust_domain, &name, &key, validity)?.to_vec();
    Ok((New { name, certificate, key: key.hash(), key_here, made: now, not_after: validity.not_after }, key))
}

/// Makes an intermediate under a root: its name, its end, its key.
pub(crate) fn new_intermediate(
    trust_domain: &TrustDomain,
    options: &Options,
    now: u64,
    (root_name, root_ends, root_key): (&str, u64, &Key),
) -> Result<(New, Key), OpenError> {
    let key = Key::generate().map_err(OpenError::key("the new intermediate's key"))?;
    let name = certificate::name("intermediate")?;
    let validity = Validity::from(now, options.intermediate_ttl.as_secs(), root_ends);
    let certificate = certificate::intermediate(trust_domain, &name, &key, validity, (root_name, root_key))?.to_vec();
    let not_after = validity.not_after;
    Ok((New { name, certificate, key: key.hash(), key_here: true, made: now, not_after }, key))
}

/// Checks that a new authority can be made in a directory, which is made if it is not there.
pub(crate) fn empty(directory: &Path) -> Result<(), OpenError> {
    let mut names = directory::make(directory)?;
    if names.iter().any(|name| name == DATABASE) {
        return Err(OpenError::Exists(directory.to_owned()));
    }
    // An `init` or `restore` that was interrupted told nobody of a root, so it can be made again.
    names.retain(|name| name != UNFINISHED);
    if !names.is_empty() {
        return Err(OpenError::Torn { path: directory.to_owned(), found: names.join(", ") });
    }
    Ok(())
}

/// Makes the database under another name and gives it its own once it is whole.
pub(crate) fn create(directory: &Path, values: &[(String, Zeroizing<Vec<u8>>)]) -> Result<(), OpenError> {
    let unfinished = directory.join(UNFINISHED);
    match std::fs::remove_file(&unfinished) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(OpenError::Failed(format!("{}: {error}", unfinished.display())));
        }
        _ => {}
    }
    Embedded::create(&unfinished, values)?;
    match directory::finish(&unfinished, &directory.join(DATABASE)) {
        Err(DirectoryError::Io { error, .. }) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            Err(OpenError::Exists(directory.to_owned()))
        }
        other => Ok(other?),
    }
}
