//! The `ecs` backend: tasks of AWS ECS.
//!
//! The limits of its interface are those of a whole account, so what is asked is counted: one poll for each cluster serves all
//! its targets, lists and describes tasks in hundreds, and asks for a task definition once in the life of the process. How
//! tasks become endpoints stands in `tasks`, pure.

mod attested;
mod cluster;
mod examine;
mod instances;
mod target;
mod tasks;
mod wire;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

pub use attested::attested_tasks;
use cluster::{Need, Place};
use target::Query;
use tasks::Cluster;

use crate::aws::{Aws, Poll, Schedule};
use crate::{Backend, Calls, EcsConfig, Error, Finding, Snapshot, Source, Target, TargetError, async_trait};

/// The `ecs` backend.
#[derive(Debug)]
pub(crate) struct Ecs {
    aws: Arc<Aws>,
    calls: Calls,
    schedule: Schedule,
    /// A poll for each cluster that a target names.
    clusters: Mutex<BTreeMap<String, Arc<Poll<Place>>>>,
}

impl Ecs {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &EcsConfig) -> Self {
        let calls = Calls::default();
        Self {
            aws: Arc::new(Aws::new(&config.aws, calls.clone())),
            calls,
            schedule: Schedule { min: config.min_interval, max: config.max_interval },
            clusters: Mutex::default(),
        }
    }

    /// Gives up on a call sooner.
    #[cfg(test)]
    fn with_timeout(mut self, timeout: std::time::Duration) -> Self {
        self.aws = Arc::new(self.aws.with_timeout(timeout));
        self
    }

    fn poll(&self, cluster: &str) -> Arc<Poll<Place>> {
        let mut clusters = self.clusters.lock().unwrap_or_else(PoisonError::into_inner);
        let poll = clusters.entry(cluster.to_owned()).or_insert_with(|| {
            Arc::new(Poll::new(Place::new(Arc::clone(&self.aws), cluster.to_owned()), self.schedule))
        });
        Arc::clone(poll)
    }
}

#[async_trait]
impl Backend for Ecs {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        let query = parse(target)?;
        let poll = self.poll(&query.cluster);
        let need = poll.place().need(&query);
        Ok(Box::new(Tasks { query, poll, look: 0, from: None, said: None, hastened: false, _need: need }))
    }

    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        let queries: Vec<Query> = targets.iter().filter_map(|target| parse(target).ok()).collect();
        examine::examine(&self.aws, &queries).await
    }

    fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

fn parse(target: &Target) -> Result<Query, TargetError> {
    Query::parse(target).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))
}

/// Waits for change of what one query selects.
#[derive(Debug)]
struct Tasks {
    query: Query,
    poll: Arc<Poll<Place>>,
    /// The newest look that was looked at.
    look: u64,
    /// What it found.
    from: Option<Arc<Cluster>>,
    /// What was returned last; `None` at the start and after an error, so that a recovery is always told.
    said: Option<Snapshot>,
    /// A look before its time was asked for, and the one after it waits as usual.
    hastened: bool,
    _need: Need,
}

#[async_trait]
impl Source for Tasks {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        loop {
            let seen = self.poll.after(self.look).await;
            // No await from here on: a call that is dropped has either seen nothing or returned it.
            self.look = seen.look;
            let cluster = match seen.result {
                Ok(cluster) => cluster,
                Err(error) => {
                    self.said = None;
                    return Err(error);
                }
            };
            let is_known = self.from.as_ref().is_some_and(|from| Arc::ptr_eq(from, &cluster));
            if is_known && self.said.is_some() {
                continue;
            }
            match cluster.endpoints(&self.query) {
                None if self.hastened => {}
                None => {
                    self.hastened = true;
                    self.poll.hasten();
                }
                Some(Ok(snapshot)) => {
                    self.hastened = false;
                    self.from = Some(cluster);
                    if self.said.as_ref() != Some(&snapshot) {
                        self.said = Some(snapshot.clone());
                        return Ok(snapshot);
                    }
                }
                Some(Err(error)) => {
                    self.hastened = false;
                    self.said = None;
                    return Err(error);
                }
            }
        }
    }
}
