//! What the path of a route took from a request (pure).

use std::ops::Range;

use crate::config::PathMatch;

/// Where captures stand in the path that was matched, in the order of [`PathMatch::captures`]. Small and on the stack.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Captures {
    ranges: [(usize, usize); Self::MAX],
    count: usize,
}

impl Captures {
    /// Most captures of one path, `rest` included.
    pub(crate) const MAX: usize = 8;

    /// Takes what `wanted` captures of a path that it matches.
    pub(super) fn of(wanted: Option<&PathMatch>, path: &str) -> Self {
        let mut captures = Self::default();
        match wanted {
            Some(PathMatch::Template(template)) => {
                let rest = template.walk(path, |range| captures.push(Some(range)));
                if template.rest {
                    let begin = rest.unwrap_or(path.len());
                    captures.push(Some(begin..path.len()));
                }
            }
            Some(PathMatch::Regex(pattern)) if pattern.names().next().is_some() => {
                pattern.captures(path.as_bytes()).into_iter().flatten().for_each(|range| captures.push(range));
            }
            Some(PathMatch::Regex(_)) | None => {}
        }
        captures
    }

    /// Returns one of them. `path`: the one that was matched. A group that took no part is empty.
    pub(crate) fn get<'a>(&self, index: usize, path: &'a str) -> &'a str {
        let range = self.ranges.get(..self.count).and_then(|ranges| ranges.get(index));
        range.and_then(|&(begin, end)| path.get(begin..end)).unwrap_or_default()
    }

    fn push(&mut self, range: Option<Range<usize>>) {
        if let Some(place) = self.ranges.get_mut(self.count) {
            *place = range.map_or((0, 0), |range| (range.start, range.end));
            self.count += 1;
        }
    }
}
