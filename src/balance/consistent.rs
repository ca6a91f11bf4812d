//! Consistent hashing with bounded loads: requests of one key go to one endpoint, the same one from every gateway.
//!
//! Places (a ring or a Maglev table) put the members in an order that the key begins somewhere in; the first one that
//! fits serves. A member over its bound is passed over: 1.25 times its share of what is in flight (Mirrokni, Thorup and
//! Zadimoghaddam, "Consistent Hashing with Bounded Loads"), but never under [`FREE`] requests, or a client that asks for two
//! things at once would be torn apart on an idle service. A request without the key is drawn at random by weight.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use super::census::Census;
use super::draw::Draw;
use super::hash::hash;
use super::key::key;
use super::maglev::Maglev;
use super::ring::Ring;
use super::{Pick, Picker};
use crate::config::HashOn;
use crate::upstream::Member;

/// How far over the mean a member may be.
const BOUND: f64 = 1.25;
/// So many requests in flight are nobody's overload.
const FREE: u32 = 8;
/// Places that are looked at for a member within its bound. With a bound of 1.25 at least a fifth of the weight is within
/// it, so that the chance to find none is 1 in 10²⁴.
const STEPS: usize = 256;

/// What the members are placed by.
#[derive(Debug)]
pub(super) enum Places {
    Maglev(Maglev),
    Ring(Ring),
}

impl Places {
    fn start(&self, key: u64) -> usize {
        match self {
            Self::Maglev(table) => table.start(key),
            Self::Ring(ring) => ring.start(key),
        }
    }

    fn member(&self, place: usize) -> Option<usize> {
        match self {
            Self::Maglev(table) => table.member(place),
            Self::Ring(ring) => ring.member(place),
        }
    }
}

/// What a member is placed by: its hash and its weight.
pub(super) type Placed = (u64, u32);

#[derive(Debug)]
pub(super) struct Consistent {
    on: HashOn,
    places: Places,
    /// In the order of their keys, so that the order of a snapshot does not matter.
    draw: Draw,
    /// Weight of the members that are usable.
    weight: AtomicU64,
    census: Census,
}

impl Consistent {
    pub(super) fn new(on: HashOn, mut members: Vec<Arc<Member>>, places: impl FnOnce(&[Placed]) -> Places) -> Self {
        members.sort_by_cached_key(|member| endpoint_key(member));
        let keys: Vec<Placed> =
            members.iter().map(|member| (hash(endpoint_key(member).as_bytes()), member.endpoint.weight)).collect();
        let this = Self {
            on,
            places: places(&keys),
            draw: Draw::new(members, None),
            weight: AtomicU64::new(0),
            census: Census::default(),
        };
        this.count(0);
        this
    }

    fn count(&self, now: u32) {
        let weights = |usable: bool| -> u64 {
            let fitting = self.draw.members().iter().filter(|member| !usable || member.is_usable(now));
            fitting.map(|member| u64::from(member.endpoint.weight)).sum()
        };
        let usable = weights(true);
        self.weight.store(if usable == 0 { weights(false) } else { usable }, Ordering::Relaxed);
    }
}

impl Picker for Consistent {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        let Some(key) = key(&self.on, &pick.asked) else {
            return self.draw.draw(pick).map(|(_, member)| member);
        };
        if self.census.is_due(pick.now) {
            self.count(pick.now);
        }
        // This request counts too.
        let fair = BOUND * (pick.in_flight as f64 + 1.0) / self.weight.load(Ordering::Relaxed).max(1) as f64;
        let members = self.draw.members();
        let start = self.places.start(key);
        let mut over = None;
        for place in start..start.saturating_add(STEPS) {
            let member = members.get(self.places.member(place)?)?;
            if !pick.may_choose(member) {
                continue;
            }
            let in_flight = member.state.load.in_flight();
            if in_flight < FREE || f64::from(in_flight) < (fair * f64::from(member.endpoint.weight)).ceil() {
                return Some(member);
            }
            over.get_or_insert(member);
        }
        // All are over their bounds, which many workers can bring about for a moment: then the key's own.
        over.or_else(|| {
            let count = members.len();
            (0..count)
                .filter_map(|offset| members.get((start % count + offset) % count))
                .find(|member| pick.may_choose(member))
        })
    }
}

/// What an endpoint is known by on every gateway.
fn endpoint_key(member: &Member) -> String {
    let endpoint = &member.endpoint;
    format!("{}\n{}", endpoint.address, endpoint.id.as_deref().unwrap_or_default())
}
