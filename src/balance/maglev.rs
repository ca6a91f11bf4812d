//! A Maglev table (pure): every slot belongs to a member, a key looks one slot up (Eisenbud et al., "Maglev: A Fast and
//! Reliable Software Network Load Balancer", 3.4).
//!
//! Shares are more even than on a ring and a look-up is one access; in exchange a few keys more than needed move when
//! members change. Weights as Envoy does them: in each round the heaviest takes a slot, the others in proportion.

use super::consistent::Placed;
use super::hash::mix;

/// Slots; prime, so that every step reaches all of them. The paper's and Envoy's number.
pub(super) const SLOTS: usize = 65_537;
/// A slot that nobody has yet. Over the greatest position: a snapshot has at most 10,000 endpoints.
const FREE: u16 = u16::MAX;

#[derive(Debug)]
pub(super) struct Maglev {
    slots: Vec<u16>,
}

/// A member that takes slots.
struct Taker {
    position: u16,
    /// The slot that it wants next.
    slot: usize,
    /// From one wanted slot to the next.
    skip: usize,
    weight: u64,
    /// Grows by `weight` each round; when it has the heaviest weight, it is paid for a slot.
    credit: u64,
}

impl Maglev {
    #[allow(clippy::cast_possible_truncation, reason = "remainders are less than 65,537")]
    pub(super) fn new(members: &[Placed]) -> Self {
        let heaviest = u64::from(members.iter().map(|(_, weight)| *weight).max().unwrap_or_default());
        let mut takers: Vec<Taker> = (0..FREE)
            .zip(members)
            .map(|(position, &(hash, weight))| Taker {
                position,
                slot: (hash % SLOTS as u64) as usize,
                skip: (mix(hash ^ 0x9e37_79b9_7f4a_7c15) % (SLOTS as u64 - 1)) as usize + 1,
                weight: u64::from(weight),
                // Everyone takes one in the first round, however light.
                credit: heaviest - u64::from(weight),
            })
            .collect();
        if takers.is_empty() {
            return Self { slots: Vec::new() };
        }
        let mut slots = vec![FREE; SLOTS];
        let mut free = SLOTS;
        'rounds: loop {
            for taker in &mut takers {
                taker.credit += taker.weight;
                if taker.credit < heaviest {
                    continue;
                }
                taker.credit -= heaviest;
                taker.take(&mut slots);
                free -= 1;
                if free == 0 {
                    break 'rounds;
                }
            }
        }
        Self { slots }
    }

    /// Returns where a key begins.
    #[allow(clippy::cast_possible_truncation, reason = "a remainder is less than 65,537")]
    #[allow(clippy::unused_self, reason = "as the ring does")]
    pub(super) fn start(&self, key: u64) -> usize {
        (key % SLOTS as u64) as usize
    }

    /// Returns the position of the member at a place; places go round.
    pub(super) fn member(&self, place: usize) -> Option<usize> {
        self.slots.get(place % SLOTS).map(|position| usize::from(*position))
    }
}

impl Taker {
    fn take(&mut self, slots: &mut [u16]) {
        loop {
            let wanted = self.slot;
            self.slot += self.skip;
            if self.slot >= SLOTS {
                self.slot -= SLOTS;
            }
            if let Some(slot) = slots.get_mut(wanted)
                && *slot == FREE
            {
                *slot = self.position;
                return;
            }
        }
    }
}
