//! Shares of endpoints: the code that serves is asked many times, while load and health stand still.

use std::collections::HashMap;

use super::answer::Draws;
use crate::balance::{Asked, Pick};
use crate::upstream::Table;
use crate::upstream::tree::Tree;

/// What came of many draws.
#[derive(Debug, Default)]
pub(super) struct Drawn {
    count: u32,
    without_endpoint: u32,
    /// By the id of an upstream's state.
    services: HashMap<u64, u32>,
    /// By the id of a member's state.
    members: HashMap<u64, u32>,
}

/// What is drawn from.
#[derive(Debug, Clone, Copy)]
pub(super) struct Urn<'a> {
    pub(super) table: &'a Table,
    pub(super) to: &'a Tree<usize>,
    pub(super) is_local_hop: bool,
    /// What equal requests are told by.
    pub(super) asked: Asked<'a>,
    /// Milliseconds of the process.
    pub(super) now: u32,
}

/// Draws so many first tries of a request.
///
/// A draw that is the probe of an ejected endpoint keeps the right to be it until the last draw, as a request does until
/// its reply, and gives it back then.
pub(super) fn draw(urn: &Urn<'_>, count: u32, seed: u64) -> Drawn {
    let Urn { table, to, is_local_hop, asked, now } = *urn;
    let mut random = fastrand::Rng::with_seed(seed);
    let mut drawn = Drawn { count, ..Drawn::default() };
    let mut probes = Vec::new();
    for _ in 0..count {
        let mut pick = Pick { asked, ..Pick::new(now, &mut random, &[]) };
        let Some(choice) = table.pick(to, is_local_hop, &mut pick) else {
            drawn.without_endpoint += 1;
            continue;
        };
        *drawn.services.entry(choice.upstream.state.id).or_default() += 1;
        match choice.probe {
            // One request is no share.
            Some(probe) => probes.push((choice.member, probe)),
            None => *drawn.members.entry(choice.member.state.id).or_default() += 1,
        }
    }
    for (member, probe) in probes {
        member.state.breaker.abandon(probe, now);
    }
    drawn
}

impl Drawn {
    pub(super) fn is_empty(&self) -> bool {
        self.without_endpoint == self.count
    }

    /// Returns the share of an upstream.
    pub(super) fn of_service(&self, id: u64) -> f64 {
        self.share(self.services.get(&id))
    }

    /// Returns the share of a member.
    pub(super) fn of_member(&self, id: u64) -> f64 {
        self.share(self.members.get(&id))
    }

    pub(super) fn view(&self, seed: u64) -> Draws {
        Draws { count: self.count, without_endpoint: self.without_endpoint, seed }
    }

    fn share(&self, count: Option<&u32>) -> f64 {
        f64::from(count.copied().unwrap_or(0)) / f64::from(self.count.max(1))
    }
}
