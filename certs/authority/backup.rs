//! A backup: everything in the database, keys included, sealed by a passphrase; and the way back.
//!
//! The file is one DER structure, the `EncryptedPrivateKeyInfo` of RFC 5958 in form: PBES2 with scrypt (N = 2^15, r = 8,
//! p = 1) and AES-256-GCM, around JSON. So it can be opened with other tools, and a changed byte is found. The audit log
//! is not in it: the new one goes on behind the last line that the backup knows.

use std::collections::BTreeMap;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use pkcs8::der::Encode as _;
use pkcs8::der::asn1::OctetStringRef;
use pkcs8::pkcs5::{pbes2, scrypt};
use pkcs8::{EncryptedPrivateKeyInfo, EncryptedPrivateKeyInfoRef};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::audit::Head;
use super::clock::{seconds, written};
use super::command::{Refusal, Reply, Secret};
use super::desk::Desk;
use super::hierarchy::Hierarchy;
use super::keys::Passphrase;
use super::open::{OpenError, create, empty};
use super::options::{LONGEST_LEAF, Options};
use super::random;
use super::record::{self, AUDIT, HIERARCHY, ISSUING, Issuing, RESTORED};

/// How far the bundle's sequence number jumps: more than the authority can have gone on since the backup was made, so
/// that nobody who heard of a later bundle finds the restored one older. Each root that is replaced takes two.
const JUMP: u64 = 1_000;
/// The form of the JSON inside.
const FORM: u64 = 1;
/// scrypt: 32 MiB and some 100 ms for each guess.
const SCRYPT_LOG_N: u8 = 15;

/// What is inside.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Inside {
    form: u64,
    trust_domain: String,
    /// When it was made, in seconds since 1970.
    made: u64,
    /// All keys of the store, values in base64.
    values: BTreeMap<String, Zeroizing<String>>,
}

/// What was restored.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Restored {
    /// Name of the trust domain.
    pub trust_domain: String,
    /// When the backup was made, RFC 3339.
    pub made: String,
    /// Sequence number of the bundle now.
    pub sequence: u64,
}

impl Desk {
    pub(crate) fn backup(&self, passphrase: &Secret) -> Result<Reply, Refusal> {
        let passphrase =
            Passphrase::new(Zeroizing::new(passphrase.expose().as_bytes().to_vec())).map_err(Refusal::wrong)?;
        let made = seconds(self.now());
        let mut held = self.held()?;
        // First the line, so that the backup knows of it too.
        self.note(&mut held, "backed_up", None, None, Vec::new())?;
        let values = self.store.list("")?;
        drop(held);
        let values = values
            .into_iter()
            .map(|(key, stored)| (key, Zeroizing::new(STANDARD.encode(stored.value.as_slice()))))
            .collect();
        let inside = Inside { form: FORM, trust_domain: self.trust_domain.to_string(), made, values };
        let json = Zeroizing::new(serde_json::to_vec(&inside).map_err(Refusal::failed)?);
        let sealed = seal(&json, &passphrase).map_err(Refusal::failed)?;
        Ok(Reply::Backup(Secret::new(Zeroizing::new(STANDARD.encode(sealed)))))
    }
}

/// Returns the bytes of a backup as a reply has them.
pub fn backup_bytes(reply: &Secret) -> Result<Vec<u8>, Refusal> {
    STANDARD.decode(reply.expose()).map_err(Refusal::failed)
}

/// Makes the authority of a backup in an empty directory, or one that is not there yet.
///
/// The sequence number of its bundle jumps ahead, and join tokens that were made before are refused: they may have been
/// used after the backup. Keys stay sealed as they were, so `passphrase_file` must be the same.
pub fn restore(
    directory: &Path,
    backup: &[u8],
    passphrase: &Passphrase,
    options: &Options,
) -> Result<Restored, OpenError> {
    empty(directory)?;
    let failed = |why: String| OpenError::Failed(format!("the backup cannot be used: {why}"));
    let json = unseal(backup, passphrase).map_err(failed)?;
    let inside: Inside = serde_json::from_slice(&json).map_err(|error| failed(error.to_string()))?;
    if inside.form != FORM {
        return Err(failed(format!("it has form {}, this build reads form {FORM}", inside.form)));
    }
    let now = seconds((options.clock)());
    let mut values = BTreeMap::new();
    for (key, value) in inside.values {
        let value = STANDARD.decode(value.as_bytes()).map_err(|error| failed(format!("`{key}`: {error}")))?;
        values.insert(key, Zeroizing::new(value));
    }
    let read = |key: &str| values.get(key).ok_or_else(|| failed(format!("it has no `{key}`")));
    let mut hierarchy: Hierarchy =
        serde_json::from_slice(read(HIERARCHY)?).map_err(|error| failed(error.to_string()))?;
    hierarchy.sequence += JUMP;
    let head: Head = serde_json::from_slice(read(AUDIT)?).map_err(|error| failed(error.to_string()))?;
    let mut issuing: Issuing = match values.get(ISSUING) {
        Some(bytes) => serde_json::from_slice(bytes).map_err(|error| failed(error.to_string()))?,
        None => Issuing::default(),
    };
    // Leaves that were issued after the backup are not in it: nothing retires before the last of them can have expired.
    issuing.last_leaf = issuing.last_leaf.max(now + LONGEST_LEAF.as_secs());
    let sequence = hierarchy.sequence;
    let mut put = |key: &str, bytes: Vec<u8>| values.insert(key.to_owned(), Zeroizing::new(bytes));
    put(HIERARCHY, record::bytes(HIERARCHY, &hierarchy)?);
    put(AUDIT, record::bytes(AUDIT, &Head::after(head.lines, head.hash))?);
    put(ISSUING, record::bytes(ISSUING, &issuing)?);
    put(RESTORED, record::bytes(RESTORED, &now)?);
    create(directory, &values.into_iter().collect::<Vec<_>>())?;
    Ok(Restored { trust_domain: inside.trust_domain, made: written(inside.made), sequence })
}

fn seal(plain: &[u8], passphrase: &Passphrase) -> Result<Vec<u8>, String> {
    let told = |error: &dyn std::fmt::Display| format!("the backup cannot be sealed: {error}");
    let salt = random::bytes::<16>().map_err(|error| told(&error))?;
    let nonce = random::bytes::<12>().map_err(|error| told(&error))?;
    let cost = scrypt::Params::new(SCRYPT_LOG_N, 8, 1).map_err(|error| told(&error))?;
    let scheme = pbes2::Parameters::scrypt_aes256gcm(cost, &salt, nonce).map_err(|error| told(&error))?;
    let sealed = scheme.encrypt(passphrase.bytes(), plain).map_err(|error| told(&error))?;
    let encrypted_data = OctetStringRef::new(&sealed).map_err(|error| told(&error))?;
    EncryptedPrivateKeyInfo { encryption_algorithm: scheme.into(), encrypted_data }
        .to_der()
        .map_err(|error| told(&error))
}

fn unseal(sealed: &[u8], passphrase: &Passphrase) -> Result<Zeroizing<Vec<u8>>, String> {
    let info = EncryptedPrivateKeyInfoRef::try_from(sealed).map_err(|_| "it is no backup".to_owned())?;
    let plain = info
        .encryption_algorithm
        .decrypt(passphrase.bytes(), info.encrypted_data.as_bytes())
        .map_err(|_| "the passphrase does not open it, or it was changed".to_owned())?;
    Ok(Zeroizing::new(plain))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sealed_text_opens_with_its_passphrase_and_unchanged() {
        let passphrase = |text: &str| Passphrase::new(Zeroizing::new(text.as_bytes().to_vec())).unwrap();
        let right = passphrase("correct horse battery");
        let sealed = seal(b"plain text", &right).unwrap();
        assert!(!sealed.windows(5).any(|part| part == b"plain"));
        assert_eq!(unseal(&sealed, &right).unwrap().as_slice(), b"plain text");
        assert!(unseal(&sealed, &passphrase("another passphrase")).unwrap_err().contains("passphrase"));
        let mut changed = sealed.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        assert!(unseal(&changed, &right).unwrap_err().contains("changed"));
        assert!(unseal(b"x", &right).unwrap_err().contains("no backup"));
        assert_ne!(seal(b"plain text", &right).unwrap(), sealed, "salt and nonce are new each time");
    }
}
