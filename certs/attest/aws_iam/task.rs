//! Which task of ECS a workload is, by what ECS says of it.
//!
//! The name of a role's session is the id of the task, but whoever may assume a role chooses that name. So the task is looked up:
//! it must be there, have this role, and the address that the workload comes from.

use std::collections::BTreeSet;
use std::net::IpAddr;

use async_trait::async_trait;
use serde::Deserialize;

use super::caller::{Caller, plain_role};
use super::request::Region;
use crate::SourceError;
use crate::attest::Rejected;
use crate::attest::evidence::{is_account, refused, shown};
use crate::attest::http::{Http, PATIENCE, exchange};

/// Looks tasks up.
#[async_trait]
pub trait Tasks: std::fmt::Debug + Send + Sync {
    /// Returns what ECS says of a task; `None`: it knows no such task.
    async fn describe(&self, region: &str, cluster: &str, arn: &str) -> Result<Option<Task>, TasksError>;
}

/// Why a task could not be looked up.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TasksError(pub String);

/// What ECS says of a task.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Task {
    /// Its ARN.
    pub arn: String,
    /// `lastStatus`.
    pub last_status: String,
    /// `desiredStatus`.
    pub desired_status: String,
    /// `service:NAME`, or another group.
    pub group: String,
    /// ARN of its definition.
    pub definition: String,
    /// ARN of its role: that of the task's overrides, else that of its definition.
    pub role: Option<String>,
    /// Addresses of its network interfaces, or of the instance that it shares them with.
    pub addresses: Vec<IpAddr>,
}

/// The task metadata endpoint of ECS, version 4.
#[derive(Debug)]
pub struct Metadata {
    url: String,
    http: Http,
}

#[derive(Deserialize)]
struct Said {
    #[serde(rename = "TaskARN")]
    arn: String,
}

impl Metadata {
    /// Asks at `url`, which is what `ECS_CONTAINER_METADATA_URI_V4` says.
    #[must_use]
    pub fn new(url: &str) -> Self {
        Self { url: url.trim_end_matches('/').to_owned(), http: Http::clear() }
    }

    /// Returns the ARN of the task that this process runs in.
    pub(super) async fn task(&self) -> Result<String, SourceError> {
        let url = format!("{}/task", self.url);
        let unreachable = |why: String| SourceError::Unreachable(format!("the metadata of the task at {url}: {why}"));
        let request = self.http.client().await.map_err(unreachable)?.get(&url);
        let answer = exchange(request, PATIENCE).await.map_err(unreachable)?;
        if answer.status != 200 {
            return Err(unreachable(format!("it answered {}", answer.status)));
        }
        serde_json::from_slice::<Said>(&answer.body).map(|said| said.arn).map_err(|error| {
            SourceError::Malformed(format!("the metadata of the task at {url} cannot be read: {error}"))
        })
    }
}

/// The parts of `arn:PARTITION:ecs:REGION:ACCOUNT:task/CLUSTER/ID`.
#[derive(Debug, PartialEq, Eq)]
struct Name {
    partition: String,
    region: Region,
    account: String,
    cluster: String,
    id: String,
}

impl Name {
    fn parse(arn: &str) -> Option<Self> {
        let parts: Vec<&str> = arn.split(':').collect();
        let ["arn", partition, "ecs", region, account, resource] = parts.as_slice() else { return None };
        let resource: Vec<&str> = resource.split('/').collect();
        let ["task", cluster, id] = resource.as_slice() else { return None };
        let is_word = |text: &str| {
            (1..=255).contains(&text.len())
                && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        };
        (is_account(account) && is_word(cluster) && is_word(id)).then_some(())?;
        Some(Self {
            partition: (*partition).to_owned(),
            region: Region::parse(region)?,
            account: (*account).to_owned(),
            cluster: (*cluster).to_owned(),
            id: (*id).to_owned(),
        })
    }
}

/// Looks up the task that a caller says to be, and returns the facts about it if it is. `source`: where it comes from, `None` where
/// that is not looked at.
pub(super) async fn facts(
    tasks: &dyn Tasks,
    arn: &str,
    caller: &Caller,
    regions: &BTreeSet<Region>,
    source: Option<Option<IpAddr>>,
) -> Result<Vec<(&'static str, String)>, Rejected> {
    let Some(name) = Name::parse(arn) else {
        return Err(refused("malformed", format!("`{}` is no ARN of a task with its cluster", shown(arn))));
    };
    if !regions.contains(&name.region) {
        return Err(refused("region", format!("`{}` is none of the regions that are allowed", name.region)));
    }
    if (name.partition.as_str(), name.account.as_str()) != (caller.partition.as_str(), caller.account.as_str()) {
        return Err(refused("task", "the task is of another account than the role"));
    }
    // Before anybody is asked: a made-up task costs ECS nothing.
    if caller.session != name.id {
        return Err(refused("task", "the session of the role is not named as the task"));
    }
    let found = tasks
        .describe(name.region.as_str(), &name.cluster, arn)
        .await
        .map_err(|error| Rejected::Unavailable(format!("DescribeTasks in {}: {error}", name.region)))?;
    let Some(task) = found.filter(|task| task.arn == arn) else {
        return Err(refused("task", "ECS knows no such task"));
    };
    check(&task, caller, source)?;
    let mut facts = vec![("cluster", name.cluster)];
    if let Some(service) = task.group.strip_prefix("service:") {
        facts.push(("service", service.to_owned()));
    }
    if let Some(family) = family(&task.definition) {
        facts.push(("family", family.to_owned()));
    }
    facts.push(("task", name.id));
    Ok(facts)
}

fn check(task: &Task, caller: &Caller, source: Option<Option<IpAddr>>) -> Result<(), Rejected> {
    // A task is RUNNING once all its containers are, and one of them may wait for us (decision 0126).
    let runs = matches!(task.last_status.as_str(), "ACTIVATING" | "PENDING" | "RUNNING");
    if !runs || task.desired_status != "RUNNING" {
        let why = format!("the task is {} and is to be {}", shown(&task.last_status), shown(&task.desired_status));
        return Err(refused("task_not_running", why));
    }
    if task.role.as_deref().and_then(plain_role).as_deref() != Some(&caller.role_arn()) {
        return Err(refused("task", "the task has another role"));
    }
    let Some(source) = source else { return Ok(()) };
    let Some(source) = source.map(|source| source.to_canonical()) else {
        return Err(refused("address", "it is not known where the request comes from"));
    };
    if !task.addresses.iter().any(|address| address.to_canonical() == source) {
        let why = format!(
            "it comes from {source}, which is no address of the task; behind a NAT set `ca.aws.behind_nat = true`"
        );
        return Err(refused("address", why));
    }
    Ok(())
}

/// The family in `arn:…:task-definition/FAMILY:REVISION`.
fn family(definition: &str) -> Option<&str> {
    definition.rsplit_once('/')?.1.rsplit_once(':').map(|(family, _)| family)
}

#[cfg(test)]
mod tests;
