//! `[node]`, `[admin]`, `[names]`, `[telemetry]` and `[shutdown]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use crate::config::units::{Period, Ratio, Size};

/// This process.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Node {
    /// The service that we ask to be. Default: not set.
    pub service: Option<String>,
    /// Our zone, such as `eu-west-1a`. Default: what the platform says, else not set.
    pub zone: Option<String>,
    /// The IP address that others reach this process by: `${node.address}`, and what is registered where a listener binds all
    /// addresses. Default: what the platform says, else that of the default route.
    pub address: Option<String>,
    /// Where this process runs. `auto` takes what started it: `ecs`, `nomad`, `kubernetes`, then `ec2`, else `vm`. A platform that is
    /// named here has to answer, or the gateway does not start. Default `auto`.
    pub platform: Option<Platform>,
    /// Where last-known-good snapshots are kept. Default `$STATE_DIRECTORY`, else `/var/lib/meshless`.
    pub state_dir: Option<PathBuf>,
    /// Worker threads, 1 to 1,024. Default: the CPUs that this process may use; the quota of its control group or ECS task is
    /// rounded up.
    #[schemars(range(min = 1, max = 1024))]
    pub workers: Option<usize>,
    /// Memory that this process may use; from 90 % of it on requests are turned away, step by step. At least `16MiB`. Default:
    /// the limit of its control group (container, systemd unit), else none.
    pub memory: Option<Size>,
}

/// Where this process runs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they are named as the platforms are")]
pub enum Platform {
    Auto,
    Ecs,
    Kubernetes,
    Ec2,
    Nomad,
    Vm,
}

/// The admin interface.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Admin {
    /// The whole interface: a loopback address and port, or `unix:` and a path. Default `127.0.0.1:9990`.
    pub listen: Option<String>,
    /// `/live`, `/ready` and `/metrics` alone, for kubelet, load balancers and Prometheus. Default: not set.
    pub probes: Option<String>,
}

/// Logs, metrics and traces.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Telemetry {
    /// Form of the access log. Default `json`.
    pub access_log: Option<AccessLog>,
    /// Where spans of requests go. Default: not set, nothing is recorded.
    pub traces: Option<Traces>,
}

/// Form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum AccessLog {
    Json,
    Text,
    Off,
}

/// Where traces go.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Traces {
    /// URL of a collector that takes OTLP over HTTP; `/v1/traces` is added, the port is 4318 (`https`: 443) unless it says
    /// another one. Required.
    pub otlp: Option<String>,
    /// Share of the requests that are recorded, where the caller has not decided it already. Default `1%`.
    pub sample: Option<Ratio>,
    /// Headers for the collector, such as a key; write secrets as `${VARIABLE}`. Default: none.
    pub headers: BTreeMap<String, String>,
    /// What the spans say that we are. Default `node.service`, else `meshless`.
    pub service_name: Option<String>,
    /// PEM file with the authority of the collector's certificate, for `https`. Default: the system's.
    pub ca: Option<PathBuf>,
}

/// What happens on a signal to end.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Shutdown {
    /// Goes on accepting so long after SIGTERM. Default `0s`.
    pub grace: Option<Period>,
    /// Longest wait for what is in flight. Default `25s`.
    pub drain: Option<Period>,
    /// What AWS says to a spot instance that drains as SIGTERM does: `interruption` (the instance is taken back in two minutes),
    /// `rebalance` (it may be). On the platform `ec2` only. Default both; `[]`: neither.
    pub notices: Option<Vec<Notice>>,
}

/// What AWS says to a spot instance.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the key says it")]
pub enum Notice {
    Interruption,
    Rebalance,
}

/// Logical names: what hosts that no route matched stand for. A name is looked up on first use and let go of when nobody
/// has asked for it for 10 min; at most 1,000 are in use at a time. Policies are those of `[defaults]`, or of the services
/// that `target` names.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Name {
    /// Pattern of a host, such as `{service}.{env}.mesh`: a capture takes one label of a-z, 0-9 and `-`. Required.
    #[serde(rename = "match")]
    pub matches: Option<String>,
    /// Target expression in which the captures of `match` may stand, such as `consul/{service}[tag={env}]`; never in the
    /// place of a backend, nor in `static/` or `dns/`. Required.
    pub target: Option<String>,
}
