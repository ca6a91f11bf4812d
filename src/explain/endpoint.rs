//! What is told of one endpoint, in explanations and by `/endpoints`.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use meshless_discovery::Target;

use super::Provenance;
use crate::admin::{EjectionView, EndpointView, Standing};
use crate::balance::tiers;
use crate::follow::removals;
use crate::resilience::breaker::{self, Usable};
use crate::targets::health;
use crate::upstream::tree::Tree;
use crate::upstream::{Member, TargetSet, Upstream};

/// Tells everything that is known of an endpoint.
pub(crate) fn view(
    upstream: &Upstream,
    target: &Target,
    member: &Member,
    known: &Provenance,
    now: u32,
) -> EndpointView {
    let breaker = member.state.breaker.view(&upstream.policies.breaker, now);
    EndpointView {
        service: upstream.name.to_string(),
        target: target.to_string(),
        backend: target.backend.clone(),
        id: member.endpoint.id.clone(),
        priority: member.endpoint.priority,
        address: member.endpoint.address.to_string(),
        weight: member.endpoint.weight,
        zone: member.endpoint.zone.clone(),
        health: health(member.endpoint.health).to_owned(),
        standing: match member.standing {
            removals::Standing::Held => Standing::Held,
            removals::Standing::Listed => Standing::Listed,
        },
        in_flight: u64::from(member.state.load.in_flight()),
        latency_ms: member.state.load.latency(now).map(f64::from),
        penalty_ms: f64::from(member.state.load.penalty(now)),
        connections: member.state.connections.load(Ordering::Relaxed) as u64,
        check: member.state.checked.condition().label().to_owned(),
        check_failure: member.state.checked.why().map(|why| (*why).clone()),
        ejected: ejection(&breaker),
        ejections: breaker.ejections,
        failures_in_row: breaker.consecutive,
        window_requests: breaker.requests,
        window_failures: breaker.failures,
        source: known.origin.clone(),
        age_seconds: known.age_seconds,
        usable: member.unused_because(now).is_none(),
        unused_because: unused_because(member, &breaker, now),
    }
}

/// Tells everything that is known of all endpoints of an upstream, those too that are well and wait.
pub(crate) fn views(upstream: &Upstream, sources: &HashMap<Target, Provenance>, now: u32) -> Vec<EndpointView> {
    let unknown = Provenance::default();
    let mut views = Vec::new();
    waiting(upstream, &upstream.endpoints, None, now, &mut |set, because| {
        let known = sources.get(&set.target).unwrap_or(&unknown);
        for member in &set.members {
            let view = view(upstream, &set.target, member, known, now);
            let waits = || because.map(str::to_owned).or_else(|| set.passes_over(member, now).map(str::to_owned));
            let unused_because = view.unused_because.clone().or_else(waits);
            views.push(EndpointView { unused_because, ..view });
        }
    });
    views
}

/// Visits every set with the reason why nothing of it is in use, if there is one: what is before it carries everything.
fn waiting(
    upstream: &Upstream,
    tree: &Tree<Arc<TargetSet>>,
    because: Option<&str>,
    now: u32,
    visit: &mut dyn FnMut(&TargetSet, Option<&str>),
) {
    match tree {
        Tree::Leaf(set) => visit(set, because),
        Tree::Split(parts) => {
            for (weight, part) in parts {
                let because = because.or_else(|| (*weight == 0).then_some("its part of the split has weight 0"));
                waiting(upstream, part, because, now, visit);
            }
        }
        Tree::Tiers(tiers) => {
            let capacities = tiers.iter().map(|tier| tier.capacity(&|set| upstream.set_capacity(set, now)));
            let shares = tiers::shares(capacities);
            // Where nobody can carry anything there is nobody to wait for.
            let anybody = shares.iter().any(|share| *share > 0.0);
            for (position, (tier, share)) in tiers.iter().zip(shares).enumerate() {
                let number = position + 1;
                let waits = format!("tier {number} is not in use: what is before it carries everything");
                let because = because.or_else(|| (anybody && share <= 0.0).then_some(waits.as_str()));
                waiting(upstream, tier, because, now, visit);
            }
        }
    }
}

fn unused_because(member: &Member, breaker: &breaker::View, now: u32) -> Option<String> {
    let said = member.unused_because(now)?;
    let is_ejected = member.is_listed() && member.is_sound() && member.endpoint.weight > 0;
    let Some((reason, cause)) = breaker.last.filter(|_| is_ejected) else { return Some(said.to_owned()) };
    let (reason, cause, left) = (reason.label(), cause.label(), breaker.left.as_secs_f64());
    Some(match (breaker.is_probing, breaker.left.is_zero()) {
        (true, _) => "ejected; its probe is on its way".to_owned(),
        (false, true) => said.to_owned(),
        (false, false) => format!("ejected for {left:.1} s more ({reason}, {cause})"),
    })
}

fn ejection(breaker: &breaker::View) -> Option<EjectionView> {
    let (reason, cause) = breaker.last.filter(|_| breaker.usable != Usable::Yes)?;
    Some(EjectionView {
        // Of whole milliseconds, so that it prints as such.
        left_seconds: breaker.left.as_millis() as f64 / 1000.0,
        probing: breaker.is_probing,
        reason: reason.label().to_owned(),
        cause: cause.label().to_owned(),
        times: breaker.times,
    })
}
