//! In turn, by weight: a schedule is worked out once, requests walk along it.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use super::{Pick, Picker};
use crate::upstream::Member;

/// Longest schedule; beyond it weights are rounded.
const MAX_SLOTS: u64 = 1024;

#[derive(Debug)]
pub(super) struct RoundRobin {
    members: Vec<Arc<Member>>,
    /// Positions in `members`.
    schedule: Vec<usize>,
    next: AtomicUsize,
}

impl RoundRobin {
    pub(super) fn new(members: Vec<Arc<Member>>) -> Self {
        let weights: Vec<u32> = members.iter().map(|member| member.endpoint.weight).collect();
        Self { schedule: schedule(&weights), members, next: AtomicUsize::new(0) }
    }
}

impl Picker for RoundRobin {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        let slots = self.schedule.len();
        for _ in 0..slots {
            let slot = self.next.fetch_add(1, Ordering::Relaxed) % slots;
            let member = self.schedule.get(slot).and_then(|&position| self.members.get(position))?;
            if !pick.tried.contains(&member.state.id) {
                return Some(member);
            }
        }
        None
    }
}

/// Interleaves members by weight without bursts ("smooth" weighted round robin: each turn everyone gains its weight, who
/// has most goes and pays the total).
fn schedule(weights: &[u32]) -> Vec<usize> {
    let divisor = weights.iter().fold(0, |left, &right| gcd(left, right)).max(1);
    let mut weights: Vec<u64> = weights.iter().map(|weight| u64::from(weight / divisor)).collect();
    let total: u64 = weights.iter().sum();
    if total > MAX_SLOTS {
        for weight in &mut weights {
            *weight = (*weight * MAX_SLOTS / total).max(1);
        }
    }
    let total: u64 = weights.iter().sum();
    let mut credit = vec![0i128; weights.len()];
    (0..total)
        .filter_map(|_| {
            for (credit, &weight) in credit.iter_mut().zip(&weights) {
                *credit += i128::from(weight);
            }
            let best = (0..credit.len()).max_by_key(|&at| (credit.get(at).copied(), std::cmp::Reverse(at)))?;
            *credit.get_mut(best)? -= i128::from(total);
            Some(best)
        })
        .collect()
}

fn gcd(left: u32, right: u32) -> u32 {
    if right == 0 { left } else { gcd(right, left % right) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn turns_are_interleaved() {
        assert_eq!(schedule(&[5, 1, 1]), [0, 0, 1, 0, 2, 0, 0]);
        assert_eq!(schedule(&[10, 10]), [0, 1]);
        assert!(schedule(&[]).is_empty());
    }

    #[test]
    fn large_weights_are_rounded_but_nobody_is_lost() {
        let slots = schedule(&[1_000_003, 1]);
        assert!(slots.len() <= 1025 && slots.contains(&1));
    }
}
