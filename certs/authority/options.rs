//! How an authority works, beside what is in its directory.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use super::hierarchy::Timing;
use super::keys::Passphrase;
use super::limits::Limits;
use super::policy::Rule;

/// Lifetime of a leaf where nothing is said (product.md, `[ca] leaf_ttl`).
pub const DEFAULT_LEAF: Duration = Duration::from_hours(24);
/// Shortest lifetime of a leaf: half of it must be enough to renew.
pub const SHORTEST_LEAF: Duration = Duration::from_secs(5);
/// Longest lifetime of a leaf (step-ca: 24 h): nothing is revoked but by time.
pub const LONGEST_LEAF: Duration = Duration::from_hours(24);
/// Lifetime of an intermediate where nothing is said.
pub const DEFAULT_INTERMEDIATE: Duration = Duration::from_hours(60 * 24);
/// Longest lifetime of an intermediate.
pub const LONGEST_INTERMEDIATE: Duration = Duration::from_hours(90 * 24);
/// Lifetime of a root: ten years.
pub(crate) const ROOT: Duration = Duration::from_hours(3652 * 24);
/// How many lifetimes of a leaf an intermediate must have: half of its own is left when the next one is prepared, and
/// two of a leaf's when that takes over.
pub const LEAVES: u32 = 4;

/// Where the time comes from.
pub type Clock = Arc<dyn Fn() -> SystemTime + Send + Sync>;

/// How an authority works.
#[derive(Clone)]
pub struct Options {
    /// Lifetime of a leaf.
    pub leaf_ttl: Duration,
    /// Lifetime of an intermediate, at least [`LEAVES`] of a leaf.
    pub intermediate_ttl: Duration,
    /// Lifetime of a root.
    pub root_ttl: Duration,
    /// How long a new root is in the bundle before it signs; not set: two lifetimes of a leaf, in which every workload
    /// renewed and so heard of it.
    pub overlap: Option<Duration>,
    /// Who gets what, by configuration.
    pub rules: Vec<Rule>,
    /// How often.
    pub limits: Limits,
    /// What keys at rest are sealed with.
    pub passphrase: Option<Passphrase>,
    /// Where the time comes from.
    pub clock: Clock,
}

/// Why options cannot be worked with.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum OptionsError {
    /// A leaf lives too short or too long.
    #[error("a leaf lives from 5s to 24h, not {} s", .0.as_secs_f64())]
    Leaf(Duration),
    /// An intermediate lives too short or too long.
    #[error("an intermediate lives at least {LEAVES} times as long as a leaf and at most 90 days, not {} s", .0.as_secs_f64())]
    Intermediate(Duration),
    /// A new root would sign before everybody has heard of it.
    #[error("a root is in the bundle for two lifetimes of a leaf or more before it signs, not {} s", .0.as_secs_f64())]
    Overlap(Duration),
}

impl Default for Options {
    fn default() -> Self {
        Self {
            leaf_ttl: DEFAULT_LEAF,
            intermediate_ttl: DEFAULT_INTERMEDIATE,
            root_ttl: ROOT,
            overlap: None,
            rules: Vec::new(),
            limits: Limits::default(),
            passphrase: None,
            clock: Arc::new(SystemTime::now),
        }
    }
}

impl Options {
    /// Says whether they can be worked with.
    pub fn check(&self) -> Result<(), OptionsError> {
        if !(SHORTEST_LEAF..=LONGEST_LEAF).contains(&self.leaf_ttl) {
            return Err(OptionsError::Leaf(self.leaf_ttl));
        }
        if !(self.leaf_ttl * LEAVES..=LONGEST_INTERMEDIATE).contains(&self.intermediate_ttl) {
            return Err(OptionsError::Intermediate(self.intermediate_ttl));
        }
        match self.overlap {
            Some(overlap) if overlap < self.leaf_ttl * 2 => Err(OptionsError::Overlap(overlap)),
            _ => Ok(()),
        }
    }

    pub(crate) fn timing(&self) -> Timing {
        let overlap = self.overlap.unwrap_or(self.leaf_ttl * 2);
        Timing { leaf: self.leaf_ttl.as_secs(), overlap: overlap.as_secs() }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Options")
            .field("leaf_ttl", &self.leaf_ttl)
            .field("intermediate_ttl", &self.intermediate_ttl)
            .field("rules", &self.rules)
            .field("limits", &self.limits)
            .field("passphrase", &self.passphrase)
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifetimes_fit_into_each_other() {
        let with = |leaf: u64, intermediate: u64, overlap: Option<u64>| Options {
            leaf_ttl: Duration::from_secs(leaf),
            intermediate_ttl: Duration::from_secs(intermediate),
            overlap: overlap.map(Duration::from_secs),
            ..Options::default()
        };
        assert_eq!(Options::default().check(), Ok(()));
        assert_eq!(with(5, 20, Some(10)).check(), Ok(()));
        assert!(matches!(with(4, 20, None).check(), Err(OptionsError::Leaf(_))));
        assert!(matches!(with(86_401, 86_400 * 60, None).check(), Err(OptionsError::Leaf(_))));
        assert!(matches!(with(5, 19, None).check(), Err(OptionsError::Intermediate(_))));
        assert!(matches!(with(5, 86_400 * 91, None).check(), Err(OptionsError::Intermediate(_))));
        assert!(matches!(with(5, 20, Some(9)).check(), Err(OptionsError::Overlap(_))));
        assert_eq!(with(5, 20, None).timing(), Timing { leaf: 5, overlap: 10 });
    }
}
