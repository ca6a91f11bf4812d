//! `hostnames` and the `matches` of an `HTTPRoute`.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use http::{HeaderName, Method};
use serde_json::Value;

use super::objects::{self, matches_of, strict};
use super::precedence::{MatchRank, PathRank};
use crate::config::check::{is_host, matchable};
use crate::config::problem::shown;
use crate::config::{HostMatch, Match, PathMatch, PathTemplate, Pattern, Segment, ValueMatch};
use crate::proxy::path::normalise;
use crate::route::Captures;

/// Most segments of a path, as in `[[routes]]`.
const MAX_SEGMENTS: usize = 64;

/// One match of a rule, without its host.
#[derive(Debug)]
pub(super) struct Matched {
    pub(super) matches: Match,
    pub(super) rank: MatchRank,
    /// Its path is a prefix, which `ReplacePrefixMatch` needs.
    pub(super) is_prefix: bool,
}

/// Reads hosts; `None` stands for any.
pub(super) fn hosts(names: &[String]) -> Result<Vec<Option<HostMatch>>, String> {
    if names.is_empty() {
        return Ok(vec![None]);
    }
    names.iter().enumerate().map(|(position, name)| host(name, position).map(Some)).collect()
}

fn host(text: &str, position: usize) -> Result<HostMatch, String> {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("*.") {
        Some(name) if is_host(name) && !name.starts_with('[') => Ok(HostMatch::Suffix(format!(".{name}"))),
        None if is_host(&lower) => Ok(HostMatch::Exact(lower)),
        _ => Err(format!(
            "`hostnames[{position}]`: expected a host such as `api.example.com` or `*.example.com`, found {}",
            shown(text)
        )),
    }
}

/// Reads the matches of a rule; without any it matches everything.
pub(super) fn of_rule(rule: &Value) -> Result<Vec<Matched>, String> {
    let read = |(position, value): (usize, Value)| {
        let at = format!("matches[{position}]");
        one(strict(&value, &at)?, &at)
    };
    matches_of(rule)?.into_iter().enumerate().map(read).collect()
}

fn one(written: objects::HttpMatch, at: &str) -> Result<Matched, String> {
    let (path, path_rank) = path(&written.path.unwrap_or_default(), &format!("{at}.path"))?;
    let method = written.method.map(|text| method(&text, &format!("{at}.method"))).transpose()?;
    let headers = headers(&written.headers.unwrap_or_default(), &format!("{at}.headers"))?;
    let mut query = BTreeMap::new();
    for (position, parameter) in written.query_params.unwrap_or_default().iter().enumerate() {
        let value = value(parameter, &format!("{at}.queryParams[{position}]"))?;
        // Of two with one name the first counts.
        query.entry(parameter.name.clone()).or_insert(value);
    }
    let counts = (method.is_some(), headers.len(), query.len());
    Ok(Matched {
        is_prefix: matches!(path_rank, PathRank::Prefix(_)),
        rank: MatchRank::Http(path_rank, Reverse(counts)),
        matches: Match { path: Some(path), methods: method.into_iter().collect(), headers, query, ..Match::default() },
    })
}

/// A path that stands in no match is `/` and all below it, which also keeps the route away from listeners that see no
/// paths.
fn path(written: &objects::PathMatch, at: &str) -> Result<(PathMatch, PathRank), String> {
    let text = written.value.as_deref().unwrap_or("/");
    match written.kind.as_deref().unwrap_or("PathPrefix") {
        "Exact" => Ok((PathMatch::Template(template(text, false, at)?), PathRank::Exact)),
        "PathPrefix" => {
            // What stands behind the last slash is ignored by its definition, so `/a/` is `/a`.
            let template = template(text, true, at)?;
            let characters = template.to_string().len();
            Ok((PathMatch::Template(template), PathRank::Prefix(Reverse(characters))))
        }
        "RegularExpression" => Ok((PathMatch::Regex(path_pattern(text, at)?), PathRank::Regex(Reverse(text.len())))),
        other => Err(unknown(&format!("{at}.type"), other)),
    }
}

/// Segments that are texts, whatever stands in them: `*` and braces have no meaning here.
fn template(text: &str, is_prefix: bool, at: &str) -> Result<PathTemplate, String> {
    let refuse = |why: &str| Err(format!("`{at}.value`: expected a path such as `/v1`, found {}{why}", shown(text)));
    if !text.starts_with('/') {
        return refuse("; a path begins with `/`");
    }
    if text.contains(['?', '#']) || !text.bytes().all(|byte| byte.is_ascii_graphic()) {
        return refuse("; it has characters that no path has");
    }
    // Requests are matched in this form.
    let Ok(normal) = normalise(text) else { return refuse("; requests with such a path are refused") };
    let whole = if is_prefix { normal.trim_end_matches('/') } else { &*normal };
    let segments: Vec<Segment> = whole.split('/').skip(1).map(|one| Segment::Literal(one.to_owned())).collect();
    if segments.len() > MAX_SEGMENTS {
        return refuse(&format!("; at most {MAX_SEGMENTS} segments are taken"));
    }
    Ok(PathTemplate { segments, rest: is_prefix })
}

/// An expression about a whole path, whose named groups are no more than can be captured.
pub(super) fn path_pattern(text: &str, at: &str) -> Result<Pattern, String> {
    let pattern = pattern(text, at)?;
    if pattern.names().count() > Captures::MAX {
        return Err(format!("`{at}.value`: at most {} named groups are taken", Captures::MAX));
    }
    Ok(pattern)
}

fn method(text: &str, at: &str) -> Result<Method, String> {
    let is_usual = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_');
    let method = Method::from_bytes(text.as_bytes()).ok().filter(|_| is_usual);
    method.ok_or_else(|| format!("`{at}`: expected a method such as `GET`, found {}", shown(text)))
}

/// Headers, each name once: of two with one name the first counts.
pub(super) fn headers(written: &[objects::ValueMatch], at: &str) -> Result<Vec<(HeaderName, ValueMatch)>, String> {
    let mut headers: Vec<(HeaderName, ValueMatch)> = Vec::new();
    for (position, header) in written.iter().enumerate() {
        let at = format!("{at}[{position}]");
        let name =
            matchable(&header.name).map_err(|problem| format!("`{at}.name`: {} {problem}", shown(&header.name)))?;
        let value = value(header, &at)?;
        if !headers.iter().any(|(known, _)| *known == name) {
            headers.push((name, value));
        }
    }
    Ok(headers)
}

fn value(written: &objects::ValueMatch, at: &str) -> Result<ValueMatch, String> {
    match written.kind.as_deref().unwrap_or("Exact") {
        "Exact" => Ok(ValueMatch::Exact(written.value.clone())),
        "RegularExpression" => pattern(&written.value, at).map(ValueMatch::Regex),
        other => Err(unknown(&format!("{at}.type"), other)),
    }
}

fn pattern(text: &str, at: &str) -> Result<Pattern, String> {
    Pattern::new(text).map_err(|error| {
        format!("`{at}.value`: expected a regular expression, found {}: {}", shown(text), error.message)
    })
}

/// A kind of match that this build does not know.
pub(super) fn unknown(at: &str, found: &str) -> String {
    format!("`{at}` is {}, which this build does not know", shown(found))
}
