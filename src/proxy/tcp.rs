//! TCP, and TLS that is passed on unopened: an endpoint is chosen once, then only bytes.

use std::rc::Rc;

use http::{HeaderMap, StatusCode};
use tokio::time::Instant;

use super::account::{Account, InFlight};
use super::exchange::Outcome;
use super::failure::{Failure, Limit, TryError};
use super::{FAILURE_MS, Session, tunnel};
use crate::balance::Pick;
use crate::resilience::retry;
use crate::stream::Stream;
use crate::timer::{Timer, after};

/// Carries a client's bytes to an endpoint. `host` is the SNI of TLS that is passed on, else empty.
pub(crate) async fn carry(session: &Rc<Session>, client: Stream, host: &str) {
    let mut account = Account::open(session, Instant::now(), if host.is_empty() { "tcp" } else { "tls" });
    account.asked("", host, "", None);
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
    let table = session.table();
    let listener = table.listener(session.listener_name()).ok_or(Failure::NoRoute)?;
    let route = listener.route(host, "/").ok_or(Failure::NoRoute)?;
    account.routed(&route.name);
    let mut timer = Timer::default();
    let mut tried: Vec<u64> = Vec::new();
    let mut last_failure = Failure::NoEndpoint;
    for _ in 0..=retry::MAX_REQUEUES {
        let now = worker.millis();
        let picked = worker.with_random(|random| {
            let (upstream, member) = table.pick(&route.to, &mut Pick { now, random, tried: &tried })?;
            Some((upstream.clone(), member.clone()))
        });
        let Some((upstream, member)) = picked else { return Err(last_failure) };
        tried.push(member.state.id);
        let in_flight = InFlight::begin(&upstream, &member).ok_or(Failure::Limit(Limit::Requests))?;
        account.tries(&upstream, &member, in_flight);
        let series = session.series(&upstream);
        let started = Instant::now();
        let deadline = after(started, upstream.policies.timeout);
        let mut connect_timer = Timer::default();
        let opening = worker.pools().tunnel(&upstream, &member, &series, &mut connect_timer);
        match timer.bound(Some(deadline), opening).await {
            Ok(Ok((endpoint, lease))) => {
                worker.observe(&member, started.elapsed().as_secs_f32() * 1000.0);
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
            Ok(Err(error)) => {
                worker.observe(&member, FAILURE_MS);
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
        account.tried();
        session.series(&upstream).service.requeued();
    }
    Err(last_failure)
}
