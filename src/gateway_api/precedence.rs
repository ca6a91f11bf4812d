//! Which route stands before which: the rules of the Gateway API, as an order in which the first match wins.
//!
//! Both kinds stand in one list. Hosts come first, as both kinds have it; for the same host gRPC calls are asked by gRPC
//! routes first, which match nothing else.

use std::cmp::Reverse;

use super::objects::{Kind, Object};
use crate::config::{HostMatch, Route};

/// A route and where it stands.
#[derive(Debug)]
pub(super) struct Ranked {
    pub(super) rank: Rank,
    pub(super) route: Route,
}

/// What a route is sorted by; less stands first.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Rank {
    host: HostRank,
    /// Alphabetical: gRPC before HTTP.
    kind: Kind,
    matched: MatchRank,
    /// The oldest object.
    created: String,
    /// `KIND/NAMESPACE/NAME`, of one kind and one namespace here.
    object: String,
    rule: usize,
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum HostRank {
    /// By the most characters.
    Exact(Reverse<usize>),
    Suffix(Reverse<usize>),
    Any,
}

/// What a match is sorted by.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum MatchRank {
    /// Characters of the service, of the method, and the number of headers; the most first.
    Grpc(Reverse<(usize, usize, usize)>),
    /// Method before headers, whatever their number: cilium's CVE-2024-42487 had it the other way round.
    Http(PathRank, Reverse<(bool, usize, usize)>),
}

/// Where regular expressions stand is not laid down; before prefixes, because `/` is one and would hide them.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum PathRank {
    Exact,
    Regex(Reverse<usize>),
    Prefix(Reverse<usize>),
}

/// Returns where a route stands.
pub(super) fn rank(object: &Object, host: Option<&HostMatch>, matched: &MatchRank, rule: usize) -> Rank {
    Rank {
        host: match host {
            Some(HostMatch::Exact(name)) => HostRank::Exact(Reverse(name.len())),
            Some(HostMatch::Suffix(suffix)) => HostRank::Suffix(Reverse(suffix.len())),
            None => HostRank::Any,
        },
        kind: object.kind,
        matched: matched.clone(),
        created: object.created.clone(),
        object: object.id.clone(),
        rule,
    }
}
