//! Connections to endpoints: each worker has its own, the limits count over all.

use std::cell::{Cell, OnceCell, RefCell};
use std::collections::HashMap;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::{Rc, Weak};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Poll;
use std::time::{Duration, SystemTime};

use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

use super::connect::{self, Fresh, Wanted};
use super::{Member, MemberState, Upstream, UpstreamState};
use crate::handshake::NO_IDENTITY;
use crate::http1::client::Connection;
use crate::http2::client::Session;
use crate::proxy::failure::{Limit, TryError};
use crate::stream::Stream;
use crate::telemetry::metrics::{ServiceSeries, TcpSeries};
use crate::telemetry::rarely::Rarely;
use crate::timer::{Timer, after};
use crate::trust::{Bond, Trust};

/// An idle connection is closed after this: before the endpoint does, whose limit is usually a minute.
const IDLE: Duration = Duration::from_secs(30);
/// How often idle connections are looked through.
pub(crate) const SWEEP: Duration = Duration::from_millis(250);

/// The connections of one worker.
#[derive(Debug)]
pub(crate) struct Pools {
    members: RefCell<HashMap<u64, Pool>>,
    trust: Rc<Trust>,
    /// What was said lately of endpoints that are refused.
    rarely: Rarely,
    /// Wakes requests of this worker that wait for a connection, by upstream.
    waiting: RefCell<HashMap<u64, Rc<Waiting>>>,
}

/// Connections to one endpoint.
#[derive(Debug, Default)]
struct Pool {
    member: Option<Arc<MemberState>>,
    idle: Vec<(Connection, Instant)>,
    sessions: Vec<Rc<Session>>,
    /// An HTTP/2 session is being opened; who wants one waits for it instead of opening another.
    opening: bool,
    opened: Rc<Notify>,
}

#[derive(Debug, Default)]
struct Waiting {
    count: Cell<usize>,
    freed: Notify,
}

/// A connection's place in the pool and under the limits.
#[derive(Debug, Clone)]
pub(crate) struct Lease(Rc<LeaseInner>);

#[derive(Debug)]
struct LeaseInner {
    pools: Weak<Pools>,
    member: Arc<MemberState>,
    upstream: Arc<UpstreamState>,
    /// `None` only while it is dropped.
    permit: Option<OwnedSemaphorePermit>,
    /// Who the endpoint is, for TLS of the mesh.
    bond: OnceCell<Rc<Bond>>,
}

impl Drop for LeaseInner {
    fn drop(&mut self) {
        self.member.connections.fetch_sub(1, Ordering::Relaxed);
        if let Some(permit) = self.permit.take() {
            self.upstream.give_back(permit);
        }
    }
}

impl Lease {
    /// Returns what tells others of a place on a session that has this lease.
    pub(crate) fn vacancy(&self) -> Vacancy {
        Vacancy { pools: self.0.pools.clone(), upstream: self.0.upstream.id }
    }

    /// Returns who the endpoint is, for TLS of the mesh.
    pub(crate) fn bond(&self) -> Option<Rc<Bond>> {
        self.0.bond.get().cloned()
    }

    /// Tells whether the endpoint is trusted no longer, so that nothing more may be sent to it by this connection.
    pub(crate) fn is_lost(&self) -> bool {
        self.0.bond.get().is_some_and(|bond| bond.is_lost())
    }

    /// Puts an HTTP/1.1 connection whose exchange has ended into the pool.
    pub(crate) fn give_back(&self, connection: Connection) {
        let Some(pools) = self.0.pools.upgrade() else { return };
        let waiting = pools.waiting.borrow().get(&self.0.upstream.id).cloned();
        let here = waiting.as_ref().map_or(0, |waiting| waiting.count.get());
        if here == 0 && self.0.upstream.waiting.load(Ordering::Relaxed) > 0 {
            // Only other workers wait, and they cannot use this connection: its permit is what they need.
            return;
        }
        if self.0.member.gone.load(Ordering::Relaxed) || self.is_lost() {
            return;
        }
        // The pool may have been swept away while all of its connections were in use.
        pools.of(&self.0.member, |pool| pool.idle.push((connection, Instant::now())));
        if let Some(waiting) = waiting {
            waiting.freed.notify_one();
        }
    }
}

/// Wakes a request that waits for a connection: a session has a place again.
#[derive(Debug)]
pub(crate) struct Vacancy {
    pools: Weak<Pools>,
    upstream: u64,
}

impl Vacancy {
    pub(crate) fn announce(&self) {
        if let Some(pools) = self.pools.upgrade()
            && let Some(waiting) = pools.waiting.borrow().get(&self.upstream)
        {
            waiting.freed.notify_one();
        }
    }
}

/// A way to send one request.
#[derive(Debug)]
#[allow(clippy::large_enum_variant, reason = "a box would be one more allocation for each request")]
pub(crate) enum Ready {
    Http1(Connection),
    Http2(Rc<Session>),
}

/// The counters that a connection is entered into.
#[derive(Debug)]
pub(crate) struct Series {
    pub(crate) service: Rc<ServiceSeries>,
    pub(crate) destination: Rc<TcpSeries>,
}

impl Pools {
    pub(crate) fn new(trust: Rc<Trust>) -> Rc<Self> {
        let (members, waiting) = (RefCell::default(), RefCell::default());
        Rc::new(Self { members, trust, rarely: Rarely::default(), waiting })
    }

    /// Takes an idle connection, or a place on a session, or opens one; waits while the limit is reached.
    pub(crate) async fn take(
        self: &Rc<Self>,
        upstream: &Upstream,
        member: &Member,
        wanted: Wanted,
        series: &Series,
        timer: &mut Timer,
    ) -> Result<Ready, TryError> {
        // One patience for all waits, however often something becomes free that another request is quicker to take.
        let mut patience = None;
        loop {
            if let Some(ready) = self.take_idle(member.state.id, wanted) {
                return Ok(ready);
            }
            // Boxed, because it is rare and large: the state of a handshake would make every idle connection larger.
            if let Some(ready) = Box::pin(self.fresh(upstream, member, wanted, series, &mut patience, timer)).await? {
                return Ok(ready);
            }
        }
    }

    /// Opens a connection; `None`: look again, another one may have become free.
    async fn fresh(
        self: &Rc<Self>,
        upstream: &Upstream,
        member: &Member,
        wanted: Wanted,
        series: &Series,
        patience: &mut Option<Instant>,
        timer: &mut Timer,
    ) -> Result<Option<Ready>, TryError> {
        let Some(permit) = self.permit(upstream, member, wanted, patience, timer).await? else { return Ok(None) };
        if wanted == Wanted::Http2
            && let Some(opened) = self.opening(member.state.id)
        {
            drop(permit);
            opened.notified().await;
            return Ok(None);
        }
        let lease = self.lease(upstream, member, permit);
        self.open(upstream, member, wanted, lease, series, timer).await.map(Some)
    }

    /// Opens a connection that only carries bytes.
    pub(crate) async fn tunnel(
        self: &Rc<Self>,
        upstream: &Upstream,
        member: &Member,
        series: &Series,
        timer: &mut Timer,
    ) -> Result<(Stream, Lease), TryError> {
        let mut patience = None;
        let permit = loop {
            if let Some(permit) = self.permit(upstream, member, Wanted::Bytes, &mut patience, timer).await? {
                break permit;
            }
        };
        let lease = self.lease(upstream, member, permit);
        let fresh = self.connect(upstream, member, Wanted::Bytes, &lease, series, timer).await?;
        Ok((fresh.stream, lease))
    }

    fn take_idle(&self, member: u64, wanted: Wanted) -> Option<Ready> {
        let mut members = self.members.borrow_mut();
        let pool = members.get_mut(&member)?;
        if wanted.takes_http2()
            && let Some(session) = pool.sessions.iter().find(|session| session.has_room())
        {
            return Some(Ready::Http2(session.clone()));
        }
        if wanted.takes_http1() {
            // The one that was used last is the least likely to be closed by the endpoint.
            while let Some((mut connection, _)) = pool.idle.pop() {
                if connection.is_quiet() {
                    return Some(Ready::Http1(connection));
                }
            }
        }
        None
    }

    /// Returns a permit for a connection; `None`: look again, one may have become free.
    async fn permit(
        &self,
        upstream: &Upstream,
        member: &Member,
        wanted: Wanted,
        patience: &mut Option<Instant>,
        timer: &mut Timer,
    ) -> Result<Option<OwnedSemaphorePermit>, TryError> {
        let state = &upstream.state;
        if let Ok(permit) = state.connections.clone().try_acquire_owned() {
            return Ok(Some(permit));
        }
        // An idle connection to another endpoint of this upstream gives its place up first.
        if self.close_one_idle(upstream)
            && let Ok(permit) = state.connections.clone().try_acquire_owned()
        {
            return Ok(Some(permit));
        }
        let limits = &upstream.policies.limits;
        let _guard = WaitGuard::new(&state.waiting, limits.pending)?;
        let waiting = self.waiting.borrow_mut().entry(state.id).or_default().clone();
        let _here = CountGuard::new(waiting.clone());
        let deadline = *patience.get_or_insert_with(|| after(Instant::now(), limits.queue));
        let mut acquiring = pin!(state.connections.clone().acquire_owned());
        let mut freed = pin!(waiting.freed.notified());
        let permit_or_free = poll_fn(|context| {
            if let Poll::Ready(permit) = acquiring.as_mut().poll(context) {
                return Poll::Ready(permit.ok());
            }
            freed.as_mut().poll(context).map(|()| None)
        });
        let permit = timer.bound(Some(deadline), permit_or_free).await.map_err(|_| TryError::Limit(Limit::Queue))?;
        if permit.is_none() && !wanted.takes_http1() && !wanted.takes_http2() {
            // What became free is of no use for bytes, but its place is.
            self.close_one_idle(upstream);
        } else if permit.is_none() && !self.has_idle(member.state.id) {
            self.close_one_idle(upstream);
        }
        Ok(permit)
    }

    /// Changes the pool of an endpoint, which is made where there is none.
    fn of(&self, member: &Arc<MemberState>, change: impl FnOnce(&mut Pool)) {
        let mut members = self.members.borrow_mut();
        let pool = members.entry(member.id).or_default();
        pool.member.get_or_insert_with(|| member.clone());
        change(pool);
    }

    fn has_idle(&self, member: u64) -> bool {
        self.members.borrow().get(&member).is_some_and(|pool| !pool.idle.is_empty())
    }

    fn close_one_idle(&self, upstream: &Upstream) -> bool {
        let mut members = self.members.borrow_mut();
        upstream.members.keys().any(|member| {
            members.get_mut(member).is_some_and(|pool| {
                if pool.idle.is_empty() {
                    return false;
                }
                drop(pool.idle.remove(0));
                true
            })
        })
    }

    fn opening(&self, member: u64) -> Option<Rc<Notify>> {
        let members = self.members.borrow();
        let pool = members.get(&member)?;
        pool.opening.then(|| pool.opened.clone())
    }

    fn lease(self: &Rc<Self>, upstream: &Upstream, member: &Member, permit: OwnedSemaphorePermit) -> Lease {
        member.state.connections.fetch_add(1, Ordering::Relaxed);
        Lease(Rc::new(LeaseInner {
            pools: Rc::downgrade(self),
            member: member.state.clone(),
            upstream: upstream.state.clone(),
            permit: Some(permit),
            bond: OnceCell::new(),
        }))
    }

    async fn open(
        self: &Rc<Self>,
        upstream: &Upstream,
        member: &Member,
        wanted: Wanted,
        lease: Lease,
        series: &Series,
        timer: &mut Timer,
    ) -> Result<Ready, TryError> {
        let id = member.state.id;
        self.of(&member.state, |_| ());
        let _opening = (wanted == Wanted::Http2).then(|| Opening::new(self, id));
        let fresh = self.connect(upstream, member, wanted, &lease, series, timer).await?;
        if !fresh.is_http2 {
            return Ok(Ready::Http1(Connection::new(fresh.stream, lease)));
        }
        let deadline = after(Instant::now(), upstream.policies.connect_timeout);
        let session = timer
            .bound(Some(deadline), Session::open(fresh.stream, lease))
            .await
            .map_err(|_| TryError::Connect { why: "no HTTP/2 handshake within connect_timeout".to_owned() })??;
        self.of(&member.state, |pool| pool.sessions.push(session.clone()));
        // Who waits for a connection of its own may find a place on this one.
        if let Some(waiting) = self.waiting.borrow().get(&upstream.state.id) {
            waiting.freed.notify_waiters();
        }
        Ok(Ready::Http2(session))
    }

    async fn connect(
        &self,
        upstream: &Upstream,
        member: &Member,
        wanted: Wanted,
        lease: &Lease,
        series: &Series,
        timer: &mut Timer,
    ) -> Result<Fresh, TryError> {
        let started = Instant::now();
        let deadline = after(started, upstream.policies.connect_timeout);
        let connecting =
            connect::connect(&member.endpoint.address, upstream.tls.as_deref(), wanted, &series.destination);
        match timer.bound(Some(deadline), connecting).await {
            Ok(Ok(mut fresh)) => {
                series.service.connected(started.elapsed());
                if let Some(shown) = fresh.shown.take() {
                    let bond = self.trust.watch_endpoint(shown, SystemTime::now());
                    fresh.stream.cut_by(bond.cut().clone());
                    let _ = lease.0.bond.set(bond);
                }
                Ok(fresh)
            }
            Ok(Err(error)) => {
                series.service.connect_failed(error.label);
                let (address, is_mesh) = (&member.endpoint.address, upstream.policies.tls.is_mesh());
                if is_mesh && self.rarely.may_say(&(error.label, member.state.id), Instant::now()) {
                    let (service, reason, why) = (&*upstream.name, error.label, &*error.why);
                    tracing::warn!(service, endpoint = %address, reason, why, "No connection of the mesh to an endpoint.");
                }
                let why = format!("{}: {}", member.endpoint.address, error.why);
                Err(if error.label == NO_IDENTITY { TryError::NoIdentity { why } } else { TryError::Connect { why } })
            }
            Err(_) => {
                series.service.connect_failed("timeout");
                Err(TryError::Connect {
                    why: format!("{}: no connection within connect_timeout", member.endpoint.address),
                })
            }
        }
    }

    /// Closes what was idle for too long, what the endpoint closed, and what others need more.
    pub(crate) fn sweep(&self, upstreams: &[Arc<Upstream>], now: Instant) {
        let mut members = self.members.borrow_mut();
        members.retain(|_, pool| {
            pool.idle.retain_mut(|(connection, since)| {
                now.duration_since(*since) < IDLE && !connection.lease.is_lost() && connection.is_quiet()
            });
            pool.sessions.retain(|session| {
                let is_fresh = |since| now.duration_since(since) < IDLE && !session.is_lost();
                !session.is_closed() && session.idle_since().is_none_or(is_fresh)
            });
            pool.opening || !pool.idle.is_empty() || !pool.sessions.is_empty()
        });
        drop(members);
        for upstream in upstreams {
            if upstream.state.waiting.load(Ordering::Relaxed) > 0 {
                self.close_one_idle(upstream);
            }
        }
        self.waiting.borrow_mut().retain(|_, waiting| waiting.count.get() > 0);
    }

    /// Closes every connection to an endpoint that idles.
    pub(crate) fn close_idle(&self) {
        for pool in self.members.borrow_mut().values_mut() {
            pool.idle.clear();
            pool.sessions.retain(|session| session.idle_since().is_none());
        }
    }

    /// Closes idle connections to endpoints that are gone. What is in use ends with its exchange.
    pub(crate) fn forget_gone(&self) {
        let is_gone = |pool: &Pool| pool.member.as_ref().is_some_and(|member| member.gone.load(Ordering::Relaxed));
        self.members.borrow_mut().retain(|_, pool| !is_gone(pool));
    }
}

/// While it lives, others that want a session wait.
struct Opening {
    pools: Rc<Pools>,
    member: u64,
}

impl Opening {
    fn new(pools: &Rc<Pools>, member: u64) -> Self {
        if let Some(pool) = pools.members.borrow_mut().get_mut(&member) {
            pool.opening = true;
        }
        Self { pools: pools.clone(), member }
    }
}

impl Drop for Opening {
    fn drop(&mut self) {
        if let Some(pool) = self.pools.members.borrow_mut().get_mut(&self.member) {
            pool.opening = false;
            pool.opened.notify_waiters();
        }
    }
}

struct WaitGuard<'a>(&'a AtomicUsize);

impl<'a> WaitGuard<'a> {
    fn new(waiting: &'a AtomicUsize, limit: usize) -> Result<Self, TryError> {
        if waiting.fetch_add(1, Ordering::Relaxed) >= limit {
            waiting.fetch_sub(1, Ordering::Relaxed);
            return Err(TryError::Limit(Limit::Pending));
        }
        Ok(Self(waiting))
    }
}

impl Drop for WaitGuard<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

struct CountGuard(Rc<Waiting>);

impl CountGuard {
    fn new(waiting: Rc<Waiting>) -> Self {
        waiting.count.set(waiting.count.get() + 1);
        Self(waiting)
    }
}

impl Drop for CountGuard {
    fn drop(&mut self) {
        self.0.count.set(self.0.count.get().saturating_sub(1));
    }
}
