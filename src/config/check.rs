//! From what is written to what is right: reads all layers, checks structure and meaning, reports everything at once.

mod actions;
mod allow;
mod attestors;
mod balance;
mod ca;
mod discovery;
mod health;
mod identity;
mod listeners;
mod matches;
mod names;
mod policies;
mod process;
mod reach;
mod register;
mod resilience;
mod routes;
mod services;
mod targets;
#[cfg(test)]
mod tests;
mod traces;

pub(crate) use self::actions::headers::{changeable, header_value};
pub(crate) use self::actions::sendable;
pub(crate) use self::matches::{is_host, matchable};

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::time::Duration;

use meshless_platforms::Surroundings;

use super::document::{Node, Tree};
use super::problem::{At, Path, Problem, Problems, Report, Severity, Step};
use super::raw::Raw;
use super::units::Period;
use super::{Config, interpolate, layers, structure};

/// A configuration that is right.
#[derive(Debug, Clone, PartialEq)]
pub struct Loaded {
    /// What to work with.
    pub config: Config,
    /// What is probably not meant so.
    pub warnings: Vec<Problem>,
    /// The files that were read, in the order of reading.
    pub files: Vec<PathBuf>,
}

/// Reads the files at `paths` (a directory stands for its files) and the environment, and checks all of it.
///
/// `sets` gives values such as `ecs.cluster` for `${ecs.cluster}`, where the platform does not. The error has every
/// problem, warnings included, sorted by place. Blocks on the file system.
pub fn load(
    paths: &[PathBuf],
    surroundings: &dyn Surroundings,
    sets: &BTreeMap<String, String>,
) -> Result<Loaded, Problems> {
    let layers::Layers { mut tree, files, mut problems } = layers::read(paths, surroundings);
    // What comes after a file that cannot be read would only be its echo.
    let unread = problems.iter().any(|problem| problem.severity == Severity::Error && problem.key.is_empty());
    problems.extend(interpolate::expand(&mut tree, surroundings, sets));
    let (config, more) = meaning(&tree, surroundings);
    problems.extend(more.into_iter().filter(|problem| !unread || !problem.place_is_whole()));
    problems.sort();
    problems.dedup();
    match config {
        Some(config) if problems.iter().all(|problem| problem.severity == Severity::Warning) => {
            Ok(Loaded { config, warnings: problems, files })
        }
        _ => Err(Problems(problems)),
    }
}

/// Checks a configuration that stands nowhere: an empty table for each of `backends`, and the environment over it. What
/// somebody works with who asks a backend without a file.
pub fn load_implied(backends: &[&str], surroundings: &dyn Surroundings) -> Result<Config, Problems> {
    let layers::Layers { tree, mut problems, files: _ } = layers::imply(backends, surroundings);
    let (config, more) = meaning(&tree, surroundings);
    // Nobody listens, and that is meant so.
    problems.extend(more.into_iter().filter(|problem| problem.key != "listeners"));
    problems.sort();
    problems.dedup();
    match config {
        Some(config) if problems.iter().all(|problem| problem.severity == Severity::Warning) => Ok(config),
        _ => Err(Problems(problems)),
    }
}

/// Checks a configuration that stands in another file, without the environment's keys.
pub(super) fn load_tree(
    mut tree: Tree,
    surroundings: &dyn Surroundings,
    sets: &BTreeMap<String, String>,
) -> Result<Loaded, Problems> {
    let mut problems = interpolate::expand(&mut tree, surroundings, sets);
    let (config, more) = meaning(&tree, surroundings);
    problems.extend(more);
    problems.sort();
    problems.dedup();
    match config {
        Some(config) if problems.iter().all(|problem| problem.severity == Severity::Warning) => {
            Ok(Loaded { config, warnings: problems, files: Vec::new() })
        }
        _ => Err(Problems(problems)),
    }
}

/// Checks a merged tree.
fn meaning(tree: &Tree, surroundings: &dyn Surroundings) -> (Option<Config>, Vec<Problem>) {
    let mut report = Report::new(tree);
    let structure::Sound { json, wrong } = structure::check(tree, &mut report);
    let raw = match serde_json::from_value::<Raw>(json) {
        Ok(raw) => raw,
        Err(error) => {
            report.error(&Path::default(), At::Value, format!("cannot be read: {error}"));
            return (None, report.into_problems());
        }
    };
    let mut check = Check { report, wrong, tree };
    let config = check.config(&raw, surroundings);
    (config, check.report.into_problems())
}

/// The state of one check.
struct Check<'a> {
    report: Report<'a>,
    /// Keys that were refused already: they are not missing.
    wrong: BTreeSet<Path>,
    tree: &'a Tree,
}

impl Check<'_> {
    /// Every part is checked, whatever the others are like.
    fn config(&mut self, raw: &Raw, surroundings: &dyn Surroundings) -> Option<Config> {
        let node = self.node(raw.node.as_ref(), surroundings);
        let admin = self.admin(raw.admin.as_ref());
        let discovery = self.discovery(&raw.discovery, surroundings);
        let root = Path::default();
        let defaults = self.policies(raw.defaults.as_ref(), &super::Policies::default(), &root.key("defaults"));
        let identity = self.identity(raw, &node);
        let ca = self.ca(raw, &node);
        let attestors = raw.ca.as_ref().map(|ca| self.attestors(ca));
        let services = self.services(&raw.services, &defaults, identity.as_ref());
        let listeners = self.listeners(&raw.listeners);
        let routes = self.routes(&raw.routes);
        let names = self.names(&raw.names);
        self.addresses(admin.as_ref(), &listeners);
        self.reach(raw, &listeners, &routes);
        self.names_reach(&names, &listeners);
        self.inline_mesh(&defaults, &listeners, &routes, &names);
        self.allow_holds(raw, &listeners);
        let telemetry = self.telemetry(raw.telemetry.as_ref(), &node);
        let shutdown = process::shutdown(raw.shutdown.as_ref());
        let place = register::Place { node: &node, discovery: &discovery, listeners: &listeners, services: &services };
        let register = self.register(raw.register.as_ref(), raw, &place);
        Some(Config {
            node,
            admin: admin?,
            discovery,
            defaults,
            services,
            listeners: listeners.into_iter().flatten().collect(),
            routes: routes.into_iter().flatten().collect(),
            names: names.into_iter().flatten().collect(),
            attestors,
            identity,
            ca,
            register,
            telemetry,
            shutdown,
        })
    }

    fn error(&mut self, path: &Path, at: At, message: impl Into<String>) {
        self.report.error(path, at, message);
    }

    /// Reports a key that must be there, unless what was there has been refused already.
    fn missing(&mut self, path: &Path, message: &str) {
        if !self.wrong.contains(path) {
            self.error(path, At::Key, message);
        }
    }

    /// A duration that is more than nothing.
    fn positive(&mut self, path: &Path, value: Option<Period>, default: Duration) -> Duration {
        self.some_positive(path, value).unwrap_or(default)
    }

    fn some_positive(&mut self, path: &Path, value: Option<Period>) -> Option<Duration> {
        if value.is_some_and(|value| value.0.is_zero()) {
            self.error(path, At::Value, "expected more than 0s");
        }
        value.map(|value| value.0)
    }

    /// Says whether there is a table, right or wrong.
    fn has_table(&self, table: &str) -> bool {
        self.tree.child(&Step::Key(table.to_owned())).is_some()
    }

    /// Says whether a table of the tree has a key, right or wrong.
    fn has_key(&self, table: &str, key: &str) -> bool {
        let table = self.tree.child(&Step::Key(table.to_owned()));
        table.is_some_and(|table| table.child(&Step::Key(key.to_owned())).is_some())
    }

    /// Says whether a table within a table has a key, right or wrong.
    fn has_key_below(&self, [table, name]: [&str; 2], key: &str) -> bool {
        let below =
            |tree: Option<&'_ Tree>, key: &str| tree.and_then(|tree| tree.child(&Step::Key(key.to_owned()))).is_some();
        let table = self.tree.child(&Step::Key(table.to_owned()));
        below(table.and_then(|table| table.child(&Step::Key(name.to_owned()))), key)
    }

    /// The keys that a table of the tree has, right or wrong.
    fn keys_of(&self, table: &str) -> BTreeSet<String> {
        match self.tree.child(&Step::Key(table.to_owned())).map(|table| &table.node) {
            Some(Node::Table(table)) => table.keys().cloned().collect(),
            _ => BTreeSet::new(),
        }
    }

    /// Says whether anything at or below a path was refused.
    fn is_wrong(&self, path: &Path) -> bool {
        self.wrong.iter().any(|wrong| wrong.steps().starts_with(path.steps()))
    }
}
