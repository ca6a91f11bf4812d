//! Hosts that a route may be for.

use std::net::IpAddr;

use super::super::Check;
use crate::config::HostMatch;
use crate::config::problem::{At, Path, shown};

impl Check<'_> {
    pub(super) fn host(&mut self, text: &str, path: &Path) -> Option<HostMatch> {
        let lower = text.to_ascii_lowercase();
        let (suffix, name) = lower.strip_prefix("*.").map_or((false, lower.as_str()), |name| (true, name));
        if is_host(name) && !(suffix && name.starts_with('[')) {
            return Some(if suffix { HostMatch::Suffix(format!(".{name}")) } else { HostMatch::Exact(lower) });
        }
        let hint = match text {
            "*" => "; without `host` a route matches every host",
            _ if text.contains("://") => "; a host has no scheme",
            _ if text.contains(':') => "; ports are ignored, leave it out",
            _ => "",
        };
        let message =
            format!("expected a host such as `api.example.com` or `*.example.com`, found {}{hint}", shown(text));
        self.error(path, At::Value, message);
        None
    }
}

/// A name or an address as it may stand in a request, without port.
pub(crate) fn is_host(text: &str) -> bool {
    if let Some(inside) = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']')) {
        return inside.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6());
    }
    let label = |label: &str| {
        !label.is_empty()
            && label.len() <= 63
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.len() <= 253 && text.split('.').all(label)
}
