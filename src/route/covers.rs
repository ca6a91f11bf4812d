//! Whether one route matches everything that another one matches.
//!
//! It may say no where the answer is yes, never the other way round: who follows its warning must not break anything.

use std::borrow::Cow;

use super::path_of;
use crate::config::{FromMatch, HostMatch, Match, PathMatch, PathTemplate, Segment, ValueMatch};

/// Says whether `wide` matches everything that `narrow` matches.
pub(crate) fn covers(wide: &Match, narrow: &Match) -> bool {
    let host = wide.host.as_ref().is_none_or(|wide| narrow.host.as_ref().is_some_and(|narrow| host(wide, narrow)));
    let path = wide
        .path
        .as_ref()
        .is_none_or(|wide| is_everything(wide) || effective_path(narrow).is_some_and(|narrow| path(wide, &narrow)));
    let methods = wide.methods.is_empty()
        || !narrow.methods.is_empty() && narrow.methods.iter().all(|method| wide.methods.contains(method));
    let headers = wide
        .headers
        .iter()
        .all(|(name, wide)| narrow.headers.iter().any(|(other, narrow)| other == name && value(wide, narrow)));
    let query = wide.query.iter().all(|(name, wide)| narrow.query.get(name).is_some_and(|narrow| value(wide, narrow)));
    let grpc = wide.grpc.as_ref().is_none_or(|wide| {
        narrow.grpc.as_ref().is_some_and(|narrow| {
            wide.service == narrow.service && (wide.method.is_none() || wide.method == narrow.method)
        })
    });
    let from = wide.from.as_ref().is_none_or(|wide| {
        narrow.from.as_ref().is_some_and(|narrow| match narrow {
            FromMatch::Exact(id) => wide.matches(id),
            FromMatch::Below(_) if wide == narrow => true,
            FromMatch::Below(prefix) => matches!(wide, FromMatch::Below(_)) && wide.matches(prefix),
        })
    });
    let addresses = wide.addresses.is_empty()
        || !narrow.addresses.is_empty()
            && narrow.addresses.iter().all(|narrow| wide.addresses.iter().any(|wide| wide.covers(narrow)));
    host && path && methods && headers && query && grpc && from && addresses
}

fn host(wide: &HostMatch, narrow: &HostMatch) -> bool {
    match (wide, narrow) {
        _ if wide == narrow => true,
        (HostMatch::Suffix(suffix), HostMatch::Exact(name) | HostMatch::Suffix(name)) => {
            name.ends_with(suffix.as_str()) && name.len() > suffix.len()
        }
        _ => false,
    }
}

fn is_everything(path: &PathMatch) -> bool {
    matches!(path, PathMatch::Template(template) if template.is_everything())
}

/// A gRPC call is a path, too.
fn effective_path(matches: &Match) -> Option<Cow<'_, PathMatch>> {
    match (&matches.path, &matches.grpc) {
        (Some(path), _) => Some(Cow::Borrowed(path)),
        (None, Some(grpc)) => Some(Cow::Owned(PathMatch::Template(path_of(grpc)))),
        (None, None) => None,
    }
}

fn path(wide: &PathMatch, narrow: &PathMatch) -> bool {
    match (wide, narrow) {
        (PathMatch::Template(wide), PathMatch::Template(narrow)) => template(wide, narrow),
        (PathMatch::Regex(wide), PathMatch::Template(narrow)) => {
            // A path without captures is one text.
            narrow.captures().next().is_none() && wide.matches(narrow.to_string().as_bytes())
        }
        (PathMatch::Regex(wide), PathMatch::Regex(narrow)) => wide == narrow,
        (PathMatch::Template(_), PathMatch::Regex(_)) => false,
    }
}

fn template(wide: &PathTemplate, narrow: &PathTemplate) -> bool {
    // Of `/a/*` the path `/a` itself is one, so what it covers has to begin with all of `wide`.
    let lengths = if wide.rest {
        narrow.segments.len() >= wide.segments.len()
    } else {
        !narrow.rest && narrow.segments.len() == wide.segments.len()
    };
    lengths
        && wide.segments.iter().zip(&narrow.segments).all(|(wide, narrow)| match (wide, narrow) {
            (Segment::Literal(wide), Segment::Literal(narrow)) => wide == narrow,
            (Segment::Capture(_), Segment::Literal(narrow)) => !narrow.is_empty(),
            (Segment::Capture(_), Segment::Capture(_)) => true,
            (Segment::Literal(_), Segment::Capture(_)) => false,
        })
}

/// One value that fits is enough for `narrow`, and then for `wide`. A `not` speaks of all values, so there only the same
/// condition and absence say anything.
fn value(wide: &ValueMatch, narrow: &ValueMatch) -> bool {
    match (wide, narrow) {
        _ if wide == narrow => true,
        (ValueMatch::Present(true), other) => needs_a_value(other),
        (ValueMatch::Not(inner), ValueMatch::Present(false)) => needs_a_value(inner),
        (ValueMatch::Prefix(wide), ValueMatch::Exact(value) | ValueMatch::Prefix(value)) => value.starts_with(wide),
        (ValueMatch::Suffix(wide), ValueMatch::Exact(value) | ValueMatch::Suffix(value)) => value.ends_with(wide),
        (ValueMatch::Regex(wide), ValueMatch::Exact(value)) => wide.matches(value.as_bytes()),
        _ => false,
    }
}

/// Says whether it never holds where there is no value.
fn needs_a_value(wanted: &ValueMatch) -> bool {
    match wanted {
        ValueMatch::Exact(_) | ValueMatch::Prefix(_) | ValueMatch::Suffix(_) | ValueMatch::Regex(_) => true,
        ValueMatch::Present(present) => *present,
        ValueMatch::Not(_) => false,
    }
}
