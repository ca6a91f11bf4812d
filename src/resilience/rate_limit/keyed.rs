//! Numbers by key, bounded: however many clients come, no more than so many are remembered (pure).
//!
//! Each shard has two generations. A key that is used is in the young one; when that is full it becomes the old one, and
//! what was old is forgotten. So what is forgotten was not used for as long as it took as many other keys to come, no
//! list is kept in order, and no request pays for a sweep. A key that was forgotten begins anew.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

/// Shards: workers seldom meet in one.
const SHARDS: usize = 16;
/// Keys of one generation of one shard.
const GENERATION: usize = 2048;

/// At most 65,536 keys, of 16 bytes and what a hash map adds: about 2 MiB.
#[derive(Debug, Default)]
pub(super) struct Keyed {
    shards: [Mutex<Shard>; SHARDS],
}

#[derive(Debug, Default)]
struct Shard {
    young: HashMap<u64, u64>,
    old: HashMap<u64, u64>,
}

impl Keyed {
    /// Changes the number of a key; it begins with 0. `key` is a hash already.
    pub(super) fn with<R>(&self, key: u64, change: impl FnOnce(&mut u64) -> R) -> R {
        let index = usize::try_from(key % SHARDS as u64).unwrap_or_default();
        let Some(shard) = self.shards.get(index) else { return change(&mut 0) };
        // Nothing panics while it is held; and if so, a number is still a number.
        let mut shard = shard.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(number) = shard.young.get_mut(&key) {
            return change(number);
        }
        let known = shard.old.remove(&key).unwrap_or_default();
        if shard.young.len() >= GENERATION {
            let full = std::mem::take(&mut shard.young);
            shard.old = full;
        }
        change(shard.young.entry(key).or_insert(known))
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        let len = |shard: &Mutex<Shard>| shard.lock().map(|shard| shard.young.len() + shard.old.len()).unwrap();
        self.shards.iter().map(len).sum()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn add(keyed: &Keyed, key: u64) -> u64 {
        keyed.with(key, |number| {
            *number += 1;
            *number
        })
    }

    #[test]
    fn it_stays_bounded_and_remembers_who_comes_often() {
        let keyed = Keyed::default();
        for key in 1..1_000_000 {
            add(&keyed, key);
            if key % 10_000 == 0 {
                add(&keyed, 0);
            }
        }
        assert!(keyed.len() <= SHARDS * GENERATION * 2, "{}", keyed.len());
        assert_eq!(add(&keyed, 0), 100, "it came every 10,000 keys, and never was forgotten");
        assert_eq!(add(&keyed, 1), 1, "it came once, long ago");
    }
}
