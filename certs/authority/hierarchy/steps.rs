//! When each step of the hierarchy is due.

use super::{Authority, Hierarchy, Phase};

/// What the times are computed from, in seconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Lifetime of a leaf.
    pub(crate) leaf: u64,
    /// How long a root is in the bundle before it signs.
    pub(crate) overlap: u64,
}

/// A step that is made without being asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Step {
    /// Make the next intermediate. Needs the root's key.
    PrepareIntermediate,
    /// Let it sign.
    ActivateIntermediate,
    /// Let the next root sign.
    ActivateRoot,
    /// Drop what has retired.
    Retire,
}

/// A step and its time, in seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Planned {
    pub(crate) at: u64,
    pub(crate) step: Step,
}

impl Step {
    /// Returns what it does, for people.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::PrepareIntermediate => "prepare the next intermediate",
            Self::ActivateIntermediate => "activate the prepared intermediate",
            Self::ActivateRoot => "activate the prepared root",
            Self::Retire => "drop what has retired",
        }
    }
}

impl Hierarchy {
    /// Returns all steps that are known to come, the next one first.
    pub(crate) fn plan(&self, timing: Timing) -> Vec<Planned> {
        let mut plan = Vec::new();
        let retiring = self.intermediates.iter().chain(&self.roots).filter_map(|one| match one.phase {
            Phase::Retiring { until } => Some(until),
            _ => None,
        });
        plan.extend(retiring.map(|at| Planned { at, step: Step::Retire }));
        if let Some(Authority { phase: Phase::Prepared { since }, .. }) = self.next_root() {
            plan.push(Planned { at: since + timing.overlap, step: Step::ActivateRoot });
        }
        if let Some((root, signer)) = self.root().zip(self.signer()) {
            plan.push(match self.next_signer(root.number) {
                Some(_) => Planned { at: signer.handover(timing), step: Step::ActivateIntermediate },
                None => Planned { at: signer.half_life(), step: Step::PrepareIntermediate },
            });
        }
        plan.sort_by_key(|planned| planned.at);
        plan
    }
}

impl Authority {
    fn half_life(&self) -> u64 {
        self.made + self.lifetime() / 2
    }

    /// When another one signs: at three quarters of the life, or two lifetimes of a leaf before the end if that is earlier.
    /// So no leaf is cut short by its issuer, and a rotation that fails has a quarter of a life to be mended in.
    fn handover(&self, timing: Timing) -> u64 {
        let quarters = self.made + self.lifetime() / 4 * 3;
        quarters.min(self.not_after.saturating_sub(2 * timing.leaf)).max(self.half_life())
    }

    fn lifetime(&self) -> u64 {
        self.not_after.saturating_sub(self.made)
    }
}
