//! Says when it is time to look at the files again.
//!
//! The *directory* is watched, never a file: a rename puts another file in its place, and a watch would stay with the
//! old one. A watch is only a hint that makes changes quick. It misses what happens behind a link or on a network file
//! system, and it ends with its directory; so the caller looks now and then as well, and checks with
//! [`Watch::is_on`] that the directory is still the one that is watched.

use std::ffi::{OsStr, OsString};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use notify::event::{AccessKind, AccessMode};
use notify::{Event, EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::watch;

/// A directory under watch.
#[derive(Debug)]
pub(super) struct Watch {
    /// Ends the watch, and its thread, when it is dropped.
    _watcher: RecommendedWatcher,
    directory: PathBuf,
    identity: (u64, u64),
}

impl Watch {
    /// Watches for changes of `path`, a file or a directory, and counts them in `events`.
    ///
    /// Returns an error where the directory does not exist or the system has no watch left (inotify's limits).
    pub(super) fn start(path: &Path, events: &watch::Sender<u64>) -> Result<Self, notify::Error> {
        let (directory, only) = split(path);
        let identity = identity(&directory)?;
        let (events, root) = (events.clone(), directory.clone());
        let mut watcher = notify::recommended_watcher(move |event: notify::Result<Event>| {
            // An error (a queue that overflowed, say) means that something may have been missed.
            if event.map_or(true, |event| is_change(&event, &root, only.as_deref())) {
                events.send_modify(|count| *count = count.wrapping_add(1));
            }
        })?;
        watcher.watch(&directory, RecursiveMode::NonRecursive)?;
        Ok(Self { _watcher: watcher, directory, identity })
    }

    /// Tells whether the directory of `path` is still the one that is watched: it may have been removed and made anew,
    /// or a link may lead elsewhere now.
    pub(super) fn is_on(&self, path: &Path) -> bool {
        split(path).0 == self.directory && identity(&self.directory).is_ok_and(|identity| identity == self.identity)
    }
}

/// Returns the directory to watch and, where `path` is a file, its name there.
fn split(path: &Path) -> (PathBuf, Option<OsString>) {
    if path.is_dir() {
        return (path.to_owned(), None);
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    (parent.map_or_else(|| PathBuf::from("."), Path::to_owned), path.file_name().map(OsStr::to_owned))
}

fn identity(directory: &Path) -> Result<(u64, u64), notify::Error> {
    let metadata = std::fs::metadata(directory).map_err(notify::Error::io)?;
    Ok((metadata.dev(), metadata.ino()))
}

/// Tells whether an event can mean other endpoints.
fn is_change(event: &Event, root: &Path, only: Option<&OsStr>) -> bool {
    // Our own reading opens and closes files; to count that would be a loop.
    if matches!(event.kind, EventKind::Access(kind) if kind != AccessKind::Close(AccessMode::Write)) {
        return false;
    }
    event.need_rescan() || event.paths.is_empty() || event.paths.iter().any(|path| is_ours(path, root, only))
}

fn is_ours(path: &Path, root: &Path, only: Option<&OsStr>) -> bool {
    if path == root {
        return true;
    }
    let Some(name) = path.file_name() else { return true };
    // `..data` and `..2026_01_01` are how a `ConfigMap` volume swaps its content; other hidden names are scratch files.
    if name.as_encoded_bytes().starts_with(b"..") {
        return true;
    }
    match only {
        Some(only) => name == only,
        None => !name.as_encoded_bytes().starts_with(b"."),
    }
}

#[cfg(test)]
mod tests {
    use notify::event::{CreateKind, Flag, ModifyKind};

    use super::*;

    fn event(kind: EventKind, path: &str) -> Event {
        Event::new(kind).add_path(Path::new("/etc/endpoints.d").join(path))
    }

    fn changes(event: &Event, only: Option<&str>) -> bool {
        is_change(event, Path::new("/etc/endpoints.d"), only.map(OsStr::new))
    }

    #[test]
    fn our_own_reading_is_no_change() {
        let open = event(EventKind::Access(AccessKind::Open(AccessMode::Any)), "a.toml");
        let read = event(EventKind::Access(AccessKind::Close(AccessMode::Read)), "a.toml");
        let written = event(EventKind::Access(AccessKind::Close(AccessMode::Write)), "a.toml");
        assert_eq!([changes(&open, None), changes(&read, None), changes(&written, None)], [false, false, true]);
    }

    #[test]
    fn neighbours_and_scratch_files_are_no_change() {
        let touched = |name: &str, only| changes(&event(EventKind::Modify(ModifyKind::Any), name), only);
        assert!(touched("a.toml", None));
        assert!(!touched(".a.toml.swp", None));
        assert!(touched("..data", None));
        assert!(touched("a.toml", Some("a.toml")));
        assert!(!touched("passwd", Some("a.toml")));
        assert!(touched("..data", Some("a.toml")));
    }

    #[test]
    fn events_that_were_lost_are_a_change() {
        assert!(changes(&Event::new(EventKind::Other).set_flag(Flag::Rescan), None));
    }

    #[test]
    fn the_directory_itself_is_a_change() {
        let gone = Event::new(EventKind::Create(CreateKind::Any)).add_path("/etc/endpoints.d".into());
        assert!(changes(&gone, None));
    }

    #[test]
    fn a_directory_that_was_made_anew_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let (path, old) = (parent.path().join("d"), parent.path().join("old"));
        std::fs::create_dir(&path).unwrap();
        let watch = Watch::start(&path, &watch::Sender::new(0)).unwrap();
        assert!(watch.is_on(&path));
        // Renamed and not removed, so that the new one cannot get the same inode.
        std::fs::rename(&path, old).unwrap();
        assert!(!watch.is_on(&path));
        std::fs::create_dir(&path).unwrap();
        assert!(!watch.is_on(&path));
    }
}
