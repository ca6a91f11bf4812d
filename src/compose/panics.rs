//! A panic ends one connection or one task, is counted, and is logged where people look.

use std::panic;
use std::sync::{Mutex, Once, PoisonError};

use crate::telemetry::metrics::SharedCounter;

static COUNTERS: Mutex<Vec<SharedCounter>> = Mutex::new(Vec::new());

/// Installs the hook, once in a process.
pub(super) fn install() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let before = panic::take_hook();
        panic::set_hook(Box::new(move |info| {
            for counter in COUNTERS.lock().unwrap_or_else(PoisonError::into_inner).iter() {
                counter.increment();
            }
            let place = info.location().map(ToString::to_string).unwrap_or_default();
            tracing::error!(place, "A task panicked; please report this.");
            before(info);
        }));
    });
}

/// Counts panics of this process in a gateway's metrics.
pub(super) fn count_in(counter: SharedCounter) {
    COUNTERS.lock().unwrap_or_else(PoisonError::into_inner).push(counter);
}
