//! From tasks to endpoints (pure).
//!
//! Where a task listens depends on its network mode. `awsvpc`: its own address, and the port of the container. `bridge`: the
//! address of its instance, and the port that Docker chose, which stands in a binding. `host`: the address of its instance,
//! and the port of the container.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use super::target::{List, Port, Query};
use super::wire::{Container, Definition, Mapping, Task};
use crate::aws::capped;
use crate::{Address, AppProtocol, Endpoint, Error, Health, Snapshot};

/// Most tags of a task that become metadata; ECS allows fifty.
const MAX_TAGS: usize = 20;

/// A cluster as one look found it.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Cluster {
    /// What was listed.
    pub(super) lists: Vec<List>,
    pub(super) tasks: Vec<Task>,
    /// Definitions of those tasks that somebody needs, by ARN.
    pub(super) definitions: BTreeMap<String, Arc<Definition>>,
    /// Addresses of the instances that somebody needs, by the ARN of the container instance; `None`: there is none.
    pub(super) instances: BTreeMap<String, Option<IpAddr>>,
    /// Why a definition that is needed is not there.
    pub(super) no_definition: Option<Error>,
    /// Why an address that is needed is not there.
    pub(super) no_instance: Option<Error>,
}

impl Cluster {
    /// Returns the endpoints of a query; `None` where what was looked at does not have what that takes.
    pub(super) fn endpoints(&self, query: &Query) -> Option<Result<Snapshot, Error>> {
        if !self.lists.contains(&List::All) && !self.lists.contains(&query.list()) {
            return None;
        }
        let (mut endpoints, mut without_port) = (Vec::new(), None);
        for task in self.tasks.iter().filter(|task| selects(query, task)) {
            let Some(health) = health(task, query) else { continue };
            match self.place(task, query) {
                Ok(Some(place)) => endpoints.push(endpoint(task, query, health, place)),
                Ok(None) => {}
                Err(Why::Lacking(None)) => return None,
                Err(Why::Lacking(Some(error))) => return Some(Err(error.clone())),
                Err(Why::NoPort(problem)) => without_port = without_port.or(Some(problem)),
            }
        }
        // During a deploy that gives a port its name some tasks have it and some do not; that none has it is a mistake.
        if let (true, Some(problem)) = (endpoints.is_empty(), without_port) {
            return Some(Err(Error::Malformed(problem)));
        }
        Some(Snapshot::new(endpoints).map_err(|error| Error::Malformed(error.to_string())))
    }

    /// Where a task listens; `None` for one that has no address of its own or of its instance (yet).
    fn place(&self, task: &Task, query: &Query) -> Result<Option<Place>, Why<'_>> {
        if let Some(ip) = own_address(task, query) {
            return self.mapped(task, query).map(|port| Some(Place { ip, ..port }));
        }
        let Some(instance) = &task.container_instance_arn else { return Ok(None) };
        let ip = match self.instances.get(instance) {
            Some(Some(ip)) => *ip,
            Some(None) => return Ok(None),
            None => return Err(Why::Lacking(self.no_instance.as_ref())),
        };
        if has_bindings(task, query) {
            let (container, protocol) = match &query.port {
                Port::Number(port) => (Some(*port), None),
                Port::Only => (None, None),
                Port::Name(_) => self.mapped(task, query).map(|place| (Some(place.port), place.protocol))?,
            };
            let port = bound(task, query, container).map_err(Why::NoPort)?;
            return Ok(Some(Place { ip, port, protocol }));
        }
        match self.definition(task)?.network_mode.as_deref() {
            Some("host") => self.mapped(task, query).map(|port| Some(Place { ip, ..port })),
            _ => Err(Why::NoPort(format!("{} publishes no port", definition_name(task)))),
        }
    }

    /// The port in the container; the address is still to be filled in.
    fn mapped(&self, task: &Task, query: &Query) -> Result<Place, Why<'_>> {
        let ip = IpAddr::from([0, 0, 0, 0]);
        if let Port::Number(port) = query.port {
            return Ok(Place { ip, port, protocol: None });
        }
        let definition = self.definition(task)?;
        let mut mappings: Vec<&Mapping> = definition
            .container_definitions
            .iter()
            .filter(|container| is_meant(&container.name, query))
            .flat_map(|container| &container.port_mappings)
            .filter(|mapping| is_tcp(mapping.protocol.as_deref()) && mapping.container_port.is_some())
            .collect();
        let all = described(&mappings);
        if let Port::Name(name) = &query.port {
            mappings.retain(|mapping| mapping.name.as_ref() == Some(name));
        }
        mappings.dedup_by_key(|mapping| mapping.container_port);
        match (mappings.as_slice(), &query.port) {
            ([mapping], _) => Ok(Place {
                ip,
                port: mapping.container_port.unwrap_or_default(),
                protocol: match mapping.app_protocol.as_deref() {
                    Some("http") => Some(AppProtocol::Http1),
                    Some("http2" | "grpc") => Some(AppProtocol::H2c),
                    _ => None,
                },
            }),
            (_, Port::Name(name)) => {
                Err(Why::NoPort(format!("no port is called `{name}` in {}, which has {all}", definition_name(task))))
            }
            _ => Err(Why::NoPort(format!(
                "which port is meant? {} has {all}; write it behind the service, `:NAME` or `:NUMBER`",
                definition_name(task)
            ))),
        }
    }

    fn definition(&self, task: &Task) -> Result<&Definition, Why<'_>> {
        let found = self.definitions.get(&task.definition);
        found.map(Arc::as_ref).ok_or(Why::Lacking(self.no_definition.as_ref()))
    }
}

/// Why a task has no place.
enum Why<'a> {
    /// What it takes was not looked up, or could not be.
    Lacking(Option<&'a Error>),
    /// It has no such port.
    NoPort(String),
}

#[derive(Debug, Clone, Copy)]
struct Place {
    ip: IpAddr,
    port: u16,
    protocol: Option<AppProtocol>,
}

/// Tells whether the definition of a task is needed to know where it listens.
pub(super) fn needs_definition(query: &Query, task: &Task) -> bool {
    if own_address(task, query).is_some() {
        return !matches!(query.port, Port::Number(_));
    }
    task.container_instance_arn.is_some() && (!has_bindings(task, query) || matches!(query.port, Port::Name(_)))
}

/// Returns the container instance whose address is needed to know where a task listens.
pub(super) fn needs_instance<'a>(query: &Query, task: &'a Task) -> Option<&'a str> {
    if own_address(task, query).is_some() { None } else { task.container_instance_arn.as_deref() }
}

/// Tells whether a task is one that a query asks for, and may serve.
pub(super) fn is_wanted(query: &Query, task: &Task) -> bool {
    selects(query, task) && health(task, query).is_some()
}

/// Tells whether a task still runs, whatever is to become of it.
pub(super) fn still_runs(task: &Task) -> bool {
    matches!(task.last_status.as_str(), "RUNNING" | "DEACTIVATING" | "STOPPING")
}

fn selects(query: &Query, task: &Task) -> bool {
    let service = query.service.as_ref().is_none_or(|name| task.group.strip_prefix("service:") == Some(name));
    let family = query.family.as_ref().is_none_or(|name| family_and_revision(task).0 == name);
    let tags = query.tags.iter().all(|(key, value)| {
        task.tags.iter().any(|tag| tag.key == *key && tag.value.as_deref().unwrap_or_default() == value)
    });
    service && family && tags
}

/// What is said about a task's health; `None` for one that does not serve (yet, or any more).
///
/// `ListTasks` filters by the status that is wanted: a task that is to run may still be pending. One that is to stop and
/// still runs finishes what it has.
fn health(task: &Task, query: &Query) -> Option<Health> {
    if task.desired_status == "STOPPED" {
        return still_runs(task).then_some(Health::Draining);
    }
    if task.last_status != "RUNNING" || task.desired_status != "RUNNING" {
        return None;
    }
    let said = match &query.container {
        None => task.health_status.as_deref(),
        Some(name) => {
            let container = task.containers.iter().find(|container| container.name == *name)?;
            if container.last_status.as_deref().is_some_and(|status| status != "RUNNING") {
                return None;
            }
            container.health_status.as_deref()
        }
    };
    // `UNKNOWN` is a task whose definition has no health check, as most have not.
    Some(if said == Some("UNHEALTHY") { Health::Unhealthy } else { Health::Healthy })
}

/// Containers that AWS puts beside those of the definition; some of them have neither ports nor interfaces.
fn is_injected(name: &str) -> bool {
    ["ecs-service-connect-", "aws-guardduty-agent-", "~internal~ecs~"].iter().any(|prefix| name.starts_with(prefix))
}

fn is_meant(name: &str, query: &Query) -> bool {
    query.container.as_ref().map_or_else(|| !is_injected(name), |wanted| wanted == name)
}

fn meant<'a>(task: &'a Task, query: &'a Query) -> impl Iterator<Item = &'a Container> {
    task.containers.iter().filter(move |container| is_meant(&container.name, query))
}

/// The address of a task with a network interface of its own: IPv4, else IPv6.
///
/// All containers of such a task share it, so one that does not list it is no reason to do without.
fn own_address(task: &Task, query: &Query) -> Option<IpAddr> {
    let listed = meant(task, query)
        .chain(task.containers.iter().filter(|container| !is_injected(&container.name)))
        .flat_map(|container| &container.network_interfaces);
    let mut found: Vec<IpAddr> = listed
        .flat_map(|interface| [interface.private_ipv4_address.as_ref(), interface.ipv6_address.as_ref()])
        .flatten()
        .filter_map(|text| text.parse().ok())
        .collect();
    let attached = task.attachments.iter().filter(|attachment| attachment.kind == "ElasticNetworkInterface");
    found.extend(attached.flat_map(|attachment| &attachment.details).filter_map(|detail| {
        let is_address = matches!(detail.name.as_str(), "privateIPv4Address" | "privateIPv6Address" | "ipv6Address");
        is_address.then(|| detail.value.as_ref()?.parse::<IpAddr>().ok()).flatten()
    }));
    found.retain(|ip| !ip.is_unspecified() && !ip.is_multicast());
    found.iter().find(|ip| ip.is_ipv4()).or_else(|| found.first()).copied()
}

fn has_bindings(task: &Task, query: &Query) -> bool {
    meant(task, query).any(|container| !container.network_bindings.is_empty())
}

/// The port of the instance that a port in the container is bound to; without one, the only that is bound.
fn bound(task: &Task, query: &Query, wanted: Option<u16>) -> Result<u16, String> {
    let bindings = || {
        let all = meant(task, query).flat_map(|container| &container.network_bindings);
        all.filter(|binding| is_tcp(binding.protocol.as_deref()))
    };
    let Some(wanted) = wanted else {
        // Docker lists a binding for each family.
        let mut ports: Vec<u16> = bindings().filter_map(|binding| binding.host_port).filter(|port| *port > 0).collect();
        ports.sort_unstable();
        ports.dedup();
        return match ports.as_slice() {
            [port] => Ok(*port),
            _ => Err(format!(
                "which port is meant? a task of {} has {} ports on its instance; write the one of the container behind \
                 the service, `:NAME` or `:NUMBER`",
                definition_name(task),
                ports.len()
            )),
        };
    };
    let found = bindings().find_map(|binding| match (&binding.container_port_range, &binding.host_port_range) {
        (Some(container), Some(host)) => {
            let (first, last) = range(container)?;
            let offset = wanted.checked_sub(first).filter(|_| wanted <= last)?;
            range(host)?.0.checked_add(offset)
        }
        _ => binding.host_port.filter(|_| binding.container_port == Some(wanted)),
    });
    found
        .filter(|port| *port > 0)
        .ok_or_else(|| format!("a task of {} has no port {wanted} on its instance", definition_name(task)))
}

fn range(text: &str) -> Option<(u16, u16)> {
    let (first, last) = text.split_once('-')?;
    Some((first.trim().parse().ok()?, last.trim().parse().ok()?))
}

fn is_tcp(protocol: Option<&str>) -> bool {
    protocol.is_none_or(|protocol| protocol.eq_ignore_ascii_case("tcp"))
}

fn described(mappings: &[&Mapping]) -> String {
    let each: Vec<String> = mappings
        .iter()
        .map(|mapping| {
            let port = mapping.container_port.unwrap_or_default();
            mapping.name.as_ref().map_or_else(|| port.to_string(), |name| format!("{port} (`{name}`)"))
        })
        .collect();
    if each.is_empty() { "none".to_owned() } else { each.join(", ") }
}

/// `FAMILY` and `REVISION` of `arn:aws:ecs:REGION:ACCOUNT:task-definition/FAMILY:REVISION`.
fn family_and_revision(task: &Task) -> (&str, &str) {
    definition_name(task).split_once(':').unwrap_or_default()
}

fn definition_name(task: &Task) -> &str {
    last_part(&task.definition)
}

fn last_part(arn: &str) -> &str {
    arn.rsplit_once('/').map_or(arn, |(_, name)| name)
}

fn endpoint(task: &Task, query: &Query, health: Health, place: Place) -> Endpoint {
    let id = last_part(&task.arn);
    let (family, revision) = family_and_revision(task);
    let mut metadata = BTreeMap::new();
    let known = [
        ("cluster", query.cluster.as_str()),
        ("family", family),
        ("revision", revision),
        ("service", task.group.strip_prefix("service:").unwrap_or_default()),
        ("task", id),
    ];
    for (key, value) in known.into_iter().filter(|(_, value)| !value.is_empty()) {
        metadata.insert(key.to_owned(), capped(value));
    }
    for tag in task.tags.iter().take(MAX_TAGS) {
        metadata.insert(format!("tag.{}", capped(&tag.key)), capped(tag.value.as_deref().unwrap_or_default()));
    }
    Endpoint {
        id: Some(id.to_owned()),
        zone: task.availability_zone.clone(),
        health,
        protocol: place.protocol,
        metadata,
        ..Endpoint::new(Address::Tcp(SocketAddr::new(place.ip, place.port)))
    }
}
