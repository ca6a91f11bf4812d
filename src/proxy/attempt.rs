//! One try: a connection, the request, the head of the reply.

use std::rc::Rc;
use std::sync::Arc;

use http::request::Parts;
use http::uri::Scheme;
use tokio::time::Instant;

use super::Session;
use super::body::Outgoing;
use super::bounds::Bounds;
use super::exchange::Interim;
use super::failure::TryError;
use super::tries::Plan;
use crate::config::Hedge;
use crate::http1::client::{Answer, RequestHead};
use crate::timer::Timer;
use crate::upstream::connect::Wanted;
use crate::upstream::pool::Ready;
use crate::upstream::{Member, Upstream};
use crate::{http1, http2};

/// A reply, and after how many milliseconds its head was there.
pub(super) type Got = (Answer, f32);

/// What a try needs to know.
#[derive(Clone, Copy)]
pub(super) struct Attempt<'a> {
    pub(super) session: &'a Rc<Session>,
    pub(super) plan: &'a Plan<'a>,
    pub(super) upstream: &'a Arc<Upstream>,
    pub(super) member: &'a Arc<Member>,
    pub(super) parts: &'a Parts,
    pub(super) bounds: &'a Bounds,
    /// Where interim replies go.
    pub(super) interim: &'a Interim,
    /// The client waits for `100 Continue`.
    pub(super) expects_continue: bool,
    /// The client asks to switch protocols.
    pub(super) upgrade: bool,
}

impl Attempt<'_> {
    /// Makes it.
    pub(super) async fn run(&self, outgoing: &mut Option<Outgoing>, timer: &mut Timer) -> Result<Got, TryError> {
        let Self { session, upstream, member, parts, interim, .. } = *self;
        let end = || Some(self.bounds.end_of_try());
        let wanted = Wanted::of(&upstream.policies, &member.endpoint, self.plan.is_grpc, self.upgrade);
        let series = session.series(upstream);
        let pools = session.worker().pools();
        let ready = {
            // Connecting has a timer of its own inside; the outer bound is the request's.
            let mut connect_timer = Timer::default();
            let taking = pools.take(upstream, member, wanted, &series, &mut connect_timer);
            timer.bound_by(end, taking).await.map_err(|_| TryError::Late)??
        };
        let started = Instant::now();
        let answer = match ready {
            Ready::Http1(connection) => {
                let head = RequestHead {
                    method: &parts.method,
                    uri: &parts.uri,
                    headers: &parts.headers,
                    expects_continue: self.expects_continue,
                    upgrade: self.upgrade,
                };
                let mut gate_timer = Timer::default();
                let sending = http1::client::exchange(connection, head, outgoing, interim, &mut gate_timer);
                timer.bound_by(end, sending).await.map_err(|_| TryError::Late)??
            }
            Ready::Http2(connection) => {
                let scheme = if upstream.tls.is_some() { Scheme::HTTPS } else { Scheme::HTTP };
                let sending = http2::client::exchange(
                    connection,
                    &parts.method,
                    &scheme,
                    &parts.uri,
                    &parts.headers,
                    outgoing,
                    interim,
                );
                timer.bound_by(end, sending).await.map_err(|_| TryError::Late)??
            }
        };
        let latency = started.elapsed().as_secs_f32() * 1000.0;
        if let Some(Hedge::Percentile(_)) = self.plan.route.hedge(&upstream.policies) {
            upstream.state.latencies().record(latency, session.worker().millis());
        }
        Ok((answer, latency))
    }
}
