//! In turn, by weight: a schedule is worked out once, requests walk along it.
//!
//! Up to [`MAX_SLOTS`] slots the schedule is exact. Beyond, each member has the whole part of its share in slots of its
//! own, and what is left of all shares makes slots in which a member is drawn at random: so shares are exact on average
//! for any weights, and a schedule stays short. A turn of a member that does not fit goes to one drawn at random: were
//! it the next in line, the neighbour of one that is ejected would have to serve for two.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::draw::Draw;
use super::{Pick, Picker};
use crate::upstream::Member;

/// Longest schedule with unequal weights; with more than a quarter as many members, four slots for each.
const MAX_SLOTS: u64 = 1024;

/// Whose turn it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Slot {
    /// Position of a member.
    Member(u32),
    /// Someone drawn by what the schedule could not express.
    Shared,
}

#[derive(Debug)]
pub(super) struct RoundRobin {
    draw: Draw,
    schedule: Vec<Slot>,
    /// Running sums of what is left of each share, for shared slots.
    left: Vec<u64>,
    next: AtomicUsize,
}

impl RoundRobin {
    /// Begins with the first of `line` that is a member: the one whose turn was next in the table before.
    pub(super) fn new(draw: Draw, line: &[u64]) -> Self {
        let weights: Vec<u32> = draw.members().iter().map(|member| member.endpoint.weight).collect();
        let (schedule, left) = schedule(&weights);
        let position = |id: &u64| draw.members().iter().position(|member| member.state.id == *id);
        let first = line.iter().find_map(position);
        let slot = |first| schedule.iter().position(|slot| matches!(slot, Slot::Member(at) if *at as usize == first));
        let next = AtomicUsize::new(first.and_then(slot).unwrap_or_default());
        Self { draw, schedule, left, next }
    }

    fn member(&self, slot: Slot, random: &mut fastrand::Rng) -> Option<&Arc<Member>> {
        let position = match slot {
            Slot::Member(position) => position as usize,
            Slot::Shared => {
                let total = *self.left.last()?;
                let at = random.u64(..total.max(1));
                self.left.partition_point(|&sum| sum <= at)
            }
        };
        self.draw.members().get(position)
    }
}

impl Picker for RoundRobin {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        let turn = self.next.fetch_add(1, Ordering::Relaxed);
        let slot = *self.schedule.get(turn.checked_rem(self.schedule.len())?)?;
        let member = self.member(slot, pick.random)?;
        if pick.may_choose(member) && self.draw.accepts(member, pick) {
            return Some(member);
        }
        self.draw.draw(pick).map(|(_, member)| member)
    }

    fn line(&self) -> Vec<u64> {
        let slots = self.schedule.len().max(1);
        let next = self.next.load(Ordering::Relaxed) % slots;
        let (done, coming) = self.schedule.split_at(next.min(self.schedule.len()));
        let own = coming.iter().chain(done).filter_map(|slot| match slot {
            Slot::Member(position) => self.draw.members().get(*position as usize),
            Slot::Shared => None,
        });
        let mut seen = std::collections::HashSet::new();
        own.map(|member| member.state.id).filter(|id| seen.insert(*id)).collect()
    }
}

/// Works out whose turn is when, evenly spread, and the running sums of what is left of each share.
#[allow(clippy::cast_possible_truncation, reason = "a snapshot has at most 10,000 endpoints")]
fn schedule(weights: &[u32]) -> (Vec<Slot>, Vec<u64>) {
    let divisor = weights.iter().fold(0, |left, &right| gcd(left, right)).max(1);
    let total: u64 = weights.iter().map(|weight| u64::from(weight / divisor)).sum();
    let most = if total == weights.len() as u64 { total } else { MAX_SLOTS.max(4 * weights.len() as u64) };
    let slots = total.min(most);
    // Each share is `weight * slots / total` slots: the whole part in slots of its own, the rest in shared ones.
    let mut due: Vec<(f64, Slot)> = Vec::new();
    let (mut left, mut shared) = (Vec::with_capacity(weights.len()), 0);
    for (position, weight) in weights.iter().enumerate() {
        let exact = u64::from(weight / divisor) * slots;
        // The phase sets members of one weight apart from each other.
        let phase = (position as f64 + 0.5) / weights.len() as f64;
        spread(&mut due, Slot::Member(position as u32), exact / total.max(1), phase);
        shared += exact % total.max(1);
        left.push(shared);
    }
    spread(&mut due, Slot::Shared, shared / total.max(1), 0.5);
    due.sort_by(|left, right| left.0.total_cmp(&right.0));
    (due.into_iter().map(|(_, slot)| slot).collect(), left)
}

/// Adds turns at equal distances.
fn spread(due: &mut Vec<(f64, Slot)>, slot: Slot, turns: u64, phase: f64) {
    due.extend((0..turns).map(|turn| ((turn as f64 + phase) / turns as f64, slot)));
}

fn gcd(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn positions(weights: &[u32]) -> Vec<u32> {
        let own = |slot: Slot| match slot {
            Slot::Member(position) => position,
            Slot::Shared => u32::MAX,
        };
        schedule(weights).0.into_iter().map(own).collect()
    }

    #[test]
    fn turns_are_interleaved() {
        assert_eq!(positions(&[5, 1, 1]), [0, 0, 0, 1, 0, 0, 2]);
        assert_eq!(positions(&[10, 10, 10]), [0, 1, 2]);
        assert!(positions(&[]).is_empty());
    }

    #[test]
    fn shares_are_exact_for_any_weights() {
        for weights in
            [vec![1_003, 1], vec![100_000, 1], vec![65_535, 32_768, 7, 1], (1..=300).collect(), vec![7; 9_999]]
        {
            let (slots, left) = schedule(&weights);
            assert!(slots.len() <= 1024.max(4 * weights.len()), "{}", slots.len());
            let total: f64 = weights.iter().map(|&weight| f64::from(weight)).sum();
            let shared = slots.iter().filter(|slot| **slot == Slot::Shared).count() as f64;
            let rest = left.last().copied().unwrap_or_default() as f64;
            let mut own = vec![0usize; weights.len()];
            for slot in &slots {
                if let Slot::Member(position) = slot {
                    own[*position as usize] += 1;
                }
            }
            let mut before = 0;
            for (position, &weight) in weights.iter().enumerate() {
                let drawn = if rest > 0.0 { shared * (left[position] - before) as f64 / rest } else { 0.0 };
                before = left[position];
                let share = (own[position] as f64 + drawn) / slots.len() as f64;
                assert!((share - f64::from(weight) / total).abs() < 1e-9, "{weights:?}: {position} has {share}");
            }
        }
    }
}
