//! `classify`, `breaker` and `health` of `[defaults]` and services.

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Period, PeriodRange, Ratio};

/// What counts against an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Classify {
    /// Replies that are failures: `4xx`, `5xx`, a status from `400` to `599`, a range such as `500-504`, or a gRPC status
    /// by name (`unavailable`). Default `["5xx"]`, and for gRPC `deadline-exceeded`, `internal`, `unavailable`,
    /// `data-loss`: naming a status of one kind leaves the other's default. `[]`: no reply is a failure. 429 and
    /// `resource-exhausted` count for the success rate alone, unless they stand here.
    pub failure: Option<Vec<String>>,
    /// Replies that are retried as if they stood in `retry.on`, in the same words. Default: none, `retry.on` decides.
    pub retryable: Option<Vec<String>>,
}

/// When an endpoint is ejected: it gets no requests for a time, then one, which decides.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Breaker {
    /// Failures in a row that eject; 0: any number is borne. Default 5.
    #[schemars(range(min = 0, max = 1000))]
    pub consecutive: Option<u32>,
    /// Success rate under which it is ejected; `0%`: any rate is borne. Default `80%`.
    pub success_below: Option<Ratio>,
    /// Time over which the success rate is taken, `1s` to `10m`. Default `10s`.
    pub window: Option<Period>,
    /// Fewest requests in the window before the success rate counts. Default 10.
    #[schemars(range(min = 1, max = 1_000_000))]
    pub min_requests: Option<u32>,
    /// How long it is ejected: about twice as long each time in a row, within this range, `100ms` to `1h`. Default `1s..60s`.
    pub eject: Option<PeriodRange>,
    /// Largest share of a service's endpoints that may be ejected; rounds down, at least one. Default `50%`.
    pub max_ejected: Option<Ratio>,
}

/// Active health checks: endpoints that fail them get no requests while others are left.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Health {
    /// `http`, `tcp` (a connection, TLS included), `grpc` (`grpc.health.v1`) or `off`. Default `http` where there is a `path`;
    /// required without one.
    pub r#type: Option<HealthType>,
    /// For `http`: the path of a GET. Required for it.
    pub path: Option<String>,
    /// For `http`: the `Host`. Default: `tls.server_name`, else the endpoint's address.
    pub host: Option<String>,
    /// For `http`: the status that is good, or a range such as `200-399`. Default `200-299`.
    pub status: Option<String>,
    /// For `grpc`: the service whose health is asked for. Default: the server as a whole.
    pub service: Option<String>,
    /// Time between two checks of an endpoint, `100ms` to `1h`, ± 10 %. Default `5s`.
    pub interval: Option<Period>,
    /// Limit for one check, at most `interval`. Default `1s`, or `interval` where that is shorter.
    pub timeout: Option<Period>,
    /// Good checks in a row until a bad endpoint is used again. The very first check decides alone. Default 2.
    #[schemars(range(min = 1, max = 100))]
    pub healthy: Option<u32>,
    /// Bad checks in a row until a good endpoint is not used any more. The very first check decides alone. Default 3.
    #[schemars(range(min = 1, max = 100))]
    pub unhealthy: Option<u32>,
}

/// What is asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum HealthType {
    Http,
    Tcp,
    Grpc,
    Off,
}
