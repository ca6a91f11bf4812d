//! Endpoints in this process that count what they get.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use meshless_fakes::http::{Mode, Server, text};

use crate::places::{Health, Listed};
use crate::process;

/// An endpoint that answers 200 to everything; ends with this.
#[derive(Debug)]
pub(crate) struct Origin {
    server: Server,
    seen: Arc<Seen>,
}

#[derive(Debug, Default)]
struct Seen {
    requests: AtomicU64,
    first: Mutex<Option<Instant>>,
}

impl Origin {
    /// Starts one on a loopback port of the kernel's choice.
    pub(crate) fn start() -> Self {
        let seen = Arc::new(Seen::default());
        let counted = seen.clone();
        let server = Server::start(Arc::new(move |_| {
            counted.requests.fetch_add(1, Ordering::Relaxed);
            locked(&counted.first).get_or_insert_with(Instant::now);
            Box::pin(async { text(200, "ok\n") })
        }));
        Self { server, seen }
    }

    /// Starts several.
    pub(crate) fn several(count: usize) -> Vec<Self> {
        (0..count).map(|_| Self::start()).collect()
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.server.address
    }

    /// Returns how a place lists it.
    pub(crate) fn listed(&self) -> Listed {
        Listed { address: self.address(), health: Health::Healthy }
    }

    /// Returns how a place lists it that thinks it ill.
    pub(crate) fn unhealthy(&self) -> Listed {
        Listed { health: Health::Unhealthy, ..self.listed() }
    }

    /// Takes its connections and its port away, or gives the port back.
    pub(crate) fn set_alive(&self, is_alive: bool) {
        self.server.set(if is_alive { Mode::Serve } else { Mode::Down });
    }

    /// Returns how many requests it got.
    pub(crate) fn requests(&self) -> u64 {
        self.seen.requests.load(Ordering::Relaxed)
    }

    /// Waits until it gets a request, for so long at most, and returns when that was.
    pub(crate) fn first_within(&self, limit: Duration) -> anyhow::Result<Option<Instant>> {
        process::poll(limit, || Ok(*locked(&self.seen.first)))
    }
}

fn locked<T>(value: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    value.lock().unwrap_or_else(PoisonError::into_inner)
}
