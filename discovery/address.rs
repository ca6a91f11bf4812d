//! Where an endpoint listens, and the one place that reads such an address from text.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// Why a text is not an address that a connection can be made to.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct AddressError(String);

impl Address {
    /// Most bytes of a Unix socket's path: `sun_path` has 108, the last one is NUL.
    pub const MAX_UNIX_PATH: usize = 107;
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// Reads `10.0.0.1:80`, `[::1]:80` or `unix:/path`; names are never looked up.
impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        match text.strip_prefix("unix:") {
            Some(path) => unix(path),
            None => tcp(text),
        }
        .map_err(|problem| AddressError(format!("`{text}` {problem}")))
    }
}

fn unix(path: &str) -> Result<Address, String> {
    if !path.starts_with('/') {
        return Err("is not an absolute path; write `unix:/run/app.sock`".to_owned());
    }
    if path.len() > Address::MAX_UNIX_PATH {
        return Err(format!("is longer than the {} bytes that a Unix socket's path may have", Address::MAX_UNIX_PATH));
    }
    if path.chars().any(char::is_control) {
        return Err("has a control character in its path".to_owned());
    }
    Ok(Address::Unix(PathBuf::from(path)))
}

fn tcp(text: &str) -> Result<Address, String> {
    let Ok(address) = text.parse::<SocketAddr>() else { return Err(explain(text)) };
    if address.port() == 0 {
        return Err("has port 0, which nothing can listen on".to_owned());
    }
    if address.ip().is_unspecified() {
        return Err("means \"all addresses\", which is a place to listen, not one to connect to".to_owned());
    }
    if address.ip().is_multicast() {
        return Err("is a multicast address".to_owned());
    }
    Ok(Address::Tcp(address))
}

/// Says what is wrong with a text that is no socket address: the usual mistakes have an answer each.
fn explain(text: &str) -> String {
    const SHAPE: &str = "write `10.0.0.1:80`, `[::1]:80` or `unix:/run/app.sock`";
    if let Ok(ip) = text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>() {
        let example = SocketAddr::new(ip, 80);
        return format!("has no port; write `{example}`, with the port it listens on");
    }
    if text.starts_with('/') {
        return format!("is a path; write `unix:{text}`");
    }
    if text.contains("://") {
        return format!("is a URL; {SHAPE}");
    }
    let Some((host, port)) = text.rsplit_once(':') else { return format!("is not an address with a port; {SHAPE}") };
    if let Ok(ip) = host.parse::<std::net::Ipv6Addr>() {
        return format!("needs brackets; write `[{ip}]:{port}`");
    }
    if port.parse::<u16>().is_err() {
        return format!("has a port that is not a number up to 65535; {SHAPE}");
    }
    let looks_like_a_name = host.bytes().any(|byte| byte.is_ascii_alphabetic())
        && host.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-' | b'_'));
    if looks_like_a_name {
        return format!("is a host name, only IP addresses are taken here; a target `dns/{text}` looks names up");
    }
    format!("is not an address; {SHAPE}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_of_each_kind_are_read_and_printed_alike() {
        for text in ["10.0.0.1:80", "[::1]:80", "[fe80::1%2]:80", "unix:/run/app.sock"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn each_usual_mistake_has_its_own_answer() {
        for (text, answer) in [
            ("web.internal:80", "`dns/web.internal:80`"),
            ("localhost:80", "host name"),
            ("10.0.0.1", "write `10.0.0.1:80`"),
            ("::1", "write `[::1]:80`"),
            ("[::1]", "write `[::1]:80`"),
            ("fe80::x:80", "is not an address"),
            ("10.0.0.1:99999", "port"),
            ("10.0.0.1:", "port"),
            ("10.0.0.1:0", "port 0"),
            ("10.0.0.300:80", "is not an address"),
            ("0.0.0.0:80", "all addresses"),
            ("[::]:80", "all addresses"),
            ("224.0.0.1:80", "multicast"),
            ("http://10.0.0.1:80", "URL"),
            ("/run/app.sock", "write `unix:/run/app.sock`"),
            ("unix:app.sock", "absolute"),
            ("unix:/a\nb", "control"),
            ("", "not an address"),
        ] {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(answer), "{text:?}: {error}");
        }
    }

    #[test]
    fn a_unix_path_that_the_kernel_would_refuse_is_refused_here() {
        let longest = format!("unix:/{}", "a".repeat(Address::MAX_UNIX_PATH - 1));
        assert!(longest.parse::<Address>().is_ok());
        assert!(format!("{longest}a").parse::<Address>().is_err());
    }
}
