//! From what Consul answers to endpoints (pure).
//!
//! What Consul writes as nothing (`null`) it often means as empty, so lists and tables may be absent; whatever else does
//! not fit fails the whole answer.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use serde::Deserialize;

use super::client::Reply;
use super::target::{Kind, Question};
use crate::local::is_local;
use crate::{Address, Endpoint, Error, Health, Snapshot};

/// Most entries of metadata, and most bytes of a key and of a value: what Consul itself takes.
const MAX_ENTRIES: usize = 64;
const MAX_KEY: usize = 128;
const MAX_VALUE: usize = 512;

/// Where a zone is looked for in metadata, service first; Consul's own locality wins.
const ZONES: [&str; 3] = ["zone", "availability_zone", "availability-zone"];

/// One instance with its node and checks.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry {
    node: Node,
    service: Service,
    checks: Option<Vec<Check>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Node {
    #[serde(rename = "Node")]
    name: String,
    address: String,
    #[serde(default)]
    datacenter: Option<String>,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    locality: Option<Locality>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Service {
    #[serde(rename = "ID")]
    id: String,
    #[serde(default)]
    tags: Option<Vec<String>>,
    #[serde(default)]
    address: Option<String>,
    port: u32,
    #[serde(default)]
    meta: Option<BTreeMap<String, String>>,
    #[serde(default)]
    weights: Option<Weights>,
    #[serde(default)]
    locality: Option<Locality>,
}

/// What Consul takes for absent weights is one each.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Weights {
    passing: u32,
    warning: u32,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Locality {
    #[serde(default)]
    zone: Option<String>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Check {
    #[serde(rename = "CheckID")]
    id: String,
    status: String,
}

/// What a prepared query answers.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Executed {
    nodes: Vec<Entry>,
}

/// What all checks of an instance say together; the greater one wins.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Status {
    Passing,
    Warning,
    Critical,
    Maintenance,
}

/// Reads an answer.
pub(super) fn read(reply: &Reply, question: &Question) -> Result<Snapshot, Error> {
    let entries = match question.kind {
        Kind::Query => reply.json::<Executed>()?.nodes,
        Kind::Connect | Kind::Service => reply.json::<Vec<Entry>>()?,
    };
    snapshot(&entries, question).map_err(|problem| Error::Malformed(format!("{}: {problem}", reply.at())))
}

fn snapshot(entries: &[Entry], question: &Question) -> Result<Snapshot, String> {
    let mut endpoints = Vec::new();
    let mut unusable = None;
    for entry in entries {
        match endpoint(entry, question.only_passing) {
            Ok(endpoint) => endpoints.push(endpoint),
            // It stands there as it was registered, and is no address: the others are as good as before.
            Err(problem) => {
                tracing::debug!(service = question.name, problem, "An instance has no address to connect to.");
                unusable = Some(problem);
            }
        }
    }
    if let (true, Some(problem)) = (endpoints.is_empty(), unusable) {
        return Err(format!("none of {} instances has an address to connect to: {problem}", entries.len()));
    }
    if let Some(limit) = question.limit {
        // The nearest first; those that serve before those that do not.
        endpoints.sort_by_key(|endpoint| endpoint.health != Health::Healthy);
        endpoints.truncate(limit);
    }
    Snapshot::new(endpoints).map_err(|error| error.to_string())
}

fn endpoint(entry: &Entry, only_passing: bool) -> Result<Endpoint, String> {
    let Entry { node, service, checks } = entry;
    let text = service.address.as_deref().filter(|text| !text.is_empty()).unwrap_or(&node.address);
    let ip: IpAddr = text.trim_matches(['[', ']']).parse().map_err(|_| {
        format!("`{}` has the address `{text}`, which is no IP address; a name is for `dns/HOST:PORT`", service.id)
    })?;
    if is_local(ip) {
        return Err(format!("`{}` has the link-local or metadata address {ip}, which no service has", service.id));
    }
    let port = match u16::try_from(service.port) {
        Ok(port) if port > 0 => port,
        _ => {
            return Err(format!(
                "`{}` has the port {}; register it with the one it listens on",
                service.id, service.port
            ));
        }
    };
    // The same rules as for every other address that is written down.
    let address: Address = SocketAddr::new(ip, port).to_string().parse().map_err(|error| format!("{error}"))?;
    let status = checks.iter().flatten().map(Check::status).max().unwrap_or(Status::Passing);
    let weights = service.weights.as_ref().map_or((1, 1), |weights| (weights.passing, weights.warning));
    Ok(Endpoint {
        id: Some(service.id.clone()),
        weight: if status == Status::Warning { weights.1 } else { weights.0 },
        zone: zone(node, service),
        health: match status {
            Status::Passing => Health::Healthy,
            Status::Warning if !only_passing => Health::Healthy,
            Status::Warning | Status::Critical => Health::Unhealthy,
            Status::Maintenance => Health::Draining,
        },
        metadata: metadata(node, service, status),
        ..Endpoint::new(address)
    })
}

impl Check {
    fn status(&self) -> Status {
        // Maintenance is a critical check of a name that nobody else may take.
        if self.id == "_node_maintenance" || self.id.starts_with("_service_maintenance:") {
            return Status::Maintenance;
        }
        match self.status.as_str() {
            "passing" => Status::Passing,
            "warning" => Status::Warning,
            "maintenance" => Status::Maintenance,
            _ => Status::Critical,
        }
    }
}

fn zone(node: &Node, service: &Service) -> Option<String> {
    let localities = [&service.locality, &node.locality];
    let local = localities.into_iter().flatten().find_map(|locality| locality.zone.clone());
    let metas = [&service.meta, &node.meta];
    let known = || metas.into_iter().flatten().find_map(|meta| ZONES.iter().find_map(|key| meta.get(*key)).cloned());
    local.filter(|zone| !zone.is_empty()).or_else(known).filter(|zone| !zone.is_empty())
}

/// The service's own metadata under its own keys; what Consul says itself under `consul.…`, the node's under `node.…`.
fn metadata(node: &Node, service: &Service, status: Status) -> BTreeMap<String, String> {
    let mut metadata = BTreeMap::new();
    let mut add = |key: String, value: &str| {
        if metadata.len() < MAX_ENTRIES && key.len() <= MAX_KEY && !value.is_empty() {
            metadata.insert(key, bounded(value));
        }
    };
    add("consul.node".to_owned(), &node.name);
    add("consul.datacenter".to_owned(), node.datacenter.as_deref().unwrap_or_default());
    add("consul.tags".to_owned(), &service.tags.as_deref().unwrap_or_default().join(","));
    let status = match status {
        Status::Passing => "",
        Status::Warning => "warning",
        Status::Critical => "critical",
        Status::Maintenance => "maintenance",
    };
    add("consul.status".to_owned(), status);
    for (key, value) in service.meta.iter().flatten() {
        add(key.clone(), value);
    }
    for (key, value) in node.meta.iter().flatten() {
        add(format!("node.{key}"), value);
    }
    metadata
}

fn bounded(value: &str) -> String {
    let mut end = value.len().min(MAX_VALUE);
    while !value.is_char_boundary(end) {
        end -= 1;
    }
    value.get(..end).unwrap_or_default().to_owned()
}

#[cfg(test)]
mod tests;
