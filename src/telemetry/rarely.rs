//! Says the same thing once a minute: what a peer can make happen at will must not fill a log.

use std::cell::RefCell;
use std::collections::HashMap;
use std::hash::{BuildHasher as _, Hash, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// How long the same thing is not said again.
const QUIET: Duration = Duration::from_mins(1);
/// Different things that are remembered; while more than these come within a minute, the rest is not said.
const MOST: usize = 1000;

/// What was said lately, on one thread.
#[derive(Debug, Default)]
pub(crate) struct Rarely {
    said: RefCell<HashMap<u64, Instant>>,
    hasher: RandomState,
}

impl Rarely {
    /// Tells whether something may be said now, and remembers that it was.
    pub(crate) fn may_say(&self, what: &impl Hash, now: Instant) -> bool {
        let key = self.hasher.hash_one(what);
        let mut said = self.said.borrow_mut();
        if said.get(&key).is_some_and(|before| now.duration_since(*before) < QUIET) {
            return false;
        }
        if said.len() >= MOST {
            said.retain(|_, before| now.duration_since(*before) < QUIET);
        }
        if said.len() >= MOST {
            return false;
        }
        said.insert(key, now);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_same_is_said_again_after_a_minute_and_another_thing_at_once() {
        let (rarely, start) = (Rarely::default(), Instant::now());
        assert!(rarely.may_say(&("expired", "10.0.0.1"), start));
        assert!(!rarely.may_say(&("expired", "10.0.0.1"), start + QUIET / 2));
        assert!(rarely.may_say(&("expired", "10.0.0.2"), start));
        assert!(rarely.may_say(&("expired", "10.0.0.1"), start + QUIET));
    }

    #[tokio::test(start_paused = true)]
    async fn who_makes_up_things_to_say_is_bounded() {
        let (rarely, start) = (Rarely::default(), Instant::now());
        let said = (0..3 * MOST).filter(|number| rarely.may_say(number, start)).count();
        assert_eq!(said, MOST);
        assert!(rarely.may_say(&"later", start + QUIET));
    }
}
