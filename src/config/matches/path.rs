//! Which path a route is for.

use std::fmt;
use std::ops::Range;

use serde::{Serialize, Serializer};

use super::Pattern;

/// Which path a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathMatch {
    /// Segment by segment: `/a`, `/a/{id}`, `/a/*`.
    Template(PathTemplate),
    /// By a regular expression.
    Regex(Pattern),
}

impl PathMatch {
    /// The name of what `*` took.
    pub const REST: &'static str = "rest";

    /// Tells whether a path fits.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        match self {
            Self::Template(template) => template.matches(path),
            Self::Regex(pattern) => pattern.matches(path.as_bytes()),
        }
    }

    /// Returns the names of what it captures, in order; `rest` is what `*` takes.
    #[must_use]
    pub fn captures(&self) -> Vec<&str> {
        match self {
            Self::Template(template) => template.captures().collect(),
            Self::Regex(pattern) => pattern.names().collect(),
        }
    }
}

/// A path as segments between slashes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PathTemplate {
    /// `/a/b` has two, `/a/` has `a` and an empty one, `/` an empty one.
    pub segments: Vec<Segment>,
    /// `/*` stands at the end: the path before it, and all below it.
    pub rest: bool,
}

/// One segment of a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Segment {
    /// This text.
    Literal(String),
    /// Any text but none; its name.
    Capture(String),
}

impl PathTemplate {
    /// Splits a text that begins with `/`. Nothing is checked here: that is for the configuration's check.
    #[must_use]
    pub fn new(text: &str) -> Self {
        let (before, rest) = text.strip_suffix("/*").map_or((text, false), |before| (before, true));
        let segments = before
            .split('/')
            .skip(1)
            .map(|segment| match segment.strip_prefix('{').and_then(|inner| inner.strip_suffix('}')) {
                Some(name) => Segment::Capture(name.to_owned()),
                None => Segment::Literal(segment.to_owned()),
            })
            .collect();
        Self { segments, rest }
    }

    /// Tells whether a path fits. `/*` takes the `*` of `OPTIONS *` too.
    #[must_use]
    pub fn matches(&self, path: &str) -> bool {
        self.is_everything() || self.walk(path, |_| {}).is_some()
    }

    /// Tells whether it is `/*`, which every path fits.
    #[must_use]
    pub fn is_everything(&self) -> bool {
        self.rest && self.segments.is_empty()
    }

    /// Returns the names of what it captures, in order.
    pub fn captures(&self) -> impl Iterator<Item = &str> {
        let rest = self.rest.then_some(PathMatch::REST);
        let named = self.segments.iter().filter_map(|segment| match segment {
            Segment::Capture(name) => Some(name.as_str()),
            Segment::Literal(_) => None,
        });
        named.chain(rest)
    }

    /// Tells `took` where each capture stands in the path, in the order of [`PathTemplate::captures`] and without that
    /// of `*`; returns where that begins. `None`: the path does not fit.
    pub(crate) fn walk(&self, path: &str, mut took: impl FnMut(Range<usize>)) -> Option<usize> {
        let mut at = 0;
        for segment in &self.segments {
            let begin = path.get(at..)?.strip_prefix('/').map(|_| at + 1)?;
            let after = path.get(begin..)?;
            let found = after.split('/').next()?;
            at = begin + found.len();
            match segment {
                Segment::Literal(literal) if literal == found => {}
                Segment::Capture(_) if !found.is_empty() => took(begin..at),
                Segment::Literal(_) | Segment::Capture(_) => return None,
            }
        }
        match path.get(at..)? {
            "" => Some(at),
            below if self.rest && below.starts_with('/') => Some(at + 1),
            _ => None,
        }
    }
}

impl fmt::Display for PathTemplate {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for segment in &self.segments {
            match segment {
                Segment::Literal(literal) => write!(formatter, "/{literal}")?,
                Segment::Capture(name) => write!(formatter, "/{{{name}}}")?,
            }
        }
        formatter.write_str(if self.rest { "/*" } else { "" })
    }
}

impl Serialize for PathTemplate {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segments_fit_one_by_one() {
        for (template, fits, does_not) in [
            ("/", &["/"][..], &["", "/a", "*"][..]),
            ("/a", &["/a"], &["/a/", "/ab", "/", "/a/b"]),
            ("/a/", &["/a/"], &["/a", "/a//"]),
            ("/v1/*", &["/v1", "/v1/", "/v1/a/b"], &["/v10", "/", "/a/v1"]),
            ("/*", &["/", "/a", "/a/b/", "*"], &[]),
            ("/u/{id}", &["/u/Bob", "/u/%20"], &["/u/", "/u", "/u/a/b", "/u/a/"]),
            ("/{a}/x/*", &["/1/x", "/1/x/", "/1/x/y"], &["//x", "/1/xy"]),
        ] {
            for path in fits {
                assert!(PathTemplate::new(template).matches(path), "{template} {path}");
            }
            for path in does_not {
                assert!(!PathTemplate::new(template).matches(path), "{template} {path}");
            }
            assert_eq!(PathTemplate::new(template).to_string(), template);
        }
    }
}
