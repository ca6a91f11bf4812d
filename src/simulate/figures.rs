//! Figures of one run: by phase, by endpoint, and over time.

use std::collections::BTreeSet;

use serde::Serialize;

use super::file::Scenario;
use crate::offline::Micros;
use crate::offline::log::{Log, Outcome, Tried};
use crate::offline::world::Endpoint;
use crate::resilience::breaker::Change;

/// Points of a curve over the whole time.
const SLOTS: u64 = 60;

/// A run with one configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Run {
    /// The key that its configuration stands under: `config` or `compare`.
    pub configuration: String,
    /// What was not simulated.
    pub notes: Vec<String>,
    /// From one beginning or end of a fault to the next.
    pub phases: Vec<Phase>,
    /// After the warm-up.
    pub whole: Phase,
    /// In the order of their addresses.
    pub endpoints: Vec<EndpointFigures>,
    /// Equal parts of the whole time, warm-up included.
    pub slots: Vec<Slot>,
}

/// What clients saw in a part of the time. A request belongs to when it was due, a try to when it began.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Phase {
    /// In seconds from the start.
    pub from_seconds: f64,
    /// In seconds from the start.
    pub to_seconds: f64,
    /// Requests.
    pub requests: usize,
    /// Those that ended with a status of 400 or more.
    pub errors: usize,
    /// Their share, 0 to 1.
    pub error_share: f64,
    /// Milliseconds until the head of the reply.
    pub p50_ms: f64,
    /// The same.
    pub p99_ms: f64,
    /// Tries at endpoints for each request: 1 without requeues and retries.
    pub amplification: f64,
    /// Retries that the budget paid for.
    pub retries: u32,
    /// Of all tries, by endpoint in the order of [`Run::endpoints`], 0 to 1.
    pub shares: Vec<f64>,
}

/// What became of an endpoint.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct EndpointFigures {
    /// Its address.
    pub address: String,
    /// Tries after the warm-up.
    pub tries: usize,
    /// Milliseconds until the head of its reply, of those that were answered.
    pub p99_ms: f64,
    /// Times that it was ejected.
    pub ejections: usize,
    /// Seconds from the beginning of its first fault until it was ejected.
    pub ejected_after_seconds: Option<f64>,
    /// Seconds from the end of its last fault until it was back.
    pub back_after_seconds: Option<f64>,
}

/// A part of the time, for curves.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Slot {
    /// In seconds from the start.
    pub from_seconds: f64,
    /// Of all requests; `None`: there were none.
    pub p99_ms: Option<f64>,
    /// Share of requests that failed.
    pub error_share: f64,
    /// Of the tries, by endpoint.
    pub shares: Vec<f64>,
    /// Of answered tries, by endpoint.
    pub endpoint_p99_ms: Vec<Option<f64>>,
}

impl Run {
    pub(super) fn new(configuration: String, notes: Vec<String>, log: &Log, scenario: &Scenario) -> Self {
        let by_address = by_address(log);
        let end = scenario.duration;
        let cuts = cuts(scenario);
        let phases = cuts.iter().zip(cuts.iter().skip(1)).map(|(from, to)| phase(log, &by_address, *from, *to, end));
        let fault_of = |address: usize| {
            let address = log.addresses.get(address);
            scenario.endpoints.iter().find(|endpoint| Some(&endpoint.address) == address)
        };
        Self {
            configuration,
            notes,
            phases: phases.collect(),
            whole: phase(log, &by_address, scenario.warm_up, end, end),
            endpoints: by_address.iter().map(|&one| endpoint(log, one, fault_of(one), scenario.warm_up)).collect(),
            slots: slots(log, &by_address, end),
        }
    }
}

/// Positions of endpoints in the order of their addresses.
fn by_address(log: &Log) -> Vec<usize> {
    let mut order: Vec<usize> = (0..log.addresses.len()).collect();
    order.sort_by_key(|&position| log.addresses.get(position));
    order
}

/// Beginnings and ends of faults, between the warm-up and the end.
fn cuts(scenario: &Scenario) -> Vec<Micros> {
    let faults = scenario.endpoints.iter().flat_map(|endpoint| &endpoint.faults);
    let times = faults.flat_map(|fault| [fault.from, fault.to]);
    let times = times.chain(scenario.listings.iter().map(|listing| listing.at));
    let inside = times.filter(|time| (scenario.warm_up + 1..scenario.duration).contains(time));
    let cuts: BTreeSet<Micros> = inside.chain([scenario.warm_up, scenario.duration]).collect();
    cuts.into_iter().collect()
}

/// What ends late, after the last request was due, belongs to the last phase.
fn phase(log: &Log, order: &[usize], from: Micros, to: Micros, end: Micros) -> Phase {
    let until = if to == end { Micros::MAX } else { to };
    let outcomes: Vec<&Outcome> = log.outcomes.iter().filter(|outcome| (from..until).contains(&outcome.due)).collect();
    let tries: Vec<&Tried> = log.tries.iter().filter(|tried| (from..until).contains(&tried.at)).collect();
    let errors = outcomes.iter().filter(|outcome| outcome.is_error()).count();
    let latencies = sorted(outcomes.iter().map(|outcome| outcome.took));
    Phase {
        from_seconds: seconds(from),
        to_seconds: seconds(to),
        requests: outcomes.len(),
        errors,
        error_share: ratio(errors, outcomes.len()),
        p50_ms: percentile(&latencies, 50).unwrap_or_default(),
        p99_ms: percentile(&latencies, 99).unwrap_or_default(),
        amplification: ratio(tries.len(), outcomes.len()),
        retries: outcomes.iter().map(|outcome| outcome.retries).sum(),
        shares: shares(&tries, order),
    }
}

fn shares(tries: &[&Tried], order: &[usize]) -> Vec<f64> {
    let count = |one: usize| tries.iter().filter(|tried| tried.endpoint == one).count();
    order.iter().map(|&one| ratio(count(one), tries.len())).collect()
}

fn endpoint(log: &Log, one: usize, described: Option<&Endpoint>, warm_up: Micros) -> EndpointFigures {
    let tries = log.tries.iter().filter(|tried| tried.endpoint == one && tried.at >= warm_up);
    let latencies = sorted(tries.clone().filter_map(|tried| tried.took));
    let changes = || log.changes.iter().filter(|changed| changed.endpoint == one);
    let is_ejection = |change: &Change| matches!(change, Change::Ejected { .. });
    let faults = described.map(|endpoint| endpoint.faults.as_slice()).unwrap_or_default();
    let began = faults.iter().map(|fault| fault.from).min();
    let ended = faults.iter().map(|fault| fault.to).max().filter(|&end| end != Micros::MAX);
    let ejected = began.and_then(|began| {
        let first = changes().find(|changed| changed.at >= began && is_ejection(&changed.change))?;
        Some(seconds(first.at - began))
    });
    let back = ended.and_then(|ended| {
        let last =
            changes().filter(|changed| changed.change == Change::Returned).map(|changed| changed.at).next_back()?;
        (last >= ended).then(|| seconds(last - ended))
    });
    EndpointFigures {
        address: log.addresses.get(one).map(ToString::to_string).unwrap_or_default(),
        tries: tries.count(),
        p99_ms: percentile(&latencies, 99).unwrap_or_default(),
        ejections: changes().filter(|changed| is_ejection(&changed.change)).count(),
        ejected_after_seconds: ejected,
        back_after_seconds: back,
    }
}

fn slots(log: &Log, order: &[usize], end: Micros) -> Vec<Slot> {
    let length = end.div_ceil(SLOTS).max(1);
    let slot_of = |at: Micros| usize::try_from((at / length).min(SLOTS - 1)).unwrap_or_default();
    let mut outcomes: Vec<Vec<&Outcome>> = vec![Vec::new(); usize::try_from(SLOTS).unwrap_or_default()];
    let mut tries: Vec<Vec<&Tried>> = vec![Vec::new(); outcomes.len()];
    for outcome in &log.outcomes {
        if let Some(slot) = outcomes.get_mut(slot_of(outcome.due)) {
            slot.push(outcome);
        }
    }
    for tried in log.tries.iter().filter(|tried| tried.at < end) {
        if let Some(slot) = tries.get_mut(slot_of(tried.at)) {
            slot.push(tried);
        }
    }
    let slot = |(number, (outcomes, tries)): (u64, (Vec<&Outcome>, Vec<&Tried>))| {
        let of = |one: usize| {
            let answered = tries.iter().filter(|tried| tried.endpoint == one).filter_map(|tried| tried.took);
            percentile(&sorted(answered), 99)
        };
        Slot {
            from_seconds: seconds(number * length),
            p99_ms: percentile(&sorted(outcomes.iter().map(|outcome| outcome.took)), 99),
            error_share: ratio(outcomes.iter().filter(|outcome| outcome.is_error()).count(), outcomes.len()),
            shares: shares(&tries, order),
            endpoint_p99_ms: order.iter().map(|&one| of(one)).collect(),
        }
    };
    (0..).zip(outcomes.into_iter().zip(tries)).map(slot).collect()
}

fn sorted(latencies: impl Iterator<Item = Micros>) -> Vec<Micros> {
    let mut latencies: Vec<Micros> = latencies.collect();
    latencies.sort_unstable();
    latencies
}

/// The smallest figure that is not exceeded by so many of a hundred (nearest rank), in milliseconds.
fn percentile(sorted: &[Micros], of_a_hundred: usize) -> Option<f64> {
    let rank = (sorted.len() * of_a_hundred).div_ceil(100).max(1);
    sorted.get(rank - 1).map(|&micros| micros as f64 / 1000.0)
}

fn seconds(time: Micros) -> f64 {
    time as f64 / 1e6
}

fn ratio(part: usize, whole: usize) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_percentile_is_a_figure_that_was_there() {
        let figures: Vec<Micros> = (1..=200).map(|ms| ms * 1000).collect();
        assert_eq!((percentile(&figures, 50), percentile(&figures, 99)), (Some(100.0), Some(198.0)));
        assert_eq!((percentile(&[7000], 99), percentile(&[], 99)), (Some(7.0), None));
    }

    #[test]
    fn a_request_belongs_to_when_it_was_due_and_the_last_phase_has_no_end() {
        let outcome = |due, status| Outcome { due, took: 5000, status, error: "", tries: 1, retries: 0 };
        let log = Log {
            outcomes: vec![outcome(0, 200), outcome(9, 500), outcome(10, 429), outcome(11, 200)],
            tries: [(1, 0), (9, 1), (25, 1)].map(|(at, endpoint)| Tried { at, endpoint, took: None }).into(),
            ..Log::default()
        };
        let first = phase(&log, &[0, 1], 0, 10, 20);
        assert_eq!((first.requests, first.errors, first.shares), (2, 1, vec![0.5, 0.5]));
        let last = phase(&log, &[0, 1], 10, 20, 20);
        assert_eq!((last.requests, last.errors, last.shares), (2, 1, vec![0.0, 1.0]));
    }
}
