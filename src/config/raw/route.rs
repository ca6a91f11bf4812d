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
    /// Where a request goes: a target expression. Required.
    pub to: Option<String>,
    /// Wins over the timeout of the service. Default: not set.
    pub timeout: Option<Period>,
    /// Wins over the retries of the service.
    #[schemars(extend("x-later" = true))]
    pub retry: Option<Retry>,
    /// Wins over the hedging of the service.
    #[schemars(extend("x-later" = true))]
    pub hedge: Option<Hedge>,
    /// Changes path or host.
    #[schemars(extend("x-later" = true))]
    pub rewrite: Option<Rewrite>,
    /// Changes headers of the request.
    #[schemars(extend("x-later" = true))]
    pub headers: Option<HeaderChanges>,
    /// Changes headers of the reply.
    #[schemars(extend("x-later" = true))]
    pub response_headers: Option<HeaderChanges>,
    /// Sends a copy elsewhere.
    #[schemars(extend("x-later" = true))]
    pub mirror: Option<Mirror>,
    /// Limits the rate.
    #[schemars(extend("x-later" = true))]
    pub rate_limit: Option<RateLimit>,
    /// Injects faults.
    #[schemars(extend("x-later" = true))]
    pub fault: Option<Fault>,
    /// Answers with a redirect, instead of `to`.
    #[schemars(extend("x-later" = true))]
    pub redirect: Option<Redirect>,
    /// Answers by itself, instead of `to`.
    #[schemars(extend("x-later" = true))]
    pub respond: Option<Respond>,
}

/// What a route matches; all of it must.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Match {
    /// A host without port, or `*.` and a suffix for one or more labels before it; the SNI on `tls-passthrough`.
    /// Default: any.
    pub host: Option<String>,
    /// A path, or `/prefix/*` for the prefix itself and all below it. Default: any.
    pub path: Option<PathMatch>,
    /// Methods.
    #[schemars(extend("x-later" = true))]
    pub method: Option<Vec<String>>,
    /// Headers.
    #[schemars(extend("x-later" = true))]
    pub headers: Option<BTreeMap<String, ValueMatch>>,
    /// Query parameters.
    #[schemars(extend("x-later" = true))]
    pub query: Option<BTreeMap<String, ValueMatch>>,
    /// A gRPC service and method.
    #[schemars(extend("x-later" = true))]
    pub grpc: Option<String>,
    /// SPIFFE ID of the client.
    #[schemars(extend("x-later" = true))]
    pub from: Option<String>,
    /// Networks of the client.
    #[schemars(extend("x-later" = true))]
    pub address: Option<Vec<String>>,
}

/// Which path.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum PathMatch {
    /// Exact, or a prefix.
    Text(String),
    /// By a regular expression.
    Regex(Regex),
}

/// A regular expression.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
#[schemars(extend("x-later" = true))]
pub struct Regex {
    /// The expression.
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

/// A rule for a value.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ValueRule {
    /// A regular expression.
    pub regex: Option<String>,
    /// Whether it is there.
    pub present: Option<bool>,
    /// What it is not.
    pub not: Option<Box<ValueMatch>>,
}

/// Changes path or host.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Rewrite {
    /// New path.
    pub path: Option<String>,
    /// New host.
    pub host: Option<String>,
}

/// Changes headers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HeaderChanges {
    /// Headers that are set.
    pub set: Option<BTreeMap<String, String>>,
    /// Headers that are removed.
    pub remove: Option<Vec<String>>,
}

/// Sends a copy elsewhere.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Mirror {
    /// Where.
    pub to: Option<String>,
    /// Of how many requests.
    pub share: Option<Ratio>,
}

/// Limits the rate.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimit {
    /// Of each `from`, `address` or `header:NAME`.
    pub per: Option<String>,
    /// Rate.
    pub rate: Option<Rate>,
    /// How many at once.
    pub burst: Option<u32>,
}

/// Injects faults.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Fault {
    /// Waits so long.
    pub delay: Option<Period>,
    /// Answers with this status.
    pub status: Option<u16>,
    /// For how many requests.
    pub share: Option<Ratio>,
}

/// Answers with a redirect.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Redirect {
    /// Status.
    pub status: Option<u16>,
    /// New scheme.
    pub scheme: Option<String>,
    /// New host.
    pub host: Option<String>,
    /// New path.
    pub path: Option<String>,
}

/// Answers by itself.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Respond {
    /// Status.
    pub status: Option<u16>,
    /// Body.
    pub body: Option<String>,
}
