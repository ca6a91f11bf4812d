//! Backends of the type `dns`.

use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use meshless_discovery::{DnsConfig, DnsFamily};

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::raw;

/// Most servers that may be named.
const MAX_RESOLVERS: usize = 8;

/// What `min_ttl` and `max_ttl` may be: below a second it is a load test of the servers, above an hour nothing is found
/// that moves.
const TTLS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

impl Check<'_> {
    pub(super) fn dns_backend(&mut self, table: &raw::Discovery, path: &Path) -> DnsConfig {
        let default = DnsConfig::default();
        let resolvers = match &table.resolvers {
            None => Vec::new(),
            Some(texts) => self.resolvers(texts, &path.key("resolvers")),
        };
        let mut ttl = |key: &str, value: Option<crate::config::units::Period>, default: Duration| {
            let value = value.map_or(default, |value| value.0);
            if !TTLS.contains(&value) {
                self.error(&path.key(key), At::Value, "expected 1s to 1h");
            }
            value
        };
        let min_ttl = ttl("min_ttl", table.min_ttl, default.min_ttl);
        // A floor above the default ceiling raises it.
        let max_ttl = ttl("max_ttl", table.max_ttl, default.max_ttl.max(min_ttl.min(*TTLS.end())));
        if max_ttl < min_ttl {
            self.error(&path.key("max_ttl"), At::Value, "expected no less than `min_ttl`");
        }
        let family = match table.family {
            None | Some(raw::DnsFamily::Any) => DnsFamily::Any,
            Some(raw::DnsFamily::Ipv4) => DnsFamily::Ipv4,
            Some(raw::DnsFamily::Ipv6) => DnsFamily::Ipv6,
        };
        let allow_link_local = table.allow_link_local.unwrap_or(default.allow_link_local);
        DnsConfig { resolvers, min_ttl, max_ttl, family, allow_link_local }
    }

    fn resolvers(&mut self, texts: &[String], path: &Path) -> Vec<SocketAddr> {
        if texts.is_empty() || texts.len() > MAX_RESOLVERS {
            let message = format!(
                "expected 1 to {MAX_RESOLVERS} servers, found {}; without the key the system's are asked",
                texts.len()
            );
            self.error(path, At::Value, message);
        }
        let mut resolvers: Vec<SocketAddr> = Vec::new();
        for (index, text) in texts.iter().enumerate() {
            let place = path.position(index);
            match resolver(text) {
                Some(address) if resolvers.contains(&address) => {
                    self.error(&place, At::Value, format!("`{address}` stands there twice"));
                }
                Some(address) => resolvers.push(address),
                None => {
                    let message = format!(
                        "expected the address of a server such as `10.0.0.2:53` or `[::1]:53`, found {}",
                        shown(text)
                    );
                    self.error(&place, At::Value, message);
                }
            }
        }
        resolvers
    }
}

/// Reads a server's address; the port may be left out.
fn resolver(text: &str) -> Option<SocketAddr> {
    let bare = || text.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>().ok();
    let address = text.parse().ok().or_else(|| Some(SocketAddr::new(bare()?, 53)))?;
    (address.port() != 0 && !address.ip().is_unspecified() && !address.ip().is_multicast()).then_some(address)
}
