//! One timer for a connection that is re-armed lazily.
//!
//! A request usually ends long before its deadline. Arming a timer for each costs a walk through the runtime's wheel;
//! this one stays armed for the earliest deadline it ever saw and looks again when it fires, so a request that ends in
//! time costs no timer operation at all.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::time::{Instant, Sleep};

/// A deadline that was missed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Elapsed;

/// A lazily armed timer.
#[derive(Debug, Default)]
pub(crate) struct Timer {
    sleep: Option<Pin<Box<Sleep>>>,
}

impl Timer {
    /// Ready once `deadline` has passed. May be called with another deadline each time.
    pub(crate) fn poll_expired(&mut self, context: &mut Context<'_>, deadline: Instant) -> Poll<()> {
        loop {
            let sleep = self.sleep.get_or_insert_with(|| Box::pin(tokio::time::sleep_until(deadline)));
            if sleep.deadline() > deadline {
                sleep.as_mut().reset(deadline);
            }
            match sleep.as_mut().poll(context) {
                Poll::Pending => return Poll::Pending,
                // It fired for an earlier deadline: look whether this one has passed, else arm it again.
                Poll::Ready(()) if Instant::now() < deadline => sleep.as_mut().reset(deadline),
                Poll::Ready(()) => {
                    self.sleep = None;
                    return Poll::Ready(());
                }
            }
        }
    }

    /// Runs `future` until `deadline`; `None` is no bound.
    pub(crate) async fn bound<T>(
        &mut self,
        deadline: Option<Instant>,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        self.bound_by(|| deadline, future).await
    }

    /// Runs `future` until the deadline that `deadline` says whenever it is asked; it may move.
    pub(crate) async fn bound_by<T>(
        &mut self,
        deadline: impl Fn() -> Option<Instant>,
        future: impl Future<Output = T>,
    ) -> Result<T, Elapsed> {
        let mut future = std::pin::pin!(future);
        std::future::poll_fn(|context| {
            if let Poll::Ready(value) = future.as_mut().poll(context) {
                return Poll::Ready(Ok(value));
            }
            match deadline() {
                Some(deadline) => self.poll_expired(context, deadline).map(|()| Err(Elapsed)),
                None => Poll::Pending,
            }
        })
        .await
    }
}

/// Returns `now + duration`, or a time far away where that overflows.
pub(crate) fn after(now: Instant, duration: Duration) -> Instant {
    now.checked_add(duration).unwrap_or_else(|| now + Duration::from_hours(365 * 24))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_deadline_that_moved_later_is_kept_and_one_that_moved_earlier_too() {
        let mut timer = Timer::default();
        let start = Instant::now();
        let early = timer.bound(Some(start + Duration::from_secs(1)), std::future::ready(7)).await;
        assert_eq!(early, Ok(7));
        let late = timer.bound(Some(start + Duration::from_secs(5)), std::future::pending::<()>()).await;
        assert_eq!((late, start.elapsed().as_secs()), (Err(Elapsed), 5));
        let _ = timer.bound(Some(start + Duration::from_mins(1)), tokio::task::yield_now()).await;
        let soon = timer.bound(Some(start + Duration::from_secs(6)), std::future::pending::<()>()).await;
        assert_eq!((soon, start.elapsed().as_secs()), (Err(Elapsed), 6));
    }
}
