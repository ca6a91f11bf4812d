//! One case: what is found where a request is asked.

use std::sync::Arc;
use std::time::Duration;

use super::expect;
use super::file::{Case, Cases, Event, other};
use crate::config::Config;
use crate::offline::engine::{Asked, Engine};
use crate::offline::gateway::Gateway;
use crate::offline::log::Outcome;
use crate::proxy::bounds;
use crate::proxy::failure::Failure;
use crate::resilience::breaker::{Cause, Verdict};
use crate::upstream::{Member, Upstream};

/// Choices that a share is counted from.
const CHOICES: usize = 10_000;
/// Luck is the same each time: a case that passes once passes always.
const SEED: u64 = 1;

/// What came of a case.
#[derive(Debug, Clone, PartialEq)]
pub struct Tested {
    /// Its name.
    pub name: String,
    /// What is not as expected; empty: it passed.
    pub mismatches: Vec<Mismatch>,
    /// Name of the route that its request met.
    pub route: Option<String>,
}

/// Something that is not as expected.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mismatch {
    /// What: the key of the expectation.
    pub what: String,
    /// As the case says.
    pub expected: String,
    /// As it is.
    pub found: String,
}

/// What is found out about a request.
#[derive(Debug, Default)]
pub(super) struct Found {
    pub(super) route: Option<String>,
    /// Status and label where no endpoint is asked.
    pub(super) own: Option<(u16, &'static str)>,
    /// Where such requests would go.
    pub(super) choices: Vec<(Arc<Upstream>, Arc<Member>)>,
    /// What comes of this one.
    pub(super) outcome: Option<Outcome>,
    /// Path with query, and host, as an endpoint gets them.
    pub(super) sent: Option<(String, String)>,
    pub(super) timeout: Option<Duration>,
    pub(super) deadline: Option<Duration>,
}

impl Cases {
    /// Runs all of them. The error says what is missing to do so.
    pub fn run(&self) -> Result<Vec<Tested>, String> {
        let run = |case: &Case| {
            let found =
                find(&self.config, case).map_err(|problem| format!("{}: {}: {problem}", self.name, case.name))?;
            let mismatches = expect::compare(&case.expect, &found);
            Ok(Tested { name: case.name.clone(), mismatches, route: found.route })
        };
        self.all.iter().map(run).collect()
    }
}

fn find(config: &Config, case: &Case) -> Result<Found, String> {
    let gateway = Gateway::new(config, &case.lists)?;
    let listener = gateway.table.listener(&case.listener).cloned();
    let listener = listener.ok_or_else(|| format!("there is no listener `{}`", case.listener))?;
    let mut found = Found { deadline: case.request.deadline(), ..Found::default() };
    let takes_overrides = config.listeners.iter().any(|one| one.name == case.listener && one.overrides);
    let routed = case.request.route(&listener);
    if let Some(problem) =
        case.request.beyond(&gateway.table, takes_overrides, !matches!(routed, Err(Failure::NoRoute)))
    {
        return Err(problem);
    }
    let routed = match routed {
        Ok(routed) => routed,
        Err(failure) => {
            found.own = Some((failure.status().as_u16(), failure.label()));
            return Ok(found);
        }
    };
    found.route = Some(routed.route.name.to_string());
    if let Some(status) = routed.answer {
        found.own = Some((status, ""));
        return Ok(found);
    }
    found.sent = Some((routed.sent.target.clone(), routed.sent.host.clone()));
    let asked = Asked::new(routed.route.clone(), &routed.sent);
    let mut engine = Engine::new(gateway, asked, case.endpoints.clone(), other(), Vec::new(), SEED);
    for event in &case.events {
        engine.go_on_until(event.at);
        happens(&mut engine, event)?;
    }
    engine.go_on_until(case.at);
    found.choices = engine.choices(CHOICES);
    let policies = found.choices.first().map(|(upstream, _)| upstream.policies.clone());
    // gRPC without a deadline is bounded by silence alone.
    let is_stream = routed.sent.is_grpc() && found.deadline.is_none();
    found.timeout = policies.and_then(|policies| bounds::timeout(routed.route, &policies, is_stream));
    found.outcome = engine.ask(case.at);
    Ok(found)
}

fn happens(engine: &mut Engine, event: &Event) -> Result<(), String> {
    let Event { address, written, .. } = event;
    let places = if let Some(count) = written.fails {
        engine.judge(address, Verdict::Failure(Cause::Answer), count)
    } else if let Some(count) = written.serves {
        engine.judge(address, Verdict::Success, count)
    } else {
        let health = written.health.map(Into::into);
        engine.relist(address, |mut endpoint| {
            endpoint.health = health?;
            Some(endpoint)
        })
    };
    if places == 0 { Err(format!("an event befalls {address}, which no target lists")) } else { Ok(()) }
}
