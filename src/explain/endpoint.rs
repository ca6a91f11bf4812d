//! What is told of one endpoint, in explanations and by `/endpoints`.

use std::sync::atomic::Ordering;

use meshless_discovery::{Health, Target};

use super::Provenance;
use crate::admin::{EjectionView, EndpointView, Standing};
use crate::follow::removals;
use crate::resilience::breaker::{self, Usable};
use crate::upstream::{Member, Upstream};

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
        unused_because: unused_because(member, &breaker, now),
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

fn health(health: Health) -> &'static str {
    match health {
        Health::Draining => "draining",
        Health::Healthy => "healthy",
        Health::Unhealthy => "unhealthy",
    }
}
