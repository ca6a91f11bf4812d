//! `[[routes]]`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use super::Check;
use super::targets::May;
use crate::config::problem::{At, Path, shown};
use crate::config::{HostMatch, PathMatch, Route, raw};

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
        let to = if let Some(text) = &raw.to {
            self.expression(text, &path.key("to"), May::NameServicesToo)
        } else {
            if !self.wrong.contains(path) {
                self.missing(&path.key("to"), "missing: say where requests go, such as `to = \"web\"`");
            }
            None
        };
        let timeout = self.some_positive(&path.key("timeout"), raw.timeout);
        let matches = raw.matches.clone().unwrap_or_default();
        let at = path.key("match");
        let host = matches.host.as_deref().map(|text| self.host(text, &at.key("host")));
        let wanted = match &matches.path {
            Some(raw::PathMatch::Text(text)) => Some(self.path(text, &at.key("path"))),
            None | Some(raw::PathMatch::Regex(_)) => None,
        };
        // Without what was wrong, it would match more than what was meant.
        if self.is_wrong(path)
            || host.as_ref().is_some_and(Option::is_none)
            || wanted.as_ref().is_some_and(Option::is_none)
        {
            return None;
        }
        Some(Route {
            name,
            listener: raw.listener.clone(),
            host: host.flatten(),
            path: wanted.flatten().filter(|path| *path != PathMatch::Prefix(String::new())),
            to: to?,
            timeout,
        })
    }

    fn host(&mut self, text: &str, path: &Path) -> Option<HostMatch> {
        let lower = text.to_ascii_lowercase();
        let (suffix, name) = lower.strip_prefix("*.").map_or((false, lower.as_str()), |name| (true, name));
        if is_host(name) && !(suffix && name.starts_with('[')) {
            return Some(if suffix { HostMatch::Suffix(format!(".{name}")) } else { HostMatch::Exact(lower) });
        }
        let hint = match text {
            "*" => "; without `host` a route matches every host",
            _ if text.contains("://") => "; a host has no scheme",
            _ if text.contains(':') => "; ports are ignored, leave it out",
            _ => "",
        };
        let message =
            format!("expected a host such as `api.example.com` or `*.example.com`, found {}{hint}", shown(text));
        self.error(path, At::Value, message);
        None
    }

    fn path(&mut self, text: &str, path: &Path) -> Option<PathMatch> {
        let (prefix, exact) = text.strip_suffix("/*").map_or((false, text), |prefix| (true, prefix));
        let problem = if !text.starts_with('/') {
            "; a path begins with `/`"
        } else if exact.contains(['{', '}']) {
            "; captures are not in this build yet"
        } else if exact.contains('*') {
            "; `*` stands at the end alone, after a `/`"
        } else if exact.contains(['?', '#']) {
            "; a path ends before `?` and `#`"
        } else if text.contains("//") || exact.split('/').any(|segment| segment == "." || segment == "..") {
            "; paths are matched after `//`, `.` and `..` are resolved, so it would match nothing"
        } else if !exact.bytes().all(|byte| byte.is_ascii_graphic())
            || exact.contains(['\\', '"', '<', '>', '^', '`', '|'])
        {
            "; write other characters percent-encoded"
        } else {
            let exact = exact.to_owned();
            return Some(if prefix { PathMatch::Prefix(exact) } else { PathMatch::Exact(exact) });
        };
        self.error(
            path,
            At::Value,
            format!("expected a path such as `/v1` or `/v1/*`, found {}{problem}", shown(text)),
        );
        None
    }
}

/// A name or an address as it may stand in a request, without port.
fn is_host(text: &str) -> bool {
    if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}
