//! Target expressions where they are used: do the names in them stand for anything?

use std::collections::BTreeSet;
use std::net::SocketAddr;

use meshless_discovery::Target;

use super::{Check, process};
use crate::config::problem::{At, Path, shown, suggestion};
use crate::target::{Expression, Node, is_name};

/// Greatest weight of one endpoint of a `static` target.
const MAX_WEIGHT: u32 = 100_000;

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
            return static_problem(target);
        }
        if self.has_key("discovery", name) {
            return file_problem(target);
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

/// Every backend with a table is a `file` one in this build.
fn file_problem(target: &Target) -> Option<String> {
    if let Some(option) = target.options.keys().next() {
        return Some(format!("`{target}` takes no options, found `{option}`"));
    }
    let message = || format!("expected the name of a service in the files, found {}", shown(&target.path));
    (!is_name(&target.path)).then(message)
}

/// A target that cannot be opened is told here with its place, not at start.
fn static_problem(target: &Target) -> Option<String> {
    if let Some(option) = target.options.keys().next() {
        return Some(format!("`static` takes no options, found `{option}`"));
    }
    let mut seen = BTreeSet::new();
    target.path.split(',').find_map(|part| {
        let (address, weight) = part.split_once('*').unwrap_or((part, "1"));
        if !weight.parse::<u32>().is_ok_and(|weight| weight <= MAX_WEIGHT) {
            return Some(format!("expected a weight from 0 to {MAX_WEIGHT}, found {}", shown(weight)));
        }
        let fits = match address.strip_prefix("unix:") {
            Some(socket) => socket.starts_with('/') && socket.len() <= process::MAX_SOCKET_PATH,
            None => address.parse::<SocketAddr>().is_ok_and(|address| {
                address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()
            }),
        };
        if !fits {
            let found = shown(address);
            let expected = "an IP address and a port such as `127.0.0.1:8080`, or `unix:/path`";
            return Some(format!("expected {expected}, found {found}"));
        }
        let twice = !seen.insert(address);
        twice.then(|| format!("{} stands there twice; give it a weight instead", shown(address)))
    })
}
