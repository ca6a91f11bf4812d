//! `[[routes]].match`: every matcher, with the place of what is wrong inside of it.

mod hosts;
mod paths;
mod values;

pub(crate) use self::hosts::is_host;

use std::collections::{BTreeMap, BTreeSet};

use http::{HeaderName, Method};
use meshless_certs::{SpiffeId, TrustDomain};

use super::Check;
use super::routes::all_or_none;
use crate::config::problem::{At, Path, shown};
use crate::config::{FromMatch, GrpcMatch, Match, Network, NetworkError, PathMatch, Pattern, raw};

/// Most networks of one route: they are looked at one by one.
const MAX_NETWORKS: usize = 100;

impl Check<'_> {
    /// `None`: something is wrong, and what is left would match more than what was meant.
    pub(super) fn matches(&mut self, raw: Option<&raw::Match>, at: &Path) -> Option<Match> {
        let Some(raw) = raw else { return Some(Match::default()) };
        let host = raw.host.as_deref().map(|text| self.host(text, &at.key("host")));
        let path = raw.path.as_ref().map(|wanted| self.path_match(wanted, &at.key("path")));
        let methods = self.methods(raw.method.as_deref(), &at.key("method"));
        let headers = self.headers(raw.headers.as_ref(), &at.key("headers"));
        let query = self.query(raw.query.as_ref(), &at.key("query"));
        let grpc = raw.grpc.as_deref().map(|text| self.grpc(text, &at.key("grpc")));
        let from = raw.from.as_deref().map(|text| self.from(text, &at.key("from")));
        let addresses = self.networks(raw.address.as_deref(), &at.key("address"));
        Some(Match {
            host: all_or_none(host)?,
            path: all_or_none(path)?,
            methods: methods?,
            headers: headers?,
            query: query?,
            grpc: all_or_none(grpc)?,
            from: all_or_none(from)?,
            addresses: addresses?,
        })
    }

    /// Checks the conditions of a rule of `allow`. `None`: something is wrong, and what is left would allow more than
    /// what was meant.
    pub(super) fn allow_rule(&mut self, raw: &raw::Allow, at: &Path) -> Option<Match> {
        let path = raw.path.as_ref().map(|wanted| self.path_match(wanted, &at.key("path")));
        let methods = self.methods(raw.methods.as_deref(), &at.key("methods"));
        let headers = self.headers(raw.headers.as_ref(), &at.key("headers"));
        let grpc = raw.grpc.as_deref().map(|text| self.grpc(text, &at.key("grpc")));
        let from = raw.from.as_deref().map(|text| self.from(text, &at.key("from")));
        let addresses = self.networks(raw.address.as_deref(), &at.key("address"));
        Some(Match {
            path: all_or_none(path)?,
            methods: methods?,
            headers: headers?,
            grpc: all_or_none(grpc)?,
            from: all_or_none(from)?,
            addresses: addresses?,
            ..Match::default()
        })
    }

    fn path_match(&mut self, raw: &raw::PathMatch, at: &Path) -> Option<PathMatch> {
        match raw {
            raw::PathMatch::Text(text) => self.path(text, at).map(PathMatch::Template),
            raw::PathMatch::Regex(raw::Regex { regex: Some(text) }) => {
                let pattern = self.pattern(text, &at.key("regex"))?;
                let names: Vec<String> = pattern.names().map(ToOwned::to_owned).collect();
                self.captures(names.iter().map(String::as_str), &at.key("regex")).then_some(PathMatch::Regex(pattern))
            }
            raw::PathMatch::Regex(raw::Regex { regex: None }) => {
                self.missing(&at.key("regex"), "missing: write the expression, such as `{ regex = \"/v[0-9]+/.*\" }`");
                None
            }
        }
    }

    /// Reports an expression that does not compile at the byte that is wrong.
    pub(super) fn pattern(&mut self, text: &str, at: &Path) -> Option<Pattern> {
        match Pattern::new(text) {
            Ok(pattern) => Some(pattern),
            Err(error) => {
                let message = format!("expected a regular expression, found {}: {}", shown(text), error.message);
                self.error(at, At::Offset(error.offset), message);
                None
            }
        }
    }

    fn methods(&mut self, raw: Option<&[String]>, at: &Path) -> Option<Vec<Method>> {
        let Some(raw) = raw else { return Some(Vec::new()) };
        if raw.is_empty() {
            self.error(at, At::Value, "expected at least one method; left out, it stands for every one");
            return None;
        }
        let mut methods = Some(Vec::new());
        for (position, text) in raw.iter().enumerate() {
            let is_usual = text.bytes().all(|byte| byte.is_ascii_uppercase() || byte == b'-' || byte == b'_');
            match Method::from_bytes(text.as_bytes()) {
                Ok(method) if is_usual => {
                    if let Some(methods) = &mut methods {
                        methods.push(method);
                    }
                }
                method => {
                    let upper = text.to_ascii_uppercase();
                    let hint = if method.is_ok() {
                        format!("; methods are told apart by case, did you mean `{upper}`?")
                    } else {
                        String::new()
                    };
                    let message = format!("expected a method such as `GET`, found {}{hint}", shown(text));
                    self.error(&at.position(position), At::Value, message);
                    methods = None;
                }
            }
        }
        methods
    }

    fn headers(
        &mut self,
        raw: Option<&BTreeMap<String, raw::ValueMatch>>,
        at: &Path,
    ) -> Option<Vec<(HeaderName, crate::config::ValueMatch)>> {
        let mut seen = BTreeSet::new();
        let mut headers = Some(Vec::new());
        for (name, value) in raw.into_iter().flatten() {
            let path = at.key(name);
            let checked = self.header_name(name, &path).zip(self.value_match(value, &path));
            if !seen.insert(name.to_ascii_lowercase()) {
                self.error(&path, At::Key, "stands there twice; names of headers do not differ by case");
                headers = None;
            }
            match (&mut headers, checked) {
                (Some(headers), Some(checked)) => headers.push(checked),
                _ => headers = None,
            }
        }
        headers
    }

    fn header_name(&mut self, text: &str, at: &Path) -> Option<HeaderName> {
        match matchable(text) {
            Ok(name) => Some(name),
            Err(problem) => {
                self.error(at, At::Key, format!("{} {problem}", shown(text)));
                None
            }
        }
    }

    fn query(
        &mut self,
        raw: Option<&BTreeMap<String, raw::ValueMatch>>,
        at: &Path,
    ) -> Option<BTreeMap<String, crate::config::ValueMatch>> {
        let mut query = Some(BTreeMap::new());
        for (name, value) in raw.into_iter().flatten() {
            match (&mut query, self.value_match(value, &at.key(name))) {
                (Some(query), Some(value)) => {
                    query.insert(name.clone(), value);
                }
                _ => query = None,
            }
        }
        query
    }

    fn grpc(&mut self, text: &str, at: &Path) -> Option<GrpcMatch> {
        let (service, method) = match text.split_once('/') {
            Some((service, method)) => (service, Some(method)),
            None => (text, None),
        };
        let is_identifier = |word: &str| {
            word.starts_with(|first: char| first.is_ascii_alphabetic() || first == '_')
                && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
        };
        if service.split('.').all(is_identifier) && method.is_none_or(is_identifier) {
            return Some(GrpcMatch { service: service.to_owned(), method: method.map(ToOwned::to_owned) });
        }
        let hint = match text {
            _ if text.starts_with('/') => "; it begins without `/`",
            _ if text.ends_with("/*") => "; for all methods leave `/*` out",
            _ => "",
        };
        let message = format!("expected `pkg.Service` or `pkg.Service/Method`, found {}{hint}", shown(text));
        self.error(at, At::Value, message);
        None
    }

    fn from(&mut self, text: &str, at: &Path) -> Option<FromMatch> {
        let (id, below) = text.strip_suffix("/*").map_or((text, false), |id| (id, true));
        // All of a trust domain is below `/` too.
        let is_domain = || id.strip_prefix("spiffe://").is_some_and(|domain| domain.parse::<TrustDomain>().is_ok());
        let fits = id.parse::<SpiffeId>().is_ok() || below && is_domain();
        if fits {
            return Some(if below { FromMatch::Below(format!("{id}/")) } else { FromMatch::Exact(id.to_owned()) });
        }
        let message = format!(
            "expected a SPIFFE ID such as `spiffe://example.org/svc/web` or `spiffe://example.org/svc/*`, found {}",
            shown(text)
        );
        self.error(at, At::Value, message);
        None
    }

    fn networks(&mut self, raw: Option<&[String]>, at: &Path) -> Option<Vec<Network>> {
        let Some(raw) = raw else { return Some(Vec::new()) };
        if raw.is_empty() || raw.len() > MAX_NETWORKS {
            let message = format!("expected 1 to {MAX_NETWORKS} networks, found {}", raw.len());
            self.error(at, At::Value, message);
            return None;
        }
        let mut networks = Some(Vec::new());
        for (position, text) in raw.iter().enumerate() {
            match (&mut networks, text.parse::<Network>()) {
                (Some(networks), Ok(network)) => networks.push(network),
                (None, Ok(_)) => {}
                (_, Err(error)) => {
                    let message = match error {
                        NetworkError::Malformed => format!("{error}, found {}", shown(text)),
                        NetworkError::HostBits(_) => format!("{} {error}", shown(text)),
                    };
                    self.error(&at.position(position), At::Value, message);
                    networks = None;
                }
            }
        }
        networks
    }
}

/// Returns a header that is there when routes are looked up, or what speaks against it.
pub(crate) fn matchable(text: &str) -> Result<HeaderName, &'static str> {
    Err(match text.to_ascii_lowercase().as_str() {
        lower if lower.starts_with(':') => "has no place here; match `host`, `path` or `method`",
        "host" => "is matched by `host`",
        "connection"
        | "keep-alive"
        | "te"
        | "transfer-encoding"
        | "upgrade"
        | "http2-settings"
        | "proxy"
        | "proxy-authorization"
        | "proxy-connection" => "belongs to one connection and is removed before routes are looked up",
        lower => return HeaderName::from_bytes(lower.as_bytes()).map_err(|_| "is no name of a header"),
    })
}
