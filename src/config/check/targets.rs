//! Target expressions where they are used: do the names in them stand for anything?

use meshless_discovery::{Config as Backend, Target};

use super::{Check, process};
use crate::config::problem::{At, Path, suggestion};
use crate::target::{Expression, Node};

/// What an expression may name.
#[derive(Debug, Clone, Copy)]
pub(super) enum May<'a> {
    /// `to`.
    NameServicesToo,
    /// `from` of this service.
    NameTargetsOnly { service: &'a str },
}

impl Check<'_> {
    /// Parses an expression and looks up every name in it; reports all that is wrong with it.
    pub(super) fn expression(&mut self, text: &str, path: &Path, may: May<'_>) -> Option<Expression> {
        let parsed = match Expression::parse(text) {
            Ok(parsed) => parsed,
            Err(error) => {
                self.error(path, At::Offset(error.offset), format!("{} (byte {})", error.message, error.offset));
                return None;
            }
        };
        let mut right = true;
        for leaf in parsed.leaves() {
            let problem = match leaf {
                Node::Service(name) => self.service_problem(name, may),
                Node::Target(target) => self.target_problem(target),
                // Leaves are not groups.
                Node::Group(_) => None,
            };
            if let Some(message) = problem {
                let offset = text.find(&leaf.to_string()).unwrap_or_default();
                self.error(path, At::Offset(offset), message);
                right = false;
            }
        }
        right.then_some(parsed)
    }

    fn service_problem(&self, name: &str, may: May<'_>) -> Option<String> {
        match may {
            May::NameTargetsOnly { service } if service == name => {
                Some(format!("`{name}` is this service itself; `from` takes targets such as `static/127.0.0.1:8080`"))
            }
            May::NameTargetsOnly { .. } => Some(format!(
                "`{name}` is not a target; `from` takes targets such as `static/127.0.0.1:8080`, not services"
            )),
            May::NameServicesToo if self.has_key("services", name) => None,
            May::NameServicesToo => {
                let services = self.keys_of("services");
                if services.is_empty() {
                    return Some(format!("there is no service `{name}`; add [services.{name}]"));
                }
                Some(format!("there is no service `{name}`{}", suggestion(name, services.iter().map(String::as_str))))
            }
        }
    }

    fn target_problem(&self, target: &Target) -> Option<String> {
        let name = target.backend.as_str();
        if name == "static" {
            return problem(&Backend::Static, target);
        }
        if self.has_key("discovery", name) {
            // Every backend with a table is a `file` one in this build; where its files are does not matter here.
            return problem(&Backend::File { path: "/".into() }, target);
        }
        if process::is_later(name) {
            return Some(format!("the backend `{name}` is not in this build yet; it has `static` and `file`"));
        }
        if name == "file" {
            return Some("the backend `file` needs a table: add [discovery.file] with a `path`".to_owned());
        }
        let backends = self.keys_of("discovery");
        let known = backends.iter().map(String::as_str).chain(["static"]);
        Some(format!("there is no backend `{name}`; add [discovery.{name}]{}", suggestion(name, known)))
    }
}

/// A target that cannot be opened is told here with its place, not at start.
fn problem(backend: &Backend, target: &Target) -> Option<String> {
    meshless_discovery::check(&target.backend, backend, target).err().map(|error| error.to_string())
}
