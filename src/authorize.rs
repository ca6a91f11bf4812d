//! Who may do what: the rules of `[[listeners]] allow`, compiled once for each configuration (pure).
//!
//! ```text
//! Facts (of the request as it is sent on) ─► Allow::decide ─► Allowed(rule) │ Denied
//!                                                               └─► Allow::why, only where somebody asks
//! ```
//!
//! There are only rules that allow, so their order changes nothing but which of them is named: what no rule allows is
//! denied. The path that rules see is the one in normal form that routes match and endpoints get.

pub(crate) mod ration;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use crate::config::{Listener, Match};
use crate::route::{Facts, Miss, Router, misses, rest_holds};

/// The rules of one listener.
#[derive(Debug)]
pub(crate) struct Allow {
    rules: Vec<Match>,
    router: Router,
    is_dry_run: bool,
    looks_at_paths: bool,
}

/// What becomes of a request or a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Decision {
    /// This rule allows it; rules are counted from 0.
    Allowed(usize),
    /// No rule does.
    Denied,
}

/// What a client asks for.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Asked<'a> {
    /// To be connected, by its SPIFFE ID and its address. No rule that asks for more can hold.
    Bytes(Option<&'a str>, Option<IpAddr>),
    /// A request.
    Request(&'a Facts<'a>),
}

/// Why a rule does not allow it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Why {
    /// Position of the rule, from 0.
    pub(crate) rule: usize,
    /// Every condition that does not hold, in the order of the documentation; at least one.
    pub(crate) misses: Vec<Miss>,
}

impl Allow {
    /// Compiles the rules of a listener; `None` where it has none and lets in whom TLS lets in.
    pub(crate) fn new(listener: &Listener) -> Option<Self> {
        let rules = listener.allow.clone()?;
        let looks_at_paths = rules.iter().any(looks_at_path);
        Some(Self { router: Router::new(&rules), rules, is_dry_run: listener.dry_run, looks_at_paths })
    }

    /// Tells whether what would be denied is let through and counted.
    pub(crate) fn is_dry_run(&self) -> bool {
        self.is_dry_run
    }

    /// Returns how many rules there are.
    pub(crate) fn len(&self) -> usize {
        self.rules.len()
    }

    /// Decides. The cost does not grow with the number of rules that differ in paths or identities, and nothing is
    /// allocated.
    pub(crate) fn decide(&self, asked: Asked<'_>) -> Decision {
        let position = match asked {
            Asked::Request(facts) if self.looks_at_paths && is_ambiguous(facts.path) => {
                // Rare, and never good: one by one.
                self.rules.iter().position(|rule| !looks_at_path(rule) && rest_holds(rule, facts))
            }
            Asked::Request(facts) => self.router.position(facts),
            Asked::Bytes(from, address) => self.rules.iter().position(|rule| lets_connect(rule, from, address)),
        };
        position.map_or(Decision::Denied, Decision::Allowed)
    }

    /// Says of every rule why it does not allow this, in file order; rules that do are left out. For people.
    pub(crate) fn why(&self, asked: Asked<'_>) -> Vec<Why> {
        let of = |(rule, one): (usize, &Match)| Why { rule, misses: missed(one, asked) };
        self.rules.iter().enumerate().map(of).filter(|why| !why.misses.is_empty()).collect()
    }
}

/// Returns every condition of a rule that does not hold; none where it allows this.
fn missed(rule: &Match, asked: Asked<'_>) -> Vec<Miss> {
    match asked {
        Asked::Request(facts) => {
            let mut found = misses(rule, facts, "");
            if looks_at_path(rule) && is_ambiguous(facts.path) {
                found.retain(|miss| miss.key != "path" && miss.key != "grpc");
                let key = if rule.path.is_some() { "path" } else { "grpc" };
                let told = format!("`{}`, which servers read in different ways", facts.path);
                found.insert(0, Miss { key: key.to_owned(), found: told });
            }
            for miss in &mut found {
                // Routes call it `method`.
                if miss.key == "method" {
                    "methods".clone_into(&mut miss.key);
                }
            }
            found
        }
        Asked::Bytes(from, address) => {
            let nothing = |key: &str, found: String| Miss { key: key.to_owned(), found };
            let mut found = Vec::new();
            if let Some(key) = needs_request(rule) {
                found.push(nothing(key, "bytes, no request".to_owned()));
            }
            if rule.from.as_ref().is_some_and(|wanted| !from.is_some_and(|id| wanted.matches(id))) {
                found.push(nothing("from", from.map_or_else(|| "nothing".to_owned(), |id| format!("`{id}`"))));
            }
            if !address_fits(rule, address) {
                let address = address.map_or_else(|| "nothing".to_owned(), |address| format!("`{address}`"));
                found.push(nothing("address", address));
            }
            found
        }
    }
}

/// Returns the rule that came closest: the fewest conditions did not hold, of these one for this client, of these the
/// first.
pub(crate) fn nearest(whys: &[Why]) -> Option<&Why> {
    whys.iter().min_by_key(|why| (why.misses.len(), why.misses.iter().any(|miss| miss.key == "from")))
}

/// Tells whether a client that is connected may stay so, after the rules or its identity changed. `is_bytes`: the
/// connection carries bytes that were decided about when it began; of one that carries requests it is enough that some
/// request of its may be allowed, as each is decided about when it comes.
pub(crate) fn still_allowed(
    allow: Option<&Allow>,
    from: Option<&str>,
    address: Option<IpAddr>,
    is_bytes: bool,
) -> bool {
    let Some(allow) = allow.filter(|allow| !allow.is_dry_run) else { return true };
    let may = |rule: &Match| if is_bytes { lets_connect(rule, from, address) } else { is_for(rule, from, address) };
    allow.rules.iter().any(may)
}

/// Tells whether a rule is about this client, whatever it asks for.
fn is_for(rule: &Match, from: Option<&str>, address: Option<IpAddr>) -> bool {
    rule.from.as_ref().is_none_or(|wanted| from.is_some_and(|id| wanted.matches(id))) && address_fits(rule, address)
}

fn lets_connect(rule: &Match, from: Option<&str>, address: Option<IpAddr>) -> bool {
    needs_request(rule).is_none() && is_for(rule, from, address)
}

fn address_fits(rule: &Match, address: Option<IpAddr>) -> bool {
    rule.addresses.is_empty()
        || address.is_some_and(|address| rule.addresses.iter().any(|network| network.contains(address)))
}

/// Returns the first key of a rule that bytes have nothing for. A condition such as "this header is not there" would hold
/// of bytes too, and must not.
fn needs_request(rule: &Match) -> Option<&'static str> {
    let keys = [
        ("methods", !rule.methods.is_empty()),
        ("path", rule.path.is_some()),
        ("headers", !rule.headers.is_empty()),
        ("grpc", rule.grpc.is_some()),
    ];
    keys.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
}

fn looks_at_path(rule: &Match) -> bool {
    rule.path.is_some() || rule.grpc.is_some()
}

/// Tells whether a path in normal form could be read as another one: servers that cut parameters (`;x=1`) off segments
/// take `/public/..;/admin` for `/admin`, and no rule about paths may be walked around so.
fn is_ambiguous(path: &str) -> bool {
    // Escaped as `%3B`, or not: normal form has one case of escapes, and has neither `.` nor `..` as a whole segment.
    (path.contains(';') || path.contains("%3B"))
        && path.split('/').any(|segment| {
            let end = segment.find("%3B").into_iter().chain(segment.find(';')).min();
            matches!(end.and_then(|end| segment.get(..end)), Some("." | ".."))
        })
}
