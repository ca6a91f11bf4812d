//! A target: one thing to look up in one backend.

use std::collections::BTreeMap;
use std::fmt;

use crate::TargetError;

/// One thing to look up in one backend, such as `consul/web[tag=blue]`.
///
/// The path is everything between the first `/` and the options, a port included: each backend has its own grammar for
/// it (`static/[::1]:80` is an address, `ecs/prod/web:http` ends in the name of a port).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Target {
    /// Name of the backend, the table's name in `[discovery.NAME]`.
    pub backend: String,
    /// What to look up there.
    pub path: String,
    /// Options in brackets.
    pub options: BTreeMap<String, String>,
}

impl Target {
    /// Returns an error that names the first option, for a backend that knows none.
    pub(crate) fn refuse_options(&self) -> Result<(), TargetError> {
        match self.options.keys().next() {
            Some(option) => Err(TargetError(format!(
                "target `{self}`: option `{option}` is not known to backend `{}`, which has none; remove the brackets",
                self.backend
            ))),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.backend, self.path)?;
        for (position, (key, value)) in self.options.iter().enumerate() {
            write!(formatter, "{}{key}={value}", if position == 0 { "[" } else { "," })?;
        }
        if self.options.is_empty() { Ok(()) } else { formatter.write_str("]") }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_printed_as_it_is_written() {
        let mut target = Target { backend: "consul".to_owned(), path: "web".to_owned(), options: BTreeMap::new() };
        assert_eq!(target.to_string(), "consul/web");
        target.options.insert("tag".to_owned(), "blue".to_owned());
        target.options.insert("dc".to_owned(), "eu".to_owned());
        assert_eq!(target.to_string(), "consul/web[dc=eu,tag=blue]");
    }
}
