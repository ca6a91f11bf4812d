//! What is wrong with a configuration, and where.

use std::fmt;
use std::sync::Arc;

use super::document::Tree;

/// Where a value was set.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Place {
    /// In a file; line and column count from 1, columns in characters.
    File {
        /// The file, as it was named or found.
        file: Arc<str>,
        /// Line.
        line: usize,
        /// Column.
        column: usize,
    },
    /// By what a backend told, such as `discovery.kubernetes`.
    Backend(String),
    /// In an environment variable.
    Variable(String),
    /// By `--set`.
    Set(String),
    /// Nowhere: something is missing as a whole.
    #[default]
    Whole,
}

impl fmt::Display for Place {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File { file, line, column } => write!(formatter, "{file}:{line}:{column}"),
            Self::Backend(name) | Self::Variable(name) => formatter.write_str(name),
            Self::Set(name) => write!(formatter, "--set {name}"),
            Self::Whole => formatter.write_str("configuration"),
        }
    }
}

/// How much a problem weighs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// The configuration cannot be used.
    Error,
    /// It can be used, and probably does not do what was meant.
    Warning,
}

/// One problem. Problems sort by place.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Where.
    pub place: Place,
    /// How much it weighs.
    pub severity: Severity,
    /// Path of the key, such as `services.web.from` or `routes[0].to`; empty for a whole file.
    pub key: String,
    /// What was found, what is allowed, and the nearest right spelling.
    pub message: String,
}

impl Problem {
    /// Says whether it is about something that stands nowhere.
    pub(crate) fn place_is_whole(&self) -> bool {
        self.place == Place::Whole
    }
}

impl fmt::Display for Problem {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let severity = match self.severity {
            Severity::Error => "error",
            Severity::Warning => "warning",
        };
        write!(formatter, "{}: {severity}: ", self.place)?;
        if !self.key.is_empty() {
            write!(formatter, "{}: ", self.key)?;
        }
        formatter.write_str(&self.message)
    }
}

/// Every problem of a configuration that cannot be used: at least one of them is an error.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problems(pub Vec<Problem>);

impl fmt::Display for Problems {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, problem) in self.0.iter().enumerate() {
            write!(formatter, "{}{problem}", if position == 0 { "" } else { "\n" })?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}

/// A path through a configuration: keys of tables and positions in lists.
#[derive(Debug, Clone, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Path(Vec<Step>);

/// One step of a [`Path`].
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Step {
    /// Key of a table.
    Key(String),
    /// Position in a list, from 0.
    Position(usize),
}

impl Path {
    pub(crate) fn key(&self, key: &str) -> Self {
        self.with(Step::Key(key.to_owned()))
    }

    pub(crate) fn position(&self, position: usize) -> Self {
        self.with(Step::Position(position))
    }

    pub(crate) fn steps(&self) -> &[Step] {
        &self.0
    }

    fn with(&self, step: Step) -> Self {
        let mut steps = self.0.clone();
        steps.push(step);
        Self(steps)
    }
}

impl fmt::Display for Path {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, step) in self.0.iter().enumerate() {
            match step {
                Step::Key(key) => write!(formatter, "{}{}", if position == 0 { "" } else { "." }, key.escape_debug())?,
                Step::Position(index) => write!(formatter, "[{index}]")?,
            }
        }
        Ok(())
    }
}

/// Which end of `key = value` a problem points at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum At {
    /// The key.
    Key,
    /// The value.
    Value,
    /// So many bytes into the text of the value, where the text stands in the file as it is.
    Offset(usize),
}

/// Collects problems and knows the places of keys.
#[derive(Debug)]
pub(crate) struct Report<'a> {
    tree: &'a Tree,
    problems: Vec<Problem>,
}

impl<'a> Report<'a> {
    pub(crate) fn new(tree: &'a Tree) -> Self {
        Self { tree, problems: Vec::new() }
    }

    pub(crate) fn error(&mut self, path: &Path, at: At, message: impl Into<String>) {
        self.add(Severity::Error, path, at, message.into());
    }

    pub(crate) fn warning(&mut self, path: &Path, at: At, message: impl Into<String>) {
        self.add(Severity::Warning, path, at, message.into());
    }

    pub(crate) fn into_problems(self) -> Vec<Problem> {
        self.problems
    }

    /// A key that is missing has no place of its own: its table stands in for it.
    fn add(&mut self, severity: Severity, path: &Path, at: At, message: String) {
        let mut place = Place::default();
        let mut node = Some(self.tree);
        for (position, step) in path.steps().iter().enumerate() {
            node = node.and_then(|parent| parent.child(step));
            let Some(found) = node else { break };
            let last = position + 1 == path.steps().len();
            place = found.place(if last { at } else { At::Key });
        }
        self.problems.push(Problem { place, severity, key: path.to_string(), message });
    }
}

/// `; did you mean …?` if one of `allowed` is near to `found`, else the list of what is allowed.
pub(crate) fn suggestion<'a>(found: &str, allowed: impl IntoIterator<Item = &'a str>) -> String {
    // A list of hundreds of services helps nobody.
    const SHOWN: usize = 20;
    let mut allowed: Vec<&str> = allowed.into_iter().collect();
    let nearest = allowed
        .iter()
        .map(|candidate| (strsim::damerau_levenshtein(&found.to_lowercase(), candidate), *candidate))
        .filter(|(distance, candidate)| *distance <= 1.max(candidate.len() / 3))
        .min();
    if let Some((_, nearest)) = nearest {
        return format!("; did you mean `{nearest}`?");
    }
    let more = allowed.len().saturating_sub(SHOWN);
    allowed.truncate(SHOWN);
    let listed = allowed.iter().map(|key| format!("`{key}`")).collect::<Vec<_>>().join(", ");
    match (allowed.is_empty(), more) {
        (true, _) => String::new(),
        (false, 0) => format!("; allowed: {listed}"),
        (false, more) => format!("; allowed: {listed} and {more} more"),
    }
}

/// A value as a message shows it: short, on one line.
pub(crate) fn shown(text: &str) -> String {
    const SHOWN: usize = 60;
    let short: String = text.chars().take(SHOWN).flat_map(char::escape_debug).collect();
    if text.chars().count() > SHOWN { format!("`{short}…`") } else { format!("`{short}`") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_near_spelling_is_named_and_else_what_is_allowed() {
        assert_eq!(suggestion("tiemout", ["timeout", "tls"]), "; did you mean `timeout`?");
        assert_eq!(suggestion("Timeout", ["timeout", "tls"]), "; did you mean `timeout`?");
        assert_eq!(suggestion("zebra", ["timeout", "tls"]), "; allowed: `timeout`, `tls`");
        assert_eq!(suggestion("zebra", []), "");
    }

    #[test]
    fn a_path_reads_like_the_file() {
        let path = Path::default().key("routes").position(2).key("to");
        assert_eq!(path.to_string(), "routes[2].to");
    }

    #[test]
    fn a_value_is_shown_short_and_on_one_line() {
        assert_eq!(shown("a\nb"), "`a\\nb`");
        assert!(shown(&"x".repeat(1000)).chars().count() < 70);
    }
}
