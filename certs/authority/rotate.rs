//! The steps of the hierarchy, made: certificates signed, keys put and taken, each step one transaction.

use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use super::Denied;
use super::audit::Line;
use super::clock::seconds;
use super::desk::{Desk, Held, not_stored};
use super::hierarchy::{Authority as Link, New, Planned, Step, StepError};
use super::keys::Key;
use super::open::{OpenError, new_intermediate, new_root};
use super::record::{self, HOLDERS, Holder, ISSUED, Read, Record, TOKENS};
use super::store::Change;
use super::token::Token;
use crate::pem;

/// How often, at least, the plan is looked at: the clock may be set.
const LOOK: Duration = Duration::from_secs(30);
/// How often expired records are dropped, in seconds.
const PRUNE: u64 = 60;
/// Most records in one transaction; the line of the audit log is one more change.
const AT_ONCE: usize = 60;

/// Why a step was not made.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RotateError {
    /// It is not its turn.
    #[error(transparent)]
    Step(#[from] StepError),
    /// The root's key is needed, and is not here or another's.
    #[error("{0}")]
    Key(String),
    /// It cannot be made now.
    #[error(transparent)]
    Denied(#[from] Denied),
}

impl From<OpenError> for RotateError {
    fn from(error: OpenError) -> Self {
        Self::Denied(Denied::Unavailable(error.to_string()))
    }
}

impl Desk {
    /// Makes what is due: prepares, activates, retires, drops records that expired. Returns how long to wait before it is
    /// called again. Blocks.
    pub fn advance(&self) -> Result<Duration, Denied> {
        let now = self.now();
        let mut held = self.held()?;
        let time = seconds(now);
        let mut stuck = None;
        // Each step makes the plan another one; that many in a row means that something goes in circles.
        for _ in 0..64 {
            let plan = held.hierarchy.value.plan(self.options.timing());
            let Some(Planned { step, .. }) =
                plan.into_iter().find(|planned| planned.at <= time && Some(planned.step) != stuck)
            else {
                break;
            };
            match self.step(&mut held, step, now) {
                Ok(()) => {}
                Err(RotateError::Denied(denied)) => return Err(denied),
                Err(error) => {
                    tracing::warn!(%error, step = step.text(), "A step of the authority's rotation waits for a person.");
                    stuck = Some(step);
                }
            }
        }
        if time >= held.pruned + PRUNE || time < held.pruned {
            held.pruned = time;
            self.prune(time)?;
        }
        let plan = held.hierarchy.value.plan(self.options.timing());
        let next =
            plan.into_iter().find(|planned| planned.at > time).map(|planned| Duration::from_secs(planned.at - time));
        Ok(next.unwrap_or(LOOK).min(LOOK))
    }

    fn step(&self, held: &mut Held, step: Step, now: SystemTime) -> Result<(), RotateError> {
        match step {
            Step::PrepareIntermediate => self.prepare_intermediate(held, None, now).map(|_| ()),
            Step::ActivateIntermediate => self.activate_intermediate(held, now).map(|_| ()),
            Step::ActivateRoot => self.activate_root(held, now).map(|_| ()),
            Step::Retire => self.retire(held, now),
        }
    }

    /// Makes the next intermediate; returns its name. `given`: the root's key, where it is not here.
    pub(crate) fn prepare_intermediate(
        &self,
        held: &mut Held,
        given: Option<Key>,
        now: SystemTime,
    ) -> Result<String, RotateError> {
        let root = held.hierarchy.value.root().cloned().ok_or_else(no_root)?;
        let root_key = self.root_key(&root, given)?;
        let mut hierarchy = held.hierarchy.value.clone();
        let (new, key) = self.intermediate(&root.name, root.not_after, &root_key, now)?;
        let name = new.name.clone();
        let number = hierarchy.prepare_intermediate(new, seconds(now))?;
        let line = Line::new("rotated").because(format!("{name} was prepared under {}", root.name));
        self.change_hierarchy(held, hierarchy, line, (vec![(number, key)], Vec::new()), now)?;
        Ok(name)
    }

    /// Lets the prepared intermediate sign; returns its name.
    pub(crate) fn activate_intermediate(&self, held: &mut Held, now: SystemTime) -> Result<String, RotateError> {
        let mut hierarchy = held.hierarchy.value.clone();
        let gone = hierarchy.activate_intermediate(seconds(now), held.issuing.value.last_leaf)?;
        self.activated(held, hierarchy, gone, now)
    }

    /// Makes the next root with an intermediate under it; returns the root as PEM. `given`: the root's key, where it is
    /// kept elsewhere.
    pub(crate) fn prepare_root(
        &self,
        held: &mut Held,
        given: Option<Key>,
        now: SystemTime,
    ) -> Result<String, RotateError> {
        held.hierarchy.value.may_prepare_root()?;
        if given.as_ref().is_some_and(|key| held.hierarchy.value.has_key(&key.hash())) {
            return Err(RotateError::Key("the key is one that the authority has already; make a new one".to_owned()));
        }
        let (root, root_key) = new_root(&self.trust_domain, &self.options, seconds(now), given)?;
        let (below, key) = self.intermediate(&root.name, root.not_after, &root_key, now)?;
        let certificate = pem::encode_chain(&[CertificateDer::from(root.certificate.clone())]);
        let (name, is_here) = (root.name.clone(), root.key_here);
        let mut hierarchy = held.hierarchy.value.clone();
        let (number, below) = hierarchy.prepare_root(root, below, seconds(now))?;
        let mut keys = vec![(below, key)];
        if is_here {
            keys.push((number, root_key));
        }
        let line = Line::new("rotated")
            .because(format!("{name} was prepared; the bundle has sequence {}", hierarchy.sequence));
        self.change_hierarchy(held, hierarchy, line, (keys, Vec::new()), now)?;
        Ok(certificate)
    }

    /// Lets the prepared root, and the intermediate under it, sign; returns the intermediate's name.
    pub(crate) fn activate_root(&self, held: &mut Held, now: SystemTime) -> Result<String, RotateError> {
        let mut hierarchy = held.hierarchy.value.clone();
        let gone = hierarchy.activate_root(seconds(now), held.issuing.value.last_leaf)?;
        self.activated(held, hierarchy, gone, now)
    }

    fn activated(
        &self,
        held: &mut Held,
        hierarchy: super::hierarchy::Hierarchy,
        gone: Vec<u64>,
        now: SystemTime,
    ) -> Result<String, RotateError> {
        let signer = hierarchy.signer().map(|link| link.name.clone()).unwrap_or_default();
        let root = hierarchy.root().map(|link| link.name.clone()).unwrap_or_default();
        let line = Line::new("rotated").because(format!("{signer} under {root} signs from now on"));
        self.change_hierarchy(held, hierarchy, line, (Vec::new(), gone), now)?;
        tracing::info!(intermediate = %signer, %root, "Another intermediate signs from now on.");
        Ok(signer)
    }

    fn retire(&self, held: &mut Held, now: SystemTime) -> Result<(), RotateError> {
        let mut hierarchy = held.hierarchy.value.clone();
        let changed = hierarchy.retire(seconds(now));
        let line = Line::new("rotated").because(if changed {
            format!("the old root left the bundle, which has sequence {}", hierarchy.sequence)
        } else {
            "the last leaf of an old intermediate has expired".to_owned()
        });
        Ok(self.change_hierarchy(held, hierarchy, line, (Vec::new(), Vec::new()), now)?)
    }

    fn intermediate(&self, root: &str, ends: u64, key: &Key, now: SystemTime) -> Result<(New, Key), OpenError> {
        new_intermediate(&self.trust_domain, &self.options, seconds(now), (root, ends, key))
    }

    fn root_key(&self, root: &Link, given: Option<Key>) -> Result<Key, RotateError> {
        match given {
            Some(key) if key.hash() == root.key => Ok(key),
            Some(_) => Err(RotateError::Key(format!("the key that was given is not that of {}", root.name))),
            None => self.key(root)?.ok_or_else(|| {
                RotateError::Key(format!(
                    "the key of {} is kept elsewhere: `meshless ca rotate intermediate --root-key FILE`",
                    root.name
                ))
            }),
        }
    }

    /// Drops certificates and keys that have expired, and tokens that nobody needs.
    fn prune(&self, now: u64) -> Result<(), Denied> {
        let store = self.store.as_ref();
        let issued = record::list::<Record>(store, ISSUED).map_err(|error| not_stored(&error))?;
        let holders = record::list::<Holder>(store, HOLDERS).map_err(|error| not_stored(&error))?;
        let tokens = record::list::<Token>(store, TOKENS).map_err(|error| not_stored(&error))?;
        let issued = issued.into_iter().filter(|(_, read)| read.value.not_after < now).map(drop_it);
        let holders = holders.into_iter().filter(|(_, read)| read.value.not_after < now).map(drop_it);
        let tokens = tokens.into_iter().filter(|(_, read)| read.value.is_over(now)).map(drop_it);
        let over: Vec<Change> = issued.chain(holders).chain(tokens).collect();
        for some in over.chunks(AT_ONCE) {
            store.commit(some).map_err(|error| not_stored(&error))?;
        }
        Ok(())
    }
}

fn drop_it<T>((key, read): (String, Read<T>)) -> Change {
    Change::delete(key, read.version)
}

fn no_root() -> StepError {
    StepError::Inconsistent("no root is active".to_owned())
}

#[cfg(test)]
mod tests;
