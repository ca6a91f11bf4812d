//! Which route is for which listener, and what nothing can reach.

use super::Check;
use crate::config::problem::{At, Path, suggestion};
use crate::config::raw::{self, Raw};
use crate::config::{Listener, ListenerProtocol, Route, raw::ListenerProtocol as RawProtocol};
use crate::route::covers;

use super::process::is_local;

impl Check<'_> {
    pub(super) fn reach(&mut self, raw: &Raw, listeners: &[Option<Listener>], routes: &[Option<Route>]) {
        self.listeners_have_a_way_on(raw);
        self.routes_name_listeners(raw, listeners, routes);
        self.exposure(raw, listeners);
        self.routes_can_be_reached(raw, listeners, routes);
    }

    fn listeners_have_a_way_on(&mut self, raw: &Raw) {
        for (position, listener) in raw.listeners.iter().enumerate() {
            let path = Path::default().key("listeners").position(position);
            if listener.to.is_some() || self.wrong.contains(&path.key("to")) || self.wrong.contains(&path) {
                continue;
            }
            let name = name_of(listener);
            if listener.protocol == Some(RawProtocol::Tcp) {
                self.error(&path, At::Key, "a `tcp` listener needs `to`: there is nothing that routes could match");
            } else if raw.names.is_empty()
                && !raw.discovery.values().any(|backend| backend.routes == Some(true))
                && !raw.routes.iter().any(|route| route.listener.is_none() || route.listener.as_deref() == name)
            {
                self.error(&path, At::Key, "has neither `to` nor a route; add `to`, or [[routes]]");
            }
        }
    }

    fn routes_name_listeners(&mut self, raw: &Raw, listeners: &[Option<Listener>], routes: &[Option<Route>]) {
        for (position, route) in raw.routes.iter().enumerate() {
            let path = Path::default().key("routes").position(position);
            let Some(wanted) = route.listener.as_deref() else { continue };
            let Some(found) = raw.listeners.iter().find(|listener| name_of(listener) == Some(wanted)) else {
                // An address that is written differently is the same listener's name.
                if listeners.iter().flatten().any(|listener| listener.name == wanted) {
                    continue;
                }
                let names = raw.listeners.iter().filter_map(name_of);
                let message = format!("there is no listener `{}`{}", wanted.escape_debug(), suggestion(wanted, names));
                self.error(&path.key("listener"), At::Value, message);
                continue;
            };
            if found.to.is_some() {
                let message = format!("the listener `{wanted}` has `to`, which wins over routes");
                self.report.warning(&path.key("listener"), At::Value, message);
            } else if found.protocol == Some(RawProtocol::TlsPassthrough)
                && let Some(route) = routes.get(position).and_then(Option::as_ref)
            {
                if let Some(key) = route.matches.needs_http() {
                    let message = format!(
                        "the listener `{wanted}` does not open TLS and so sees no {key}; match `host` and `address` alone"
                    );
                    self.error(&path.key("match").key(key), At::Key, message);
                }
                if let Some(key) = route.needs_http() {
                    let message =
                        format!("the listener `{wanted}` does not open TLS and so sees no requests; remove `{key}`");
                    self.error(&path.key(key), At::Key, message);
                }
            }
        }
    }

    /// What is meant for the application on this host is easily opened to the world by a route without `listener`.
    fn exposure(&mut self, raw: &Raw, listeners: &[Option<Listener>]) {
        let open: Vec<String> = raw
            .routes
            .iter()
            .enumerate()
            .filter(|(_, route)| route.listener.is_none())
            .map(|(position, _)| format!("routes[{position}]"))
            .collect();
        if open.is_empty() {
            return;
        }
        for (position, listener) in listeners.iter().enumerate() {
            let Some(listener) = listener.as_ref().filter(|listener| takes_routes(listener)) else { continue };
            if is_local(&listener.listen) {
                continue;
            }
            let path = Path::default().key("listeners").position(position).key("listen");
            let message = format!(
                "is not on loopback, and routes without `listener` apply to it ({}); name its listener in each route",
                open.join(", ")
            );
            self.report.warning(&path, At::Value, message);
        }
    }

    fn routes_can_be_reached(&mut self, raw: &Raw, listeners: &[Option<Listener>], routes: &[Option<Route>]) {
        // With a listener missing here, every answer could be wrong.
        if raw.listeners.is_empty() || listeners.iter().any(Option::is_none) {
            return;
        }
        let listeners: Vec<&Listener> = listeners.iter().flatten().filter(|listener| takes_routes(listener)).collect();
        for (position, route) in routes.iter().enumerate() {
            let Some(route) = route else { continue };
            // A route to a listener with `to`, or to none, has been told already.
            let applies: Vec<_> = listeners.iter().filter(|listener| is_for(route, listener)).collect();
            let path = Path::default().key("routes").position(position);
            if applies.is_empty() {
                if route.listener.is_none() {
                    let message = "nothing can reach it: no listener without `to` takes it";
                    self.report.warning(&path, At::Key, message);
                }
                continue;
            }
            let earlier = routes.get(..position).unwrap_or_default();
            let wider = |listener: &Listener| {
                earlier.iter().position(|other| {
                    other
                        .as_ref()
                        .is_some_and(|other| is_for(other, listener) && covers(&other.matches, &route.matches))
                })
            };
            let hidden: Option<Vec<usize>> = applies.iter().map(|listener| wider(listener)).collect();
            if let Some(first) = hidden.and_then(|hidden| hidden.first().copied()) {
                let message =
                    format!("nothing can reach it: routes[{first}] stands before it and matches all that it matches");
                self.report.warning(&path, At::Key, message);
            }
        }
    }
}

fn name_of(listener: &raw::Listener) -> Option<&str> {
    listener.name.as_deref().or(listener.listen.as_deref())
}

pub(super) fn takes_routes(listener: &Listener) -> bool {
    listener.to.is_none() && listener.protocol != ListenerProtocol::Tcp
}

fn is_for(route: &Route, listener: &Listener) -> bool {
    let named = route.listener.as_deref().is_none_or(|name| name == listener.name);
    named && listener.takes(route)
}
