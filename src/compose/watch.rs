//! Notices that a configuration or certificate file changed.
//!
//! Files are looked at, not watched: a watch misses renames of parent folders, remounts and network file systems, and
//! what is missed stays missed. A change counts once it has been the same for two looks, so that a file that is being
//! written is not read in the middle.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use tokio::sync::mpsc;

use super::Event;
use super::status::Status;

/// How often files are looked at.
const LOOK: Duration = Duration::from_millis(500);

/// What tells one state of a file from another; `None`: it is not there.
type Prints = BTreeMap<PathBuf, Option<(SystemTime, u64, u64)>>;

/// What was seen in one look.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
struct Seen {
    /// The configuration: files, and what is in its directories.
    configuration: Prints,
    /// Files that the configuration names.
    named: Prints,
}

impl Seen {
    fn look(paths: &[PathBuf], files: &[PathBuf]) -> Self {
        let mut seen = Self::default();
        for path in paths {
            if path.is_dir() {
                let entries = fs::read_dir(path).into_iter().flatten().flatten();
                seen.configuration.extend(entries.map(|entry| (entry.path(), print(&entry.path()))));
            } else {
                seen.configuration.insert(path.clone(), print(path));
            }
        }
        seen.named.extend(files.iter().map(|file| (file.clone(), print(file))));
        seen
    }

    /// Tells whether something is to be read again. A file that is watched only now, or no more, has not changed by that.
    fn differs(&self, now: &Self) -> bool {
        let changed = |(file, print): (&PathBuf, &_)| now.named.get(file).is_some_and(|now| now != print);
        self.configuration != now.configuration || self.named.iter().any(changed)
    }
}

/// Sends a reload for every change, for ever.
pub(super) async fn watch(paths: Vec<PathBuf>, status: Arc<Status>, events: mpsc::UnboundedSender<Event>) {
    let mut applied = Seen::look(&paths, &status.watched_files());
    let mut pending: Option<Seen> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let (paths, files) = (paths.clone(), status.watched_files());
        let Ok(now) = tokio::task::spawn_blocking(move || Seen::look(&paths, &files)).await else { return };
        if !applied.differs(&now) {
            applied = now;
            pending = None;
        } else if pending.as_ref() == Some(&now) {
            applied = now;
            pending = None;
            if events.send(Event::Reload).is_err() {
                return;
            }
        } else {
            pending = Some(now);
        }
    }
}

fn print(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_comes_goes_or_changes_in_a_directory_is_a_change_and_one_that_is_named_anew_is_not() {
        let dir = tempfile::tempdir().unwrap();
        let (folder, cert) = (dir.path().join("conf.d"), dir.path().join("cert.pem"));
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a.toml"), "a").unwrap();
        fs::write(&cert, "one").unwrap();
        let look = |files: &[PathBuf]| Seen::look(std::slice::from_ref(&folder), files);
        let first = look(&[]);
        let with_cert = look(std::slice::from_ref(&cert));
        assert!(!first.differs(&with_cert) && !with_cert.differs(&first));
        fs::write(&cert, "other").unwrap();
        assert!(with_cert.differs(&look(std::slice::from_ref(&cert))));
        fs::remove_file(&cert).unwrap();
        assert!(with_cert.differs(&look(std::slice::from_ref(&cert))));
        fs::write(folder.join("b.toml"), "b").unwrap();
        let second = look(&[]);
        assert!(first.differs(&second));
        fs::remove_file(folder.join("a.toml")).unwrap();
        assert!(second.differs(&look(&[])));
    }
}
