//! How long it takes from a change in a place until the first request is at the endpoint that is new.

use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::gateway::Gateway;
use crate::load::{self, End};
use crate::origins::Origin;
use crate::places::{Kind, Place};
use crate::process;

/// Changes that are timed.
pub(super) const ROUNDS: u32 = 20;

/// Requests a second: two endpoints are drawn from, so the new one waits some milliseconds for its first one.
const RATE: u32 = 500;

/// Shortest time between two rounds. Each has two changes, and a source asks Consul once a second where a service never
/// settles: what is measured is a change, not that limit.
const APART: Duration = Duration::from_secs(2);

/// Longest wait for a change.
const PATIENCE: Duration = Duration::from_secs(90);

/// The figures of one place.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Figures {
    pub(super) kind: Kind,
    /// Of every round, in seconds, in order of size.
    pub(super) seconds: Vec<f64>,
    pub(super) errors: usize,
}

impl Figures {
    /// The mean of the two in the middle.
    pub(super) fn median(&self) -> f64 {
        let middle = self.seconds.len() / 2;
        let at = |index: usize| self.seconds.get(index).copied().unwrap_or(f64::NAN);
        if self.seconds.len().is_multiple_of(2) {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        } else {
            at(middle)
        }
    }

    pub(super) fn longest(&self) -> f64 {
        self.seconds.last().copied().unwrap_or(f64::NAN)
    }

    pub(super) fn json(&self) -> Value {
        json!({ "place": format!("{:?}", self.kind), "seconds": self.seconds, "errors": self.errors })
    }
}

/// Times changes of one place; `None` where it cannot be had.
pub(super) fn run(folder: &Path, meshless: &Path, kind: Kind) -> anyhow::Result<Option<Figures>> {
    std::fs::create_dir_all(folder).with_context(|| format!("create {}", folder.display()))?;
    let Some(mut place) = kind.start(folder)? else { return Ok(None) };
    let stays = Origin::start();
    place.set("app", &[stays.listed()])?;
    let configuration = format!(
        "{}\n[services.app]\nfrom = \"{}\"\nbalance = \"random\"\n\n[[routes]]\nto = \"app\"\n",
        place.configuration(),
        place.target("app")
    );
    let gateway = Gateway::start(meshless, folder, &configuration, &place.variables())?;
    gateway.until_usable(1, PATIENCE)?;
    let (outcomes, mut seconds) = load::beside(gateway.address, RATE, || {
        (0..ROUNDS).map(|round| change(&mut *place, &gateway, &stays, round)).collect::<anyhow::Result<Vec<f64>>>()
    })?;
    seconds.sort_by(f64::total_cmp);
    let errors = outcomes.iter().filter(|outcome| outcome.end != End::Status(200)).count();
    Ok(Some(Figures { kind, seconds, errors }))
}

/// Lists one more endpoint, and takes it away again. Returns the seconds from before the place was told until the first request.
fn change(place: &mut dyn Place, gateway: &Gateway, stays: &Origin, round: u32) -> anyhow::Result<f64> {
    // Polls and changes must not keep step: wait for another part of a second each time.
    process::pause(APART + Duration::from_millis(u64::from(round * 37 % 100) * 10));
    let new = Origin::start();
    let changed = Instant::now();
    place.set("app", &[stays.listed(), new.listed()])?;
    let first = new.first_within(PATIENCE)?.context("the new endpoint got no request")?;
    place.set("app", &[stays.listed()])?;
    gateway.until_usable(1, PATIENCE)?;
    Ok(first.saturating_duration_since(changed).as_secs_f64())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_the_one_in_the_middle() {
        let figures = |seconds: &[f64]| Figures { kind: Kind::File, seconds: seconds.into(), errors: 0 };
        assert!((figures(&[1.0, 2.0, 9.0]).median() - 2.0).abs() < 1e-9);
        assert!((figures(&[1.0, 2.0, 4.0, 9.0]).median() - 3.0).abs() < 1e-9);
        assert!((figures(&[1.0, 9.0]).longest() - 9.0).abs() < 1e-9);
    }
}
