//! The better of two drawn at random: almost as good as the best of all, without a herd (Mitzenmacher, "The Power of Two
//! Choices in Randomized Load Balancing").

use std::sync::Arc;

use super::draw::Draw;
use super::{Pick, Picker, peak_ewma};
use crate::upstream::Member;

/// Pairs that are drawn while the better one of each fails (Finagle's `maxEffort`).
const EFFORT: usize = 5;

/// What makes one better than the other.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum By {
    LeastRequest,
    PeakEwma,
}

#[derive(Debug)]
pub(super) struct TwoChoices {
    pub(super) draw: Draw,
    pub(super) by: By,
}

impl TwoChoices {
    /// Lower is better.
    fn cost(&self, member: &Member, now: u32) -> f32 {
        let weight = self.draw.weight(member, now);
        match self.by {
            // No "+ 1": idle members tie, the first draw wins, and the shares are the weights.
            By::LeastRequest => member.state.load.in_flight() as f32 / weight,
            By::PeakEwma => peak_ewma::score(&member.state.load, weight, now),
        }
    }

    /// Draws two; returns the better one first.
    fn draw(&self, pick: &mut Pick<'_>) -> Option<(&Arc<Member>, &Arc<Member>)> {
        let (first, second) = self.draw.draw_two(pick)?;
        Some(self.compare(first, second, pick.now))
    }

    fn compare<'a>(
        &self,
        first: &'a Arc<Member>,
        second: &'a Arc<Member>,
        now: u32,
    ) -> (&'a Arc<Member>, &'a Arc<Member>) {
        if Arc::ptr_eq(first, second) || self.cost(first, now) <= self.cost(second, now) {
            (first, second)
        } else {
            (second, first)
        }
    }
}

impl Picker for TwoChoices {
    fn pick(&self, pick: &mut Pick<'_>) -> Option<&Arc<Member>> {
        let (mut better, mut other) = self.draw(pick)?;
        if self.by == By::LeastRequest {
            return Some(better);
        }
        // Where two of four fail, every sixth pair is those two.
        for _ in 1..EFFORT {
            if !peak_ewma::is_shunned(&better.state.load, pick.now) {
                break;
            }
            let (next, lost) = self.draw(pick)?;
            (better, other) = (self.compare(better, next, pick.now).0, lost);
        }
        let probes = !Arc::ptr_eq(better, other) && peak_ewma::is_due(&other.state.load, pick.now);
        Some(if probes && peak_ewma::probes(pick.random) { other } else { better })
    }

    fn score(&self, member: &Member, now: u32) -> Option<f32> {
        Some(self.cost(member, now))
    }
}
