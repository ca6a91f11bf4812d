//! How an endpoint is chosen, checked.

use http::HeaderName;
use serde::{Serialize, Serializer};

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Balance {
    /// The one with fewer requests in flight of two drawn at random.
    LeastRequest,
    /// By a key of the request, on a Maglev table.
    Maglev(HashOn),
    /// The one with the lower latency times load of two drawn at random.
    PeakEwma,
    /// At random by weight.
    Random,
    /// By a key of the request, on a hash ring.
    RingHash(HashOn),
    /// In turn by weight.
    RoundRobin,
}

impl Balance {
    /// Returns its name.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::LeastRequest => "least-request",
            Self::Maglev(_) => "maglev",
            Self::PeakEwma => "peak-ewma",
            Self::Random => "random",
            Self::RingHash(_) => "ring-hash",
            Self::RoundRobin => "round-robin",
        }
    }

    /// Returns what is hashed, where something is.
    pub const fn hashes_on(&self) -> Option<&HashOn> {
        match self {
            Self::Maglev(on) | Self::RingHash(on) => Some(on),
            Self::LeastRequest | Self::PeakEwma | Self::Random | Self::RoundRobin => None,
        }
    }
}

impl Serialize for Balance {
    /// As it is written: a name, or a table of `kind` and `on`.
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        #[derive(Serialize)]
        struct Hash<'a> {
            kind: &'a str,
            on: String,
        }
        match self.hashes_on() {
            Some(on) => Hash { kind: self.name(), on: on.to_string() }.serialize(serializer),
            None => serializer.serialize_str(self.name()),
        }
    }
}

/// The key of a request that is hashed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HashOn {
    /// The client's IP address.
    Address,
    /// The value of a cookie.
    Cookie(String),
    /// The value of a header.
    Header(HeaderName),
}

impl std::fmt::Display for HashOn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Address => formatter.write_str("address"),
            Self::Cookie(name) => write!(formatter, "cookie:{name}"),
            Self::Header(name) => write!(formatter, "header:{name}"),
        }
    }
}

/// Whether requests stay in the gateway's own zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ZonePreference {
    /// Zones make no difference.
    Ignore,
    /// As far as the healthy weight of the zone allows.
    Prefer,
}
