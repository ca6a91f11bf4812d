//! What all sources of one `file` backend share: the watch, the reading, and the newest outcome.
//!
//! Nothing runs in the background. Of the sources that wait, one holds the lock of [`Driver`] and looks for change on
//! behalf of all; the others wait for what it finds. When its call is dropped the next one takes over and, since what
//! was read so far is noted only after it was published, no change is lost.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

use super::document::{self, Services};
use super::read;
use super::watch::Watch;
use crate::{Calls, Error};

/// How long it must be quiet after a change before files are read: an editor truncates first and writes then.
const SETTLE: Duration = Duration::from_millis(100);

/// Longest wait for that quiet.
const SETTLE_AT_MOST: Duration = Duration::from_secs(1);

/// How often files are looked at although nothing was reported.
const POLL: Duration = Duration::from_secs(5);

/// What reading came to. Each error, and each success that differs from the one before, is a generation of its own.
#[derive(Debug, Clone)]
pub(super) struct Outcome {
    pub(super) generation: u64,
    pub(super) result: Result<Arc<Services>, Error>,
}

/// What the sources of one backend share.
#[derive(Debug)]
pub(super) struct Shared {
    path: PathBuf,
    poll: Duration,
    /// The newest outcome; generation 0 is "not read yet" and shown to nobody.
    outcome: watch::Sender<Outcome>,
    /// Counts changes that the watch reported.
    events: watch::Sender<u64>,
    driver: Mutex<Driver>,
    calls: Calls,
}

/// State of whoever looks for change.
#[derive(Debug, Default)]
struct Driver {
    watch: Option<Watch>,
    /// The last content that was understood.
    good: Option<(u64, Arc<Services>)>,
    /// When the files were read last, and the count of events just before.
    read: Option<(Instant, u64)>,
}

impl Shared {
    pub(super) fn new(path: PathBuf) -> Self {
        Self {
            path,
            poll: POLL,
            outcome: watch::Sender::new(Outcome { generation: 0, result: Ok(Arc::default()) }),
            events: watch::Sender::new(0),
            driver: Mutex::default(),
            calls: Calls::default(),
        }
    }

    /// Returns how often the files were read.
    pub(super) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Returns where the files are.
    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    /// Sets how often files are looked at; a test chooses so seldom that only the watch can explain what it sees, or
    /// the other way round.
    #[cfg(test)]
    pub(super) fn with_poll(self, poll: Duration) -> Self {
        Self { poll, ..self }
    }

    /// Pretends that the watch reported a change.
    #[cfg(test)]
    pub(super) fn look_again(&self) {
        self.events.send_modify(|count| *count += 1);
    }

    /// Returns how many outcomes were news so far.
    #[cfg(test)]
    pub(super) fn generation(&self) -> u64 {
        self.outcome.borrow().generation
    }

    /// Waits for an outcome that is newer than `seen` and returns it. Cancel-safe.
    pub(super) async fn newer_than(&self, seen: u64) -> Outcome {
        let mut outcomes = self.outcome.subscribe();
        loop {
            {
                let outcome = outcomes.borrow_and_update();
                if outcome.generation > seen {
                    return outcome.clone();
                }
            }
            tokio::select! {
                biased;
                // The sender is ours, so this cannot fail.
                _ = outcomes.changed() => {}
                // Who waited for the lock may have been overtaken: look before driving.
                mut driver = self.driver.lock() => if self.outcome.borrow().generation <= seen {
                    self.drive(&mut driver).await;
                }
            }
        }
    }

    /// Waits until it is time to read, reads, and publishes what that came to if it is news.
    async fn drive(&self, driver: &mut Driver) {
        self.until_due(driver).await;
        let events = *self.events.borrow();
        self.calls.count("read");
        let (path, sender) = (self.path.clone(), self.events.clone());
        let (watch, good) = (driver.watch.take(), driver.good.clone());
        let done = tokio::task::spawn_blocking(move || {
            // Watch first, read then: a change between the two is reported. Without a watch (inotify's limits, a
            // directory that is not there yet) the poll alone finds changes.
            let watch = watch.filter(|watch| watch.is_on(&path)).or_else(|| {
                Watch::start(&path, &sender)
                    .inspect_err(
                        |error| tracing::debug!(path = %path.display(), %error, "No watch, looking now and then."),
                    )
                    .ok()
            });
            let result = read::read(&path).and_then(|texts| {
                let digest = read::digest(&texts);
                match good {
                    Some((known, services)) if known == digest => Ok((digest, services)),
                    _ => document::parse(&texts).map(|services| (digest, Arc::new(services))),
                }
            });
            (watch, result)
        })
        .await;
        let result = match done {
            Ok((watch, result)) => {
                driver.watch = watch;
                result
            }
            Err(error) => Err(Error::Malformed(format!("reading {} failed: {error}", self.path.display()))),
        };
        let news = match (&result, &driver.good) {
            (Ok((digest, _)), Some((known, _))) => digest != known || self.outcome.borrow().result.is_err(),
            _ => true,
        };
        // No await from here on.
        driver.read = Some((Instant::now(), events));
        if let Ok(good) = &result {
            driver.good = Some(good.clone());
        }
        if news {
            self.outcome.send_modify(|outcome| {
                outcome.generation += 1;
                outcome.result = result.map(|(_, services)| services);
            });
        }
    }

    /// Waits until files should be read: at once the first time, after a pause when the last reading failed (the
    /// caller has its own back-off), else when the watch reported a change or the poll is due.
    async fn until_due(&self, driver: &Driver) {
        let Some((read_at, seen)) = driver.read else { return };
        if self.outcome.borrow().result.is_err() {
            return sleep_until(read_at + SETTLE).await;
        }
        let mut events = self.events.subscribe();
        let changed = timeout_at(read_at + self.poll, events.wait_for(|count| *count != seen)).await.is_ok();
        if !changed {
            return;
        }
        let latest = Instant::now() + SETTLE_AT_MOST;
        events.mark_unchanged();
        while let Ok(Ok(())) = timeout_at(latest.min(Instant::now() + SETTLE), events.changed()).await {
            if Instant::now() >= latest {
                break;
            }
        }
    }
}
