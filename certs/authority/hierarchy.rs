//! Roots and intermediates through their lives: prepare, activate, retire. Pure: certificates and `now` are handed in.
//!
//! ```text
//! intermediate   prepared ──────────► active ───────────► retiring ─────► gone
//!                at half of the other's life        its last leaf has expired
//! root           prepared ──────────► active ───────────► retiring ─────► gone
//!                in the bundle for `overlap`     its last leaf has expired
//! ```
//!
//! Two slots have keys: the active one and the prepared one. What retires signs nothing more, so its key is gone at once;
//! a root stays in the bundle while leaves under it are alive. A root is prepared together with the intermediate that will
//! sign under it, so its key is needed at that moment alone.

mod steps;

use serde::{Deserialize, Serialize};

use crate::{Error, TrustDomain};

pub(crate) use steps::{Planned, Step, Timing};

/// The whole hierarchy without its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Hierarchy {
    /// Name of the trust domain.
    pub(crate) trust_domain: String,
    /// Sequence number of the bundle: rises whenever the set of roots changes.
    pub(crate) sequence: u64,
    /// The number of the next root or intermediate.
    next: u64,
    /// Oldest first.
    pub(crate) roots: Vec<Authority>,
    /// Oldest first; `parent` is the number of its root.
    pub(crate) intermediates: Vec<Authority>,
}

/// A root or an intermediate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Authority {
    /// Its number; no other one ever has it.
    pub(crate) number: u64,
    /// The number of its root; its own for a root.
    pub(crate) parent: u64,
    /// The common name of its subject.
    pub(crate) name: String,
    /// The certificate, DER in base64.
    #[serde(with = "base64_der")]
    pub(crate) certificate: Vec<u8>,
    /// SHA-256 of its public key, hexadecimal.
    pub(crate) key: String,
    /// Whether its private key is in this store. A root's may be elsewhere.
    pub(crate) key_here: bool,
    /// When it was made, in seconds since 1970; its validity begins a little earlier.
    pub(crate) made: u64,
    /// End of its validity.
    pub(crate) not_after: u64,
    /// Where it is in its life.
    pub(crate) phase: Phase,
}

/// Where a root or an intermediate is in its life. Times are seconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Phase {
    /// Made, and (a root) known to those who ask for the bundle; signs nothing yet.
    Prepared { since: u64 },
    /// Signs.
    Active { since: u64 },
    /// Signs nothing more; what it signed is alive until then.
    Retiring { until: u64 },
}

/// What a new root or intermediate is made of.
#[derive(Debug, Clone)]
pub(crate) struct New {
    pub(crate) name: String,
    pub(crate) certificate: Vec<u8>,
    pub(crate) key: String,
    pub(crate) key_here: bool,
    pub(crate) made: u64,
    pub(crate) not_after: u64,
}

/// Why a step cannot be made.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum StepError {
    /// There is one prepared already.
    #[error("{0} is prepared already; it is activated when its time has come, or by `--now`")]
    Prepared(String),
    /// The other root is still on its way out.
    #[error("{0} still retires: leaves under it are alive; wait until it is gone (`meshless ca status`)")]
    Retiring(String),
    /// There is none prepared.
    #[error("nothing is prepared that could be activated; prepare it first, without `--now`")]
    NonePrepared,
    /// The state does not hold together. That is a bug.
    #[error("the hierarchy does not hold together: {0}; this is a bug, please report it")]
    Inconsistent(String),
}

impl Hierarchy {
    /// Begins with a root and the intermediate under it, both active.
    pub(crate) fn new(trust_domain: &TrustDomain, root: New, intermediate: New, now: u64) -> Self {
        let phase = Phase::Active { since: now };
        Self {
            trust_domain: trust_domain.to_string(),
            sequence: 1,
            next: 3,
            roots: vec![root.into_authority(1, 1, phase)],
            intermediates: vec![intermediate.into_authority(2, 1, phase)],
        }
    }

    /// Returns the name of the trust domain.
    pub(crate) fn trust_domain(&self) -> Result<TrustDomain, Error> {
        self.trust_domain.parse().map_err(|error| Error::System(format!("the trust domain in the database: {error}")))
    }

    /// Returns the intermediate that signs.
    pub(crate) fn signer(&self) -> Option<&Authority> {
        self.intermediates.iter().find(|one| one.is_active())
    }

    /// Returns the root that signs intermediates.
    pub(crate) fn root(&self) -> Option<&Authority> {
        self.roots.iter().find(|one| one.is_active())
    }

    /// Returns the root that will.
    pub(crate) fn next_root(&self) -> Option<&Authority> {
        self.roots.iter().find(|one| one.is_prepared())
    }

    /// Returns the intermediate that is prepared under a root.
    pub(crate) fn next_signer(&self, root: u64) -> Option<&Authority> {
        self.intermediates.iter().find(|one| one.is_prepared() && one.parent == root)
    }

    /// Says whether a public key (its hash) is one of the authority's.
    pub(crate) fn has_key(&self, key: &str) -> bool {
        self.roots.iter().chain(&self.intermediates).any(|one| one.key == key)
    }

    /// Takes in the next intermediate under the active root; returns its number.
    pub(crate) fn prepare_intermediate(&mut self, new: New, now: u64) -> Result<u64, StepError> {
        let root = self.root().ok_or_else(|| inconsistent("no root is active"))?.number;
        if let Some(prepared) = self.next_signer(root) {
            return Err(StepError::Prepared(prepared.name.clone()));
        }
        let number = self.number();
        self.intermediates.push(new.into_authority(number, root, Phase::Prepared { since: now }));
        Ok(number)
    }

    /// Says whether a root can be prepared now.
    pub(crate) fn may_prepare_root(&self) -> Result<(), StepError> {
        if let Some(prepared) = self.next_root() {
            return Err(StepError::Prepared(prepared.name.clone()));
        }
        match self.roots.iter().find(|one| matches!(one.phase, Phase::Retiring { .. })) {
            Some(retiring) => Err(StepError::Retiring(retiring.name.clone())),
            None => Ok(()),
        }
    }

    /// Takes in the next root with the intermediate under it; the bundle has both roots from now on. Returns both numbers.
    pub(crate) fn prepare_root(&mut self, root: New, intermediate: New, now: u64) -> Result<(u64, u64), StepError> {
        self.may_prepare_root()?;
        let (number, below) = (self.number(), self.number());
        let phase = Phase::Prepared { since: now };
        self.roots.push(root.into_authority(number, number, phase));
        self.intermediates.push(intermediate.into_authority(below, number, phase));
        self.sequence += 1;
        Ok((number, below))
    }

    /// Lets the prepared intermediate sign. `last_leaf`: when the last leaf of the active one expires. Returns the numbers
    /// of those whose keys nobody needs any more.
    pub(crate) fn activate_intermediate(&mut self, now: u64, last_leaf: u64) -> Result<Vec<u64>, StepError> {
        let root = self.root().ok_or_else(|| inconsistent("no root is active"))?.number;
        self.next_signer(root).ok_or(StepError::NonePrepared)?;
        Ok(self.switch(root, now, last_leaf))
    }

    /// Lets the prepared root, and the intermediate under it, sign. Returns the numbers of those whose keys nobody needs
    /// any more.
    pub(crate) fn activate_root(&mut self, now: u64, last_leaf: u64) -> Result<Vec<u64>, StepError> {
        let root = self.next_root().ok_or(StepError::NonePrepared)?.number;
        self.next_signer(root).ok_or_else(|| inconsistent("a root was prepared without an intermediate"))?;
        let mut gone = self.switch(root, now, last_leaf);
        for one in &mut self.roots {
            if one.number == root {
                one.phase = Phase::Active { since: now };
            } else if one.is_active() {
                one.phase = Phase::Retiring { until: last_leaf.max(now) };
                one.key_here = false;
                gone.push(one.number);
            }
        }
        // What was prepared under the root that leaves never signed.
        gone.extend(self.intermediates.iter().filter(|one| one.is_prepared()).map(|one| one.number));
        self.intermediates.retain(|one| !one.is_prepared());
        Ok(gone)
    }

    fn switch(&mut self, root: u64, now: u64, last_leaf: u64) -> Vec<u64> {
        let mut gone = Vec::new();
        for one in &mut self.intermediates {
            if one.is_active() {
                one.phase = Phase::Retiring { until: last_leaf.max(now) };
                one.key_here = false;
                gone.push(one.number);
            } else if one.is_prepared() && one.parent == root {
                one.phase = Phase::Active { since: now };
            }
        }
        gone
    }

    /// Drops what has retired by now; says whether the bundle changed.
    pub(crate) fn retire(&mut self, now: u64) -> bool {
        let is_gone = |one: &Authority| matches!(one.phase, Phase::Retiring { until } if until <= now);
        self.intermediates.retain(|one| !is_gone(one));
        let roots = self.roots.len();
        self.roots.retain(|one| !is_gone(one));
        let changed = self.roots.len() != roots;
        self.sequence += u64::from(changed);
        changed
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }
}

impl New {
    fn into_authority(self, number: u64, parent: u64, phase: Phase) -> Authority {
        let Self { name, certificate, key, key_here, made, not_after } = self;
        Authority { number, parent, name, certificate, key, key_here, made, not_after, phase }
    }
}

impl Authority {
    pub(crate) fn is_active(&self) -> bool {
        matches!(self.phase, Phase::Active { .. })
    }

    pub(crate) fn is_prepared(&self) -> bool {
        matches!(self.phase, Phase::Prepared { .. })
    }
}

fn inconsistent(why: &str) -> StepError {
    StepError::Inconsistent(why.to_owned())
}

/// Certificates in the database: JSON has no bytes.
mod base64_der {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(bytes: &[u8], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(bytes))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
        STANDARD.decode(String::deserialize(deserializer)?).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
