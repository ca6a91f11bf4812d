//! Who may wait and who polls: what an agent is asked at one time is bounded.
//!
//! An agent takes 200 connections of one client. A blocking query has one of them for as long as it waits, so only so
//! many targets wait; the others poll in turn, each as often as the others, from the agent's cache. What does not wait
//! goes through a few connections, and no datacenter may have more than a part of these: one that does not answer keeps
//! only its own targets waiting.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Exchanges that do not wait, at one time; with 150 that wait there are 34 connections left for others on this host.
pub(super) const AT_ONCE: usize = 16;

/// How many of these one datacenter may have.
const OF_A_DATACENTER: usize = 4;

/// Shortest time between two polls of a target.
const SHORTEST: Duration = Duration::from_secs(2);

/// Time for one target in the rotation: all of them together ask a hundred times each second at most.
const TURN: Duration = Duration::from_millis(10);

/// The slots of one backend.
#[derive(Debug)]
pub(super) struct Slots {
    waiting: Arc<Semaphore>,
    at_once: Arc<Semaphore>,
    of_datacenters: Mutex<BTreeMap<String, Arc<Semaphore>>>,
    polling: Arc<AtomicUsize>,
}

/// The right to one exchange that does not wait.
#[derive(Debug)]
pub(super) struct Turn {
    _of_datacenter: OwnedSemaphorePermit,
    _of_all: OwnedSemaphorePermit,
}

/// A target that polls, counted while this lives.
#[derive(Debug)]
pub(super) struct Polling(Arc<AtomicUsize>);

impl Drop for Polling {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Slots {
    pub(super) fn new(blocking: usize) -> Self {
        Self {
            waiting: Arc::new(Semaphore::new(blocking.min(Semaphore::MAX_PERMITS))),
            at_once: Arc::new(Semaphore::new(AT_ONCE)),
            of_datacenters: Mutex::default(),
            polling: Arc::default(),
        }
    }

    /// Returns the right to wait, if there is one left.
    pub(super) fn wait(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.waiting).try_acquire_owned().ok()
    }

    /// Counts a target among those that poll.
    pub(super) fn poll(&self) -> Polling {
        self.polling.fetch_add(1, Ordering::Relaxed);
        Polling(Arc::clone(&self.polling))
    }

    /// Returns how long one that polls waits from one answer to the next question.
    pub(super) fn interval(&self, random: &mut fastrand::Rng) -> Duration {
        interval(self.polling.load(Ordering::Relaxed), random)
    }

    /// Waits for the right to ask at once. Fair within a datacenter, and among them.
    pub(super) async fn turn(&self, datacenter: &str) -> Option<Turn> {
        let of_datacenter = {
            let mut all = self.of_datacenters.lock().unwrap_or_else(PoisonError::into_inner);
            // Captures may name many; those that nobody asks are forgotten.
            all.retain(|_, semaphore| Arc::strong_count(semaphore) > 1);
            let semaphore = all.entry(datacenter.to_owned());
            Arc::clone(semaphore.or_insert_with(|| Arc::new(Semaphore::new(OF_A_DATACENTER))))
        };
        let of_datacenter = of_datacenter.acquire_owned().await.ok()?;
        let of_all = Arc::clone(&self.at_once).acquire_owned().await.ok()?;
        Some(Turn { _of_datacenter: of_datacenter, _of_all: of_all })
    }
}

/// The time between two polls of a target where so many poll, less up to a tenth: those that began together spread out.
fn interval(polling: usize, random: &mut fastrand::Rng) -> Duration {
    let turns = u32::try_from(polling).unwrap_or(u32::MAX);
    TURN.saturating_mul(turns).max(SHORTEST).mul_f64(1.0 - 0.1 * random.f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_more_poll_the_rarer_each_of_them_does_and_never_more_often_than_each_two_seconds() {
        let mut random = fastrand::Rng::with_seed(1);
        for (polling, seconds) in [(0, 2), (1, 2), (200, 2), (850, 8), (10_000, 100)] {
            let interval = interval(polling, &mut random);
            let longest = Duration::from_millis(10 * polling as u64).max(SHORTEST);
            assert!(interval <= longest && interval >= longest.mul_f64(0.9), "{polling}: {interval:?}");
            assert!(interval.as_secs() <= seconds);
        }
    }

    #[test]
    fn so_many_wait_and_one_that_leaves_makes_room() {
        let slots = Slots::new(2);
        let held = [slots.wait(), slots.wait()];
        assert!(held.iter().all(Option::is_some) && slots.wait().is_none());
        drop(held);
        assert!(slots.wait().is_some());
    }

    #[tokio::test]
    async fn a_datacenter_that_does_not_answer_leaves_room_for_others() {
        let slots = Slots::new(1);
        let mut held = Vec::new();
        for _ in 0..OF_A_DATACENTER {
            held.push(slots.turn("far").await);
        }
        let further = tokio::time::timeout(Duration::from_millis(20), slots.turn("far")).await;
        assert!(further.is_err());
        assert!(slots.turn("").await.is_some());
        drop(held);
        assert!(slots.turn("far").await.is_some());
    }

    #[test]
    fn those_that_poll_are_counted() {
        let slots = Slots::new(0);
        let polling: Vec<_> = (0..1000).map(|_| slots.poll()).collect();
        let mut random = fastrand::Rng::with_seed(1);
        assert!(slots.interval(&mut random) >= Duration::from_secs(9));
        drop(polling);
        assert!(slots.interval(&mut random) <= SHORTEST);
    }
}
