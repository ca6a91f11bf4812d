//! The `cloudmap` backend: services of AWS Cloud Map, which ECS writes for service discovery and Service Connect.
//!
//! The cheap way to tasks of ECS: one small call says whether anything changed, health included, and only then the instances
//! are asked for. Every service has a poll of its own, shared by its targets.

mod instances;
mod target;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::json;
use tokio::time::{Duration, Instant, timeout_at};

use instances::Instances;
use target::Query;

use crate::aws::{Aws, Look, Permission, Poll, Schedule, Service};
use crate::{
    Backend, Calls, CloudmapConfig, Error, Finding, Snapshot, Source, Target, TargetError, Verdict, async_trait,
};

/// Most instances that Cloud Map answers with, and that it lets a service have.
const MAX_RESULTS: usize = 1000;

/// A look at everything has to end within 10 s.
const PATIENCE: Duration = Duration::from_secs(9);

/// Of that, for one call.
const CALL: Duration = Duration::from_secs(3);

/// A poll for each namespace and service that a target names.
type Services = BTreeMap<(String, String), Arc<Poll<Place>>>;

/// The `cloudmap` backend.
#[derive(Debug)]
pub(crate) struct Cloudmap {
    aws: Arc<Aws>,
    calls: Calls,
    schedule: Schedule,
    services: Mutex<Services>,
}

impl Cloudmap {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &CloudmapConfig) -> Self {
        let calls = Calls::default();
        Self {
            aws: Arc::new(Aws::new(&config.aws, calls.clone())),
            calls,
            schedule: Schedule { min: config.min_interval, max: config.max_interval },
            services: Mutex::default(),
        }
    }

    /// Gives up on a call sooner.
    #[cfg(test)]
    fn with_timeout(mut self, timeout: Duration) -> Self {
        self.aws = Arc::new(self.aws.with_timeout(timeout));
        self
    }

    async fn look(&self, queries: &[Query], findings: &mut Vec<Finding>) {
        let aws = self.aws.with_timeout(CALL);
        findings.extend(aws.examine().await);
        if findings.last().is_some_and(|finding| finding.verdict == Verdict::Bad) {
            return;
        }
        for query in queries {
            let of = format!("{}/{}", query.namespace, query.service);
            for (action, call) in [
                ("servicediscovery:DiscoverInstancesRevision", "DiscoverInstancesRevision"),
                ("servicediscovery:DiscoverInstances", "DiscoverInstances"),
            ] {
                let input = json!({ "NamespaceName": query.namespace, "ServiceName": query.service });
                let result = aws.json::<IgnoredAny>(Service::Cloudmap, call, input).await.map(drop);
                let finding = Permission { action, only_for: None }.found(result, &[]);
                findings.push(Finding { what: format!("{action} of {of}"), ..finding });
            }
        }
    }
}

#[async_trait]
impl Backend for Cloudmap {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        let query = parse(target)?;
        let mut services = self.services.lock().unwrap_or_else(PoisonError::into_inner);
        let poll = services.entry((query.namespace.clone(), query.service.clone())).or_insert_with(|| {
            let place = Place { aws: Arc::clone(&self.aws), query: query.clone(), known: Mutex::default() };
            Arc::new(Poll::new(place, self.schedule))
        });
        Ok(Box::new(Followed { query, poll: Arc::clone(poll), look: 0, said: None }))
    }

    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        let mut queries: Vec<Query> = targets.iter().filter_map(|target| parse(target).ok()).collect();
        queries.dedup_by_key(|query| (query.namespace.clone(), query.service.clone()));
        let mut findings = Vec::new();
        if timeout_at(Instant::now() + PATIENCE, self.look(&queries, &mut findings)).await.is_err() {
            let seen = format!("not all was looked at within {PATIENCE:?}");
            findings.push(Finding::warning("time", seen, "look at the network"));
        }
        findings
    }

    fn calls(&self) -> Calls {
        self.calls.clone()
    }
}

fn parse(target: &Target) -> Result<Query, TargetError> {
    target.refuse_options()?;
    Query::parse(&target.path).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))
}

/// A service that is looked at.
#[derive(Debug)]
struct Place {
    aws: Arc<Aws>,
    query: Query,
    /// The revision and what it had.
    known: Mutex<Option<(u64, Instances)>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Revision {
    instances_revision: u64,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Discovered {
    instances: Instances,
    instances_revision: u64,
}

#[async_trait]
impl Look for Place {
    type Found = Instances;

    async fn look(&self) -> Result<Instances, Error> {
        let names = json!({ "NamespaceName": self.query.namespace, "ServiceName": self.query.service });
        let known = self.known.lock().unwrap_or_else(PoisonError::into_inner).clone();
        if let Some((revision, instances)) = known {
            let now: Revision = self.aws.json(Service::Cloudmap, "DiscoverInstancesRevision", names.clone()).await?;
            // Not "greater": a service that was made anew begins anew.
            if now.instances_revision == revision {
                return Ok(instances);
            }
        }
        let input = crate::aws::with(names, "MaxResults", Some(MAX_RESULTS));
        // Without it the unhealthy ones are left out, and who is left out cannot be told from who is gone.
        let input = crate::aws::with(input, "HealthStatus", Some("ALL"));
        let found: Discovered = self.aws.json(Service::Cloudmap, "DiscoverInstances", input).await?;
        let instances = found.instances;
        *self.known.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((found.instances_revision, instances.clone()));
        Ok(instances)
    }
}

/// Waits for change of one service.
#[derive(Debug)]
struct Followed {
    query: Query,
    poll: Arc<Poll<Place>>,
    /// The newest look that was looked at.
    look: u64,
    /// What was returned last; `None` at the start and after an error, so that a recovery is always told.
    said: Option<Snapshot>,
}

#[async_trait]
impl Source for Followed {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        loop {
            let seen = self.poll.after(self.look).await;
            // No await from here on: a call that is dropped has either seen nothing or returned it.
            self.look = seen.look;
            match seen.result.and_then(|instances| instances::snapshot(&instances, &self.query)) {
                Ok(snapshot) if self.said.as_ref() == Some(&snapshot) => {}
                Ok(snapshot) => {
                    self.said = Some(snapshot.clone());
                    return Ok(snapshot);
                }
                Err(error) => {
                    self.said = None;
                    return Err(error);
                }
            }
        }
    }
}
