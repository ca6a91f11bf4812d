//! A scenario, read and checked.

use std::collections::BTreeMap;
use std::path::Path as FilePath;
use std::sync::Arc;
use std::time::Duration;

use meshless_discovery::{Snapshot, Target};
use meshless_platforms::Surroundings;

use super::{endpoints, raw};
use crate::config::problem::Path;
use crate::config::written::{self, Written};
use crate::config::{Loaded, Problem, Problems};
use crate::offline::engine::{Arrivals, Listing};
use crate::offline::request::Request;
use crate::offline::world::Endpoint;
use crate::offline::{Micros, catalog, micros};

/// Most requests of a run: each is kept until its figures are made.
const MOST_REQUESTS: f64 = 2e6;

/// What is simulated.
#[derive(Debug)]
pub struct Scenario {
    pub(super) configs: Vec<(String, Loaded)>,
    pub(super) listener: Option<String>,
    pub(super) asked: Asked,
    pub(super) arrivals: Arrivals,
    pub(super) rate: f64,
    pub(super) duration: Micros,
    pub(super) warm_up: Micros,
    pub(super) seed: u64,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) other: Endpoint,
    pub(super) lists: BTreeMap<Target, Arc<Snapshot>>,
    pub(super) listings: Vec<Listing>,
    /// To say what is wrong with it once a configuration is there.
    pub(super) written: Written<raw::Scenario>,
}

/// Where requests go.
#[derive(Debug)]
pub(super) enum Asked {
    Route(Box<Request>),
    Service(String, Box<Request>),
}

impl Scenario {
    /// Reads a scenario and its configurations. The error has every problem; `sets` as in [`load`](crate::config::load).
    /// Blocks on the file system.
    pub fn load(
        file: &FilePath,
        surroundings: &dyn Surroundings,
        sets: &BTreeMap<String, String>,
    ) -> Result<Self, Problems> {
        let written: Written<raw::Scenario> = written::read(file, &["config", "compare"])?;
        let mut problems = Vec::new();
        let mut configs = Vec::new();
        for key in ["config", "compare"] {
            match written.config(key, surroundings, sets) {
                Some(Ok(loaded)) => configs.push((key.to_owned(), loaded)),
                Some(Err(Problems(more))) => problems.extend(more),
                None if key == "config" => problems.push(
                    written
                        .whole("`config` is missing: the path of a configuration, or a table [config] with one in it"),
                ),
                None => {}
            }
        }
        let scenario = &written.value;
        let root = Path::default();
        let (endpoints, other) = endpoints::read(&written, &mut problems);
        let (lists, listings) = lists(&written, &mut problems);
        let asked = asked(&written, &mut problems);
        let positive = |value: Option<Duration>| value.filter(|value| !value.is_zero());
        let duration = positive(scenario.duration.map(|duration| duration.0));
        if duration.is_none() {
            let message = "for how long do requests arrive? `duration` is needed, such as \"30s\"";
            problems.push(written.problem(&root.key("duration"), message));
        }
        let rate = scenario.rate.map(|rate| f64::from(rate.count) / rate.per.as_secs_f64());
        if rate.is_none() {
            problems.push(
                written.problem(&root.key("rate"), "how many requests are there? `rate` is needed, such as \"100/s\""),
            );
        }
        let (rate, duration) = (rate.unwrap_or(1.0), duration.unwrap_or_default());
        if rate * duration.as_secs_f64() > MOST_REQUESTS {
            let message = "at most two million requests are simulated; lower `rate` or `duration`";
            problems.push(written.problem(&root.key("rate"), message));
        }
        let warm_up = scenario.warm_up.map_or(0, |warm_up| micros(warm_up.0));
        if warm_up > 0 && warm_up >= micros(duration) {
            problems.push(
                written.problem(&root.key("warm_up"), "nothing is left to measure: it is shorter than `duration`"),
            );
        }
        let arrivals = match scenario.arrivals {
            Some(raw::Arrivals::Poisson) => Arrivals::Poisson(rate),
            Some(raw::Arrivals::Steady) | None => Arrivals::Steady(rate),
        };
        match asked {
            Some(asked) if problems.is_empty() => Ok(Self {
                configs,
                listener: scenario.listener.clone(),
                asked,
                arrivals,
                rate,
                duration: micros(duration),
                warm_up,
                seed: scenario.seed.unwrap_or(1),
                endpoints,
                other,
                lists,
                listings,
                written,
            }),
            _ => {
                problems.sort();
                problems.dedup();
                Err(Problems(problems))
            }
        }
    }

    /// Returns what `check` warns of in its configurations.
    pub fn warnings(&self) -> impl Iterator<Item = &Problem> {
        self.configs.iter().flat_map(|(_, loaded)| &loaded.warnings)
    }
}

fn asked(written: &Written<raw::Scenario>, problems: &mut Vec<Problem>) -> Option<Asked> {
    let scenario = &written.value;
    let root = Path::default();
    let method = scenario.method.as_deref().unwrap_or("GET");
    let request = |url: &str| Request::new(method, url, &scenario.headers);
    let mut wrong = |key: &str, message: String| problems.push(written.problem(&root.key(key), message));
    let address = match scenario.address.as_deref().map(str::parse) {
        Some(Err(_)) => {
            wrong("address", "expected an IP address, such as \"10.0.0.1\"".to_owned());
            None
        }
        Some(Ok(address)) => Some(address),
        None => None,
    };
    let mut finish = |request: Result<Request, String>| match request {
        Ok(request) => Some(Box::new(Request { from: scenario.from.clone(), address, ..request })),
        Err(message) => {
            wrong("url", message);
            None
        }
    };
    match (&scenario.url, &scenario.service) {
        (Some(url), None) => finish(request(url)).map(Asked::Route),
        (None, Some(service)) => finish(request("/")).map(|request| Asked::Service(service.clone(), request)),
        (Some(_), Some(_)) => {
            wrong("service", "`url` finds a route, `service` goes without one; keep one of them".to_owned());
            None
        }
        (None, None) => {
            problems.push(written.whole("what is asked for? add `url`, or `service` to go without a route"));
            None
        }
    }
}

type Lists = (BTreeMap<Target, Arc<Snapshot>>, Vec<Listing>);

fn lists(written: &Written<raw::Scenario>, problems: &mut Vec<Problem>) -> Lists {
    let scenario = &written.value;
    let root = Path::default();
    let mut lists = BTreeMap::new();
    for (name, list) in &scenario.catalog {
        let path = root.key("catalog").key(name);
        match (catalog::target(name), catalog::snapshot(list)) {
            (Ok(target), Ok(snapshot)) => drop(lists.insert(target, snapshot)),
            (Err(message), _) => problems.push(written.problem(&path, message)),
            (_, Err((position, message))) => problems.push(written.problem(&path.position(position), message)),
        }
    }
    let mut listings = Vec::new();
    for (position, listing) in scenario.listings.iter().enumerate() {
        let path = root.key("listings").position(position);
        let (Some(at), Some(name)) = (listing.at, &listing.target) else {
            problems.push(written.problem(&path, "a listing needs `at`, `target` and its `endpoints`"));
            continue;
        };
        match (catalog::target(name), catalog::snapshot(&listing.endpoints)) {
            (Ok(target), Ok(snapshot)) => listings.push(Listing { at: micros(at.0), target, snapshot }),
            (Err(message), _) => problems.push(written.problem(&path.key("target"), message)),
            (_, Err((entry, message))) => {
                problems.push(written.problem(&path.key("endpoints").position(entry), message));
            }
        }
    }
    (lists, listings)
}
