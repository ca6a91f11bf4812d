//! `[discovery.NAME]`: each kind of backend has keys of its own.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::time::Duration;

use meshless_discovery::{DnsConfig, DnsFamily};

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{Backend, Dns, raw};
use crate::target::is_name;

/// Most servers that may be named.
const MAX_RESOLVERS: usize = 8;

/// What `min_ttl` and `max_ttl` may be: below a second it is a load test of the servers, above an hour nothing is found
/// that moves.
const TTLS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

/// Whether this build has the backend `dns`.
pub(super) const HAS_DNS: bool = cfg!(feature = "dns");

impl Check<'_> {
    pub(super) fn discovery(&mut self, raw: &BTreeMap<String, raw::Discovery>) -> BTreeMap<String, Backend> {
        let mut backends = BTreeMap::new();
        for (name, table) in raw {
            let path = Path::default().key("discovery").key(name);
            if name == "static" {
                self.error(&path, At::Key, "`static` is always there and has no keys; remove the table");
                continue;
            }
            if !is_name(name) {
                let message = "expected a name of a-z, 0-9, `.`, `_` and `-` that begins with a letter or digit";
                self.error(&path, At::Key, message);
                continue;
            }
            match (table.kind, name.as_str()) {
                (Some(raw::DiscoveryType::File), _) | (None, "file") => {
                    self.refuse(&path, "dns", &keys_of_dns(table));
                    match &table.path {
                        Some(file) => {
                            self.not_empty(&file.to_string_lossy(), &path.key("path"));
                            backends.insert(name.clone(), Backend::File { path: file.clone() });
                        }
                        None => self.missing(&path.key("path"), "missing: name a file or a directory of endpoints"),
                    }
                }
                (Some(raw::DiscoveryType::Dns), _) | (None, "dns") => {
                    self.refuse(&path, "file", &[("path", table.path.is_some())]);
                    if HAS_DNS {
                        backends.insert(name.clone(), Backend::Dns(self.dns(table, &path)));
                    } else {
                        self.error(
                            &path,
                            At::Key,
                            "this build has no `dns` backend; it was built without that feature",
                        );
                    }
                }
                (None, known) if is_later(known) => {
                    self.error(
                        &path,
                        At::Key,
                        format!("the backend `{known}` is not in this build yet; it has `dns` and `file`"),
                    );
                }
                (None, _) => {
                    self.missing(&path.key("type"), "missing: the table's name is not a type; write `type = \"file\"`");
                }
                // The schema has refused it already.
                (Some(_), _) => {}
            }
        }
        backends
    }

    /// Refuses keys that are there and belong to another kind of backend: they would change nothing.
    fn refuse(&mut self, path: &Path, kind: &str, keys: &[(&str, bool)]) {
        for (key, _) in keys.iter().filter(|(_, is_there)| *is_there) {
            self.error(&path.key(key), At::Key, format!("a key of backends of the type `{kind}`; remove it"));
        }
    }

    fn dns(&mut self, table: &raw::Discovery, path: &Path) -> Dns {
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
        Dns(DnsConfig { resolvers, min_ttl, max_ttl, family, allow_link_local })
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

fn keys_of_dns(table: &raw::Discovery) -> [(&'static str, bool); 5] {
    [
        ("resolvers", table.resolvers.is_some()),
        ("min_ttl", table.min_ttl.is_some()),
        ("max_ttl", table.max_ttl.is_some()),
        ("family", table.family.is_some()),
        ("allow_link_local", table.allow_link_local.is_some()),
    ]
}

/// Kinds of backends that the product has and this build has not.
pub(super) fn is_later(name: &str) -> bool {
    matches!(name, "cloudmap" | "consul" | "ecs" | "k8s" | "kubernetes")
}
