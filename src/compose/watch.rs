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

/// What tells one state of a file from another.
type Prints = BTreeMap<PathBuf, Option<(SystemTime, u64, u64)>>;

/// Sends a reload for every change, for ever.
pub(super) async fn watch(paths: Vec<PathBuf>, status: Arc<Status>, events: mpsc::UnboundedSender<Event>) {
    let mut applied = look(&paths, &status.watched_files());
    let mut pending: Option<Prints> = None;
    loop {
        tokio::time::sleep(LOOK).await;
        let (paths, files) = (paths.clone(), status.watched_files());
        let Ok(now) = tokio::task::spawn_blocking(move || look(&paths, &files)).await else { return };
        if now == applied {
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

fn look(paths: &[PathBuf], files: &[PathBuf]) -> Prints {
    let mut prints = Prints::new();
    for path in paths {
        if path.is_dir() {
            let entries = fs::read_dir(path).into_iter().flatten().flatten();
            prints.extend(entries.map(|entry| (entry.path(), print(&entry.path()))));
        } else {
            prints.insert(path.clone(), print(path));
        }
    }
    prints.extend(files.iter().map(|file| (file.clone(), print(file))));
    prints
}

fn print(path: &Path) -> Option<(SystemTime, u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let metadata = fs::metadata(path).ok()?;
    Some((metadata.modified().ok()?, metadata.len(), metadata.ino()))
}
