//! One poll that many sources drive together.
//!
//! Nothing runs in the background. Of the sources that wait, one holds the lock of [`Driver`] and looks on behalf of all;
//! the others wait for what it finds. A look that is under way belongs to the poll and not to who drives it: when that call is
//! dropped the next source goes on with the same look, so no call is made twice and no answer is lost.

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, watch};
use tokio::time::{Instant, sleep_until, timeout};

use super::schedule::{Came, Pace, Schedule};
use crate::{Error, async_trait};

/// Longest time for one look with all its calls; one that was left alone for so long is begun anew.
const LOOK_TIMEOUT: Duration = Duration::from_mins(2);

/// What a look is at.
#[async_trait]
pub(crate) trait Look: fmt::Debug + Send + Sync + 'static {
    /// What is found there; whatever differs counts as a change.
    type Found: PartialEq + fmt::Debug + Send + Sync + 'static;

    /// Looks at all of it.
    async fn look(&self) -> Result<Self::Found, Error>;

    /// Returns what went wrong with a part of it, for the pace of further looks.
    fn trouble(_found: &Self::Found) -> Option<&Error> {
        None
    }
}

/// What the newest look came to.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    /// Counts looks; 0 is "none yet" and shown to nobody.
    pub(crate) look: u64,
    /// When it ended.
    at: Instant,
    pub(crate) result: Result<Arc<T>, Error>,
}

impl<T> Clone for Seen<T> {
    fn clone(&self) -> Self {
        Self { look: self.look, at: self.at, result: self.result.clone() }
    }
}

type UnderWay<T> = Pin<Box<dyn Future<Output = Result<T, Error>> + Send>>;

/// A poll of one place.
pub(crate) struct Poll<L: Look> {
    place: Arc<L>,
    schedule: Schedule,
    seen: watch::Sender<Seen<L::Found>>,
    /// Counts wishes for a look before its time.
    wishes: watch::Sender<u64>,
    driver: Mutex<Driver<L::Found>>,
}

impl<L: Look> fmt::Debug for Poll<L> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Poll").field("place", &self.place).finish_non_exhaustive()
    }
}

/// State of whoever looks.
struct Driver<T> {
    pace: Pace,
    random: fastrand::Rng,
    /// When to look next; `None`: at once.
    due: Option<Instant>,
    /// Wishes that a look has granted.
    granted: u64,
    under_way: Option<(Instant, UnderWay<T>)>,
}

impl<L: Look> Poll<L> {
    pub(crate) fn new(place: L, schedule: Schedule) -> Self {
        let nothing = Seen { look: 0, at: Instant::now(), result: Err(Error::Unreachable("not asked yet".to_owned())) };
        let driver =
            Driver { pace: Pace::default(), random: fastrand::Rng::new(), due: None, granted: 0, under_way: None };
        Self {
            place: Arc::new(place),
            schedule,
            seen: watch::Sender::new(nothing),
            wishes: watch::Sender::new(0),
            driver: Mutex::new(driver),
        }
    }

    pub(crate) fn place(&self) -> &L {
        &self.place
    }

    /// Asks for a look before its time, because what was found does not have what somebody needs. While looks fail,
    /// the wait between them stays.
    pub(crate) fn hasten(&self) {
        self.wishes.send_modify(|count| *count += 1);
    }

    /// Waits for a look after number `last` and returns what it came to. Cancel-safe.
    pub(crate) async fn after(&self, last: u64) -> Seen<L::Found> {
        let mut seen = self.seen.subscribe();
        loop {
            if let Some(seen) = self.fresh(&seen.borrow_and_update(), last) {
                return seen;
            }
            tokio::select! {
                biased;
                // The sender is ours, so this cannot fail.
                _ = seen.changed() => {}
                // Who waited for the lock may have been overtaken: look before driving.
                mut driver = self.driver.lock() => if self.fresh(&self.seen.borrow(), last).is_none() {
                    self.drive(&mut driver).await;
                }
            }
        }
    }

    /// Returns what was seen if it is news, and not from a time since which nobody has looked.
    fn fresh(&self, seen: &Seen<L::Found>, last: u64) -> Option<Seen<L::Found>> {
        let is_old = seen.result.is_ok() && seen.at.elapsed() > self.schedule.max * 2 + LOOK_TIMEOUT;
        (seen.look > last && !is_old).then(|| seen.clone())
    }

    async fn drive(&self, driver: &mut Driver<L::Found>) {
        if driver.under_way.as_ref().is_some_and(|(since, _)| since.elapsed() > LOOK_TIMEOUT) {
            driver.under_way = None;
        }
        if driver.under_way.is_none() {
            self.until_due(driver.due, driver.granted).await;
            driver.granted = *self.wishes.borrow();
            let place = Arc::clone(&self.place);
            let look = async move {
                timeout(LOOK_TIMEOUT, place.look()).await.unwrap_or_else(|_| {
                    Err(Error::Unreachable(format!("not all was answered within {LOOK_TIMEOUT:?}")))
                })
            };
            driver.under_way = Some((Instant::now(), Box::pin(look)));
        }
        let Some((_, look)) = &mut driver.under_way else { return };
        let result = look.await;
        // No await from here on.
        driver.under_way = None;
        let came = match &result {
            Ok(found) => match L::trouble(found) {
                // Only that slows the next look down: what one target lacks is not paid for by the others.
                Some(Error::Throttled { retry_after }) => Came::Throttled(*retry_after),
                _ if self.seen.borrow().result.as_deref().ok() == Some(found) => Came::Same,
                _ => Came::Changed,
            },
            Err(Error::Throttled { retry_after }) => Came::Throttled(*retry_after),
            Err(_) => Came::Failed,
        };
        let now = Instant::now();
        driver.due = Some(now + driver.pace.after(came, self.schedule, &mut driver.random));
        self.seen.send_modify(|seen| {
            seen.look += 1;
            seen.at = now;
            // What did not change stays the same thing, so that sources need not compare it.
            if came != Came::Same {
                seen.result = result.map(Arc::new);
            }
        });
    }

    async fn until_due(&self, due: Option<Instant>, granted: u64) {
        let Some(due) = due else { return };
        let mut wishes = self.wishes.subscribe();
        if self.seen.borrow().result.is_ok() {
            tokio::select! {
                () = sleep_until(due) => {}
                _ = wishes.wait_for(|count| *count != granted) => {}
            }
        } else {
            sleep_until(due).await;
        }
    }
}
