//! Zone preference with spill: requests stay in the gateway's own zone as far as its share of the healthy weight allows.
//!
//! The rule supposes that requests come from all zones alike, as Envoy's zone aware routing and Kubernetes' topology
//! hints do in their ways: a zone with its mean share of the weight then just serves its own. Ours keeps
//! `min(1, spill × own ÷ mean)` of its requests, where `spill` (1.4) is how much over its share a zone may be asked; the
//! rest goes to zones that have more than the mean, in proportion to that. Endpoints of unknown zone switch the preference
//! off for their target: where half is unknown, a preference would load the other half (Kubernetes' safeguard).

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use super::census::Census;
use super::{Pick, Picker};
use crate::upstream::Member;

/// Returns the share of its own requests that a zone keeps, 0 to 1. `mean` is the healthy weight of a zone on average.
pub(super) fn kept(spill: f64, own: f64, mean: f64) -> f64 {
    if mean > 0.0 { (spill * own / mean).min(1.0) } else { 1.0 }
}

/// Returns what a zone can take from others, as a weight.
pub(super) fn surplus(here: f64, mean: f64) -> f64 {
    (here - mean).max(0.0)
}

#[derive(Debug)]
struct Zone {
    picker: Box<dyn Picker>,
    members: Vec<Arc<Member>>,
    /// As `f32` bits: of our zone the share that it keeps, of others what they take.
    share: AtomicU32,
}

impl Zone {
    fn share(&self) -> f32 {
        f32::from_bits(self.share.load(Ordering::Relaxed))
    }

    #[allow(clippy::cast_possible_truncation, reason = "a share needs no more")]
    fn set_share(&self, share: f64) {
        self.share.store((share as f32).to_bits(), Ordering::Relaxed);
    }

    fn weight(&self, fits: impl Fn(&Member) -> bool) -> f64 {
        self.members.iter().filter(|member| fits(member)).map(|member| f64::from(member.endpoint.weight)).sum()
    }
}

/// Chooses the zone, then lets its picker choose.
#[derive(Debug)]
pub(super) struct Zones {
    own: Zone,
    others: Vec<Zone>,
    spill: f64,
    census: Census,
}

impl Zones {
    /// Splits members by zone, and gives them back where there is nothing to prefer: a zone is unknown, ours has none,
    /// or there is no other.
    pub(super) fn new(
        zone: &str,
        spill: f64,
        members: Vec<Arc<Member>>,
        picker: impl Fn(Vec<Arc<Member>>) -> Box<dyn Picker>,
    ) -> Result<Self, Vec<Arc<Member>>> {
        let mut by_zone: BTreeMap<String, Vec<Arc<Member>>> = BTreeMap::new();
        for member in &members {
            let Some(zone) = &member.endpoint.zone else { return Err(members) };
            by_zone.entry(zone.clone()).or_default().push(member.clone());
        }
        let build =
            |members: Vec<Arc<Member>>| Zone { picker: picker(members.clone()), members, share: AtomicU32::new(0) };
        match by_zone.remove(zone) {
            Some(own) if !by_zone.is_empty() => {
                let others = by_zone.into_values().map(build).collect();
                let this = Self { own: build(own), others, spill, census: Census::default() };
                this.count(0);
                Ok(this)
            }
            _ => Err(members),
        }
    }

    fn count(&self, now: u32) {
        let all = || self.others.iter().chain([&self.own]);
        let usable = |member: &Member| member.is_usable(now);
        let total: f64 = all().map(|zone| zone.weight(usable)).sum();
        // With nothing usable left, what is chosen anyway is chosen as if all were.
        let nothing = total <= 0.0;
        let weight = |zone: &Zone| zone.weight(|member| nothing || usable(member));
        let mean = all().map(weight).sum::<f64>() / (self.others.len() + 1) as f64;
        self.own.set_share(kept(self.spill, weight(&self.own), mean));
        for zone in &self.others {
            zone.set_share(surplus(weight(zone), mean));
        }
    }

    fn pick_other(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        let total: f32 = self.others.iter().map(Zone::share).sum();
        let mut at = pick.random.f32() * total;
        let drawn = self.others.iter().position(|zone| {
            at -= zone.share();
            at < 0.0
        });
        // Where none has a surplus (our zone was usable and has been tried), any other is as good.
        let first = drawn.unwrap_or_else(|| pick.random.usize(..self.others.len().max(1)));
        let (before, from) = self.others.split_at_checked(first)?;
        from.iter().chain(before).find_map(|zone| zone.picker.pick(pick))
    }
}

impl Picker for Zones {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        if self.census.is_due(pick.now) {
            self.count(pick.now);
        }
        let kept = self.own.share();
        if kept >= 1.0 || pick.random.f32() < kept {
            self.own.picker.pick(pick).or_else(|| self.pick_other(pick))
        } else {
            self.pick_other(pick).or_else(|| self.own.picker.pick(pick))
        }
    }

    fn line(&self) -> Vec<u64> {
        self.others.iter().chain([&self.own]).flat_map(|zone| zone.picker.line()).collect()
    }

    fn passes_over(&self, member: &Member, now: u32) -> Option<&'static str> {
        if self.census.is_due(now) {
            self.count(now);
        }
        let its = self.others.iter().find(|zone| zone.members.iter().any(|one| one.state.id == member.state.id))?;
        if self.own.share() >= 1.0 {
            Some("it is in another zone: this one carries everything")
        } else {
            (its.share() <= 0.0).then_some("it is in another zone, which has no more than its part")
        }
    }

    fn score(&self, member: &Member, now: u32) -> Option<f32> {
        // All zones are of one policy.
        self.own.picker.score(member, now)
    }
}
