//! What the authority writes down besides tokens: what was issued and by what, rules in the database, identities that
//! are blocked; and under which keys all of it stands in the store.

use serde::{Deserialize, Serialize, de::DeserializeOwned};

use super::policy::{Facts, Rule};
use super::store::{Change, Store, StoreError};
use crate::attest::Method;

/// The hierarchy without its keys: one value, so that a step of it is one change.
pub(crate) const HIERARCHY: &str = "hierarchy";
/// How far the audit log goes.
pub(crate) const AUDIT: &str = "audit";
/// When was issued last, and until when.
pub(crate) const ISSUING: &str = "issuing";
/// When the database was restored from a backup.
pub(crate) const RESTORED: &str = "restored";

/// Private keys; the only part that must never leave this machine unsealed.
pub(crate) const KEYS: &str = "key/";
/// Join tokens by their public half.
pub(crate) const TOKENS: &str = "token/";
/// Rules by number.
pub(crate) const ENTRIES: &str = "entry/";
/// Certificates by serial number.
pub(crate) const ISSUED: &str = "issued/";
/// Which identity a public key belongs to, by its hash.
pub(crate) const HOLDERS: &str = "holder/";
/// Identities that get nothing, by path.
pub(crate) const BLOCKED: &str = "blocked/";

/// A certificate that was issued.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Record {
    /// Path of the identity.
    pub(crate) path: String,
    /// SHA-256 of the public key, hexadecimal.
    pub(crate) key: String,
    /// By what.
    pub(crate) by: By,
    /// When, in seconds since 1970.
    pub(crate) time: u64,
    /// End of its validity.
    pub(crate) not_after: u64,
}

/// By what an identity was issued; a renewal keeps it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum By {
    /// The process that the authority runs in.
    Embedded,
    /// Evidence of an attestor.
    Evidence {
        /// Which one.
        method: Method,
        /// What it proved.
        facts: Facts,
    },
    /// A person, by `meshless ca issue`.
    Operator,
    /// The authority, for its own server.
    Own,
    /// A join token, by its public half.
    Token(String),
}

impl By {
    /// Returns the word in the audit log.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Evidence { method, .. } => method.label(),
            Self::Operator => "operator",
            Self::Own => "own",
            Self::Token(_) => Method::JoinToken.label(),
        }
    }

    /// Returns what was proved, for the audit log.
    pub(crate) fn facts(&self) -> Facts {
        match self {
            Self::Evidence { facts, .. } => facts.clone(),
            Self::Token(id) => Facts::from([("token".to_owned(), id.clone())]),
            _ => Facts::new(),
        }
    }
}

/// Whose a public key is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Holder {
    pub(crate) path: String,
    /// Until when: the end of the last certificate for it.
    pub(crate) not_after: u64,
}

/// A rule in the database.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// What it is removed by.
    pub id: String,
    /// Who gets what.
    pub rule: Rule,
    /// When it was added, in seconds since 1970.
    pub created: u64,
}

/// An identity that gets nothing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Blocked {
    /// Its path.
    pub path: String,
    /// Since when, in seconds since 1970.
    pub since: u64,
}

/// When was issued last.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Issuing {
    /// When, in seconds since 1970; 0: never.
    pub(crate) last: u64,
    /// The latest end of validity of a leaf by the active intermediate.
    pub(crate) last_leaf: u64,
}

/// A value with the version that it was read at; 0: there is none yet.
#[derive(Debug, Clone)]
pub(crate) struct Read<T> {
    pub(crate) value: T,
    pub(crate) version: u64,
}

/// Reads a value; `None` if there is none.
pub(crate) fn read<T: DeserializeOwned>(store: &dyn Store, key: &str) -> Result<Option<Read<T>>, StoreError> {
    let Some(stored) = store.read(key)? else { return Ok(None) };
    Ok(Some(Read { value: parsed(key, &stored.value)?, version: stored.version }))
}

/// Reads all values under a prefix.
pub(crate) fn list<T: DeserializeOwned>(store: &dyn Store, prefix: &str) -> Result<Vec<(String, Read<T>)>, StoreError> {
    let all = store.list(prefix)?;
    all.into_iter()
        .map(|(key, stored)| {
            let value = parsed(&key, &stored.value)?;
            Ok((key, Read { value, version: stored.version }))
        })
        .collect()
}

/// Makes a change of a value.
pub(crate) fn put<T: Serialize>(key: &str, value: &T, was: u64) -> Result<Change, StoreError> {
    Ok(Change::put(key, bytes(key, value)?, was))
}

/// Returns a value as it is stored.
pub(crate) fn bytes<T: Serialize>(key: &str, value: &T) -> Result<Vec<u8>, StoreError> {
    serde_json::to_vec(value).map_err(|error| StoreError::Failed(format!("`{key}` cannot be written: {error}")))
}

fn parsed<T: DeserializeOwned>(key: &str, bytes: &[u8]) -> Result<T, StoreError> {
    // A record of a newer version is not guessed at.
    serde_json::from_slice(bytes).map_err(|error| {
        StoreError::Failed(format!("`{key}` cannot be read ({error}); was it written by another version?"))
    })
}
