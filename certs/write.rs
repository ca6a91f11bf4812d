//! An identity as files for programs that read their own: `chain.pem`, `key.pem` and `bundle.pem`, changed as one.
//!
//! The three names are links into `..data`, itself a link to a directory with one whole identity, as Kubernetes mounts
//! secrets: renaming that one link changes all three at once, so no reader finds a chain beside another's key.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, symlink};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

use crate::{Identity, pem};

/// The names in the directory.
pub const FILES: [&str; 3] = ["chain.pem", "key.pem", "bundle.pem"];

/// The link that is renamed.
const DATA: &str = "..data";
/// What directories with one identity each begin with.
const VERSION: &str = "..identity-";
/// The link while it is new.
const NEXT: &str = "..data.next";

/// Why an identity was not written. What stood there before stands there still.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// A file of one of our names is there that we did not write.
    #[error("{}: there already, and not written by this command; remove it or choose another directory", .0.display())]
    Foreign(PathBuf),
    /// The system refuses.
    #[error("{}: {source}", path.display())]
    Io {
        /// What could not be written.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
}

/// Writes an identity into a directory, which is made (0700) where it is not there. The key is readable by its owner
/// alone. When it returns, what is on the disk is the new identity; before that, and after any failure, it is the old one.
pub fn write(directory: &Path, identity: &Identity) -> Result<(), WriteError> {
    make(directory, 0o700)?;
    for name in FILES {
        check_ours(&directory.join(name))?;
    }
    let version = directory.join(format!("{VERSION}{}-{:016x}", identity.leaf().serial, unique()));
    make(&version, 0o755)?;
    let written = fill(&version, identity).and_then(|()| change(directory, &version));
    if written.is_err() {
        let _ = fs::remove_dir_all(&version);
        return written;
    }
    for name in FILES {
        let (path, target) = (directory.join(name), Path::new(DATA).join(name));
        if fs::read_link(&path).is_ok_and(|there| there == target) {
            continue;
        }
        symlink(&target, &path).map_err(at(&path))?;
    }
    sync(directory)?;
    sweep(directory, &version);
    Ok(())
}

fn fill(version: &Path, identity: &Identity) -> Result<(), WriteError> {
    let key = Zeroizing::new(pem::encode("PRIVATE KEY", identity.key()));
    let chain = pem::encode_chain(identity.chain());
    let bundle = identity.bundle().to_pem();
    for (name, text, mode) in
        [("chain.pem", chain.as_str(), 0o644), ("key.pem", key.as_str(), 0o600), ("bundle.pem", bundle.as_str(), 0o644)]
    {
        let path = version.join(name);
        let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path).map_err(at(&path))?;
        file.write_all(text.as_bytes()).and_then(|()| file.sync_all()).map_err(at(&path))?;
    }
    sync(version)
}

/// Makes a version the one that the names lead to.
fn change(directory: &Path, version: &Path) -> Result<(), WriteError> {
    let next = directory.join(NEXT);
    match fs::remove_file(&next) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(at(&next)(error)),
        _ => {}
    }
    let name = version.file_name().unwrap_or_default();
    symlink(name, &next).map_err(at(&next))?;
    fs::rename(&next, directory.join(DATA)).map_err(at(&next))
}

/// Older versions go; whoever has their files open keeps them.
fn sweep(directory: &Path, kept: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for entry in entries.flatten() {
        if entry.file_name().to_string_lossy().starts_with(VERSION) && entry.path() != kept {
            // The next write tries again.
            let _ = fs::remove_dir_all(entry.path());
        }
    }
}

fn check_ours(path: &Path) -> Result<(), WriteError> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(at(path)(error)),
        Ok(_) if fs::read_link(path).is_ok_and(|target| target.starts_with(DATA)) => Ok(()),
        Ok(_) => Err(WriteError::Foreign(path.to_owned())),
    }
}

fn make(directory: &Path, mode: u32) -> Result<(), WriteError> {
    match DirBuilder::new().mode(mode).create(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists && directory.is_dir() => Ok(()),
        made => made.map_err(at(directory)),
    }
}

fn sync(directory: &Path) -> Result<(), WriteError> {
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(at(directory))
}

fn at(path: &Path) -> impl FnOnce(io::Error) -> WriteError {
    let path = path.to_owned();
    move |source| WriteError::Io { path, source }
}

/// A number that no other write of this directory has: two writes may have one serial, where only the bundle changed.
fn unique() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |now| u64::try_from(now.as_nanos() & u128::from(u64::MAX)).unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::SystemTime;

    use rcgen::{
        BasicConstraints, CertificateParams, CertifiedIssuer, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose,
        SanType,
    };

    use super::*;
    use crate::{REFRESH_HINT, TrustBundle};

    fn identity(service: &str) -> Identity {
        let mut root = CertificateParams::default();
        root.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        root.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        let root = CertifiedIssuer::self_signed(root, KeyPair::generate().unwrap()).unwrap();
        let mut leaf = CertificateParams::default();
        let id = format!("spiffe://example.org/svc/{service}");
        leaf.subject_alt_names = vec![SanType::URI(id.as_str().try_into().unwrap())];
        leaf.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        leaf.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
        let key = KeyPair::generate().unwrap();
        let chain = vec![leaf.signed_by(&key, &root).unwrap().der().clone()];
        let bundle = TrustBundle {
            trust_domain: "example.org".parse().unwrap(),
            sequence: 1,
            roots: vec![root.der().clone()],
            refresh_hint: REFRESH_HINT,
        };
        let key = Zeroizing::new(key.serialize_der());
        Identity::new(chain, key, Arc::new(bundle), SystemTime::now()).unwrap()
    }

    /// Reads the three files by one resolved directory, as a careful reader does.
    fn read(directory: &Path) -> [Vec<u8>; 3] {
        let data = directory.join(fs::read_link(directory.join(DATA)).unwrap());
        FILES.map(|name| fs::read(data.join(name)).unwrap())
    }

    #[test]
    fn what_is_written_can_be_read_and_only_its_owner_reads_the_key() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("identity");
        let identity = identity("web");
        write(&directory, &identity).unwrap();
        let files = crate::KeyFiles { cert: directory.join("chain.pem"), key: directory.join("key.pem") };
        assert_eq!(files.read().unwrap().cert, identity.chain());
        assert!(crate::Anchors::File(directory.join("bundle.pem")).read().is_ok());
        let mode = |name: &str| fs::metadata(directory.join(name)).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode("key.pem"), mode("chain.pem")), (0o600, 0o644));
        assert_eq!(fs::metadata(&directory).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_reader_never_finds_parts_of_two_identities_and_nothing_old_is_left() {
        let folder = tempfile::tempdir().unwrap();
        let identities = [identity("web"), identity("api")];
        write(folder.path(), &identities[0]).unwrap();
        let parts = |identity: &Identity| {
            [
                pem::encode_chain(identity.chain()),
                pem::encode("PRIVATE KEY", identity.key()),
                identity.bundle().to_pem(),
            ]
            .map(String::into_bytes)
        };
        let whole = identities.each_ref().map(parts);
        let stop = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut reads = 0;
                while !stop.load(Ordering::Relaxed) {
                    let data = folder.path().join(fs::read_link(folder.path().join(DATA)).unwrap());
                    let read = FILES.map(|name| fs::read(data.join(name)).ok());
                    // The directory may go while it is read: then the reader begins anew.
                    if let [Some(chain), Some(key), Some(bundle)] = read {
                        assert!(whole.contains(&[chain, key, bundle]));
                        reads += 1;
                    }
                }
                reads
            });
            for round in 0..200 {
                write(folder.path(), &identities[round % 2]).unwrap();
            }
            stop.store(true, Ordering::Relaxed);
            assert!(reader.join().unwrap() > 0);
        });
        assert_eq!(read(folder.path()), whole[1]);
        let versions = fs::read_dir(folder.path()).unwrap().flatten();
        assert_eq!(versions.filter(|entry| entry.file_name().to_string_lossy().starts_with(VERSION)).count(), 1);
    }

    #[test]
    fn files_of_others_are_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("key.pem"), "mine").unwrap();
        let error = write(folder.path(), &identity("web")).unwrap_err();
        assert!(matches!(&error, WriteError::Foreign(path) if path.ends_with("key.pem")), "{error}");
        assert_eq!(fs::read(folder.path().join("key.pem")).unwrap(), b"mine");
        assert!(!folder.path().join("chain.pem").exists());
    }
}
