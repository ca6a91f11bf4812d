//! What a person writes into a scenario. `config` and `compare` are read apart: see [`written`](crate::config::written).

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Period, Rate, Ratio};
use crate::offline::catalog::Listed;

/// A scenario.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Scenario {
    /// The listener that requests come in by. Default: the only one.
    pub(super) listener: Option<String>,
    /// The service that is asked, without a route; or `url`.
    pub(super) service: Option<String>,
    /// What is asked for: `http://host/path`; or `service`.
    pub(super) url: Option<String>,
    /// Default GET.
    pub(super) method: Option<String>,
    /// Headers of requests.
    pub(super) headers: BTreeMap<String, String>,
    /// SPIFFE ID of the client.
    pub(super) from: Option<String>,
    /// Address of the client.
    pub(super) address: Option<String>,
    /// Requests a second, minute or hour. Required.
    pub(super) rate: Option<Rate>,
    /// At equal distances, or at random. Default `steady`.
    pub(super) arrivals: Option<Arrivals>,
    /// For how long requests arrive. Required.
    pub(super) duration: Option<Period>,
    /// Requests before that are in no figure. Default 0 s.
    pub(super) warm_up: Option<Period>,
    /// What luck is made from. Default 1.
    pub(super) seed: Option<u64>,
    /// Of endpoints that say nothing else. Default 10 ms.
    pub(super) latency: Option<Latency>,
    /// How endpoints behave.
    pub(super) endpoints: Vec<Endpoint>,
    /// What befalls them.
    pub(super) faults: Vec<Fault>,
    /// What targets list, by target; those that are `static` say it themselves.
    pub(super) catalog: BTreeMap<String, Vec<Listed>>,
    /// What targets list from a time on.
    pub(super) listings: Vec<Listing>,
}

/// When requests arrive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Arrivals {
    Poisson,
    Steady,
}

/// How long answers take.
#[derive(Debug, Clone, PartialEq, Deserialize, JsonSchema)]
#[serde(untagged)]
pub(super) enum Latency {
    /// Always so long.
    Constant(String),
    /// Log-normal.
    LogNormal(Percentiles),
}

/// A log-normal distribution.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Percentiles {
    /// The median. Required.
    pub(super) p50: Option<String>,
    /// The 99th percentile. Required.
    pub(super) p99: Option<String>,
}

/// How an endpoint behaves.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Endpoint {
    /// Where it listens. Required.
    pub(super) address: Option<String>,
    /// How long answers take. Default: the scenario's.
    pub(super) latency: Option<Latency>,
    /// How long a connection takes. Default 0.
    pub(super) connect: Option<String>,
    /// Requests that it serves at once; others wait in line. Default: any number.
    #[schemars(range(min = 1))]
    pub(super) capacity: Option<u32>,
}

/// What befalls an endpoint.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Fault {
    /// Its address; or `endpoints`.
    pub(super) endpoint: Option<String>,
    /// Addresses of several.
    pub(super) endpoints: Vec<String>,
    /// What it is. Required.
    pub(super) kind: Option<Kind>,
    /// When it begins. Default: at the start.
    pub(super) from: Option<Period>,
    /// When it ends. Default: never.
    pub(super) to: Option<Period>,
    /// Of its requests; only for `reset`, `slow` and `status`. Default 100 %.
    pub(super) share: Option<Ratio>,
    /// How many times slower, for `slow`. Required there.
    #[schemars(range(min = 1, max = 10_000))]
    pub(super) factor: Option<f64>,
    /// Which one, for `status`. Default 500.
    #[schemars(range(min = 100, max = 599))]
    pub(super) status: Option<u16>,
    /// How long the answer takes, for `status`. Default: as long as a good one.
    pub(super) latency: Option<Latency>,
    /// `Retry-After` of the answer, for `status`, in whole seconds as the header has it. Default: none.
    pub(super) retry_after: Option<Period>,
}

/// What befalls an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Down,
    Frozen,
    Reset,
    Slow,
    Status,
    Unreachable,
}

/// What a target lists from a time on.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(super) struct Listing {
    /// When. Required.
    pub(super) at: Option<Period>,
    /// Which target. Required.
    pub(super) target: Option<String>,
    /// All its endpoints. Default: none.
    pub(super) endpoints: Vec<Listed>,
}
