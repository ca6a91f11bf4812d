//! The state of a breaker as one word, so that every step of it is one compare and swap (pure).

use super::{Cause, Reason};

/// Where an endpoint stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Phase {
    /// It gets requests ("closed").
    In,
    /// It gets none until a time ("open"), then one, its probe.
    Out,
    /// Its probe is on its way ("half-open").
    Probing,
    /// It belongs to no upstream any more; nothing is held for it.
    Gone,
}

/// What the word says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct State {
    pub(super) phase: Phase,
    /// `In`: when it came back. `Out`: when the ejection is over. `Probing`: when the probe counts as lost. In
    /// milliseconds of the process, which wrap after 49 days.
    pub(super) at: u32,
    /// Ejections in a row, at most [`MOST_TIMES`].
    pub(super) times: u32,
    /// Why it was ejected last.
    pub(super) reason: Reason,
    /// The last failure that led to it.
    pub(super) cause: Cause,
    /// The last thing that was tried with it was to connect, and that failed.
    pub(super) unreachable: bool,
    /// Tells one ejection from the next, so that the probe of an older one decides nothing.
    pub(super) generation: u8,
    /// Failures in a row, at most [`MOST_CONSECUTIVE`].
    pub(super) consecutive: u32,
}

/// Largest number of ejections in a row that is told: doubling has long reached the longest ejection.
pub(super) const MOST_TIMES: u32 = 31;
/// Largest number of failures in a row that is told.
pub(super) const MOST_CONSECUTIVE: u32 = 4095;

impl State {
    pub(super) fn pack(self) -> u64 {
        let fields = [
            (self.phase as u64, 2),
            (u64::from(self.times.min(MOST_TIMES)), 5),
            (self.reason as u64, 2),
            (self.cause as u64, 2),
            (u64::from(self.unreachable), 1),
            (u64::from(self.generation), 8),
            (u64::from(self.consecutive.min(MOST_CONSECUTIVE)), 12),
            (u64::from(self.at), 32),
        ];
        fields.iter().fold(0, |word, (value, bits)| word << bits | value)
    }

    #[allow(clippy::cast_possible_truncation, reason = "each field is cut to its bits")]
    pub(super) fn unpack(word: u64) -> Self {
        let field = |shift: u32, bits: u32| (word >> shift & ((1 << bits) - 1)) as u32;
        Self {
            at: field(0, 32),
            consecutive: field(32, 12),
            generation: field(44, 8) as u8,
            unreachable: field(52, 1) == 1,
            cause: match field(53, 2) {
                0 => Cause::Answer,
                1 => Cause::Connect,
                2 => Cause::Reset,
                _ => Cause::Timeout,
            },
            reason: match field(55, 2) {
                0 => Reason::Consecutive,
                1 => Reason::SuccessRate,
                _ => Reason::Probe,
            },
            times: field(57, 5),
            phase: match field(62, 2) {
                0 => Phase::In,
                1 => Phase::Out,
                2 => Phase::Probing,
                _ => Phase::Gone,
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn a_word_says_what_was_packed(word: u64) {
            let state = State::unpack(word);
            prop_assert_eq!(State::unpack(state.pack()), state);
        }
    }

    #[test]
    fn a_word_of_zeros_is_an_endpoint_without_history() {
        let state = State::unpack(0);
        assert_eq!((state.phase, state.times, state.consecutive, state.unreachable), (Phase::In, 0, 0, false));
    }
}
