//! What the `consul` backend needs to be told.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

/// What the `consul` backend needs to be told; what the `CONSUL_*` variables say is in it already.
#[derive(Clone, PartialEq, Eq)]
pub struct ConsulConfig {
    /// Where the agent listens; default [`ConsulAddress::default`].
    pub address: ConsulAddress,
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

/// Where an agent of Consul listens.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ConsulAddress {
    /// In clear text.
    Http(ConsulHost),
    /// With TLS.
    Https(ConsulHost),
    /// A Unix socket, in clear text.
    Unix(PathBuf),
}

/// The host of an agent's address, checked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConsulHost {
    host: String,
    port: u16,
    prefix: String,
}

impl ConsulHost {
    /// Returns a name, or an IP address without brackets.
    pub fn host(&self) -> &str {
        &self.host
    }

    /// Returns the port.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Returns what stands before `/v1` in each path: nothing, or `/PREFIX`.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }
}

impl fmt::Display for ConsulHost {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(formatter, "{open}{}{close}:{}{}", self.host, self.port, self.prefix)
    }
}

/// The agent of this host: `http://127.0.0.1:8500`.
impl Default for ConsulAddress {
    fn default() -> Self {
        Self::Http(ConsulHost { host: "127.0.0.1".to_owned(), port: 8500, prefix: String::new() })
    }
}

impl fmt::Display for ConsulAddress {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Http(host) => write!(formatter, "http://{host}"),
            Self::Https(host) => write!(formatter, "https://{host}"),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Reads `http://HOST:PORT`, `https://HOST:PORT`, `HOST:PORT` (clear text), each with a path before `/v1` where a proxy
/// wants one, and `unix:/path` or `unix:///path`. The error says what is expected.
impl FromStr for ConsulAddress {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if let Some(path) = text.strip_prefix("unix:") {
            let path = path.strip_prefix("//").unwrap_or(path);
            let is_path = path.starts_with('/') && path.len() > 1 && !path.contains(char::is_control);
            return if is_path {
                Ok(Self::Unix(Path::new(path).to_owned()))
            } else {
                Err("expected an absolute path behind `unix:`, such as `unix:/run/consul/http.sock`".to_owned())
            };
        }
        match text.split_once("://") {
            None => host(text, 8500).map(Self::Http),
            Some(("http", rest)) => host(rest, 8500).map(Self::Http),
            Some(("https", rest)) => host(rest, 8501).map(Self::Https),
            Some(_) => Err(SHAPE.to_owned()),
        }
    }
}

const SHAPE: &str = "expected `http://HOST:PORT`, `https://HOST:PORT` or `unix:/path`";

fn host(text: &str, default_port: u16) -> Result<ConsulHost, String> {
    let (authority, path) = text.split_once('/').unwrap_or((text, ""));
    let path = path.trim_matches('/');
    if authority.contains('@') {
        return Err("a user in the address is not taken; the agent's HTTP interface takes a token".to_owned());
    }
    let (name, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((address, rest)) if address.parse::<std::net::Ipv6Addr>().is_ok() => (address, rest.strip_prefix(':')),
        Some(_) => return Err(SHAPE.to_owned()),
        None => match authority.split_once(':') {
            Some((name, port)) => (name, Some(port)),
            None => (authority, None),
        },
    };
    let is_host = !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_' | b':'));
    let is_path = path.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~".contains(&byte))
        && !path.split('/').any(|segment| matches!(segment, "." | ".."));
    let port = port.map_or(Some(default_port), |port| port.parse().ok().filter(|port| *port > 0));
    match port {
        Some(port) if is_host && is_path => {
            let prefix = if path.is_empty() { String::new() } else { format!("/{path}") };
            Ok(ConsulHost { host: name.to_owned(), port, prefix })
        }
        _ => Err(SHAPE.to_owned()),
    }
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
    /// 60 s: a poll that hangs is noticed soon, and a thousand targets at rest are 17 requests a second.
    pub const DEFAULT_WAIT: Duration = Duration::from_mins(1);
    /// 150: an agent takes 200 connections of one client (`limits.http_max_conns_per_client`).
    pub const DEFAULT_BLOCKING: usize = 150;
}

impl Default for ConsulConfig {
    fn default() -> Self {
        Self {
            address: ConsulAddress::default(),
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
            .field("address", &self.address.to_string())
            .field("token", &self.token.as_ref().map(|_| "…"))
            .finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_each_kind_are_read_and_printed() {
        for (text, printed) in [
            ("http://127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("127.0.0.1:8500", "http://127.0.0.1:8500"),
            ("consul.internal", "http://consul.internal:8500"),
            ("https://consul.internal", "https://consul.internal:8501"),
            ("https://[::1]:8501/", "https://[::1]:8501"),
            ("https://proxy/consul/eu/", "https://proxy:8501/consul/eu"),
            ("unix:/run/consul.sock", "unix:/run/consul.sock"),
            ("unix:///run/consul.sock", "unix:/run/consul.sock"),
        ] {
            let address: ConsulAddress = text.parse().unwrap();
            assert_eq!(address.to_string(), printed);
            assert_eq!(printed.parse(), Ok(address));
        }
    }

    #[test]
    fn what_is_no_address_says_what_is_expected() {
        for text in [
            "",
            "http://",
            "ftp://a:1",
            "http://a:0",
            "http://a:99999",
            "http://a b",
            "http://[::x]:1",
            "http://::1:80",
            "unix:run/a",
            "unix:",
            "http://u:p@a:1",
            "http://a/../b",
            "http://a/b?c",
            "http://a#b",
        ] {
            let error = text.parse::<ConsulAddress>().unwrap_err();
            assert!(error.contains("expected") || error.contains("not taken"), "{text}: {error}");
        }
    }
}
