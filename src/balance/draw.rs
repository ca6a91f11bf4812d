//! Drawing members at random, by weight.

use std::sync::Arc;

use super::Pick;
use crate::upstream::Member;

/// How often a draw is repeated for a member that fits, before members are looked through one by one.
const DRAWS: usize = 8;

/// Members with their weights, to draw from at random.
#[derive(Debug)]
pub(super) struct Draw {
    members: Vec<Arc<Member>>,
    /// Running sums of the weights; empty where all weights are equal.
    sums: Vec<u64>,
    /// Length of a slow start in milliseconds.
    slow_start: Option<u32>,
}

impl Draw {
    pub(super) fn new(members: Vec<Arc<Member>>, slow_start: Option<u32>) -> Self {
        let first = members.first().map(|member| member.endpoint.weight);
        let equal = members.iter().all(|member| Some(member.endpoint.weight) == first);
        let mut sum = 0;
        let sums = if equal {
            Vec::new()
        } else {
            members
                .iter()
                .map(|member| {
                    sum += u64::from(member.endpoint.weight);
                    sum
                })
                .collect()
        };
        Self { members, sums, slow_start }
    }

    pub(super) fn members(&self) -> &[Arc<Member>] {
        &self.members
    }

    /// Returns the weight that a member has now: its own, less during a slow start.
    pub(super) fn weight(&self, member: &Member, now: u32) -> f32 {
        member.endpoint.weight as f32 * self.share(member, now)
    }

    fn share(&self, member: &Member, now: u32) -> f32 {
        self.slow_start.map_or(1.0, |window| member.state.warmth.share(now, window))
    }

    /// Passes a member over as often as its slow start wants it.
    pub(super) fn accepts(&self, member: &Member, pick: &mut Pick<'_>) -> bool {
        let share = self.share(member, pick.now);
        share >= 1.0 || pick.random.f32() < share
    }

    fn index(&self, random: &mut fastrand::Rng) -> usize {
        match self.sums.last() {
            Some(&total) => {
                let at = random.u64(..total);
                self.sums.partition_point(|&sum| sum <= at)
            }
            None => random.usize(..self.members.len().max(1)),
        }
    }

    /// Draws a member that fits: a few times by weight, then the next one in line from a random place.
    pub(super) fn draw(&self, pick: &mut Pick<'_>) -> Option<(usize, &Arc<Member>)> {
        let mut cold = None;
        for _ in 0..DRAWS {
            let index = self.index(pick.random);
            let Some(member) = self.members.get(index).filter(|member| pick.may_choose(member)) else { continue };
            if self.accepts(member, pick) {
                return Some((index, member));
            }
            // If all are new, they share by weight.
            cold.get_or_insert((index, member));
        }
        if cold.is_some() {
            return cold;
        }
        let count = self.members.len();
        let start = pick.random.usize(..count.max(1));
        (0..count)
            .map(|offset| (start + offset) % count)
            .find_map(|index| Some((index, self.members.get(index).filter(|member| pick.may_choose(member))?)))
    }

    /// Draws two members. With equal weights they differ if there are two; with unequal ones the heavier may be drawn
    /// twice, or its share would be lost against a light one that is always compared with it.
    pub(super) fn draw_two(&self, pick: &mut Pick<'_>) -> Option<(&Arc<Member>, &Arc<Member>)> {
        let (first_at, first) = self.draw(pick)?;
        let count = self.members.len();
        if count < 2 {
            return Some((first, first));
        }
        if self.sums.is_empty() {
            let second_at = (first_at + 1 + pick.random.usize(..count - 1)) % count;
            if let Some(second) = self.members.get(second_at).filter(|member| pick.may_choose(member))
                && self.accepts(second, pick)
            {
                return Some((first, second));
            }
        }
        let second = self.draw(pick).map_or(first, |(_, second)| second);
        Some((first, second))
    }
}
