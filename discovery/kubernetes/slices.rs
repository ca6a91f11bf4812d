//! From EndpointSlices to endpoints (pure).
//!
//! A service has many slices: of 100 endpoints each as Kubernetes ships, one address family each, and an endpoint may
//! stand in two of them while the controller moves it. See `docs/decisions/0081-which-pods-are-endpoints.md`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::discovery::v1::{Endpoint as Pod, EndpointConditions, EndpointPort, EndpointSlice};

use super::service::{Wanted, is_tcp, protocol};
use crate::{Address, AppProtocol, Endpoint, Health};

/// How a pod stands, the best one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Condition {
    /// It gets what is new.
    Ready,
    /// It ends, and still serves what it has.
    Draining,
    /// It serves nobody.
    Away,
}

impl Condition {
    /// A condition that is missing has a meaning of its own: `ready` is true, `serving` is as `ready`, `terminating` is
    /// false.
    fn of(conditions: Option<&EndpointConditions>) -> Self {
        let said = |of: fn(&EndpointConditions) -> Option<bool>| conditions.and_then(of);
        let ready = said(|all| all.ready).unwrap_or(true);
        let serving = said(|all| all.serving).unwrap_or(ready);
        let terminating = said(|all| all.terminating).unwrap_or(false);
        // `ready` is never true of a pod that ends, unless the service publishes addresses that are not ready: then it
        // is what counts.
        match (ready, serving && terminating) {
            (true, _) => Self::Ready,
            (false, true) => Self::Draining,
            (false, false) => Self::Away,
        }
    }
}

/// What the slices of a service are, as far as its ports go: while this stays, so does what the Service said.
pub(super) fn shape<'a>(slices: impl Iterator<Item = &'a EndpointSlice>) -> Vec<(String, Vec<EndpointPort>)> {
    let mut shape: Vec<_> =
        slices.map(|slice| (slice.address_type.clone(), slice.ports.clone().unwrap_or_default())).collect();
    shape.sort_by_key(|(family, ports)| (family.clone(), format!("{ports:?}")));
    shape.dedup();
    shape
}

/// Joins slices to the endpoints of one port: those that are ready, and those that drain; if none is ready, those that
/// drain get what is new too, as kube-proxy does it.
///
/// Of a service with addresses of both families only `family` counts, if any slice has it: one pod is one endpoint.
pub(super) fn endpoints(
    slices: &[&EndpointSlice],
    wanted: &Wanted,
    family: Option<&str>,
) -> Result<Vec<Endpoint>, String> {
    let has = |family: &str| slices.iter().any(|slice| slice.address_type == family && !slice.endpoints.is_empty());
    let family = family.filter(|family| has(family));
    let mut pods: BTreeMap<(Address, Option<String>), (Condition, Endpoint)> = BTreeMap::new();
    for slice in slices.iter().filter(|slice| family.is_none_or(|family| slice.address_type == family)) {
        if !matches!(slice.address_type.as_str(), "IPv4" | "IPv6") {
            return Err(format!("a slice of addresses of the type `{}`; IPv4 and IPv6 are taken", slice.address_type));
        }
        // Pods of another revision may not have the port; they are in slices of their own.
        let Some((port, speaks)) = port(slice, wanted)? else { continue };
        for pod in &slice.endpoints {
            let condition = Condition::of(pod.conditions.as_ref());
            let endpoint = endpoint(slice, pod, port, speaks)?;
            let key = (endpoint.address.clone(), endpoint.id.clone());
            match pods.get(&key) {
                // The copy that is about to be removed is the one that is behind.
                Some((known, _)) if *known <= condition => {}
                _ => drop(pods.insert(key, (condition, endpoint))),
            }
        }
    }
    let none_is_ready = pods.values().all(|(condition, _)| *condition != Condition::Ready);
    let there = pods.into_values().filter(|(condition, _)| *condition != Condition::Away);
    Ok(there
        .map(|(condition, endpoint)| match condition {
            Condition::Draining if !none_is_ready => Endpoint { health: Health::Draining, ..endpoint },
            _ => endpoint,
        })
        .collect())
}

/// Returns the nodes that have a pod which gets what is new.
pub(super) fn nodes(
    slices: &[&EndpointSlice],
    wanted: &Wanted,
    family: Option<&str>,
) -> Result<BTreeSet<String>, String> {
    let usable = endpoints(slices, wanted, family)?.into_iter().filter(|endpoint| endpoint.health == Health::Healthy);
    Ok(usable.filter_map(|mut endpoint| endpoint.metadata.remove("node")).collect())
}

/// Finds the number that the pods of a slice listen on.
fn port(slice: &EndpointSlice, wanted: &Wanted) -> Result<Option<(u16, Option<AppProtocol>)>, String> {
    let (name, said) = match wanted {
        Wanted::Number(number) => return Ok(Some((*number, None))),
        Wanted::Name { name, protocol, .. } => (name, *protocol),
    };
    let ports = slice.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
    let mut named = ports.filter(|port| port.name.as_deref().unwrap_or_default() == name);
    let Some(port) = named.next() else { return Ok(None) };
    // A port without a number is "every port", which a service with ports cannot mean.
    let Some(number) = port.port else { return Ok(None) };
    let number = u16::try_from(number).ok().filter(|number| *number != 0);
    let number = number.ok_or_else(|| format!("a slice with the port {:?}", port.port))?;
    Ok(Some((number, protocol(port.app_protocol.as_deref()).or(said))))
}

fn endpoint(slice: &EndpointSlice, pod: &Pod, port: u16, protocol: Option<AppProtocol>) -> Result<Endpoint, String> {
    // All addresses of one endpoint are the same place, says the API; everybody takes the first one.
    let address = pod.addresses.first().map(String::as_str).unwrap_or_default();
    let ip: IpAddr = address.parse().map_err(|_| format!("a slice with the address `{address}`"))?;
    let target = pod.target_ref.as_ref();
    let name = target.and_then(|target| target.name.clone());
    let uid = target.and_then(|target| target.uid.clone());
    let zones = pod.hints.iter().flat_map(|hints| hints.for_zones.iter().flatten());
    let zones: Vec<&str> = zones.map(|zone| zone.name.as_str()).collect();
    let kind = target.and_then(|target| target.kind.as_deref()).unwrap_or("Pod");
    let mut metadata = BTreeMap::new();
    let mut tell = |key: &str, value: Option<String>| {
        if let Some(value) = value.filter(|value| !value.is_empty()) {
            metadata.insert(key.to_owned(), value);
        }
    };
    tell("namespace", slice.metadata.namespace.clone());
    tell("node", pod.node_name.clone());
    tell(if kind == "Pod" { "pod" } else { "target" }, name.clone());
    tell("hostname", pod.hostname.clone());
    tell("hint_zones", Some(zones.join(",")));
    Ok(Endpoint {
        id: uid.or(name).filter(|id| !id.is_empty()),
        zone: pod.zone.clone().filter(|zone| !zone.is_empty()),
        protocol,
        metadata,
        ..Endpoint::new(Address::Tcp(SocketAddr::new(ip, port)))
    })
}

#[cfg(test)]
mod tests;
