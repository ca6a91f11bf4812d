//! What is told of the identity of this workload.

use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use super::super::{Gauge, Registry, SharedCounter, families};

/// What is told of the identity of this workload.
#[derive(Debug, Clone)]
pub struct IdentitySeries {
    expiration: Gauge,
    refreshes: SharedCounter,
    registry: Arc<Registry>,
}

impl IdentitySeries {
    pub(super) fn new(registry: &Arc<Registry>) -> Self {
        Self {
            expiration: registry.gauge(&families::IDENTITY_EXPIRATION, []),
            refreshes: registry.shared_counter(&families::IDENTITY_REFRESHES, []),
            registry: Arc::clone(registry),
        }
    }

    /// An identity is in force; it ends at `not_after`.
    pub fn refreshed(&self, not_after: SystemTime) {
        let seconds = not_after.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
        self.expiration.set(seconds as f64);
        self.refreshes.increment();
    }

    /// An identity could not be had; `reason` is the label of the error. They come at the cadence of a back-off, so the
    /// look-up does not matter.
    pub fn failed(&self, reason: &'static str) {
        self.registry.shared_counter(&families::IDENTITY_FAILURES, [reason]).increment();
    }
}
