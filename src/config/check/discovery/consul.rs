//! Backends of the type `consul`: the table, and what the `CONSUL_*` variables say where it says nothing.

use std::net::IpAddr;
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::time::Duration;

use meshless_discovery::{ConsulAddress, ConsulConfig, ConsulConsistency};
use meshless_platforms::Surroundings;

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::raw;

/// What `wait` may be: Consul itself takes no more than ten minutes.
const WAITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

/// What `blocking` may be.
const BLOCKING: RangeInclusive<usize> = 1..=10_000;

impl Check<'_> {
    pub(super) fn consul_backend(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        surroundings: &dyn Surroundings,
    ) -> ConsulConfig {
        let default = ConsulConfig::default();
        // Consul's own clients take an empty variable for one that is not set.
        let variable = |name: &str| surroundings.variable(name).filter(|value| !value.is_empty());
        let file = |name: &str| variable(name).map(PathBuf::from);
        let wait = table.wait.map_or(default.wait, |wait| wait.0);
        if !WAITS.contains(&wait) {
            self.error(&path.key("wait"), At::Value, "expected 1s to 10m");
        }
        let blocking = table.blocking.unwrap_or(default.blocking);
        if !BLOCKING.contains(&blocking) {
            self.error(&path.key("blocking"), At::Value, "expected 1 to 10000");
        }
        let address = self.consul_address(table, path, &variable);
        let is_tls = matches!(address, ConsulAddress::Https(_));
        self.consul_tls(table, path, is_tls, &variable);
        // One source of a token: what is written wins over what is in the environment, a file over a text.
        if let Some(token) = &table.token {
            self.not_empty(token, &path.key("token"));
        }
        let has_own = table.token.is_some() || table.token_file.is_some();
        let token_file = table.token_file.clone().or_else(|| file("CONSUL_HTTP_TOKEN_FILE").filter(|_| !has_own));
        let token = table.token.clone().or_else(|| variable("CONSUL_HTTP_TOKEN").filter(|_| token_file.is_none()));
        let consistency = match table.consistency {
            None | Some(raw::ConsulConsistency::Stale) => ConsulConsistency::Stale,
            Some(raw::ConsulConsistency::Leader) => ConsulConsistency::Leader,
            Some(raw::ConsulConsistency::Consistent) => ConsulConsistency::Consistent,
        };
        let cached = table.cached.unwrap_or(default.cached);
        if cached && consistency == ConsulConsistency::Consistent {
            let message = "a cached answer is not a consistent one; remove it, or `consistency = \"consistent\"`";
            self.error(&path.key("cached"), At::Key, message);
        }
        ConsulConfig {
            address,
            token,
            token_file,
            ca: table.ca.clone().or_else(|| file("CONSUL_CACERT")),
            cert: table.cert.clone().or_else(|| file("CONSUL_CLIENT_CERT")),
            key: table.key.clone().or_else(|| file("CONSUL_CLIENT_KEY")),
            server_name: table.server_name.clone().or_else(|| variable("CONSUL_TLS_SERVER_NAME")),
            datacenter: table.datacenter.clone(),
            namespace: table.namespace.clone().or_else(|| variable("CONSUL_NAMESPACE")),
            partition: table.partition.clone().or_else(|| variable("CONSUL_PARTITION")),
            peer: table.peer.clone(),
            consistency,
            cached,
            wait,
            blocking,
        }
    }

    fn consul_address(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        variable: &dyn Fn(&str) -> Option<String>,
    ) -> ConsulAddress {
        if let Some(text) = &table.address {
            return text.parse().unwrap_or_else(|problem| {
                self.error(&path.key("address"), At::Value, format!("{problem}, found {}", shown(text)));
                ConsulAddress::default()
            });
        }
        let address = match variable("CONSUL_HTTP_ADDR").map(|text| text.parse()) {
            None => ConsulAddress::default(),
            Some(Ok(address)) => address,
            Some(Err(problem)) => {
                self.error(path, At::Key, format!("the variable CONSUL_HTTP_ADDR: {problem}"));
                ConsulAddress::default()
            }
        };
        // As Consul's own clients do: what asks for TLS is never turned back to clear text.
        match (self.truth("CONSUL_HTTP_SSL", path, variable), address) {
            (Some(true), ConsulAddress::Http(host)) => ConsulAddress::Https(host),
            (_, address) => address,
        }
    }

    fn consul_tls(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        is_tls: bool,
        variable: &dyn Fn(&str) -> Option<String>,
    ) {
        if self.truth("CONSUL_HTTP_SSL_VERIFY", path, variable) == Some(false) {
            let message = "the variable CONSUL_HTTP_SSL_VERIFY turns the check of the agent's certificate off, which \
                           Meshless never does: unset it, and name the authority with `ca` or CONSUL_CACERT";
            self.error(path, At::Key, message);
        }
        if is_tls && table.ca.is_none() && variable("CONSUL_CACERT").is_none() && variable("CONSUL_CAPATH").is_some() {
            let message = "the variable CONSUL_CAPATH names a directory, which is not read: put its certificates into \
                           one file and name that with `ca` or CONSUL_CACERT";
            self.error(path, At::Key, message);
        }
        let written = [
            ("ca", table.ca.is_some()),
            ("cert", table.cert.is_some()),
            ("key", table.key.is_some()),
            ("server_name", table.server_name.is_some()),
        ];
        if !is_tls && let Some((key, _)) = written.iter().find(|(_, is_written)| *is_written) {
            let message = "changes nothing without TLS; write `address = \"https://…\"`, or remove it";
            self.error(&path.key(key), At::Key, message);
        }
        let cert = table.cert.is_some() || variable("CONSUL_CLIENT_CERT").is_some();
        let key = table.key.is_some() || variable("CONSUL_CLIENT_KEY").is_some();
        if is_tls && cert != key {
            self.error(path, At::Key, "`cert` and `key` belong together, and one of them is missing");
        }
        if let Some(name) = &table.server_name {
            let is_name = name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'-'))
                && !name.is_empty();
            if !is_name || name.parse::<IpAddr>().is_ok() {
                let message = format!("expected a DNS name such as `server.dc1.consul`, found {}", shown(name));
                self.error(&path.key("server_name"), At::Value, message);
            }
        }
    }

    /// Reads a variable that is yes or no, in the words that Go takes.
    fn truth(&mut self, name: &str, path: &Path, variable: &dyn Fn(&str) -> Option<String>) -> Option<bool> {
        let text = variable(name)?;
        match text.as_str() {
            "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
            "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
            _ => {
                self.error(path, At::Key, format!("the variable {name}: expected `true` or `false`"));
                None
            }
        }
    }
}
