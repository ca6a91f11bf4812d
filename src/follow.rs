//! The one runner: follows a source and deals with its failure, for every backend alike.
//!
//! ```text
//! Source::next ─ok──► changed? ──► Known (watch) ──► reconcile
//!      │                 └───────► last known good, on disk
//!      └─error──► keep what is known, note the failure, back off
//! ```
//!
//! An error is not an empty answer: what was known stays, in memory for as long as the process lives. A source that
//! panics is opened anew. A source that returns in a tight loop is slowed down. Nothing is spawned here: [`follow`]
//! returns a future, and whoever composes the process runs it. It ends when nobody listens any more.

pub(crate) mod backoff;
mod known;
pub mod last_known_good;
mod objects;
mod outage;
pub mod removals;

#[cfg(test)]
mod tests;

use std::any::Any;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshless_discovery::{Backend, Error, Snapshot, Source, Target, TargetError};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until, timeout};

pub use backoff::Backoff;
pub use known::{Answer, Failure, Known, Origin};
use last_known_good::LastKnownGood;
pub use objects::{KnownObjects, follow_objects};
pub use outage::Outage;
use outage::{Begins, Share};

/// How many answers may come one after another before the next ones are slowed down.
const BURST: u32 = 5;

/// Pause between answers once the burst is used up; each pause earns one answer of it back.
const PACE: Duration = Duration::from_millis(200);

/// How often a target that does not change is written down again, so that its age on disk stays true.
const CONFIRM: Duration = Duration::from_hours(1);

/// Longest wait for the disk at the start.
const LOAD: Duration = Duration::from_secs(2);

/// What is known about a target from now on, for as long as someone holds it.
#[derive(Debug, Clone)]
pub struct Followed {
    /// The target.
    pub target: Target,
    /// Wakes for another snapshot only; failures are noted in place and current whenever they are read.
    pub known: watch::Receiver<Known>,
}

/// Follows a target of a backend: returns what is known from now on, and the future that keeps it so.
///
/// The future never fails and ends once every clone of the [`Followed`] is dropped. Returns an error where the target is
/// wrong for the backend. `random` is for jitter; `disk` is where the last known good snapshot is read from at the
/// start and written to after each change; `outage` is shared by the targets of one backend.
pub fn follow(
    target: Target,
    backend: Arc<dyn Backend>,
    backoff: Backoff,
    random: fastrand::Rng,
    disk: Option<LastKnownGood>,
    outage: Outage,
) -> Result<(Followed, impl Future<Output = ()> + Send + 'static), TargetError> {
    let source = backend.source(&target)?;
    let (publish, known) = watch::channel(Known::default());
    let follower =
        Follower { target: target.clone(), backend, source, backoff, random, disk, publish, outage, share: None };
    let follow = async move {
        let listeners = follower.publish.clone();
        tokio::select! {
            () = listeners.closed() => {}
            () = follower.run() => {}
        }
    };
    Ok((Followed { target, known }, follow))
}

/// A target that is followed.
struct Follower {
    target: Target,
    backend: Arc<dyn Backend>,
    source: Box<dyn Source>,
    backoff: Backoff,
    random: fastrand::Rng,
    disk: Option<LastKnownGood>,
    publish: watch::Sender<Known>,
    outage: Outage,
    /// The part that this target has in an outage; `None` while it answers.
    share: Option<Share>,
}

impl Follower {
    async fn run(mut self) {
        self.load().await;
        let mut pace = Pace::new();
        loop {
            match self.next().await {
                Ok(snapshot) => {
                    self.backoff.reset();
                    self.answered(snapshot);
                    pace.answered().await;
                }
                Err(trouble) => {
                    let wait = trouble.wait(&mut self.backoff, &mut self.random);
                    self.failed(&trouble, wait);
                    if matches!(trouble, Trouble::Panic(_)) {
                        self.reopen();
                    }
                    sleep(wait).await;
                }
            }
        }
    }

    /// Waits for the source, and confirms on disk what it holds to by waiting.
    async fn next(&mut self) -> Result<Snapshot, Trouble> {
        let next = contained(self.source.next());
        tokio::pin!(next);
        loop {
            let confirm = Instant::now() + CONFIRM;
            tokio::select! {
                answer = &mut next => return answer,
                () = sleep_until(confirm) => keep(self.disk.as_ref(), &self.target, &self.publish),
            }
        }
    }

    /// Publishes what the disk has, so that a start while the backend is away is no outage.
    async fn load(&mut self) {
        let Some(disk) = &self.disk else { return };
        let Ok(loaded) = timeout(LOAD, disk.load(&self.target)).await else {
            tracing::warn!(target = %self.target, "The last known good snapshot could not be read in time.");
            return;
        };
        let Some(saved) = loaded else { return };
        tracing::info!(
            target = %self.target,
            endpoints = saved.snapshot.endpoints().len(),
            age_seconds = saved.age.as_secs(),
            "Starting with the last known good snapshot."
        );
        self.publish.send_modify(|known| {
            known.answer = Some(Answer {
                snapshot: Arc::new(saved.snapshot),
                origin: Origin::Disk,
                since: Instant::now(),
                confirmed: saved.at,
                age_at_start: saved.age,
            });
        });
    }

    fn answered(&mut self, snapshot: Snapshot) {
        let now = SystemTime::now();
        let share = self.share.take();
        let changed = self.publish.send_if_modified(|known| {
            if let Some(failure) = known.failure.take() {
                let (failures, failed_seconds) = (failure.count, failure.since.elapsed().as_secs());
                if share.is_none_or(|share| share.begins != Begins::Quiet) {
                    tracing::info!(target = %self.target, failures, failed_seconds, "The target answers again.");
                } else {
                    tracing::debug!(target = %self.target, failures, failed_seconds, "The target answers again.");
                }
            }
            known.answers = known.answers.saturating_add(1);
            match &mut known.answer {
                Some(answer) if *answer.snapshot == snapshot => {
                    answer.origin = Origin::Live;
                    answer.confirmed = now;
                    answer.age_at_start = Duration::ZERO;
                    false
                }
                answer => {
                    let endpoints = snapshot.endpoints().len();
                    *answer = Some(Answer {
                        snapshot: Arc::new(snapshot),
                        origin: Origin::Live,
                        since: Instant::now(),
                        confirmed: now,
                        age_at_start: Duration::ZERO,
                    });
                    tracing::debug!(target = %self.target, endpoints, "The target changed.");
                    true
                }
            }
        });
        // The first answer is written even where it is what the disk had: it is younger.
        if changed || self.publish.borrow().answers == 1 {
            keep(self.disk.as_ref(), &self.target, &self.publish);
        }
    }

    /// Notes a failure beside what is known; wakes nobody, because no endpoint changed.
    fn failed(&mut self, trouble: &Trouble, wait: Duration) {
        let begins = if self.share.is_some() { Begins::Quiet } else { self.share.insert(self.outage.join()).begins };
        self.publish.send_if_modified(|known| {
            known.failures = known.failures.saturating_add(1);
            if matches!(trouble, Trouble::Panic(_)) {
                known.panics = known.panics.saturating_add(1);
            }
            let failure = known.failure.get_or_insert_with(|| Failure::first(Instant::now()));
            failure.count = failure.count.saturating_add(1);
            failure.at = SystemTime::now();
            failure.kind = trouble.label();
            failure.error = trouble.to_string();
            // Once for each outage; what follows is in the gauges and in `/targets`.
            match begins {
                Begins::Each => {
                    tracing::warn!(
                        target = %self.target,
                        error = %trouble,
                        retry_in_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX),
                        keeps_endpoints = known.answer.as_ref().map_or(0, |answer| answer.snapshot.endpoints().len()),
                        "The target does not answer, keeping what is known."
                    );
                }
                Begins::AndMore => {
                    tracing::warn!(
                        backend = self.target.backend,
                        target = %self.target,
                        error = %trouble,
                        "More targets of the backend do not answer; they have no lines of their own."
                    );
                }
                Begins::Quiet => {
                    tracing::debug!(target = %self.target, error = %trouble, "The target does not answer.");
                }
            }
            false
        });
    }

    /// A source that panicked may be in any state; another one takes its place.
    fn reopen(&mut self) {
        match catch_unwind(AssertUnwindSafe(|| self.backend.source(&self.target))) {
            Ok(Ok(source)) => self.source = source,
            // The target was right at the start, so this is a fault of the backend; the old source is tried on.
            Ok(Err(error)) => tracing::error!(target = %self.target, %error, "The source could not be opened anew."),
            Err(_) => tracing::error!(target = %self.target, "The backend panicked when the source was opened anew."),
        }
    }
}

/// Hands what is known to the disk, if it is known from the source itself and not in doubt.
fn keep(disk: Option<&LastKnownGood>, target: &Target, publish: &watch::Sender<Known>) {
    let known = publish.borrow();
    if let (Some(disk), Some(answer), None) = (disk, &known.answer, &known.failure)
        && answer.origin == Origin::Live
    {
        disk.keep(target, &answer.snapshot, SystemTime::now());
    }
}

/// Why a call of a source came to nothing.
#[derive(Debug)]
enum Trouble {
    Panic(String),
    Source(Error),
}

impl Trouble {
    /// Returns how long to wait before the next call: what the backend asked for, else the back-off's.
    fn wait(&self, backoff: &mut Backoff, random: &mut fastrand::Rng) -> Duration {
        match self {
            Self::Source(Error::Throttled { retry_after: Some(asked) }) => backoff.asked(*asked, random),
            _ => backoff.next(random),
        }
    }

    fn label(&self) -> &'static str {
        match self {
            Self::Panic(_) => "panic",
            Self::Source(error) => error.label(),
        }
    }
}

impl std::fmt::Display for Trouble {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Panic(message) => write!(formatter, "the source panicked: {message}"),
            Self::Source(error) => error.fmt(formatter),
        }
    }
}

/// Runs a call of a source so that its panic ends that call and nothing else.
async fn contained<T>(call: impl Future<Output = Result<T, Error>> + Send) -> Result<T, Trouble> {
    let mut call = Box::pin(call);
    poll_fn(|context| match catch_unwind(AssertUnwindSafe(|| call.as_mut().poll(context))) {
        Ok(poll) => poll.map(|answer| answer.map_err(Trouble::Source)),
        Err(payload) => std::task::Poll::Ready(Err(Trouble::Panic(message(payload.as_ref())))),
    })
    .await
}

fn message(payload: &(dyn Any + Send)) -> String {
    let text = payload.downcast_ref::<&str>().copied().or_else(|| payload.downcast_ref::<String>().map(String::as_str));
    text.unwrap_or("without a message").to_owned()
}

/// Slows a source down that returns all the time, as one does whose index never settles. An ordinary change waits for
/// nothing.
struct Pace {
    left: u32,
    earned: Instant,
}

impl Pace {
    fn new() -> Self {
        Self { left: BURST, earned: Instant::now() }
    }

    async fn answered(&mut self) {
        let earned = self.earned.elapsed().as_nanos() / PACE.as_nanos();
        if let Ok(earned) = u32::try_from(earned)
            && let Some(time) = PACE.checked_mul(earned)
        {
            self.left = self.left.saturating_add(earned).min(BURST);
            self.earned += time;
        } else {
            *self = Self::new();
        }
        if self.left == 0 {
            sleep_until(self.earned + PACE).await;
            self.earned += PACE;
        } else {
            self.left -= 1;
        }
    }
}
