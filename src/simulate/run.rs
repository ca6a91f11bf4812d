//! One run for each configuration.

use super::figures::Run;
use super::file::{Asked, Scenario};
use super::report::Report;
use crate::config::problem::Path;
use crate::config::{Config, Policies, Problem, Problems};
use crate::offline::engine::{self, Engine};
use crate::offline::gateway::Gateway;
use crate::proxy::failure::Failure;
use crate::upstream::plan::RoutePlan;
use crate::upstream::tree::Tree;

impl Scenario {
    /// Lets it happen once for each configuration. The error says why a request goes nowhere.
    pub fn run(&self) -> Result<Report, Problems> {
        let mut runs = Vec::new();
        for (key, loaded) in &self.configs {
            let wrong = |problem| Problems(vec![problem]);
            let gateway =
                Gateway::new(&loaded.config, &self.lists).map_err(|message| wrong(self.written.whole(message)))?;
            for listing in &self.listings {
                if !gateway.targets().contains(&listing.target) {
                    let message = format!("`{key}` names no target `{}`", listing.target);
                    return Err(wrong(self.written.problem(&Path::default().key("listings"), message)));
                }
            }
            let asked = self.asked(key, &loaded.config, &gateway).map_err(wrong)?;
            let notes = notes(&loaded.config, &asked);
            let engine = Engine::new(
                gateway,
                asked,
                self.endpoints.clone(),
                self.other.clone(),
                self.listings.clone(),
                self.seed,
            );
            let log = engine.run(self.arrivals, self.duration);
            runs.push(Run::new(key.clone(), notes, &log, self));
        }
        Ok(Report { rate: self.rate, seconds: self.duration as f64 / 1e6, seed: self.seed, runs })
    }

    fn asked(&self, key: &str, config: &Config, gateway: &Gateway) -> Result<engine::Asked, Problem> {
        let wrong = |at: &str, message: String| self.written.problem(&Path::default().key(at), message);
        match &self.asked {
            Asked::Service(name, request) => {
                let position = gateway.table.plan.upstreams.iter().position(|upstream| *upstream.name == **name);
                let position = position.filter(|_| config.services.contains_key(name));
                let position = position.ok_or_else(|| wrong("service", format!("`{key}` has no service `{name}`")))?;
                let route = RoutePlan::plain(&format!("service {name}"), Tree::Leaf(position));
                Ok(engine::Asked::new(route, request))
            }
            Asked::Route(request) => {
                let name = match (&self.listener, config.listeners.as_slice()) {
                    (Some(name), _) => name,
                    (None, [only]) => &only.name,
                    (None, _) => {
                        let names: Vec<_> = config.listeners.iter().map(|listener| listener.name.as_str()).collect();
                        let message = format!("add `listener`; `{key}` has {}", names.join(", "));
                        return Err(wrong("url", message));
                    }
                };
                let listener = gateway.table.listener(name);
                let listener =
                    listener.ok_or_else(|| wrong("listener", format!("`{key}` has no listener `{name}`")))?;
                let takes_overrides = config.listeners.iter().any(|one| one.name == *name && one.overrides);
                let routed = request.route(listener);
                if let Some(problem) =
                    request.beyond(&gateway.table, takes_overrides, !matches!(routed, Err(Failure::NoRoute)))
                {
                    return Err(wrong("url", problem));
                }
                let routed = routed.map_err(|failure| {
                    let message = format!("{} ({}) is all that `{key}` answers", failure.status(), failure.label());
                    wrong("url", message)
                })?;
                if let Some(status) = routed.answer {
                    let message = format!("route `{}` of `{key}` answers {status} by itself", routed.route.name);
                    return Err(wrong("url", message));
                }
                Ok(engine::Asked::new(routed.route.clone(), &routed.sent))
            }
        }
    }
}

/// What a configuration asks for and no simulation does.
fn notes(config: &Config, asked: &engine::Asked) -> Vec<String> {
    let mut notes = Vec::new();
    let of = |has: &dyn Fn(&Policies) -> bool| {
        let services = config.services.values().filter(|service| has(&service.policies));
        services.map(|service| service.name.as_str()).collect::<Vec<_>>().join(", ")
    };
    let actions = &asked.route.actions;
    for (what, whose) in [
        ("active health checks", of(&|policies| policies.health.is_some())),
        ("hedging", of(&|policies| asked.route.hedge(policies).is_some())),
        ("`fault` of the route", if actions.fault.is_some() { asked.route.name.to_string() } else { String::new() }),
        (
            "`rate_limit` of the route",
            if actions.rate_limit.is_some() { asked.route.name.to_string() } else { String::new() },
        ),
    ] {
        if !whose.is_empty() {
            notes.push(format!("not simulated: {what} ({whose})"));
        }
    }
    notes
}
