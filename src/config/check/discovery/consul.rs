//! Backends of the type `consul`.

use std::ops::RangeInclusive;
use std::time::Duration;

use meshless_discovery::{ConsulConfig, ConsulConsistency};
use meshless_platforms::Surroundings;

use super::Check;
use crate::config::problem::{At, Path};
use crate::config::raw;

/// What `wait` may be: Consul itself takes no more than ten minutes.
const WAITS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_mins(10);

impl Check<'_> {
    pub(super) fn consul_backend(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        surroundings: &dyn Surroundings,
    ) -> ConsulConfig {
        let default = ConsulConfig::default();
        let _ = surroundings;
        let wait = table.wait.map_or(default.wait, |wait| wait.0);
        if !WAITS.contains(&wait) {
            self.error(&path.key("wait"), At::Value, "expected 1s to 10m");
        }
        ConsulConfig {
            address: table.address.as_deref().and_then(|text| text.parse().ok()).unwrap_or(default.address),
            token: table.token.clone(),
            token_file: table.token_file.clone(),
            ca: table.ca.clone(),
            cert: table.cert.clone(),
            key: table.key.clone(),
            server_name: table.server_name.clone(),
            datacenter: table.datacenter.clone(),
            namespace: table.namespace.clone(),
            partition: table.partition.clone(),
            peer: table.peer.clone(),
            consistency: match table.consistency {
                None | Some(raw::ConsulConsistency::Stale) => ConsulConsistency::Stale,
                Some(raw::ConsulConsistency::Leader) => ConsulConsistency::Leader,
                Some(raw::ConsulConsistency::Consistent) => ConsulConsistency::Consistent,
            },
            cached: table.cached.unwrap_or(default.cached),
            wait,
            blocking: table.blocking.unwrap_or(default.blocking),
        }
    }
}
