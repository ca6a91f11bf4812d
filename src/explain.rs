//! Why a request goes where it goes: the decision of the running gateway, or of files, told step by step (pure).
//!
//! ```text
//! Question ─► listener ─► request as the proxy sees it ─► Router ─► Tree ─► Table::pick, many times ─► Explanation
//! ```
//!
//! Nothing is decided here. The same `Table` that serves is asked, by the same functions: the head is rewritten by the
//! proxy's own code, the route is found by the router, endpoints are drawn by `Table::pick`, tiers are shared by
//! `balance::tiers::shares`. Files and a running gateway differ only in where the table comes from:
//! `compose` builds it for [`Offline`](crate::compose::Offline) and for the admin interface.

mod actions;
pub mod allow;
pub mod answer;
mod destination;
mod draw;
pub(crate) mod endpoint;
mod listener;
pub mod log_line;
mod plan;
mod request;
#[cfg(test)]
mod tests;
mod text;

use std::collections::HashMap;
use std::net::IpAddr;

use http::HeaderMap;
use meshless_discovery::Target;

use self::actions::Acted;
use self::allow::Allow;
use self::answer::{Explanation, Lost, Outcome, Route, Source};
use self::draw::Urn;
use self::listener::Chosen;
use self::request::{Asked, Way};
use crate::authorize::Asked::{Bytes, Request};
use crate::balance;
use crate::config::{Config, Listener};
use crate::proxy::destination::{Destination, Found, Seeker};
use crate::proxy::failure::Failure;
use crate::resilience::deadline::Deadline;
use crate::route::Facts;
use crate::upstream::Table;
use crate::upstream::live::Wanted;

/// Number of the form of an [`Explanation`]: it counts up when a field goes or changes its meaning, not when one comes.
pub const SCHEMA: u32 = 1;
/// Requests that are drawn to tell the shares of endpoints: enough for half a percent.
const DRAWS: u32 = 10_000;
/// The seed of draws unless one is given, so that the same question has the same answer.
const SEED: u64 = 1;

/// What is asked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Question {
    /// Name of the listener; `None`: the first one that takes such a request.
    pub listener: Option<String>,
    /// Method; empty: GET. Bytes have none.
    pub method: String,
    /// `http://HOST[:PORT]/PATH`, `https://…`, `tcp://HOST[:PORT]`, or `tls://NAME` for TLS that is passed on.
    pub url: String,
    /// Headers that the client sends.
    pub headers: Vec<(String, String)>,
    /// SPIFFE ID in the client's certificate.
    pub from: Option<String>,
    /// The client's address; `None`: 127.0.0.1.
    pub address: Option<IpAddr>,
    /// Seed of the draws; `None`: 1.
    pub seed: Option<u64>,
}

/// Why a question has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{reason}")]
pub struct Refusal {
    /// What is wrong.
    pub reason: String,
    /// What to do.
    pub hint: String,
}

impl Refusal {
    /// Makes one.
    pub fn new(reason: impl Into<String>, hint: impl Into<String>) -> Self {
        Self { reason: reason.into(), hint: hint.into() }
    }
}

/// What is known of the source of a target's endpoints.
#[derive(Debug, Clone, Default)]
pub(crate) struct Provenance {
    /// Where they come from: `live`, `disk`, `static`, `file`, `fixture`; empty: there was no answer yet.
    pub(crate) origin: String,
    /// How long they have not been confirmed, in seconds.
    pub(crate) age_seconds: f64,
    /// Why the last question failed.
    pub(crate) failure: Option<String>,
    /// Nobody was asked: one healthy endpoint stands in, so that the shares of tiers and splits can be told.
    pub(crate) is_assumed: bool,
}

/// What a question is answered from.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Situation<'a> {
    pub(crate) config: &'a Config,
    pub(crate) table: &'a Table,
    pub(crate) sources: &'a HashMap<Target, Provenance>,
    /// Number of the configuration that runs; `None`: files.
    pub(crate) version: Option<u64>,
    /// Milliseconds of the process.
    pub(crate) now: u32,
    /// Nanoseconds since 1970.
    pub(crate) wall: u64,
}

/// Answers a question. Returns also what the table lacks to say more: logical names and targets of overrides are opened
/// when the first request asks for them.
pub(crate) fn explain(question: &Question, situation: &Situation<'_>) -> Result<(Explanation, Vec<Wanted>), Refusal> {
    let way = Way::parse(&question.url)?;
    let chosen = listener::choose(question, &way, situation.config)?;
    let asked = Asked::new(question, &way, chosen.listener)?;
    let source = Source {
        kind: if situation.version.is_some() { "running" } else { "files" }.to_owned(),
        config_version: situation.version,
    };
    let mut explanation = Explanation {
        schema: SCHEMA,
        source,
        request: asked.view(),
        listener: chosen.view(),
        outcome: Outcome::default(),
        allow: None,
        route: None,
        lost: Vec::new(),
        actions: Vec::new(),
        headers: Vec::new(),
        destination: None,
        services: Vec::new(),
        draws: None,
        notes: asked.notes.clone(),
        logged: None,
    };
    let mut wanted = Vec::new();
    match asked.facts() {
        Ok(facts) => {
            let seed = question.seed.unwrap_or(SEED);
            wanted = route(&mut explanation, &asked, &facts, &chosen, situation, seed)?;
        }
        Err(failure) => explanation.outcome = Outcome::refused(failure),
    }
    Ok((explanation, wanted))
}

/// Tells the route of a request, and what comes of it.
fn route(
    explanation: &mut Explanation,
    asked: &Asked<'_>,
    facts: &Facts<'_>,
    chosen: &Chosen<'_>,
    situation: &Situation<'_>,
    seed: u64,
) -> Result<Vec<Wanted>, Refusal> {
    let listener = chosen.listener;
    let plan = situation.table.listener(&listener.name).ok_or_else(|| {
        let reason = format!("listener `{}` is not in force yet", listener.name);
        Refusal::new(reason, "ask again in a moment: a configuration is just being applied")
    })?;
    explanation.notes.extend(others(&chosen.others, facts, situation));
    let request = if asked.is_http() { Request(facts) } else { Bytes(facts.from, facts.address) };
    explanation.allow = plan.allow.as_deref().map(|rules| Allow::new(rules, request));
    if explanation.allow.as_ref().is_some_and(Allow::denies) {
        explanation.outcome = Outcome::refused(&Failure::Denied);
        return Ok(Vec::new());
    }
    let lost = plan.lost(facts).into_iter();
    explanation.lost = lost.map(|(position, route, lost)| Lost::new(position, &route.name, &lost)).collect();
    let (matched, captures) = plan.route(facts).unzip();
    let (host, headers, takes_overrides) = (facts.host, facts.headers, listener.overrides);
    let found = match (Seeker { host, headers, takes_overrides, now: situation.now }).find(situation.table, matched) {
        Ok(Found::At(found)) => found,
        Ok(Found::Wanted(wanted)) => {
            let names: Vec<String> = wanted.iter().map(|one| format!("`{one}`")).collect();
            explanation.outcome = Outcome::opens(&names.join(", "));
            return Ok(wanted);
        }
        Err(failure) => {
            explanation.outcome = Outcome::refused(&failure);
            return Ok(Vec::new());
        }
    };
    let captures = captures.unwrap_or_default();
    let position = plan.routes().iter().position(|one| std::ptr::eq(one, found.route));
    let kind = match (position, matched) {
        (Some(_), _) => "route",
        (None, Some(_)) => "to",
        (None, None) => "name",
    };
    explanation.route = Some(Route {
        name: found.route.name.to_string(),
        kind: kind.to_owned(),
        overridden: found.is_overridden(),
        position: position.map(|position| position + 1),
        of: plan.routes().len(),
        captures: position.map(|position| plan.captures(position, &captures, facts.path)).unwrap_or_default(),
        is_local_hop: found.route.is_local_hop,
        timeout_ms: found.route.timeout.map(plan::millis),
    });
    let deadline = Deadline::read(facts.headers, facts.is_grpc, || situation.wall);
    if deadline.is_some_and(|deadline| deadline.left.is_zero()) {
        explanation.outcome = Outcome::refused(&Failure::Deadline);
        return Ok(Vec::new());
    }
    match actions::act(found.route, &captures, asked, takes_overrides, situation.table) {
        Acted::Sent { told, parts } => {
            explanation.actions = told;
            explanation.headers = asked.changes(&parts.headers);
            send(explanation, asked, &found, &parts.headers, deadline.as_ref(), situation, seed);
        }
        Acted::Ended { told, outcome } => {
            explanation.actions = told;
            explanation.outcome = outcome;
        }
    }
    Ok(Vec::new())
}

/// Tells where a request is sent. `headers` are those that an endpoint gets.
fn send(
    explanation: &mut Explanation,
    asked: &Asked<'_>,
    found: &Destination<'_>,
    headers: &HeaderMap,
    deadline: Option<&Deadline>,
    situation: &Situation<'_>,
    seed: u64,
) {
    let urn = Urn {
        table: situation.table,
        to: found.to(),
        is_local_hop: found.route.is_local_hop,
        asked: balance::Asked { headers: asked.is_http().then_some(headers), client: Some(asked.address) },
        now: situation.now,
    };
    let drawn = draw::draw(&urn, DRAWS, seed);
    let services = destination::services(asked, found, deadline, &drawn, situation);
    explanation.destination = Some(destination::destination(found, situation));
    explanation.draws = Some(drawn.view(seed));
    explanation.notes.extend(destination::notes(&services));
    explanation.outcome = if drawn.is_empty() {
        Outcome::refused(&Failure::NoEndpoint)
    } else {
        let taken = services.iter().filter(|one| one.share > 0.0).map(|one| one.name.as_str());
        Outcome::sent(&taken.collect::<Vec<_>>())
    };
    explanation.services = services;
}

/// Says which routes a request would take by the other listeners that it could come by.
fn others(others: &[&Listener], facts: &Facts<'_>, situation: &Situation<'_>) -> Vec<String> {
    let route = |listener: &Listener| {
        let plan = situation.table.listener(&listener.name)?;
        let name = plan.route(facts).map(|(route, _)| route.name.to_string());
        Some(name.map_or_else(|| "no route".to_owned(), |name| format!("route `{name}`")))
    };
    others
        .iter()
        .filter_map(|listener| {
            let name = &listener.name;
            Some(format!(
                "listener `{name}` takes such requests, too ({}): ask with --listener {name}",
                route(listener)?
            ))
        })
        .collect()
}
