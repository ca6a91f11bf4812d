//! A request that is asked without being sent.

use std::net::IpAddr;
use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri, header};

use crate::authorize::{Allow, Asked, Decision};
use crate::http1::Reject;
use crate::proxy::failure::{self, Failure};
use crate::proxy::{actions, path};
use crate::resilience::deadline::Deadline;
use crate::route::{Captures, Facts};
use crate::upstream::Table;
use crate::upstream::plan::actions::Answer;
use crate::upstream::plan::{ListenerPlan, RoutePlan};
use crate::{names, overrides};

/// A request.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    pub(crate) method: Method,
    pub(crate) host: String,
    /// Path and query, as it was written.
    pub(crate) target: String,
    pub(crate) headers: HeaderMap,
    /// SPIFFE ID of its client.
    pub(crate) from: Option<String>,
    pub(crate) address: Option<IpAddr>,
}

/// What a request meets before it is tried.
#[derive(Debug)]
pub(crate) struct Routed<'a> {
    pub(crate) route: &'a RoutePlan,
    /// The status that the route answers by itself; nothing is sent then.
    pub(crate) answer: Option<u16>,
    /// As an endpoint gets it.
    pub(crate) sent: Request,
}

impl Request {
    /// Reads a method, a URL (`http://host/path?query`, or a path alone) and headers.
    pub(crate) fn new<'a>(
        method: &str,
        url: &str,
        headers: impl IntoIterator<Item = (&'a String, &'a String)>,
    ) -> Result<Self, String> {
        let method = Method::from_bytes(method.as_bytes()).map_err(|_| format!("`{method}` is no method"))?;
        let uri: Uri = url.parse().map_err(|error| format!("`{url}` is no URL: {error}"))?;
        let mut map = HeaderMap::new();
        for (name, value) in headers {
            let name = name.parse::<HeaderName>().map_err(|_| format!("`{name}` is no name of a header"))?;
            let value = value.parse::<HeaderValue>().map_err(|_| format!("header `{name}` has no valid value"))?;
            map.append(name, value);
        }
        let host = uri.authority().map(ToString::to_string);
        let host = host.or_else(|| map.get(header::HOST)?.to_str().ok().map(str::to_owned));
        let target = uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { method, host: host.unwrap_or_default(), target, headers: map, from: None, address: None })
    }

    pub(crate) fn is_grpc(&self) -> bool {
        failure::is_grpc(&self.headers)
    }

    /// Returns how much time its client gives it. Clocks agree here: `l5d-ctx-deadline` was written just now.
    pub(crate) fn deadline(&self) -> Option<Duration> {
        Deadline::read(&self.headers, self.is_grpc(), || 0).map(|deadline| deadline.left)
    }

    /// Finds its route as the proxy does, and what that makes of it. Rate limits and injected faults let it pass.
    pub(crate) fn route<'a>(&self, listener: &'a ListenerPlan) -> Result<Routed<'a>, Failure> {
        let target = path::normalise(&self.target).map_err(Failure::Malformed)?;
        let (path, query) = target.split_once('?').unwrap_or((&target, ""));
        let facts = Facts {
            host: &self.host,
            path,
            query,
            method: &self.method,
            headers: &self.headers,
            is_grpc: self.is_grpc(),
            from: self.from.as_deref(),
            address: self.address,
        };
        let denies = |allow: &Allow| allow.decide(Asked::Request(&facts)) == Decision::Denied && !allow.is_dry_run();
        if listener.allow.as_deref().is_some_and(denies) {
            return Err(Failure::Denied);
        }
        let (route, captures) = listener.route(&facts).ok_or(Failure::NoRoute)?;
        let answer = route.actions.answer.as_ref().map(|answer| match answer {
            Answer::Redirect(redirect) => redirect.status.as_u16(),
            Answer::Respond { status, .. } => status.as_u16(),
        });
        if answer.is_none() && self.deadline().is_some_and(|left| left.is_zero()) {
            return Err(Failure::Deadline);
        }
        Ok(Routed { route, answer, sent: self.rewritten(route, &captures, &target)? })
    }

    fn rewritten(&self, route: &RoutePlan, captures: &Captures, target: &str) -> Result<Self, Failure> {
        let mut parts = http::Request::new(()).into_parts().0;
        parts.uri = target.parse().map_err(|_| Failure::Malformed(Reject::Path))?;
        parts.headers = self.headers.clone();
        if let Ok(host) = HeaderValue::try_from(&self.host) {
            parts.headers.insert(header::HOST, host);
        }
        if let Some(rewrite) = &route.actions.rewrite {
            actions::rewrite(rewrite, captures, &mut parts)?;
        }
        route.actions.headers.apply(&mut parts.headers);
        let host = parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default().to_owned();
        let target = parts.uri.path_and_query().map_or("/", |target| target.as_str()).to_owned();
        Ok(Self { host, target, headers: parts.headers, ..self.clone() })
    }

    /// Says why it cannot be told where it goes: what is asked for at the time of a request is not asked for here.
    pub(crate) fn beyond(&self, table: &Table, takes_overrides: bool, has_route: bool) -> Option<String> {
        if takes_overrides && overrides::are_in(&self.headers) {
            return Some(
                "overrides (`meshless-route`, `l5d-dtab`) are not judged offline yet; remove the header".to_owned(),
            );
        }
        let is_name = || table.name(&names::normal(&self.host)).is_some();
        (!has_route && is_name())
            .then(|| format!("`{}` is a logical name, which is not looked up offline yet", self.host))
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    #[test]
    fn a_url_has_a_host_or_the_headers_do() {
        let headers = BTreeMap::from([("host".to_owned(), "b.example:80".to_owned())]);
        let host = |url: &str| Request::new("GET", url, &headers).unwrap().host;
        assert_eq!((host("http://a.example/x"), host("/x")), ("a.example".to_owned(), "b.example:80".to_owned()));
        assert!(Request::new("G T", "/", &BTreeMap::new()).is_err());
        assert!(Request::new("GET", "http://[", &BTreeMap::new()).is_err());
    }

    #[test]
    fn the_clocks_of_client_and_gateway_agree() {
        let headers = BTreeMap::from([("l5d-ctx-deadline".to_owned(), "1000000000 3000000000".to_owned())]);
        assert_eq!(Request::new("GET", "/", &headers).unwrap().deadline(), Some(Duration::from_secs(2)));
    }
}
