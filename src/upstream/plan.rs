//! What a configuration says about requests, compiled once for each configuration (pure).
//!
//! It names upstreams by position, so a change of endpoints leaves it as it is.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use meshless_discovery::Target;

use super::tree::Tree;
use crate::config::{Config, Policies, UpstreamTls};
use crate::route::Router;
use crate::target::{Expression, Node, Split, Term};

/// A compiled configuration.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) listeners: HashMap<String, Arc<ListenerPlan>>,
}

/// A service or an inline target, before its endpoints are known.
#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    pub(crate) name: Arc<str>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) tls: Option<Arc<TlsClient>>,
    pub(crate) from: Tree<Target>,
}

/// TLS to an upstream: built outside, because it reads files.
#[derive(Debug)]
pub(crate) struct TlsClient {
    /// Without ALPN.
    pub(crate) bytes: Arc<rustls::ClientConfig>,
    /// ALPN h2 and http/1.1.
    pub(crate) either: Arc<rustls::ClientConfig>,
    /// ALPN http/1.1 alone.
    pub(crate) http1: Arc<rustls::ClientConfig>,
    /// ALPN h2 alone.
    pub(crate) http2: Arc<rustls::ClientConfig>,
    /// Name to ask for and to check; `None`: the endpoint's address.
    pub(crate) server_name: Option<rustls::pki_types::ServerName<'static>>,
}

/// What a listener does with requests.
#[derive(Debug)]
pub(crate) struct ListenerPlan {
    /// Everything goes here, instead of routes.
    pub(crate) to: Option<RoutePlan>,
    router: Router,
    routes: Vec<RoutePlan>,
}

/// Where a route leads.
#[derive(Debug)]
pub(crate) struct RoutePlan {
    pub(crate) name: Arc<str>,
    pub(crate) to: Tree<usize>,
    /// Wins over the service's.
    pub(crate) timeout: Option<Duration>,
    /// A listener's inline `to` of static targets: the application beside us. No status retry, no default timeout.
    pub(crate) is_local_hop: bool,
}

impl ListenerPlan {
    /// Returns the route of a request. `path` has no query.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<&RoutePlan> {
        match &self.to {
            Some(to) => Some(to),
            None => self.routes.get(self.router.route(host, path)?),
        }
    }
}

impl Plan {
    /// Compiles a configuration. `tls` gives what was built for an upstream's TLS settings.
    pub(crate) fn new(config: &Config, tls: &mut dyn FnMut(&Policies) -> Option<Arc<TlsClient>>) -> Self {
        let mut builder = Builder { config, tls, upstreams: Vec::new(), positions: HashMap::new() };
        for service in config.services.values() {
            builder.service(&service.name);
        }
        let mut listeners = HashMap::new();
        for listener in &config.listeners {
            let to = listener.to.as_ref().map(|to| RoutePlan {
                name: Arc::from(format!("{} to", listener.name)),
                is_local_hop: is_local_hop(to),
                to: builder.destination(to),
                timeout: None,
            });
            let fitting: Vec<_> = config
                .routes
                .iter()
                .filter(|route| match &route.listener {
                    Some(name) => *name == listener.name,
                    None => listener.to.is_none(),
                })
                .collect();
            let routes = fitting
                .iter()
                .map(|route| RoutePlan {
                    name: Arc::from(route.name.as_str()),
                    to: builder.destination(&route.to),
                    timeout: route.timeout,
                    is_local_hop: false,
                })
                .collect();
            let plan = ListenerPlan { to, router: Router::new(fitting), routes };
            listeners.insert(listener.name.clone(), Arc::new(plan));
        }
        Self { upstreams: builder.upstreams, listeners }
    }

    /// Returns every target that an upstream names, without repetition.
    pub(crate) fn targets(&self) -> Vec<Target> {
        let mut targets = Vec::new();
        for upstream in &self.upstreams {
            upstream.from.for_each(&mut |target| targets.push(target.clone()));
        }
        targets.sort();
        targets.dedup();
        targets
    }
}

fn is_local_hop(to: &Expression) -> bool {
    let mut all_static = true;
    for term in to.tiers.iter().flat_map(|tier| &tier.terms) {
        all_static &= match &term.node {
            Node::Target(target) => target.backend == "static",
            Node::Group(inner) => is_local_hop(inner),
            Node::Service(_) => false,
        };
    }
    all_static
}

struct Builder<'a> {
    config: &'a Config,
    tls: &'a mut dyn FnMut(&Policies) -> Option<Arc<TlsClient>>,
    upstreams: Vec<UpstreamPlan>,
    positions: HashMap<String, usize>,
}

impl Builder<'_> {
    fn destination(&mut self, to: &Expression) -> Tree<usize> {
        Tree::build(to, &mut |node| match node {
            Node::Service(name) => self.service(name),
            Node::Target(target) => self.inline(target),
            // `Tree::build` opens groups itself.
            Node::Group(_) => usize::MAX,
        })
    }

    /// A service that is not defined was refused by the checker; here it would have no endpoints.
    fn service(&mut self, name: &str) -> usize {
        if let Some(&position) = self.positions.get(name) {
            return position;
        }
        let Some(service) = self.config.services.get(name) else { return usize::MAX };
        self.add(name.to_owned(), service.policies.clone(), &service.from)
    }

    fn inline(&mut self, target: &Target) -> usize {
        let name = target.to_string();
        if let Some(&position) = self.positions.get(&name) {
            return position;
        }
        let term = Term { weight: 1, node: Node::Target(target.clone()) };
        let from = Expression { tiers: vec![Split { terms: vec![term] }] };
        self.add(name, self.config.defaults.clone(), &from)
    }

    fn add(&mut self, name: String, policies: Policies, from: &Expression) -> usize {
        let tls = if policies.tls == UpstreamTls::Off { None } else { (self.tls)(&policies) };
        let from = Tree::build(from, &mut |node| match node {
            Node::Target(target) => target.clone(),
            // `from` takes targets only; the checker refuses the rest.
            Node::Service(name) => {
                Target { backend: "static".to_owned(), path: name.clone(), options: BTreeMap::default() }
            }
            Node::Group(_) => {
                Target { backend: "static".to_owned(), path: String::new(), options: BTreeMap::default() }
            }
        });
        let position = self.upstreams.len();
        self.upstreams.push(UpstreamPlan { name: Arc::from(name.as_str()), policies: Arc::new(policies), tls, from });
        self.positions.insert(name, position);
        position
    }
}
