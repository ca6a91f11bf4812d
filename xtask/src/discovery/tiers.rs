//! One name over several places: a tier for each, of which each is lost and comes back under load.
//!
//! Shares are compared with the published formula ("priority levels" of Envoy's documentation), written here a second
//! time: a mistake in the gateway's own is not in this one.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::load::{self, End};
use crate::origins::Origin;
use crate::places::{Kind, Listed, Place};
use crate::process;

/// Endpoints of each tier.
const ENDPOINTS: usize = 4;

/// How much over its healthy share a tier may be asked, in percent.
const OVERPROVISIONING: u32 = 140;

/// Longest wait until a change of a place is followed.
const PATIENCE: Duration = Duration::from_mins(1);

/// How many endpoints of each tier are well, one phase after another. The others of a tier are unhealthy, says the place;
/// where none is well the place lists none and they are killed.
const PHASES: [[usize; 3]; 12] = [
    [4, 4, 4],
    [2, 4, 4],
    [0, 4, 4],
    [0, 2, 4],
    [0, 0, 4],
    [4, 0, 4],
    [2, 0, 4],
    [2, 2, 4],
    [1, 1, 4],
    [4, 4, 0],
    [2, 4, 0],
    [4, 4, 4],
];

/// The places, in the order of their tiers.
pub(super) const KINDS: [Kind; 3] = [Kind::Ecs, Kind::Consul, Kind::Kubernetes];

/// What came of one phase.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Phase {
    /// Endpoints that are well, of each tier.
    pub(super) healthy: Vec<usize>,
    /// What each tier should have got, in percent.
    pub(super) expected: Vec<f64>,
    /// What it got.
    pub(super) measured: Vec<f64>,
    /// Requests that were counted for it.
    pub(super) counted: u64,
    /// Seconds from the change until the gateway had followed it.
    pub(super) followed: f64,
}

/// What came of all phases.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) target: String,
    pub(super) seconds: f64,
    pub(super) requests: usize,
    pub(super) errors: Vec<String>,
    pub(super) phases: Vec<Phase>,
}

impl Figures {
    /// Returns the largest difference from the formula, in percent points.
    pub(super) fn deviation(&self) -> f64 {
        let of = |phase: &Phase| {
            let pairs = phase.expected.iter().zip(&phase.measured);
            pairs.map(|(expected, measured)| (expected - measured).abs()).fold(0.0, f64::max)
        };
        self.phases.iter().map(of).fold(0.0, f64::max)
    }

    pub(super) fn json(&self) -> Value {
        let phases = self.phases.iter().map(|phase| {
            json!({
                "healthy": phase.healthy,
                "expected_percent": phase.expected,
                "measured_percent": phase.measured,
                "requests": phase.counted,
                "followed_seconds": phase.followed,
            })
        });
        json!({
            "target": self.target,
            "seconds": self.seconds,
            "requests": self.requests,
            "errors": self.errors,
            "phases": phases.collect::<Value>(),
        })
    }
}

/// Returns each tier's share in percent: the first takes what its healthy part carries with 40 % more on top, the next one
/// what is left, and where all together carry less than everything, in proportion.
fn shares(healthy: &[usize]) -> Vec<f64> {
    let health = |healthy: usize| {
        let of_a_hundred = u32::try_from(healthy * 100 / ENDPOINTS).unwrap_or(100);
        (OVERPROVISIONING * of_a_hundred / 100).min(100)
    };
    let total = healthy.iter().map(|healthy| health(*healthy)).sum::<u32>().min(100);
    let mut given = 0;
    let part = |healthy: &usize| {
        let takes = (health(*healthy) * 100).checked_div(total).unwrap_or_default().min(100 - given);
        given += takes;
        f64::from(takes)
    };
    healthy.iter().map(part).collect()
}

/// A tier: a place and its endpoints.
struct Tier {
    place: Box<dyn Place>,
    origins: Vec<Origin>,
}

impl Tier {
    /// Makes so many of its endpoints well.
    fn set(&mut self, healthy: usize) -> anyhow::Result<()> {
        let is_lost = healthy == 0;
        if !is_lost {
            // They are there before anybody is told of them.
            self.origins.iter().for_each(|origin| origin.set_alive(true));
        }
        let ill =
            |(index, origin): (usize, &Origin)| if index < healthy { origin.listed() } else { origin.unhealthy() };
        let listed: Vec<Listed> = if is_lost { Vec::new() } else { self.origins.iter().enumerate().map(ill).collect() };
        if is_lost {
            // Killed before the place says so: that is how it happens.
            self.origins.iter().for_each(|origin| origin.set_alive(false));
        }
        self.place.set("app", &listed)
    }

    fn requests(&self) -> u64 {
        self.origins.iter().map(Origin::requests).sum()
    }
}

/// Plays all phases; `None` where one of the places cannot be had.
pub(super) fn run(
    folder: &Path,
    meshless: &Path,
    kinds: &[Kind],
    rate: u32,
    length: Duration,
) -> anyhow::Result<Option<Figures>> {
    let mut tiers = Vec::new();
    for (number, kind) in kinds.iter().enumerate() {
        let folder = folder.join(format!("tier-{number}"));
        std::fs::create_dir_all(&folder).with_context(|| format!("create {}", folder.display()))?;
        let Some(place) = kind.start(&folder)? else { return Ok(None) };
        let mut tier = Tier { place, origins: Origin::several(ENDPOINTS) };
        tier.set(ENDPOINTS).with_context(|| format!("list endpoints in {}", kind.title()))?;
        tiers.push(tier);
    }
    let configuration: String = tiers.iter().map(|tier| tier.place.configuration()).collect();
    let target = tiers.iter().map(|tier| tier.place.target("app")).collect::<Vec<_>>().join(" | ");
    let variables: Vec<_> = tiers.iter().flat_map(|tier| tier.place.variables()).collect();
    let configuration = format!("{configuration}\n[services.app]\nfrom = \"{target}\"\n\n[[routes]]\nto = \"app\"\n");
    let gateway = Gateway::start(meshless, folder, &configuration, &variables)?;
    gateway.until_usable(ENDPOINTS * kinds.len(), PATIENCE)?;

    let begins = Instant::now();
    let (outcomes, phases) = load::beside(gateway.address, rate, || {
        PHASES.iter().map(|healthy| play(&mut tiers, &gateway, healthy, length)).collect::<anyhow::Result<Vec<Phase>>>()
    })?;
    let failed = outcomes.iter().filter(|outcome| outcome.end != End::Status(200));
    let errors = failed.map(|outcome| format!("{:?} at {:.2} s", outcome.end, outcome.due)).collect();
    let seconds = begins.elapsed().as_secs_f64();
    Ok(Some(Figures { target, seconds, requests: outcomes.len(), errors, phases }))
}

/// Plays one phase: changes what has to change, waits until it is followed, and counts.
fn play(tiers: &mut [Tier], gateway: &Gateway, healthy: &[usize], length: Duration) -> anyhow::Result<Phase> {
    let healthy = healthy.get(..tiers.len()).unwrap_or(healthy);
    let changed = Instant::now();
    for (tier, healthy) in tiers.iter_mut().zip(healthy) {
        tier.set(*healthy)?;
    }
    gateway.until_usable(healthy.iter().sum(), PATIENCE).with_context(|| format!("{healthy:?}"))?;
    let followed = changed.elapsed().as_secs_f64();
    let count = |tiers: &[Tier]| -> Vec<u64> { tiers.iter().map(Tier::requests).collect() };
    let before = count(tiers);
    process::pause(length);
    let got: Vec<u64> = count(tiers).iter().zip(&before).map(|(after, before)| after - before).collect();
    let counted: u64 = got.iter().sum();
    let measured = got.iter().map(|got| *got as f64 / counted.max(1) as f64 * 100.0).collect();
    Ok(Phase { healthy: healthy.to_vec(), expected: shares(healthy), measured, counted, followed })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shares_are_those_of_the_published_tables() {
        for (healthy, expected) in [
            ([4, 4, 4], [100.0, 0.0, 0.0]),
            ([3, 4, 4], [100.0, 0.0, 0.0]),
            ([2, 4, 4], [70.0, 30.0, 0.0]),
            ([1, 4, 4], [35.0, 65.0, 0.0]),
            ([0, 2, 4], [0.0, 70.0, 30.0]),
            ([1, 1, 4], [35.0, 35.0, 30.0]),
            ([1, 1, 0], [50.0, 50.0, 0.0]),
            ([0, 0, 0], [0.0, 0.0, 0.0]),
        ] {
            assert_eq!(shares(&healthy), expected, "{healthy:?}");
        }
    }
}
