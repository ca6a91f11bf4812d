//! What a request may take, and when it is sent again.

use std::time::Duration;

use super::answer::{Retry, Time};
use super::request::Asked;
use crate::config::{Classify, Retry as Policy};
use crate::proxy::{bounds, hedge};
use crate::resilience::deadline::Deadline;
use crate::resilience::retry;
use crate::upstream::Upstream;
use crate::upstream::plan::RoutePlan;

/// Tells the bounds of a request to a service.
pub(super) fn time(
    route: &RoutePlan,
    upstream: &Upstream,
    asked: &Asked<'_>,
    deadline: Option<&Deadline>,
    now: u32,
) -> Time {
    let policies = &upstream.policies;
    let own = route.retry(&upstream.name, policies);
    let may_hedge = asked.is_http()
        && !asked.is_upgrade
        && !route.is_local_hop
        && retry::may_repeat(&policies.retry, &asked.parts.method);
    let streams = asked.is_upgrade || asked.is_grpc && deadline.is_none();
    // Bytes have no head: their time is for the connection to an endpoint (`proxy/tcp.rs`).
    let timeout = if asked.is_http() { bounds::timeout(route, policies, streams) } else { Some(policies.timeout) };
    let because = match (timeout, route.timeout) {
        _ if !asked.is_http() => "for the connection to an endpoint",
        (None, _) if streams => "it may stream: gRPC without a deadline and upgrades are bounded by silence alone",
        (None, _) => "the application beside us: bounded by silence alone",
        (Some(_), Some(_)) => "of the route",
        (Some(_), None) => "of the service",
    };
    Time {
        until_head_ms: timeout.map(millis),
        because: because.to_owned(),
        deadline_ms: deadline.map(|deadline| millis(deadline.left)),
        per_try_ms: own.per_try.map(millis),
        connect_ms: millis(policies.connect_timeout),
        silence_ms: millis(policies.idle_timeout),
        hedge_ms: if may_hedge { hedge::delay(route, upstream, now).map(millis) } else { None },
        hedge: route.hedge(policies).map(|hedge| hedge.to_string()).unwrap_or_default(),
    }
}

/// Tells when a request to a service is sent again.
pub(super) fn retry(route: &RoutePlan, upstream: &Upstream, asked: &Asked<'_>, now: u32) -> Retry {
    let policy = route.retry(&upstream.name, &upstream.policies);
    let (from, to) = policy.backoff;
    // The application beside us and bytes get no retries, only requeues.
    let retries = asked.is_http() && !route.is_local_hop;
    Retry {
        attempts: if retries { policy.attempts } else { 1 },
        on: reasons(&policy, &upstream.policies.classify),
        repeats: retry::may_repeat(&policy, &asked.parts.method),
        backoff_ms: [millis(from), millis(to)],
        budget: policy.budget,
        min_per_second: policy.min_per_second,
        budget_left: f64::from(upstream.state.budget.balance(policy.min_per_second, now)),
        body_limit: policy.body_limit,
        requeues: retry::MAX_REQUEUES,
    }
}

/// Everything that is retried: what `retry.on` says and what `classify.retryable` adds.
fn reasons(policy: &Policy, classify: &Classify) -> Vec<String> {
    let added = match serde_json::to_value(&classify.retryable) {
        Ok(serde_json::Value::Array(words)) => words,
        _ => Vec::new(),
    };
    let mut reasons: Vec<String> = policy.on.iter().map(ToString::to_string).collect();
    for word in added.iter().filter_map(|word| word.as_str()) {
        if !reasons.iter().any(|known| known == word) {
            reasons.push(word.to_owned());
        }
    }
    reasons
}

/// Milliseconds, as JSON tells times.
pub(super) fn millis(period: Duration) -> u64 {
    u64::try_from(period.as_millis()).unwrap_or(u64::MAX)
}
