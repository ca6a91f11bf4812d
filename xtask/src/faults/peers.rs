//! The gateway and Envoy with settings that mean the same, as far as each has them.

use std::fmt::Write as _;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::{http, process};

/// Who takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Proxy {
    Meshless,
    Envoy,
}

/// Where the programs are, and where what they need is written.
#[derive(Debug)]
pub(super) struct Setup {
    pub(super) meshless: PathBuf,
    pub(super) envoy: PathBuf,
    /// More lines for the gateway's service.
    pub(super) policies: String,
    pub(super) folder: PathBuf,
}

/// What the gateway is told, besides addresses. `breaker`, `classify`, `balance` and `limits` are left at their defaults.
pub(super) const MESHLESS_POLICIES: &str = "protocol = \"http1\"\ntimeout = \"5s\"\nretry = { on = [\"connect\", \"reset\", \"500\", \"503\"], per_try = \"1s\" }\n";

impl Proxy {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Meshless => "meshless",
            Self::Envoy => "Envoy",
        }
    }

    /// Returns which version takes part.
    pub(super) fn version(self, setup: &Setup) -> anyhow::Result<String> {
        let program = match self {
            Self::Meshless => &setup.meshless,
            Self::Envoy => &setup.envoy,
        };
        let printed = process::output(Command::new(program).arg("--version"))?;
        Ok(match self {
            Self::Meshless => printed.trim().replacen("meshless ", "", 1),
            // `envoy  version: COMMIT/1.40.0/Clean/RELEASE/BoringSSL`
            Self::Envoy => {
                // Before it stands the path of the program.
                let (_, version) = printed.split_once("version:").unwrap_or_default();
                version.split('/').nth(1).unwrap_or("unknown").to_owned()
            }
        })
    }

    /// Returns the address of a proxy and its command, before tiers of endpoints.
    pub(super) fn command(self, setup: &Setup, tiers: &[Vec<SocketAddr>]) -> anyhow::Result<(SocketAddr, Command)> {
        let listen = http::free_address()?;
        let command = match self {
            Self::Meshless => meshless(setup, listen, tiers)?,
            Self::Envoy => envoy(setup, listen, tiers)?,
        };
        Ok((listen, command))
    }
}

fn meshless(setup: &Setup, listen: SocketAddr, tiers: &[Vec<SocketAddr>]) -> anyhow::Result<Command> {
    let mut from = String::new();
    for tier in tiers {
        let addresses: Vec<String> = tier.iter().map(ToString::to_string).collect();
        let between = if from.is_empty() { "" } else { " | " };
        let _ = write!(from, "{between}static/{}", addresses.join(","));
    }
    let text = format!(
        "[node]\nworkers = 1\nstate_dir = \"{state}\"\n\n[admin]\nlisten = \"{admin}\"\n\n[telemetry]\naccess_log = \"off\"\n\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"{listen}\"\nlimits = {{ requests_per_connection = 0 }}\n\n\
         [services.app]\nfrom = \"{from}\"\n{MESHLESS_POLICIES}{policies}\n\n[[routes]]\nto = \"app\"\n",
        state = setup.folder.join("state").display(),
        admin = http::free_address()?,
        policies = setup.policies,
    );
    let file = write(&setup.folder, "meshless.toml", &text)?;
    let mut command = Command::new(&setup.meshless);
    command.args(["run", "-c"]).arg(file);
    Ok(command)
}

fn envoy(setup: &Setup, listen: SocketAddr, tiers: &[Vec<SocketAddr>]) -> anyhow::Result<Command> {
    let file = write(&setup.folder, "envoy.json", &format!("{:#}", envoy_configuration(listen, tiers)))?;
    let mut command = Command::new(&setup.envoy);
    command.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "error", "-c"]).arg(file);
    Ok(command)
}

fn envoy_configuration(listen: SocketAddr, tiers: &[Vec<SocketAddr>]) -> Value {
    let route = json!({
        "cluster": "app",
        "timeout": "5s",
        "retry_policy": {
            "retry_on": "connect-failure,refused-stream,reset,retriable-status-codes",
            "retriable_status_codes": [500, 503],
            "num_retries": 1,
            "per_try_timeout": "1s",
            "retry_back_off": { "base_interval": "0.025s", "max_interval": "0.25s" },
            "retry_host_predicate": [{
                "name": "envoy.retry_host_predicates.previous_hosts",
                "typed_config": typed("extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate", json!({})),
            }],
            "host_selection_retry_max_attempts": 5,
        },
    });
    let manager = json!({
        "stat_prefix": "edge",
        "http_filters": [{
            "name": "envoy.filters.http.router",
            "typed_config": typed("extensions.filters.http.router.v3.Router", json!({})),
        }],
        "route_config": { "virtual_hosts": [{
            "name": "all",
            "domains": ["*"],
            "routes": [{ "match": { "prefix": "/" }, "route": route }],
        }] },
    });
    let manager = typed("extensions.filters.network.http_connection_manager.v3.HttpConnectionManager", manager);
    json!({ "static_resources": {
        "listeners": [{
            "name": "edge",
            "address": socket_address(listen),
            "filter_chains": [{ "filters": [{
                "name": "envoy.filters.network.http_connection_manager",
                "typed_config": manager,
            }] }],
        }],
        "clusters": [cluster(tiers)],
    } })
}

/// Ejection as the gateway's defaults have it: five in a row, or less than 80 % of at least ten good in 10 s; from a
/// second on, each time longer; at most half of the endpoints.
fn cluster(tiers: &[Vec<SocketAddr>]) -> Value {
    let localities = tiers.iter().zip(0_u32..).map(|(tier, priority)| {
        let endpoints = tier.iter().map(|address| json!({ "endpoint": { "address": socket_address(*address) } }));
        json!({ "priority": priority, "lb_endpoints": endpoints.collect::<Value>() })
    });
    json!({
        "name": "app",
        "type": "STATIC",
        "connect_timeout": "1s",
        "lb_policy": "LEAST_REQUEST",
        "load_assignment": { "cluster_name": "app", "endpoints": localities.collect::<Value>() },
        "outlier_detection": {
            "consecutive_5xx": 5,
            "interval": "1s",
            "base_ejection_time": "1s",
            "max_ejection_time": "60s",
            "max_ejection_percent": 50,
            "failure_percentage_threshold": 20,
            "enforcing_failure_percentage": 100,
            "failure_percentage_minimum_hosts": 1,
            "failure_percentage_request_volume": 10,
        },
        "circuit_breakers": { "thresholds": [{
            "max_connections": 1024,
            "max_pending_requests": 1024,
            "max_requests": 10000,
            "retry_budget": { "budget_percent": { "value": 20.0 }, "min_retry_concurrency": 10 },
        }] },
    })
}

fn socket_address(address: SocketAddr) -> Value {
    json!({ "socket_address": { "address": address.ip().to_string(), "port_value": address.port() } })
}

/// Envoy wants to be told the type of whatever may be extended.
fn typed(name: &str, mut value: Value) -> Value {
    if let Some(fields) = value.as_object_mut() {
        fields.insert("@type".to_owned(), json!(format!("type.googleapis.com/envoy.{name}")));
    }
    value
}

fn write(folder: &Path, name: &str, text: &str) -> anyhow::Result<PathBuf> {
    let file = folder.join(name);
    std::fs::write(&file, text).with_context(|| format!("write {}", file.display()))?;
    Ok(file)
}
