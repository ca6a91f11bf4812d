//! What a route does with a request besides sending it on.
//!
//! ```text
//! rate limit ─► fault ─► answer of its own, or: mirror, rewrite, headers ─► tries ─► headers of the reply
//! ```

use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{HeaderMap, HeaderValue, Response, header, response};
use tokio::time::Instant;

use super::body::Body;
use super::exchange::Exchange;
use super::failure::{self, Failure};
use super::headers::X_FORWARDED_PROTO;
use super::{Session, path};
use crate::config::{Fault, Redirect, Rewrite, Template};
use crate::http1::Reject;
use crate::resilience::rate_limit::{Asker, RateLimiter};
use crate::route::{Captures, without_port};
use crate::timer::after;
use crate::upstream::plan::actions::Answer;

impl Session {
    /// Lets a request through the limit of its route, or says when to come again.
    pub(super) fn admit(&self, limiter: &RateLimiter, headers: &HeaderMap) -> Result<(), Failure> {
        let asker = Asker { from: self.identity(), address: self.client(), headers };
        limiter.admit(&asker, self.worker().uptime()).map_err(|retry_after| Failure::RateLimit { retry_after })
    }

    /// Makes its share of requests slow or fail. A delay ends with the client's deadline.
    pub(super) async fn fault(
        &self,
        fault: &Fault,
        deadline: Option<Instant>,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Failure> {
        if self.worker().random_share() >= fault.share {
            return Ok(());
        }
        if let Some(delay) = fault.delay {
            let until = after(Instant::now(), delay);
            let bounded = deadline.map_or(until, |deadline| deadline.min(until));
            let _ = exchange.timer.bound(Some(bounded), std::future::pending::<()>()).await;
            if bounded < until {
                return Err(Failure::Deadline);
            }
        }
        fault.status.map_or(Ok(()), |status| Err(Failure::Fault(status)))
    }
}

/// Changes the path and the host that an endpoint sees.
pub(crate) fn rewrite(rewrite: &Rewrite, captures: &Captures, parts: &mut Parts) -> Result<(), Failure> {
    // `OPTIONS *` is about the server, and has no path.
    if let Some(template) = &rewrite.path
        && parts.uri.path().starts_with('/')
    {
        let target = target(template, captures, parts)?;
        parts.uri = PathAndQuery::try_from(target).map_err(|_| Failure::Malformed(Reject::Path))?.into();
    }
    if let Some(host) = &rewrite.host {
        parts.headers.insert(header::HOST, host.clone());
    }
    Ok(())
}

/// Makes the answer of a route.
pub(crate) fn answer(
    answer: &Answer,
    captures: &Captures,
    parts: &Parts,
    is_grpc: bool,
) -> Result<(response::Parts, Body), Failure> {
    let mut response = Response::new(());
    match answer {
        Answer::Redirect(redirect) => {
            *response.status_mut() = redirect.status;
            let location = HeaderValue::try_from(location(redirect, captures, parts)?);
            response.headers_mut().insert(header::LOCATION, location.map_err(|_| Failure::Malformed(Reject::Path))?);
            Ok((response.into_parts().0, Body::Empty))
        }
        // A gRPC client reads a status of its own kind, and a body as a message of it.
        Answer::Respond { status, body, .. } if is_grpc => {
            let message = String::from_utf8_lossy(body);
            *response.headers_mut() = failure::grpc_trailers(failure::grpc_status_of(*status), message.trim());
            let grpc = HeaderValue::from_static("application/grpc");
            response.headers_mut().insert(header::CONTENT_TYPE, grpc);
            Ok((response.into_parts().0, Body::Empty))
        }
        Answer::Respond { status, body, content_type } => {
            *response.status_mut() = *status;
            if body.is_empty() {
                return Ok((response.into_parts().0, Body::Empty));
            }
            response.headers_mut().insert(header::CONTENT_TYPE, content_type.clone());
            Ok((response.into_parts().0, Body::Full(body.clone())))
        }
    }
}

/// Where a client is sent. Without a new scheme or host it is a path alone, which is right behind any other proxy.
fn location(redirect: &Redirect, captures: &Captures, parts: &Parts) -> Result<String, Failure> {
    let target = match &redirect.path {
        Some(template) => target(template, captures, parts)?,
        None => parts.uri.path_and_query().map_or_else(|| "/".to_owned(), ToString::to_string),
    };
    if redirect.scheme.is_none() && redirect.host.is_none() && redirect.port.is_none() {
        return Ok(target);
    }
    let said = |name| parts.headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = redirect.scheme.unwrap_or_else(|| match said(X_FORWARDED_PROTO) {
        Some("https") => "https",
        _ => "http",
    });
    let asked = said(header::HOST).unwrap_or_default();
    let host = match &redirect.host {
        Some(host) => host.as_str(),
        // The port was that of the other scheme.
        None if redirect.scheme.is_some() || redirect.port.is_some() => without_port(asked),
        None => asked,
    };
    match redirect.port {
        Some(port) if !matches!((scheme, port), ("http", 80) | ("https", 443)) => {
            Ok(format!("{scheme}://{host}:{port}{target}"))
        }
        _ => Ok(format!("{scheme}://{host}{target}")),
    }
}

/// A new path with the query that came. A group of a regular expression may hold slashes and dots, so it is brought into
/// its one form again: `//host` at the beginning would be another host.
fn target(template: &Template, captures: &Captures, parts: &Parts) -> Result<String, Failure> {
    let before = parts.uri.path();
    let filled = template.fill(before, |position| captures.get(position, before));
    let mut target = path::normalise(&filled).map_err(Failure::Malformed)?.into_owned();
    if let Some(query) = parts.uri.query() {
        target.push('?');
        target.push_str(query);
    }
    Ok(target)
}

/// Whole seconds until another try makes sense, at least one (RFC 9110, 10.2.3).
pub(super) fn retry_after(wait: Duration) -> HeaderValue {
    HeaderValue::from(wait.as_millis().div_ceil(1000).max(1).try_into().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use http::{Request, StatusCode};

    use super::*;
    use crate::config::{Match, PathMatch, PathTemplate, Pattern};
    use crate::route::{Facts, Router};

    fn parts(uri: &str) -> Parts {
        let request = Request::builder().uri(uri).header("host", "a.example:8080").body(()).unwrap();
        request.into_parts().0
    }

    fn captures(path: &PathMatch, parts: &Parts) -> Captures {
        let matches = Match { path: Some(path.clone()), ..Match::default() };
        let facts = Facts {
            host: "a.example",
            path: parts.uri.path(),
            query: "",
            method: &parts.method,
            headers: &parts.headers,
            is_grpc: false,
            from: None,
            address: None,
        };
        Router::new([&matches]).route(&facts).unwrap().captures
    }

    fn template(path: &PathMatch, text: &str) -> Template {
        Template::new(text, &path.captures()).unwrap()
    }

    fn rewritten(path: &PathMatch, text: &str, uri: &str) -> String {
        let mut parts = parts(uri);
        let captures = captures(path, &parts);
        let change = Rewrite { path: Some(template(path, text)), host: None };
        rewrite(&change, &captures, &mut parts).unwrap();
        parts.uri.to_string()
    }

    #[test]
    fn a_rewritten_path_keeps_the_query() {
        let below = PathMatch::Template(PathTemplate::new("/v1/{id}/*"));
        assert_eq!(rewritten(&below, "/users/{id}/{rest}", "/v1/7/a/b?q=1&r=/.."), "/users/7/a/b?q=1&r=/..");
        assert_eq!(rewritten(&below, "/x", "/v1/7"), "/x");
    }

    #[test]
    fn what_a_group_took_cannot_climb_out_or_name_a_host() {
        let anything = PathMatch::Regex(Pattern::new("/a(?<x>.*)").unwrap());
        assert_eq!(rewritten(&anything, "/safe/{x}", "/a/etc"), "/safe/etc");
        assert_eq!(rewritten(&anything, "/safe/.{x}", "/a./etc"), "/etc", "resolved by us, not by the endpoint");
        let path = Some(template(&anything, "/{x}"));
        let to = Redirect { status: StatusCode::FOUND, scheme: None, host: None, port: None, path };
        let parts = parts("/a/evil.example/x");
        assert_eq!(location(&to, &captures(&anything, &parts), &parts).unwrap(), "/evil.example/x");
    }

    #[test]
    fn a_redirect_keeps_what_it_does_not_change() {
        let with_port = |scheme, host: Option<&str>, port| {
            let redirect = Redirect {
                status: StatusCode::PERMANENT_REDIRECT,
                scheme,
                host: host.map(ToOwned::to_owned),
                port,
                path: None,
            };
            location(&redirect, &Captures::default(), &parts("/p?q=1")).unwrap()
        };
        let redirect = |scheme, host| with_port(scheme, host, None);
        assert_eq!(redirect(Some("https"), None), "https://a.example/p?q=1");
        assert_eq!(redirect(None, Some("b.example:81")), "http://b.example:81/p?q=1");
        assert_eq!(redirect(Some("https"), Some("b.example")), "https://b.example/p?q=1");
        assert_eq!(with_port(None, None, Some(8443)), "http://a.example:8443/p?q=1");
        assert_eq!(with_port(Some("https"), Some("b.example"), Some(8443)), "https://b.example:8443/p?q=1");
        assert_eq!(with_port(Some("https"), None, Some(443)), "https://a.example/p?q=1", "the scheme's own");
    }

    #[test]
    fn a_client_is_told_whole_seconds() {
        assert_eq!(retry_after(Duration::from_millis(1)), "1");
        assert_eq!(retry_after(Duration::from_millis(1001)), "2");
    }
}
