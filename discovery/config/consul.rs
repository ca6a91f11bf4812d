//! What the `consul` backend needs to be told.

use std::fmt;
use std::path::PathBuf;
use std::time::Duration;

/// What the `consul` backend needs to be told; what the `CONSUL_*` variables say is in it already.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsulConfig {
    /// `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`; default [`ConsulConfig::DEFAULT_ADDRESS`].
    pub address: String,
    /// The token; [`ConsulConfig::token_file`] wins.
    pub token: Option<String>,
    /// A file with the token, read anew when it changes.
    pub token_file: Option<PathBuf>,
    /// PEM file of the authority of the agent's certificate; default the system's.
    pub ca: Option<PathBuf>,
    /// PEM file of our certificate.
    pub cert: Option<PathBuf>,
    /// PEM file of its key.
    pub key: Option<PathBuf>,
    /// Name in the agent's certificate; default the host of the address.
    pub server_name: Option<String>,
    /// Datacenter of targets that name none; default the agent's own.
    pub datacenter: Option<String>,
    /// Namespace of targets that name none.
    pub namespace: Option<String>,
    /// Admin partition of targets that name none.
    pub partition: Option<String>,
    /// Cluster peer of targets that name none.
    pub peer: Option<String>,
    /// Which server may answer.
    pub consistency: ConsulConsistency,
    /// Lets the agent answer from its cache.
    pub cached: bool,
    /// How long one blocking query waits for a change, default [`ConsulConfig::DEFAULT_WAIT`].
    pub wait: Duration,
    /// Most blocking queries at a time, default [`ConsulConfig::DEFAULT_BLOCKING`]; further targets are polled in turn.
    pub blocking: usize,
}

/// Which of Consul's servers may answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ConsulConsistency {
    /// The leader, without asking the others whether it still is.
    Leader,
    /// Any server; usually some 50 ms behind the leader.
    #[default]
    Stale,
    /// The leader, after asking the others.
    Consistent,
}

impl ConsulConfig {
    /// The agent of this host.
    pub const DEFAULT_ADDRESS: &str = "http://127.0.0.1:8500";
    /// 60 s: a poll that hangs is noticed soon, and a thousand targets at rest are 17 requests a second.
    pub const DEFAULT_WAIT: Duration = Duration::from_mins(1);
    /// 150: an agent takes 200 connections of one client (`limits.http_max_conns_per_client`).
    pub const DEFAULT_BLOCKING: usize = 150;
}

impl Default for ConsulConfig {
    fn default() -> Self {
        Self {
            address: Self::DEFAULT_ADDRESS.to_owned(),
            token: None,
            token_file: None,
            ca: None,
            cert: None,
            key: None,
            server_name: None,
            datacenter: None,
            namespace: None,
            partition: None,
            peer: None,
            consistency: ConsulConsistency::default(),
            cached: false,
            wait: Self::DEFAULT_WAIT,
            blocking: Self::DEFAULT_BLOCKING,
        }
    }
}

/// Without the token.
impl fmt::Debug for ConsulConfig {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ConsulConfig")
            .field("address", &self.address)
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}
