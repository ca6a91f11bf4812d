//! Backends of the types `ecs` and `cloudmap`.

use std::ops::RangeInclusive;
use std::time::Duration;

use meshless_discovery::{AwsConfig, CloudmapConfig, EcsConfig};

use super::Check;
use crate::config::problem::{At, Path};
use crate::config::raw;

/// What the intervals may be.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

impl Check<'_> {
    pub(super) fn ecs_backend(&mut self, table: &raw::Discovery, path: &Path) -> EcsConfig {
        let default = EcsConfig::default();
        let (min_interval, max_interval) = self.intervals(table, path, (default.min_interval, default.max_interval));
        EcsConfig { aws: aws(table), min_interval, max_interval }
    }

    pub(super) fn cloudmap_backend(&mut self, table: &raw::Discovery, path: &Path) -> CloudmapConfig {
        let default = CloudmapConfig::default();
        let (min_interval, max_interval) = self.intervals(table, path, (default.min_interval, default.max_interval));
        CloudmapConfig { aws: aws(table), min_interval, max_interval }
    }

    fn intervals(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        default: (Duration, Duration),
    ) -> (Duration, Duration) {
        let min = table.min_interval.map_or(default.0, |value| value.0);
        // A floor above the default ceiling raises it.
        let max = table.max_interval.map_or(default.1.max(min), |value| value.0);
        for (key, value) in [("min_interval", min), ("max_interval", max)] {
            if !INTERVALS.contains(&value) {
                self.error(&path.key(key), At::Value, "expected 1s to 1h");
            }
        }
        if max < min {
            self.error(&path.key("max_interval"), At::Value, "expected no less than `min_interval`");
        }
        (min, max)
    }
}

fn aws(table: &raw::Discovery) -> AwsConfig {
    AwsConfig {
        region: table.region.clone(),
        endpoint: table.endpoint.clone(),
        profile: table.profile.clone(),
        assume_role: table.assume_role.clone(),
        external_id: table.external_id.clone(),
    }
}
