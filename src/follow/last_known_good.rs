//! The last known good snapshot of each target, on disk: a start while a registry is away is no outage.
//!
//! One file for each target under `<state_dir>/snapshots/`. [`LastKnownGood`] takes what is to be kept and never waits;
//! one [`Writer`] writes, at most once a second and the newest only, away from the runtime's threads. Nothing here is
//! ever fatal: a file that cannot be trusted is ignored and named, a directory that cannot be written is said once.

mod file;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use meshless_discovery::{Snapshot, Target};
use tokio::sync::mpsc;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep, sleep_until};

pub use file::Saved;

/// Age at which a file is no longer used, and removed.
pub const TTL: Duration = Duration::from_hours(24);

/// Wait before writing, so that a busy target is written once for many changes.
const COALESCE: Duration = Duration::from_secs(1);

/// How often files that nobody uses any more are looked for.
const SWEEP: Duration = Duration::from_hours(1);

/// A handle to what is kept on disk; clones share it.
#[derive(Debug, Clone)]
pub struct LastKnownGood {
    shared: Arc<Shared>,
    /// Wakes the writer; it ends when all handles are gone.
    wake: mpsc::Sender<()>,
}

#[derive(Debug)]
struct Shared {
    directory: PathBuf,
    waiting: Mutex<Waiting>,
    writable: AtomicBool,
}

/// What is to be written, the newest for each target: bounded by the number of targets, however slow the disk.
type Waiting = BTreeMap<Target, (Arc<Snapshot>, SystemTime)>;

impl LastKnownGood {
    /// Returns the handle for `<state_dir>/snapshots/`, and the writer that somebody has to run. Does no IO.
    pub fn new(state_dir: &Path) -> (Self, Writer) {
        let (wake, woken) = mpsc::channel(1);
        let shared = Arc::new(Shared {
            directory: state_dir.join("snapshots"),
            waiting: Mutex::default(),
            writable: AtomicBool::new(true),
        });
        (Self { shared: Arc::clone(&shared), wake }, Writer { shared, woken })
    }

    /// Reads what is known about a target. `None` where there is nothing or nothing that can be trusted; the latter is
    /// a warning that says which file and why.
    pub async fn load(&self, target: &Target) -> Option<Saved> {
        let path = self.shared.directory.join(file::name(target));
        let (wanted, at) = (target.clone(), path.clone());
        let read = spawn_blocking(move || file::read(&at, &wanted, SystemTime::now())).await;
        match read.unwrap_or_else(|error| Err(error.to_string())) {
            Ok(saved) => saved,
            Err(reason) => {
                tracing::warn!(%target, file = %path.display(), reason, "A last known good snapshot is ignored.");
                None
            }
        }
    }

    /// Keeps a snapshot that was true at `now`; returns at once.
    pub fn keep(&self, target: &Target, snapshot: &Arc<Snapshot>, now: SystemTime) {
        self.shared.waiting().insert(target.clone(), (Arc::clone(snapshot), now));
        // Full means that the writer is woken already.
        let _ = self.wake.try_send(());
    }

    /// Forgets what is to be written for a target; tells whether there was something.
    #[cfg(test)]
    pub(super) fn forget(&self, target: &Target) -> bool {
        self.shared.waiting().remove(target).is_some()
    }

    /// Tells whether the last write worked; true before the first one. For a gauge.
    pub fn is_writable(&self) -> bool {
        self.shared.writable.load(Ordering::Relaxed)
    }
}

/// Says what is on disk of a target, for who looks without a gateway: as [`LastKnownGood::load`], and why a file is not
/// trusted. Blocks.
pub fn kept(state_dir: &Path, target: &Target, now: SystemTime) -> Result<Option<Saved>, String> {
    file::read(&state_dir.join("snapshots").join(file::name(target)), target, now)
}

impl Shared {
    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        // A map is whole after a panic elsewhere.
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Writes what handles keep.
#[derive(Debug)]
pub struct Writer {
    shared: Arc<Shared>,
    woken: mpsc::Receiver<()>,
}

impl Writer {
    /// Writes until all handles are gone, then writes what is left and ends.
    pub async fn run(mut self) {
        let mut sweep = Instant::now();
        loop {
            tokio::select! {
                woken = self.woken.recv() => match woken {
                    Some(()) => {
                        self.coalesce().await;
                        self.write().await;
                    }
                    None => break,
                },
                () = sleep_until(sweep) => {
                    let directory = self.shared.directory.clone();
                    let _ = spawn_blocking(move || file::sweep(&directory, SystemTime::now())).await;
                    sweep = Instant::now() + SWEEP;
                }
            }
        }
        self.write().await;
    }

    /// Waits for more, but not when the process ends.
    async fn coalesce(&mut self) {
        let rest = sleep(COALESCE);
        tokio::pin!(rest);
        loop {
            tokio::select! {
                () = &mut rest => return,
                woken = self.woken.recv() => if woken.is_none() { return },
            }
        }
    }

    async fn write(&self) {
        let waiting = std::mem::take(&mut *self.shared.waiting());
        if waiting.is_empty() {
            return;
        }
        let directory = self.shared.directory.clone();
        let written = spawn_blocking(move || {
            waiting.iter().try_for_each(|(target, (snapshot, at))| file::write(&directory, target, snapshot, *at))
        });
        let result = written.await.unwrap_or_else(|error| Err(error.to_string()));
        let was_writable = self.shared.writable.swap(result.is_ok(), Ordering::Relaxed);
        match result {
            Err(error) if was_writable => tracing::warn!(
                directory = %self.shared.directory.display(),
                error,
                "Snapshots cannot be kept on disk; a restart while discovery is away will find no endpoints. \
                 Make the directory writable, or set `state_dir`."
            ),
            Ok(()) if !was_writable => {
                tracing::info!(directory = %self.shared.directory.display(), "Snapshots are kept on disk again.");
            }
            Ok(()) | Err(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use meshless_discovery::Endpoint;

    use super::*;

    fn target(path: &str) -> Target {
        Target { backend: "file".to_owned(), path: path.to_owned(), options: BTreeMap::new() }
    }

    fn snapshot(address: &str) -> Arc<Snapshot> {
        Arc::new(Snapshot::new(vec![Endpoint::new(address.parse().unwrap())]).unwrap())
    }

    async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
        let deadline = Instant::now() + Duration::from_secs(20);
        while !is_so() {
            assert!(Instant::now() < deadline, "{what}");
            sleep(Duration::from_millis(10)).await;
        }
    }

    #[tokio::test]
    async fn what_was_kept_is_there_after_a_restart_and_of_many_changes_the_last_one() {
        let state = tempfile::tempdir().unwrap();
        let (kept, writer) = LastKnownGood::new(state.path());
        for last in 1..=9 {
            kept.keep(&target("web"), &snapshot(&format!("10.0.0.{last}:80")), SystemTime::now());
        }
        kept.keep(&target("other"), &Arc::default(), SystemTime::now());
        assert!(kept.is_writable());
        drop(kept);
        writer.run().await;

        let (kept, _writer) = LastKnownGood::new(state.path());
        assert_eq!(kept.load(&target("web")).await.unwrap().snapshot, *snapshot("10.0.0.9:80"));
        assert!(kept.load(&target("other")).await.unwrap().snapshot.is_empty());
        assert!(kept.load(&target("unknown")).await.is_none());
    }

    #[tokio::test]
    async fn a_directory_that_cannot_be_written_is_noted_and_nothing_fails() {
        let state = tempfile::tempdir().unwrap();
        // A file where the directory should be; permissions would not stop a test that runs as root.
        std::fs::write(state.path().join("snapshots"), "").unwrap();
        let (kept, writer) = LastKnownGood::new(state.path());
        kept.keep(&target("web"), &snapshot("10.0.0.1:80"), SystemTime::now());
        let writer = tokio::spawn(writer.run());
        until("the failure was noted", || !kept.is_writable()).await;
        assert!(kept.load(&target("web")).await.is_none());

        std::fs::remove_file(state.path().join("snapshots")).unwrap();
        kept.keep(&target("web"), &snapshot("10.0.0.1:80"), SystemTime::now());
        let seen = kept.clone();
        drop(kept);
        until("it is written again", || seen.is_writable()).await;
        assert!(seen.load(&target("web")).await.is_some());
        drop(seen);
        writer.await.unwrap();
    }
}
