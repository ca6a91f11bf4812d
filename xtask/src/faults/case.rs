//! What is done to endpoints, and when.

use std::path::Path;
use std::time::Duration;

use super::endpoint::{Endpoint, Mode};

/// Endpoints in all.
pub(super) const ENDPOINTS: usize = 5;

/// Of them, those of the first tier where there are two.
pub(super) const FIRST_TIER: usize = 3;

/// What befalls the endpoints.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum Case {
    Killed,
    Frozen,
    Slow,
    Fails,
    Limits,
    Resets,
    Tier,
}

/// When things happen, from the first request.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Figures count from here: connections are made and latencies known.
    pub(super) warm: Duration,
    pub(super) fault: Duration,
    pub(super) heal: Duration,
    pub(super) end: Duration,
}

/// Long enough for two ejections in a row (1–2 s, 2–4 s) within the fault, and for the third to end after it.
pub(super) const TIMES: Times = Times {
    warm: Duration::from_secs(1),
    fault: Duration::from_secs(4),
    heal: Duration::from_secs(10),
    end: Duration::from_secs(22),
};

impl Case {
    /// Returns what it is, in a table's cell.
    pub(super) fn title(self) -> &'static str {
        match self {
            Self::Killed => "one killed (SIGKILL), started again",
            Self::Frozen => "one frozen (SIGSTOP), thawed",
            Self::Slow => "one slower ×20",
            Self::Fails => "one answers 500",
            Self::Limits => "one answers 429 at once",
            Self::Resets => "one resets connections",
            Self::Tier => "whole first tier killed, started again",
        }
    }

    /// Returns how many endpoints it befalls: the first ones.
    pub(super) fn bad(self) -> usize {
        if self == Self::Tier { FIRST_TIER } else { 1 }
    }

    /// Returns the share of requests that they get while all are well.
    pub(super) fn fair_share(self) -> f64 {
        if self == Self::Tier { 1.0 } else { 1.0 / ENDPOINTS as f64 }
    }

    /// Returns whether nobody listens where they were: a try is a connection that is refused.
    pub(super) fn is_refusing(self) -> bool {
        matches!(self, Self::Killed | Self::Tier)
    }

    /// Lets it happen.
    pub(super) fn strike(self, endpoint: &mut Endpoint) -> anyhow::Result<()> {
        match self {
            Self::Killed | Self::Tier => endpoint.kill(),
            Self::Frozen => endpoint.freeze(),
            Self::Slow => endpoint.become_(Mode::Slow),
            Self::Fails => endpoint.become_(Mode::Fail),
            Self::Limits => endpoint.become_(Mode::Limit),
            Self::Resets => endpoint.become_(Mode::Reset),
        }
    }

    /// Ends it.
    pub(super) fn heal(self, endpoint: &mut Endpoint, folder: &Path) -> anyhow::Result<()> {
        match self {
            Self::Killed | Self::Tier => endpoint.restart(folder),
            Self::Frozen => endpoint.thaw(),
            Self::Slow | Self::Fails | Self::Limits | Self::Resets => endpoint.become_(Mode::Healthy),
        }
    }
}
