//! One look at a cluster: which calls it takes, and what is remembered from one to the next.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde_json::json;

use super::instances::Instances;
use super::target::{self, List, Query};
use super::tasks::{self, Cluster};
use super::wire::{Definition, DefinitionAnswer, Described, Listed, Task};
use crate::aws::{Aws, Look, Service, Trouble, with};
use crate::{Error, async_trait};

/// Most tasks that `DescribeTasks` takes; asking for more was a real outage elsewhere (traefik#1210).
const BATCH: usize = 100;

/// Most pages of a list: twice what ECS lets a cluster have by default.
const MAX_PAGES: usize = 200;

/// Most definitions that are kept; beyond them only those in use are.
const MAX_DEFINITIONS: usize = 10_000;

/// A cluster that is looked at.
#[derive(Debug)]
pub(super) struct Place {
    aws: Arc<Aws>,
    name: String,
    needs: Arc<Mutex<BTreeMap<Query, usize>>>,
    instances: Instances,
    memory: Mutex<Memory>,
}

/// What one look leaves for the next.
#[derive(Debug, Default)]
struct Memory {
    /// Tasks that ran. Those that are listed no more are looked at until they have stopped: `ListTasks` with the status
    /// `STOPPED` would say the same, with all that stopped in the last hour.
    running: BTreeSet<String>,
    /// By the ARN of the definition, not of the task: a definition never changes, and tasks come and go (traefik#13884).
    definitions: BTreeMap<String, Arc<Definition>>,
}

/// Says, for as long as it lives, that somebody needs what a query selects.
#[derive(Debug)]
pub(super) struct Need {
    query: Query,
    needs: Arc<Mutex<BTreeMap<Query, usize>>>,
}

impl Drop for Need {
    fn drop(&mut self) {
        let mut needs = lock(&self.needs);
        if let Some(count) = needs.get_mut(&self.query) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                needs.remove(&self.query);
            }
        }
    }
}

impl Place {
    pub(super) fn new(aws: Arc<Aws>, name: String) -> Self {
        Self {
            instances: Instances::new(Arc::clone(&aws), name.clone()),
            aws,
            name,
            needs: Arc::default(),
            memory: Mutex::default(),
        }
    }

    pub(super) fn need(&self, query: &Query) -> Need {
        *lock(&self.needs).entry(query.clone()).or_default() += 1;
        Need { query: query.clone(), needs: Arc::clone(&self.needs) }
    }

    /// Returns the ARNs of the tasks of a list that are to run.
    async fn listed(&self, list: &List) -> Result<Vec<String>, Error> {
        let (mut arns, mut token) = (Vec::new(), None::<String>);
        for _ in 0..MAX_PAGES {
            let input = json!({ "cluster": self.name, "desiredStatus": "RUNNING", "maxResults": BATCH });
            let input = match list {
                List::All => input,
                List::Family(family) => with(input, "family", Some(family.as_str())),
                List::Service(service) => with(input, "serviceName", Some(service.as_str())),
            };
            let input = with(input, "nextToken", token.take());
            let page: Listed = match self.aws.json(Service::Ecs, "ListTasks", input).await {
                Ok(page) => page,
                // As in the list of a whole cluster, a service that is not there has no tasks.
                Err(Trouble { code: Some(code), .. }) if code == "ServiceNotFoundException" => return Ok(Vec::new()),
                Err(trouble) => return Err(trouble.error),
            };
            arns.extend(page.task_arns);
            match page.next_token.filter(|token| !token.is_empty()) {
                Some(next) => token = Some(next),
                None => return Ok(arns),
            }
        }
        Err(Error::Malformed(format!(
            "ListTasks: the cluster `{}` has more than {MAX_PAGES} pages of tasks",
            self.name
        )))
    }

    /// Returns what is known about tasks, less those that are gone already.
    async fn described(&self, arns: &BTreeSet<String>) -> Result<Vec<Task>, Error> {
        let arns: Vec<&String> = arns.iter().collect();
        let mut tasks = Vec::with_capacity(arns.len());
        for batch in arns.chunks(BATCH) {
            let input = json!({ "cluster": self.name, "tasks": batch, "include": ["TAGS"] });
            let answer: Described = self.aws.json(Service::Ecs, "DescribeTasks", input).await?;
            if let Some(failure) = answer.failures.iter().find(|failure| failure.reason != "MISSING") {
                let (arn, reason) = (&failure.arn, &failure.reason);
                return Err(Error::Malformed(format!("DescribeTasks: {arn} could not be described: {reason}")));
            }
            let answered = answer.tasks.len() + answer.failures.len();
            if answered < batch.len() {
                let asked = batch.len();
                return Err(Error::Malformed(format!("DescribeTasks: {answered} of {asked} tasks were described")));
            }
            tasks.extend(answer.tasks);
        }
        tasks.sort_by(|left, right| left.arn.cmp(&right.arn));
        Ok(tasks)
    }

    /// Returns the definitions of these ARNs, and the first error where not all could be had. What was had is kept.
    async fn definitions(&self, arns: BTreeSet<&str>) -> (BTreeMap<String, Arc<Definition>>, Option<Error>) {
        let mut first = None;
        for arn in &arns {
            if self.memory().definitions.contains_key(*arn) {
                continue;
            }
            let input = json!({ "taskDefinition": arn });
            match self.aws.json::<DefinitionAnswer>(Service::Ecs, "DescribeTaskDefinition", input).await {
                Ok(answer) => {
                    self.memory().definitions.insert((*arn).to_owned(), Arc::new(answer.task_definition));
                }
                Err(trouble) => {
                    let is_theirs_alone = matches!(trouble.error, Error::Malformed(_));
                    first = first.or(Some(trouble.error));
                    if !is_theirs_alone {
                        break;
                    }
                }
            }
        }
        let mut memory = self.memory();
        if memory.definitions.len() > MAX_DEFINITIONS {
            memory.definitions.retain(|arn, _| arns.contains(arn.as_str()));
        }
        let known = arns.iter().filter_map(|arn| Some(((*arn).to_owned(), Arc::clone(memory.definitions.get(*arn)?))));
        (known.collect(), first)
    }

    fn memory(&self) -> MutexGuard<'_, Memory> {
        lock(&self.memory)
    }
}

#[async_trait]
impl Look for Place {
    type Found = Cluster;

    async fn look(&self) -> Result<Cluster, Error> {
        let queries: Vec<Query> = lock(&self.needs).keys().cloned().collect();
        let lists = target::lists(&queries);
        let mut arns = BTreeSet::new();
        for list in &lists {
            arns.extend(self.listed(list).await?);
        }
        arns.extend(self.memory().running.iter().cloned());
        let tasks = self.described(&arns).await?;
        let pairs = || tasks.iter().flat_map(|task| queries.iter().map(move |query| (query, task)));
        let wanted = || pairs().filter(|(query, task)| tasks::is_wanted(query, task));
        let of_definitions = wanted().filter(|(query, task)| tasks::needs_definition(query, task));
        let of_instances = wanted().filter_map(|(query, task)| tasks::needs_instance(query, task));
        let (of_definitions, of_instances): (BTreeSet<&str>, BTreeSet<&str>) =
            (of_definitions.map(|(_, task)| task.definition.as_str()).collect(), of_instances.collect());
        let (definitions, no_definition) = self.definitions(of_definitions).await;
        let (instances, no_instance) = self.instances.addresses(&of_instances).await;
        let running = tasks.iter().filter(|task| tasks::still_runs(task)).map(|task| task.arn.clone());
        self.memory().running = running.collect();
        Ok(Cluster { lists, tasks, definitions, instances, no_definition, no_instance })
    }

    fn trouble(found: &Cluster) -> Option<&Error> {
        found.no_definition.as_ref().or(found.no_instance.as_ref())
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
