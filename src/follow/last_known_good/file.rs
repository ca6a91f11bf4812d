//! One file on disk: how it is named, written, trusted and removed. Everything here blocks.
//!
//! The file is JSON, so that a person can read it: format version, target, time, checksum, endpoints. It is written to a
//! scratch file in the same directory, synced, renamed and the directory synced: after a crash there is the old file or
//! the new one. The checksum is against what a file system can do in spite of that; it is no protection from a person
//! who can write there.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use meshless_discovery::{Snapshot, Target};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::TTL;

/// Version of the format; another one is ignored.
const FORMAT: u32 = 1;

/// Most bytes that are read: ten thousand endpoints with much metadata.
const MAX_BYTES: u64 = 32 * 1024 * 1024;

/// Bytes of a target that are kept readable in the name of its file.
const READABLE: usize = 80;

/// Age at which a scratch file was left behind by a crash.
const SCRATCH_AGE: Duration = Duration::from_hours(1);

/// A snapshot that was on disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Saved {
    /// The endpoints.
    pub snapshot: Snapshot,
    /// When the backend had confirmed them.
    pub at: SystemTime,
    /// How long ago that was; zero where the clock went back since.
    pub age: Duration,
}

#[derive(Debug, Serialize, Deserialize)]
struct Content {
    format: u32,
    target: String,
    /// Seconds since 1970.
    saved_at: u64,
    checksum: String,
    snapshot: Box<RawValue>,
}

/// What every version of the format has.
#[derive(Debug, Deserialize)]
struct Version {
    format: u32,
}

/// Returns the name of a target's file: readable, unique by a hash, and the same in every build.
pub(super) fn name(target: &Target) -> String {
    let target = target.to_string();
    let readable: String = target
        .chars()
        .take(READABLE)
        .map(|character| match character {
            'a'..='z' | 'A'..='Z' | '0'..='9' | '.' | '_' | '-' => character,
            _ => '_',
        })
        .collect();
    // A name that begins with a dot is one of our scratch files.
    format!("{}-{:016x}.json", readable.trim_start_matches('.'), fnv1a(target.as_bytes()))
}

/// Reads a target's file. `Ok(None)` where there is none; an error says why it is not trusted.
pub(super) fn read(path: &Path, target: &Target, now: SystemTime) -> Result<Option<Saved>, String> {
    let mut text = String::new();
    match File::open(path) {
        Ok(file) => file.take(MAX_BYTES).read_to_string(&mut text).map_err(|error| error.to_string())?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error.to_string()),
    };
    let torn = |error: serde_json::Error| format!("it is damaged: {error}");
    let version = serde_json::from_str::<Version>(&text).map_err(torn)?;
    if version.format != FORMAT {
        return Err(format!("its format is {}, this build reads {FORMAT}", version.format));
    }
    let content = serde_json::from_str::<Content>(&text).map_err(torn)?;
    if content.checksum != checksum(&content.target, content.saved_at, content.snapshot.get()) {
        return Err("it is damaged: its checksum does not fit".to_owned());
    }
    if content.target != target.to_string() {
        return Err(format!("it is of another target, `{}`", content.target));
    }
    let at = UNIX_EPOCH
        .checked_add(Duration::from_secs(content.saved_at))
        .ok_or_else(|| format!("its time {} is beyond all clocks", content.saved_at))?;
    // A machine may start with its clock in the past: then the file is as good as new.
    let age = now.duration_since(at).unwrap_or_default();
    if age > TTL {
        return Err(format!("it is {} h old, more than {} h", age.as_secs() / 3600, TTL.as_secs() / 3600));
    }
    let snapshot = serde_json::from_str::<Snapshot>(content.snapshot.get()).map_err(|error| error.to_string())?;
    Ok(Some(Saved { snapshot, at, age }))
}

/// Writes a target's file, whole or not at all.
pub(super) fn write(directory: &Path, target: &Target, snapshot: &Snapshot, at: SystemTime) -> Result<(), String> {
    let name = name(target);
    let path = directory.join(&name);
    // Two processes that share a directory by mistake do not share a scratch file.
    let scratch = directory.join(format!(".{name}.{}", std::process::id()));
    let target = target.to_string();
    let saved_at = at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let snapshot =
        serde_json::to_string(snapshot).and_then(RawValue::from_string).map_err(|error| error.to_string())?;
    let checksum = checksum(&target, saved_at, snapshot.get());
    let content = Content { format: FORMAT, target, saved_at, checksum, snapshot };
    let bytes = serde_json::to_vec(&content).map_err(|error| error.to_string())?;
    replace(directory, &path, &scratch, &bytes).map_err(|error| {
        let _ = fs::remove_file(&scratch);
        format!("{}: {error}", path.display())
    })
}

fn replace(directory: &Path, path: &Path, scratch: &Path, bytes: &[u8]) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(scratch)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(scratch, path)?;
    File::open(directory)?.sync_all()
}

/// Removes files that are too old to be used, and scratch files that a crash left. Files in use are written again
/// every hour while their source answers, so an old one belongs to a target that is no longer asked for.
pub(super) fn sweep(directory: &Path, now: SystemTime) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    for path in entries.flatten().map(|entry| entry.path()) {
        let Some(limit) = limit(&path) else { continue };
        let Ok(modified) = fs::symlink_metadata(&path).and_then(|metadata| metadata.modified()) else { continue };
        if now.duration_since(modified).is_ok_and(|age| age > limit) {
            match fs::remove_file(&path) {
                Ok(()) => tracing::debug!(file = %path.display(), "Removed an old snapshot."),
                Err(error) => tracing::debug!(file = %path.display(), %error, "An old snapshot could not be removed."),
            }
        }
    }
}

/// Returns the age at which a file may be removed; `None` for files that are not ours.
fn limit(path: &Path) -> Option<Duration> {
    let name = path.file_name()?.to_str()?;
    let (is_scratch, named) = match name.strip_prefix('.') {
        Some(scratch) => (true, scratch.rsplit_once('.').map(|(named, _process)| named)?),
        None => (false, name),
    };
    let (_readable, hash) = named.strip_suffix(".json")?.rsplit_once('-')?;
    let is_ours = hash.len() == 16 && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_ours.then_some(if is_scratch { SCRATCH_AGE } else { TTL })
}

fn checksum(target: &str, saved_at: u64, snapshot: &str) -> String {
    format!("{:016x}", fnv1a(format!("{target}\n{saved_at}\n{snapshot}").as_bytes()))
}

/// FNV-1a, 64 bits: a hash that stays the same from build to build, which the standard library's need not.
fn fnv1a(bytes: &[u8]) -> u64 {
    bytes.iter().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::path::PathBuf;

    use meshless_discovery::Endpoint;
    use proptest::prelude::*;

    use super::*;

    fn target(path: &str) -> Target {
        Target { backend: "file".to_owned(), path: path.to_owned(), options: BTreeMap::new() }
    }

    fn snapshot() -> Snapshot {
        let endpoint = |address: &str| Endpoint::new(address.parse().unwrap());
        Snapshot::new(vec![endpoint("10.0.0.1:80"), endpoint("unix:/run/web.sock")]).unwrap()
    }

    fn now() -> SystemTime {
        UNIX_EPOCH + Duration::from_hours(500_000)
    }

    fn written(directory: &Path) -> PathBuf {
        write(directory, &target("web"), &snapshot(), now()).unwrap();
        directory.join(name(&target("web")))
    }

    #[test]
    fn what_was_written_is_read_with_its_age() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let later = now() + Duration::from_mins(1);
        let saved = read(&path, &target("web"), later).unwrap().unwrap();
        assert_eq!(saved, Saved { snapshot: snapshot(), at: now(), age: Duration::from_mins(1) });
    }

    #[test]
    fn a_clock_that_went_back_makes_a_file_young() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        assert_eq!(read(&path, &target("web"), UNIX_EPOCH).unwrap().unwrap().age, Duration::ZERO);
    }

    #[test]
    fn a_file_that_is_old_or_foreign_or_of_another_version_is_not_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let reason = |target: &Target, now| read(&path, target, now).unwrap_err();
        assert_eq!(reason(&target("web"), now() + TTL + Duration::from_secs(1)), "it is 24 h old, more than 24 h");
        assert_eq!(reason(&target("api"), now()), "it is of another target, `file/web`");
        fs::write(&path, r#"{"format": 2, "anything": "else"}"#).unwrap();
        assert_eq!(reason(&target("web"), now()), "its format is 2, this build reads 1");
    }

    #[test]
    fn no_torn_file_is_trusted() {
        let directory = tempfile::tempdir().unwrap();
        let path = written(directory.path());
        let whole = fs::read(&path).unwrap();
        for length in 0..whole.len() {
            fs::write(&path, &whole[..length]).unwrap();
            assert!(read(&path, &target("web"), now()).is_err(), "{length} of {} bytes", whole.len());
        }
        fs::write(&path, vec![0; whole.len()]).unwrap();
        assert!(read(&path, &target("web"), now()).is_err());
    }

    proptest! {
        #[test]
        fn no_file_with_one_damaged_byte_gives_other_endpoints(at: prop::sample::Index, damage in 1_u8..) {
            let directory = tempfile::tempdir().unwrap();
            let path = written(directory.path());
            let mut bytes = fs::read(&path).unwrap();
            let at = at.index(bytes.len());
            bytes[at] ^= damage;
            fs::write(&path, bytes).unwrap();
            if let Ok(Some(saved)) = read(&path, &target("web"), now()) {
                prop_assert_eq!(saved.snapshot, snapshot());
            }
        }

        #[test]
        fn a_name_is_one_plain_visible_file_name(path in ".{0,300}") {
            let name = name(&target(&path));
            prop_assert!(name.len() < 128);
            prop_assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"._-".contains(&byte)));
            prop_assert!(!name.starts_with('.'));
        }
    }

    #[test]
    fn names_stay_the_same_and_differ_where_targets_do() {
        assert_eq!(name(&target("web")), "file_web-11af77a59ca75e12.json");
        let long = "a".repeat(300);
        assert_ne!(name(&target(&format!("{long}b"))), name(&target(&format!("{long}c"))));
        assert_ne!(name(&target("a/b")), name(&target("a_b")));
    }

    #[test]
    fn files_are_for_their_owner_alone_and_no_scratch_file_stays() {
        use std::os::unix::fs::PermissionsExt;
        let directory = tempfile::tempdir().unwrap();
        let inner = directory.path().join("snapshots");
        let path = written(&inner);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        assert_eq!(fs::metadata(&inner).unwrap().permissions().mode() & 0o777, 0o700);
        assert_eq!(fs::read_dir(&inner).unwrap().count(), 1);
    }

    #[test]
    fn the_sweep_takes_what_is_old_and_ours_alone() {
        let directory = tempfile::tempdir().unwrap();
        let ours = written(directory.path());
        let scratch = directory.path().join(format!(".{}.42", name(&target("web"))));
        let foreign = directory.path().join("notes.json");
        fs::write(&scratch, "").unwrap();
        fs::write(&foreign, "").unwrap();
        let there = || [ours.exists(), scratch.exists(), foreign.exists()];
        let now = SystemTime::now();
        sweep(directory.path(), now);
        assert_eq!(there(), [true, true, true]);
        sweep(directory.path(), now + SCRATCH_AGE + Duration::from_mins(1));
        assert_eq!(there(), [true, false, true]);
        sweep(directory.path(), now + TTL + Duration::from_mins(1));
        assert_eq!(there(), [false, false, true]);
    }
}
