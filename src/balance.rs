//! Choosing an endpoint: pickers are built anew for every change and then only read (pure; `now` and randomness are
//! handed in, what moves are atomics on the member).
//!
//! What each policy is good for, and what it costs, is in `docs/balancing.md`.

mod census;
mod consistent;
mod draw;
mod hash;
mod key;
mod load;
mod maglev;
mod peak_ewma;
mod ring;
mod round_robin;
mod sample;
mod slow_start;
#[cfg(test)]
mod tests;
pub(crate) mod tiers;
mod two_choices;
mod zones;

use std::fmt;
use std::sync::Arc;

pub(crate) use key::Asked;
pub(crate) use load::Load;
pub(crate) use sample::Sample;
pub(crate) use slow_start::Warmth;

use self::consistent::{Consistent, Places};
use self::draw::Draw;
use self::maglev::Maglev;
use self::ring::Ring;
use self::round_robin::RoundRobin;
use self::two_choices::{By, TwoChoices};
use self::zones::Zones;
use crate::config::{Balance, Policies, ZonePreference};
use crate::upstream::Member;

/// What one choice needs to know.
#[derive(Debug)]
pub(crate) struct Pick<'a> {
    /// Milliseconds since the process began; wraps after 49 days.
    pub(crate) now: u32,
    pub(crate) random: &'a mut fastrand::Rng,
    /// Ids of members that this request has tried; they are passed over.
    pub(crate) tried: &'a [u64],
    /// Which of the others may be chosen.
    pub(crate) level: Level,
    /// What equal requests are told by.
    pub(crate) asked: Asked<'a>,
    /// Requests in flight to the upstream that is chosen from; [`Table`](crate::upstream::Table) fills it in.
    pub(crate) in_flight: usize,
}

/// How well a member has to be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// It need not be.
    Any,
    /// The last attempt to connect to it did not fail.
    Reachable,
    /// Healthy, and not ejected.
    Usable,
}

impl<'a> Pick<'a> {
    /// Describes a choice among usable members by a request of which nothing is known.
    pub(crate) fn new(now: u32, random: &'a mut fastrand::Rng, tried: &'a [u64]) -> Self {
        Self { now, random, tried, level: Level::Usable, asked: Asked::default(), in_flight: 0 }
    }

    /// Tells whether a member may be chosen. Costs two loads where nothing was tried.
    pub(crate) fn may_choose(&self, member: &Member) -> bool {
        let fits = match self.level {
            Level::Any => true,
            Level::Reachable => !member.state.breaker.is_unreachable(),
            Level::Usable => member.is_usable(self.now),
        };
        fits && !self.tried.contains(&member.state.id)
    }
}

/// Chooses among the members that it was built with.
pub(crate) trait Picker: fmt::Debug + Send + Sync {
    /// Returns a member that may be chosen; `None` where none is left. Takes no lock and allocates nothing.
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>>;

    /// Returns the ids of members in the order of their next turns, where there are turns.
    fn line(&self) -> Vec<u64> {
        Vec::new()
    }

    /// Says why a usable member gets nothing all the same; `None` where it gets its part.
    fn passes_over(&self, _member: &Member, _now: u32) -> Option<&'static str> {
        None
    }

    /// Returns by what it compares a member with another one, lower is better; `None` where it does not compare.
    fn score(&self, _member: &Member, _now: u32) -> Option<f32> {
        None
    }
}

/// Builds the picker of a policy. Members of weight 0 get nothing. `zone` is the gateway's own, `line` what the picker
/// before it says of [`Picker::line`].
pub(crate) fn picker(
    policies: &Policies,
    zone: Option<&str>,
    members: Vec<Arc<Member>>,
    line: &[u64],
) -> Box<dyn Picker> {
    let members: Vec<_> = members.into_iter().filter(|member| member.endpoint.weight > 0).collect();
    let slow_start = policies.slow_start.map(|window| u32::try_from(window.as_millis()).unwrap_or(u32::MAX));
    let draw = |members| Draw::new(members, slow_start);
    let in_zone = |members| -> Box<dyn Picker> {
        match &policies.balance {
            Balance::LeastRequest => Box::new(TwoChoices { draw: draw(members), by: By::LeastRequest }),
            Balance::PeakEwma => Box::new(TwoChoices { draw: draw(members), by: By::PeakEwma }),
            Balance::Random => Box::new(Random { draw: draw(members) }),
            Balance::RoundRobin => Box::new(RoundRobin::new(draw(members), line)),
            // Every gateway has to choose the same endpoint, new or not, wherever it is.
            Balance::Maglev(on) => {
                Box::new(Consistent::new(on.clone(), members, |placed| Places::Maglev(Maglev::new(placed))))
            }
            Balance::RingHash(on) => {
                Box::new(Consistent::new(on.clone(), members, |placed| Places::Ring(Ring::new(placed))))
            }
        }
    };
    let hashes = matches!(policies.balance, Balance::Maglev(_) | Balance::RingHash(_));
    match zone {
        Some(zone) if policies.zones == ZonePreference::Prefer && !hashes => {
            match Zones::new(zone, policies.spill, members, in_zone) {
                Ok(zones) => Box::new(zones),
                Err(members) => in_zone(members),
            }
        }
        _ => in_zone(members),
    }
}

#[derive(Debug)]
struct Random {
    draw: Draw,
}

impl Picker for Random {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        self.draw.draw(pick).map(|(_, member)| member)
    }
}
