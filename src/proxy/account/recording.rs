//! The part that a request takes in a trace, while it lasts. Only requests that are recorded have one.

use std::sync::Arc;
use std::time::SystemTime;

use http::{HeaderMap, header};
use tokio::time::Instant;

use super::tries::target_of;
use crate::telemetry::access_log::Why;
use crate::telemetry::traces::context::{self, Incoming, Ours, SpanId, TraceId};
use crate::telemetry::traces::{Server, Span, Trace, Try};
use crate::upstream::{Member, Upstream};

/// What is kept for the spans of one request.
#[derive(Debug)]
pub(super) struct Recording {
    incoming: Incoming,
    pub(super) trace: TraceId,
    server: SpanId,
    state: String,
    user_agent: String,
    tries: Vec<OneTry>,
}

#[derive(Debug)]
struct OneTry {
    id: SpanId,
    began: Instant,
    ended: Option<Instant>,
    upstream: Arc<Upstream>,
    member: Arc<Member>,
    status: Option<u16>,
    grpc_status: Option<u16>,
    error: &'static str,
}

/// Turns instants into the time of day, by one look at both clocks: spans of a request fit together.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) now: Instant,
    pub(super) wall: SystemTime,
}

impl Clock {
    fn nanoseconds(&self, then: Instant) -> u64 {
        let since = self.wall.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        let then = since.saturating_sub(self.now.saturating_duration_since(then));
        u64::try_from(then.as_nanos()).unwrap_or(u64::MAX)
    }

    pub(super) fn span(&self, from: Instant, to: Instant) -> Span {
        Span { start: self.nanoseconds(from), end: self.nanoseconds(to) }
    }
}

impl Recording {
    pub(super) fn new(incoming: Incoming, trace: TraceId, server: SpanId, headers: &HeaderMap) -> Self {
        let state = if incoming.parent().is_some() { context::trace_state(headers) } else { String::new() };
        let user_agent = headers.get(header::USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
        Self { incoming, trace, server, state, user_agent: user_agent.to_owned(), tries: Vec::new() }
    }

    pub(super) fn server(&self) -> SpanId {
        self.server
    }

    /// A try begins under an id of its own, perhaps beside another one.
    pub(super) fn begin(&mut self, id: SpanId, upstream: &Arc<Upstream>, member: &Arc<Member>, now: Instant) {
        let (upstream, member) = (upstream.clone(), member.clone());
        self.tries.push(OneTry {
            id,
            began: now,
            ended: None,
            upstream,
            member,
            status: None,
            grpc_status: None,
            error: "",
        });
    }

    /// Makes the last try's span the parent of what its endpoint does.
    pub(super) fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(last) = self.tries.last() {
            self.incoming.carry(headers, &Ours { trace: self.trace, span: last.id, parent: self.server });
        }
    }

    /// The try at an endpoint has failed.
    pub(super) fn fail(&mut self, member: &Member, why: Why, now: Instant) {
        let Some(one) = self.open().find(|one| one.member.state.id == member.state.id) else { return };
        match why {
            Why::Label(label) => one.error = label,
            Why::Reply { status, grpc } => {
                one.status = Some(status);
                one.grpc_status = grpc.map(u16::from);
            }
        }
        one.ended = Some(now);
    }

    /// The head of the reply to the try that is left is there; its span goes on until the reply has ended.
    pub(super) fn answer(&mut self, status: u16) {
        if let Some(one) = self.open().next() {
            one.status = Some(status);
        }
    }

    fn open(&mut self) -> impl Iterator<Item = &mut OneTry> {
        self.tries.iter_mut().filter(|one| one.ended.is_none())
    }

    /// Makes the spans, now that all is known; fills in what the account does not know of the request.
    pub(super) fn finish(mut self, mut server: Server, clock: Clock) -> Box<Trace> {
        // What broke after the head broke the try that was left.
        for one in self.open() {
            one.error = server.error;
            one.grpc_status = server.grpc_status;
            one.ended = Some(clock.now);
        }
        let tries = self.tries.iter().map(|one| Try {
            id: one.id,
            span: clock.span(one.began, one.ended.unwrap_or(clock.now)),
            service: one.upstream.name.clone(),
            target: target_of(&one.upstream, &one.member).map(|target| target.to_string()).unwrap_or_default(),
            endpoint: one.member.endpoint.address.to_string(),
            tls: one.upstream.tls.is_some(),
            status: one.status,
            grpc_status: one.grpc_status,
            error: one.error,
        });
        let tries = tries.collect();
        server.parent = self.incoming.parent().map(|(_, span)| span);
        server.user_agent = self.user_agent;
        Box::new(Trace { id: self.trace, state: self.state, server, tries })
    }
}
