//! Routes compiled to a matcher whose cost does not grow with their number (pure).
//!
//! The first route that matches wins, in file order. Hosts and paths are looked up in maps: one probe for the host and
//! each of its suffixes, one for the path and each of its prefixes; of all that match, the one with the lowest position
//! is the first in the file.

use std::collections::HashMap;

use crate::config::{HostMatch, PathMatch, Route};

/// Routes of one listener.
#[derive(Debug, Default)]
pub(crate) struct Router {
    any_host: Paths,
    exact_hosts: HashMap<String, Paths>,
    /// By suffix, with its dot.
    host_suffixes: HashMap<String, Paths>,
}

/// Positions of routes by path.
#[derive(Debug, Default)]
struct Paths {
    any: Option<usize>,
    exact: HashMap<String, usize>,
    prefixes: HashMap<String, usize>,
}

impl Router {
    /// Compiles routes; a match is the position in `routes`.
    pub(crate) fn new<'a>(routes: impl IntoIterator<Item = &'a Route>) -> Self {
        let mut compiled = Self::default();
        for (position, route) in routes.into_iter().enumerate() {
            let paths = match &route.host {
                None => &mut compiled.any_host,
                Some(HostMatch::Exact(host)) => compiled.exact_hosts.entry(host.clone()).or_default(),
                Some(HostMatch::Suffix(suffix)) => compiled.host_suffixes.entry(suffix.clone()).or_default(),
            };
            paths.add(route.path.as_ref(), position);
        }
        compiled
    }

    /// Returns the position of the first route that matches. `host` may have a port and upper-case letters; `path` has no
    /// query.
    pub(crate) fn route(&self, host: &str, path: &str) -> Option<usize> {
        let mut best = self.any_host.first(path);
        if self.exact_hosts.is_empty() && self.host_suffixes.is_empty() {
            return best;
        }
        let bare = without_port(host);
        let lower;
        let host = if bare.bytes().any(|byte| byte.is_ascii_uppercase()) {
            lower = bare.to_ascii_lowercase();
            lower.as_str()
        } else {
            bare
        };
        if let Some(paths) = self.exact_hosts.get(host) {
            best = earlier(best, paths.first(path));
        }
        if !self.host_suffixes.is_empty() {
            for (at, _) in host.match_indices('.').filter(|&(at, _)| at > 0) {
                if let Some(paths) = host.get(at..).and_then(|suffix| self.host_suffixes.get(suffix)) {
                    best = earlier(best, paths.first(path));
                }
            }
        }
        best
    }
}

impl Paths {
    fn add(&mut self, path: Option<&PathMatch>, position: usize) {
        // What stands earlier in the file wins, so an entry that is there stays.
        match path {
            None => self.any = self.any.or(Some(position)),
            Some(PathMatch::Exact(path)) => {
                self.exact.entry(path.clone()).or_insert(position);
            }
            Some(PathMatch::Prefix(prefix)) => {
                self.prefixes.entry(prefix.trim_end_matches('/').to_owned()).or_insert(position);
            }
        }
    }

    fn first(&self, path: &str) -> Option<usize> {
        let mut best = self.any;
        if let Some(&position) = self.exact.get(path) {
            best = earlier(best, Some(position));
        }
        if !self.prefixes.is_empty() {
            let whole = path.trim_end_matches('/');
            best = earlier(best, self.prefixes.get(whole).copied());
            for (at, _) in whole.match_indices('/') {
                let prefix = whole.get(..at).and_then(|prefix| self.prefixes.get(prefix));
                best = earlier(best, prefix.copied());
            }
        }
        best
    }
}

fn earlier(left: Option<usize>, right: Option<usize>) -> Option<usize> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (one, other) => one.or(other),
    }
}

/// Takes the port off a host; an IPv6 address stays in its brackets.
pub(crate) fn without_port(host: &str) -> &str {
    match host.rfind(':') {
        Some(at) if !host.get(at..).is_some_and(|rest| rest.contains(']')) => host.get(..at).unwrap_or(host),
        _ => host,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::target::{Expression, Node, Split, Term};

    fn route(host: &str, path: &str) -> Route {
        let term = Term { weight: 1, node: Node::Service("a".to_owned()) };
        Route {
            name: String::new(),
            listener: None,
            host: match host {
                "" => None,
                host if host.starts_with("*.") => Some(HostMatch::Suffix(host[1..].to_owned())),
                host => Some(HostMatch::Exact(host.to_owned())),
            },
            path: match path {
                "" => None,
                path if path.ends_with("/*") => Some(PathMatch::Prefix(path[..path.len() - 2].to_owned())),
                path => Some(PathMatch::Exact(path.to_owned())),
            },
            to: Expression { tiers: vec![Split { terms: vec![term] }] },
            timeout: None,
        }
    }

    fn router(routes: &[(&str, &str)]) -> Router {
        Router::new(&routes.iter().map(|(host, path)| route(host, path)).collect::<Vec<_>>())
    }

    #[test]
    fn the_first_route_in_the_file_wins() {
        let router = router(&[("", "/a/*"), ("x.example", "/a/b"), ("x.example", ""), ("", "")]);
        assert_eq!(router.route("x.example", "/a/b"), Some(0));
        assert_eq!(router.route("x.example", "/c"), Some(2));
        assert_eq!(router.route("y.example", "/c"), Some(3));
    }

    #[test]
    fn hosts_match_without_port_and_case_and_suffixes_take_one_or_more_labels() {
        let router = router(&[("*.example.com", ""), ("[::1]", "")]);
        assert_eq!(router.route("A.Example.COM:8080", "/"), Some(0));
        assert_eq!(router.route("a.b.example.com", "/"), Some(0));
        assert_eq!(router.route("example.com", "/"), None);
        assert_eq!(router.route("badexample.com", "/"), None);
        assert_eq!(router.route(".example.com", "/"), None);
        assert_eq!(router.route("[::1]:80", "/"), Some(1));
    }

    #[test]
    fn a_prefix_takes_itself_and_what_is_below_but_no_longer_word() {
        let router = router(&[("", "/v1/*")]);
        for (path, expected) in
            [("/v1", Some(0)), ("/v1/", Some(0)), ("/v1/a/b", Some(0)), ("/v10", None), ("/", None), ("/a/v1", None)]
        {
            assert_eq!(router.route("h", path), expected, "{path}");
        }
        let everything = Router::new(&[route("", "/*")]);
        assert_eq!(everything.route("h", "/"), Some(0));
    }

    /// The plain reading of the rules, to compare with.
    fn slow(routes: &[Route], host: &str, path: &str) -> Option<usize> {
        routes.iter().position(|route| {
            let host_fits = match &route.host {
                None => true,
                Some(HostMatch::Exact(exact)) => exact == host,
                Some(HostMatch::Suffix(suffix)) => host.len() > suffix.len() && host.ends_with(suffix.as_str()),
            };
            let path_fits = match &route.path {
                None => true,
                Some(PathMatch::Exact(exact)) => exact == path,
                Some(PathMatch::Prefix(prefix)) => {
                    path == prefix || path.strip_prefix(prefix.as_str()).is_some_and(|rest| rest.starts_with('/'))
                }
            };
            host_fits && path_fits
        })
    }

    proptest! {
        #[test]
        fn the_compiled_matcher_says_what_a_walk_through_the_file_says(
            routes in proptest::collection::vec(("(|a|b|a\\.b|\\*\\.b|\\*\\.a\\.b)", "(|/x|/x/\\*|/x/y|/x/y/\\*|/\\*)"), 0..12),
            host in "(a|b|a\\.b|c\\.a\\.b|c\\.b)",
            path in "/(x|x/y|x/y/z|xy|)",
        ) {
            let routes: Vec<Route> = routes.iter().map(|(host, path)| route(host, path)).collect();
            prop_assert_eq!(Router::new(&routes).route(&host, &path), slow(&routes, &host, &path));
        }
    }
}
