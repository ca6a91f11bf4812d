//! From instances to endpoints (pure).

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::target::Query;
use crate::aws::capped;
use crate::local::is_local;
use crate::{Address, Endpoint, Error, Health, Snapshot};

/// Most attributes that become metadata; Cloud Map allows thirty.
const MAX_METADATA: usize = 30;

/// All instances of a service.
pub(super) type Instances = Vec<Instance>;

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct Instance {
    #[serde(rename = "InstanceId")]
    id: String,
    #[serde(default)]
    health_status: Option<String>,
    #[serde(default)]
    attributes: BTreeMap<String, String>,
}

/// Returns the endpoints of a service. One without an address (an alias, a name) is left out; a service in which none has
/// what it takes is an error.
pub(super) fn snapshot(instances: &Instances, query: &Query) -> Result<Snapshot, Error> {
    let (mut endpoints, mut problem) = (Vec::new(), None);
    for instance in instances {
        match place(instance, query) {
            Ok(place) => endpoints.push(endpoint(instance, place)),
            Err(lacking) => problem = problem.or(Some(lacking)),
        }
    }
    if let (true, Some(problem)) = (endpoints.is_empty(), problem) {
        return Err(Error::Malformed(problem));
    }
    Snapshot::new(endpoints).map_err(|error| Error::Malformed(error.to_string()))
}

fn place(instance: &Instance, query: &Query) -> Result<SocketAddr, String> {
    let of = |key: &str| instance.attributes.get(key).map(|value| value.trim());
    let ip = ["AWS_INSTANCE_IPV4", "AWS_INSTANCE_IPV6"].iter().find_map(|key| of(key)?.parse::<IpAddr>().ok());
    let Some(ip) = ip.filter(|ip| !ip.is_unspecified() && !ip.is_multicast()) else {
        return Err(format!("instance `{}` has no AWS_INSTANCE_IPV4 and no AWS_INSTANCE_IPV6", instance.id));
    };
    if is_local(ip) {
        return Err(format!(
            "instance `{}` has the link-local or metadata address {ip}, which no service has",
            instance.id
        ));
    }
    let own = || of("AWS_INSTANCE_PORT")?.parse().ok().filter(|port: &u16| *port > 0);
    let Some(port) = query.port.or_else(own) else {
        return Err(format!(
            "instance `{}` has no AWS_INSTANCE_PORT; write the port, `cloudmap/{}/{}:PORT`",
            instance.id, query.namespace, query.service
        ));
    };
    Ok(SocketAddr::new(ip, port))
}

fn endpoint(instance: &Instance, place: SocketAddr) -> Endpoint {
    let metadata =
        instance.attributes.iter().filter(|(key, _)| !key.starts_with("AWS_") && *key != "AVAILABILITY_ZONE");
    let name = |key: &str| match key {
        // In the words of the `ecs` backend, so that one rule matches both.
        "ECS_CLUSTER_NAME" => "cluster".to_owned(),
        "ECS_SERVICE_NAME" => "service".to_owned(),
        "ECS_TASK_DEFINITION_FAMILY" => "family".to_owned(),
        other => capped(other),
    };
    Endpoint {
        id: Some(instance.id.clone()),
        zone: instance.attributes.get("AVAILABILITY_ZONE").cloned(),
        // `UNKNOWN` is an instance of a service without health checks.
        health: if instance.health_status.as_deref() == Some("UNHEALTHY") {
            Health::Unhealthy
        } else {
            Health::Healthy
        },
        metadata: metadata.take(MAX_METADATA).map(|(key, value)| (name(key), capped(value))).collect(),
        ..Endpoint::new(Address::Tcp(place))
    }
}
