//! `[discovery.NAME]` of the types `ecs` and `cloudmap`, as they are written.

use std::time::Duration;

use meshless_discovery::{AwsConfig, CloudmapConfig, EcsConfig};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

use crate::config::units::Period;

/// A backend of type `cloudmap`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Cloudmap(pub CloudmapConfig);

/// A backend of type `ecs`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Ecs(pub EcsConfig);

impl Serialize for Cloudmap {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written(serializer, &self.0.aws, (self.0.min_interval, self.0.max_interval))
    }
}

impl Serialize for Ecs {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        written(serializer, &self.0.aws, (self.0.min_interval, self.0.max_interval))
    }
}

fn written<S: Serializer>(
    serializer: S,
    aws: &AwsConfig,
    (min_interval, max_interval): (Duration, Duration),
) -> Result<S::Ok, S::Error> {
    let mut fields = serializer.serialize_map(None)?;
    // Keys are never printed.
    let AwsConfig { region, endpoint, profile, assume_role, external_id, keys: _ } = aws;
    let texts = [
        ("region", region),
        ("endpoint", endpoint),
        ("profile", profile),
        ("assume_role", assume_role),
        ("external_id", external_id),
    ];
    for (key, value) in texts {
        if let Some(value) = value {
            fields.serialize_entry(key, value)?;
        }
    }
    fields.serialize_entry("min_interval", &Period(min_interval))?;
    fields.serialize_entry("max_interval", &Period(max_interval))?;
    fields.end()
}
