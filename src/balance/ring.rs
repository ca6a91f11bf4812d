//! A hash ring (pure): each member has points on a circle, a key belongs to the next point.
//!
//! How many points a member has depends on its weight and the heaviest weight alone, not on how many members there are:
//! when one leaves, the points of the others stay where they are, and only its own keys move.

use super::consistent::Placed;
use super::hash::mix;

/// Points of the heaviest member, while there is room. Two members have 1,024 together; shares then differ by about 1/√512,
/// 4 %.
const POINTS: usize = 512;
/// Most points of a ring (about; each member has one at least): over 128 members the points of each are halved, over 256
/// halved again.
const MAX_POINTS: usize = 65_536;

/// Points in order: the upper half of the hash above, the member's position below.
#[derive(Debug)]
pub(super) struct Ring {
    points: Vec<u64>,
}

impl Ring {
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "a share of at most 512, and a position of at most 10,000"
    )]
    pub(super) fn new(members: &[Placed]) -> Self {
        let heaviest = members.iter().map(|(_, weight)| *weight).max().unwrap_or(1).max(1);
        let share = |weight: u32| f64::from(weight) / f64::from(heaviest);
        let whole: f64 = members.iter().map(|(_, weight)| share(*weight)).sum();
        // A member alone has all keys, whatever its points; it gets its 1,024 for the sake of the promise.
        let mut each = if members.len() == 1 { 2 * POINTS } else { POINTS };
        while each > 1 && whole * each as f64 > MAX_POINTS as f64 {
            each /= 2;
        }
        let mut points = Vec::with_capacity((whole * each as f64) as usize + members.len());
        for (position, (hash, weight)) in members.iter().enumerate() {
            let own = (share(*weight) * each as f64).round().max(1.0) as u64;
            // Steps of the golden ratio: no two points of a member are mixed from the same number.
            let point = |number: u64| mix(hash.wrapping_add(number.wrapping_mul(0x9e37_79b9_7f4a_7c15)));
            points.extend((0..own).map(|number| point(number) & !0xffff_ffff | position as u64));
        }
        points.sort_unstable();
        Self { points }
    }

    /// Returns where a key begins.
    pub(super) fn start(&self, key: u64) -> usize {
        self.points.partition_point(|point| *point < key & !0xffff_ffff)
    }

    /// Returns the position of the member at a place; places go round.
    #[allow(clippy::cast_possible_truncation, reason = "the lower half")]
    pub(super) fn member(&self, place: usize) -> Option<usize> {
        let point = self.points.get(place.checked_rem(self.points.len())?)?;
        Some(*point as u32 as usize)
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.points.len()
    }
}
