//! `[discovery.NAME]` of type `dns`, as it is written.

use meshless_discovery::{DnsConfig, DnsFamily};
use serde::ser::SerializeStruct as _;
use serde::{Serialize, Serializer};

use crate::config::units::Period;

/// A backend of type `dns`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Dns(pub DnsConfig);

/// As it is written.
impl Serialize for Dns {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let DnsConfig { resolvers, min_ttl, max_ttl, family, allow_link_local } = &self.0;
        let mut fields = serializer.serialize_struct("Dns", 5)?;
        fields.serialize_field("resolvers", resolvers)?;
        fields.serialize_field("min_ttl", &Period(*min_ttl))?;
        fields.serialize_field("max_ttl", &Period(*max_ttl))?;
        fields.serialize_field(
            "family",
            match family {
                DnsFamily::Any => "any",
                DnsFamily::Ipv4 => "ipv4",
                DnsFamily::Ipv6 => "ipv6",
            },
        )?;
        fields.serialize_field("allow_link_local", allow_link_local)?;
        fields.end()
    }
}
