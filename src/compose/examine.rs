//! Looks at the place that a gateway is to run in, and at every backend, for `meshless doctor`.
//!
//! Everything is looked at at the same time and each look has a limit of its own, so that a backend or a disk that hangs
//! is one finding and not the end of the report. What is found is judged by `doctor`.

use std::collections::BTreeMap;
use std::future::Future;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshless_discovery::{Backend, Finding, Target};
use meshless_platforms::{MemoryGroups, Surroundings};
use rustix::process::{Resource, getrlimit};
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::timeout;

use super::lookup::{Lookup, LookupError};
use super::targets::discovery_config;
use crate::admin::ConfigView;
use crate::admin::client::Client;
use crate::config::{Config, ListenAddress};
use crate::doctor::ports::Tried;
use crate::doctor::state::Kept;
use crate::doctor::{Report, Section, clock, descriptors, machine, ports, state};
use crate::follow::last_known_good;
use crate::sockets;
use crate::targets::{TargetView, count, remedy};

/// Longest that one look may take.
const LIMIT: Duration = Duration::from_secs(10);
/// Longest wait for a gateway that runs here; it answers from memory.
const ADMIN: Duration = Duration::from_secs(2);
/// Most targets of one backend that are resolved: more would say no more, and cost the backend.
const MOST_TARGETS: usize = 100;

/// Everything that is looked at.
#[derive(Debug)]
pub struct Examination {
    config: Arc<Config>,
    backends: Vec<Place>,
    notes: Vec<String>,
}

/// One backend, and what is asked of it.
#[derive(Debug)]
struct Place {
    name: String,
    kind: String,
    /// `None`: it cannot be opened, and why.
    backend: Result<Arc<dyn Backend>, String>,
    targets: Vec<Target>,
}

/// What a gateway says that answers at the configured admin address.
#[derive(Debug, Clone, Default)]
struct Running {
    config: Option<ConfigView>,
    descriptors: Option<u64>,
}

/// Returns the backends that the surroundings speak of, for who has no configuration yet.
pub fn implied_backends(surroundings: &dyn Surroundings) -> Vec<&'static str> {
    let is_set = |names: &[&str]| names.iter().any(|name| surroundings.variable(name).is_some());
    let hints: [(&str, &[&str]); 3] = [
        ("consul", &["CONSUL_HTTP_ADDR", "CONSUL_HTTP_TOKEN", "CONSUL_HTTP_TOKEN_FILE"]),
        ("ecs", &["ECS_CONTAINER_METADATA_URI_V4", "AWS_REGION", "AWS_DEFAULT_REGION", "AWS_PROFILE"]),
        ("kubernetes", &["KUBERNETES_SERVICE_HOST", "KUBECONFIG"]),
    ];
    let built = |(name, _): &&(&'static str, _)| meshless_discovery::Config::is_built(name);
    hints.iter().filter(built).filter(|(_, names)| is_set(names)).map(|(name, _)| *name).collect()
}

impl Examination {
    /// Opens every backend of a configuration, and `dns`, which needs no table.
    pub fn new(config: Config) -> Result<Self, LookupError> {
        let lookup = Lookup::of_config(&config, None)?;
        let mut backends: BTreeMap<String, Place> = BTreeMap::new();
        for (name, backend) in &config.discovery {
            let opened = meshless_discovery::open(name, &discovery_config(Some(backend)));
            let kind = backend.to_discovery().kind().to_owned();
            let place = Place {
                name: name.clone(),
                kind,
                backend: opened.map_err(|error| error.to_string()),
                targets: Vec::new(),
            };
            backends.insert(name.clone(), place);
        }
        for asked in lookup.asked() {
            let name = &asked.target.backend;
            let place = backends.entry(name.clone()).or_insert_with(|| Place {
                name: name.clone(),
                kind: name.clone(),
                backend: Ok(asked.backend.clone()),
                targets: Vec::new(),
            });
            place.targets.push(asked.target.clone());
        }
        let config = Arc::new(config);
        Ok(Self { config, backends: backends.into_values().collect(), notes: lookup.notes })
    }

    /// Looks at everything at once; takes 10 s at most.
    pub async fn run(self, surroundings: Arc<dyn Surroundings>) -> Report {
        let Self { config, backends, notes } = self;
        let running = running(&config).await;
        let targets: Vec<Target> = backends.iter().flat_map(|place| place.targets.iter().cloned()).collect();
        let mut looks: JoinSet<(usize, Section)> = JoinSet::new();
        let mut at = 0;
        let mut look = |name: String, findings: Findings| {
            let position = at;
            at += 1;
            looks.spawn(async move { (position, Section::new(name, bounded(findings).await)) });
        };
        let (ours, of) = (running.clone(), config.clone());
        look("process".to_owned(), blocking(move || process(&of, &ours, &*surroundings)));
        let of = config.clone();
        look("ports".to_owned(), blocking(move || listening(&of, &running)));
        look("state".to_owned(), blocking(move || on_disk(&config, &targets)));
        for place in backends {
            let name =
                if place.name == place.kind { place.name.clone() } else { format!("{} ({})", place.name, place.kind) };
            look(format!("backend {name}"), Box::pin(examine(place)));
        }
        look(
            "notes".to_owned(),
            Box::pin(std::future::ready(notes.into_iter().map(|note| Finding::good("names", note)).collect())),
        );
        let mut sections = BTreeMap::new();
        while let Some(done) = looks.join_next().await {
            match done {
                Ok((position, section)) => drop(sections.insert(position, section)),
                Err(error) => {
                    let finding = Finding::bad("doctor", error.to_string(), "this is a bug: please report it");
                    sections.insert(at + sections.len(), Section::new("doctor", [finding]));
                }
            }
        }
        Report::new(sections.into_values())
    }
}

type Findings = std::pin::Pin<Box<dyn Future<Output = Vec<Finding>> + Send>>;

async fn bounded(findings: Findings) -> Vec<Finding> {
    timeout(LIMIT + Duration::from_secs(1), findings).await.unwrap_or_else(|_| {
        let seen = format!("unreachable: nothing came within {} s", LIMIT.as_secs());
        vec![Finding::bad("answer", seen, "look for a disk or a network that hangs")]
    })
}

/// Runs what blocks on the system where nothing else waits for it.
fn blocking(look: impl FnOnce() -> Vec<Finding> + Send + 'static) -> Findings {
    Box::pin(async {
        let bug = |error: tokio::task::JoinError| {
            vec![Finding::bad("doctor", error.to_string(), "this is a bug: please report it")]
        };
        spawn_blocking(look).await.unwrap_or_else(bug)
    })
}

/// Asks whether a gateway runs here with this admin address.
async fn running(config: &Config) -> Running {
    let client = Client::new(config.admin.listen.clone(), ADMIN);
    let view = match client.get("/config").await {
        Ok(reply) if reply.status.is_success() => serde_json::from_str::<ConfigView>(&reply.text).ok(),
        _ => None,
    };
    if view.is_none() {
        return Running::default();
    }
    let metrics = client.get("/metrics").await.map(|reply| reply.text).unwrap_or_default();
    let most = metrics.lines().find_map(|line| line.strip_prefix("process_max_fds ")?.trim().parse::<f64>().ok());
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a count, printed as a number")]
    Running { config: view, descriptors: most.map(|most| most as u64) }
}

fn process(config: &Config, running: &Running, surroundings: &dyn Surroundings) -> Vec<Finding> {
    let needed = descriptors::Needed::of(config);
    let (limit, whose) = match running.descriptors {
        Some(of_running) => (Some(of_running), "in the gateway that runs here"),
        None => (getrlimit(Resource::Nofile).current, "here (a service has limits of its own)"),
    };
    let read = |path: &str| surroundings.file(path);
    let group = MemoryGroups::find(&read).and_then(|groups| groups.read(&read));
    let available = super::processors(surroundings).count;
    let youngest = config.node.state_dir.as_deref().and_then(youngest);
    vec![
        descriptors::judge(needed, limit, whose),
        machine::memory(config.node.memory.map(|bytes| bytes as u64), group, needed.clients),
        machine::processors(config.node.workers, available),
        machine::reuse_port(sockets::try_sharing().map_err(|error| error.to_string())),
        clock::judge(SystemTime::now(), youngest),
    ]
}

/// When the youngest file of last known good snapshots was written.
fn youngest(state_dir: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(state_dir.join("snapshots")).ok()?;
    entries.flatten().filter_map(|entry| entry.metadata().ok()?.modified().ok()).max()
}

fn listening(config: &Config, running: &Running) -> Vec<Finding> {
    let here = running.config.as_ref();
    let held: Vec<String> =
        here.map(|view| view.listeners.iter().map(|one| one.address.clone()).collect()).unwrap_or_default();
    let probes = here.and_then(|view| view.config.pointer("/admin/probes")?.as_str().map(str::to_owned));
    let one = |who: &str, address: &ListenAddress, ours: bool| ports::judge(who, address, &tried(address), ours);
    let mut findings = vec![one("admin.listen", &config.admin.listen, here.is_some())];
    if let Some(address) = &config.admin.probes {
        findings.push(one("admin.probes", address, probes.as_deref() == Some(&address.to_string())));
    }
    for listener in &config.listeners {
        let ours = held.contains(&listener.listen.to_string());
        findings.push(one(&format!("listener {}", listener.name), &listener.listen, ours));
    }
    findings
}

fn tried(address: &ListenAddress) -> Tried {
    match sockets::probe(address) {
        Ok(()) => Tried::Free,
        Err(error) => match error.kind() {
            io::ErrorKind::AddrInUse => Tried::InUse,
            io::ErrorKind::AddrNotAvailable => Tried::NotHere,
            io::ErrorKind::PermissionDenied => Tried::NotPermitted,
            _ => Tried::Refused(error.to_string()),
        },
    }
}

fn on_disk(config: &Config, targets: &[Target]) -> Vec<Finding> {
    let Some(directory) = &config.node.state_dir else { return Vec::new() };
    let unwritable = writable(directory).err();
    let mut findings = vec![state::directory(directory, unwritable.as_deref())];
    let now = SystemTime::now();
    let kept = |target: &Target| match last_known_good::kept(directory, target, now) {
        Ok(Some(saved)) => Kept::Aged(saved.age),
        Ok(None) => Kept::Nothing,
        Err(why) => Kept::Untrusted(why),
    };
    // What stands in the target itself needs no keeping.
    let targets = targets.iter().filter(|target| target.backend != "static");
    let kept: Vec<(String, Kept)> = targets.map(|target| (target.to_string(), kept(target))).collect();
    findings.extend(state::snapshots(&kept));
    findings
}

/// Tells whether snapshots could be written; leaves nothing behind.
fn writable(state_dir: &Path) -> Result<(), String> {
    let wanted: PathBuf = state_dir.join("snapshots");
    // The directory is made by the first snapshot: what is above it counts until then.
    let there = wanted.ancestors().find(|path| path.exists()).unwrap_or_else(|| Path::new("/"));
    if !there.is_dir() {
        return Err(format!("{} is no directory", there.display()));
    }
    let name = there.join(format!(".doctor.{}", std::process::id()));
    std::fs::write(&name, "").and_then(|()| std::fs::remove_file(&name)).map_err(|error| {
        let created = if there == wanted { "" } else { " (snapshots would be made below it)" };
        format!("{} cannot be written{created}: {error}", there.display())
    })
}

/// Looks at one backend, and resolves what is asked of it.
async fn examine(place: Place) -> Vec<Finding> {
    let backend = match place.backend {
        Ok(backend) => backend,
        Err(error) => return vec![Finding::bad("open", error, "correct its table in the configuration")],
    };
    let (own, resolved) =
        tokio::join!(timeout(LIMIT, backend.examine(&place.targets)), resolve(&backend, &place.targets));
    let mut findings = own.unwrap_or_else(|_| {
        let seen = format!("unreachable: nothing came within {} s", LIMIT.as_secs());
        vec![Finding::bad("answer", seen, remedy("unreachable"))]
    });
    findings.extend(resolved);
    findings
}

async fn resolve(backend: &Arc<dyn Backend>, targets: &[Target]) -> Vec<Finding> {
    let asked = targets.iter().take(MOST_TARGETS).cloned();
    let views = Lookup::over(backend, asked).answers(LIMIT).await;
    judge_targets(&views, targets.len())
}

/// Judges what targets came to.
fn judge_targets(views: &[TargetView], all: usize) -> Vec<Finding> {
    let answered: Vec<&TargetView> = views.iter().filter(|view| view.failure.is_none()).collect();
    let mut findings = Vec::new();
    if !answered.is_empty() {
        let endpoints: usize = answered.iter().map(|view| view.endpoints.len()).sum();
        let slowest = answered.iter().filter_map(|view| view.took_ms).fold(0.0_f64, f64::max);
        let more = if views.len() < all { format!(" (of {all}: {} were asked)", views.len()) } else { String::new() };
        findings.push(Finding::good(
            "targets",
            format!(
                "{} answered{more}, {}, the slowest in {slowest:.0} ms",
                answered.len(),
                count(endpoints, "endpoint")
            ),
        ));
    }
    for view in views {
        match &view.failure {
            Some(failure) => {
                findings.push(Finding::bad(view.target.clone(), failure.error.clone(), remedy(&failure.kind)));
            }
            None if view.endpoints.is_empty() => findings.push(Finding::warning(
                view.target.clone(),
                "answered, and nobody is there: its requests get 503, or go to the next tier",
                "see that something is registered under that name, and healthy",
            )),
            None => {}
        }
    }
    findings
}
