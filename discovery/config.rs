//! What a backend needs to be told, and the only way to open one.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

#[cfg(feature = "dns")]
use crate::dns;
use crate::{Backend, Snapshot, Target, TargetError, file, inline};

/// `[discovery.NAME]`, checked: which kind of backend it is and what that kind needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Config {
    /// Names of DNS; needs no table, the defaults are the system's resolvers.
    Dns(DnsConfig),
    /// Endpoints in files.
    File {
        /// A file that ends in `.toml`, `.yaml`, `.yml` or `.json`, or a directory of such files.
        path: PathBuf,
    },
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

/// Opens the backend called `name`. Does no IO: a backend that is not there yet is an error of its sources.
pub fn open(name: &str, config: &Config) -> Result<Arc<dyn Backend>, OpenError> {
    match config {
        #[cfg(feature = "dns")]
        Config::Dns(config) => Ok(Arc::new(dns::Dns::new(config))),
        #[cfg(not(feature = "dns"))]
        Config::Dns(_) => {
            Err(OpenError { name: name.to_owned(), problem: "this build has no `dns` backend".to_owned() })
        }
        Config::File { path } if path.as_os_str().is_empty() => {
            Err(OpenError { name: name.to_owned(), problem: "`path` is empty; name a file or a directory".to_owned() })
        }
        Config::File { path } => Ok(Arc::new(file::File::new(path.clone()))),
        Config::Static => Ok(Arc::new(inline::Inline)),
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
