//! The hot path: one request from top to bottom.
//!
//! ```text
//! handle ─► path, loop, account ─► route ─► head rewritten ─► { pick, connection, send } under the retry budget ─► reply
//! ```
//!
//! Everything it decides by is in one [`Table`], loaded once. No lock is taken on the way.

pub(crate) mod account;
pub(crate) mod body;
mod bounds;
pub(crate) mod exchange;
pub(crate) mod failure;
mod headers;
mod path;
mod session;
mod tcp;
pub(crate) mod tunnel;

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use http::request::Parts;
use http::uri::{PathAndQuery, Scheme};
use http::{HeaderValue, Method, Request, StatusCode, header, response};
use tokio::time::Instant;

pub(crate) use self::session::{Encrypted, HeldFailed, Session, WorkerContext};
pub(crate) use self::tcp::carry;

use self::account::{Account, InFlight};
use self::body::{Body, BodyError, Outgoing};
use self::bounds::Bounds;
use self::exchange::{Exchange, Handler, Reply};
use self::failure::{Failure, TryError};
use crate::balance::Pick;
use crate::config::{Retry, RetryOn, UpstreamProtocol};
use crate::http1::Reject;
use crate::http1::client::{Answer, RequestHead};
use crate::resilience::{deadline, retry};
use crate::timer::after;
use crate::upstream::connect::Wanted;
use crate::upstream::plan::RoutePlan;
use crate::upstream::pool::Ready;
use crate::upstream::{Member, Table, Upstream};
use crate::{http1, http2};

/// Longest silence of a body of our own.
const OWN_BODY_IDLE: Duration = Duration::from_secs(10);
/// What a failure adds to the latency of the endpoint that caused it: nobody is served faster by failing at once.
const FAILURE_MS: f32 = 5000.0;
/// Endpoints that one request may try at the most.
const MAX_TRIES: usize = 16;

impl Handler for Rc<Session> {
    async fn handle(&self, request: Request<Body>, exchange: &mut Exchange<'_>) -> Reply {
        let (mut parts, body) = request.into_parts();
        let mut account = Account::open(self, exchange.received, account::protocol(exchange.version));
        let is_grpc = failure::is_grpc(&parts.headers);
        match self.serve(&mut parts, body, exchange, &mut account, is_grpc).await {
            Ok(served) => relay(served, account),
            Err(failure) => {
                if let Failure::Malformed(reject) = &failure {
                    self.malformed(reject.label());
                }
                own_reply(&failure, is_grpc, account)
            }
        }
    }

    fn refuse(&self, reject: &Reject) -> Reply {
        self.malformed(reject.label());
        let account = Account::open(self, Instant::now(), "http");
        own_reply(&Failure::Malformed(*reject), false, account)
    }

    fn slow(&self) -> Reply {
        self.malformed(Failure::SlowHead.label());
        own_reply(&Failure::SlowHead, false, Account::open(self, Instant::now(), "http"))
    }

    fn abused(&self, label: &'static str) {
        self.malformed(label);
        tracing::debug!(listener = self.listener_name(), reason = label, "A connection was ended.");
    }
}

/// An endpoint's answer, and what bounds its body.
struct Served {
    answer: Answer,
    idle_timeout: Duration,
    deadline: Option<Instant>,
}

/// What all tries of a request have in common.
struct Plan<'a> {
    table: &'a Table,
    route: &'a RoutePlan,
    is_grpc: bool,
    /// The client's own deadline.
    deadline: Option<Instant>,
}

impl Session {
    async fn serve(
        self: &Rc<Self>,
        parts: &mut Parts,
        body: Body,
        exchange: &mut Exchange<'_>,
        account: &mut Account,
        is_grpc: bool,
    ) -> Result<Served, Failure> {
        normalise_path(parts)?;
        let host = parts.headers.get(header::HOST).cloned();
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let too_far = headers::hops(&parts.headers) > self.limits().hops;
        headers::rewrite_request(&mut parts.headers, self.sender(), exchange.version, exchange.upgrade, || {
            self.new_id()
        });
        let id = parts.headers.get(headers::X_REQUEST_ID);
        exchange.upgrade &= parts.headers.contains_key(header::UPGRADE);
        account.asked(parts.method.as_str(), host, parts.uri.path(), id);
        if too_far {
            return Err(Failure::Loop);
        }
        if self.misdirects(host) {
            return Err(Failure::Misdirected);
        }
        let table = self.table();
        let listener = table.listener(self.listener_name()).ok_or(Failure::NoRoute)?;
        let route = listener.route(host, parts.uri.path()).ok_or(Failure::NoRoute)?;
        account.routed(&route.name);
        let client_deadline = deadline::grpc_timeout(&parts.headers).filter(|_| is_grpc);
        let plan = Plan {
            table: &table,
            route,
            is_grpc,
            deadline: client_deadline.map(|timeout| after(exchange.received, timeout)),
        };
        if plan.deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Failure::Deadline);
        }
        self.tries(&plan, parts, body, exchange, account).await
    }

    /// Sends a request until an endpoint answers or no further try is allowed.
    async fn tries(
        self: &Rc<Self>,
        plan: &Plan<'_>,
        parts: &mut Parts,
        body: Body,
        exchange: &mut Exchange<'_>,
        account: &mut Account,
    ) -> Result<Served, Failure> {
        let mut tried = Tried::default();
        let mut outgoing: Option<Outgoing> = None;
        let mut body = Some(body);
        let (mut sent, mut requeues) = (0u32, 0u32);
        let mut last_failure = None;
        loop {
            let Some((upstream, member)) = self.pick(plan, tried.as_slice()) else {
                return Err(last_failure.unwrap_or(Failure::NoEndpoint));
            };
            let policies = upstream.policies.clone();
            let policy = &policies.retry;
            if let Some(body) = body.take() {
                outgoing = (!body.is_end()).then(|| Outgoing::new(body, policy.body_limit));
                if let Some(outgoing) = &outgoing {
                    account.uploads(outgoing.progress());
                }
                upstream.state.budget.deposit(policy.budget, policy.min_per_second, self.worker().millis());
            }
            tried.push(member.state.id);
            let in_flight = InFlight::begin(&upstream, &member).ok_or(Failure::Limit(failure::Limit::Requests))?;
            account.tries(&upstream, &member, in_flight);
            let has_body = outgoing.is_some();
            let bounds = bounds(plan, &upstream, exchange, outgoing.as_ref());
            let result = self.one_try(plan, &upstream, &member, parts, &mut outgoing, exchange, &bounds).await;
            // Where the reply came before the upload had ended, the upload has gone with the reply.
            let rewinds = match outgoing.as_mut() {
                Some(outgoing) => outgoing.rewind(),
                None => !has_body,
            } && !tried.is_full();
            let error = match result {
                Ok(answer) => {
                    let status = answer.response.status();
                    let grpc = account::head_grpc_status(answer.response.headers());
                    let wants_retry = !plan.route.is_local_hop
                        && retry::on_status(policy, status.as_u16(), grpc)
                        // A peer's limit says "less", not "again".
                        && !answer.response.headers().contains_key(failure::MESHLESS_ERROR);
                    if wants_retry
                        && rewinds
                        && retry::may_repeat(policy, &parts.method)
                        && self.may_retry(&upstream, sent, "status")
                    {
                        sent += 1;
                        drop(answer);
                        self.worker().observe(&member, FAILURE_MS);
                        self.pause(policy, sent, &bounds, exchange).await?;
                        continue;
                    }
                    return Ok(Served { answer, idle_timeout: policies.idle_timeout, deadline: plan.deadline });
                }
                Err(error) => error,
            };
            account.tried();
            let in_time = Instant::now() < bounds.end();
            let rewinds = rewinds && in_time;
            match error {
                TryError::Client(error) => return Err(client_failure(&error)),
                TryError::Limit(limit) => return Err(Failure::Limit(limit)),
                TryError::Malformed(reject) => {
                    self.worker().observe(&member, FAILURE_MS);
                    return Err(Failure::BadReply(reject));
                }
                TryError::Connect { why } => {
                    self.worker().observe(&member, FAILURE_MS);
                    self.worker().connect_failed(&upstream, &member);
                    last_failure = Some(Failure::ConnectFailed(why));
                    // Only another endpoint helps.
                    let another = self
                        .pick(plan, tried.as_slice())
                        .is_some_and(|(_, next)| !tried.as_slice().contains(&next.state.id));
                    if requeues < retry::MAX_REQUEUES && rewinds && another {
                        requeues += 1;
                        self.series(&upstream).service.requeued();
                        continue;
                    }
                }
                TryError::Unsent { why } => {
                    last_failure = Some(Failure::Broken(why));
                    if requeues < retry::MAX_REQUEUES && rewinds {
                        requeues += 1;
                        self.series(&upstream).service.requeued();
                        continue;
                    }
                }
                TryError::Reset { why, reused } => {
                    self.worker().observe(&member, FAILURE_MS);
                    last_failure = Some(Failure::Broken(why));
                    let may = retry::may_repeat(policy, &parts.method) && rewinds;
                    // An idle connection that the endpoint closed under our hands says nothing about the endpoint.
                    if may && reused && requeues < retry::MAX_REQUEUES {
                        requeues += 1;
                        tried.pop();
                        self.series(&upstream).service.requeued();
                        continue;
                    }
                    if may
                        && !plan.route.is_local_hop
                        && policy.on.contains(&RetryOn::Reset)
                        && self.may_retry(&upstream, sent, "reset")
                    {
                        sent += 1;
                        self.pause(policy, sent, &bounds, exchange).await?;
                        continue;
                    }
                }
                TryError::Late => {
                    if !bounds.is_uploading() {
                        self.worker().observe(&member, FAILURE_MS);
                    }
                    if bounds.is_uploading() && plan.deadline.is_none_or(|deadline| Instant::now() < deadline) {
                        return Err(Failure::SlowBody);
                    }
                    last_failure = Some(Failure::Deadline);
                    if rewinds && retry::may_repeat(policy, &parts.method) && self.may_retry(&upstream, sent, "per_try")
                    {
                        sent += 1;
                        continue;
                    }
                }
            }
            return Err(last_failure.unwrap_or(Failure::NoEndpoint));
        }
    }

    /// Asks attempts and budget for one more try, and pays for it.
    fn may_retry(&self, upstream: &Upstream, sent: u32, reason: &'static str) -> bool {
        let policy = &upstream.policies.retry;
        let may =
            sent + 1 < policy.attempts && upstream.state.budget.withdraw(policy.min_per_second, self.worker().millis());
        if may {
            self.series(upstream).service.retried(reason);
        }
        may
    }

    async fn pause(
        &self,
        policy: &Retry,
        sent: u32,
        bounds: &Bounds,
        exchange: &mut Exchange<'_>,
    ) -> Result<(), Failure> {
        let wait = after(Instant::now(), retry::backoff(policy, sent, self.worker().random_share()));
        if bounds.end() <= wait {
            return Err(Failure::Deadline);
        }
        let _ = exchange.timer.bound(Some(wait), std::future::pending::<()>()).await;
        Ok(())
    }

    fn pick(&self, plan: &Plan<'_>, tried: &[u64]) -> Option<(Arc<Upstream>, Arc<Member>)> {
        let now = self.worker().millis();
        self.worker().with_random(|random| {
            let (upstream, member) = plan.table.pick(&plan.route.to, &mut Pick { now, random, tried })?;
            Some((upstream.clone(), member.clone()))
        })
    }

    /// One try: a connection, the request, the head of the reply.
    #[allow(clippy::too_many_arguments, reason = "what a try needs is what it needs")]
    async fn one_try(
        self: &Rc<Self>,
        plan: &Plan<'_>,
        upstream: &Arc<Upstream>,
        member: &Arc<Member>,
        parts: &mut Parts,
        outgoing: &mut Option<Outgoing>,
        exchange: &mut Exchange<'_>,
        bounds: &Bounds,
    ) -> Result<Answer, TryError> {
        let end = || Some(bounds.end_of_try());
        if let Some(deadline) = plan.deadline {
            let left = deadline.saturating_duration_since(Instant::now());
            if let Ok(value) = HeaderValue::try_from(deadline::to_grpc_timeout(left)) {
                parts.headers.insert("grpc-timeout", value);
            }
        }
        let wanted = wanted(upstream, member, plan.is_grpc, exchange.upgrade);
        let series = self.series(upstream);
        let pools = self.worker().pools();
        let ready = {
            // Connecting has a timer of its own inside; the outer bound is the request's.
            let mut connect_timer = crate::timer::Timer::default();
            let taking = pools.take(upstream, member, wanted, &series, &mut connect_timer);
            exchange.timer.bound_by(end, taking).await.map_err(|_| TryError::Late)??
        };
        let started = Instant::now();
        let interim = exchange.interim.clone();
        let answer = match ready {
            Ready::Http1(connection) => {
                let head = RequestHead {
                    method: &parts.method,
                    uri: &parts.uri,
                    headers: &parts.headers,
                    expects_continue: exchange.expects_continue,
                    upgrade: exchange.upgrade,
                };
                let mut gate_timer = crate::timer::Timer::default();
                let sending = http1::client::exchange(connection, head, outgoing, &interim, &mut gate_timer);
                exchange.timer.bound_by(end, sending).await.map_err(|_| TryError::Late)??
            }
            Ready::Http2(session) => {
                let scheme = if upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
                let sending = http2::client::exchange(
                    session,
                    &parts.method,
                    &scheme,
                    &parts.uri,
                    &parts.headers,
                    outgoing,
                    &interim,
                );
                exchange.timer.bound_by(end, sending).await.map_err(|_| TryError::Late)??
            }
        };
        let latency = started.elapsed().as_secs_f32() * 1000.0;
        self.worker().observe(member, latency);
        Ok(answer)
    }
}

/// Ids of the endpoints that a request was tried on, without an allocation.
#[derive(Debug, Default)]
struct Tried {
    ids: [u64; MAX_TRIES],
    count: usize,
}

impl Tried {
    fn push(&mut self, id: u64) {
        if let Some(place) = self.ids.get_mut(self.count) {
            *place = id;
            self.count += 1;
        }
    }

    fn pop(&mut self) {
        self.count = self.count.saturating_sub(1);
    }

    fn is_full(&self) -> bool {
        self.count == MAX_TRIES
    }

    fn as_slice(&self) -> &[u64] {
        self.ids.get(..self.count).unwrap_or_default()
    }
}

/// Returns how long a try may take.
fn bounds(plan: &Plan<'_>, upstream: &Upstream, exchange: &Exchange<'_>, outgoing: Option<&Outgoing>) -> Bounds {
    let policies = &upstream.policies;
    let timeout = match plan.route.timeout {
        // Streams may last: gRPC without a deadline and upgrades are bounded by silence alone.
        _ if exchange.upgrade || plan.is_grpc && plan.deadline.is_none() => None,
        Some(timeout) => Some(timeout),
        None if plan.route.is_local_hop => None,
        None => Some(policies.timeout),
    };
    Bounds {
        received: exchange.received,
        began: Instant::now(),
        deadline: plan.deadline,
        timeout,
        idle: policies.idle_timeout,
        per_try: policies.retry.per_try,
        upload: outgoing.map(Outgoing::progress),
    }
}

/// Makes an endpoint's answer the reply.
fn relay(served: Served, mut account: Account) -> Reply {
    let Served { answer, idle_timeout, deadline } = served;
    let (mut head, body) = answer.response.into_parts();
    let switches = answer.upgraded.is_some();
    headers::rewrite_response(&mut head.headers, head.version, switches);
    account.replied(head.status, &head.headers, "");
    Reply { head, body, tunnel: answer.upgraded, close: false, idle_timeout, deadline, account }
}

fn normalise_path(parts: &mut Parts) -> Result<(), Failure> {
    let Some(target) = parts.uri.path_and_query() else { return Ok(()) };
    if target.as_str() == "*" && parts.method == Method::OPTIONS {
        return Ok(());
    }
    match path::normalise(target.as_str()).map_err(Failure::Malformed)? {
        std::borrow::Cow::Borrowed(_) => Ok(()),
        std::borrow::Cow::Owned(normal) => {
            let normal = PathAndQuery::try_from(normal).map_err(|_| Failure::Malformed(Reject::Path))?;
            parts.uri = normal.into();
            Ok(())
        }
    }
}

fn wanted(upstream: &Upstream, member: &Member, is_grpc: bool, upgrade: bool) -> Wanted {
    use meshless_discovery::AppProtocol;
    match upstream.policies.protocol {
        _ if upgrade => Wanted::Http1,
        UpstreamProtocol::Http2 => Wanted::Http2,
        UpstreamProtocol::Tcp => Wanted::Bytes,
        UpstreamProtocol::Auto if upstream.tls.is_some() => Wanted::Either,
        UpstreamProtocol::Auto if is_grpc || member.endpoint.protocol == Some(AppProtocol::H2c) => Wanted::Http2,
        UpstreamProtocol::Http1 | UpstreamProtocol::Auto => Wanted::Http1,
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

/// Answers in place of an endpoint.
fn own_reply(failure: &Failure, is_grpc: bool, mut account: Account) -> Reply {
    let (head, body): (response::Parts, Body) = failure.answer(is_grpc);
    let log_status = if is_grpc { StatusCode::OK } else { failure.status() };
    account.replied(log_status, &head.headers, failure.label());
    let close = matches!(failure, Failure::Malformed(_) | Failure::SlowHead | Failure::ClientGone);
    Reply { head, body, tunnel: None, close, idle_timeout: OWN_BODY_IDLE, deadline: None, account }
}
