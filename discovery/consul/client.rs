//! Talks to one agent of Consul: one exchange at a time, bounded in time and size.
//!
//! An [`Ask`] is what is asked, a [`Reply`] is an answer of 200 with what its headers say; everything else is an
//! [`Error`] that names the exchange and what to do. `transport` makes connections, `token` knows the token, `failure`
//! (pure) reads what went wrong. Whoever registers services uses the same client.

use std::time::Duration;

use reqwest::Method;
use reqwest::header::{ACCEPT, AGE, CONTENT_TYPE, DATE, HeaderMap, HeaderName};
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::failure;
use super::token::Token;
use super::transport::Transport;
use crate::{Calls, ConsulConfig, Error};

/// Limit of an exchange that does not wait for a change.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// Most bytes of an answer: ten thousand instances with all the metadata that Consul takes are about half of it.
const MAX_BODY: usize = 64 * 1024 * 1024;

/// Most bytes that are read of an answer that is an error.
const MAX_COMPLAINT: usize = 4096;

const TOKEN: HeaderName = HeaderName::from_static("x-consul-token");
const INDEX: HeaderName = HeaderName::from_static("x-consul-index");
const FILTERED: HeaderName = HeaderName::from_static("x-consul-results-filtered-by-acls");
const KNOWN_LEADER: HeaderName = HeaderName::from_static("x-consul-knownleader");
const LAST_CONTACT: HeaderName = HeaderName::from_static("x-consul-lastcontact");

/// Talks to one agent.
#[derive(Debug)]
pub(crate) struct Client {
    transport: Transport,
    token: Token,
    calls: Calls,
}

/// What is asked of an agent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ask {
    call: &'static str,
    path: String,
    query: String,
    limit: Duration,
    permission: String,
}

/// What an agent answered with 200.
#[derive(Debug)]
pub(crate) struct Reply {
    /// `X-Consul-Index`: the state of what was asked for.
    pub(crate) index: Option<u64>,
    /// Something was left out because the token may not see it. Agents before 1.11 do not say.
    pub(crate) is_filtered: bool,
    /// Whether the server that answered knows a leader, where it says so.
    pub(crate) knows_leader: Option<bool>,
    /// How long ago the server that answered heard from its leader, where it says so.
    pub(crate) last_contact: Option<Duration>,
    /// How long the agent has been cut off from what it answered with, where that came from its cache.
    pub(crate) age: Option<Duration>,
    /// The agent's clock, as it wrote it.
    pub(crate) date: Option<String>,
    at: String,
    body: Vec<u8>,
}

impl Ask {
    /// Asks for `/v1/CALL`; `permission` is what Consul wants for it, such as ``service:read on `web` ``.
    pub(crate) fn new(call: &'static str, permission: impl Into<String>) -> Self {
        Self { call, path: format!("/v1/{call}"), query: String::new(), limit: PATIENCE, permission: permission.into() }
    }

    /// Adds a segment to the path, whatever is in it.
    pub(crate) fn below(mut self, segment: &str) -> Self {
        self.path.push('/');
        encode(segment, &mut self.path);
        self
    }

    /// Adds a parameter to the query.
    pub(crate) fn with(mut self, key: &str, value: &str) -> Self {
        self = self.flag(key);
        self.query.push('=');
        encode(value, &mut self.query);
        self
    }

    /// Adds a parameter without a value.
    pub(crate) fn flag(mut self, key: &str) -> Self {
        self.query.push(if self.query.is_empty() { '?' } else { '&' });
        encode(key, &mut self.query);
        self
    }

    /// Returns path and query, for tests of whoever asks.
    #[cfg(test)]
    pub(crate) fn url(&self) -> String {
        format!("{}{}", self.path, self.query)
    }

    /// Returns the limit of the exchange, for tests of whoever asks.
    #[cfg(test)]
    pub(crate) fn limit(&self) -> Duration {
        self.limit
    }

    /// Bounds the whole exchange; the default is [`PATIENCE`].
    pub(crate) fn within(self, limit: Duration) -> Self {
        Self { limit, ..self }
    }
}

impl Reply {
    /// Reads the body.
    pub(crate) fn json<T: DeserializeOwned>(&self) -> Result<T, Error> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Error::Malformed(format!("{}: not the JSON that Consul answers with: {error}", self.at)))
    }

    /// Says what was asked and where.
    pub(crate) fn at(&self) -> &str {
        &self.at
    }
}

impl Client {
    /// Returns a client; nothing is read or asked before [`Client::get`] is.
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        Self { transport: Transport::new(config), token: Token::new(config), calls: Calls::default() }
    }

    /// Counts every exchange by its call.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Tells whether there is a token to show, now.
    pub(crate) async fn has_token(&self) -> bool {
        matches!(self.token.header().await, Ok(Some(_)))
    }

    /// Asks. Cancel-safe: a call that is dropped closes its connection and changes nothing.
    pub(crate) async fn get(&self, ask: Ask) -> Result<Reply, Error> {
        self.exchange(Method::GET, ask, None).await
    }

    /// Writes. Not cancel-safe: whether a call that was dropped took effect is not known.
    pub(crate) async fn put(&self, ask: Ask, body: Option<&serde_json::Value>) -> Result<Reply, Error> {
        self.exchange(Method::PUT, ask, body.map(ToString::to_string)).await
    }

    async fn exchange(&self, method: Method, ask: Ask, body: Option<String>) -> Result<Reply, Error> {
        let at = format!("{method} {} at {}", ask.path, self.transport.address());
        let limit = ask.limit;
        let exchanged = timeout(limit, Box::pin(self.unbounded(method, ask, body, &at))).await;
        exchanged.unwrap_or_else(|_| {
            Err(Error::Unreachable(format!("{at}: no whole answer within {} s", limit.as_secs_f32())))
        })
    }

    async fn unbounded(&self, method: Method, ask: Ask, body: Option<String>, at: &str) -> Result<Reply, Error> {
        let token = self.token.header().await?;
        let http = self.transport.client().await?;
        let url = format!("{}{}{}", self.transport.base(), ask.path, ask.query);
        let mut request = http.request(method, url).header(ACCEPT, "application/json");
        if let Some(token) = token {
            request = request.header(TOKEN, token);
        }
        if let Some(body) = body {
            request = request.header(CONTENT_TYPE, "application/json").body(body);
        }
        self.calls.count(ask.call);
        let mut response = request.send().await.map_err(|error| failure::of_exchange(at, &error))?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let is_good = status == reqwest::StatusCode::OK;
        let limit = if is_good { MAX_BODY } else { MAX_COMPLAINT };
        let mut body = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() <= limit => body.extend_from_slice(&chunk),
                Ok(Some(_)) if is_good => {
                    return Err(Error::Malformed(format!("{at}: the answer is larger than {MAX_BODY} bytes")));
                }
                // Of a complaint the beginning is enough, and its status says most of it.
                Ok(Some(_) | None) => break,
                Err(_) if !is_good => break,
                Err(error) => return Err(failure::of_exchange(at, &error)),
            }
        }
        if !is_good {
            return Err(failure::of_status(at, status, &headers, &body, &ask.permission));
        }
        Ok(Reply {
            index: number(&headers, &INDEX),
            is_filtered: text(&headers, &FILTERED) == Some("true"),
            knows_leader: text(&headers, &KNOWN_LEADER).map(|text| text == "true"),
            last_contact: number(&headers, &LAST_CONTACT).map(Duration::from_millis),
            age: number(&headers, &AGE).map(Duration::from_secs),
            date: text(&headers, &DATE).map(ToOwned::to_owned),
            at: at.to_owned(),
            body,
        })
    }
}

fn text<'a>(headers: &'a HeaderMap, name: &HeaderName) -> Option<&'a str> {
    headers.get(name)?.to_str().ok().map(str::trim)
}

fn number(headers: &HeaderMap, name: &HeaderName) -> Option<u64> {
    text(headers, name)?.parse().ok()
}

/// Writes what stands for itself in every part of a URL, and escapes the rest (RFC 3986, 2.3).
fn encode(text: &str, into: &mut String) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            into.push(char::from(byte));
        } else {
            into.push('%');
            for digit in [byte >> 4, byte & 15] {
                into.extend(char::from_digit(u32::from(digit), 16).map(|digit| digit.to_ascii_uppercase()));
            }
        }
    }
}

#[cfg(test)]
mod tests;
