//! TCP, and TLS that is passed on unopened: an endpoint is chosen once, then only bytes.

use std::rc::Rc;

use http::{HeaderMap, Method, StatusCode};
use tokio::time::Instant;

use super::account::Account;
use super::destination::Found;
use super::exchange::Outcome;
use super::failure::{Failure, Limit, TryError};
use super::in_flight::{InFlight, Picked, Seek};
use super::{Session, tunnel};
use crate::balance::Sample;
use crate::resilience::breaker::{Cause, Verdict};
use crate::resilience::retry;
use crate::route::Facts;
use crate::stream::Stream;
use crate::telemetry::access_log::Why;
use crate::timer::{Timer, after};

/// Carries a client's bytes to an endpoint. `host` is the SNI of TLS that is passed on, else empty.
pub(crate) async fn carry(session: &Rc<Session>, mut client: Stream, host: &str) {
    session.carries_bytes(&mut client);
    let mut account = Account::open(session, Instant::now(), if host.is_empty() { "tcp" } else { "tls" });
    account.asked_for_bytes(host);
    if let Err(failure) = connect_and_carry(session, client, host, &mut account).await {
        // There is no way to tell a TCP client why; the access log and the metric say it.
        account.replied(failure.status(), &HeaderMap::new(), failure.label());
    }
    account.finish(Outcome::Complete);
}

async fn connect_and_carry(
    session: &Rc<Session>,
    client: Stream,
    host: &str,
    account: &mut Account,
) -> Result<(), Failure> {
    let worker = session.worker();
    let no_headers = HeaderMap::new();
    let facts = Facts {
        host,
        // Routes that ask for anything below are not for such a listener.
        path: "/",
        query: "",
        method: &Method::CONNECT,
        headers: &no_headers,
        is_grpc: false,
        from: session.identity(),
        address: session.client(),
    };
    let mut timer = Timer::default();
    let (mut table, mut wait_until) = (session.table(), None);
    if let Some(listener) = table.listener(session.listener_name()) {
        session.authorize_bytes(listener)?;
    }
    let destination = loop {
        let listener = table.listener(session.listener_name()).ok_or(Failure::NoRoute)?;
        let matched = listener.route(&facts).map(|(route, _)| route);
        match session.destination(&table, matched, host, &no_headers)? {
            Found::At(destination) => break destination,
            Found::Wanted(names) => {
                table = Box::pin(session.wait_for(names, &mut wait_until, &mut timer)).await?;
            }
        }
    };
    let route = destination.route;
    account.routed(&route.name);
    let mut tried: Vec<u64> = Vec::new();
    let mut last_failure = Failure::NoEndpoint;
    for _ in 0..=retry::MAX_REQUEUES {
        let seek = Seek { table: &table, to: destination.to(), is_local_hop: route.is_local_hop, headers: None };
        let Some(picked) = session.pick(&seek, &tried) else { return Err(last_failure) };
        tried.push(picked.member.state.id);
        let in_flight =
            InFlight::begin(session, &picked, !route.is_local_hop).ok_or(Failure::Limit(Limit::Requests))?;
        let Picked { upstream, member, .. } = picked;
        account.tries(&upstream, &member, in_flight);
        let series = session.series(&upstream);
        let started = Instant::now();
        let deadline = after(started, upstream.policies.timeout);
        let mut connect_timer = Timer::default();
        let opening = worker.pools().tunnel(&upstream, &member, &series, &mut connect_timer);
        match timer.bound(Some(deadline), opening).await {
            Ok(Ok((endpoint, lease))) => {
                worker.observe(&member, Sample::Answered { latency_ms: started.elapsed().as_secs_f32() * 1000.0 });
                account.judge(Verdict::Success);
                account.replied(StatusCode::OK, &HeaderMap::new(), "");
                let idle = upstream.policies.idle_timeout;
                // The account holds the place in flight; the table may go on without us.
                drop((table, series));
                let carried = tunnel::run(client, endpoint, idle, &mut timer).await;
                drop(lease);
                account.carried(&carried);
                return Ok(());
            }
            Ok(Err(TryError::Limit(limit))) => return Err(Failure::Limit(limit)),
            Ok(Err(TryError::NoIdentity { why })) => return Err(Failure::ConnectFailed(why)),
            Ok(Err(error)) => {
                account.tried(Why::Label(error.label()), Some(Verdict::Failure(Cause::Connect)));
                worker.observe(&member, Sample::Unreachable);
                worker.connect_failed(&upstream, &member);
                last_failure = match error {
                    TryError::Connect { why } | TryError::Unsent { why } | TryError::Reset { why, .. } => {
                        Failure::ConnectFailed(why)
                    }
                    other => Failure::ConnectFailed(format!("{other:?}")),
                };
            }
            Err(_) => return Err(Failure::Deadline),
        }
        session.series(&upstream).service.requeued();
    }
    Err(last_failure)
}
