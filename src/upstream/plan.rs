//! What a configuration says about requests, compiled once for each configuration (pure).
//!
//! It names upstreams by position, so a change of endpoints leaves it as it is.

pub(crate) mod actions;

use std::borrow::Cow;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use meshless_discovery::Target;

use self::actions::{Actions, Limiters, MirrorPlan};
use super::logical::{Backends, Logical};
use super::tls::TlsClient;
use super::tree::Tree;
use crate::authorize::Allow;
use crate::config::{Config, Hedge, Mirror, Policies, Retry, RetryOverlay, Route, RouteAction, UpstreamTls};
use crate::route::{Captures, Facts, Lost, Router};
use crate::target::{Expression, Node, Split, Term, is_beside_us};

/// Ends the name of a route that sends copies for another one.
pub(crate) const MIRROR: &str = " mirror";

/// A compiled configuration.
#[derive(Debug, Default)]
pub(crate) struct Plan {
    pub(crate) upstreams: Vec<UpstreamPlan>,
    pub(crate) listeners: HashMap<String, Arc<ListenerPlan>>,
    pub(crate) logical: Logical,
    /// The gateway's own zone.
    pub(crate) zone: Option<Arc<str>>,
}

/// A service or an inline target, before its endpoints are known.
#[derive(Debug)]
pub(crate) struct UpstreamPlan {
    pub(crate) name: Arc<str>,
    pub(crate) policies: Arc<Policies>,
    pub(crate) tls: Option<Arc<TlsClient>>,
    pub(crate) from: Tree<Target>,
}

/// What a listener does with requests.
#[derive(Debug)]
pub(crate) struct ListenerPlan {
    /// Everything goes here, instead of routes.
    pub(crate) to: Option<RoutePlan>,
    /// Who may do what; `None`: whoever TLS lets in.
    pub(crate) allow: Option<Box<Allow>>,
    router: Router,
    routes: Vec<RoutePlan>,
}

/// Where a route leads.
#[derive(Debug, Clone)]
pub(crate) struct RoutePlan {
    pub(crate) name: Arc<str>,
    pub(crate) to: Tree<usize>,
    /// Wins over the service's.
    pub(crate) timeout: Option<Duration>,
    /// A listener's inline `to` of static targets: the application beside us. No status retry, no default timeout.
    pub(crate) is_local_hop: bool,
    /// What it does besides; an answer of its own wins over `to`.
    pub(crate) actions: Actions,
    retry: Option<RouteRetry>,
    hedge: RouteHedge,
}

/// Whether a route says something about hedging.
#[derive(Debug, Clone, Copy, PartialEq)]
enum RouteHedge {
    Never,
    OfService,
    Own(Hedge),
}

/// The retries of a route, which win over those of a service.
#[derive(Debug, Clone)]
struct RouteRetry {
    overlay: RetryOverlay,
    /// Laid over those of each service that the route names.
    resolved: Vec<(Arc<str>, Retry)>,
}

impl RoutePlan {
    /// A route that says nothing but where to.
    pub(crate) fn plain(name: &str, to: Tree<usize>) -> Self {
        Self {
            name: Arc::from(name),
            to,
            timeout: None,
            is_local_hop: false,
            actions: Actions::default(),
            retry: None,
            hedge: RouteHedge::OfService,
        }
    }

    /// Returns the hedging that is in force for an upstream.
    pub(crate) fn hedge(&self, policies: &Policies) -> Option<Hedge> {
        match self.hedge {
            RouteHedge::Never => None,
            RouteHedge::OfService => policies.hedge,
            RouteHedge::Own(hedge) => Some(hedge),
        }
    }

    /// Returns the retries that are in force for an upstream. Only where the route has some of its own, and the upstream
    /// is none of those that it names (an override), are they laid over each other now.
    pub(crate) fn retry<'a>(&'a self, upstream: &str, policies: &'a Policies) -> Cow<'a, Retry> {
        let Some(RouteRetry { overlay, resolved }) = &self.retry else { return Cow::Borrowed(&policies.retry) };
        match resolved.iter().find(|(name, _)| **name == *upstream) {
            Some((_, retry)) => Cow::Borrowed(retry),
            None => Cow::Owned(overlay.over(&policies.retry)),
        }
    }
}

impl RoutePlan {
    /// Returns how long a request may take until the head of its reply; `None`: silence alone bounds it.
    pub(crate) fn timeout_with(&self, policies: &Policies) -> Option<Duration> {
        self.timeout.or_else(|| (!self.is_local_hop).then_some(policies.timeout))
    }
}

impl ListenerPlan {
    /// Returns the route of a request, and what its path captured.
    pub(crate) fn route(&self, facts: &Facts<'_>) -> Option<(&RoutePlan, Captures)> {
        if let Some(to) = &self.to {
            return Some((to, Captures::default()));
        }
        let matched = self.router.route(facts)?;
        Some((self.routes.get(matched.position)?, matched.captures))
    }

    /// Returns its routes, in file order.
    pub(crate) fn routes(&self) -> &[RoutePlan] {
        &self.routes
    }

    /// Says of every route but the one that wins why it does not, with its position; of none where there is `to`.
    pub(crate) fn lost(&self, facts: &Facts<'_>) -> Vec<(usize, &RoutePlan, Lost)> {
        let lost = if self.to.is_some() { Vec::new() } else { self.router.explain(facts) };
        lost.into_iter().filter_map(|(position, why)| Some((position, self.routes.get(position)?, why))).collect()
    }

    /// Returns what the path of the route at a position captured, by name.
    pub(crate) fn captures(&self, position: usize, captures: &Captures, path: &str) -> BTreeMap<String, String> {
        let names = self.router.captures(position).into_iter().enumerate();
        names.map(|(index, name)| (name.to_owned(), captures.get(index, path).to_owned())).collect()
    }
}

impl Plan {
    /// Compiles a configuration. `tls` gives what was built for an upstream's TLS settings.
    pub(crate) fn new(config: &Config, tls: &mut dyn FnMut(&Policies) -> Option<Arc<TlsClient>>) -> Self {
        let mut builder =
            Builder { config, tls, upstreams: Vec::new(), positions: HashMap::new(), limiters: Limiters::default() };
        for service in config.services.values() {
            builder.service(&service.name);
        }
        let mut listeners = HashMap::new();
        for listener in &config.listeners {
            let to = listener.to.as_ref().map(|to| RoutePlan {
                is_local_hop: is_local_hop(to),
                ..RoutePlan::plain(&format!("{} to", listener.name), builder.destination(to))
            });
            let fitting: Vec<_> = config
                .routes
                .iter()
                .filter(|route| match &route.listener {
                    Some(name) => *name == listener.name,
                    None => listener.to.is_none() && listener.takes(route),
                })
                .collect();
            let routes = fitting.iter().map(|route| builder.route(route)).collect();
            let allow = Allow::new(listener).map(Box::new);
            let plan =
                ListenerPlan { to, allow, router: Router::new(fitting.iter().map(|route| &route.matches)), routes };
            listeners.insert(listener.name.clone(), Arc::new(plan));
        }
        let tls = builder.client(&config.defaults);
        let backends = Backends::new(config);
        let logical = Logical::new(&config.names, builder.positions, backends, &config.defaults, tls);
        let zone = config.node.zone.as_deref().map(Arc::from);
        Self { upstreams: builder.upstreams, listeners, logical, zone }
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
    limiters: Limiters,
}

impl Builder<'_> {
    fn route(&mut self, route: &Route) -> RoutePlan {
        let to = match &route.action {
            RouteAction::To(to) => self.destination(to),
            // Nobody asks it.
            RouteAction::Redirect(_) | RouteAction::Respond(_) => Tree::Tiers(Vec::new()),
        };
        let retry = route.retry.clone().map(|overlay| self.retry(overlay, &to));
        let mirror = route.mirror.as_ref().map(|mirror| self.mirror(&route.name, mirror));
        let actions = Actions::new(route, mirror, &mut self.limiters);
        let hedge = route.hedge.map_or(RouteHedge::OfService, RouteHedge::Own);
        RoutePlan { timeout: route.timeout, actions, retry, hedge, ..RoutePlan::plain(&route.name, to) }
    }

    fn mirror(&mut self, name: &str, mirror: &Mirror) -> MirrorPlan {
        let to = self.destination(&mirror.to);
        let body_limit = self.named_by(&to).map(|upstream| upstream.policies.retry.body_limit).min();
        // Nobody waits for a copy, so a second try would only be load.
        let once = RetryOverlay { attempts: Some(1), ..RetryOverlay::default() };
        let retry = self.retry(once, &to);
        let hedge = RouteHedge::Never;
        let route = RoutePlan { retry: Some(retry), hedge, ..RoutePlan::plain(&format!("{name}{MIRROR}"), to) };
        MirrorPlan { route, share: mirror.share, body_limit: body_limit.unwrap_or_default() }
    }

    fn retry(&self, overlay: RetryOverlay, to: &Tree<usize>) -> RouteRetry {
        let over = |upstream: &UpstreamPlan| (upstream.name.clone(), overlay.over(&upstream.policies.retry));
        let resolved = self.named_by(to).map(over).collect();
        RouteRetry { overlay, resolved }
    }

    fn named_by(&self, to: &Tree<usize>) -> impl Iterator<Item = &UpstreamPlan> {
        let mut positions = Vec::new();
        to.for_each(&mut |&position| positions.push(position));
        positions.into_iter().filter_map(|position| self.upstreams.get(position))
    }

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
        let mut policies = self.config.defaults.clone();
        // The checker lets such a target stand only where it is the application beside us, which knows no mesh.
        if matches!(policies.tls, UpstreamTls::Mesh { .. }) && is_beside_us(target) {
            policies.tls = UpstreamTls::Off;
        }
        self.add(name, policies, &from)
    }

    fn client(&mut self, policies: &Policies) -> Option<Arc<TlsClient>> {
        if policies.tls == UpstreamTls::Off { None } else { (self.tls)(policies) }
    }

    fn add(&mut self, name: String, policies: Policies, from: &Expression) -> usize {
        let tls = self.client(&policies);
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
