//! Routes compiled to a matcher whose cost does not grow with their number (pure).
//!
//! The first route that matches wins, in file order. Hosts are looked up in maps (one probe for the host and one for each
//! of its suffixes), paths in a tree of segments, and where many routes share both, exact headers, parameters and
//! identities in maps again. What is left (other conditions of the few routes that are left) is tried in file order.
//! Of all that hold, the one with the lowest position is the first in the file.
//!
//! ```text
//! Facts ─► host maps ─► segment tree ─► buckets (map by exact value, else in file order) ─► lowest position
//! ```
//!
//! Regular expressions on the path, and conditions other than exact ones on routes that are otherwise alike, are the only
//! things that are tried one by one; `a_lookup_costs_the_same_among_10_and_5000_routes` holds the rest to account.

mod bucket;
mod captures;
mod conditions;
mod covers;
mod paths;
mod query;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::HashMap;
use std::net::IpAddr;

use http::{HeaderMap, Method};

pub(crate) use self::captures::Captures;
pub(crate) use self::conditions::{Miss, misses, rest_holds};
pub(crate) use self::covers::covers;
use self::paths::Paths;
use crate::config::{GrpcMatch, HostMatch, Match, PathMatch, PathTemplate, Segment};

/// All that a route is chosen by.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Facts<'a> {
    /// The host; may have a port and upper-case letters. On passed TLS: the name of its handshake.
    pub(crate) host: &'a str,
    /// The path, normalised, without query.
    pub(crate) path: &'a str,
    /// What stands behind `?`; empty where there is none.
    pub(crate) query: &'a str,
    pub(crate) method: &'a Method,
    pub(crate) headers: &'a HeaderMap,
    /// Its content type says that it is gRPC.
    pub(crate) is_grpc: bool,
    /// SPIFFE ID of the client, from a certificate that was verified.
    pub(crate) from: Option<&'a str>,
    /// Address of the client; `None` on a Unix socket.
    pub(crate) address: Option<IpAddr>,
}

/// A route that won.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Matched {
    /// Its position among the routes that the router was made of.
    pub(crate) position: usize,
    /// What its path took.
    pub(crate) captures: Captures,
}

/// Why a route did not win.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Lost {
    /// A route that stands before it won.
    Later,
    /// A condition did not hold.
    Missed(Miss),
}

/// Routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct Router {
    matches: Vec<Match>,
    any_host: Paths,
    exact_hosts: HashMap<String, Paths>,
    /// By suffix, with its dot.
    host_suffixes: HashMap<String, Paths>,
}

impl Router {
    /// Compiles what routes match, in file order.
    pub(crate) fn new<'a>(matches: impl IntoIterator<Item = &'a Match>) -> Self {
        let mut compiled = Self { matches: matches.into_iter().cloned().collect(), ..Self::default() };
        for (position, matches) in compiled.matches.iter().enumerate() {
            let paths = match &matches.host {
                None => &mut compiled.any_host,
                Some(HostMatch::Exact(host)) => compiled.exact_hosts.entry(host.clone()).or_default(),
                Some(HostMatch::Suffix(suffix)) => compiled.host_suffixes.entry(suffix.clone()).or_default(),
            };
            match (&matches.path, &matches.grpc) {
                (Some(PathMatch::Template(template)), _) => paths.add(Some(template), position),
                (Some(PathMatch::Regex(_)), _) | (None, None) => paths.add(None, position),
                (None, Some(grpc)) => paths.add(Some(&path_of(grpc)), position),
            }
        }
        let all = compiled.exact_hosts.values_mut().chain(compiled.host_suffixes.values_mut());
        for paths in all.chain([&mut compiled.any_host]) {
            paths.index(&compiled.matches);
        }
        compiled
    }

    /// Returns the first route that matches.
    pub(crate) fn route(&self, facts: &Facts<'_>) -> Option<Matched> {
        let position = self.position(facts)?;
        let path = self.matches.get(position).and_then(|matches| matches.path.as_ref());
        Some(Matched { position, captures: Captures::of(path, facts.path) })
    }

    /// Returns the position of the first route that matches, without what its path takes.
    pub(crate) fn position(&self, facts: &Facts<'_>) -> Option<usize> {
        let holds = |position: usize| self.matches.get(position).is_some_and(|matches| rest_holds(matches, facts));
        let mut best = None;
        let mut look = |paths: &Paths| paths.visit(facts.path, &mut |bucket| bucket.lower(&mut best, facts, &holds));
        look(&self.any_host);
        if !self.exact_hosts.is_empty() || !self.host_suffixes.is_empty() {
            let host = bare(facts.host);
            self.exact_hosts.get(&*host).into_iter().for_each(&mut look);
            if !self.host_suffixes.is_empty() {
                // One label at least stands before a suffix.
                let suffixes = host.match_indices('.').filter(|&(at, _)| at > 0).filter_map(|(at, _)| host.get(at..));
                suffixes.filter_map(|suffix| self.host_suffixes.get(suffix)).for_each(&mut look);
            }
        }
        best
    }

    /// Says of every route but the one that wins why it does not: a walk through the file, for people.
    pub(crate) fn explain(&self, facts: &Facts<'_>) -> Vec<(usize, Lost)> {
        let host = bare(facts.host);
        let mut is_decided = false;
        let mut lost = Vec::new();
        for (position, matches) in self.matches.iter().enumerate() {
            match conditions::first_miss(matches, facts, &host) {
                Some(miss) => lost.push((position, Lost::Missed(miss))),
                None if is_decided => lost.push((position, Lost::Later)),
                None => is_decided = true,
            }
        }
        lost
    }

    /// Returns the names of what the path of a route captures, in the order of [`Captures`].
    pub(crate) fn captures(&self, position: usize) -> Vec<&str> {
        let path = self.matches.get(position).and_then(|matches| matches.path.as_ref());
        path.map(PathMatch::captures).unwrap_or_default()
    }
}

/// gRPC calls `/pkg.Service/Method` (gRPC over HTTP/2, "Path").
fn path_of(grpc: &GrpcMatch) -> PathTemplate {
    let method = match &grpc.method {
        Some(method) => Segment::Literal(method.clone()),
        None => Segment::Capture(String::new()),
    };
    PathTemplate { segments: vec![Segment::Literal(grpc.service.clone()), method], rest: false }
}

/// A host as routes know it: without port, in lower case.
fn bare(host: &str) -> Cow<'_, str> {
    let bare = without_port(host);
    if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
        Cow::Owned(bare.to_ascii_lowercase())
    } else {
        Cow::Borrowed(bare)
    }
}

/// Takes the port off a host; an IPv6 address stays in its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host.get(at..).is_some_and(|rest| rest.contains(']')) => host.get(..at).unwrap_or(host),
        _ => host,
    }
}
