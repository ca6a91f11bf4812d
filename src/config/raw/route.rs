//! `[[routes]]`.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use super::service::{Hedge, Retry};
use crate::config::units::{Period, Rate, Ratio};

/// A route: what decides where requests go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Route {
    /// Its name; names are unique. Default: `route` and its number, counted from 1.
    pub name: Option<String>,
    /// Name of the listener that it is for. Default: every listener without `to`.
    pub listener: Option<String>,
    /// What it matches. Default: everything.
    #[serde(rename = "match")]
    pub matches: Option<Match>,
    /// Where a request goes: a target expression. Required, unless the route has `redirect` or `respond`.
    pub to: Option<String>,
    /// Wins over the timeout of the service. Default: not set.
    pub timeout: Option<Period>,
    /// Wins over the retries of the service, key by key; the budget stays the service's. Default: not set.
    pub retry: Option<Retry>,
    /// Wins over the hedging of the service. Default: not set.
    pub hedge: Option<Hedge>,
    /// Changes path or host of the request. Default: not set.
    pub rewrite: Option<Rewrite>,
    /// Changes headers of the request. Default: not set.
    pub headers: Option<HeaderChanges>,
    /// Changes headers of the reply, an endpoint's or the route's own. Default: not set.
    pub response_headers: Option<HeaderChanges>,
    /// Sends a copy elsewhere; its reply is dropped. Default: not set.
    pub mirror: Option<Mirror>,
    /// Limits the rate; what is over it is answered with 429. Default: not set.
    pub rate_limit: Option<RateLimit>,
    /// Makes requests slow or fail, for tests. Default: not set.
    pub fault: Option<Fault>,
    /// Answers with a redirect, instead of `to`. Default: not set.
    pub redirect: Option<Redirect>,
    /// Answers by itself, instead of `to`. Default: not set.
    pub respond: Option<Respond>,
}

/// What a route matches; all of it must.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// A host without port, or `*.` and a suffix for one or more labels before it; the SNI on `tls-passthrough`.
    /// Default: any.
    pub host: Option<String>,
    /// A path; `/a/*` for the path before `/*` and all below it; `/a/{id}` where a segment may be anything; or
    /// `{ regex = "…" }` for the whole path. Default: any.
    pub path: Option<PathMatch>,
    /// Methods. Default: any.
    pub method: Option<Vec<String>>,
    /// Headers by name: `"v"`, `"v*"`, `"*v"`, `{ regex = "…" }`, `{ present = true }`, `{ not = … }`. Of several with one
    /// name, one that fits is enough. Default: any.
    pub headers: Option<BTreeMap<String, ValueMatch>>,
    /// Query parameters by name, decoded; the same forms. Default: any.
    pub query: Option<BTreeMap<String, ValueMatch>>,
    /// A gRPC service or method: `pkg.Service` or `pkg.Service/Method`. Default: any.
    pub grpc: Option<String>,
    /// SPIFFE ID of the client, or its beginning and `/*`; known where the listener verifies client certificates.
    /// Default: any.
    pub from: Option<String>,
    /// Networks of the client, such as `10.0.0.0/8`; its address is what the listener sees, after a PROXY header.
    /// Default: any.
    pub address: Option<Vec<String>>,
}

/// Which path.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathMatch {
    /// Exact, a prefix, or with captures.
    Text(String),
    /// By a regular expression.
    Regex(Regex),
}

/// A regular expression.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Regex {
    /// A regular expression (syntax of Rust's `regex`) that matches as a whole; named groups are captures. Required.
    pub regex: Option<String>,
}

/// Which value of a header or parameter.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum ValueMatch {
    /// `v`, `v*` or `*v`.
    Text(String),
    /// By a rule.
    Rule(ValueRule),
}

/// A rule for a value: one of its keys.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValueRule {
    /// A regular expression that matches as a whole. Default: not set.
    pub regex: Option<String>,
    /// Whether it is there. Default: not set.
    pub present: Option<bool>,
    /// What no value may be; also holds where there is none. Default: not set.
    pub not: Option<NotMatch>,
}

/// What a value is not.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum NotMatch {
    /// `v`, `v*` or `*v`.
    Text(String),
    /// By a regular expression.
    Regex(Regex),
}

/// Changes path or host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// New path, with `{captures}` of `match.path` and `{rest}`; the query stays. Default: as it came.
    pub path: Option<String>,
    /// New host, with a port if endpoints expect one. Default: as it came.
    pub host: Option<String>,
}

/// Changes headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Headers by name, in place of what was there. Default: none.
    pub set: Option<BTreeMap<String, String>>,
    /// Names of headers that go. Default: none.
    pub remove: Option<Vec<String>>,
}

/// Sends a copy elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// Where: a target expression. Required.
    pub to: Option<String>,
    /// Of which share of requests. Default `100%`.
    pub share: Option<Ratio>,
}

/// Limits the rate.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// What has a limit of its own: each `from` (SPIFFE ID), `address` (IPv6 by /64) or `header:NAME`. Default: the whole
    /// route has one.
    pub per: Option<String>,
    /// How many in a second, minute or hour, such as `100/s`. Required.
    pub rate: Option<Rate>,
    /// How many at once, when there were none for a while. Default: what comes in one second, at least 1.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub burst: Option<u32>,
}

/// Injects faults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Waits so long; the time counts against timeouts and deadlines. Default: not set.
    pub delay: Option<Period>,
    /// Answers with this status, after the wait. Default: not set, the request goes on.
    #[schemars(range(min = 400, max = 599))]
    pub status: Option<u16>,
    /// For which share of requests. Default `100%`.
    pub share: Option<Ratio>,
}

/// Answers with a redirect.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// Status: 301, 302, 303, 307 or 308. Default 308.
    pub status: Option<u16>,
    /// New scheme: `http` or `https`. Default: as it was asked for.
    pub scheme: Option<String>,
    /// New host, with a port where it is not that of the scheme. Default: as it was asked for; without its port where
    /// `scheme` is set.
    pub host: Option<String>,
    /// New path, with `{captures}` of `match.path` and `{rest}`; the query stays. Default: as it was asked for.
    pub path: Option<String>,
}

/// Answers by itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// Status. Default 200.
    #[schemars(range(min = 200, max = 599))]
    pub status: Option<u16>,
    /// Body; `application/json` if it is JSON, else plain text. Default: empty.
    pub body: Option<String>,
}
