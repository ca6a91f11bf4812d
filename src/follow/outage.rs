//! Who speaks in the log when targets of one backend fail together: a registry that is away is a few lines, not one for
//! each of a thousand targets.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Targets of one backend whose failure has a line of its own at a time.
const EACH: usize = 5;

/// How many targets of one backend fail just now; clones share the number.
#[derive(Debug, Clone, Default)]
pub struct Outage(Arc<AtomicUsize>);

/// What is to be said of one more target that fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Begins {
    /// A line for this target.
    Each,
    /// One line that stands for this target and all that come after it.
    AndMore,
    /// Nothing: that line was written.
    Quiet,
}

/// The part that one target has in an outage, from its first failure to its next answer; it ends with this.
#[derive(Debug)]
pub(super) struct Share {
    outage: Outage,
    pub(super) begins: Begins,
}

impl Outage {
    /// One more target fails.
    pub(super) fn join(&self) -> Share {
        let begins = match self.0.fetch_add(1, Ordering::Relaxed) {
            before if before < EACH => Begins::Each,
            EACH => Begins::AndMore,
            _ => Begins::Quiet,
        };
        Share { outage: self.clone(), begins }
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.outage.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_few_targets_speak_for_themselves_and_one_line_stands_for_the_others() {
        let outage = Outage::default();
        let shares: Vec<Share> = (0..8).map(|_| outage.join()).collect();
        let begins: Vec<Begins> = shares.iter().map(|share| share.begins).collect();
        assert_eq!(begins[..5], [Begins::Each; 5]);
        assert_eq!(begins[5..], [Begins::AndMore, Begins::Quiet, Begins::Quiet]);
        // Those that answer again, or are let go of, make room; the next outage is told anew.
        drop(shares);
        assert_eq!(outage.join().begins, Begins::Each);
    }
}
