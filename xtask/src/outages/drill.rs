//! One trouble of one place, from the first request to the last.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use serde_json::{Value, json};

use crate::gateway::{Gateway, Line};
use crate::load::{self, End, Outcome};
use crate::origins::Origin;
use crate::places::{Listed, Place, Played, Trouble};
use crate::process;

/// The service that is looked up.
const SERVICE: &str = "app";

/// Between two looks at the gateway's metrics.
const LOOK: Duration = Duration::from_millis(250);

/// When things happen.
#[derive(Debug, Clone, Copy)]
pub(super) struct Times {
    /// Requests before the trouble.
    pub(super) before: Duration,
    /// How long the trouble lasts.
    pub(super) length: Duration,
    /// Longest wait until a change is followed. The longest back-off is 30 s.
    pub(super) patience: Duration,
    /// Requests after a change was followed.
    pub(super) after: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self {
            before: Duration::from_secs(2),
            length: Duration::from_secs(25),
            patience: Duration::from_mins(1),
            after: Duration::from_secs(3),
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Figures {
    /// Requests of the whole drill.
    pub(super) requests: usize,
    /// Those that did not end with 200, by how they ended.
    pub(super) errors: BTreeMap<String, usize>,
    /// Seconds from the trouble until the age of the snapshot rose.
    pub(super) noticed: Option<f64>,
    /// Largest age of the snapshot, in seconds.
    pub(super) age: f64,
    /// Most endpoints that were held.
    pub(super) held: f64,
    /// Failed answers by their kind.
    pub(super) kinds: BTreeMap<String, u64>,
    /// The first line of the log that warned.
    pub(super) line: Option<Line>,
    /// Seconds from a change until a request went to the endpoint that is new; from the end of the trouble where the change
    /// came with that. `None`: not within the patience.
    pub(super) followed: Option<f64>,
}

impl Figures {
    pub(super) fn json(&self) -> Value {
        json!({
            "requests": self.requests,
            "errors": self.errors,
            "noticed_seconds": self.noticed,
            "age_seconds": self.age,
            "held": self.held,
            "kinds": self.kinds,
            "log": self.line.as_ref().map(|line| format!("{} {} {}", line.level, line.message, line.error)),
            "followed_seconds": self.followed,
        })
    }

    pub(super) fn failed(&self) -> usize {
        self.errors.values().sum()
    }

    /// Counts requests and errors.
    fn count(&mut self, outcomes: &[Outcome]) {
        self.requests = outcomes.len();
        for outcome in outcomes {
            let how = match outcome.end {
                End::Status(200) => continue,
                End::Status(status) => status.to_string(),
                End::Broken => "broken".to_owned(),
                End::Late => "late".to_owned(),
            };
            *self.errors.entry(how).or_default() += 1;
        }
    }

    /// Looks at the gateway's metrics, `since` the trouble began.
    fn look(&mut self, gateway: &Gateway, since: Instant) -> anyhow::Result<()> {
        let metrics = gateway.metrics()?;
        let age = metrics.largest("meshless_discovery_snapshot_age_seconds", &[]);
        if age > 0.0 && self.noticed.is_none() {
            self.noticed = Some((since.elapsed().as_secs_f64() - age).max(0.0));
        }
        self.age = self.age.max(age);
        self.held = self.held.max(metrics.largest("meshless_endpoints", &["state=\"held\""]));
        for (labels, value) in metrics.samples("meshless_discovery_errors_total", &[]) {
            let kind = labels.split("kind=\"").nth(1).and_then(|rest| rest.split('"').next());
            if let (Some(kind), true) = (kind, value > 0.0) {
                #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count")]
                self.kinds.insert(kind.to_owned(), value as u64);
            }
        }
        Ok(())
    }
}

/// Plays a trouble; `None` where the place has no such trouble.
pub(super) fn run(
    folder: &Path,
    meshless: &Path,
    mut place: Box<dyn Place>,
    trouble: Trouble,
    rate: u32,
    times: Times,
) -> anyhow::Result<Option<Figures>> {
    let origins = Origin::several(4);
    let listed: Vec<Listed> = origins.iter().map(Origin::listed).collect();
    let (Some(at_first), Some(new)) = (listed.get(..3), origins.last()) else { anyhow::bail!("too few endpoints") };
    place.set(SERVICE, at_first).context("list the first endpoints")?;
    let configuration = format!(
        "{}\n[services.app]\nfrom = \"{}\"\n\n[[routes]]\nto = \"app\"\n",
        place.configuration(),
        place.target(SERVICE)
    );
    let gateway = Gateway::start(meshless, folder, &configuration, &place.variables())?;
    gateway.until_usable(at_first.len(), times.patience)?;

    let mut figures = Figures::default();
    let (outcomes, played) = load::beside(gateway.address, rate, || {
        process::pause(times.before);
        strike(&mut *place, trouble, &gateway, &listed, new, &mut figures, times)
    })?;
    if played == Played::Impossible {
        return Ok(None);
    }
    figures.count(&outcomes);
    figures.line = gateway.log().into_iter().find(|line| matches!(line.level.as_str(), "WARN" | "ERROR"));
    Ok(Some(figures))
}

/// Lets the trouble happen and end, with a change that has to be followed.
fn strike(
    place: &mut dyn Place,
    trouble: Trouble,
    gateway: &Gateway,
    listed: &[Listed],
    new: &Origin,
    figures: &mut Figures,
    times: Times,
) -> anyhow::Result<Played> {
    let since = Instant::now();
    if place.strike(trouble).context("begin the trouble")? == Played::Impossible {
        return Ok(Played::Impossible);
    }
    let mut changed = None;
    match trouble {
        // Other data: two of three endpoints are no longer there, and one is new.
        Trouble::Replaced => {
            place.set(SERVICE, listed.get(2..).unwrap_or_default()).context("list other endpoints")?;
            changed = Some(Instant::now());
        }
        // Whatever is slow must be followed all the same.
        Trouble::Slow => {
            place.set(SERVICE, listed).context("list a new endpoint")?;
            changed = Some(Instant::now());
        }
        _ => {}
    }
    let until = changed.map_or(since + times.length, |at| at + times.patience);
    while Instant::now() < until {
        figures.look(gateway, since)?;
        if changed.is_some() && new.first_within(Duration::ZERO)?.is_some() {
            break;
        }
        process::pause(LOOK);
    }
    place.recover().context("end the trouble")?;
    let recovered = Instant::now();
    if changed.is_none() {
        place.set(SERVICE, listed).context("list a new endpoint")?;
    }
    let from = changed.unwrap_or(recovered);
    let first = new.first_within(times.patience)?;
    figures.followed = first.map(|first| first.saturating_duration_since(from).as_secs_f64());
    process::pause(times.after);
    figures.look(gateway, since)?;
    Ok(Played::Done)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn requests_that_do_not_end_with_200_are_errors_of_their_kind() {
        let ends = [End::Status(200), End::Status(503), End::Late, End::Broken, End::Status(503)];
        let outcomes = ends.map(|end| Outcome { due: 0.0, latency: 1.0, end });
        let mut figures = Figures::default();
        figures.count(&outcomes);
        assert_eq!((figures.requests, figures.failed()), (5, 4));
        assert_eq!(figures.errors.get("503"), Some(&2));
    }
}
