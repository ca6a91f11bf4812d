//! What Cloud Map answers.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::{Answer, World, refuse};

/// A service of a namespace.
#[derive(Debug, Clone, Default)]
pub struct Service {
    /// Rises with each change.
    pub revision: u64,
    /// Id, health and attributes of each instance.
    pub instances: Vec<(String, String, BTreeMap<String, String>)>,
}

pub(super) fn act(world: &World, action: &str, input: &Value) -> Answer {
    let text = |field: &str| input[field].as_str().unwrap_or_default().to_owned();
    let (namespace, name) = (text("NamespaceName"), text("ServiceName"));
    if !world.discovered.keys().any(|(known, _)| *known == namespace) {
        return refuse("NamespaceNotFound", format!("namespace {namespace}"));
    }
    let Some(service) = world.discovered.get(&(namespace.clone(), name.clone())) else {
        return refuse("ServiceNotFound", format!("service {name}"));
    };
    match action {
        "DiscoverInstancesRevision" => Answer::Json(json!({ "InstancesRevision": service.revision })),
        "DiscoverInstances" => {
            let most = input["MaxResults"].as_u64().unwrap_or(100);
            if most > 1000 {
                return refuse("InvalidInput", "MaxResults must be at most 1000");
            }
            let status = input["HealthStatus"].as_str().unwrap_or("HEALTHY_OR_ELSE_ALL");
            let instances: Vec<Value> = service
                .instances
                .iter()
                .filter(|(_, health, _)| status == "ALL" || health == status)
                .take(usize::try_from(most).unwrap())
                .map(|(id, health, attributes)| {
                    json!({ "InstanceId": id, "NamespaceName": namespace, "ServiceName": name,
                        "HealthStatus": health, "Attributes": attributes })
                })
                .collect();
            Answer::Json(json!({ "Instances": instances, "InstancesRevision": service.revision }))
        }
        _ => refuse("UnknownOperationException", action),
    }
}
