//! Where the authority keeps what must survive: a small set of keys, each with a version.
//!
//! One change of several keys is one transaction, and each key in it says which version it expects: check-and-set. That
//! is what Consul's KV store can do as well (docs/decisions/0110-what-the-authority-stores.md), so nothing here needs more.

mod embedded;

use std::fmt;

use zeroize::Zeroizing;

pub(crate) use embedded::{Embedded, EmbeddedError};

/// Most keys in one transaction (Consul: `maximum number of operations in a transaction is 64`).
pub(crate) const MOST_CHANGES: usize = 64;

/// Longest value, in bytes (Consul: `kv_max_value_size`, 512 KiB).
pub(crate) const MOST_BYTES: usize = 512 * 1024;

/// What a key has.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Stored {
    /// Which change wrote it; never 0, and higher with each change.
    pub(crate) version: u64,
    /// The bytes. Keys of the authority are among them, so they are wiped.
    pub(crate) value: Zeroizing<Vec<u8>>,
}

/// Values may be keys: they stay out of every output.
impl fmt::Debug for Stored {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} bytes, version {}", self.value.len(), self.version)
    }
}

/// What becomes of one key.
#[derive(Clone)]
pub(crate) enum Change {
    /// It has this value from now on.
    Put {
        /// Which key.
        key: String,
        /// The bytes.
        value: Zeroizing<Vec<u8>>,
        /// The version that it must have until now; 0: there must be none.
        was: u64,
    },
    /// It is gone.
    Delete {
        /// Which key.
        key: String,
        /// The version that it must have until now.
        was: u64,
    },
}

impl Change {
    pub(crate) fn put(key: impl Into<String>, value: Vec<u8>, was: u64) -> Self {
        Self::Put { key: key.into(), value: Zeroizing::new(value), was }
    }

    pub(crate) fn delete(key: impl Into<String>, was: u64) -> Self {
        Self::Delete { key: key.into(), was }
    }
}

impl fmt::Debug for Change {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Put { key, was, .. } => write!(formatter, "put {key} (version {was})"),
            Self::Delete { key, was } => write!(formatter, "delete {key} (version {was})"),
        }
    }
}

/// Why something is not stored, or not read.
#[derive(Debug, thiserror::Error)]
pub(crate) enum StoreError {
    /// Somebody else changed the key.
    #[error("`{key}` was changed by somebody else")]
    Conflict {
        /// Which key.
        key: String,
    },
    /// More than one transaction can hold.
    #[error("too much for one transaction: {0}")]
    TooLarge(String),
    /// The storage fails.
    #[error("the authority's storage: {0}")]
    Failed(String),
}

/// Keys and values with versions. Calls block, and return once what they changed is on the disk.
pub(crate) trait Store: fmt::Debug + Send + Sync {
    /// Returns what a key has.
    fn read(&self, key: &str) -> Result<Option<Stored>, StoreError>;

    /// Returns all keys that begin with a text, in order.
    fn list(&self, prefix: &str) -> Result<Vec<(String, Stored)>, StoreError>;

    /// Changes all of these keys or none; returns the version that those which were put have now.
    ///
    /// At most [`MOST_CHANGES`] keys, each at most once, with at most [`MOST_BYTES`] each.
    fn commit(&self, changes: &[Change]) -> Result<u64, StoreError>;
}

/// Refuses what not every store can do.
fn check(changes: &[Change]) -> Result<(), StoreError> {
    if changes.len() > MOST_CHANGES {
        return Err(StoreError::TooLarge(format!("{} keys, at most {MOST_CHANGES}", changes.len())));
    }
    for change in changes {
        if let Change::Put { key, value, .. } = change
            && value.len() > MOST_BYTES
        {
            return Err(StoreError::TooLarge(format!("`{key}` has {} bytes, at most {MOST_BYTES}", value.len())));
        }
    }
    Ok(())
}
