//! Where a route leads: its tiers and splits, the services that it names, and their endpoints.

use std::sync::Arc;

use super::answer::{Branch, Destination, Endpoint, Entry, Service, Set, Tier};
use super::draw::Drawn;
use super::request::Asked;
use super::{Provenance, Situation, endpoint, plan};
use crate::balance::tiers;
use crate::config::UpstreamTls;
use crate::proxy::destination::Destination as Found;
use crate::resilience::breaker::Usable;
use crate::resilience::deadline::Deadline;
use crate::upstream::connect::Wanted;
use crate::upstream::tree::Tree;
use crate::upstream::{TargetSet, Upstream};

/// Tells the tiers and splits of a route.
pub(super) fn destination(found: &Found<'_>, situation: &Situation<'_>) -> Destination {
    let upstreams = &situation.table.upstreams;
    let capacity = |&index: &usize| upstreams.get(index).map_or(0.0, |upstream| upstream.capacity(situation.now));
    let tree = branch(found.to(), &capacity, &mut |&index| Branch::Service {
        name: upstreams.get(index).map(|upstream| upstream.name.to_string()).unwrap_or_default(),
    });
    let panic = !found.route.is_local_hop && situation.table.panics(found.to(), situation.now);
    Destination { expression: written(&tree, false), panic, tree }
}

/// Tells the services that a route names, each one once.
pub(super) fn services(
    asked: &Asked<'_>,
    found: &Found<'_>,
    deadline: Option<&Deadline>,
    drawn: &Drawn,
    situation: &Situation<'_>,
) -> Vec<Service> {
    let mut positions = Vec::new();
    found.to().for_each(&mut |&index| {
        if !positions.contains(&index) {
            positions.push(index);
        }
    });
    let upstreams = positions.into_iter().filter_map(|index| situation.table.upstreams.get(index));
    upstreams
        .map(|upstream| {
            let policies = &upstream.policies;
            let capacity = |set: &Arc<TargetSet>| upstream.set_capacity(set, situation.now);
            let from = branch(&upstream.endpoints, &capacity, &mut |set| {
                Branch::Target(self::set(upstream, set, asked, drawn, situation))
            });
            Service {
                name: upstream.name.to_string(),
                share: drawn.of_service(upstream.state.id),
                balance: word(&policies.balance),
                tls: policies.tls != UpstreamTls::Off,
                in_flight: upstream.state.in_flight.load(std::sync::atomic::Ordering::Relaxed),
                most_in_flight: policies.limits.requests,
                time: plan::time(found.route, upstream, asked, deadline, situation.now),
                retry: plan::retry(found.route, upstream, asked, situation.now),
                from,
            }
        })
        .collect()
}

fn set(upstream: &Upstream, set: &TargetSet, asked: &Asked<'_>, drawn: &Drawn, situation: &Situation<'_>) -> Set {
    let (now, unknown) = (situation.now, Provenance::default());
    let known = situation.sources.get(&set.target).unwrap_or(&unknown);
    let endpoints = set.members.iter().filter(|_| !known.is_assumed).map(|member| Endpoint {
        share: drawn.of_member(member.state.id),
        score: set.score(member, now).map(f64::from),
        speaks: Wanted::of(&upstream.policies, &member.endpoint, asked.is_grpc, asked.is_upgrade).label().to_owned(),
        next_is_probe: member.is_listed() && member.is_sound() && member.state.breaker.usable(now) == Usable::Due,
        view: endpoint::view(upstream, &set.target, member, known, now),
    });
    Set {
        target: set.target.to_string(),
        source: known.origin.clone(),
        age_seconds: known.age_seconds,
        failure: known.failure.clone(),
        assumed: known.is_assumed,
        endpoints: endpoints.collect(),
    }
}

/// Tells a tree with the shares that the rules give its parts.
fn branch<L>(tree: &Tree<L>, capacity: &dyn Fn(&L) -> f32, leaf: &mut dyn FnMut(&L) -> Branch) -> Branch {
    match tree {
        Tree::Leaf(found) => leaf(found),
        Tree::Tiers(parts) => {
            let capacities: Vec<f32> = parts.iter().map(|part| part.capacity(&|leaf| capacity(leaf))).collect();
            let shares = tiers::shares(capacities.iter().copied());
            // Where nobody can carry anything, the first tier is asked first.
            let nobody = shares.iter().all(|&share| share <= 0.0);
            let tiers =
                parts.iter().zip(capacities).zip(shares).enumerate().map(|(position, ((part, capacity_of), share))| {
                    Tier {
                        share: if nobody { f64::from(u8::from(position == 0)) } else { f64::from(share) },
                        capacity: f64::from(capacity_of),
                        to: branch(part, capacity, leaf),
                    }
                });
            Branch::Tiers { tiers: tiers.collect() }
        }
        Tree::Split(parts) => {
            let carries = |part: &Tree<L>| part.capacity(&|leaf| capacity(leaf)) > 0.0;
            let nobody = !parts.iter().any(|(weight, part)| *weight > 0 && carries(part));
            // What has nothing leaves its share to the others.
            let counts =
                |(weight, part): &(u32, Tree<L>)| if nobody || carries(part) { f64::from(*weight) } else { 0.0 };
            let total: f64 = parts.iter().map(counts).sum();
            let entries = parts.iter().map(|entry| Entry {
                weight: entry.0,
                share: if total > 0.0 { counts(entry) / total } else { 0.0 },
                to: branch(&entry.1, capacity, leaf),
            });
            Branch::Split { entries: entries.collect() }
        }
    }
}

/// Writes a destination as an expression.
fn written(branch: &Branch, is_inside: bool) -> String {
    let text = match branch {
        Branch::Service { name } => return name.clone(),
        Branch::Target(set) => return set.target.clone(),
        Branch::Split { entries } => {
            let entries: Vec<_> =
                entries.iter().map(|one| format!("{} * {}", one.weight, written(&one.to, true))).collect();
            entries.join(" & ")
        }
        Branch::Tiers { tiers } => {
            let tiers: Vec<_> = tiers
                .iter()
                // A split binds tighter than tiers.
                .map(|one| written(&one.to, !matches!(one.to, Branch::Split { .. })))
                .collect();
            tiers.join(" | ")
        }
    };
    if is_inside { format!("({text})") } else { text }
}

/// Says what a person should know of the services.
pub(super) fn notes(services: &[Service]) -> Vec<String> {
    let mut notes = Vec::new();
    for service in services {
        service.from.for_each_set(&mut |set| {
            if set.assumed {
                notes.push(format!(
                    "the endpoints of `{}` are not known: its backend is not asked offline; where shares are told it \
                     counts as healthy. Give them with --endpoints FILE, or ask a running gateway with --admin",
                    set.target
                ));
            } else if let Some(failure) = &set.failure {
                notes.push(format!("`{}` does not answer: {failure}", set.target));
            }
        });
    }
    notes.dedup();
    notes
}

/// A word of the configuration as it is written there.
fn word(value: &impl serde::Serialize) -> String {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => word,
        Ok(other) => other.to_string(),
        Err(_) => String::new(),
    }
}
