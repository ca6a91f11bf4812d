//! What was expected beside what was found (pure).

use std::collections::BTreeMap;
use std::fmt::Display;

use super::case::{Found, Mismatch};
use super::raw::Expect;
use crate::config::units::{Period, Ratio};
use crate::proxy::failure::DENIED;

/// How far a share may be off where nothing is said.
const TOLERANCE: f64 = 0.02;
/// Returns all that is not as expected.
pub(super) fn compare(expect: &Expect, found: &Found) -> Vec<Mismatch> {
    let mut differ = Differences(Vec::new());
    if let Some(route) = &expect.route {
        differ.unless_equal("route", &quoted(route), &quoted(found.route.as_deref().unwrap_or_default()));
    }
    let all = found.choices.len();
    let services = count(found.choices.iter().map(|(upstream, _)| upstream.name.to_string()));
    if let Some(service) = &expect.service {
        let is_so = services.get(service).is_some_and(|count| *count == all);
        differ.add(!is_so, "service", &quoted(service), &listed(&services, all, found));
    }
    let tolerance = expect.tolerance.map_or(TOLERANCE, |tolerance| tolerance.0);
    for (key, share) in &expect.share {
        let gets = found.choices.iter().filter(|(upstream, member)| {
            let address = member.endpoint.address.to_string();
            let mut is_of_target = false;
            upstream.endpoints.for_each(&mut |set| {
                let has_it = || set.members.iter().any(|other| other.state.id == member.state.id);
                is_of_target |= set.target.to_string() == *key && has_it();
            });
            *upstream.name == **key || address == *key || is_of_target
        });
        let gets = if all == 0 { 0.0 } else { gets.count() as f64 / all as f64 };
        // Half of the last digit that is shown is no difference.
        let is_off = (gets - share.0).abs() > tolerance + 5e-4;
        let expected = format!("{share} ± {}", Ratio(tolerance));
        differ.add(is_off, &format!("share of `{key}`"), &expected, &percent(gets));
    }
    let status = found.own.map(|own| own.0).or_else(|| found.outcome.map(|outcome| outcome.status));
    let error = found.own.map(|own| own.1).or_else(|| found.outcome.map(|outcome| outcome.error));
    let tries = found.outcome.map_or(0, |outcome| outcome.tries);
    if let Some(expected) = expect.status {
        differ.unless_equal("status", &expected, &status.unwrap_or_default());
    }
    if let Some(expected) = &expect.error {
        differ.unless_equal("error", &quoted(expected), &quoted(error.unwrap_or_default()));
    }
    if let Some(expected) = expect.denied {
        differ.unless_equal("denied", &expected, &(error == Some(DENIED)));
    }
    if let Some(expected) = expect.tries {
        differ.unless_equal("tries", &expected, &tries);
    }
    if let Some(expected) = expect.retried {
        differ.unless_equal("retried", &expected, &(tries > 1));
    }
    let period = |period: Option<std::time::Duration>| {
        period.map_or_else(|| "none".to_owned(), |period| Period(period).to_string())
    };
    if let Some(expected) = expect.timeout {
        differ.unless_equal("timeout", &expected.to_string(), &period(found.timeout));
    }
    if let Some(expected) = expect.deadline {
        differ.unless_equal("deadline", &expected.to_string(), &period(found.deadline));
    }
    let sent = found.sent.as_ref();
    for (key, expected, found) in
        [("path", &expect.path, sent.map(|sent| &sent.0)), ("host", &expect.host, sent.map(|sent| &sent.1))]
    {
        if let Some(expected) = expected {
            differ.unless_equal(key, &quoted(expected), &quoted(found.map_or("", |found| found)));
        }
    }
    differ.0
}

struct Differences(Vec<Mismatch>);

impl Differences {
    fn unless_equal<T: PartialEq + Display>(&mut self, what: &str, expected: &T, found: &T) {
        self.add(expected != found, what, &expected.to_string(), &found.to_string());
    }

    fn add(&mut self, is_one: bool, what: &str, expected: &str, found: &str) {
        if is_one {
            let (expected, found) = (expected.to_owned(), found.to_owned());
            self.0.push(Mismatch { what: what.to_owned(), expected, found });
        }
    }
}

fn count(names: impl Iterator<Item = String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts
}

/// What services get, as a person reads it.
fn listed(services: &BTreeMap<String, usize>, all: usize, found: &Found) -> String {
    let share = |count: usize| percent(count as f64 / all.max(1) as f64);
    match (services.len(), found.own) {
        (0, Some((status, label))) => format!("none: {status} {label}"),
        (0, None) => "none: no endpoint is left".to_owned(),
        (1, _) => services.keys().map(|name| quoted(name)).collect(),
        _ => services
            .iter()
            .map(|(name, count)| format!("{} {}", quoted(name), share(*count)))
            .collect::<Vec<_>>()
            .join(", "),
    }
}

fn percent(share: f64) -> String {
    format!("{:.1}%", share * 100.0)
}

fn quoted(text: &str) -> String {
    if text.is_empty() { "none".to_owned() } else { format!("\"{text}\"") }
}
