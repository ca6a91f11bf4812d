//! The authority's directory: who may look into it, and how files get there whole.
//!
//! It holds private keys, so it is 0700, its files are 0600, all are ours, and none is a symbolic link. Where that is not
//! so, somebody else could have read or changed them: nothing is opened.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

/// The database.
pub(crate) const DATABASE: &str = "ca.redb";
/// The database while it is made; what is left of an `init` or `restore` that was interrupted.
pub(crate) const UNFINISHED: &str = "ca.redb.new";
/// The audit log.
pub(crate) const AUDIT: &str = "audit.log";
/// Where a running authority takes commands.
pub const SOCKET: &str = "ca.sock";

/// Bits of the mode by which somebody else may do something.
const OTHERS: u32 = 0o077;

/// What is wrong with a directory or a file of it.
#[derive(Debug, thiserror::Error)]
pub enum DirectoryError {
    /// It is not there.
    #[error("{} is not there", .0.display())]
    Missing(PathBuf),
    /// It is a symbolic link, or not of the kind that it must be.
    #[error("{} is {found}, expected {expected}; a link could lead to another authority's keys", path.display())]
    Kind {
        /// Which one.
        path: PathBuf,
        /// What it is.
        found: &'static str,
        /// What it should be.
        expected: &'static str,
    },
    /// Others may read or write it.
    #[error("{} has mode {mode:04o}: others can get at private keys; look who did, then `chmod {right:04o} {}`", path.display(), path.display())]
    Open {
        /// Which one.
        path: PathBuf,
        /// Its mode.
        mode: u32,
        /// The mode that it should have.
        right: u32,
    },
    /// It belongs to another user.
    #[error("{} belongs to user {owner}, this process runs as {user}; run as its owner or `chown` it", path.display())]
    Owner {
        /// Which one.
        path: PathBuf,
        /// Its owner.
        owner: u32,
        /// Who we are.
        user: u32,
    },
    /// The system refuses.
    #[error("{}: {error}", path.display())]
    Io {
        /// Which one.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
}

/// Checks a directory and all that is in it; returns the names in it.
pub(crate) fn check(directory: &Path) -> Result<Vec<String>, DirectoryError> {
    guard(directory, "a directory", 0o700)?;
    let failed = |error| DirectoryError::Io { path: directory.to_owned(), error };
    let mut names = Vec::new();
    for entry in fs::read_dir(directory).map_err(failed)? {
        let entry = entry.map_err(failed)?;
        let name = entry.file_name().to_string_lossy().into_owned();
        if [DATABASE, UNFINISHED, AUDIT].contains(&name.as_str()) {
            guard(&entry.path(), "a file", 0o600)?;
        }
        names.push(name);
    }
    names.sort();
    Ok(names)
}

/// Checks that a path is what it must be, ours, and nobody else's. A link is not followed.
pub(crate) fn guard(path: &Path, expected: &'static str, right: u32) -> Result<(), DirectoryError> {
    let found = match fs::symlink_metadata(path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Err(DirectoryError::Missing(path.to_owned())),
        Err(error) => return Err(DirectoryError::Io { path: path.to_owned(), error }),
    };
    let kind = match found.file_type() {
        kind if kind.is_symlink() => "a symbolic link",
        kind if kind.is_dir() => "a directory",
        kind if kind.is_file() => "a file",
        _ => "something else",
    };
    if kind != expected {
        return Err(DirectoryError::Kind { path: path.to_owned(), found: kind, expected });
    }
    let user = rustix::process::geteuid().as_raw();
    if found.uid() != user {
        return Err(DirectoryError::Owner { path: path.to_owned(), owner: found.uid(), user });
    }
    if found.mode() & OTHERS != 0 {
        return Err(DirectoryError::Open { path: path.to_owned(), mode: found.mode() & 0o7777, right });
    }
    Ok(())
}

/// Makes a directory of ours, or takes an empty one that is there; returns the names in it.
pub(crate) fn make(directory: &Path) -> Result<Vec<String>, DirectoryError> {
    match DirBuilder::new().mode(0o700).recursive(true).create(directory) {
        Ok(()) => {}
        // A link, or a file, is told by the check.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(DirectoryError::Io { path: directory.to_owned(), error }),
    }
    check(directory)
}

/// Writes a file that must not be there yet, mode 0600, and waits until it is on the disk.
pub(crate) fn write_new(path: &Path, bytes: &[u8]) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Io { path: path.to_owned(), error };
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(0o600)
        .custom_flags(no_follow())
        .open(path)
        .map_err(failed)?;
    file.write_all(bytes).and_then(|()| file.sync_all()).map_err(failed)?;
    sync(path.parent().unwrap_or(Path::new(".")))
}

/// Writes a file of mode 0600 at once: a reader sees all of it or nothing. It must not be there yet.
pub fn publish(path: &Path, bytes: &[u8]) -> Result<(), DirectoryError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(".new");
    let unfinished = path.with_file_name(name);
    write_new(&unfinished, bytes)?;
    finish(&unfinished, path)
}

/// Gives a file that is whole its name; an error if that is taken.
pub(crate) fn finish(unfinished: &Path, path: &Path) -> Result<(), DirectoryError> {
    let failed = |error| DirectoryError::Io { path: path.to_owned(), error };
    // Unlike a rename, a link does not replace what another process made in between.
    let linked = fs::hard_link(unfinished, path).map_err(failed);
    fs::remove_file(unfinished).map_err(failed)?;
    linked?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    sync(directory.unwrap_or(Path::new(".")))
}

/// Waits until the names in a directory are on the disk.
pub(crate) fn sync(directory: &Path) -> Result<(), DirectoryError> {
    let directory = if directory.as_os_str().is_empty() { Path::new(".") } else { directory };
    File::open(directory)
        .and_then(|file| file.sync_all())
        .map_err(|error| DirectoryError::Io { path: directory.to_owned(), error })
}

/// `O_NOFOLLOW`, so that nobody leads us to a file of their choice.
pub(crate) fn no_follow() -> i32 {
    rustix::fs::OFlags::NOFOLLOW.bits().cast_signed()
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::{PermissionsExt as _, symlink};

    use super::*;

    fn mode(path: &Path, mode: u32) {
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    }

    #[test]
    fn a_directory_is_ours_alone_or_refused() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("a/ca");
        assert!(matches!(check(&directory), Err(DirectoryError::Missing(_))));
        assert_eq!(make(&directory).unwrap(), Vec::<String>::new());
        assert_eq!(fs::metadata(&directory).unwrap().mode() & 0o7777, 0o700);
        for bad in [0o750, 0o701, 0o777] {
            mode(&directory, bad);
            let error = check(&directory).unwrap_err();
            assert!(matches!(error, DirectoryError::Open { mode, .. } if mode == bad), "{error}");
            assert!(error.to_string().contains("chmod 0700"), "{error}");
        }
        mode(&directory, 0o700);
        let link = outer.path().join("link");
        symlink(&directory, &link).unwrap();
        assert!(matches!(check(&link), Err(DirectoryError::Kind { found: "a symbolic link", .. })));
        fs::write(outer.path().join("file"), b"").unwrap();
        assert!(matches!(make(&outer.path().join("file")), Err(DirectoryError::Kind { found: "a file", .. })));
    }

    #[test]
    fn files_of_others_and_links_among_ours_are_refused() {
        let outer = tempfile::tempdir().unwrap();
        let directory = outer.path().join("ca");
        make(&directory).unwrap();
        let database = directory.join(DATABASE);
        write_new(&database, b"x").unwrap();
        assert_eq!(fs::metadata(&database).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(check(&directory).unwrap(), [DATABASE]);
        mode(&database, 0o640);
        assert!(matches!(check(&directory), Err(DirectoryError::Open { right: 0o600, .. })));
        fs::remove_file(&database).unwrap();
        symlink("/etc/hostname", &database).unwrap();
        assert!(matches!(check(&directory), Err(DirectoryError::Kind { .. })));
    }

    #[test]
    fn a_file_that_is_there_is_not_written_over() {
        let outer = tempfile::tempdir().unwrap();
        let path = outer.path().join("backup");
        publish(&path, b"one").unwrap();
        assert!(publish(&path, b"two").is_err());
        assert_eq!(fs::read(&path).unwrap(), b"one");
        assert_eq!(fs::read_dir(outer.path()).unwrap().count(), 1, "nothing unfinished is left");
    }
}
