//! Health and prepared queries: who is there.

use std::sync::Arc;
use std::time::Duration;

use http::Response;
use serde_json::{Value, json};

use super::{Asked, State};
use crate::http::{Body, json as reply, text};

/// What `/v1/health/service` takes.
const PARAMETERS: &[&str] = &[
    "dc",
    "tag",
    "near",
    "node-meta",
    "passing",
    "filter",
    "peer",
    "ns",
    "partition",
    "index",
    "wait",
    "stale",
    "consistent",
    "cached",
];

/// A blocking query that waits; counted.
struct Waiting<'a>(&'a State);

impl<'a> Waiting<'a> {
    fn begin(state: &'a State) -> Self {
        let mut inner = state.lock();
        inner.waiting += 1;
        inner.most_waiting = inner.most_waiting.max(inner.waiting);
        Self(state)
    }
}

impl Drop for Waiting<'_> {
    fn drop(&mut self) {
        self.0.lock().waiting -= 1;
    }
}

/// Answers `/v1/health/service/NAME` and `/v1/health/connect/NAME`.
pub(super) async fn of_service(state: &Arc<State>, asked: &Asked, name: &str) -> Response<Body> {
    if let Err(refused) = asked.takes_only(PARAMETERS) {
        return *refused;
    }
    let datacenter = asked.value("dc").unwrap_or("dc1").to_owned();
    if let Some(refused) = elsewhere(state, &datacenter).await {
        return refused;
    }
    let seen: u64 = match asked.value("index").unwrap_or("0").parse() {
        Ok(seen) => seen,
        Err(_) => return text(400, "Invalid index"),
    };
    let wait = match wait(asked.value("wait")) {
        Ok(wait) => wait,
        Err(refused) => return *refused,
    };
    if wait.is_some() && seen == 0 && asked.value("index").is_some_and(|index| index != "0") {
        return text(400, "Invalid index");
    }
    if seen > 0 {
        let _waiting = Waiting::begin(state);
        let mut changed = state.changed.subscribe();
        let wait = wait.unwrap_or(Duration::from_mins(5)).min(Duration::from_mins(10));
        // Consul adds up to a sixteenth; so that a client that counts on less is seen, this adds all of it.
        let moved = changed.wait_for(|_| index(state, &datacenter, name) != seen || !state.lock().has_leader);
        let _ = tokio::time::timeout(wait + wait / 16, moved).await;
    }
    if let Err(refused) = led(state, asked) {
        return *refused;
    }
    let inner = state.lock();
    if let Some(raw) = &inner.raw {
        let reply = reply(raw);
        drop(inner);
        return stamped(state, asked, reply, index(state, &datacenter, name));
    }
    let entries = inner.services.get(&(datacenter.clone(), name.to_owned())).map(|(_, entries)| entries.clone());
    drop(inner);
    let is_connect = asked.segments.get(2).is_some_and(|segment| segment == "connect");
    let entries: Vec<Value> = entries
        .unwrap_or_default()
        .into_iter()
        .filter(|entry| {
            let tags = entry["Service"]["Tags"].as_array().cloned().unwrap_or_default();
            let wanted = asked.query.iter().filter(|(key, _)| key == "tag");
            let is_capable =
                entry["Service"]["Connect"]["Native"] == true || entry["Service"]["Kind"] == "connect-proxy";
            wanted.into_iter().all(|(_, tag)| tags.contains(&json!(tag))) && (!is_connect || is_capable)
        })
        .collect();
    let may_see = asked.may("service:read") && asked.may("node:read");
    let is_filtered = !may_see && !entries.is_empty();
    let entries = if may_see { entries } else { Vec::new() };
    let mut reply = reply(&json!(entries));
    if is_filtered && state.lock().says_filtered {
        reply.headers_mut().insert("x-consul-results-filtered-by-acls", "true".parse().unwrap());
    }
    stamped(state, asked, reply, index(state, &datacenter, name))
}

/// Answers `/v1/query/NAME/execute`, which never waits.
pub(super) fn of_query(state: &State, asked: &Asked, name: &str) -> Response<Body> {
    if let Err(refused) = asked.takes_only(&["dc", "near", "limit", "connect", "ns", "stale", "consistent", "cached"]) {
        return *refused;
    }
    if let Err(refused) = led(state, asked) {
        return *refused;
    }
    let inner = state.lock();
    let Some(service) = inner.queries.get(name) else { return text(404, "Query not found") };
    let entries = inner.services.get(&("dc1".to_owned(), service.clone())).map(|(_, entries)| entries.clone());
    reply(&json!({
        "Service": service, "Nodes": entries.unwrap_or_default(), "DNS": { "TTL": "" }, "Datacenter": "dc1", "Failovers": 0,
    }))
}

/// Returns what is answered for another datacenter than exists; one that hangs is never answered.
async fn elsewhere(state: &State, datacenter: &str) -> Option<Response<Body>> {
    let (exists, hangs) = {
        let inner = state.lock();
        (inner.datacenters.contains(datacenter), inner.hanging.contains(datacenter))
    };
    if hangs {
        std::future::pending::<()>().await;
    }
    (!exists).then(|| text(500, "No path to datacenter"))
}

/// Refuses without a leader, unless a stale answer will do.
fn led(state: &State, asked: &Asked) -> Result<(), Box<Response<Body>>> {
    let inner = state.lock();
    let will_do = asked.value("stale").is_some() || asked.value("cached").is_some();
    if inner.has_leader || will_do { Ok(()) } else { Err(Box::new(text(500, "No cluster leader"))) }
}

fn index(state: &State, datacenter: &str, name: &str) -> u64 {
    let inner = state.lock();
    let of_service =
        inner.services.get(&(datacenter.to_owned(), name.to_owned())).map_or(inner.index, |(index, _)| *index);
    inner.forced_index.unwrap_or(of_service)
}

fn stamped(state: &State, asked: &Asked, mut reply: Response<Body>, index: u64) -> Response<Body> {
    let inner = state.lock();
    let is_stale = asked.value("stale").is_some();
    let contact = if is_stale { inner.last_contact.as_millis() } else { 0 };
    let mut headers = vec![
        ("x-consul-index", index.to_string()),
        ("x-consul-knownleader", inner.has_leader.to_string()),
        ("x-consul-lastcontact", contact.to_string()),
    ];
    if asked.value("cached").is_some() {
        headers.extend([("x-cache", "HIT".to_owned()), ("age", inner.age.as_secs().to_string())]);
    }
    for (name, value) in headers {
        reply.headers_mut().insert(name, value.parse().unwrap());
    }
    reply
}

/// Reads a duration as Go writes it: a number and `ms`, `s` or `m`.
fn wait(text_: Option<&str>) -> Result<Option<Duration>, Box<Response<Body>>> {
    let Some(written) = text_ else { return Ok(None) };
    let digits = written.trim_end_matches(|letter: char| letter.is_ascii_alphabetic());
    let number: Option<u64> = digits.parse().ok();
    match (number, &written[digits.len()..]) {
        (Some(number), "ms") => Ok(Some(Duration::from_millis(number))),
        (Some(number), "s") => Ok(Some(Duration::from_secs(number))),
        (Some(number), "m") => Ok(Some(Duration::from_mins(number))),
        _ => Err(Box::new(text(400, "Invalid wait time"))),
    }
}
