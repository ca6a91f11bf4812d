//! What the backends of AWS need to be told.

use std::fmt;
use std::time::Duration;

/// What every backend of AWS needs to be told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct AwsConfig {
    /// Default: what the environment, the profile or the instance says.
    pub region: Option<String>,
    /// URL that every service of AWS is asked at instead of its own.
    pub endpoint: Option<String>,
    /// Profile of the shared configuration.
    pub profile: Option<String>,
    /// ARN of a role to assume with the credentials of the standard chain.
    pub assume_role: Option<String>,
    /// What that role's trust policy asks for.
    pub external_id: Option<String>,
    /// Keys that the environment gave, the first link of the standard chain. Default: the links behind it are asked.
    pub keys: Option<AwsKeys>,
}

/// An access key, with the session it belongs to.
#[derive(Clone, PartialEq, Eq)]
pub struct AwsKeys {
    /// Its id, `AKIA…` or `ASIA…`.
    pub id: String,
    /// The secret; never printed.
    pub secret: String,
    /// The token of a session, for an `ASIA…` key; never printed.
    pub session: Option<String>,
}

/// Without what must not stand in a log.
impl fmt::Debug for AwsKeys {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("AwsKeys").field("id", &self.id).finish_non_exhaustive()
    }
}

/// What the `ecs` backend needs to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EcsConfig {
    /// Account, region and place.
    pub aws: AwsConfig,
    /// Shortest time between two looks at a cluster, default [`EcsConfig::DEFAULT_MIN_INTERVAL`].
    pub min_interval: Duration,
    /// Longest time between two looks at a cluster in which nothing changes, default
    /// [`EcsConfig::DEFAULT_MAX_INTERVAL`].
    pub max_interval: Duration,
}

impl EcsConfig {
    /// 10 s.
    pub const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(10);
    /// 60 s.
    pub const DEFAULT_MAX_INTERVAL: Duration = Duration::from_mins(1);
}

impl Default for EcsConfig {
    fn default() -> Self {
        Self {
            aws: AwsConfig::default(),
            min_interval: Self::DEFAULT_MIN_INTERVAL,
            max_interval: Self::DEFAULT_MAX_INTERVAL,
        }
    }
}

/// What the `cloudmap` backend needs to be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CloudmapConfig {
    /// Account, region and place.
    pub aws: AwsConfig,
    /// Shortest time between two looks at a service, default [`CloudmapConfig::DEFAULT_MIN_INTERVAL`].
    pub min_interval: Duration,
    /// Longest time between two looks at a service that does not change, default
    /// [`CloudmapConfig::DEFAULT_MAX_INTERVAL`].
    pub max_interval: Duration,
}

impl CloudmapConfig {
    /// 5 s.
    pub const DEFAULT_MIN_INTERVAL: Duration = Duration::from_secs(5);
    /// 30 s.
    pub const DEFAULT_MAX_INTERVAL: Duration = Duration::from_secs(30);
}

impl Default for CloudmapConfig {
    fn default() -> Self {
        Self {
            aws: AwsConfig::default(),
            min_interval: Self::DEFAULT_MIN_INTERVAL,
            max_interval: Self::DEFAULT_MAX_INTERVAL,
        }
    }
}
