//! From a question to a request as the proxy sees it.

use std::net::{IpAddr, Ipv4Addr};

use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, Version, header};
use meshless_certs::SpiffeId;

use super::answer::{self, HeaderChange};
use super::{Question, Refusal};
use crate::config::Listener;
use crate::proxy::failure::{self, Failure};
use crate::proxy::{headers, normalise_path};
use crate::route::Facts;

/// How a request comes, by the scheme of its URL.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Scheme {
    Http,
    Https,
    /// Bytes.
    Tcp,
    /// TLS that is passed on.
    Tls,
}

impl Scheme {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Http => "http",
            Self::Https => "https",
            Self::Tcp => "tcp",
            Self::Tls => "tls",
        }
    }

    pub(super) fn is_http(self) -> bool {
        matches!(self, Self::Http | Self::Https)
    }
}

/// A URL in its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Way {
    pub(super) scheme: Scheme,
    /// Host, with its port where one is written.
    pub(super) authority: String,
    pub(super) port: Option<u16>,
    /// Path and query.
    target: String,
}

impl Way {
    pub(super) fn parse(url: &str) -> Result<Self, Refusal> {
        let hint = "write all of it, such as http://api.example.com/v1/things; tcp://HOST:PORT for bytes, tls://NAME for \
                    TLS that is passed on";
        let refuse = |reason: String| Err(Refusal::new(reason, hint));
        let Some((scheme, rest)) = url.split_once("://") else {
            return refuse(format!("`{url}` is no URL: it has no scheme and no host"));
        };
        let scheme = match scheme.to_ascii_lowercase().as_str() {
            "http" => Scheme::Http,
            "https" => Scheme::Https,
            "tcp" => Scheme::Tcp,
            "tls" => Scheme::Tls,
            other => return refuse(format!("`{other}` is no scheme of a URL that a gateway takes")),
        };
        let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
        let (authority, target) = rest.split_at_checked(end).unwrap_or((rest, ""));
        let bare = crate::route::without_port(authority);
        if bare.is_empty() {
            return refuse(format!("`{url}` has no host"));
        }
        let port = match authority.get(bare.len()..).and_then(|port| port.strip_prefix(':')) {
            None => None,
            Some(port) => match port.parse() {
                Ok(port) => Some(port),
                Err(_) => return refuse(format!("`{port}` is no port")),
            },
        };
        if HeaderValue::from_str(authority).is_err() || authority.contains(['@', ' ']) {
            return refuse(format!("`{authority}` is no host"));
        }
        // A client sends no fragment.
        let target = target.split_once('#').map_or(target, |(before, _)| before);
        let target = if target.starts_with('/') { target.to_owned() } else { format!("/{target}") };
        Ok(Self { scheme, authority: authority.to_owned(), port, target })
    }
}

/// A request as the proxy sees it.
#[derive(Debug)]
pub(super) struct Asked<'a> {
    way: &'a Way,
    /// As the client sent them.
    before: HeaderMap,
    /// As routes see it.
    pub(super) parts: Parts,
    /// Why it comes no further.
    failure: Option<Failure>,
    pub(super) is_grpc: bool,
    pub(super) is_upgrade: bool,
    pub(super) address: IpAddr,
    from: Option<String>,
    pub(super) notes: Vec<String>,
}

impl<'a> Asked<'a> {
    pub(super) fn new(question: &Question, way: &'a Way, listener: &Listener) -> Result<Self, Refusal> {
        let method = if question.method.is_empty() { "GET" } else { &question.method };
        let method = Method::from_bytes(method.as_bytes())
            .map_err(|_| Refusal::new(format!("`{method}` is no method"), "write GET, POST, …"))?;
        let mut notes = Vec::new();
        let address = question.address.unwrap_or(IpAddr::V4(Ipv4Addr::LOCALHOST));
        let from = question.from.clone().filter(|_| listener.tls.knows_identities());
        if let Some(id) = &question.from {
            if let Err(error) = id.parse::<SpiffeId>() {
                return Err(Refusal::new(
                    format!("`{id}` is no identity: {error}"),
                    "--from takes a SPIFFE ID, such as spiffe://example.org/svc/web",
                ));
            }
            if from.is_none() {
                notes.push(format!(
                    "--from counts for nothing: listener `{}` verifies no clients (tls.client_ca)",
                    listener.name
                ));
            }
        }
        let mut before = HeaderMap::new();
        if way.scheme.is_http() {
            before.insert(header::HOST, host(&way.authority)?);
            for (name, value) in &question.headers {
                let (name, value) = field(name, value)?;
                if name == header::HOST {
                    before.insert(name, value);
                } else {
                    before.append(name, value);
                }
            }
        } else if !question.headers.is_empty() {
            return Err(Refusal::new(
                format!("{}:// has no headers", way.scheme.name()),
                "leave --header out, or ask with http://",
            ));
        }
        let is_grpc = failure::is_grpc(&before);
        let mut parts = Request::builder()
            .method(method)
            .uri(&way.target)
            .body(())
            .map_err(|_| Refusal::new(format!("`{}` is no path", way.target), "write blanks as %20"))?
            .into_parts()
            .0;
        parts.headers = before.clone();
        let mut is_upgrade = asks_upgrade(&before) && !is_grpc;
        let mut failure = None;
        if way.scheme.is_http() {
            // What the proxy does before it looks for a route, in its order.
            failure = normalise_path(&mut parts).err();
            let hops = headers::hops(&parts.headers);
            let is_encrypted = way.scheme == Scheme::Https;
            let sender = headers::Sender { address: Some(address), tls: is_encrypted, certificate: None };
            let version = if is_grpc { Version::HTTP_2 } else { Version::HTTP_11 };
            let claims = if listener.overrides { headers::Claims::Keep } else { headers::Claims::Strip };
            headers::rewrite_request(&mut parts.headers, sender, version, is_upgrade, claims, || MADE);
            is_upgrade &= parts.headers.contains_key(header::UPGRADE);
            if hops > listener.limits.hops {
                failure = failure.or(Some(Failure::Loop));
            }
        }
        Ok(Self { way, before, parts, failure, is_grpc, is_upgrade, address, from, notes })
    }

    /// Returns what a route is chosen by, or why the request does not come so far.
    pub(super) fn facts(&self) -> Result<Facts<'_>, &Failure> {
        if let Some(failure) = &self.failure {
            return Err(failure);
        }
        let is_http = self.way.scheme.is_http();
        let host = match self.way.scheme {
            Scheme::Tcp => "",
            Scheme::Tls => crate::route::without_port(&self.way.authority),
            Scheme::Http | Scheme::Https => self.host(),
        };
        Ok(Facts {
            host,
            path: if is_http { self.parts.uri.path() } else { "/" },
            query: if is_http { self.parts.uri.query().unwrap_or_default() } else { "" },
            method: if is_http { &self.parts.method } else { &Method::CONNECT },
            headers: &self.parts.headers,
            is_grpc: self.is_grpc,
            from: self.from.as_deref(),
            address: Some(self.address),
        })
    }

    /// Tells whether it is a request of HTTP; else it is bytes.
    pub(super) fn is_http(&self) -> bool {
        self.way.scheme.is_http()
    }

    fn host(&self) -> &str {
        self.parts.headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default()
    }

    pub(super) fn view(&self) -> answer::Request {
        let is_http = self.way.scheme.is_http();
        let only_http = |text: &str| if is_http { text.to_owned() } else { String::new() };
        answer::Request {
            method: only_http(self.parts.method.as_str()),
            scheme: self.way.scheme.name().to_owned(),
            host: if is_http { self.host().to_owned() } else { self.way.authority.clone() },
            path: only_http(self.parts.uri.path()),
            query: only_http(self.parts.uri.query().unwrap_or_default()),
            is_grpc: self.is_grpc,
            is_upgrade: self.is_upgrade,
            address: self.address.to_string(),
            from: self.from.clone(),
        }
    }

    /// Returns what an endpoint gets otherwise than the client sent it.
    pub(super) fn changes(&self, sent: &HeaderMap) -> Vec<HeaderChange> {
        let mut names: Vec<&HeaderName> = self.before.keys().chain(sent.keys()).collect();
        names.sort_by_key(|name| name.as_str());
        names.dedup();
        let all = |headers: &HeaderMap, name: &HeaderName| {
            let values: Vec<_> =
                headers.get_all(name).iter().map(|value| String::from_utf8_lossy(value.as_bytes())).collect();
            (!values.is_empty()).then(|| values.join(", "))
        };
        names
            .into_iter()
            .map(|name| HeaderChange {
                name: name.to_string(),
                before: all(&self.before, name),
                after: all(sent, name),
            })
            .filter(|change| change.before != change.after)
            .collect()
    }
}

/// Tells whether a client asks to switch protocols, as the codec of HTTP/1.1 sees it.
fn asks_upgrade(headers: &HeaderMap) -> bool {
    let named = headers.get(header::CONNECTION).and_then(|value| value.to_str().ok()).unwrap_or_default();
    headers.contains_key(header::UPGRADE) && named.split(',').any(|one| one.trim().eq_ignore_ascii_case("upgrade"))
}

/// What stands for an id that the proxy would make.
const MADE: HeaderValue = HeaderValue::from_static("(a new one)");

fn host(authority: &str) -> Result<HeaderValue, Refusal> {
    HeaderValue::from_str(authority)
        .map_err(|_| Refusal::new(format!("`{authority}` is no host"), "write http://HOST/PATH"))
}

fn field(name: &str, value: &str) -> Result<(HeaderName, HeaderValue), Refusal> {
    let hint = "write --header NAME:VALUE";
    let parsed = HeaderName::from_bytes(name.trim().as_bytes())
        .map_err(|_| Refusal::new(format!("`{name}` is no name of a header"), hint))?;
    let value = HeaderValue::from_str(value.trim())
        .map_err(|_| Refusal::new(format!("the value of header `{name}` has a control character"), hint))?;
    Ok((parsed, value))
}
