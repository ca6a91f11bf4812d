//! How often a backend asked its place.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Counts calls by what was asked, such as `ListTasks`; shared by all sources of a backend.
#[derive(Debug, Clone, Default)]
pub struct Calls(Arc<Mutex<BTreeMap<&'static str, u64>>>);

impl Calls {
    /// Counts one more call.
    pub fn count(&self, call: &'static str) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(call).or_default() += 1;
    }

    /// Returns the calls since the backend was opened, by what was asked.
    pub fn totals(&self) -> BTreeMap<&'static str, u64> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
