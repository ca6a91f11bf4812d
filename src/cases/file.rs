//! A file of cases, read and checked.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path as FilePath;
use std::sync::Arc;

use meshless_discovery::{Address, Snapshot, Target};
use meshless_platforms::Surroundings;

use super::raw;
use crate::config::problem::Path;
use crate::config::written::{self, Written};
use crate::config::{Config, Loaded, Problem, Problems};
use crate::offline::latency::Latency;
use crate::offline::request::Request;
use crate::offline::world::{Endpoint, Fault, Kind};
use crate::offline::{Micros, catalog, micros};

/// What an endpoint takes that says nothing.
const LATENCY: Latency = Latency::Constant(1000);

/// Cases for one configuration.
#[derive(Debug)]
pub struct Cases {
    /// The file.
    pub name: String,
    /// Which configuration, to add up what several files cover.
    pub configuration: String,
    /// What `check` warns of in the configuration.
    pub warnings: Vec<Problem>,
    pub(super) config: Config,
    pub(super) all: Vec<Case>,
}

#[derive(Debug)]
pub(super) struct Case {
    pub(super) name: String,
    pub(super) listener: String,
    pub(super) request: Request,
    pub(super) at: Micros,
    pub(super) events: Vec<Event>,
    pub(super) endpoints: Vec<Endpoint>,
    pub(super) lists: BTreeMap<Target, Arc<Snapshot>>,
    pub(super) expect: raw::Expect,
}

#[derive(Debug)]
pub(super) struct Event {
    pub(super) at: Micros,
    pub(super) address: Address,
    pub(super) written: raw::Event,
}

impl Cases {
    /// Reads cases and their configuration. The error has every problem; `sets` win over what the file sets. Blocks on the
    /// file system.
    pub fn load(
        file: &FilePath,
        surroundings: &dyn Surroundings,
        sets: &BTreeMap<String, String>,
    ) -> Result<Self, Problems> {
        let written: Written<raw::File> = written::read(file, &["config"])?;
        let mut all = written.value.set.clone();
        all.extend(sets.clone());
        let Loaded { config, warnings, .. } = match written.config("config", surroundings, &all) {
            Some(loaded) => loaded?,
            None => {
                return Err(Problems(vec![
                    written
                        .whole("`config` is missing: the path of a configuration, or a table [config] with one in it"),
                ]));
            }
        };
        let mut reader = Reader { written: &written, config: &config, problems: Vec::new() };
        let cases = reader.cases();
        let mut problems = reader.problems;
        if cases.is_empty() && problems.is_empty() {
            problems.push(written.whole("there is no case; add [[cases]]"));
        }
        if !problems.is_empty() {
            problems.sort();
            problems.dedup();
            return Err(Problems(problems));
        }
        let configuration = written.source("config").unwrap_or_else(|| file.display().to_string());
        Ok(Self { name: file.display().to_string(), configuration, warnings, config, all: cases })
    }

    /// Returns how many there are.
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// Returns the names of all routes.
    pub fn routes(&self) -> impl Iterator<Item = &str> {
        self.config.routes.iter().map(|route| route.name.as_str())
    }
}

struct Reader<'a> {
    written: &'a Written<raw::File>,
    config: &'a Config,
    problems: Vec<Problem>,
}

impl Reader<'_> {
    fn wrong(&mut self, path: &Path, message: impl Into<String>) {
        self.problems.push(self.written.problem(path, message));
    }

    fn cases(&mut self) -> Vec<Case> {
        let written = self.written;
        let root = Path::default();
        let common = self.lists(&written.value.catalog, &root.key("catalog"));
        let mut names = BTreeSet::new();
        let mut cases = Vec::new();
        for (position, raw) in written.value.cases.iter().enumerate() {
            let path = root.key("cases").position(position);
            if raw.name.as_ref().is_some_and(|name| !names.insert(name)) {
                self.wrong(&path.key("name"), "another case has this name");
            }
            cases.extend(self.case(raw, &path, &common));
        }
        cases
    }

    fn case(&mut self, raw: &raw::Case, path: &Path, common: &BTreeMap<Target, Arc<Snapshot>>) -> Option<Case> {
        let mut lists = common.clone();
        lists.extend(self.lists(&raw.catalog, &path.key("catalog")));
        let endpoints = self.answers(&raw.answers, &path.key("answers"));
        let events = self.events(&raw.events, &path.key("events"));
        let last = events.iter().map(|event| event.at).max().unwrap_or_default();
        let at = raw.at.map_or(last, |at| micros(at.0));
        if at < last {
            self.wrong(&path.key("at"), "an event is later than the request");
        }
        for (key, is_there) in
            [("name", raw.name.is_some()), ("request", raw.request.is_some()), ("expect", raw.expect.is_some())]
        {
            if !is_there {
                self.wrong(path, format!("a case needs `{key}`"));
            }
        }
        let (name, expect) = (raw.name.clone(), raw.expect.clone());
        if expect.as_ref().is_some_and(|expect| *expect == raw::Expect::default()) {
            self.wrong(
                &path.key("expect"),
                "nothing is expected, so it cannot fail; add `route`, `service`, `share`, …",
            );
        }
        let (listener, request) = self.request(raw.request.as_ref()?, &path.key("request"))?;
        Some(Case { name: name?, listener, request, at, events, endpoints, lists, expect: expect? })
    }

    fn request(&mut self, raw: &raw::Request, path: &Path) -> Option<(String, Request)> {
        let names: Vec<&str> = self.config.listeners.iter().map(|listener| listener.name.as_str()).collect();
        let listener = match (&raw.listener, names.as_slice()) {
            (Some(name), names) if names.contains(&name.as_str()) => Some(name.clone()),
            (None, [only]) => Some((*only).to_owned()),
            (Some(name), names) => {
                let message = format!("there is no listener `{name}`, only {}", names.join(", "));
                self.wrong(&path.key("listener"), message);
                None
            }
            (None, names) => {
                self.wrong(path, format!("add `listener`: one of {}", names.join(", ")));
                None
            }
        };
        let address = match raw.address.as_deref().map(str::parse) {
            Some(Err(_)) => {
                self.wrong(&path.key("address"), "expected an IP address, such as \"10.0.0.1\"");
                None
            }
            Some(Ok(address)) => Some(address),
            None => None,
        };
        let Some(url) = &raw.url else {
            self.wrong(path, "a request needs `url`, such as \"http://example.com/\"");
            return None;
        };
        match Request::new(raw.method.as_deref().unwrap_or("GET"), url, &raw.headers) {
            Ok(request) => Some((listener?, Request { from: raw.from.clone(), address, ..request })),
            Err(message) => {
                self.wrong(&path.key("url"), message);
                None
            }
        }
    }

    fn events(&mut self, raw: &[raw::Event], path: &Path) -> Vec<Event> {
        let mut events = Vec::new();
        for (position, written) in raw.iter().enumerate() {
            let path = path.position(position);
            let happens = [
                written.fails.is_some(),
                written.serves.is_some(),
                written.health.is_some(),
                written.gone == Some(true),
            ];
            if happens.iter().filter(|happens| **happens).count() != 1 {
                self.wrong(&path, "an event is one of `fails`, `serves`, `health` and `gone = true`");
            }
            match catalog::address(written.endpoint.as_deref()) {
                Ok(address) => {
                    let at = written.at.map_or(0, |at| micros(at.0));
                    events.push(Event { at, address, written: written.clone() });
                }
                Err(message) => self.wrong(&path.key("endpoint"), message),
            }
        }
        // Of two at one time the one that was written first.
        events.sort_by_key(|event| event.at);
        events
    }

    fn answers(&mut self, raw: &BTreeMap<String, String>, path: &Path) -> Vec<Endpoint> {
        let mut endpoints = Vec::new();
        for (name, answer) in raw {
            let path = path.key(name);
            let kind = match answer.as_str() {
                "down" => Some(Kind::Down),
                "frozen" => Some(Kind::Frozen),
                "reset" => Some(Kind::Reset),
                "unreachable" => Some(Kind::Unreachable),
                text => text.parse().ok().filter(|status| (100..600).contains(status)).map(|status| Kind::Status {
                    status,
                    latency: None,
                    retry_after: None,
                }),
            };
            if kind.is_none() {
                self.wrong(
                    &path,
                    "expected a status such as \"503\", or \"down\", \"unreachable\", \"frozen\", \"reset\"",
                );
            }
            match (catalog::address(Some(name)), kind) {
                (Ok(address), Some(kind)) => {
                    let faults = vec![Fault { from: 0, to: Micros::MAX, share: 1.0, kind }];
                    endpoints.push(Endpoint { address, faults, ..other() });
                }
                (Err(message), _) => self.wrong(&path, message),
                (Ok(_), None) => {}
            }
        }
        endpoints
    }

    fn lists(&mut self, raw: &BTreeMap<String, Vec<catalog::Listed>>, path: &Path) -> BTreeMap<Target, Arc<Snapshot>> {
        let mut lists = BTreeMap::new();
        for (name, list) in raw {
            let path = path.key(name);
            match (catalog::target(name), catalog::snapshot(list)) {
                (Ok(target), Ok(snapshot)) => drop(lists.insert(target, snapshot)),
                (Err(message), _) => self.wrong(&path, message),
                (_, Err((position, message))) => self.wrong(&path.position(position), message),
            }
        }
        lists
    }
}

/// An endpoint of which nothing is said.
pub(super) fn other() -> Endpoint {
    let address = Address::Unix("".into());
    Endpoint { address, latency: LATENCY, connect: 0, capacity: None, faults: Vec::new() }
}
