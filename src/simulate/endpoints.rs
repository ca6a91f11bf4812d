//! From endpoints and faults as they are written to what the virtual world is made of.

use std::collections::BTreeMap;
use std::time::Duration;

use meshless_discovery::Address;

use super::raw;
use crate::config::problem::{Path, Problem};
use crate::config::written::Written;
use crate::offline::latency::{Latency, Span};
use crate::offline::world::{Endpoint, Fault, Kind};
use crate::offline::{Micros, catalog, micros};

/// Latency of an endpoint that says nothing.
const LATENCY: Latency = Latency::Constant(10_000);

/// Reads endpoints and what befalls them. The second part is what endpoints are like that are not described.
pub(super) fn read(written: &Written<raw::Scenario>, problems: &mut Vec<Problem>) -> (Vec<Endpoint>, Endpoint) {
    let scenario = &written.value;
    let mut wrong = |path: &Path, message: String| problems.push(written.problem(path, message));
    let root = Path::default();
    let common = latency(scenario.latency.as_ref(), &root.key("latency"), &mut wrong).unwrap_or(LATENCY);
    let nowhere = Address::Unix("".into());
    let other = Endpoint { address: nowhere, latency: common, connect: 0, capacity: None, faults: Vec::new() };
    let mut described: BTreeMap<Address, Endpoint> = BTreeMap::new();
    for (position, endpoint) in scenario.endpoints.iter().enumerate() {
        let path = root.key("endpoints").position(position);
        let address = match catalog::address(endpoint.address.as_deref()) {
            Ok(address) => address,
            Err(message) => {
                wrong(&path.key("address"), message);
                continue;
            }
        };
        let latency = latency(endpoint.latency.as_ref(), &path.key("latency"), &mut wrong).unwrap_or(common);
        let connect = endpoint.connect.as_deref().map_or(Some(0), |text| span(text, &path.key("connect"), &mut wrong));
        let capacity = endpoint.capacity.and_then(|capacity| usize::try_from(capacity).ok());
        let one = Endpoint {
            address: address.clone(),
            latency,
            connect: connect.unwrap_or_default(),
            capacity,
            faults: Vec::new(),
        };
        if described.insert(address, one).is_some() {
            wrong(&path.key("address"), "is described twice; keep one of them".to_owned());
        }
    }
    for (position, written) in scenario.faults.iter().enumerate() {
        let path = root.key("faults").position(position);
        let Some(fault) = fault(written, &path, &mut wrong) else { continue };
        let several = written.endpoints.iter().enumerate();
        let all = written.endpoint.iter().map(|text| (path.key("endpoint"), text));
        let all: Vec<_> = all.chain(several.map(|(at, text)| (path.key("endpoints").position(at), text))).collect();
        if all.is_empty() {
            wrong(&path, "a fault befalls somebody; add `endpoint` with an address, or `endpoints`".to_owned());
        }
        for (path, text) in all {
            match catalog::address(Some(text)) {
                Ok(address) => {
                    let fresh = || Endpoint { address: address.clone(), ..other.clone() };
                    described.entry(address.clone()).or_insert_with(fresh).faults.push(fault.clone());
                }
                Err(message) => wrong(&path, message),
            }
        }
    }
    (described.into_values().collect(), other)
}

fn fault(written: &raw::Fault, path: &Path, wrong: &mut impl FnMut(&Path, String)) -> Option<Fault> {
    let Some(kind) = written.kind else {
        let message = "a fault needs a `kind`: `down`, `frozen`, `reset`, `slow`, `status` or `unreachable`";
        wrong(path, message.to_owned());
        return None;
    };
    let is_whole = matches!(kind, raw::Kind::Down | raw::Kind::Frozen | raw::Kind::Unreachable);
    for (key, is_set, fits) in [
        ("share", written.share.is_some(), !is_whole),
        ("factor", written.factor.is_some(), kind == raw::Kind::Slow),
        ("status", written.status.is_some(), kind == raw::Kind::Status),
        ("latency", written.latency.is_some(), kind == raw::Kind::Status),
        ("retry_after", written.retry_after.is_some(), kind == raw::Kind::Status),
    ] {
        if is_set && !fits {
            wrong(&path.key(key), format!("means nothing for a fault of this kind; remove `{key}`"));
        }
    }
    let from = written.from.map_or(0, |from| micros(from.0));
    let to = written.to.map_or(Micros::MAX, |to| micros(to.0));
    if to <= from {
        wrong(&path.key("to"), "a fault ends after it begins".to_owned());
    }
    let kind = match kind {
        raw::Kind::Down => Kind::Down,
        raw::Kind::Frozen => Kind::Frozen,
        raw::Kind::Unreachable => Kind::Unreachable,
        raw::Kind::Reset => Kind::Reset,
        raw::Kind::Slow => {
            if written.factor.is_none() {
                wrong(path, "`slow` needs a `factor`, such as 20".to_owned());
            }
            Kind::Slow(written.factor?)
        }
        raw::Kind::Status => Kind::Status {
            status: written.status.unwrap_or(500),
            latency: latency(written.latency.as_ref(), &path.key("latency"), wrong),
            // The header has whole seconds.
            retry_after: written.retry_after.map(|wait| Duration::from_secs(wait.0.as_secs())),
        },
    };
    Some(Fault { from, to, share: written.share.map_or(1.0, |share| share.0), kind })
}

fn latency(written: Option<&raw::Latency>, path: &Path, wrong: &mut impl FnMut(&Path, String)) -> Option<Latency> {
    match written? {
        raw::Latency::Constant(text) => span(text, path, wrong).map(Latency::Constant),
        raw::Latency::LogNormal(raw::Percentiles { p50: Some(p50), p99: Some(p99) }) => {
            let p50 = span(p50, &path.key("p50"), wrong)?;
            let p99 = span(p99, &path.key("p99"), wrong)?;
            let latency = Latency::of_percentiles(p50, p99);
            if latency.is_none() {
                wrong(path, "`p50` is more than nothing, and `p99` is not less than `p50`".to_owned());
            }
            latency
        }
        raw::Latency::LogNormal(_) => {
            wrong(path, "a latency is \"5ms\", or { p50 = \"5ms\", p99 = \"40ms\" }".to_owned());
            None
        }
    }
}

fn span(text: &str, path: &Path, wrong: &mut impl FnMut(&Path, String)) -> Option<Micros> {
    match text.parse::<Span>() {
        Ok(span) => Some(span.0),
        Err(message) => {
            wrong(path, format!("{message}, found `{text}`"));
            None
        }
    }
}
