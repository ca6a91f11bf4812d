//! `[discovery.NAME]`, checked.

mod aws;
mod consul;
mod dns;
mod kubernetes;

use std::path::PathBuf;

use meshless_discovery::Config;
use serde::Serialize;

pub use aws::{Cloudmap, Ecs};
pub use consul::Consul;
pub use dns::Dns;
pub use kubernetes::Kubernetes;

/// `[discovery.NAME]`, for the backends that this build has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Backend {
    /// Services of AWS Cloud Map.
    Cloudmap(Cloudmap),
    /// Services of Consul.
    Consul(Consul),
    /// Names of DNS.
    Dns(Dns),
    /// Tasks of AWS ECS.
    Ecs(Ecs),
    /// Endpoints in files.
    File {
        /// A file or a directory.
        path: PathBuf,
    },
    /// Services of Kubernetes.
    Kubernetes(Kubernetes),
}

impl Backend {
    /// Tells whether it reads routes, too, which are known only while a gateway runs.
    pub fn reads_routes(&self) -> bool {
        matches!(self, Self::Kubernetes(Kubernetes(config)) if config.routes)
    }

    /// Returns what the backend is opened with.
    pub fn to_discovery(&self) -> Config {
        match self {
            Self::Cloudmap(Cloudmap(config)) => Config::Cloudmap(config.clone()),
            Self::Consul(Consul(config)) => Config::Consul(config.clone()),
            Self::Dns(Dns(config)) => Config::Dns(config.clone()),
            Self::Ecs(Ecs(config)) => Config::Ecs(config.clone()),
            Self::File { path } => Config::File { path: path.clone() },
            Self::Kubernetes(Kubernetes(config)) => Config::Kubernetes(config.clone()),
        }
    }
}
