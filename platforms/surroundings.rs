//! The only reader of the environment.
//!
//! Everything that depends on environment variables takes a `&dyn Surroundings`, so that a test can hand in its own
//! and two gateways in one process do not share hidden state.

use std::collections::BTreeMap;
use std::fmt;

/// What a process can ask of the place it runs in.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// Returns the value of an environment variable; `None` when it is not set or is not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns all environment variables that are UTF-8.
    fn variables(&self) -> BTreeMap<String, String>;

    /// Returns the text of a file of the system, such as `/proc/self/cgroup`; `None` where it cannot be read.
    fn file(&self, path: &str) -> Option<String>;
}

/// The surroundings of the running process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn variables(&self) -> BTreeMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }
}

/// Surroundings that a test writes down: variables, and files by their absolute paths.
#[derive(Debug, Clone, Default)]
pub struct Scripted(pub BTreeMap<String, String>);

impl Surroundings for Scripted {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn variables(&self) -> BTreeMap<String, String> {
        // No variable begins with a slash.
        self.0
            .iter()
            .filter(|(name, _)| !name.starts_with('/'))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn file(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
}
