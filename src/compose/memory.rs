//! Looks at the memory that is left, and tells the workers.

use std::sync::Arc;
use std::time::Duration;

use meshless_platforms::{Memory, MemoryGroups, Surroundings};

use crate::resilience::memory::{Level, Pressure};
use crate::telemetry::metrics::ControlMetrics;

/// How often it is looked at: memory that is asked for at a gigabyte a second is seen within a quarter of one.
const EVERY: Duration = Duration::from_millis(250);

/// Where the limit comes from.
#[derive(Debug)]
enum Limit {
    /// `node.memory`, against the resident memory of this process.
    Configured(u64),
    Groups(MemoryGroups),
}

/// Who looks.
#[derive(Debug)]
pub(super) struct Watch {
    limit: Limit,
    surroundings: Arc<dyn Surroundings>,
    pressure: Arc<Pressure>,
    metrics: ControlMetrics,
}

impl Watch {
    /// `None` where there is no limit: neither `configured` (`node.memory`, in bytes) nor one of the control group.
    pub(super) fn new(
        configured: Option<usize>,
        surroundings: Arc<dyn Surroundings>,
        pressure: Arc<Pressure>,
        metrics: ControlMetrics,
    ) -> Option<Self> {
        let limit = match configured {
            Some(bytes) => Limit::Configured(bytes as u64),
            None => Limit::Groups(MemoryGroups::find(&|path| surroundings.file(path))?),
        };
        Some(Self { limit, surroundings, pressure, metrics })
    }

    /// Looks until it is dropped.
    pub(super) async fn run(self) {
        let mut tick = tokio::time::interval(EVERY);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut level = Level::Enough;
        loop {
            tick.tick().await;
            // A limit that was taken away, or a file that cannot be read, is no reason to refuse anything.
            let read = self.read();
            let Memory { used, limit } = read.unwrap_or(Memory { used: 0, limit: u64::MAX });
            let next = level.next(used, limit);
            if read.is_some() {
                self.metrics.memory(used, limit, next as u8);
            }
            if next != level {
                match next {
                    Level::Enough => tracing::info!(used, limit, "There is enough memory again."),
                    Level::NoConnections => {
                        tracing::warn!(used, limit, "Memory is short: no new connections are taken.");
                    }
                    Level::NoRequests => {
                        tracing::warn!(used, limit, "Memory is very short: no new requests are taken.");
                    }
                }
                self.pressure.set(next);
                level = next;
            }
        }
    }

    fn read(&self) -> Option<Memory> {
        let file = |path: &str| self.surroundings.file(path);
        match &self.limit {
            Limit::Groups(groups) => groups.read(&file),
            Limit::Configured(limit) => {
                // proc(5): size, resident, … in pages.
                let pages: u64 = file("/proc/self/statm")?.split_ascii_whitespace().nth(1)?.parse().ok()?;
                Some(Memory { used: pages.saturating_mul(rustix::param::page_size() as u64), limit: *limit })
            }
        }
    }
}
