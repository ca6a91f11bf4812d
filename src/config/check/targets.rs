//! Target expressions where they are used: do the names in them stand for anything?

use meshless_discovery::{
    CloudmapConfig, Config as Backend, ConsulConfig, DnsConfig, EcsConfig, KubernetesConfig, Target,
};

use super::{Check, discovery};
use crate::config::document::{Node as TreeNode, Tree};
use crate::config::problem::{At, Path, Step, suggestion};
use crate::names::Pattern;
use crate::target::{Expression, Node};

/// What an expression may name.
#[derive(Debug, Clone, Copy)]
pub(super) enum May<'a> {
    /// `to`.
    ServicesToo,
    /// `target` of a name: the services that have no capture in them are known.
    Captures { pattern: &'a Pattern },
    /// `from` of this service.
    TargetsOnly { service: &'a str },
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
        self.leaves(&parsed, text, path, may).then_some(parsed)
    }

    /// Looks up every name of an expression; reports all that are wrong, at their places in `text`.
    pub(super) fn leaves(&mut self, parsed: &Expression, text: &str, path: &Path, may: May<'_>) -> bool {
        let mut right = true;
        for leaf in parsed.leaves() {
            let problem = match leaf {
                Node::Service(name) => self.service_problem(name, may),
                Node::Target(target) => match may {
                    May::Captures { pattern } => self.sampled_problem(target, pattern),
                    _ => self.target_problem(target),
                },
                // Leaves are not groups.
                Node::Group(_) => None,
            };
            if let Some(message) = problem {
                let offset = text.find(&leaf.to_string()).unwrap_or_default();
                self.error(path, At::Offset(offset), message);
                right = false;
            }
        }
        right
    }

    fn service_problem(&self, name: &str, may: May<'_>) -> Option<String> {
        match may {
            May::TargetsOnly { service } if service == name => {
                Some(format!("`{name}` is this service itself; `from` takes targets such as `static/127.0.0.1:8080`"))
            }
            May::TargetsOnly { .. } => Some(format!(
                "`{name}` is not a target; `from` takes targets such as `static/127.0.0.1:8080`, not services"
            )),
            May::Captures { .. } if name.contains('{') => None,
            May::ServicesToo | May::Captures { .. } if self.has_key("services", name) => None,
            May::ServicesToo | May::Captures { .. } => {
                let services = self.keys_of("services");
                if services.is_empty() {
                    return Some(format!("there is no service `{name}`; add [services.{name}]"));
                }
                Some(format!("there is no service `{name}`{}", suggestion(name, services.iter().map(String::as_str))))
            }
        }
    }

    /// What stands in a capture's place is known only when a request comes: a name or a number will do here.
    fn sampled_problem(&self, target: &Target, pattern: &Pattern) -> Option<String> {
        // The parser knows `dns/`; a table may give it another name.
        if self.type_of(&target.backend) == "dns" && target.to_string().contains('{') {
            let name = &target.backend;
            return Some(format!(
                "a capture cannot stand in `{name}/`, which is DNS: whoever sends a request would choose the address; \
                 name a backend that knows the endpoints"
            ));
        }
        let filled = |sample: &str| {
            let fill = |text: &str| {
                pattern.captures().fold(text.to_owned(), |text, name| text.replace(&format!("{{{name}}}"), sample))
            };
            Target {
                backend: target.backend.clone(),
                path: fill(&target.path),
                options: target.options.iter().map(|(key, value)| (key.clone(), fill(value))).collect(),
            }
        };
        let problem = self.target_problem(&filled("a"))?;
        self.target_problem(&filled("1")).map(|_| problem)
    }

    fn target_problem(&self, target: &Target) -> Option<String> {
        let name = target.backend.as_str();
        if name == "static" {
            return problem(&Backend::Static, target);
        }
        let has_table = self.has_key("discovery", name);
        let kind = self.type_of(name);
        // What a table without the backend is told is said once, at the table.
        if !Backend::is_built(kind) && (has_table || kind == "dns") {
            return (!has_table).then(|| format!("this build has no `{kind}` backend, which `{target}` needs"));
        }
        // Where the backend is does not matter here. `dns` needs no table.
        let of_kind = match kind {
            "cloudmap" => Backend::Cloudmap(CloudmapConfig::default()),
            "consul" => Backend::Consul(ConsulConfig::default()),
            "dns" => Backend::Dns(DnsConfig::default()),
            "ecs" => Backend::Ecs(EcsConfig::default()),
            "kubernetes" => Backend::Kubernetes(KubernetesConfig::default()),
            _ => Backend::File { path: "/".into() },
        };
        if has_table || kind == "dns" {
            return problem(&of_kind, target);
        }
        if discovery::is_kind(name) {
            let with = if name == "file" { " with a `path`" } else { "" };
            return Some(format!("the backend `{name}` needs a table: add [discovery.{name}]{with}"));
        }
        let backends = self.keys_of("discovery");
        let known = backends.iter().map(String::as_str).chain(["static", "dns"]);
        Some(format!("there is no backend `{name}`; add [discovery.{name}]{}", suggestion(name, known)))
    }

    /// The type of a backend: what its table says, else its name.
    fn type_of<'a>(&'a self, name: &'a str) -> &'a str {
        let below = |tree: &'a Tree, key: &str| tree.child(&Step::Key(key.to_owned()));
        let table = below(self.tree, "discovery").and_then(|tables| below(tables, name));
        match table.and_then(|table| below(table, "type")).map(|kind| &kind.node) {
            Some(TreeNode::Text(kind)) => kind,
            _ => name,
        }
    }
}

/// A target that cannot be opened is told here with its place, not at start.
fn problem(backend: &Backend, target: &Target) -> Option<String> {
    meshless_discovery::check(&target.backend, backend, target).err().map(|error| error.to_string())
}
