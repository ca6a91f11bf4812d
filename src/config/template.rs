//! A path with places for what a route captured: `/v2/{id}/{rest}`.

use std::fmt;

use serde::{Serialize, Serializer};

use super::PathMatch;

/// A path whose captures were looked up.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    text: String,
    pieces: Vec<Piece>,
    ends_in_rest: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Piece {
    /// Position among the captures of the route's path.
    Capture(usize),
    Text(String),
}

/// Why a text is no template.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct TemplateError {
    /// Where it goes wrong, in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub message: String,
}

impl Template {
    /// Looks up the captures of `text` among `names`.
    pub fn new(text: &str, names: &[&str]) -> Result<Self, TemplateError> {
        let mut pieces = Vec::new();
        let mut rest = text;
        while let Some(open) = rest.find(['{', '}']) {
            let offset = text.len() - rest.len() + open;
            let refuse = |message: String| Err(TemplateError { offset, message });
            let (before, after) = rest.split_at(open);
            let Some((name, behind)) = after.strip_prefix('{').and_then(|inner| inner.split_once('}')) else {
                return refuse(
                    "`{` and `}` stand around the name of a capture; elsewhere write `%7B`, `%7D`".to_owned(),
                );
            };
            let Some(position) = names.iter().position(|known| *known == name) else {
                let known = names.iter().map(|name| format!("`{{{name}}}`")).collect::<Vec<_>>().join(", ");
                return refuse(match (known.as_str(), name) {
                    ("", PathMatch::REST) => "`{rest}` is what `*` takes; the `path` of `match` has none".to_owned(),
                    ("", _) => format!("the `path` of `match` captures nothing; write `{{{name}}}` there, too"),
                    _ => format!("the `path` of `match` does not capture `{{{name}}}`; it has {known}"),
                });
            };
            if !before.is_empty() {
                pieces.push(Piece::Text(before.to_owned()));
            }
            pieces.push(Piece::Capture(position));
            rest = behind;
        }
        if !rest.is_empty() {
            pieces.push(Piece::Text(rest.to_owned()));
        }
        Ok(Self { text: text.to_owned(), pieces, ends_in_rest: text.ends_with("/{rest}") })
    }

    /// Fills the places. `path`: the one that was matched; `capture` returns what stands in a place.
    ///
    /// Where `*` took nothing because the path ended before its slash, the slash before `{rest}` goes too: with `/a/*` and
    /// `/b/{rest}` the path `/a` becomes `/b`, and `/a/` becomes `/b/`.
    pub(crate) fn fill<'a>(&self, path: &str, capture: impl Fn(usize) -> &'a str) -> String {
        let mut filled = String::with_capacity(self.text.len() + path.len());
        for piece in &self.pieces {
            match piece {
                Piece::Text(text) => filled.push_str(text),
                Piece::Capture(position) => filled.push_str(capture(*position)),
            }
        }
        if self.ends_in_rest && filled.len() > 1 && filled.ends_with('/') && !path.ends_with('/') {
            filled.pop();
        }
        filled
    }
}

impl fmt::Display for Template {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl Serialize for Template {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn filled(text: &str, path: &str, captures: &[(&str, &str)]) -> String {
        let names: Vec<&str> = captures.iter().map(|(name, _)| *name).collect();
        Template::new(text, &names).unwrap().fill(path, |position| captures[position].1)
    }

    #[test]
    fn places_are_filled_with_what_was_captured() {
        assert_eq!(filled("/v2/{id}/x{id}/{rest}", "/u/7/a/b", &[("id", "7"), ("rest", "a/b")]), "/v2/7/x7/a/b");
        assert_eq!(filled("/plain", "/u", &[]), "/plain");
    }

    #[test]
    fn an_empty_rest_leaves_a_slash_only_where_one_was() {
        assert_eq!(filled("/b/{rest}", "/a", &[("rest", "")]), "/b");
        assert_eq!(filled("/b/{rest}", "/a/", &[("rest", "")]), "/b/");
        assert_eq!(filled("/{rest}", "/a", &[("rest", "")]), "/");
        assert_eq!(filled("/b/{rest}", "/a/c/", &[("rest", "c/")]), "/b/c/");
    }

    #[test]
    fn a_capture_that_the_route_has_not_is_refused_at_its_place() {
        let error = |text: &str, names: &[&str]| {
            let error = Template::new(text, names).unwrap_err();
            (error.offset, error.message)
        };
        assert_eq!(error("/a/{x}", &["id"]).0, 3);
        assert_eq!(error("/a/{x}", &["id"]).1, "the `path` of `match` does not capture `{x}`; it has `{id}`");
        assert!(error("/{rest}", &[]).1.contains("is what `*` takes"));
        assert!(error("/a}", &[]).1.contains("%7B"));
        assert!(error("/{a", &["a"]).1.contains("%7B"));
    }
}
