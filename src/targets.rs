//! Targets as somebody sees them who looks: what was found, by whom, how old it is, what is wrong (pure).
//!
//! `meshless targets` prints this of backends that it asks by itself and of a gateway that runs (`/targets`) alike.
//! `change` tells two looks apart for `--watch`, `text` prints.

mod change;
mod text;

use std::collections::BTreeMap;

use meshless_discovery::{Endpoint, Health};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

pub use change::{Change, What, changes};
pub use text::Text;
pub(crate) use text::{count, plain, remedy};

use crate::follow::{self, Known, Origin};
use crate::telemetry::timestamp::Timestamp;

/// Number of the form of [`Answers`]: it counts up when a field goes or changes its meaning, not when one comes.
pub const SCHEMA: u32 = 1;

/// What `meshless targets --json` prints.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Answers {
    /// [`SCHEMA`].
    pub schema: u32,
    /// The targets.
    pub targets: Vec<TargetView>,
    /// What a person should know besides.
    pub notes: Vec<String>,
}

/// One target, and what is known of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TargetView {
    /// The target as it is written.
    pub target: String,
    /// Name of the backend that is asked.
    pub backend: String,
    /// Services that name it; empty where it stands by itself.
    pub services: Vec<String>,
    /// Where the endpoints are from: `live` (the backend) or `disk` (the last known good); empty: nothing is known.
    pub origin: String,
    /// How long the backend has not been able to confirm them, in seconds; `None`: nothing is known.
    pub age_seconds: Option<f64>,
    /// When the backend said so last; one that waits for changes says nothing while there is none.
    pub answered_at: Option<String>,
    /// How long the answer took, in milliseconds; `None` where nobody was waited for.
    pub took_ms: Option<f64>,
    /// What is wrong; `None` while the backend answers.
    pub failure: Option<FailureView>,
    /// All endpoints, in the order of their addresses.
    pub endpoints: Vec<EndpointFound>,
}

/// What is wrong with a target.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailureView {
    /// One word: `denied`, `gone`, `malformed`, `panic`, `throttled` or `unreachable`.
    pub kind: String,
    /// The last error.
    pub error: String,
    /// How many questions failed, one after another.
    pub count: u64,
    /// How long it lasts, in whole seconds.
    pub for_seconds: u64,
}

/// One endpoint, as its backend tells it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct EndpointFound {
    /// Where it listens.
    pub address: String,
    /// The backend's own id.
    pub id: Option<String>,
    /// Step of the failover list within the target, lower ones first.
    pub priority: u16,
    /// Relative weight; 0 gets nothing.
    pub weight: u32,
    /// Zone, where known.
    pub zone: Option<String>,
    /// What the backend says of its health: `healthy`, `unhealthy`, `draining`.
    pub health: String,
    /// What it speaks, where the platform says so: `http1`, `h2c`, `tcp`.
    pub protocol: Option<String>,
    /// The last answer does not list it; it is kept for a while in case that was a mistake.
    pub held: bool,
    /// Tags and metadata.
    pub metadata: BTreeMap<String, String>,
}

/// What a look came to as a whole, for an exit code: the worst of all targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Outcome {
    /// All targets answer.
    Answered,
    /// An answer cannot be used.
    Failed,
    /// A backend does not answer.
    Unreachable,
    /// A backend refuses; waiting does not help.
    Denied,
}

impl Outcome {
    /// Returns the outcome that an error of this kind is.
    pub fn of_kind(kind: &str) -> Self {
        match kind {
            "denied" => Self::Denied,
            "unreachable" | "throttled" => Self::Unreachable,
            _ => Self::Failed,
        }
    }

    /// Returns the worst of all targets.
    pub fn of(targets: &[TargetView]) -> Self {
        let of_one = |target: &TargetView| target.failure.as_ref().map(|failure| Self::of_kind(&failure.kind));
        targets.iter().filter_map(of_one).max().unwrap_or(Self::Answered)
    }
}

impl TargetView {
    /// Tells what is known of a target that is followed.
    pub(crate) fn of_known(target: &meshless_discovery::Target, known: &Known, now: Instant) -> Self {
        let answer = known.answer.as_ref();
        Self {
            target: target.to_string(),
            backend: target.backend.clone(),
            services: Vec::new(),
            origin: answer.map(|answer| answer.origin.label()).unwrap_or_default().to_owned(),
            age_seconds: known.age(now).map(|age| age.as_secs_f64()),
            answered_at: answer.map(|answer| Timestamp(answer.confirmed).to_string()),
            took_ms: None,
            failure: known.failure.as_ref().map(|failure| FailureView::of(failure, now)),
            endpoints: answer.map(|answer| found(answer.snapshot.endpoints())).unwrap_or_default(),
        }
    }

    /// Tells what a backend answered just now.
    pub(crate) fn answered(target: &meshless_discovery::Target, endpoints: &[Endpoint], at: &Timestamp) -> Self {
        Self {
            target: target.to_string(),
            backend: target.backend.clone(),
            services: Vec::new(),
            origin: Origin::Live.label().to_owned(),
            age_seconds: Some(0.0),
            answered_at: Some(at.to_string()),
            took_ms: None,
            failure: None,
            endpoints: found(endpoints),
        }
    }

    /// Tells that a backend failed just now.
    pub(crate) fn failed(target: &meshless_discovery::Target, kind: &str, error: String) -> Self {
        Self {
            target: target.to_string(),
            backend: target.backend.clone(),
            services: Vec::new(),
            origin: String::new(),
            age_seconds: None,
            answered_at: None,
            took_ms: None,
            failure: Some(FailureView { kind: kind.to_owned(), error, count: 1, for_seconds: 0 }),
            endpoints: Vec::new(),
        }
    }
}

impl FailureView {
    fn of(failure: &follow::Failure, now: Instant) -> Self {
        Self {
            kind: failure.kind.to_owned(),
            error: failure.error.clone(),
            count: failure.count,
            for_seconds: now.saturating_duration_since(failure.since).as_secs(),
        }
    }
}

impl EndpointFound {
    /// Tells an endpoint as its backend does.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        Self {
            address: endpoint.address.to_string(),
            id: endpoint.id.clone(),
            priority: endpoint.priority,
            weight: endpoint.weight,
            zone: endpoint.zone.clone(),
            health: health(endpoint.health).to_owned(),
            protocol: endpoint.protocol.map(|protocol| word(&protocol)),
            held: false,
            metadata: endpoint.metadata.clone(),
        }
    }
}

fn found(endpoints: &[Endpoint]) -> Vec<EndpointFound> {
    endpoints.iter().map(EndpointFound::of).collect()
}

/// Returns a backend's word for health, as everything that is printed has it.
pub(crate) fn health(health: Health) -> &'static str {
    match health {
        Health::Draining => "draining",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}

/// A word as it is written in files.
fn word(value: &impl Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}

#[cfg(test)]
mod tests_support {
    use super::*;

    pub(super) fn endpoint(address: &str) -> EndpointFound {
        EndpointFound::of(&Endpoint::new(address.parse().unwrap()))
    }

    pub(super) fn view(target: &str, endpoints: &[EndpointFound]) -> TargetView {
        TargetView {
            target: target.to_owned(),
            backend: "consul".to_owned(),
            services: Vec::new(),
            origin: "live".to_owned(),
            age_seconds: Some(0.0),
            answered_at: None,
            took_ms: None,
            failure: None,
            endpoints: endpoints.to_vec(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_worse_than_silence_and_that_than_nonsense() {
        let target = meshless_discovery::Target {
            backend: "consul".to_owned(),
            path: "web".to_owned(),
            options: BTreeMap::new(),
        };
        let failed = |kind: &str| TargetView::failed(&target, kind, String::new());
        let good = TargetView::answered(&target, &[], &Timestamp(std::time::UNIX_EPOCH));
        assert_eq!(Outcome::of(&[]), Outcome::Answered);
        assert_eq!(Outcome::of(&[good.clone(), failed("malformed")]), Outcome::Failed);
        assert_eq!(Outcome::of(&[failed("throttled"), failed("gone")]), Outcome::Unreachable);
        assert_eq!(Outcome::of(&[failed("unreachable"), failed("denied"), good]), Outcome::Denied);
    }
}
