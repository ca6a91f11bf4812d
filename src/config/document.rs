//! A configuration file as a tree that knows where each key and value stands.
//!
//! TOML by `toml_edit`; YAML by the events of `saphyr-parser`, and JSON as the YAML that it is, after `serde_json` has
//! said that it is JSON. Depth and size are bounded here, so nothing that walks a tree needs a bound of its own.

mod toml;
mod yaml;

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use super::problem::{At, Place, Problem, Severity, Step};

/// Largest file, in bytes.
const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Most tables and lists inside each other; the deepest known key has six.
const MAX_DEPTH: usize = 32;

/// A value and where it stands.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Tree {
    pub(super) key: Place,
    pub(super) value: Place,
    /// Column of the text's first character, if the file has the text as it is: no escapes, one line.
    pub(super) verbatim: Option<usize>,
    /// A text that came from the environment, which knows no numbers and booleans: it may stand for one.
    pub(super) untyped: bool,
    pub(super) node: Node,
}

/// A value.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Node {
    Boolean(bool),
    Float(f64),
    Integer(i64),
    List(Vec<Tree>),
    Null,
    /// Has been reported: it stays so that its key is not missing, and nothing more is said about it.
    Refused,
    Table(BTreeMap<String, Tree>),
    Text(String),
}

impl Default for Node {
    fn default() -> Self {
        Self::Table(BTreeMap::new())
    }
}

impl Tree {
    pub(super) fn child(&self, step: &Step) -> Option<&Self> {
        match (&self.node, step) {
            (Node::Table(table), Step::Key(key)) => table.get(key),
            (Node::List(list), Step::Position(position)) => list.get(*position),
            _ => None,
        }
    }

    pub(super) fn place(&self, at: At) -> Place {
        match (at, self.verbatim, &self.value, &self.node) {
            (At::Key, ..) => self.key.clone(),
            (At::Offset(offset), Some(start), Place::File { file, line, .. }, Node::Text(text)) => {
                let before = text.get(..offset).map_or(offset, |before| before.chars().count());
                Place::File { file: Arc::clone(file), line: *line, column: start + before }
            }
            _ => self.value.clone(),
        }
    }
}

impl Node {
    /// What it is, with its article, as a message says it.
    pub(super) fn kind(&self) -> &'static str {
        match self {
            Self::Boolean(_) => "a boolean",
            Self::Float(_) => "a decimal number",
            Self::Integer(_) => "a number",
            Self::List(_) => "a list",
            Self::Null | Self::Refused => "nothing",
            Self::Table(_) => "a table",
            Self::Text(_) => "a string",
        }
    }
}

/// How a file is written, by its ending.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Format {
    Json,
    Toml,
    Yaml,
}

impl Format {
    pub(super) fn of(path: &Path) -> Option<Self> {
        match path.extension()?.to_str()? {
            "json" => Some(Self::Json),
            "toml" => Some(Self::Toml),
            "yaml" | "yml" => Some(Self::Yaml),
            _ => None,
        }
    }
}

/// Parses a file into its tree, whose root is a table.
pub(super) fn parse(file: &Arc<str>, format: Format, text: &str) -> Result<Tree, Problem> {
    let lines = Lines::new(file, text);
    if text.len() > MAX_BYTES {
        return Err(lines.problem(0, format!("a file has at most 4 MiB, found {} bytes", text.len())));
    }
    let tree = match format {
        Format::Toml => toml::parse(&lines, text)?,
        Format::Yaml => yaml::parse(&lines, text)?,
        Format::Json => {
            if let Err(error) = serde_json::from_str::<serde::de::IgnoredAny>(text) {
                let place =
                    Place::File { file: Arc::clone(file), line: error.line().max(1), column: error.column().max(1) };
                // The library ends its messages with the position, which stands before ours already.
                let message = error.to_string();
                let message = message.split(" at line ").next().unwrap_or_default();
                return Err(unreadable(place, format!("not JSON: {message}")));
            }
            yaml::parse(&lines, text)?
        }
    };
    match tree.node {
        Node::Table(_) => Ok(tree),
        Node::Null => Ok(Tree { node: Node::default(), ..tree }),
        other => Err(lines.problem(0, format!("expected a table of keys, found {}", other.kind()))),
    }
}

/// A problem of a file as a whole.
pub(super) fn unreadable(place: Place, message: String) -> Problem {
    Problem { place, severity: Severity::Error, key: String::new(), message }
}

/// Turns byte offsets into lines and columns.
struct Lines<'a> {
    file: &'a Arc<str>,
    text: &'a str,
    starts: Vec<usize>,
}

impl<'a> Lines<'a> {
    fn new(file: &'a Arc<str>, text: &'a str) -> Self {
        let starts = std::iter::once(0).chain(text.match_indices('\n').map(|(offset, _)| offset + 1)).collect();
        Self { file, text, starts }
    }

    fn place(&self, offset: usize) -> Place {
        let line = self.starts.partition_point(|start| *start <= offset).max(1);
        let start = self.starts.get(line - 1).copied().unwrap_or_default();
        let column = self.text.get(start..offset).map_or(0, |before| before.chars().count()) + 1;
        Place::File { file: Arc::clone(self.file), line, column }
    }

    fn at(&self, line: usize, column: usize) -> Place {
        Place::File { file: Arc::clone(self.file), line, column }
    }

    fn problem(&self, offset: usize, message: String) -> Problem {
        unreadable(self.place(offset), message)
    }
}

#[cfg(test)]
mod tests;
