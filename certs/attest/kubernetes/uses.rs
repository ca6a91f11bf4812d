//! For how many keys one token was shown (pure).
//!
//! A pod that restarts shows the token that it has for a new key, so one key alone would lock it out until kubelet replaces the
//! token, after at most 48 minutes. Somebody who got hold of a token can do no more than the pod, and not often.

use std::collections::{BTreeMap, BTreeSet};
use std::time::SystemTime;

use crate::attest::Rejected;
use crate::attest::evidence::refused;

/// Most keys of one token: a container in a crash loop starts about as often within the 48 minutes (10 s, doubled up to 5 min).
const MAX_KEYS: usize = 16;

/// Most tokens that are remembered. Each is one that a cluster signed, so nobody else can fill this.
const MAX_TOKENS: usize = 65_536;

/// Tokens by their fingerprints.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// The keys that each was shown for.
    tokens: BTreeMap<String, BTreeSet<String>>,
    by_end: BTreeSet<(SystemTime, String)>,
}

impl Uses {
    /// Notes that a token was shown for a key; tells whether it was shown for no other key before.
    pub(super) fn note(&mut self, token: &str, key: &str, ends: SystemTime, now: SystemTime) -> Result<bool, Rejected> {
        self.forget(now);
        let keys = self.tokens.entry(token.to_owned()).or_insert_with(|| {
            self.by_end.insert((ends, token.to_owned()));
            BTreeSet::new()
        });
        if !keys.contains(key) && keys.len() >= MAX_KEYS {
            let why = format!("the token was shown for {MAX_KEYS} keys already; a newer one will be taken");
            return Err(refused("token_reuse", why));
        }
        keys.insert(key.to_owned());
        Ok(keys.len() == 1)
    }

    /// Forgets tokens that have ended, which nobody takes, and where there are too many, those that end next.
    fn forget(&mut self, now: SystemTime) {
        // Clocks may be a minute apart, as for the token itself.
        let ended = |ends: &SystemTime| now.duration_since(*ends).is_ok_and(|past| past.as_secs() > 120);
        while self.by_end.first().is_some_and(|(ends, _)| ended(ends) || self.tokens.len() >= MAX_TOKENS) {
            if let Some((_, token)) = self.by_end.pop_first() {
                self.tokens.remove(&token);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn at(seconds: u64) -> SystemTime {
        UNIX_EPOCH + Duration::from_secs(seconds)
    }

    #[test]
    fn a_token_is_taken_for_sixteen_keys_and_for_each_of_them_again() {
        let mut uses = Uses::default();
        for number in 0..16 {
            assert_eq!(uses.note("token", &format!("key {number}"), at(3600), at(1)), Ok(number == 0));
        }
        let refused = uses.note("token", "one more", at(3600), at(1)).unwrap_err();
        assert!(matches!(refused, Rejected::Refused { reason: "token_reuse", .. }), "{refused}");
        assert!(uses.note("token", "key 3", at(3600), at(1)).is_ok());
        assert!(uses.note("newer token", "one more", at(3600), at(1)).is_ok());
    }

    #[test]
    fn memory_ends_with_the_tokens_and_has_a_bound() {
        let mut uses = Uses::default();
        for number in 0..70_000_u64 {
            uses.note(&format!("token {number}"), "key", at(3600 + number), at(1)).unwrap();
        }
        assert_eq!((uses.tokens.len(), uses.by_end.len()), (MAX_TOKENS, MAX_TOKENS));
        assert!(uses.tokens.contains_key("token 69999"), "those that end last are kept");
        uses.note("last", "key", at(200_000), at(100_000)).unwrap();
        assert_eq!((uses.tokens.len(), uses.by_end.len()), (1, 1));
    }
}
