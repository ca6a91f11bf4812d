//! `[defaults]` and `[services.NAME]`.

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::resilience::{Breaker, Classify, Health};
use crate::config::units::{Period, PeriodRange, Ratio, Size};

/// A service: a named upstream. Besides its own keys it takes every key of `[defaults]`.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
// Flattened tables cannot deny unknown fields in serde; the schema does, and it is what keys are checked against.
#[schemars(extend("additionalProperties" = false))]
pub struct Service {
    /// Where its endpoints are found: a target expression without services. Required.
    pub from: Option<String>,
    /// SPIFFE IDs that its endpoints may have with `tls = "mesh"`. Default: `spiffe://TRUST-DOMAIN/svc/` and the name of the
    /// service.
    pub identity: Option<Vec<String>>,
    /// How it is called.
    #[serde(flatten)]
    pub policies: Policies,
}

/// Policies: how endpoints are called.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("additionalProperties" = false))]
pub struct Policies {
    /// What endpoints speak. Default `auto`: by ALPN with TLS; in clear h2c for gRPC, else HTTP/1.1.
    pub protocol: Option<Protocol>,
    /// TLS to endpoints: `off`; `mesh`, by the identity of this workload, to endpoints that have the one that is expected; or a
    /// table. Default `off`.
    pub tls: Option<Tls>,
    /// How an endpoint is chosen. Default `peak-ewma`.
    pub balance: Option<Balance>,
    /// Time in which an endpoint that comes beside established ones grows from a tenth of its weight to all of it; at most
    /// `1h`, `0s`: at once. Not for kinds of hashing. Default: not set, at once.
    pub slow_start: Option<Period>,
    /// Whether requests stay in `node.zone` as far as its healthy weight allows. Not for kinds of hashing. Default `ignore`.
    pub zones: Option<Zones>,
    /// From the end of the request to the head of the reply, retries included. Default `15s`.
    pub timeout: Option<Period>,
    /// For a connection, TLS included. Default `1s`.
    pub connect_timeout: Option<Period>,
    /// Longest silence of a body, a tunnel or a TCP connection. Default `5m`.
    pub idle_timeout: Option<Period>,
    /// When a request is sent again.
    pub retry: Option<Retry>,
    /// What counts against an endpoint.
    pub classify: Option<Classify>,
    /// A second request when the first one is slow: of requests without a body that may be repeated, to another endpoint,
    /// within the retry budget. Default: none.
    pub hedge: Option<Hedge>,
    /// When an endpoint is ejected.
    pub breaker: Option<Breaker>,
    /// Limits over all workers.
    pub limits: Option<Limits>,
    /// Active health checks. Default: none.
    pub health: Option<Health>,
    /// Healthy share of endpoints below which, in every tier, health is ignored; `0%`: never. Default `50%`.
    pub panic: Option<Ratio>,
    /// Overprovisioning factor between tiers and zones: how much more than its share a healthy part can carry; 1 to 100.
    /// Default 1.4.
    #[schemars(range(min = 1, max = 100))]
    pub spill: Option<f64>,
}

/// What endpoints speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum Protocol {
    Auto,
    Http1,
    Http2,
    Tcp,
}

/// TLS to endpoints.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Tls {
    /// `off` or `mesh`.
    Name(TlsName),
    /// TLS by given files.
    Files(TlsFiles),
}

/// TLS to endpoints, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum TlsName {
    Off,
    Mesh,
}

/// TLS to endpoints by given files.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct TlsFiles {
    /// Trust anchors: a PEM file, or `system` for the system's store. Default `system`.
    pub ca: Option<String>,
    /// Our certificate chain, a PEM file; with `key`. Default: not set.
    pub cert: Option<PathBuf>,
    /// Our private key, a PEM file; with `cert`. Default: not set.
    pub key: Option<PathBuf>,
    /// Name to ask for and to check. Default: the endpoint's IP address is checked and no name asked for.
    pub server_name: Option<String>,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Balance {
    /// By name.
    Name(BalanceName),
    /// By the hash of a key.
    Hash(HashOn),
}

/// How an endpoint is chosen, by name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum BalanceName {
    PeakEwma,
    LeastRequest,
    RoundRobin,
    Random,
}

/// An endpoint is chosen by the hash of a key: requests of one key go to one endpoint, the same one from every gateway.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct HashOn {
    /// Which kind of hashing. Required.
    pub kind: Option<HashKind>,
    /// What is hashed: `header:NAME`, `cookie:NAME` or `address`; a request without it is balanced at random. Required.
    pub on: Option<String>,
}

/// Kinds of consistent hashing.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the algorithms are")]
pub enum HashKind {
    RingHash,
    Maglev,
}

/// Whether requests stay in the gateway's own zone.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum Zones {
    Ignore,
    Prefer,
}

/// When a request is sent again.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// What is retried: `connect`, `reset`, a status from `400` to `599`, `unavailable` (gRPC). Default
    /// `["connect", "reset", "503", "unavailable"]`; `[]` retries nothing.
    pub on: Option<Vec<String>>,
    /// All tries, the first one included; 1 to 10. Default 2.
    #[schemars(range(min = 1, max = 10))]
    pub attempts: Option<u32>,
    /// Limit for one try, until the head of its reply. Default: not set.
    pub per_try: Option<Period>,
    /// Wait between tries, with full jitter. Default `25ms..250ms`.
    pub backoff: Option<PeriodRange>,
    /// Share of requests that may be retries. Default `20%`.
    pub budget: Option<Ratio>,
    /// Retries that are always allowed, per second. Default 10.
    #[schemars(range(min = 0, max = 1_000_000))]
    pub min_per_second: Option<f64>,
    /// Largest body that is kept for another try; at most `16MiB`. Default `64KiB`.
    pub body_limit: Option<Size>,
    /// Which methods may be sent again once an endpoint may have seen them. Default `idempotent`.
    pub methods: Option<RetryMethods>,
}

/// Which methods may be sent again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum RetryMethods {
    All,
    Idempotent,
}

/// Limits of a service, over all workers.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Limits {
    /// Open connections. Default 1,024.
    #[schemars(range(min = 1))]
    pub connections: Option<usize>,
    /// Requests that wait for a connection. Default 1,024.
    #[schemars(range(min = 0))]
    pub pending: Option<usize>,
    /// Requests in flight. Default 10,000.
    #[schemars(range(min = 1))]
    pub requests: Option<usize>,
    /// Finds the limit of requests in flight by how latency rises with it. Default false.
    #[schemars(extend("x-later" = true, "x-later-unless" = false))]
    pub adaptive: Option<bool>,
    /// Longest wait for a connection. Default `1s`.
    pub queue: Option<Period>,
}

/// A second request when the first one is slow.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Hedge {
    /// After how long: a percentile of the last minute, `p50` to `p99.9`, or a duration. Required.
    pub after: Option<String>,
}
