//! A target: one thing to look up in one backend.

use std::collections::BTreeMap;
use std::fmt;

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

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}/{}", self.backend, self.path)?;
        for (position, (key, value)) in self.options.iter().enumerate() {
            write!(formatter, "{}{key}={value}", if position == 0 { "[" } else { "," })?;
        }
        if self.options.is_empty() { Ok(()) } else { formatter.write_str("]") }
    }
}
