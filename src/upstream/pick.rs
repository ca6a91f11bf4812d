//! Which endpoint a request goes to: tiers by their health, splits by weight, endpoints by policy (pure).
//!
//! The order of preference, each over all tiers of the destination before the next one:
//!
//! 1. endpoints that are usable and that this request has not tried; in panic, all that are listed, those that could not
//!    be connected to last,
//! 2. endpoints that are held over their removal,
//! 3. the same again, tried or not,
//! 4. whatever is listed: where nothing is usable, that is panic too, unless `panic = "0%"` forbids it.

#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use super::tree::Tree;
use super::{Member, Table, TargetSet, Upstream};
use crate::balance::{Level, Pick};
use crate::follow::removals::Standing;
use crate::resilience::breaker::{Admit, Probe};

/// What was chosen.
#[derive(Debug)]
pub(crate) struct Choice<'a> {
    pub(crate) upstream: &'a Arc<Upstream>,
    pub(crate) member: &'a Arc<Member>,
    /// This request is the one that says whether an ejected endpoint is well again.
    pub(crate) probe: Option<Probe>,
}

/// Which of a target's endpoints are looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Among {
    /// Healthy by their backend.
    Healthy,
    Held,
    /// All that are listed, where panic may be.
    Listed,
    /// All that are listed.
    Local,
}

impl Table {
    /// Chooses an endpoint. `is_local_hop`: the application beside us, for which there is neither breaker nor panic.
    pub(crate) fn pick<'a>(&'a self, to: &Tree<usize>, is_local_hop: bool, pick: &mut Pick<'_>) -> Option<Choice<'a>> {
        if is_local_hop {
            return self.pick_local(to, pick);
        }
        let panics = self.panics(to, pick.now);
        let tried = pick.tried;
        self.pick_sound(to, panics, pick)
            .or_else(|| {
                pick.tried = &[];
                if tried.is_empty() { None } else { self.pick_sound(to, panics, pick) }
            })
            .or_else(|| {
                // Nothing is usable at all.
                pick.tried = tried;
                if panics { None } else { self.pick_any(to, pick) }
            })
            .or_else(|| {
                pick.tried = &[];
                if panics || tried.is_empty() { None } else { self.pick_any(to, pick) }
            })
    }

    /// Tells whether an endpoint is left that was not tried. To ask is not to go there: no turn and no probe is used up.
    pub(crate) fn has_another(&self, to: &Tree<usize>, is_local_hop: bool, tried: &[u64], now: u32) -> bool {
        let whoever = is_local_hop || self.panics(to, now);
        let serves = |member: &Member| match member.standing {
            Standing::Held => member.is_sound(),
            Standing::Listed => member.is_listed() && (whoever || member.is_usable(now)),
        };
        let is_left =
            |member: &Arc<Member>| member.endpoint.weight > 0 && !tried.contains(&member.state.id) && serves(member);
        let mut nobody = |set: &Arc<TargetSet>| !set.members.iter().any(is_left);
        !to.all(&mut |&index| self.upstreams.get(index).is_none_or(|upstream| upstream.endpoints.all(&mut nobody)))
    }

    fn pick_local<'a>(&'a self, to: &Tree<usize>, pick: &mut Pick<'_>) -> Option<Choice<'a>> {
        let tried = pick.tried;
        self.pick_at(to, Among::Local, Level::Reachable, pick)
            .or_else(|| self.pick_at(to, Among::Local, Level::Any, pick))
            .or_else(|| {
                pick.tried = &[];
                if tried.is_empty() { None } else { self.pick_at(to, Among::Local, Level::Any, pick) }
            })
    }

    /// Steps 1 and 2.
    fn pick_sound<'a>(&'a self, to: &Tree<usize>, panics: bool, pick: &mut Pick<'_>) -> Option<Choice<'a>> {
        let first =
            if panics { self.pick_any(to, pick) } else { self.pick_at(to, Among::Healthy, Level::Usable, pick) };
        first.or_else(|| self.pick_at(to, Among::Held, Level::Any, pick))
    }

    fn pick_any<'a>(&'a self, to: &Tree<usize>, pick: &mut Pick<'_>) -> Option<Choice<'a>> {
        let reachable = self.pick_at(to, Among::Listed, Level::Reachable, pick);
        reachable.or_else(|| self.pick_at(to, Among::Listed, Level::Any, pick))
    }

    fn pick_at<'a>(&'a self, to: &Tree<usize>, among: Among, level: Level, pick: &mut Pick<'_>) -> Option<Choice<'a>> {
        pick.level = level;
        let now = pick.now;
        let capacity = |&index: &usize| self.upstreams.get(index).map_or(0.0, |upstream| upstream.capacity(now));
        to.choose(pick, &capacity, &mut |&index, pick| {
            let upstream = self.upstreams.get(index)?;
            pick.in_flight = upstream.state.in_flight.load(Ordering::Relaxed);
            if among == Among::Listed && upstream.policies.panic <= 0.0 {
                return None;
            }
            let capacity = |set: &Arc<TargetSet>| upstream.set_capacity(set, now);
            let (member, probe) =
                upstream.endpoints.choose(pick, &capacity, &mut |set, pick| set.pick(upstream, among, pick))?;
            Some(Choice { upstream, member, probe })
        })
    }

    /// Tells whether so little of every tier is healthy that health is no guide any more.
    pub(crate) fn panics(&self, to: &Tree<usize>, now: u32) -> bool {
        to.all(&mut |&index| {
            self.upstreams.get(index).is_none_or(|upstream| {
                upstream.endpoints.all(&mut |set| {
                    let vitals = set.vitals.of(&set.members, &upstream.state.epoch, now);
                    vitals.is_below(upstream.policies.panic)
                })
            })
        })
    }
}

impl Upstream {
    /// Returns how much of all traffic its endpoints could carry, `spill` included: more than 1 is more than enough.
    pub(crate) fn capacity(&self, now: u32) -> f32 {
        self.endpoints.capacity(&|set| self.set_capacity(set, now))
    }

    #[allow(clippy::cast_possible_truncation, reason = "a factor near 1")]
    pub(crate) fn set_capacity(&self, set: &TargetSet, now: u32) -> f32 {
        self.policies.spill as f32 * set.vitals.of(&set.members, &self.state.epoch, now).ratio()
    }
}

impl TargetSet {
    /// Returns by what the balancer compares a member with others, lower is better; `None` where it does not compare.
    pub(crate) fn score(&self, member: &Member, now: u32) -> Option<f32> {
        self.healthy.score(member, now)
    }

    /// Says why a usable member gets nothing all the same; `None` where it gets its part.
    pub(crate) fn passes_over(&self, member: &Member, now: u32) -> Option<&'static str> {
        self.healthy.passes_over(member, now)
    }

    fn pick(&self, upstream: &Upstream, among: Among, pick: &mut Pick<'_>) -> Option<(&Arc<Member>, Option<Probe>)> {
        if pick.level == Level::Usable
            && upstream.state.ejected.count() > 0
            && let Some((member, probe)) = self.probe(upstream, pick)
        {
            return Some((member, Some(probe)));
        }
        let picker = match among {
            Among::Healthy => &self.healthy,
            Among::Held => &self.held,
            Among::Listed | Among::Local => self.listed.as_ref().unwrap_or(&self.healthy),
        };
        picker.pick(pick).map(|member| (member, None))
    }

    /// An ejected endpoint whose time is over gets one request to show that it is well.
    fn probe(&self, upstream: &Upstream, pick: &Pick<'_>) -> Option<(&Arc<Member>, Probe)> {
        if self.vitals.of(&self.members, &upstream.state.epoch, pick.now).due == 0 {
            return None;
        }
        let fits = |member: &&Arc<Member>| {
            member.endpoint.weight > 0
                && member.is_listed()
                && member.is_sound()
                && !pick.tried.contains(&member.state.id)
        };
        self.members.iter().filter(fits).find_map(|member| match member.state.breaker.admits(pick.now) {
            Admit::Probe(probe) => Some((member, probe)),
            Admit::Yes | Admit::No => None,
        })
    }
}
