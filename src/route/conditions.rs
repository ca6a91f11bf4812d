//! Whether what a route asks for holds (pure): one condition after the other, the same for serving and explaining.

use std::fmt;

use http::HeaderMap;

use super::{Facts, query};
use crate::config::{GrpcMatch, HostMatch, Match, ValueMatch};

/// The first condition of a route that did not hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Miss {
    /// Its key, such as `path` or `headers.x-env`.
    pub(crate) key: String,
    /// What was found there.
    pub(crate) found: String,
}

impl fmt::Display for Miss {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: found {}", self.key, self.found)
    }
}

/// Tells whether everything holds that host and path did not decide already.
pub(crate) fn rest_holds(matches: &Match, facts: &Facts<'_>) -> bool {
    use crate::config::PathMatch;
    let regex = match &matches.path {
        Some(PathMatch::Regex(pattern)) => pattern.matches(facts.path.as_bytes()),
        Some(PathMatch::Template(_)) | None => true,
    };
    regex
        && (matches.methods.is_empty() || matches.methods.contains(facts.method))
        && matches.headers.iter().all(|(name, value)| header_holds(value, facts.headers, name))
        && matches.query.iter().all(|(name, value)| parameter_holds(value, facts.query, name))
        && matches.grpc.as_ref().is_none_or(|grpc| grpc_holds(grpc, facts))
        && matches.from.as_ref().is_none_or(|from| facts.from.is_some_and(|id| from.matches(id)))
        && address_holds(matches, facts)
}

/// Returns the first condition that does not hold, in the order of the documentation. `host` is bare.
pub(super) fn first_miss(matches: &Match, facts: &Facts<'_>, host: &str) -> Option<Miss> {
    misses(matches, facts, host).into_iter().next()
}

/// Returns every condition that does not hold, in the order of the documentation. `host` is bare.
pub(crate) fn misses(matches: &Match, facts: &Facts<'_>, host: &str) -> Vec<Miss> {
    let mut all = Vec::new();
    let mut missed = |key: String, found: Option<String>| {
        all.push(Miss { key, found: found.map_or_else(|| "nothing".to_owned(), |found| format!("`{found}`")) });
    };
    if matches.host.as_ref().is_some_and(|wanted| !host_holds(wanted, host)) {
        missed("host".to_owned(), Some(host.to_owned()));
    }
    if matches.path.as_ref().is_some_and(|wanted| !wanted.matches(facts.path)) {
        missed("path".to_owned(), Some(facts.path.to_owned()));
    }
    if !matches.methods.is_empty() && !matches.methods.contains(facts.method) {
        missed("method".to_owned(), Some(facts.method.to_string()));
    }
    for (name, value) in &matches.headers {
        if !header_holds(value, facts.headers, name) {
            let found = facts.headers.get_all(name).iter().map(|value| value.as_bytes().escape_ascii().to_string());
            missed(format!("headers.{name}"), joined(found));
        }
    }
    for (name, value) in &matches.query {
        if !parameter_holds(value, facts.query, name) {
            let found = query::values(facts.query, name).map(|value| value.escape_ascii().to_string());
            missed(format!("query.{name}"), joined(found));
        }
    }
    if matches.grpc.as_ref().is_some_and(|grpc| !grpc_holds(grpc, facts)) {
        missed("grpc".to_owned(), facts.is_grpc.then(|| facts.path.trim_start_matches('/').to_owned()));
    }
    if matches.from.as_ref().is_some_and(|from| !facts.from.is_some_and(|id| from.matches(id))) {
        missed("from".to_owned(), facts.from.map(ToOwned::to_owned));
    }
    if !address_holds(matches, facts) {
        missed("address".to_owned(), facts.address.map(|address| address.to_string()));
    }
    all
}

fn joined(values: impl Iterator<Item = String>) -> Option<String> {
    let values: Vec<_> = values.collect();
    (!values.is_empty()).then(|| values.join("`, `"))
}

fn host_holds(wanted: &HostMatch, host: &str) -> bool {
    match wanted {
        HostMatch::Exact(exact) => exact == host,
        HostMatch::Suffix(suffix) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
    }
}

fn header_holds(wanted: &ValueMatch, headers: &HeaderMap, name: &http::HeaderName) -> bool {
    match wanted {
        ValueMatch::Not(inner) => !header_holds(inner, headers, name),
        ValueMatch::Present(present) => headers.contains_key(name) == *present,
        one => headers.get_all(name).iter().any(|value| value_holds(one, value.as_bytes())),
    }
}

fn parameter_holds(wanted: &ValueMatch, query: &str, name: &str) -> bool {
    match wanted {
        ValueMatch::Not(inner) => !parameter_holds(inner, query, name),
        ValueMatch::Present(present) => query::values(query, name).next().is_some() == *present,
        one => query::values(query, name).any(|value| value_holds(one, &value)),
    }
}

/// Of a value that is there.
fn value_holds(wanted: &ValueMatch, value: &[u8]) -> bool {
    match wanted {
        ValueMatch::Exact(exact) => exact.as_bytes() == value,
        ValueMatch::Prefix(prefix) => value.starts_with(prefix.as_bytes()),
        ValueMatch::Suffix(suffix) => value.ends_with(suffix.as_bytes()),
        ValueMatch::Regex(pattern) => pattern.matches(value),
        ValueMatch::Present(present) => *present,
        ValueMatch::Not(inner) => !value_holds(inner, value),
    }
}

fn grpc_holds(wanted: &GrpcMatch, facts: &Facts<'_>) -> bool {
    let called = facts.path.strip_prefix('/').and_then(|path| path.split_once('/'));
    facts.is_grpc
        && called.is_some_and(|(service, method)| {
            let is_one = !method.is_empty() && !method.contains('/');
            service == wanted.service && is_one && wanted.method.as_ref().is_none_or(|wanted| wanted == method)
        })
}

fn address_holds(matches: &Match, facts: &Facts<'_>) -> bool {
    matches.addresses.is_empty()
        || facts.address.is_some_and(|address| matches.addresses.iter().any(|network| network.contains(address)))
}
