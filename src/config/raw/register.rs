//! `[register]`: what other gateways find us by.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::Period;

/// Registers this workload in Consul, once the gateway is ready and the application is well; leaves in order on SIGTERM.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Register {
    /// Name of the backend, a table of `[discovery]` of type `consul`: the agent of this host. Required.
    pub backend: Option<String>,
    /// Name of the listener that is registered, a TCP one. Required where there are several.
    pub listener: Option<String>,
    /// Name of the service. Default `node.service`; required without it.
    pub service: Option<String>,
    /// IP address that others reach us by. Default: what the listener binds, and where that is all addresses, the one that
    /// this host reaches others from.
    pub address: Option<String>,
    /// Port that others reach us by, where something maps it. Default: the listener's.
    #[schemars(range(min = 1, max = 65535))]
    pub port: Option<u16>,
    /// Tags. Default: none.
    pub tags: Vec<String>,
    /// Metadata of the service; keys that begin with `meshless-` are ours. Default: none.
    pub meta: BTreeMap<String, String>,
    /// Weight while the check passes. Default 1.
    #[schemars(range(min = 1, max = 65535))]
    pub weight: Option<u32>,
    /// How the application is checked. Default: it is not, and we are registered for as long as the gateway runs.
    pub check: Option<RegisterCheck>,
    /// Consul takes us for dead after so long without a word from us, `5s` to `1h`; we say one three times as often. Default
    /// `15s`.
    pub ttl: Option<Period>,
    /// Consul removes us when we were dead or ill for so long, `1m` (Consul's own least) to `24h`. Default `1m`.
    pub deregister_after: Option<Period>,
    /// Goes on accepting so long after we were taken out of Consul on SIGTERM, at most `10m`; runs beside `shutdown.grace`.
    /// Default `2s`.
    pub wait: Option<Period>,
}

/// How the application is checked before and while it is registered.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct RegisterCheck {
    /// Who checks: the `gateway`, which writes only what changed, or Consul's `agent`. Default `gateway`.
    pub by: Option<CheckedBy>,
    /// Address and port of the application, or `unix:` and a path. Default: the one endpoint that the listener's `to` names.
    pub address: Option<String>,
    /// `http`, `tcp` (a connection) or `grpc` (`grpc.health.v1`). Default `http` where there is a `path`, else `tcp`.
    pub r#type: Option<RegisterCheckType>,
    /// For `http`: the path of a GET. Required for it.
    pub path: Option<String>,
    /// For `http`: the `Host`. Default: the application's address.
    pub host: Option<String>,
    /// For `http`, where the gateway checks: the status that is good, or a range such as `200-399`. Default `200-299`.
    pub status: Option<String>,
    /// For `grpc`: the service whose health is asked for. Default: the server as a whole.
    pub service: Option<String>,
    /// Time between two checks, `100ms` to `1h`, ± 10 %. Default `2s`.
    pub interval: Option<Period>,
    /// Limit for one check, at most `interval`. Default `1s`, or `interval` where that is shorter.
    pub timeout: Option<Period>,
    /// Good checks in a row until an ill application is taken for well (nerve: `rise`). The very first one decides alone.
    /// Default 2.
    #[schemars(range(min = 1, max = 100))]
    pub healthy: Option<u32>,
    /// Bad checks in a row until it is taken for ill (nerve: `fall`). The very first one decides alone. Default 3.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy: Option<u32>,
}

/// Who checks the application.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum CheckedBy {
    Gateway,
    Agent,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum RegisterCheckType {
    Http,
    Tcp,
    Grpc,
}
