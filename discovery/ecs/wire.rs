//! What ECS answers, of which only what is used here is read. A list that must be there is no empty list when it is not.

use serde::Deserialize;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Listed {
    pub(super) task_arns: Vec<String>,
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Described {
    pub(super) tasks: Vec<Task>,
    #[serde(default)]
    pub(super) failures: Vec<Failure>,
}

/// What could not be described.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Failure {
    #[serde(default)]
    pub(super) arn: String,
    #[serde(default)]
    pub(super) reason: String,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Task {
    #[serde(rename = "taskArn")]
    pub(super) arn: String,
    #[serde(rename = "taskDefinitionArn")]
    pub(super) definition: String,
    pub(super) group: String,
    pub(super) availability_zone: Option<String>,
    pub(super) last_status: String,
    pub(super) desired_status: String,
    pub(super) health_status: Option<String>,
    pub(super) container_instance_arn: Option<String>,
    pub(super) containers: Vec<Container>,
    pub(super) attachments: Vec<Attachment>,
    pub(super) overrides: Overrides,
    pub(super) tags: Vec<Tag>,
}

/// What whoever started a task said in place of its definition.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Overrides {
    pub(super) task_role_arn: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Container {
    pub(super) name: String,
    pub(super) last_status: Option<String>,
    pub(super) health_status: Option<String>,
    pub(super) network_interfaces: Vec<Interface>,
    pub(super) network_bindings: Vec<Binding>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Interface {
    pub(super) private_ipv4_address: Option<String>,
    pub(super) ipv6_address: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Binding {
    pub(super) container_port: Option<u16>,
    pub(super) host_port: Option<u16>,
    /// `8000-8010`, where the mapping has a range.
    pub(super) container_port_range: Option<String>,
    pub(super) host_port_range: Option<String>,
    pub(super) protocol: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Attachment {
    #[serde(rename = "type")]
    pub(super) kind: String,
    pub(super) details: Vec<Detail>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Detail {
    pub(super) name: String,
    pub(super) value: Option<String>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub(super) struct Tag {
    pub(super) key: String,
    pub(super) value: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct DefinitionAnswer {
    pub(super) task_definition: Definition,
}

/// Of a task definition, what its tasks do not say themselves. Never changes: another revision has another ARN.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Definition {
    pub(super) network_mode: Option<String>,
    pub(super) task_role_arn: Option<String>,
    pub(super) container_definitions: Vec<ContainerDefinition>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ContainerDefinition {
    pub(super) name: String,
    pub(super) port_mappings: Vec<Mapping>,
}

#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Mapping {
    pub(super) name: Option<String>,
    pub(super) container_port: Option<u16>,
    pub(super) protocol: Option<String>,
    pub(super) app_protocol: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instances {
    pub(super) container_instances: Vec<Instance>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Instance {
    pub(super) container_instance_arn: String,
    /// `i-…`, or `mi-…` for ECS Anywhere.
    pub(super) ec2_instance_id: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Managed {
    pub(super) instance_information_list: Vec<ManagedInstance>,
    pub(super) next_token: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ManagedInstance {
    pub(super) instance_id: String,
    #[serde(rename = "IPAddress")]
    pub(super) ip_address: Option<String>,
}
