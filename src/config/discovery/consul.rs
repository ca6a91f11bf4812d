//! `[discovery.NAME]` of type `consul`, as it is written.

use meshless_discovery::{ConsulConfig, ConsulConsistency};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::config::units::Period;

/// A backend of type `consul`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Consul(pub ConsulConfig);

/// As it is written, without the token.
impl Serialize for Consul {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let config = &self.0;
        let mut fields = serializer.serialize_map(None)?;
        fields.serialize_entry("address", &config.address.to_string())?;
        let texts = [
            ("server_name", &config.server_name),
            ("datacenter", &config.datacenter),
            ("namespace", &config.namespace),
        ];
        let more = [("partition", &config.partition), ("peer", &config.peer)];
        for (key, value) in texts.iter().chain(&more) {
            if let Some(value) = value {
                fields.serialize_entry(key, value)?;
            }
        }
        let files =
            [("token_file", &config.token_file), ("ca", &config.ca), ("cert", &config.cert), ("key", &config.key)];
        for (key, value) in files {
            if let Some(value) = value {
                fields.serialize_entry(key, value)?;
            }
        }
        let consistency = match config.consistency {
            ConsulConsistency::Leader => "leader",
            ConsulConsistency::Stale => "stale",
            ConsulConsistency::Consistent => "consistent",
        };
        fields.serialize_entry("consistency", consistency)?;
        fields.serialize_entry("cached", &config.cached)?;
        fields.serialize_entry("wait", &Period(config.wait))?;
        fields.serialize_entry("blocking", &config.blocking)?;
        fields.end()
    }
}
