//! Routes with one host and path: which of them is the first whose other conditions hold (pure).
//!
//! Usually there are one or two. Where there are many, they mostly differ in the value of one header, parameter or
//! identity (a route for each tenant), so that is looked up instead of walked through.

use std::collections::{HashMap, HashSet};

use http::HeaderName;

use super::{Facts, query};
use crate::config::{FromMatch, Match, ValueMatch};

/// So many routes are tried faster one by one than looked up.
const FEW: usize = 8;

/// Positions of routes that share host and path.
#[derive(Debug, Default)]
pub(super) struct Bucket {
    /// In file order.
    plain: Vec<usize>,
    keyed: Vec<Keyed>,
}

/// Routes that ask for an exact value of one thing, by that value.
#[derive(Debug)]
struct Keyed {
    key: Key,
    by_value: HashMap<Box<[u8]>, Vec<usize>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    From,
    Header(HeaderName),
    Query(String),
}

impl Bucket {
    /// Adds a route. Positions come in file order.
    pub(super) fn add(&mut self, position: usize) {
        self.plain.push(position);
    }

    /// Makes what was added fast to look up. A route goes under the key of its own that tells most routes apart.
    pub(super) fn index(&mut self, matches: &[Match]) {
        if self.plain.len() <= FEW {
            return;
        }
        let all = std::mem::take(&mut self.plain);
        let of = |position: usize| matches.get(position).map(keys).unwrap_or_default();
        let mut values: HashMap<Key, HashSet<&[u8]>> = HashMap::new();
        for (key, value) in all.iter().flat_map(|&position| of(position)) {
            values.entry(key).or_default().insert(value);
        }
        let told_apart = |key: &Key| values.get(key).map_or(0, HashSet::len);
        for position in all {
            // Every key is asked for at every request, so one that few routes use costs more than it saves.
            let best = of(position).into_iter().max_by_key(|(key, _)| told_apart(key));
            let Some((key, value)) = best.filter(|(key, _)| told_apart(key) > FEW) else {
                self.plain.push(position);
                continue;
            };
            let at = self.keyed.iter().position(|keyed| keyed.key == key).unwrap_or_else(|| {
                self.keyed.push(Keyed { key, by_value: HashMap::new() });
                self.keyed.len() - 1
            });
            if let Some(keyed) = self.keyed.get_mut(at) {
                keyed.by_value.entry(value.into()).or_default().push(position);
            }
        }
    }

    /// Lowers `best` to the first route that holds, if there is one before it.
    pub(super) fn lower(&self, best: &mut Option<usize>, facts: &Facts<'_>, holds: &impl Fn(usize) -> bool) {
        lower(&self.plain, best, holds);
        for Keyed { key, by_value } in &self.keyed {
            let mut ask = |value: &[u8]| {
                if let Some(positions) = by_value.get(value) {
                    lower(positions, best, holds);
                }
            };
            match key {
                Key::From => facts.from.into_iter().for_each(|id| ask(id.as_bytes())),
                Key::Header(name) => facts.headers.get_all(name).iter().for_each(|value| ask(value.as_bytes())),
                Key::Query(name) => query::values(facts.query, name).for_each(|value| ask(&value)),
            }
        }
    }
}

fn lower(positions: &[usize], best: &mut Option<usize>, holds: &impl Fn(usize) -> bool) {
    let end = *best;
    let before = positions.iter().take_while(|&&position| end.is_none_or(|end| position < end));
    if let Some(&first) = before.into_iter().find(|&&position| holds(position)) {
        *best = Some(first);
    }
}

/// Returns the exact values that a route asks for.
fn keys(matches: &Match) -> Vec<(Key, &[u8])> {
    let mut keys = Vec::new();
    if let Some(FromMatch::Exact(id)) = &matches.from {
        keys.push((Key::From, id.as_bytes()));
    }
    for (name, value) in &matches.headers {
        if let ValueMatch::Exact(value) = value {
            keys.push((Key::Header(name.clone()), value.as_bytes()));
        }
    }
    for (name, value) in &matches.query {
        if let ValueMatch::Exact(value) = value {
            keys.push((Key::Query(name.clone()), value.as_bytes()));
        }
    }
    keys
}
