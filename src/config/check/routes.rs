//! `[[routes]]`.

use std::collections::BTreeMap;

use super::Check;
use super::targets::May;
use crate::config::problem::{At, Path};
use crate::config::{Route, RouteAction, raw};

impl Check<'_> {
    /// Checks every route; one that is wrong is `None`, so that the others keep their positions.
    pub(super) fn routes(&mut self, raw: &[raw::Route]) -> Vec<Option<Route>> {
        let mut names: BTreeMap<String, usize> = BTreeMap::new();
        let mut routes = Vec::new();
        for (position, table) in raw.iter().enumerate() {
            let path = Path::default().key("routes").position(position);
            let name = table.name.clone().unwrap_or_else(|| format!("route {}", position + 1));
            if name.is_empty() {
                self.error(&path.key("name"), At::Value, "expected a name, found nothing");
            }
            if let Some(first) = names.insert(name.clone(), position) {
                self.error(
                    &path.key("name"),
                    At::Value,
                    format!("routes[{first}] has this name already; names are unique"),
                );
            }
            routes.push(self.route(table, name, &path));
        }
        routes
    }

    fn route(&mut self, raw: &raw::Route, name: String, path: &Path) -> Option<Route> {
        let matches = self.matches(raw.matches.as_ref(), &path.key("match"));
        // Of a path that was refused nobody knows what it captures: then captures are not looked at.
        let captures =
            matches.as_ref().map(|matches| matches.path.as_ref().map(|path| path.captures()).unwrap_or_default());
        let captures = captures.as_deref();
        let action = self.action(raw, captures, path);
        let timeout = self.some_positive(&path.key("timeout"), raw.timeout);
        let hedge = self.hedge(raw.hedge.as_ref(), None, &path.key("hedge"));
        let retry = raw.retry.as_ref().map(|retry| self.route_retry(retry, &path.key("retry")));
        let rewrite = raw.rewrite.as_ref().map(|rewrite| self.rewrite(rewrite, captures, &path.key("rewrite")));
        let headers = self.header_changes(raw.headers.as_ref(), &path.key("headers"));
        let response_headers = self.header_changes(raw.response_headers.as_ref(), &path.key("response_headers"));
        let mirror = raw.mirror.as_ref().map(|mirror| self.mirror(mirror, &path.key("mirror")));
        let rate_limit = raw.rate_limit.as_ref().map(|limit| self.rate_limit(limit, &path.key("rate_limit")));
        let fault = raw.fault.as_ref().map(|fault| self.fault(fault, &path.key("fault")));
        // Without what was wrong, it would match more, or do less, than what was meant.
        if self.is_wrong(path) {
            return None;
        }
        Some(Route {
            name,
            listener: raw.listener.clone(),
            action: action?,
            timeout,
            retry,
            hedge,
            rewrite: all_or_none(rewrite)?,
            headers: headers?,
            response_headers: response_headers?,
            mirror: all_or_none(mirror)?,
            rate_limit: all_or_none(rate_limit)?,
            fault: all_or_none(fault)?,
            matches: matches?,
        })
    }

    /// Exactly one of `to`, `redirect` and `respond`.
    fn action(&mut self, raw: &raw::Route, captures: Option<&[&str]>, path: &Path) -> Option<RouteAction> {
        let keys = [("to", raw.to.is_some()), ("redirect", raw.redirect.is_some()), ("respond", raw.respond.is_some())];
        let mut set = keys.iter().filter(|(_, is_set)| *is_set).map(|(key, _)| *key);
        let (first, second) = (set.next(), set.next());
        if let (Some(first), Some(second)) = (first, second) {
            let message = format!("the route has `{first}` already; keep one of `to`, `redirect` and `respond`");
            self.error(&path.key(second), At::Key, message);
            return None;
        }
        if first.is_some_and(|first| first != "to") {
            let idle = [
                ("timeout", raw.timeout.is_some()),
                ("retry", raw.retry.is_some()),
                ("hedge", raw.hedge.is_some()),
                ("rewrite", raw.rewrite.is_some()),
                ("headers", raw.headers.is_some()),
                ("mirror", raw.mirror.is_some()),
            ];
            for (key, _) in idle.into_iter().filter(|(_, is_set)| *is_set) {
                let first = first.unwrap_or_default();
                self.error(&path.key(key), At::Key, format!("nothing is sent on by a route with `{first}`; remove it"));
            }
        }
        match raw {
            raw::Route { to: Some(to), .. } => self.destination(to, &path.key("to")).map(RouteAction::To),
            raw::Route { redirect: Some(redirect), .. } => {
                self.redirect(redirect, captures, &path.key("redirect")).map(RouteAction::Redirect)
            }
            raw::Route { respond: Some(respond), .. } => {
                self.respond(respond, &path.key("respond")).map(RouteAction::Respond)
            }
            _ => {
                let refused = ["to", "redirect", "respond"].iter().any(|key| self.is_wrong(&path.key(key)));
                if !refused && !self.wrong.contains(path) {
                    let message = "missing: say where requests go, such as `to = \"web\"`, or `redirect`, or `respond`";
                    self.missing(&path.key("to"), message);
                }
                None
            }
        }
    }

    /// Captures choose targets only under `[[names]]`, where what they may stand for is bounded.
    pub(super) fn destination(&mut self, text: &str, path: &Path) -> Option<crate::target::Expression> {
        if let Some(offset) = text.find(['{', '}']) {
            let message = "captures choose targets in `target` of [[names]] alone; name the targets here";
            self.error(path, At::Offset(offset), message);
            return None;
        }
        self.expression(text, path, May::ServicesToo)
    }
}

/// A key that is there must be right; one that is not there needs nothing.
#[allow(clippy::option_option, reason = "whether it stands there, and whether it is right")]
pub(super) fn all_or_none<T>(checked: Option<Option<T>>) -> Option<Option<T>> {
    match checked {
        None => Some(None),
        Some(value) => value.map(Some),
    }
}
