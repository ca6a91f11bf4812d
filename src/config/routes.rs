//! `[[routes]]`, checked.

use std::time::Duration;

use serde::Serialize;

use super::hedge::Hedge;
use super::units::print;
use super::{
    Fault, HeaderChanges, Listener, ListenerProtocol, Match, Mirror, RateLimit, RetryOverlay, Rewrite, RouteAction,
};

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// Its name; `route N` counted from 1 where none was given.
    pub name: String,
    /// The listener that it is for; `None`: every listener without `to`.
    pub listener: Option<String>,
    /// What it matches.
    #[serde(rename = "match")]
    pub matches: Match,
    /// Who answers.
    #[serde(flatten)]
    pub action: RouteAction,
    /// Wins over the service's.
    #[serde(serialize_with = "print::some_period")]
    pub timeout: Option<Duration>,
    /// Wins over the service's, key by key.
    pub retry: Option<RetryOverlay>,
    /// Wins over the service's.
    pub hedge: Option<Hedge>,
    /// Changes path or host.
    pub rewrite: Option<Rewrite>,
    /// Changes headers of the request.
    pub headers: HeaderChanges,
    /// Changes headers of the reply.
    pub response_headers: HeaderChanges,
    /// Sends a copy elsewhere.
    pub mirror: Option<Mirror>,
    /// Limits the rate.
    pub rate_limit: Option<RateLimit>,
    /// Injects faults.
    pub fault: Option<Fault>,
}

impl Route {
    /// Returns the first key that says what only an open HTTP request can have; on passed TLS there is no such thing.
    #[must_use]
    pub fn needs_http(&self) -> Option<&'static str> {
        let unchanged = HeaderChanges::default();
        let keys = [
            ("redirect", matches!(self.action, RouteAction::Redirect(_))),
            ("respond", matches!(self.action, RouteAction::Respond(_))),
            ("retry", self.retry.is_some()),
            ("hedge", self.hedge.is_some()),
            ("rewrite", self.rewrite.is_some()),
            ("headers", self.headers != unchanged),
            ("response_headers", self.response_headers != unchanged),
            ("mirror", self.mirror.is_some()),
            ("rate_limit", self.rate_limit.is_some()),
            ("fault", self.fault.is_some()),
        ];
        keys.into_iter().find_map(|(key, is_set)| is_set.then_some(key))
    }
}

impl Listener {
    /// Tells whether a route can be for it: what is passed on unopened has neither a path nor headers.
    #[must_use]
    pub fn takes(&self, route: &Route) -> bool {
        self.protocol != ListenerProtocol::TlsPassthrough
            || route.matches.needs_http().is_none() && route.needs_http().is_none()
    }
}
