//! Regular expressions of a configuration: linear in time, bounded in size, about a whole value.

use std::fmt;
use std::ops::Range;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Serialize, Serializer};

/// Longest expression, in bytes.
const MAX_BYTES: usize = 1000;
/// Most memory that one compiled expression and its cache may take, in bytes each.
const MAX_COMPILED: usize = 1 << 20;
/// How deep groups may stand in each other.
const MAX_DEPTH: u32 = 50;

/// A regular expression that a value has to match as a whole.
///
/// The syntax is that of the `regex` crate: no look-around and no back-references, so the time for a value is linear in
/// its length whatever the expression (RE2's bargain).
#[derive(Clone)]
pub struct Pattern {
    text: String,
    compiled: Regex,
}

/// Why a text is no regular expression that is taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct PatternError {
    /// Where it goes wrong, in bytes from 0.
    pub offset: usize,
    /// What is wrong there.
    pub message: String,
}

impl Pattern {
    /// Compiles an expression.
    pub fn new(text: &str) -> Result<Self, PatternError> {
        let refuse = |offset, message: String| Err(PatternError { offset, message });
        if text.len() > MAX_BYTES {
            return refuse(0, format!("expected at most {MAX_BYTES} bytes, found {}", text.len()));
        }
        // Parsed alone first: errors keep their place, and nothing in it can close the group that is put around it.
        let parsed = regex_syntax::ParserBuilder::new().utf8(false).nest_limit(MAX_DEPTH).build().parse(text);
        if let Err(error) = parsed {
            let (offset, what) = match &error {
                regex_syntax::Error::Parse(error) => (error.span().start.offset, error.kind().to_string()),
                regex_syntax::Error::Translate(error) => (error.span().start.offset, error.kind().to_string()),
                _ => (0, "is not understood".to_owned()),
            };
            return refuse(offset, format!("{what} (byte {offset} of the expression)"));
        }
        let compiled = RegexBuilder::new(&format!(r"\A(?:{text})\z"))
            .size_limit(MAX_COMPILED)
            .dfa_size_limit(MAX_COMPILED)
            .nest_limit(MAX_DEPTH + 2)
            .build();
        match compiled {
            Ok(compiled) => Ok(Self { text: text.to_owned(), compiled }),
            Err(regex::Error::CompiledTooBig(_)) => {
                refuse(0, "becomes too large when compiled; repeat less, or list less".to_owned())
            }
            // It was right alone: a comment of `(?x)` that runs to the end takes what stands behind it.
            Err(_) => refuse(0, "a comment at its end needs a line break after it".to_owned()),
        }
    }

    /// Tells whether a value matches as a whole.
    #[must_use]
    pub fn matches(&self, value: &[u8]) -> bool {
        self.compiled.is_match(value)
    }

    /// Returns the names of its named groups, in order.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.compiled.capture_names().flatten()
    }

    /// Returns what the named groups took, in the order of [`Pattern::names`]; `None` for one that took no part.
    pub(crate) fn captures(&self, value: &[u8]) -> Option<Vec<Option<Range<usize>>>> {
        let captures = self.compiled.captures(value)?;
        Some(self.names().map(|name| captures.name(name).map(|group| group.range())).collect())
    }
}

impl fmt::Debug for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Pattern").field(&self.text).finish()
    }
}

impl fmt::Display for Pattern {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.text)
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Serialize for Pattern {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_matches_as_a_whole() {
        let pattern = Pattern::new("a|ab|b").unwrap();
        assert!(pattern.matches(b"ab") && pattern.matches(b"b"));
        assert!(!pattern.matches(b"abc") && !pattern.matches(b"a\n") && !pattern.matches(b""));
        assert!(Pattern::new("(?m)^a$").unwrap().matches(b"a"));
        assert!(!Pattern::new("(?m)^a$").unwrap().matches(b"a\na"));
        assert!(Pattern::new("(?x) a # a comment\n").unwrap().matches(b"a"));
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place() {
        let error = |text: &str| Pattern::new(text).unwrap_err();
        assert_eq!(error("/v(1").offset, 2);
        assert_eq!(error("/v(1").message, "unclosed group (byte 2 of the expression)");
        assert_eq!(error("a)|(b").offset, 1);
        assert_eq!(error("(?=a)").offset, 0);
        assert!(error("(?x)a # b").message.contains("line break"));
        assert!(error(r"(\w{100}){100}").message.contains("too large"));
        assert!(error(&"a".repeat(1001)).message.contains("at most 1000"));
        assert!(Pattern::new(&"(".repeat(400)).is_err());
        assert!(error(&format!("{}a{}", "(".repeat(300), ")".repeat(300))).message.contains("nest"));
    }

    #[test]
    fn bytes_that_are_no_text_are_values_too() {
        assert!(Pattern::new(r"(?-u:\xFF)a").unwrap().matches(b"\xffa"));
        assert!(!Pattern::new(".a").unwrap().matches(b"\xffa"));
    }

    #[test]
    fn named_groups_give_what_they_took() {
        let pattern = Pattern::new("/(?<a>[a-z]+)(/(?<b>[0-9]+))?").unwrap();
        assert_eq!(pattern.names().collect::<Vec<_>>(), ["a", "b"]);
        assert_eq!(pattern.captures(b"/xy/12"), Some(vec![Some(1..3), Some(4..6)]));
        assert_eq!(pattern.captures(b"/xy"), Some(vec![Some(1..3), None]));
        assert_eq!(pattern.captures(b"/XY"), None);
    }
}
