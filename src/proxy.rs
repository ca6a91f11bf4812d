//! The hot path: one request from top to bottom.
//!
//! ```text
//! handle ─► path, loop, account ─► allowed? ─► route, and what it does ─► head rewritten ─► { pick, connection, send } under the retry budget ─► reply
//! ```
//!
//! Everything it decides by is in one [`Table`](crate::upstream::Table), loaded once. No lock is taken on the way.

pub(crate) mod account;
pub(crate) mod actions;
mod answered;
mod attempt;
mod authorize;
pub(crate) mod body;
pub(crate) mod bounds;
mod demand;
pub(crate) mod destination;
pub(crate) mod exchange;
pub(crate) mod failure;
pub(crate) mod headers;
pub(crate) mod hedge;
mod in_flight;
pub(crate) mod mirror;
pub(crate) mod path;
mod session;
mod tcp;
mod tries;
pub(crate) mod tunnel;

use std::rc::Rc;
use std::time::Duration;

use http::request::Parts;
use http::uri::PathAndQuery;
use http::{Method, Request, StatusCode, header, response};
use tokio::time::Instant;

pub(crate) use self::session::{Encrypted, HeldFailed, Session, WorkerContext};
pub(crate) use self::tcp::carry;

use self::account::Account;
pub(crate) use self::answered::wall;
use self::body::Body;
use self::destination::Found;
use self::exchange::{Exchange, Handler, Reply};
use self::failure::Failure;
use self::tries::{Plan, Served};
use crate::http1::Reject;
use crate::overrides;
use crate::resilience::deadline::Deadline;
use crate::route::Facts;
use crate::timer::after;

/// Longest silence of a body of our own.
const OWN_BODY_IDLE: Duration = Duration::from_secs(10);

impl Handler for Rc<Session> {
    async fn handle(&self, request: Request<Body>, exchange: &mut Exchange<'_>) -> Reply {
        let (mut parts, body) = request.into_parts();
        let mut account = Account::open(self, exchange.received, account::protocol(exchange.version));
        let is_grpc = failure::is_grpc(&parts.headers);
        match self.serve(&mut parts, body, exchange, &mut account, is_grpc).await {
            Ok(Answered::Endpoint(served)) => relay(served, account),
            Ok(Answered::Route(head, body)) => of_route(head, body, account),
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

/// Who answered.
enum Answered {
    Endpoint(Served),
    /// A route, without asking an endpoint.
    Route(response::Parts, Body),
}

impl Session {
    async fn serve(
        self: &Rc<Self>,
        parts: &mut Parts,
        body: Body,
        exchange: &mut Exchange<'_>,
        account: &mut Account,
        is_grpc: bool,
    ) -> Result<Answered, Failure> {
        normalise_path(parts)?;
        let host = parts.headers.get(header::HOST).cloned();
        let host = host.as_ref().and_then(|host| host.to_str().ok()).unwrap_or_default();
        let too_far = headers::hops(&parts.headers) > self.limits().hops;
        let claims = if self.takes_overrides() { headers::Claims::Keep } else { headers::Claims::Strip };
        headers::rewrite_request(&mut parts.headers, self.sender(), exchange.version, exchange.upgrade, claims, || {
            self.new_id()
        });
        exchange.upgrade &= parts.headers.contains_key(header::UPGRADE);
        account.asked(parts, host);
        account.enter().map_err(Failure::Limit)?;
        if too_far {
            return Err(Failure::Loop);
        }
        if self.misdirects(host) {
            return Err(Failure::Misdirected);
        }
        let facts = Facts {
            host,
            path: parts.uri.path(),
            query: parts.uri.query().unwrap_or_default(),
            method: &parts.method,
            headers: &parts.headers,
            is_grpc,
            from: self.identity(),
            address: self.client(),
        };
        let (mut table, mut wait_until) = (self.table(), None);
        if let Some(listener) = table.listener(self.listener_name()) {
            self.authorize(listener, &facts)?;
        }
        let (destination, captures) = loop {
            let listener = table.listener(self.listener_name()).ok_or(Failure::NoRoute)?;
            let (matched, captures) = listener.route(&facts).unzip();
            match self.destination(&table, matched, host, &parts.headers)? {
                Found::At(destination) => break (destination, captures.unwrap_or_default()),
                Found::Wanted(names) => {
                    // Rare, and large: it shall not make the future of every request large.
                    table = Box::pin(self.wait_for(names, &mut wait_until, exchange.timer)).await?;
                }
            }
        };
        let route = destination.route;
        account.routed(&route.name);
        if self.takes_overrides() {
            overrides::pass_on(&mut parts.headers);
        }
        let asked = Deadline::read(&parts.headers, is_grpc, wall);
        account.bounded(asked.as_ref().map(|asked| asked.left));
        let deadline = asked.map(|asked| after(exchange.received, asked.left));
        if deadline.is_some_and(|deadline| deadline <= Instant::now()) {
            return Err(Failure::Deadline);
        }
        let plan = Plan { table: &table, route, to: destination.to(), is_grpc, asked, deadline };
        let does = &route.actions;
        if let Some(limiter) = &does.rate_limit {
            self.admit(limiter, &parts.headers)?;
        }
        if let Some(fault) = &does.fault {
            self.fault(fault, deadline, exchange).await?;
        }
        if let Some(answer) = &does.answer {
            let (mut head, body) = actions::answer(answer, &captures, parts, is_grpc)?;
            does.response_headers.apply(&mut head.headers);
            return Ok(Answered::Route(head, body));
        }
        if let Some(rewrite) = &does.rewrite {
            actions::rewrite(rewrite, &captures, parts)?;
        }
        does.headers.apply(&mut parts.headers);
        let body = match &does.mirror {
            Some(mirror) if !exchange.upgrade => self.mirror(mirror, &table, parts, body),
            _ => body,
        };
        let mut served = self.tries(&plan, parts, body, exchange, account).await?;
        does.response_headers.apply(served.answer.response.headers_mut());
        Ok(Answered::Endpoint(served))
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

/// Brings the path of a request into its one form, or says why it is not taken.
pub(crate) fn normalise_path(parts: &mut Parts) -> Result<(), Failure> {
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

/// Makes a route's answer the reply.
fn of_route(head: response::Parts, body: Body, mut account: Account) -> Reply {
    account.replied(head.status, &head.headers, "");
    Reply { head, body, tunnel: None, close: false, idle_timeout: OWN_BODY_IDLE, deadline: None, account }
}

/// Answers in place of an endpoint.
fn own_reply(failure: &Failure, is_grpc: bool, mut account: Account) -> Reply {
    let (head, body): (response::Parts, Body) = failure.answer(is_grpc);
    let log_status = if is_grpc { StatusCode::OK } else { failure.status() };
    account.replied(log_status, &head.headers, failure.label());
    let close = matches!(failure, Failure::Malformed(_) | Failure::SlowHead | Failure::ClientGone);
    Reply { head, body, tunnel: None, close, idle_timeout: OWN_BODY_IDLE, deadline: None, account }
}
