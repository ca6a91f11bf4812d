//! The store in a file of this machine: redb, a B-tree that is copied on write, so that a transaction is there or not.

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use redb::backends::FileBackend;
use redb::{
    Builder, Database, DatabaseError, ReadableDatabase as _, ReadableTable as _, StorageError, TableDefinition,
};
use zeroize::Zeroizing;

use super::{Change, Store, StoreError, Stored, check};

/// Eight bytes of version, then the value.
const VALUES: TableDefinition<'_, &str, &[u8]> = TableDefinition::new("values");
/// The number of the last change, under one key.
const CHANGES: TableDefinition<'_, &str, u64> = TableDefinition::new("changes");
const LAST: &str = "last";
/// Pages kept in memory, in bytes: a registry of ten thousand workloads fits.
const CACHE: usize = 8 * 1024 * 1024;

/// A database file. It is locked as long as this lives.
pub(crate) struct Embedded {
    path: PathBuf,
    database: Database,
}

impl std::fmt::Debug for Embedded {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(formatter, "Embedded({})", self.path.display())
    }
}

/// Why a database cannot be opened.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EmbeddedError {
    /// Another process has it.
    #[error("another process has it open")]
    InUse,
    /// It cannot be read.
    #[error("{0}")]
    Unreadable(String),
}

impl Embedded {
    /// Opens a database that is there.
    pub(crate) fn open(path: &Path) -> Result<Self, EmbeddedError> {
        let database = Builder::new().set_cache_size(CACHE).open(path).map_err(|error| match error {
            DatabaseError::DatabaseAlreadyOpen => EmbeddedError::InUse,
            DatabaseError::Storage(StorageError::Io(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                EmbeddedError::InUse
            }
            other => EmbeddedError::Unreadable(other.to_string()),
        })?;
        let store = Self { path: path.to_owned(), database };
        // A file without tables was never finished.
        store.read("").map_err(|error| EmbeddedError::Unreadable(error.to_string()))?;
        Ok(store)
    }

    /// Makes a file with these keys, all with version 1, and closes it. There must be no such file. Mode 0600.
    pub(crate) fn create(path: &Path, values: &[(String, Zeroizing<Vec<u8>>)]) -> Result<(), StoreError> {
        let failed = |error: io::Error| StoreError::Failed(format!("{}: {error}", path.display()));
        let file: File =
            OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(path).map_err(failed)?;
        let backend = FileBackend::new(file).map_err(|error| told(&error))?;
        let database =
            Builder::new().set_cache_size(CACHE).create_with_backend(backend).map_err(|error| told(&error))?;
        let transaction = database.begin_write().map_err(|error| told(&error))?;
        {
            let mut table = transaction.open_table(VALUES).map_err(|error| told(&error))?;
            for (key, value) in values {
                table.insert(key.as_str(), framed(1, value).as_slice()).map_err(|error| told(&error))?;
            }
            let mut changes = transaction.open_table(CHANGES).map_err(|error| told(&error))?;
            changes.insert(LAST, 1).map_err(|error| told(&error))?;
        }
        transaction.commit().map_err(|error| told(&error))?;
        database.close().map_err(|error| told(&error))?;
        File::open(path).and_then(|file| file.sync_all()).map_err(failed)
    }
}

impl Store for Embedded {
    fn read(&self, key: &str) -> Result<Option<Stored>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| told(&error))?;
        let table = transaction.open_table(VALUES).map_err(|error| told(&error))?;
        let found = table.get(key).map_err(|error| told(&error))?;
        found.map(|guard| stored(key, guard.value())).transpose()
    }

    fn list(&self, prefix: &str) -> Result<Vec<(String, Stored)>, StoreError> {
        let transaction = self.database.begin_read().map_err(|error| told(&error))?;
        let table = transaction.open_table(VALUES).map_err(|error| told(&error))?;
        let mut found = Vec::new();
        for entry in table.range(prefix..).map_err(|error| told(&error))? {
            let (key, value) = entry.map_err(|error| told(&error))?;
            let key = key.value();
            if !key.starts_with(prefix) {
                break;
            }
            found.push((key.to_owned(), stored(key, value.value())?));
        }
        Ok(found)
    }

    fn commit(&self, changes: &[Change]) -> Result<u64, StoreError> {
        check(changes)?;
        let transaction = self.database.begin_write().map_err(|error| told(&error))?;
        let version = {
            let mut counter = transaction.open_table(CHANGES).map_err(|error| told(&error))?;
            let last = counter.get(LAST).map_err(|error| told(&error))?.map_or(0, |guard| guard.value());
            let version = last + 1;
            counter.insert(LAST, version).map_err(|error| told(&error))?;
            let mut table = transaction.open_table(VALUES).map_err(|error| told(&error))?;
            for change in changes {
                let (key, was) = match change {
                    Change::Put { key, was, .. } | Change::Delete { key, was } => (key, *was),
                };
                let found = table.get(key.as_str()).map_err(|error| told(&error))?;
                let is = found.map(|guard| stored(key, guard.value())).transpose()?.map_or(0, |stored| stored.version);
                if is != was {
                    // Dropping the transaction takes back what it did so far.
                    return Err(StoreError::Conflict { key: key.clone() });
                }
                match change {
                    Change::Put { value, .. } => {
                        table.insert(key.as_str(), framed(version, value).as_slice()).map_err(|error| told(&error))?;
                    }
                    Change::Delete { .. } => {
                        table.remove(key.as_str()).map_err(|error| told(&error))?;
                    }
                }
            }
            version
        };
        // Durability::Immediate is the default: this returns after fsync.
        transaction.commit().map_err(|error| told(&error))?;
        Ok(version)
    }
}

fn framed(version: u64, value: &[u8]) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(8 + value.len()));
    bytes.extend_from_slice(&version.to_be_bytes());
    bytes.extend_from_slice(value);
    bytes
}

fn stored(key: &str, bytes: &[u8]) -> Result<Stored, StoreError> {
    let (version, value) = bytes
        .split_first_chunk::<8>()
        .ok_or_else(|| StoreError::Failed(format!("`{key}` is torn: it has {} bytes", bytes.len())))?;
    Ok(Stored { version: u64::from_be_bytes(*version), value: Zeroizing::new(value.to_vec()) })
}

fn told(error: &dyn std::fmt::Display) -> StoreError {
    StoreError::Failed(error.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open(directory: &Path) -> Embedded {
        let path = directory.join("a.redb");
        Embedded::create(&path, &[("a".to_owned(), Zeroizing::new(b"1".to_vec()))]).unwrap();
        Embedded::open(&path).unwrap()
    }

    fn value(store: &Embedded, key: &str) -> Option<(u64, Vec<u8>)> {
        store.read(key).unwrap().map(|stored| (stored.version, stored.value.to_vec()))
    }

    #[test]
    fn a_transaction_changes_all_of_its_keys_or_none() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        assert_eq!(value(&store, "a"), Some((1, b"1".to_vec())));
        let version = store.commit(&[Change::put("a", b"2".to_vec(), 1), Change::put("b", b"x".to_vec(), 0)]).unwrap();
        assert_eq!(
            (value(&store, "a"), value(&store, "b")),
            (Some((version, b"2".to_vec())), Some((version, b"x".to_vec())))
        );
        // `a` is at `version` now: the whole of it fails, `c` too.
        let error = store.commit(&[Change::put("c", Vec::new(), 0), Change::put("a", b"3".to_vec(), 1)]).unwrap_err();
        assert!(matches!(error, StoreError::Conflict { key } if key == "a"));
        assert_eq!((value(&store, "a"), value(&store, "c")), (Some((version, b"2".to_vec())), None));
        assert!(store.commit(&[Change::put("b", Vec::new(), 0)]).is_err(), "0 says that there is none");
        store.commit(&[Change::delete("a", version)]).unwrap();
        assert_eq!(value(&store, "a"), None);
        assert!(store.commit(&[Change::delete("a", version)]).is_err());
    }

    #[test]
    fn keys_are_listed_by_how_they_begin() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let puts: Vec<_> = ["t/1", "t/2", "t0", "s/1"].map(|key| Change::put(key, Vec::new(), 0)).into();
        store.commit(&puts).unwrap();
        let keys: Vec<_> = store.list("t/").unwrap().into_iter().map(|(key, _)| key).collect();
        assert_eq!(keys, ["t/1", "t/2"]);
    }

    #[test]
    fn what_consul_could_not_do_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let many: Vec<_> = (0..65).map(|number| Change::put(format!("k{number}"), Vec::new(), 0)).collect();
        assert!(matches!(store.commit(&many), Err(StoreError::TooLarge(_))));
        let large = [Change::put("k", vec![0; 512 * 1024 + 1], 0)];
        assert!(matches!(store.commit(&large), Err(StoreError::TooLarge(_))));
        assert!(store.commit(&many[..64]).is_ok());
    }

    #[test]
    fn a_second_one_is_told_that_the_database_is_in_use_and_values_survive_the_first() {
        let directory = tempfile::tempdir().unwrap();
        let store = open(directory.path());
        let path = directory.path().join("a.redb");
        assert!(matches!(Embedded::open(&path), Err(EmbeddedError::InUse)));
        store.commit(&[Change::put("b", b"x".to_vec(), 0)]).unwrap();
        drop(store);
        assert_eq!(value(&Embedded::open(&path).unwrap(), "b"), Some((2, b"x".to_vec())));
        assert!(Embedded::create(&path, &[]).is_err(), "what is there is never written over");
        std::fs::write(directory.path().join("torn"), b"redb").unwrap();
        assert!(matches!(Embedded::open(&directory.path().join("torn")), Err(EmbeddedError::Unreadable(_))));
    }

    #[test]
    fn values_are_not_in_the_debug_output() {
        let stored = Stored { version: 1, value: Zeroizing::new(b"secret".to_vec()) };
        assert!(!format!("{stored:?} {:?}", Change::put("k", b"secret".to_vec(), 0)).contains("115"));
        assert_eq!(format!("{stored:?}"), "6 bytes, version 1");
    }
}
