//! What a configuration says about logical names, compiled with the plan (pure).

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use meshless_discovery::Target;

use super::plan::{RoutePlan, UpstreamPlan};
use super::tls::TlsClient;
use super::tree::Tree;
use crate::config::{Backend, Config, Policies};
use crate::names::Rule;
use crate::overrides::Known;
use crate::target::{Expression, Node};

/// Name in metrics of a target that an override names and the configuration does not: what a client writes never
/// becomes a label.
pub(crate) const OVERRIDE: &str = "(override)";

/// The rules of `[[names]]`, and what they and overrides need of the rest of the plan.
#[derive(Debug, Default)]
pub(crate) struct Logical {
    rules: Vec<RulePlan>,
    /// Upstreams of the plan by service or by target as it prints.
    positions: HashMap<String, usize>,
    backends: Backends,
    policies: Arc<Policies>,
    tls: Option<Arc<TlsClient>>,
}

/// The backends of a configuration, as overrides see them.
#[derive(Debug, Default)]
pub(super) struct Backends {
    /// Endpoints are known by names.
    by_name: HashSet<String>,
    /// Targets are addresses, or names of DNS; beside `static` and `dns` themselves.
    by_address: HashSet<String>,
}

impl Backends {
    pub(super) fn new(config: &Config) -> Self {
        let mut backends = Self::default();
        for (name, backend) in &config.discovery {
            match backend {
                Backend::Dns(_) => backends.by_address.insert(name.clone()),
                Backend::Cloudmap(_)
                | Backend::Consul(_)
                | Backend::Ecs(_)
                | Backend::File { .. }
                | Backend::Kubernetes(_) => backends.by_name.insert(name.clone()),
            };
        }
        backends
    }
}

/// One rule, and the route that its names take.
#[derive(Debug)]
pub(crate) struct RulePlan {
    pub(crate) rule: Rule,
    /// Named after the pattern; where it leads is another thing for each name.
    pub(crate) route: RoutePlan,
}

/// What a host stands for.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Bound {
    /// Position of the rule.
    pub(crate) rule: usize,
    pub(crate) expression: Expression,
}

impl Logical {
    /// Compiles rules. `positions` are the plan's, `policies` and `tls` those of inline targets.
    pub(super) fn new(
        rules: &[Rule],
        positions: HashMap<String, usize>,
        backends: Backends,
        policies: &Policies,
        tls: Option<Arc<TlsClient>>,
    ) -> Self {
        let rules = rules.iter().map(|rule| {
            let route = RoutePlan::plain(&rule.pattern.to_string(), Tree::Split(Vec::new()));
            RulePlan { rule: rule.clone(), route }
        });
        Self { rules: rules.collect(), positions, backends, policies: Arc::new(policies.clone()), tls }
    }

    /// Returns a rule.
    pub(crate) fn rule(&self, position: usize) -> Option<&RulePlan> {
        self.rules.get(position)
    }

    /// Says whether a normal host is a logical name.
    pub(crate) fn has(&self, host: &str) -> bool {
        self.rules.iter().any(|one| one.rule.pattern.matches(host))
    }

    /// Returns what a normal host stands for, by the first rule that matches it.
    pub(crate) fn bind(&self, host: &str) -> Option<Bound> {
        self.rules.iter().enumerate().find_map(|(rule, one)| {
            let expression = one.rule.bind(host)?;
            Some(Bound { rule, expression })
        })
    }

    /// Returns the position of a service, or of a target that stands in the configuration inline.
    pub(crate) fn position(&self, node: &Node) -> Option<usize> {
        match node {
            Node::Service(name) => self.positions.get(name).copied(),
            Node::Target(target) => self.positions.get(&target.to_string()).copied(),
            Node::Group(_) => None,
        }
    }

    /// Says which service of an expression there is not.
    pub(crate) fn unknown_service<'a>(&self, expression: &'a Expression) -> Option<&'a str> {
        expression.services().find(|name| !self.positions.contains_key(*name))
    }

    /// Plans an upstream that the configuration does not name.
    pub(crate) fn upstream(&self, name: Arc<str>, target: Target) -> UpstreamPlan {
        UpstreamPlan { name, policies: self.policies.clone(), tls: self.tls.clone(), from: Tree::Leaf(target) }
    }
}

impl Known for Logical {
    fn has_service(&self, name: &str) -> bool {
        // A target as it prints has a `/`, a service's name has none.
        !name.contains('/') && self.positions.contains_key(name)
    }

    fn name(&self, host: &str) -> Option<Expression> {
        let bound = self.bind(host)?;
        self.unknown_service(&bound.expression).is_none().then_some(bound.expression)
    }

    fn has_backend(&self, name: &str) -> bool {
        self.backends.by_name.contains(name)
    }

    fn is_for_addresses(&self, backend: &str) -> bool {
        matches!(backend, "static" | "dns") || self.backends.by_address.contains(backend)
    }

    fn has_target(&self, target: &Target) -> bool {
        self.positions.contains_key(&target.to_string())
    }
}
