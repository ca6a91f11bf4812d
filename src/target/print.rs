//! The canonical text of an expression.

use std::fmt;

use super::{Expression, Node, Split, Term};

impl fmt::Display for Expression {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(formatter, &self.tiers, " | ")
    }
}

impl fmt::Display for Split {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        joined(formatter, &self.terms, " & ")
    }
}

impl fmt::Display for Term {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.weight != 1 {
            write!(formatter, "{} * ", self.weight)?;
        }
        self.node.fmt(formatter)
    }
}

impl fmt::Display for Node {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Group(expression) => write!(formatter, "({expression})"),
            Self::Service(name) => formatter.write_str(name),
            Self::Target(target) => target.fmt(formatter),
        }
    }
}

fn joined<T: fmt::Display>(formatter: &mut fmt::Formatter<'_>, parts: &[T], between: &str) -> fmt::Result {
    for (position, part) in parts.iter().enumerate() {
        if position > 0 {
            formatter.write_str(between)?;
        }
        part.fmt(formatter)?;
    }
    Ok(())
}

impl serde::Serialize for Expression {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}
