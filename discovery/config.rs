//! What a backend needs to be told, and the only way to open one.

mod aws;
mod consul;
mod kubernetes;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::{Backend, Snapshot, Target, TargetError, file, inline};

pub use aws::{AwsConfig, AwsKeys, CloudmapConfig, EcsConfig};
pub use consul::{ConsulAddress, ConsulConfig, ConsulConsistency, ConsulHost};
pub use kubernetes::{KubernetesAddresses, KubernetesConfig, KubernetesSurroundings};

/// `[discovery.NAME]`, checked: which kind of backend it is and what that kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// Services of AWS Cloud Map.
    Cloudmap(CloudmapConfig),
    /// Services of Consul.
    Consul(ConsulConfig),
    /// Names of DNS; needs no table, the defaults are the system's resolvers.
    Dns(DnsConfig),
    /// Tasks of AWS ECS.
    Ecs(EcsConfig),
    /// Endpoints in files.
    File {
        /// A file that ends in `.toml`, `.yaml`, `.yml` or `.json`, or a directory of such files.
        path: PathBuf,
    },
    /// Services of Kubernetes.
    Kubernetes(KubernetesConfig),
    /// Endpoints that stand in the target itself; needs no table.
    Static,
}

/// What the `dns` backend needs to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DnsConfig {
    /// Servers, asked in this order; empty: the system's, from `/etc/resolv.conf`. With these, every name is absolute.
    pub resolvers: Vec<SocketAddr>,
    /// Shortest time that an answer is taken to hold, default [`DnsConfig::DEFAULT_MIN_TTL`].
    pub min_ttl: Duration,
    /// Longest time that an answer is taken to hold, default [`DnsConfig::DEFAULT_MAX_TTL`].
    pub max_ttl: Duration,
    /// Which addresses are asked for.
    pub family: DnsFamily,
    /// Takes link-local and metadata addresses too.
    pub allow_link_local: bool,
}

impl DnsConfig {
    /// 5 s: what Linkerd's proxies poll at and take for a floor.
    pub const DEFAULT_MIN_TTL: Duration = Duration::from_secs(5);
    /// 5 min: a deploy does not wait longer for an answer that promised to hold for a day.
    pub const DEFAULT_MAX_TTL: Duration = Duration::from_mins(5);
}

impl Default for DnsConfig {
    fn default() -> Self {
        Self {
            resolvers: Vec::new(),
            min_ttl: Self::DEFAULT_MIN_TTL,
            max_ttl: Self::DEFAULT_MAX_TTL,
            family: DnsFamily::default(),
            allow_link_local: false,
        }
    }
}

/// Which addresses of a name are asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DnsFamily {
    /// A and AAAA: both have to be answered, one of them may have none.
    #[default]
    Any,
    /// A alone, for networks without IPv6 or servers that fail when asked for it.
    Ipv4,
    /// AAAA alone.
    Ipv6,
}

/// Why a backend cannot be opened.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("discovery backend `{name}`: {problem}")]
pub struct OpenError {
    name: String,
    problem: String,
}

impl OpenError {
    /// Says what is wrong with the backend called `name`.
    pub(crate) fn new(name: &str, problem: &str) -> Self {
        Self { name: name.to_owned(), problem: problem.to_owned() }
    }
}

/// Opens the backend called `name`. Does no IO: a backend that is not there yet is an error of its sources.
pub fn open(name: &str, config: &Config) -> Result<Arc<dyn Backend>, OpenError> {
    let refused = |problem: &str| OpenError { name: name.to_owned(), problem: problem.to_owned() };
    match config {
        #[cfg(feature = "cloudmap")]
        Config::Cloudmap(config) => Ok(Arc::new(crate::cloudmap::Cloudmap::new(config))),
        #[cfg(feature = "consul")]
        Config::Consul(config) => Ok(Arc::new(crate::consul::Consul::new(config))),
        #[cfg(feature = "dns")]
        Config::Dns(config) => Ok(Arc::new(crate::dns::Dns::new(config))),
        #[cfg(feature = "ecs")]
        Config::Ecs(config) => Ok(Arc::new(crate::ecs::Ecs::new(config))),
        Config::File { path } if path.as_os_str().is_empty() => {
            Err(refused("`path` is empty; name a file or a directory"))
        }
        Config::File { path } => Ok(Arc::new(file::File::new(path.clone()))),
        #[cfg(feature = "kubernetes")]
        Config::Kubernetes(config) => Ok(Arc::new(crate::kubernetes::Kubernetes::new(config))),
        Config::Static => Ok(Arc::new(inline::Inline)),
        #[allow(unreachable_patterns, reason = "a build with every feature has them all")]
        _ => Err(refused(&format!("this build has no `{}` backend", config.kind()))),
    }
}

impl Config {
    /// Returns what kind of backend it is, in the word that `type` takes.
    pub fn kind(&self) -> &'static str {
        match self {
            Self::Cloudmap(_) => "cloudmap",
            Self::Consul(_) => "consul",
            Self::Dns(_) => "dns",
            Self::Ecs(_) => "ecs",
            Self::File { .. } => "file",
            Self::Kubernetes(_) => "kubernetes",
            Self::Static => "static",
        }
    }

    /// Tells whether this build has that kind of backend.
    pub fn is_built(kind: &str) -> bool {
        let built = [
            ("cloudmap", cfg!(feature = "cloudmap")),
            ("consul", cfg!(feature = "consul")),
            ("dns", cfg!(feature = "dns")),
            ("ecs", cfg!(feature = "ecs")),
            ("kubernetes", cfg!(feature = "kubernetes")),
            ("file", true),
            ("static", true),
        ];
        built.contains(&(kind, true))
    }
}

/// Says what is wrong with a target for a backend of this kind, without opening one that is used.
pub fn check(name: &str, config: &Config, target: &Target) -> Result<(), TargetError> {
    let backend = open(name, config).map_err(|error| TargetError(error.to_string()))?;
    backend.source(target).map(drop)
}

/// Returns the endpoints that stand in a target itself; `None` for a backend that has to be asked.
pub fn written(config: &Config, target: &Target) -> Option<Result<Snapshot, TargetError>> {
    matches!(config, Config::Static).then(|| inline::written(target))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_backend_without_a_path_is_refused_by_name() {
        let error = open("hosts", &Config::File { path: PathBuf::new() }).unwrap_err();
        assert_eq!(error.to_string(), "discovery backend `hosts`: `path` is empty; name a file or a directory");
    }

    #[test]
    fn a_backend_whose_place_is_not_there_yet_opens() {
        assert!(open("file", &Config::File { path: "/nowhere/at/all".into() }).is_ok());
    }

    #[cfg(not(feature = "dns"))]
    #[test]
    fn a_build_without_a_backend_says_so() {
        let error = open("dns", &Config::Dns(DnsConfig::default())).unwrap_err();
        assert_eq!(error.to_string(), "discovery backend `dns`: this build has no `dns` backend");
    }
}
