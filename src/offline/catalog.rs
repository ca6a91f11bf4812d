//! What targets list, written down: in the form of the `file` backend's entries.

use std::collections::BTreeMap;
use std::sync::Arc;

use meshless_discovery::{Address, Endpoint, Health, Snapshot, Target};
use schemars::JsonSchema;
use serde::Deserialize;

use crate::target::{Expression, Node};

/// An endpoint as a backend would list it.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Listed {
    /// Where it listens. Required.
    pub(crate) address: Option<String>,
    /// Relative weight. Default 1.
    #[schemars(range(min = 0, max = 100_000))]
    pub(crate) weight: Option<u32>,
    /// Its zone. Default: not known.
    pub(crate) zone: Option<String>,
    /// What its backend says of it. Default `healthy`.
    pub(crate) health: Option<HealthWord>,
    /// Which step of a failover list it is on, lower ones first. Default 0.
    pub(crate) priority: Option<u16>,
    /// Tags. Default: none.
    pub(crate) metadata: BTreeMap<String, String>,
}

/// What a backend says of an endpoint.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub(crate) enum HealthWord {
    Draining,
    Healthy,
    Unhealthy,
}

impl From<HealthWord> for Health {
    fn from(word: HealthWord) -> Self {
        match word {
            HealthWord::Draining => Self::Draining,
            HealthWord::Healthy => Self::Healthy,
            HealthWord::Unhealthy => Self::Unhealthy,
        }
    }
}

/// Reads a list. The error has the position of the entry that is wrong.
pub(crate) fn snapshot(list: &[Listed]) -> Result<Arc<Snapshot>, (usize, String)> {
    let mut endpoints = Vec::with_capacity(list.len());
    for (position, listed) in list.iter().enumerate() {
        let address = address(listed.address.as_deref()).map_err(|message| (position, message))?;
        endpoints.push(Endpoint {
            weight: listed.weight.unwrap_or(1),
            zone: listed.zone.clone(),
            health: listed.health.map(Health::from).unwrap_or_default(),
            priority: listed.priority.unwrap_or_default(),
            metadata: listed.metadata.clone(),
            ..Endpoint::new(address)
        });
    }
    Snapshot::new(endpoints).map(Arc::new).map_err(|error| (0, error.to_string()))
}

/// Reads an address.
pub(crate) fn address(text: Option<&str>) -> Result<Address, String> {
    let text = text.ok_or("an endpoint needs an `address`, such as \"10.0.0.1:80\"")?;
    text.parse().map_err(|error| format!("address {error}"))
}

/// Reads a target.
pub(crate) fn target(text: &str) -> Result<Target, String> {
    let expression = Expression::parse(text).map_err(|error| error.to_string())?;
    let mut leaves = expression.leaves();
    match (leaves.next(), leaves.next()) {
        (Some(Node::Target(target)), None) => Ok(target.clone()),
        _ => Err(format!("`{text}` is no target, such as `consul/web`")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_is_told_with_its_position() {
        let entry = |address: &str| Listed { address: Some(address.to_owned()), ..Listed::default() };
        assert_eq!(snapshot(&[entry("10.0.0.1:80"), entry("[::1]:80")]).unwrap().endpoints().len(), 2);
        assert_eq!(snapshot(&[entry("10.0.0.1:80"), entry("10.0.0.1")]).unwrap_err().0, 1);
        assert_eq!(snapshot(&[Listed::default()]).unwrap_err().0, 0);
    }

    #[test]
    fn a_target_is_one_target() {
        assert_eq!(target("consul/web[tag=blue]").unwrap().to_string(), "consul/web[tag=blue]");
        for wrong in ["web", "consul/a | consul/b", "", "consul/a & consul/b"] {
            assert!(target(wrong).is_err(), "{wrong}");
        }
    }
}
