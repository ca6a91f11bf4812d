//! Backends of the types `ecs` and `cloudmap`.

use std::ops::RangeInclusive;
use std::time::Duration;

use meshless_discovery::{AwsConfig, AwsKeys, CloudmapConfig, EcsConfig};
use meshless_platforms::Surroundings;

use super::Check;
use crate::config::problem::{At, Path};
use crate::config::raw;

/// What the intervals may be.
const INTERVALS: RangeInclusive<Duration> = Duration::from_secs(1)..=Duration::from_hours(1);

impl Check<'_> {
    pub(super) fn ecs_backend(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        surroundings: &dyn Surroundings,
    ) -> EcsConfig {
        let default = EcsConfig::default();
        let (min_interval, max_interval) = self.intervals(table, path, (default.min_interval, default.max_interval));
        EcsConfig { aws: self.aws(table, path, surroundings), min_interval, max_interval }
    }

    pub(super) fn cloudmap_backend(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        surroundings: &dyn Surroundings,
    ) -> CloudmapConfig {
        let default = CloudmapConfig::default();
        let (min_interval, max_interval) = self.intervals(table, path, (default.min_interval, default.max_interval));
        CloudmapConfig { aws: self.aws(table, path, surroundings), min_interval, max_interval }
    }

    fn intervals(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        default: (Duration, Duration),
    ) -> (Duration, Duration) {
        let min = table.min_interval.map_or(default.0, |value| value.0);
        // A floor above the default ceiling raises it.
        let max = table.max_interval.map_or_else(|| default.1.max(min), |value| value.0);
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

    fn aws(&mut self, table: &raw::Discovery, path: &Path, surroundings: &dyn Surroundings) -> AwsConfig {
        if let Some(endpoint) = &table.endpoint {
            let host = endpoint.strip_prefix("http://").or_else(|| endpoint.strip_prefix("https://"));
            if host.is_none_or(|host| host.is_empty() || host.starts_with('/') || host.contains(['?', '#', ' '])) {
                self.error(&path.key("endpoint"), At::Value, "expected a URL such as `http://127.0.0.1:4566`");
            }
        }
        if let Some(role) = &table.assume_role
            && !(role.starts_with("arn:") && role.contains(":role/"))
        {
            let message = "expected the ARN of a role such as `arn:aws:iam::123456789012:role/reader`";
            self.error(&path.key("assume_role"), At::Value, message);
        }
        if table.external_id.is_some() && table.assume_role.is_none() {
            self.error(&path.key("external_id"), At::Key, "belongs to a role; add `assume_role`, or remove it");
        }
        let variable = |name| surroundings.variable(name).filter(|value| !value.is_empty());
        AwsConfig {
            region: table.region.clone().or_else(|| variable("AWS_REGION")).or_else(|| variable("AWS_DEFAULT_REGION")),
            endpoint: table.endpoint.clone(),
            profile: table.profile.clone(),
            assume_role: table.assume_role.clone(),
            external_id: table.external_id.clone(),
            keys: variable("AWS_ACCESS_KEY_ID").zip(variable("AWS_SECRET_ACCESS_KEY")).map(|(id, secret)| AwsKeys {
                id,
                secret,
                session: variable("AWS_SESSION_TOKEN"),
            }),
        }
    }
}
