//! A task of AWS ECS: the task metadata endpoint, version 4.
//!
//! The agent sets a variable with an address in each container. What is not there depends on where the task runs: a service's
//! name is told on EC2 and ECS Anywhere and not on Fargate, a zone on Fargate and by newer agents elsewhere. In `bridge` mode the
//! container's own address is of no use to others: the host's is in the metadata file, where the agent writes one.

use std::time::Duration;

use serde::Deserialize;

use crate::metadata::{MetadataError, Service, json};
use crate::surroundings::Surroundings;
use crate::whereabouts::{Platform, Whereabouts};

/// Says where to ask, and that this is a task.
pub(crate) const URI: &str = "ECS_CONTAINER_METADATA_URI_V4";
/// Names the file that the agent of an EC2 host may write into each container.
const FILE: &str = "ECS_CONTAINER_METADATA_FILE";
/// Names the service where the platform does not; the Terraform module sets it.
pub const SERVICE: &str = "MESHLESS_ECS_SERVICE";
/// Longest wait for one document. The agent answers from memory.
const LIMIT: Duration = Duration::from_secs(1);
/// What the metadata gives.
const NAMES: [&str; 11] = [
    "node.zone",
    "node.region",
    "node.address",
    "ecs.cluster",
    "ecs.task",
    "ecs.task_arn",
    "ecs.family",
    "ecs.revision",
    "ecs.container",
    "ecs.launch_type",
    "ecs.account",
];

/// The task, as `/task` tells it.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Task {
    /// A name or an ARN.
    cluster: Option<String>,
    #[serde(rename = "TaskARN")]
    arn: Option<String>,
    family: Option<String>,
    revision: Option<String>,
    service_name: Option<String>,
    availability_zone: Option<String>,
    launch_type: Option<String>,
    limits: Option<Limits>,
    containers: Option<Vec<Container>>,
}

/// A container, as it is told alone and within its task.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Container {
    docker_id: Option<String>,
    name: Option<String>,
    networks: Option<Vec<Network>>,
    limits: Option<Limits>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Network {
    #[serde(rename = "NetworkMode")]
    mode: Option<String>,
    #[serde(rename = "IPv4Addresses")]
    ipv4: Option<Vec<String>>,
    #[serde(rename = "IPv6Addresses")]
    ipv6: Option<Vec<String>>,
}

/// Of a task: vCPUs and MiB. Of a container: CPU shares, which are no limit, and MiB.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Limits {
    #[serde(rename = "CPU")]
    cpu: Option<f64>,
    #[serde(rename = "Memory")]
    memory: Option<f64>,
}

/// What the agent writes into [`FILE`].
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct MetadataFile {
    availability_zone: Option<String>,
    #[serde(rename = "HostPrivateIPv4Address")]
    host_private_ipv4: Option<String>,
}

/// Asks the agent. What it does not say is missing, with the reason.
pub(crate) async fn ask(because: String, surroundings: &dyn Surroundings) -> Whereabouts {
    let mut place = Whereabouts::new(Platform::Ecs, because);
    match documents(surroundings).await {
        Ok((url, task, own)) => read(&mut place, &url, &task, &own, surroundings),
        Err(reason) => place.silent(reason, &NAMES),
    }
    place.put("ecs.service", surroundings.variable(SERVICE), SERVICE);
    let reason = format!("this platform does not say which service a task is of; set {SERVICE}");
    place.lack("ecs.service", &reason);
    place.put("node.region", surroundings.variable("AWS_REGION"), "AWS_REGION");
    place
}

/// Returns where the task was asked for, the task, and our own container.
async fn documents(surroundings: &dyn Surroundings) -> Result<(String, Task, Container), String> {
    let base = surroundings.variable(URI).ok_or_else(|| {
        format!(
            "{URI} is not set: this is no task of ECS, or its agent is older than 1.39.0 (on Fargate: platform 1.4.0)"
        )
    })?;
    let service = Service::parse(&base, LIMIT).map_err(|error| format!("{URI}: {error}"))?;
    let ask = async |path: &str| match service.get(path, &[]).await {
        // The agent answers 40 questions a second of a task, and may just have been started anew.
        Err(MetadataError::Unreachable { .. } | MetadataError::Denied { .. }) => service.get(path, &[]).await,
        answer => answer,
    };
    let both = async {
        let task: Task = json(&service.url("/task"), &ask("/task").await?)?;
        let own: Container = json(&service.url(""), &ask("").await?)?;
        Ok((service.url("/task"), task, own))
    };
    both.await.map_err(|error: MetadataError| error.to_string())
}

/// Reads what was told.
fn read(place: &mut Whereabouts, url: &str, task: &Task, own: &Container, surroundings: &dyn Surroundings) {
    let last = |arn: &str| arn.rsplit('/').next().map(str::to_owned);
    // arn:aws:ecs:REGION:ACCOUNT:task/CLUSTER/ID; without the cluster in the old form.
    let of_arn = |number: usize| task.arn.as_deref().and_then(|arn| arn.split(':').nth(number));
    place.put("ecs.cluster", task.cluster.as_deref().and_then(last), url);
    place.put("ecs.task", task.arn.as_deref().and_then(last), url);
    place.put("ecs.task_arn", task.arn.as_deref(), url);
    place.put("ecs.account", of_arn(4), url);
    place.put("ecs.family", task.family.as_deref(), url);
    place.put("ecs.revision", task.revision.as_deref(), url);
    place.put("ecs.service", task.service_name.as_deref(), url);
    place.put("ecs.launch_type", task.launch_type.as_deref(), url);
    place.put("ecs.container", own.name.as_deref(), url);
    place.put("node.region", of_arn(3), url);
    place.put("node.zone", task.availability_zone.as_deref(), url);
    let path = surroundings.variable(FILE);
    let file = path.as_deref().and_then(|path| surroundings.file(path));
    let file: MetadataFile = file.and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default();
    place.put("node.zone", file.availability_zone.as_deref(), FILE);
    // The container alone may be told without its networks; the list of the task's has them too.
    let listed = task.containers.iter().flatten().find(|one| one.docker_id.is_some() && one.docker_id == own.docker_id);
    let networks = own.networks.as_ref().or_else(|| listed?.networks.as_ref()).map(Vec::as_slice).unwrap_or_default();
    address(place, url, networks, file.host_private_ipv4.as_deref(), surroundings);
    let mebibytes = |limits: &Option<Limits>| limits.as_ref().and_then(|limits| limits.memory);
    let memory = mebibytes(&own.limits).into_iter().chain(mebibytes(&task.limits)).filter(|most| *most > 0.0);
    #[allow(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "it is positive, and cut off at the bounds"
    )]
    let memory = memory.min_by(f64::total_cmp).map(|mebibytes| (mebibytes * 1_048_576.0) as u64);
    place.limits.memory = memory;
    place.limits.cpus = task.limits.as_ref().and_then(|limits| limits.cpu).filter(|cpus| *cpus > 0.0);
    for name in NAMES {
        place.lack(name, &format!("{url} does not say it"));
    }
}

/// Finds the address that others reach the task by.
fn address(
    place: &mut Whereabouts,
    url: &str,
    networks: &[Network],
    host: Option<&str>,
    surroundings: &dyn Surroundings,
) {
    let mut mode = None;
    for network in networks {
        let all = network.ipv4.iter().flatten().chain(network.ipv6.iter().flatten());
        let own = all.map(String::as_str).find(|address| !address.is_empty());
        place.put_address("ecs.address", own, url);
        mode = mode.or(network.mode.as_deref());
        if network.mode.as_deref() == Some("awsvpc") {
            place.put_address("node.address", own, url);
        }
    }
    place.put_address("node.address", host, FILE);
    match mode {
        // The container has the host's network, so its default route is the host's.
        Some("host") => {
            place.put("node.address", surroundings.address().map(|one| one.to_string()), "the default route");
        }
        Some(mode) => {
            let reason = format!(
                "in network mode `{mode}` a container does not see the address of its host; set node.address, or let the \
                 agent write its metadata file (ECS_ENABLE_CONTAINER_METADATA=true)"
            );
            place.lack("node.address", &reason);
        }
        None => {}
    }
    place.lack("ecs.address", "the container has no address of its own");
}

#[cfg(test)]
mod tests;
