//! Numbers used once: what evidence is bound to, so that it is worth nothing at another time or for another key.
//!
//! A nonce is 8 random bytes, 8 bytes of time and 16 bytes of HMAC over both and the key that it is for, under a key of
//! this process. So asking for one takes no memory; only those that were used are remembered, for the minute in which
//! they would be taken again.

use std::collections::HashMap;
use std::fmt;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;

use super::clock::at;
use super::random::{self, NoRandom, same};

/// How long a nonce is taken.
const LIFETIME: Duration = Duration::from_mins(1);

/// Most used nonces that are remembered; beyond, evidence has to wait. More than the rate limit lets through.
const MOST: usize = 20_000;

/// Makes nonces, and takes each once.
pub(crate) struct Nonces {
    key: hmac::Key,
    /// When each was made.
    used: HashMap<[u8; 8], SystemTime>,
}

/// Why a nonce is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stale {
    /// It is not ours, for another key, or older than a minute.
    Foreign,
    /// It was used before.
    Used,
    /// Too many were used within the last minute.
    Full,
}

impl fmt::Debug for Nonces {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Nonces").field("used", &self.used.len()).finish_non_exhaustive()
    }
}

impl Nonces {
    pub(crate) fn new() -> Result<Self, NoRandom> {
        Ok(Self { key: hmac::Key::new(hmac::HMAC_SHA256, &random::bytes::<32>()?), used: HashMap::new() })
    }

    /// Makes one for a key (its hash).
    pub(crate) fn make(&self, key: &str, now: SystemTime) -> Result<String, NoRandom> {
        let luck = random::bytes::<8>()?;
        let time = super::clock::seconds(now).to_be_bytes();
        let nonce: Vec<u8> = [luck.as_slice(), &time, &self.seal(&luck, &time, key)].concat();
        Ok(URL_SAFE_NO_PAD.encode(nonce))
    }

    /// Takes one: it was made here for this key, within the last minute, and is taken for the first time.
    pub(crate) fn take(&mut self, nonce: &str, key: &str, now: SystemTime) -> Result<(), Stale> {
        let bytes: [u8; 32] =
            URL_SAFE_NO_PAD.decode(nonce).ok().and_then(|bytes| bytes.try_into().ok()).ok_or(Stale::Foreign)?;
        let (luck, rest) = bytes.split_first_chunk::<8>().ok_or(Stale::Foreign)?;
        let (time, seal) = rest.split_first_chunk::<8>().ok_or(Stale::Foreign)?;
        if !same(seal, &self.seal(luck, time, key)) {
            return Err(Stale::Foreign);
        }
        let made = at(u64::from_be_bytes(*time));
        let is_fresh = |made: SystemTime| now.duration_since(made).is_ok_and(|age| age <= LIFETIME);
        if !is_fresh(made) {
            return Err(Stale::Foreign);
        }
        if self.used.contains_key(luck) {
            return Err(Stale::Used);
        }
        if self.used.len() >= MOST {
            self.used.retain(|_, made| is_fresh(*made));
            if self.used.len() >= MOST {
                return Err(Stale::Full);
            }
        }
        self.used.insert(*luck, made);
        Ok(())
    }

    fn seal(&self, luck: &[u8], time: &[u8], key: &str) -> [u8; 16] {
        let tag = hmac::sign(&self.key, &[luck, time, key.as_bytes()].concat());
        let mut seal = [0; 16];
        for (to, from) in seal.iter_mut().zip(tag.as_ref()) {
            *to = *from;
        }
        seal
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_nonce_is_taken_once_within_a_minute_for_its_key() {
        let mut nonces = Nonces::new().unwrap();
        let nonce = nonces.make("key", at(1_000)).unwrap();
        assert_eq!(URL_SAFE_NO_PAD.decode(&nonce).unwrap().len(), 32);
        assert_eq!(nonces.take(&nonce, "other", at(1_000)), Err(Stale::Foreign));
        assert_eq!(nonces.take(&nonce, "key", at(1_061)), Err(Stale::Foreign));
        assert_eq!(nonces.take(&nonce, "key", at(999)), Err(Stale::Foreign));
        assert_eq!(nonces.take(&nonce, "key", at(1_060)), Ok(()));
        assert_eq!(nonces.take(&nonce, "key", at(1_060)), Err(Stale::Used));
        assert_ne!(nonces.make("key", at(1_000)).unwrap(), nonces.make("key", at(1_000)).unwrap());
    }

    #[test]
    fn nonces_of_others_are_foreign() {
        let mut nonces = Nonces::new().unwrap();
        let other = Nonces::new().unwrap().make("key", at(1_000)).unwrap();
        for text in [other.as_str(), "", "!", "AAAA"] {
            assert_eq!(nonces.take(text, "key", at(1_000)), Err(Stale::Foreign));
        }
    }

    #[test]
    fn memory_is_bounded() {
        let mut nonces = Nonces::new().unwrap();
        for _ in 0..MOST {
            let nonce = nonces.make("key", at(1_000)).unwrap();
            nonces.take(&nonce, "key", at(1_000)).unwrap();
        }
        let nonce = nonces.make("key", at(1_001)).unwrap();
        assert_eq!(nonces.take(&nonce, "key", at(1_001)), Err(Stale::Full));
        assert_eq!(nonces.take(&nonce, "key", at(1_061)), Ok(()), "old ones make place");
        assert_eq!(nonces.used.len(), 1);
    }
}
