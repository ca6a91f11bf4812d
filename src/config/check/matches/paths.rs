//! Paths that a route may be for, and the names of what they capture.

use super::super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{PathMatch, PathTemplate};
use crate::route::Captures;

/// Most segments of a path: so deep does a lookup go at the most.
const MAX_SEGMENTS: usize = 64;

impl Check<'_> {
    pub(super) fn path(&mut self, text: &str, at: &Path) -> Option<PathTemplate> {
        let exact = text.strip_suffix("/*").unwrap_or(text);
        let problem = if text.starts_with('/') { problem_of(exact, text) } else { "; a path begins with `/`" };
        if !problem.is_empty() {
            let message =
                format!("expected a path such as `/v1`, `/v1/*` or `/v1/{{id}}`, found {}{problem}", shown(text));
            self.error(at, At::Value, message);
            return None;
        }
        let template = PathTemplate::new(text);
        if template.segments.len() > MAX_SEGMENTS {
            let message = format!("expected at most {MAX_SEGMENTS} segments, found {}", template.segments.len());
            self.error(at, At::Value, message);
            return None;
        }
        let names: Vec<&str> = template.captures().filter(|name| *name != PathMatch::REST).collect();
        let is_rest_named = template.captures().count() - names.len() > usize::from(template.rest);
        let all = names.into_iter().chain(is_rest_named.then_some(PathMatch::REST)).chain(template.rest.then_some("*"));
        self.captures(all, at).then_some(template)
    }

    /// Checks the names of captures: words, each once, and no more than there is place for.
    pub(super) fn captures<'a>(&mut self, names: impl Iterator<Item = &'a str>, at: &Path) -> bool {
        let mut seen: Vec<&str> = Vec::new();
        for name in names {
            let problem = if seen.contains(&name) {
                Some("stands there twice".to_owned())
            } else if name == PathMatch::REST {
                Some("is the name of what `*` takes".to_owned())
            } else if name != "*" && !is_capture_name(name) {
                Some("is no name of a capture: letters, digits and `_`".to_owned())
            } else if seen.len() == Captures::MAX {
                Some(format!("is one too many; a path captures at most {}", Captures::MAX))
            } else {
                None
            };
            if let Some(problem) = problem {
                self.error(at, At::Value, format!("`{}` {problem}", name.escape_debug()));
                return false;
            }
            seen.push(name);
        }
        true
    }
}

fn is_capture_name(name: &str) -> bool {
    name.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// Says what is wrong with a path; empty: nothing. `exact` is the text before `/*`.
fn problem_of(exact: &str, text: &str) -> &'static str {
    let literal = |segment: &&str| !(segment.starts_with('{') && segment.ends_with('}') && segment.len() > 1);
    let literals = || exact.split('/').filter(literal);
    if literals().any(|segment| segment.contains(['{', '}'])) {
        "; a capture is a whole segment, such as `/v1/{id}`"
    } else if exact.contains('*') {
        "; `*` stands at the end alone, after a `/`"
    } else if exact.contains(['?', '#']) {
        "; a path ends before `?` and `#`"
    } else if text.contains("//") || literals().any(|segment| segment == "." || segment == "..") {
        "; paths are matched after `//`, `.` and `..` are resolved, so it would match nothing"
    } else if !exact.bytes().all(|byte| byte.is_ascii_graphic()) || exact.contains(['\\', '"', '<', '>', '^', '`', '|'])
    {
        "; write other characters percent-encoded"
    } else if !exact.split('%').skip(1).all(is_normal_escape) {
        "; paths are matched in their normal form, with escapes in upper case and only where they are needed"
    } else {
        ""
    }
}

/// Tells whether what follows a `%` is an escape as normalised paths have them.
fn is_normal_escape(after: &str) -> bool {
    let escape = after.get(..2).filter(|digits| digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'A'..=b'F')));
    escape.and_then(|digits| u8::from_str_radix(digits, 16).ok()).is_some_and(|byte| {
        !byte.is_ascii_alphanumeric() && !matches!(byte, 0 | b'/' | b'\\' | b'-' | b'.' | b'_' | b'~')
    })
}
