//! Asks backends without a gateway, for `meshless targets`: what would it find, now?
//!
//! Backends are opened as `run` opens them, each target is asked once and at the same time as all others, or followed
//! by the runner that a gateway follows it with.

use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshless_discovery::{Backend, Config as Kind, Target};
use meshless_platforms::Surroundings;
use tokio::task::{AbortHandle, JoinSet};
use tokio::time::{Instant, timeout};

use super::targets::discovery_config;
use crate::config::{self, Backend as BackendConfig, Config, Dns, Problem, Problems};
use crate::follow::{Backoff, Followed, Outage, follow};
use crate::target::{Expression, Node};
use crate::targets::TargetView;
use crate::telemetry::timestamp::Timestamp;
use crate::upstream::plan::Plan;

/// Targets, and the backends that know them.
#[derive(Debug)]
pub struct Lookup {
    asked: Vec<Asked>,
    /// What a person should know besides: targets that cannot be asked as they are written.
    pub notes: Vec<String>,
    /// What `check` warns of.
    pub warnings: Vec<Problem>,
}

/// One target.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    pub(super) target: Target,
    /// Services that name it.
    pub(super) services: Vec<String>,
    pub(super) backend: Arc<dyn Backend>,
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
pub enum LookupError {
    /// The configuration is wrong.
    #[error("{0}")]
    Configuration(Problems),
    /// What is asked for is wrong.
    #[error("{reason}")]
    Expression {
        /// What is wrong.
        reason: String,
        /// What to do.
        hint: String,
    },
}

impl LookupError {
    fn expression(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self::Expression { reason: reason.into(), hint: hint.into() }
    }
}

impl Lookup {
    /// Opens the backends of a configuration for all targets that it names, or for those of an expression, in which its
    /// services may stand. Blocks on the file system.
    pub fn of_files(
        paths: &[PathBuf],
        surroundings: &dyn Surroundings,
        sets: &BTreeMap<String, String>,
        expression: Option<&Expression>,
    ) -> Result<Self, LookupError> {
        let loaded = config::load(paths, surroundings, sets).map_err(LookupError::Configuration)?;
        let mut lookup = Self::of_config(&loaded.config, expression)?;
        lookup.warnings = loaded.warnings;
        Ok(lookup)
    }

    /// Opens the backends that an expression names, as empty tables would: with what the environment and the defaults say.
    pub fn of_expression(expression: &Expression, surroundings: &dyn Surroundings) -> Result<Self, LookupError> {
        if let Some(service) = expression.services().next() {
            let reason = format!("`{service}` is a service, not a target");
            return Err(LookupError::expression(reason, "-c FILE or --admin ADDRESS says what it stands for"));
        }
        let named: BTreeSet<&str> = expression.targets().map(|target| target.backend.as_str()).collect();
        let mut implied = Vec::new();
        for name in named {
            match name {
                "static" | "dns" => {}
                "file" => {
                    let hint = "give the configuration that has [discovery.file] with -c FILE";
                    return Err(LookupError::expression("`file/` needs a path, which only a configuration has", hint));
                }
                _ if Kind::is_built(name) => implied.push(name),
                _ => {
                    let reason = format!("there is no backend `{name}`");
                    let hint = "write static, dns, consul, ecs, cloudmap or kubernetes; others are named by a \
                                configuration, with -c FILE";
                    return Err(LookupError::expression(reason, hint));
                }
            }
        }
        let config = config::load_implied(&implied, surroundings).map_err(LookupError::Configuration)?;
        Self::of_config(&config, Some(expression))
    }

    /// Opens backends for the targets of a checked configuration.
    pub(super) fn of_config(config: &Config, expression: Option<&Expression>) -> Result<Self, LookupError> {
        let (wanted, notes) = match expression {
            Some(expression) => (named(config, expression)?, Vec::new()),
            None => all(config),
        };
        let mut backends: BTreeMap<String, Arc<dyn Backend>> = BTreeMap::new();
        let mut asked = Vec::new();
        for (target, services) in wanted {
            let backend = match backends.get(&target.backend) {
                Some(backend) => backend.clone(),
                None => open(config, &target)?,
            };
            let refused = |error: meshless_discovery::TargetError| {
                LookupError::expression(error.to_string(), "docs/discovery.md has the grammar of each backend")
            };
            drop(backend.source(&target).map_err(refused)?);
            backends.insert(target.backend.clone(), backend.clone());
            asked.push(Asked { target, services, backend });
        }
        Ok(Self { asked, notes, warnings: Vec::new() })
    }

    /// Asks targets of one backend that is open.
    pub(super) fn over(backend: &Arc<dyn Backend>, targets: impl Iterator<Item = Target>) -> Self {
        let asked = targets.map(|target| Asked { target, services: Vec::new(), backend: backend.clone() });
        Self { asked: asked.collect(), notes: Vec::new(), warnings: Vec::new() }
    }

    /// Returns what is asked, for who has questions of its own.
    pub(super) fn asked(&self) -> &[Asked] {
        &self.asked
    }

    /// Asks each target once, all at the same time, and waits for `limit` at most.
    pub async fn answers(&self, limit: Duration) -> Vec<TargetView> {
        let mut asking = JoinSet::new();
        for (position, asked) in self.asked.iter().cloned().enumerate() {
            asking.spawn(async move { (position, ask(&asked, limit).await) });
        }
        let mut found = BTreeMap::new();
        while let Some(answer) = asking.join_next().await {
            if let Ok((position, view)) = answer {
                found.insert(position, view);
            }
        }
        let panicked = |asked: &Asked| {
            let view = TargetView::failed(&asked.target, "panic", "the backend panicked: please report it".to_owned());
            TargetView { services: asked.services.clone(), ..view }
        };
        self.asked.iter().enumerate().map(|(at, asked)| found.remove(&at).unwrap_or_else(|| panicked(asked))).collect()
    }

    /// Follows every target from now on, as a gateway does. Spawns; what is returned ends it when it is dropped.
    pub fn watch(&self) -> Watched {
        let mut followed = Vec::new();
        for asked in &self.asked {
            let (target, backend) = (asked.target.clone(), asked.backend.clone());
            let following = follow(target, backend, Backoff::default(), fastrand::Rng::new(), None, Outage::default());
            // That the target can be opened was seen when it was looked up.
            let Ok((known, future)) = following else { continue };
            followed.push((known, asked.services.clone(), tokio::spawn(future).abort_handle()));
        }
        Watched { followed }
    }
}

/// Targets that are followed.
#[derive(Debug)]
pub struct Watched {
    followed: Vec<(Followed, Vec<String>, AbortHandle)>,
}

impl Watched {
    /// Tells what is known now; does not wait.
    pub fn look(&self) -> Vec<TargetView> {
        let now = Instant::now();
        let view = |(followed, services, _): &(Followed, Vec<String>, AbortHandle)| TargetView {
            services: services.clone(),
            ..TargetView::of_known(&followed.target, &followed.known.borrow(), now)
        };
        self.followed.iter().map(view).collect()
    }
}

impl Drop for Watched {
    fn drop(&mut self) {
        self.followed.iter().for_each(|(_, _, running)| running.abort());
    }
}

async fn ask(asked: &Asked, limit: Duration) -> TargetView {
    let began = Instant::now();
    let (target, failed) = (&asked.target, |kind, error| TargetView::failed(&asked.target, kind, error));
    let view = match asked.backend.source(target) {
        Err(error) => failed("malformed", error.to_string()),
        Ok(mut source) => match timeout(limit, source.next()).await {
            Ok(Ok(snapshot)) => TargetView::answered(target, snapshot.endpoints(), &Timestamp(SystemTime::now())),
            Ok(Err(error)) => failed(error.label(), error.to_string()),
            Err(_) => failed("unreachable", format!("unreachable: no answer within {} s", limit.as_secs_f64())),
        },
    };
    let took_ms = (view.failure.is_none()).then(|| began.elapsed().as_secs_f64() * 1000.0);
    TargetView { services: asked.services.clone(), took_ms, ..view }
}

/// Every target that a configuration names, with the services that name it; and what cannot be asked.
fn all(config: &Config) -> (BTreeMap<Target, Vec<String>>, Vec<String>) {
    let plan = Plan::new(config, &mut |_| None);
    let mut wanted: BTreeMap<Target, Vec<String>> = BTreeMap::new();
    for upstream in &plan.upstreams {
        upstream.from.for_each(&mut |target| {
            let services = wanted.entry(target.clone()).or_default();
            if config.services.contains_key(&*upstream.name) && !services.iter().any(|name| **name == *upstream.name) {
                services.push(upstream.name.to_string());
            }
        });
    }
    let mut notes = Vec::new();
    for rule in &config.names {
        for target in rule.target.written().targets() {
            if target.to_string().contains('{') {
                notes.push(format!(
                    "`{target}` of the name `{}` has captures: ask for one that it may stand for, such as \
                     `meshless targets -c FILE {}`",
                    rule.pattern,
                    filled(target)
                ));
            } else {
                wanted.entry(target.clone()).or_default();
            }
        }
    }
    (wanted, notes)
}

/// A target with a word in the place of each capture, as an example.
fn filled(target: &Target) -> String {
    target.to_string().replace(['{', '}'], "")
}

/// The targets of an expression, services opened.
fn named(config: &Config, expression: &Expression) -> Result<BTreeMap<Target, Vec<String>>, LookupError> {
    let mut wanted: BTreeMap<Target, Vec<String>> = BTreeMap::new();
    for leaf in expression.leaves() {
        match leaf {
            Node::Target(target) => drop(wanted.entry(target.clone()).or_default()),
            Node::Service(name) => {
                let Some(service) = config.services.get(name) else {
                    let known: Vec<&str> = config.services.keys().map(String::as_str).collect();
                    let hint = match known.as_slice() {
                        [] => "the configuration has no services; write a target such as `consul/web`".to_owned(),
                        known => format!("the configuration has {}", known.join(", ")),
                    };
                    return Err(LookupError::expression(format!("there is no service `{name}`"), hint));
                };
                for target in service.from.targets() {
                    wanted.entry(target.clone()).or_default().push(name.clone());
                }
            }
            // Leaves are not groups.
            Node::Group(_) => {}
        }
    }
    Ok(wanted)
}

/// Opens the backend of a target.
fn open(config: &Config, target: &Target) -> Result<Arc<dyn Backend>, LookupError> {
    let name = target.backend.as_str();
    // These need no table.
    let dns = BackendConfig::Dns(Dns::default());
    let backend = match (config.discovery.get(name), name) {
        (Some(backend), _) => Some(backend),
        (None, "dns") => Some(&dns),
        (None, "static") => None,
        (None, _) => {
            let reason = format!("`{target}`: there is no [discovery.{name}]");
            return Err(LookupError::expression(reason, "add the table, or leave -c out to ask with the defaults"));
        }
    };
    meshless_discovery::open(name, &discovery_config(backend))
        .map_err(|error| LookupError::expression(error.to_string(), "`meshless check` says more"))
}
