//! The nodes of a cluster, as those see them that come from outside.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use k8s_openapi::api::core::v1::Node as Object;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::client::{Client, Collection};
use super::service::{Facts, Wanted};
use crate::{Address, Endpoint, Error};

/// With this label a node wants nothing from outside.
const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Where a node stands.
const ZONE: &str = "topology.kubernetes.io/zone";

/// A node that takes what comes from outside.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Node {
    name: String,
    zone: Option<String>,
    /// Addresses within the network before those outside of it.
    addresses: Vec<IpAddr>,
}

/// All nodes, read once for all sources of a backend.
#[derive(Debug)]
pub(super) struct Nodes {
    client: Arc<Client>,
    known: Mutex<Option<(Instant, Arc<Vec<Node>>)>>,
}

impl Nodes {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, known: Mutex::default() }
    }

    /// Returns the nodes as they were within the last 30 s.
    pub(super) async fn all(&self) -> Result<Arc<Vec<Node>>, Error> {
        let mut known = self.known.lock().await;
        if let Some((read, nodes)) = &*known
            && read.elapsed() < self.client.timing().poll
        {
            return Ok(Arc::clone(nodes));
        }
        let listed = self.client.list::<Object>(&Collection::new("", "v1", "nodes")).await?;
        let nodes: Arc<Vec<Node>> = Arc::new(listed.items.iter().filter_map(Node::of).collect());
        *known = Some((Instant::now(), Arc::clone(&nodes)));
        Ok(nodes)
    }
}

impl Node {
    /// Returns nothing for a node that is not ready, or wants nothing from outside.
    fn of(object: &Object) -> Option<Self> {
        let labels = object.metadata.labels.as_ref();
        let status = object.status.as_ref()?;
        let mut conditions = status.conditions.iter().flatten();
        let is_ready = conditions.any(|condition| condition.type_ == "Ready" && condition.status == "True");
        let is_excluded = labels.is_some_and(|labels| labels.contains_key(EXCLUDED));
        if !is_ready || is_excluded || object.metadata.deletion_timestamp.is_some() {
            return None;
        }
        let of = |kind: &str| {
            let addresses = status.addresses.iter().flatten().filter(|address| address.type_ == kind);
            addresses.filter_map(|address| address.address.parse::<IpAddr>().ok()).collect::<Vec<_>>()
        };
        let mut addresses = of("InternalIP");
        addresses.extend(of("ExternalIP"));
        Some(Self {
            name: object.metadata.name.clone().unwrap_or_default(),
            zone: labels.and_then(|labels| labels.get(ZONE).cloned()).filter(|zone| !zone.is_empty()),
            addresses,
        })
    }
}

/// Makes endpoints of the nodes, or of those in `only`; a node without an address of the service's family is left out.
pub(super) fn endpoints(
    nodes: &[Node],
    wanted: &Wanted,
    facts: &Facts,
    namespace: &str,
    only: Option<&BTreeSet<String>>,
) -> Result<Vec<Endpoint>, String> {
    let Wanted::Name { node_port: Some(port), protocol, .. } = wanted else {
        return Err(
            "its port has no node port; with `addresses = \"node-port\"` its type must be NodePort or LoadBalancer"
                .to_owned(),
        );
    };
    let fits = |ip: &IpAddr| facts.family.as_deref().is_none_or(|family| (family == "IPv6") == ip.is_ipv6());
    let chosen = nodes.iter().filter(|node| only.is_none_or(|only| only.contains(&node.name)));
    let endpoint = |node: &Node| {
        let ip = *node.addresses.iter().find(|ip| fits(ip))?;
        let metadata =
            BTreeMap::from([("namespace".to_owned(), namespace.to_owned()), ("node".to_owned(), node.name.clone())]);
        Some(Endpoint {
            id: Some(node.name.clone()),
            zone: node.zone.clone(),
            protocol: *protocol,
            metadata,
            ..Endpoint::new(Address::Tcp(SocketAddr::new(ip, *port)))
        })
    };
    Ok(chosen.filter_map(endpoint).collect())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(change: &Value) -> Option<Node> {
        let mut object = json!({
            "metadata": { "name": "n1", "labels": { ZONE: "eu-1a" } },
            "status": {
                "conditions": [{ "type": "MemoryPressure", "status": "False" }, { "type": "Ready", "status": "True" }],
                "addresses": [
                    { "type": "ExternalIP", "address": "203.0.113.1" }, { "type": "Hostname", "address": "n1" },
                    { "type": "InternalIP", "address": "10.0.0.1" }, { "type": "InternalIP", "address": "fd00::1" },
                ],
            },
        });
        for (pointer, value) in change.as_object().unwrap() {
            *object.pointer_mut(pointer).unwrap() = value.clone();
        }
        Node::of(&serde_json::from_value(object).unwrap())
    }

    #[test]
    fn a_node_that_is_not_ready_or_is_excluded_is_none() {
        assert!(node(&json!({})).is_some());
        assert!(node(&json!({ "/status/conditions/1/status": "Unknown" })).is_none());
        assert!(node(&json!({ "/metadata/labels": { EXCLUDED: "" } })).is_none());
    }

    #[test]
    fn the_address_within_the_network_and_of_the_services_family_is_taken() {
        let nodes = [node(&json!({})).unwrap()];
        let wanted = Wanted::Name { name: String::new(), number: 80, node_port: Some(30_080), protocol: None };
        let addresses = |family: &str| {
            let mut facts = Facts::default();
            facts.family = Some(family.to_owned());
            let endpoints = endpoints(&nodes, &wanted, &facts, "shop", None).unwrap();
            endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect::<Vec<_>>()
        };
        assert_eq!(addresses("IPv4"), ["10.0.0.1:30080"]);
        assert_eq!(addresses("IPv6"), ["[fd00::1]:30080"]);
        let only = BTreeSet::from(["n2".to_owned()]);
        assert_eq!(endpoints(&nodes, &wanted, &Facts::default(), "shop", Some(&only)), Ok(Vec::new()));
        assert!(endpoints(&nodes, &Wanted::Number(80), &Facts::default(), "shop", None).is_err());
    }
}
