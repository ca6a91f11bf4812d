//! What a route does with a request besides sending it on, compiled (pure).

use std::collections::HashMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, StatusCode};

use super::RoutePlan;
use crate::config::{Fault, HeaderChanges, Redirect, Respond, Rewrite, Route, RouteAction};
use crate::resilience::rate_limit::RateLimiter;

/// What a route does besides sending on. By default nothing.
#[derive(Debug, Clone, Default)]
pub(crate) struct Actions {
    pub(crate) rate_limit: Option<Arc<RateLimiter>>,
    pub(crate) fault: Option<Fault>,
    /// The route answers; nothing is sent on.
    pub(crate) answer: Option<Answer>,
    pub(crate) mirror: Option<Arc<MirrorPlan>>,
    pub(crate) rewrite: Option<Rewrite>,
    pub(crate) headers: HeaderChanges,
    pub(crate) response_headers: HeaderChanges,
}

/// An answer of a route.
#[derive(Debug, Clone)]
pub(crate) enum Answer {
    Redirect(Redirect),
    Respond { status: StatusCode, body: Bytes, content_type: HeaderValue },
}

/// Where copies go.
#[derive(Debug)]
pub(crate) struct MirrorPlan {
    /// Like any other route.
    pub(crate) route: RoutePlan,
    /// Of which share of requests, 0 to 1.
    pub(crate) share: f64,
    /// Largest body that is copied, in bytes: the least `retry.body_limit` of those that it may go to.
    pub(crate) body_limit: usize,
}

/// The limiters of a plan, one for each route that has a limit, whichever listeners it is for.
#[derive(Debug, Default)]
pub(super) struct Limiters(HashMap<String, Arc<RateLimiter>>);

impl Actions {
    /// Compiles what a route does. Mirrors lead to upstreams, which only the plan can name.
    pub(super) fn new(route: &Route, mirror: Option<MirrorPlan>, limiters: &mut Limiters) -> Self {
        Self {
            rate_limit: limiters.of(route),
            fault: route.fault.clone(),
            answer: match &route.action {
                RouteAction::To(_) => None,
                RouteAction::Redirect(redirect) => Some(Answer::Redirect(redirect.clone())),
                RouteAction::Respond(respond) => Some(Answer::respond(respond)),
            },
            mirror: mirror.map(Arc::new),
            rewrite: route.rewrite.clone(),
            headers: route.headers.clone(),
            response_headers: route.response_headers.clone(),
        }
    }
}

impl Answer {
    fn respond(respond: &Respond) -> Self {
        let first = respond.body.trim_start().chars().next();
        let is_json =
            matches!(first, Some('{' | '[')) && serde_json::from_str::<serde::de::IgnoredAny>(&respond.body).is_ok();
        let content_type = if is_json { "application/json" } else { "text/plain; charset=utf-8" };
        Self::Respond {
            status: respond.status,
            body: Bytes::from(respond.body.clone()),
            content_type: HeaderValue::from_static(content_type),
        }
    }
}

impl Limiters {
    fn of(&mut self, route: &Route) -> Option<Arc<RateLimiter>> {
        let settings = route.rate_limit.as_ref()?;
        let limiter = self.0.entry(route.name.clone()).or_insert_with(|| Arc::new(RateLimiter::new(settings.clone())));
        Some(limiter.clone())
    }
}

impl super::Plan {
    /// Takes over what the rate limits of an earlier plan have counted, where the route of that name has the same limit
    /// still. Before the plan is in force.
    pub(crate) fn take_counts_of(&mut self, before: &Self) {
        let limits = |plan: &Self| -> HashMap<Arc<str>, Arc<RateLimiter>> {
            let routes = plan.listeners.values().flat_map(|listener| &listener.routes);
            routes.filter_map(|route| Some((route.name.clone(), route.actions.rate_limit.clone()?))).collect()
        };
        let counted = limits(before);
        if counted.is_empty() {
            return;
        }
        // Nobody else has a plan that was just made.
        for listener in self.listeners.values_mut().filter_map(Arc::get_mut) {
            for route in &mut listener.routes {
                if let Some(limit) = &mut route.actions.rate_limit
                    && let Some(known) = counted.get(&route.name).filter(|known| known.is_for(limit.settings()))
                {
                    *limit = known.clone();
                }
            }
        }
    }
}
