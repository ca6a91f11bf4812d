//! A configuration without a gateway: its table is built as `run` builds it, from what can be known here.
//!
//! Endpoints of `static` targets and of `file` backends are read once, as their backends read them. Other backends are not
//! asked: what stands in for them is a file of endpoints, or one endpoint that nobody sees, so that the shares of tiers
//! and splits can be told all the same.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshless_discovery::{Address, Endpoint, Snapshot, Target};
use meshless_platforms::Surroundings;

use super::demand;
use super::targets::discovery_config;
use crate::config::{self, Backend, Config, Problem, Problems};
use crate::explain::answer::Explanation;
use crate::explain::{self, Provenance, Question, Refusal, Situation};
use crate::follow::removals::Standing;
use crate::upstream::Table;
use crate::upstream::live::{Live, Refused, Used, Wanted};
use crate::upstream::plan::Plan;
use crate::upstream::reconcile::{Catalog, Reconciler};

/// Longest wait for a file.
const ANSWER: Duration = Duration::from_secs(2);

/// A configuration, and what is known of its targets.
#[derive(Debug)]
pub struct Offline {
    config: Config,
    plan: Arc<Plan>,
    catalog: Catalog,
    sources: HashMap<Target, Provenance>,
    /// Endpoints that stand in for those of backends.
    given: BTreeMap<String, Snapshot>,
    /// What `check` warns of.
    pub warnings: Vec<Problem>,
}

/// Why a configuration cannot be worked with.
#[derive(Debug, thiserror::Error)]
pub enum OfflineError {
    /// It is wrong.
    #[error("{0}")]
    Configuration(Problems),
    /// The file of endpoints is wrong.
    #[error("--endpoints: {0}")]
    Endpoints(String),
}

impl Offline {
    /// Reads a configuration and what is known of its targets. `endpoints`: a file as the `file` backend takes it, whose
    /// services are targets as they are written.
    pub async fn load(
        paths: &[PathBuf],
        surroundings: &dyn Surroundings,
        sets: &BTreeMap<String, String>,
        endpoints: Option<&Path>,
    ) -> Result<Self, OfflineError> {
        let loaded = config::load(paths, surroundings, sets).map_err(OfflineError::Configuration)?;
        let given = endpoints.map(meshless_discovery::fixtures).transpose();
        let given = given.map_err(|error| OfflineError::Endpoints(error.to_string()))?.unwrap_or_default();
        // Certificates need not be here: what is decided does not depend on them.
        let plan = Arc::new(Plan::new(&loaded.config, &mut |_| None));
        let (config, warnings) = (loaded.config, loaded.warnings);
        let (catalog, sources) = (Catalog::new(), HashMap::new());
        let mut offline = Self { config, plan, catalog, sources, given, warnings };
        for target in offline.plan.targets() {
            offline.learn(&target).await;
        }
        Ok(offline)
    }

    /// Answers a question. `wall`: nanoseconds since 1970, for deadlines.
    ///
    /// What the first request would open (a logical name, the target of an override) is opened for it.
    pub async fn explain(&mut self, question: &Question, wall: u64) -> Result<Explanation, Refusal> {
        let (explanation, wanted) = self.ask(question, &Arc::default(), wall)?;
        let mut explanation = if wanted.is_empty() {
            explanation
        } else {
            let live = self.open(&wanted).await;
            self.ask(question, &Arc::new(live), wall)?.0
        };
        let unused = self.given.keys().filter(|name| !self.sources.keys().any(|target| target.to_string() == **name));
        let unused = unused.map(|name| format!("--endpoints: `{name}` is no target of the configuration"));
        explanation.notes.extend(unused);
        explanation.notes.extend(self.config.unread_routes());
        Ok(explanation)
    }

    fn ask(&self, question: &Question, live: &Arc<Live>, wall: u64) -> Result<(Explanation, Vec<Wanted>), Refusal> {
        let mut reconciler = Reconciler::default();
        reconciler.live.clone_from(live);
        let table = reconciler.reconcile(&Table::default(), self.plan.clone(), &self.catalog);
        let (config, sources) = (&self.config, &self.sources);
        explain::explain(question, &Situation { config, table: &table, sources, version: None, now: 0, wall })
    }

    /// Opens what a request wants, as control does it for a running gateway: all that it waits for has answered.
    async fn open(&mut self, wanted: &[Wanted]) -> Live {
        let plan = self.plan.clone();
        let (mut opened, mut refused) = (Vec::new(), Refused::default());
        for one in wanted {
            match (demand::asked(one, &plan), one) {
                (Ok(asked), _) => {
                    for target in asked.targets() {
                        self.learn(target).await;
                    }
                    opened.push((one, asked));
                }
                (Err(refusal), Wanted::Name(host)) => drop(refused.names.insert(host.clone(), refusal)),
                (Err(refusal), Wanted::Target(target)) => drop(refused.targets.insert(target.clone(), refusal)),
            }
        }
        let ready = opened.iter().map(|(wanted, asked)| {
            let used = Arc::new(Used::at(0));
            demand::Ready { wanted, asked, used, waits_for: None }
        });
        let planned =
            |(label, target): &(Arc<str>, Target)| Arc::new(plan.logical.upstream(label.clone(), target.clone()));
        Live { refused, ..demand::in_table(&plan, ready, planned) }
    }

    /// Finds out what can be known of a target here.
    async fn learn(&mut self, target: &Target) {
        let (snapshot, source) = match self.given.get(&target.to_string()) {
            Some(given) => (Some(given.clone()), Provenance { origin: "fixture".to_owned(), ..Provenance::default() }),
            None => answer(&self.config, target).await,
        };
        if let Some(snapshot) = snapshot {
            let listed = snapshot.endpoints().iter().map(|endpoint| (endpoint.clone(), Standing::Listed));
            self.catalog.insert(target.clone(), listed.collect());
        }
        self.sources.insert(target.clone(), source);
    }
}

/// Asks the backends that only read files; for others somebody stands in.
async fn answer(config: &Config, target: &Target) -> (Option<Snapshot>, Provenance) {
    let backend = config.discovery.get(&target.backend);
    let origin = match (target.backend.as_str(), backend) {
        ("static", _) => "static",
        (_, Some(Backend::File { .. })) => "file",
        _ => {
            // Of a net that is kept for documentation (RFC 5737): nobody's.
            let anybody = Endpoint::new(Address::Tcp(([192, 0, 2, 1], 1).into()));
            let source = Provenance { is_assumed: true, ..Provenance::default() };
            return (Snapshot::new(vec![anybody]).ok(), source);
        }
    };
    let opened =
        meshless_discovery::open(&target.backend, &discovery_config(backend)).map_err(|error| error.to_string());
    let asked = match opened.and_then(|backend| backend.source(target).map_err(|error| error.to_string())) {
        Ok(mut source) => match tokio::time::timeout(ANSWER, source.next()).await {
            Ok(answer) => answer.map_err(|error| error.to_string()),
            Err(_) => Err(format!("no answer within {} s", ANSWER.as_secs())),
        },
        Err(error) => Err(error),
    };
    match asked {
        Ok(snapshot) => (Some(snapshot), Provenance { origin: origin.to_owned(), ..Provenance::default() }),
        Err(failure) => (None, Provenance { failure: Some(failure), ..Provenance::default() }),
    }
}
