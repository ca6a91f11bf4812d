//! The tries of one request: pick, send, and what [`Course`] says comes next.

use std::rc::Rc;
use std::time::Duration;

use http::HeaderMap;
use http::request::Parts;
use tokio::time::Instant;

use super::Session;
use super::account::Account;
use super::answered::{self, wall};
use super::attempt::Attempt;
use super::body::{Body, BodyError, Outgoing};
use super::bounds::{self, Bounds};
use super::exchange::Exchange;
use super::failure::{self, Failure, TryError};
use super::hedge;
use super::in_flight::{InFlight, Picked, Seek};
use crate::balance::Sample;
use crate::config::Policies;
use crate::http1::client::Answer;
use crate::resilience::breaker::{Cause, Verdict};
use crate::resilience::course::{Course, Ended, Next, Now, Terms};
use crate::resilience::deadline::Deadline;
use crate::resilience::retry;
use crate::telemetry::access_log::Why;
use crate::timer::after;
use crate::upstream::plan::RoutePlan;
use crate::upstream::tree::Tree;
use crate::upstream::{Member, Table, Upstream};

/// An endpoint's answer, and what bounds its body.
pub(super) struct Served {
    pub(super) answer: Answer,
    pub(super) idle_timeout: Duration,
    pub(super) deadline: Option<Instant>,
}

/// What all tries of a request have in common.
pub(super) struct Plan<'a> {
    pub(super) table: &'a Table,
    pub(super) route: &'a RoutePlan,
    /// Where it leads: what the route says, or an override.
    pub(super) to: &'a Tree<usize>,
    pub(super) is_grpc: bool,
    /// What the client said about when it is too late.
    pub(super) asked: Option<Deadline>,
    /// When that is.
    pub(super) deadline: Option<Instant>,
}

/// What is known of a try without a reply.
pub(super) struct Failed {
    /// `None` ends the request at once.
    ended: Option<Ended>,
    /// What it says about the endpoint; `None`: nothing.
    pub(super) verdict: Option<Verdict>,
    failure: Failure,
}

impl Plan<'_> {
    /// Returns what an endpoint is looked for by.
    pub(super) fn seek<'b>(&'b self, headers: &'b HeaderMap) -> Seek<'b> {
        let Self { table, to, route, .. } = *self;
        Seek { table, to, is_local_hop: route.is_local_hop, headers: Some(headers) }
    }
}

impl Session {
    /// Sends a request until an endpoint answers or no further try is allowed.
    pub(super) async fn tries(
        self: &Rc<Self>,
        plan: &Plan<'_>,
        parts: &mut Parts,
        body: Body,
        exchange: &mut Exchange<'_>,
        account: &mut Account,
    ) -> Result<Served, Failure> {
        let mut course = Course::default();
        let mut outgoing: Option<Outgoing> = None;
        let mut body = Some(body);
        let mut last_failure = None;
        loop {
            let Some(picked) = self.pick(&plan.seek(&parts.headers), course.tried()) else {
                return Err(last_failure.unwrap_or(Failure::NoEndpoint));
            };
            let policies = picked.upstream.policies.clone();
            let retry = plan.route.retry(&picked.upstream.name, &policies);
            if let Some(body) = body.take() {
                outgoing = (!body.is_end()).then(|| Outgoing::new(body, retry.body_limit));
                if let Some(outgoing) = &outgoing {
                    account.uploads(outgoing.progress());
                }
                let (share, least) = (retry.budget, retry.min_per_second);
                picked.upstream.state.budget.deposit(share, least, self.worker().millis());
            }
            course.tries(picked.member.state.id);
            let in_flight = InFlight::begin(self, &picked, !plan.route.is_local_hop)
                .ok_or(Failure::Limit(failure::Limit::Requests))?;
            let Picked { upstream, member, .. } = picked;
            account.tries(&upstream, &member, in_flight);
            account.stamp(&mut parts.headers);
            if let (Some(asked), Some(deadline)) = (&plan.asked, plan.deadline) {
                asked.write(&mut parts.headers, deadline.saturating_duration_since(Instant::now()), wall);
            }
            let has_body = outgoing.is_some();
            let bounds = bounds(plan, &policies, retry.per_try, exchange, outgoing.as_ref());
            let attempt = Attempt {
                session: self,
                plan,
                upstream: &upstream,
                member: &member,
                parts,
                bounds: &bounds,
                interim: &exchange.interim,
                expects_continue: exchange.expects_continue,
                upgrade: exchange.upgrade,
            };
            let (result, winner) = match hedge::after(&attempt, has_body) {
                None => (attempt.run(&mut outgoing, exchange.timer).await, None),
                Some(delay) => Box::pin(hedge::race(&attempt, delay, &mut course, account)).await,
            };
            let Picked { upstream, member, .. } = winner.unwrap_or(Picked { upstream, member, probe: None });
            // Where the reply came before the upload had ended, the upload has gone with the reply.
            let rewinds = outgoing.as_mut().map_or(!has_body, Outgoing::rewind);
            let (why, ended, outcome) = match result {
                Ok((mut answer, latency_ms)) => {
                    let said = answered::read(&mut answer, plan.is_grpc).await;
                    let verdict = answered::verdict(&policies.classify, &said, answer.response.headers());
                    self.worker().observe(&member, Sample::of(verdict, said.retry_after, latency_ms));
                    // Of a stream the trailers tell, and the account hears of them.
                    if !plan.is_grpc || said.grpc.is_some() {
                        account.judge(verdict);
                    }
                    (Why::Reply { status: said.status, grpc: said.grpc }, Ended::Reply(said), Ok(answer))
                }
                Err(error) => {
                    let why = Why::Label(error.label());
                    let failed = self.failed(error, &upstream, &member, plan, &bounds);
                    account.tried(why, failed.verdict);
                    match failed.ended {
                        Some(ended) => (why, ended, Err(failed.failure)),
                        None => return Err(failed.failure),
                    }
                }
            };
            let terms = Terms {
                policy: &retry,
                classify: &policies.classify,
                repeats: retry::may_repeat(&retry, &parts.method),
                is_local_hop: plan.route.is_local_hop,
            };
            let now = Now {
                rewinds,
                left: Some(bounds.end().saturating_duration_since(Instant::now())),
                budget: &upstream.state.budget,
                millis: self.worker().millis(),
                random: self.worker().random_share(),
                another: &|tried| self.has_another(&plan.seek(&parts.headers), tried),
            };
            match course.next(ended, &terms, &now) {
                Next::Done => {
                    return outcome.map(|answer| Served {
                        answer,
                        idle_timeout: policies.idle_timeout,
                        deadline: plan.deadline,
                    });
                }
                Next::Requeue | Next::Resend => self.series(&upstream).service.requeued(),
                Next::Retry { wait, reason } => {
                    if outcome.is_ok() {
                        account.tried(why, None);
                    }
                    self.series(&upstream).service.retried(reason);
                    last_failure = outcome.err();
                    let until = after(Instant::now(), wait);
                    let _ = exchange.timer.bound(Some(until), std::future::pending::<()>()).await;
                    continue;
                }
            }
            last_failure = outcome.err();
        }
    }

    /// Says how a try without a reply ended, what that says about the endpoint, and what the client hears if it was the
    /// last one.
    pub(super) fn failed(
        &self,
        error: TryError,
        upstream: &Upstream,
        member: &Member,
        plan: &Plan<'_>,
        bounds: &Bounds,
    ) -> Failed {
        let told = |cause: Option<Cause>, ended, failure| {
            let verdict = cause.map(Verdict::Failure);
            if let Some(verdict) = verdict {
                // The time that was lost on it is its latency.
                let latency_ms = bounds.whole_at(bounds.began).elapsed().as_secs_f32() * 1000.0;
                self.worker().observe(member, Sample::of(verdict, None, latency_ms));
            }
            Failed { ended, verdict, failure }
        };
        let ended = |ended: Ended, failure| told(ended.blames(), Some(ended), failure);
        let blameless = |failure| told(None, None, failure);
        match error {
            TryError::Client(error) => blameless(client_failure(&error)),
            TryError::Limit(limit) => blameless(Failure::Limit(limit)),
            TryError::NoIdentity { why } => blameless(Failure::ConnectFailed(why)),
            TryError::Malformed(reject) => told(Some(Cause::Answer), None, Failure::BadReply(reject)),
            TryError::Connect { why } => {
                self.worker().connect_failed(upstream, member);
                ended(Ended::Connect, Failure::ConnectFailed(why))
            }
            TryError::Unsent { why } => ended(Ended::Unsent, Failure::Broken(why)),
            TryError::Reset { why, reused } => ended(Ended::Reset { reused }, Failure::Broken(why)),
            TryError::Late if !bounds.is_uploading() => ended(Ended::Late, Failure::Deadline),
            // The client was slow, not the endpoint; or its deadline passed in the middle of its upload.
            TryError::Late if plan.deadline.is_none_or(|deadline| Instant::now() < deadline) => {
                blameless(Failure::SlowBody)
            }
            TryError::Late => blameless(Failure::Deadline),
        }
    }
}

/// Returns how long a try may take.
fn bounds(
    plan: &Plan<'_>,
    policies: &Policies,
    per_try: Option<Duration>,
    exchange: &Exchange<'_>,
    outgoing: Option<&Outgoing>,
) -> Bounds {
    let streams = exchange.upgrade || plan.is_grpc && plan.deadline.is_none();
    let timeout = bounds::timeout(plan.route, policies, streams);
    Bounds {
        received: exchange.received,
        began: Instant::now(),
        deadline: plan.deadline,
        timeout,
        idle: policies.idle_timeout,
        per_try,
        upload: outgoing.map(Outgoing::progress),
    }
}

fn client_failure(error: &BodyError) -> Failure {
    match error {
        BodyError::Malformed(reject) => Failure::Malformed(*reject),
        BodyError::Silent => Failure::SlowBody,
        BodyError::Late => Failure::Deadline,
        BodyError::Gone(_) | BodyError::Reset(_) | BodyError::Upload(_) => Failure::ClientGone,
    }
}
