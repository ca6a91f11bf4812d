//! The `matches` of a `GRPCRoute`. They match gRPC calls alone, by their content type.

use std::cmp::Reverse;

use http::header::CONTENT_TYPE;
use serde_json::Value;

use super::matches::{Matched, headers, path_pattern, unknown};
use super::objects::{self, GrpcMethod, matches_of, strict};
use super::precedence::MatchRank;
use crate::config::problem::shown;
use crate::config::{GrpcMatch, Match, PathMatch, PathTemplate, Pattern, Segment, ValueMatch};

/// Content types of gRPC (gRPC over HTTP/2, "Requests"), where a match does not say so by itself.
const CONTENT_TYPES: &str = r"application/grpc([+;].*)?";

/// Reads the matches of a rule; without any it matches every call.
pub(super) fn of_rule(rule: &Value) -> Result<Vec<Matched>, String> {
    let read = |(position, value): (usize, Value)| {
        let at = format!("matches[{position}]");
        one(strict(&value, &at)?, &at)
    };
    matches_of(rule)?.into_iter().enumerate().map(read).collect()
}

fn one(written: objects::GrpcMatch, at: &str) -> Result<Matched, String> {
    let headers = headers(&written.headers.unwrap_or_default(), &format!("{at}.headers"))?;
    let called = written.method.unwrap_or_default();
    let length = |text: &Option<String>| text.as_ref().map_or(0, String::len);
    let rank = MatchRank::Grpc(Reverse((length(&called.service), length(&called.method), headers.len())));
    let mut matches = called_by(&called, &format!("{at}.method"))?;
    matches.headers.splice(0..0, headers);
    Ok(Matched { matches, rank, is_prefix: false })
}

/// Which calls.
fn called_by(called: &GrpcMethod, at: &str) -> Result<Match, String> {
    let word = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
    let (service, method) = (word(&called.service), word(&called.method));
    match called.kind.as_deref().unwrap_or("Exact") {
        "Exact" => {}
        "RegularExpression" => {
            let any = || "[^/]+".to_owned();
            let (service, method) = (service.unwrap_or_else(any), method.unwrap_or_else(any));
            // Each alone first, so that neither can close a group of the other's.
            for (key, text) in [("service", &service), ("method", &method)] {
                path_pattern(text, &format!("{at}.{key}"))?;
            }
            let path = path_pattern(&format!("/(?:{service})/(?:{method})"), at)?;
            return with_content_type(PathMatch::Regex(path));
        }
        other => return Err(unknown(&format!("{at}.type"), other)),
    }
    let is_word = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.'));
    if let Some(wrong) = [&service, &method].into_iter().flatten().find(|text| !is_word(text)) {
        return Err(format!("`{at}`: expected names of a gRPC service and method, found {}", shown(wrong)));
    }
    match (service, method) {
        (Some(service), method) => Ok(Match { grpc: Some(GrpcMatch { service, method }), ..Match::default() }),
        (None, Some(method)) => {
            let segments = vec![Segment::Capture("service".to_owned()), Segment::Literal(method)];
            with_content_type(PathMatch::Template(PathTemplate { segments, rest: false }))
        }
        (None, None) => with_content_type(PathMatch::Template(PathTemplate { segments: Vec::new(), rest: true })),
    }
}

fn with_content_type(path: PathMatch) -> Result<Match, String> {
    let grpc = Pattern::new(CONTENT_TYPES).map_err(|error| error.message)?;
    let headers = vec![(CONTENT_TYPE, ValueMatch::Regex(grpc))];
    Ok(Match { path: Some(path), headers, ..Match::default() })
}
