//! Join tokens: shown once, kept as a hash, good for one identity and one use.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::random::{hash, same};
use crate::hex;

/// How long a token is good where nothing is said (security.md, 2).
pub const DEFAULT_TTL: Duration = Duration::from_mins(10);

/// The longest.
pub const LONGEST_TTL: Duration = Duration::from_hours(24);

/// What a token begins with, so that scanners of secrets can find one that leaked.
const PREFIX: &str = "mjt_";

/// What is kept of a token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Token {
    /// Its public half: what it is listed and revoked by.
    pub id: String,
    /// SHA-256 of its secret half, hexadecimal.
    pub(crate) hash: String,
    /// The path of the identity that it is for.
    pub path: String,
    /// From where it may be used; not set: from everywhere.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cidr: Option<Cidr>,
    /// When it was made, in seconds since 1970.
    pub created: u64,
    /// Until when it can be used.
    pub expires: u64,
    /// When it was used.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub used: Option<u64>,
    /// When it was revoked; what it gave is not renewed since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub revoked: Option<u64>,
    /// When the last certificate ends that goes back to it: so long it is kept.
    #[serde(default)]
    pub(crate) needed: u64,
}

/// A network: an address and how many of its bits count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Cidr {
    address: IpAddr,
    bits: u8,
}

/// The text is no network.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no network; write one such as 10.0.0.0/8 or 2001:db8::/32, with no bit set behind the prefix")]
pub struct CidrError(String);

/// Makes a token of random bytes; returns what is shown once, and what is kept.
pub(crate) fn mint(
    id: [u8; 8],
    secret: &[u8; 32],
    path: &str,
    cidr: Option<Cidr>,
    (created, ttl): (u64, Duration),
) -> (Zeroizing<String>, Token) {
    let id = hex(&id);
    let text = Zeroizing::new(format!("{PREFIX}{id}_{}", URL_SAFE_NO_PAD.encode(secret)));
    let token = Token {
        id,
        hash: hash(secret),
        path: path.to_owned(),
        cidr,
        created,
        expires: created + ttl.as_secs(),
        used: None,
        revoked: None,
        needed: 0,
    };
    (text, token)
}

/// What a workload shows, in its two halves.
pub(crate) struct Shown {
    pub(crate) id: String,
    secret: Zeroizing<Vec<u8>>,
}

impl Shown {
    /// Takes a token apart; `None` if it is none.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (id, secret) = text.trim().strip_prefix(PREFIX)?.split_once('_')?;
        let is_id = id.len() == 16 && id.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        let secret = Zeroizing::new(URL_SAFE_NO_PAD.decode(secret).ok()?);
        (is_id && secret.len() == 32).then(|| Self { id: id.to_owned(), secret })
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Shown({})", self.id)
    }
}

impl Token {
    /// Checks that a token can be used; the error is the word for the log and the asker. `restored`: when the database was
    /// restored last; what was made before may have been used by a life that the backup does not know.
    pub(crate) fn check(
        &self,
        shown: &Shown,
        source: Option<IpAddr>,
        now: u64,
        restored: Option<u64>,
    ) -> Result<(), &'static str> {
        // Who does not know the secret learns nothing of the rest.
        if !same(hash(&shown.secret).as_bytes(), self.hash.as_bytes()) {
            return Err("token_unknown");
        }
        if self.revoked.is_some() {
            return Err("token_revoked");
        }
        if self.used.is_some() {
            return Err("token_used");
        }
        if restored.is_some_and(|restored| self.created <= restored) {
            return Err("token_restored");
        }
        if now >= self.expires {
            return Err("token_expired");
        }
        match (self.cidr, source) {
            (Some(cidr), Some(source)) if !cidr.contains(source) => Err("token_source"),
            (Some(_), None) => Err("token_source"),
            _ => Ok(()),
        }
    }

    /// Says whether nobody needs to know of it any more.
    pub(crate) fn is_over(&self, now: u64) -> bool {
        now >= self.expires && now >= self.needed
    }
}

impl Cidr {
    /// Says whether an address is in it. IPv4 in IPv6 form is IPv4.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(network), IpAddr::V4(address)) => {
                let mask = u32::MAX.checked_shl(32 - u32::from(self.bits)).unwrap_or(0);
                u32::from(network) == u32::from(address) & mask
            }
            (IpAddr::V6(network), IpAddr::V6(address)) => {
                let mask = u128::MAX.checked_shl(128 - u32::from(self.bits)).unwrap_or(0);
                u128::from(network) == u128::from(address) & mask
            }
            _ => false,
        }
    }
}

impl FromStr for Cidr {
    type Err = CidrError;

    fn from_str(text: &str) -> Result<Self, CidrError> {
        let wrong = || CidrError(text.to_owned());
        let (address, bits) = match text.split_once('/') {
            Some((address, bits)) => (address, Some(bits.parse::<u8>().map_err(|_| wrong())?)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let network = Self { address, bits: bits.unwrap_or(most) };
        // A bit behind the prefix says that something else was meant.
        if network.bits > most || !network.contains(address) { Err(wrong()) } else { Ok(network) }
    }
}

impl fmt::Display for Cidr {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.address, self.bits)
    }
}

impl TryFrom<String> for Cidr {
    type Error = CidrError;

    fn try_from(text: String) -> Result<Self, CidrError> {
        text.parse()
    }
}

impl From<Cidr> for String {
    fn from(cidr: Cidr) -> Self {
        cidr.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn token(cidr: Option<&str>) -> (Shown, Token) {
        let cidr = cidr.map(|text| text.parse().unwrap());
        let (text, token) = mint([1; 8], &[2; 32], "/svc/web", cidr, (1_000, DEFAULT_TTL));
        (Shown::parse(&text).unwrap(), token)
    }

    #[test]
    fn a_token_is_kept_as_a_hash_and_checked_by_it() {
        let (text, token) = mint([1; 8], &[2; 32], "/svc/web", None, (1_000, DEFAULT_TTL));
        assert_eq!(*text, format!("mjt_0101010101010101_{}", URL_SAFE_NO_PAD.encode([2; 32])));
        let kept = serde_json::to_string(&token).unwrap();
        assert!(!kept.contains(&URL_SAFE_NO_PAD.encode([2; 32])) && !kept.contains(&hex(&[2; 32])), "{kept}");
        let shown = Shown::parse(&format!("{}\n", *text)).unwrap();
        assert_eq!(token.check(&shown, None, 1_000, None), Ok(()));
        assert_eq!(format!("{shown:?}"), "Shown(0101010101010101)");
        let (other, _) = mint([1; 8], &[3; 32], "/svc/web", None, (1_000, DEFAULT_TTL));
        assert_eq!(token.check(&Shown::parse(&other).unwrap(), None, 1_000, None), Err("token_unknown"));
    }

    #[test]
    fn a_token_is_good_once_until_it_expires_from_where_it_is_for() {
        let (shown, mut token) = token(Some("10.0.0.0/8"));
        let inside = Some("10.1.2.3".parse().unwrap());
        assert_eq!(token.check(&shown, inside, 1_599, None), Ok(()));
        assert_eq!(token.check(&shown, Some("::ffff:10.1.2.3".parse().unwrap()), 1_599, None), Ok(()));
        assert_eq!(token.check(&shown, inside, 1_600, None), Err("token_expired"));
        assert_eq!(token.check(&shown, Some("11.0.0.1".parse().unwrap()), 1_000, None), Err("token_source"));
        assert_eq!(token.check(&shown, None, 1_000, None), Err("token_source"));
        assert_eq!(token.check(&shown, inside, 1_000, Some(1_000)), Err("token_restored"));
        assert_eq!(token.check(&shown, inside, 1_000, Some(999)), Ok(()));
        token.used = Some(1_001);
        assert_eq!(token.check(&shown, inside, 1_002, None), Err("token_used"));
        token.revoked = Some(1_002);
        assert_eq!(token.check(&shown, inside, 1_002, None), Err("token_revoked"));
        assert!(!token.is_over(1_599) && token.is_over(1_600));
        token.needed = 5_000;
        assert!(!token.is_over(1_600) && token.is_over(5_000));
    }

    #[test]
    fn what_is_no_token_is_none() {
        for text in
            ["", "mjt_", "mjt_0101010101010101", "mjt_0101010101010101_", "mjt_010101010101010g_AgIC", "0101_AgIC"]
        {
            assert!(Shown::parse(text).is_none(), "{text}");
        }
        let (good, _) = mint([1; 8], &[2; 32], "/svc/web", None, (0, DEFAULT_TTL));
        assert!(Shown::parse(&good.replace("mjt", "MJT")).is_none());
        assert!(Shown::parse(&good[..good.len() - 2]).is_none());
    }

    #[test]
    fn networks_are_read_strictly() {
        let contains =
            |network: &str, address: &str| network.parse::<Cidr>().unwrap().contains(address.parse().unwrap());
        assert!(contains("0.0.0.0/0", "1.2.3.4") && contains("::/0", "::1") && contains("10.1.2.3", "10.1.2.3"));
        assert!(contains("2001:db8::/32", "2001:db8::1") && !contains("2001:db8::/32", "2001:db9::1"));
        assert!(!contains("10.0.0.0/8", "::1"));
        for wrong in ["", "10.0.0.1/8", "10.0.0.0/33", "10.0.0.0/", "::/129", "a/8", "10.0.0.0/-1"] {
            assert!(wrong.parse::<Cidr>().is_err(), "{wrong}");
        }
        assert_eq!("10.0.0.0/8".parse::<Cidr>().unwrap().to_string(), "10.0.0.0/8");
    }
}
