//! Looks up one task, for an authority that is told by a workload which task it is.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use meshless_certs::attest::aws_iam::{Task as Said, Tasks, TasksError};
use serde_json::json;

use super::instances::Instances;
use super::wire::{DefinitionAnswer, Described, Task};
use crate::aws::{Aws, Service, Trouble};
use crate::{AwsConfig, Calls, Error, async_trait};

/// Most roles of definitions that are kept. A definition never changes, so asking once is enough.
const MAX_ROLES: usize = 10_000;

/// Returns what asks ECS about tasks. The region of `config` is not used: a task says its own, which the authority allows or not.
#[must_use]
pub fn attested_tasks(config: &AwsConfig) -> Arc<dyn Tasks> {
    Arc::new(Lookup { config: config.clone(), regions: Mutex::default(), roles: Mutex::default() })
}

#[derive(Debug)]
struct Lookup {
    config: AwsConfig,
    regions: Mutex<BTreeMap<String, Arc<Aws>>>,
    /// Roles of definitions, by the ARN of the definition.
    roles: Mutex<BTreeMap<String, Option<String>>>,
}

impl Lookup {
    fn aws(&self, region: &str) -> Arc<Aws> {
        let mut regions = self.regions.lock().unwrap_or_else(PoisonError::into_inner);
        let opened = regions.entry(region.to_owned()).or_insert_with(|| {
            let config = AwsConfig { region: Some(region.to_owned()), ..self.config.clone() };
            Arc::new(Aws::new(&config, Calls::default()))
        });
        Arc::clone(opened)
    }

    /// The role that is in force: that of the overrides, else that of the definition.
    async fn role(&self, aws: &Aws, task: &Task) -> Result<Option<String>, Error> {
        if let Some(role) = &task.overrides.task_role_arn {
            return Ok(Some(role.clone()));
        }
        let known = self.roles.lock().unwrap_or_else(PoisonError::into_inner).get(&task.definition).cloned();
        if let Some(role) = known {
            return Ok(role);
        }
        let input = json!({ "taskDefinition": task.definition });
        let answer: DefinitionAnswer = aws.json(Service::Ecs, "DescribeTaskDefinition", input).await?;
        let role = answer.task_definition.task_role_arn;
        let mut roles = self.roles.lock().unwrap_or_else(PoisonError::into_inner);
        if roles.len() >= MAX_ROLES {
            roles.clear();
        }
        roles.insert(task.definition.clone(), role.clone());
        Ok(role)
    }

    async fn look(&self, region: &str, cluster: &str, arn: &str) -> Result<Option<Said>, Error> {
        let aws = self.aws(region);
        let input = json!({ "cluster": cluster, "tasks": [arn] });
        let answer: Described = match aws.json(Service::Ecs, "DescribeTasks", input).await {
            Ok(answer) => answer,
            Err(Trouble { code: Some(code), .. })
                if matches!(code.as_str(), "ClusterNotFoundException" | "InvalidParameterException") =>
            {
                return Ok(None);
            }
            Err(trouble) => return Err(trouble.error),
        };
        let Some(task) = answer.tasks.into_iter().find(|task| task.arn == arn) else { return Ok(None) };
        let role = self.role(&aws, &task).await?;
        let mut addresses = own_addresses(&task);
        // In the modes `bridge` and `host` a task speaks from the address of its instance.
        if let (true, Some(instance)) = (addresses.is_empty(), &task.container_instance_arn) {
            let (found, trouble) =
                Instances::new(aws, cluster.to_owned()).addresses(&BTreeSet::from([instance.as_str()])).await;
            if let Some(error) = trouble {
                return Err(error);
            }
            addresses.extend(found.into_values().flatten());
        }
        Ok(Some(Said {
            arn: task.arn,
            last_status: task.last_status,
            desired_status: task.desired_status,
            group: task.group,
            definition: task.definition,
            role,
            addresses,
        }))
    }
}

#[async_trait]
impl Tasks for Lookup {
    async fn describe(&self, region: &str, cluster: &str, arn: &str) -> Result<Option<Said>, TasksError> {
        self.look(region, cluster, arn).await.map_err(|error| TasksError(error.to_string()))
    }
}

/// Addresses of a task's own interfaces. While its containers start only the attachments have them.
fn own_addresses(task: &Task) -> Vec<IpAddr> {
    let interfaces = task.containers.iter().flat_map(|container| &container.network_interfaces);
    let of_containers =
        interfaces.flat_map(|interface| [interface.private_ipv4_address.as_deref(), interface.ipv6_address.as_deref()]);
    let details =
        task.attachments.iter().filter(|one| one.kind == "ElasticNetworkInterface").flat_map(|one| &one.details);
    let of_attachments = details
        .filter(|detail| matches!(detail.name.as_str(), "ipv6Address" | "privateIPv4Address" | "privateIPv6Address"))
        .map(|detail| detail.value.as_deref());
    let mut addresses: Vec<IpAddr> =
        of_containers.chain(of_attachments).flatten().filter_map(|text| text.parse().ok()).collect();
    addresses.sort_unstable();
    addresses.dedup();
    addresses
}
