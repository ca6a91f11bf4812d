//! A second request when the first one is slow; the first reply wins, the other try is cancelled.
//!
//! Only what can be sent twice at once is hedged: a request without a body whose method may be repeated, and only to an
//! endpoint that it has not tried. Each second request is paid for from the retry budget, so a service that is slow as a
//! whole does not get twice its load (Finagle's backup requests have such a budget too).

use std::pin::pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::Instant;

use super::account::Account;
use super::attempt::{Attempt, Got};
use super::exchange::Interim;
use super::failure::TryError;
use super::in_flight::{InFlight, Picked};
use crate::balance::Sample;
use crate::config::Hedge;
use crate::resilience::course::Course;
use crate::resilience::retry;
use crate::telemetry::access_log::Why;
use crate::timer::{Timer, after as later};
use crate::upstream::Upstream;
use crate::upstream::plan::RoutePlan;

/// Shortest wait before a second request (Finagle's).
const SHORTEST: Duration = Duration::from_millis(1);

/// Returns after how long a second request may be sent; `None`: never.
pub(super) fn after(attempt: &Attempt<'_>, has_body: bool) -> Option<Duration> {
    let Attempt { upstream, plan, .. } = attempt;
    // The cheapest question first: most services have none.
    plan.route.hedge(&upstream.policies)?;
    let may_repeat = retry::may_repeat(&plan.route.retry(&upstream.name, &upstream.policies), &attempt.parts.method);
    let can = !has_body && !attempt.upgrade && !plan.route.is_local_hop && may_repeat;
    if can { delay(plan.route, upstream, attempt.session.worker().millis()) } else { None }
}

/// Returns after how long a second request is sent to a service, where a request can be sent twice; `None`: never, or too
/// few latencies are known.
pub(crate) fn delay(route: &RoutePlan, upstream: &Upstream, now: u32) -> Option<Duration> {
    let delay = match route.hedge(&upstream.policies)? {
        Hedge::Time(delay) => delay,
        Hedge::Percentile(share) => {
            Duration::from_secs_f32(upstream.state.latencies().percentile(share, now)? / 1000.0)
        }
    };
    Some(delay.max(SHORTEST))
}

/// Makes the attempt, and after `delay` a second one beside it. Returns also the second endpoint, if its reply won.
pub(super) async fn race(
    first: &Attempt<'_>,
    delay: Duration,
    course: &mut Course,
    account: &mut Account,
) -> (Result<Got, TryError>, Option<Picked>) {
    let session = first.session;
    let started = Instant::now();
    let (mut no_body, mut timer, mut patience) = (None, Timer::default(), Timer::default());
    let mut one = pin!(first.run(&mut no_body, &mut timer));
    if let Ok(result) = patience.bound(Some(later(started, delay)), one.as_mut()).await {
        return (result, None);
    }
    let Some((other, mut in_flight)) = second(first, course) else { return (one.await, None) };
    let Picked { upstream, member, .. } = &other;
    course.tries(member.state.id);
    session.series(upstream).service.retried("hedge");
    // The first one alone has the client's ear for interim replies.
    let stamped = account.hedges(upstream, member, first.parts);
    let parts = stamped.as_ref().unwrap_or(first.parts);
    let attempt = Attempt { upstream, member, parts, interim: &Interim::None, ..*first };
    let (mut no_body, mut timer) = (None, Timer::default());
    let mut two = pin!(attempt.run(&mut no_body, &mut timer));
    let (mut failed, mut other_failed) = (None, false);
    let won = std::future::poll_fn(|context| {
        if failed.is_none()
            && let Poll::Ready(result) = one.as_mut().poll(context)
        {
            match result {
                Ok(answer) => return Poll::Ready(Ok((answer, false))),
                Err(error) => failed = Some(error),
            }
        }
        if !other_failed && let Poll::Ready(result) = two.as_mut().poll(context) {
            match result {
                Ok(answer) => return Poll::Ready(Ok((answer, true))),
                Err(error) => {
                    other_failed = true;
                    account.hedge_failed(member, Some(Why::Label(error.label())));
                    if let Some(verdict) = session.failed(error, upstream, member, attempt.plan, attempt.bounds).verdict
                    {
                        in_flight.judge(verdict);
                    }
                }
            }
        }
        if other_failed && let Some(error) = failed.take() { Poll::Ready(Err(error)) } else { Poll::Pending }
    })
    .await;
    match won {
        Ok((answer, false)) => {
            if !other_failed {
                account.hedge_failed(member, None);
            }
            (Ok(answer), None)
        }
        Ok((answer, true)) => {
            if let Some(error) = failed {
                let why = Why::Label(error.label());
                let told = session.failed(error, first.upstream, first.member, first.plan, first.bounds);
                account.tried(why, told.verdict);
            } else {
                // It took so long at least.
                let latency_ms = started.elapsed().as_secs_f32() * 1000.0;
                session.worker().observe(first.member, Sample::Answered { latency_ms });
            }
            account.hedge_won(upstream, member, in_flight);
            (Ok(answer), Some(Picked { upstream: upstream.clone(), member: member.clone(), probe: None }))
        }
        Err(error) => (Err(error), None),
    }
}

/// Chooses an endpoint for a second request and pays for it; `None` where there is none, or no budget.
fn second(first: &Attempt<'_>, course: &Course) -> Option<(Picked, InFlight)> {
    let session = first.session;
    let now = session.worker().millis();
    let picked = session.pick(&first.plan.seek(&first.parts.headers), course.tried())?;
    let give_back = |picked: &Picked| {
        if let Some(probe) = picked.probe {
            picked.member.state.breaker.abandon(probe, now);
        }
    };
    let is_another = !course.tried().contains(&picked.member.state.id);
    let least = first.upstream.policies.retry.min_per_second;
    if !is_another || !first.upstream.state.budget.withdraw(least, now) {
        give_back(&picked);
        return None;
    }
    let in_flight = InFlight::begin(session, &picked, true)?;
    Some((picked, in_flight))
}
