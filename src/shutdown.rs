//! How a process ends: in order.
//!
//! Not ready, go on accepting for the grace period, stop accepting, tell every client to leave (`Connection: close`,
//! GOAWAY), finish what is in flight within the limit. A second signal ends at once.

use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::sync::watch;

/// Starts a drain.
#[derive(Debug, Clone)]
pub(crate) struct DrainTrigger(watch::Sender<bool>);

/// Sees that a drain has begun.
pub(crate) struct Drain {
    receiver: watch::Receiver<bool>,
    /// Another one that is as good.
    or: Option<watch::Receiver<bool>>,
    waiting: Option<Pin<Box<dyn Future<Output = ()>>>>,
}

impl std::fmt::Debug for Drain {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Drain").field("draining", &self.is_draining()).finish()
    }
}

impl Clone for Drain {
    fn clone(&self) -> Self {
        Self { receiver: self.receiver.clone(), or: self.or.clone(), waiting: None }
    }
}

/// Returns a trigger and what it triggers.
pub(crate) fn drain() -> (DrainTrigger, Drain) {
    let (sender, receiver) = watch::channel(false);
    (DrainTrigger(sender), Drain { receiver, or: None, waiting: None })
}

impl DrainTrigger {
    /// Begins the drain; a second call does nothing.
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    /// Returns what begins with either of two.
    pub(crate) fn or(&self, other: Self) -> Self {
        Self { receiver: self.receiver.clone(), or: Some(other.receiver), waiting: None }
    }

    /// Tells whether it has begun.
    pub(crate) fn is_draining(&self) -> bool {
        *self.receiver.borrow() || self.or.as_ref().is_some_and(|or| *or.borrow())
    }

    /// Ready once it has begun.
    pub(crate) fn poll_draining(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if self.is_draining() {
            return Poll::Ready(());
        }
        let waiting = self.waiting.get_or_insert_with(|| {
            let (mut receiver, or) = (self.receiver.clone(), self.or.clone());
            Box::pin(async move {
                // An error says that the trigger is gone, and its worker with it: then nothing is left to drain.
                match or {
                    None => drop(receiver.wait_for(|draining| *draining).await),
                    Some(mut or) => tokio::select! {
                        _ = receiver.wait_for(|draining| *draining) => {}
                        _ = or.wait_for(|draining| *draining) => {}
                    },
                }
            })
        });
        waiting.as_mut().poll(context)
    }

    /// Waits until it has begun.
    pub(crate) async fn begun(&mut self) {
        std::future::poll_fn(|context| self.poll_draining(context)).await;
    }
}
