//! What is written down about a request when it has ended, however it ends.
//!
//! An account rides with the reply and is closed by whoever writes it; if it is dropped before, the client has gone.

mod recording;
mod tries;

use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use self::recording::{Clock, Recording};
use self::tries::{OUTRUN, Tries, target_of};
use super::headers::X_REQUEST_ID;

use super::body::BodyError;
use super::body::Progress;
use super::exchange::Outcome;
use super::in_flight::InFlight;
use super::tunnel::{Carried, End};
use super::{Session, failure};
use crate::resilience::breaker::{Cause, Verdict};
use crate::resilience::verdict::verdict;
use crate::telemetry::access_log::{FailedTry, Record, Why};
use crate::telemetry::metrics::{Classification, Outcome as Counted, RequestSeries, Times};
use crate::telemetry::traces::context::{Incoming, SpanId, TraceId};
use crate::telemetry::traces::{Protocol, Server};
use crate::upstream::{Member, Upstream};

/// The account of one request.
#[derive(Debug)]
pub(crate) struct Account(Option<Box<Open>>);

#[derive(Debug)]
struct Open {
    session: Rc<Session>,
    /// When the first byte was there.
    received: Instant,
    first_byte: Option<Instant>,
    method: String,
    host: String,
    path: String,
    protocol: &'static str,
    request_id: Option<HeaderValue>,
    /// The trace that the request is part of, whether it is recorded or not.
    trace_id: Option<TraceId>,
    recording: Option<Box<Recording>>,
    route: Option<Arc<str>>,
    /// What its own deadline left it at the start.
    deadline: Option<Duration>,
    series: Option<Rc<RequestSeries>>,
    in_flight: Option<InFlight>,
    /// It counts among the listener's requests in flight.
    is_in: bool,
    /// What the last try said about its endpoint is known.
    is_judged: bool,
    tries: Tries,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    error: &'static str,
    /// The request's body.
    upload: Option<Rc<Progress>>,
    bytes_in: u64,
    bytes_out: u64,
}

impl Account {
    /// Opens the account of a request.
    pub(crate) fn open(session: &Rc<Session>, received: Instant, protocol: &'static str) -> Self {
        Self(Some(Box::new(Open {
            session: session.clone(),
            received,
            first_byte: None,
            method: String::new(),
            host: String::new(),
            path: String::new(),
            protocol,
            request_id: None,
            trace_id: None,
            recording: None,
            route: None,
            deadline: None,
            series: None,
            in_flight: None,
            is_in: false,
            is_judged: false,
            tries: Tries::default(),
            status: None,
            grpc_status: None,
            error: "",
            upload: None,
            bytes_in: 0,
            bytes_out: 0,
        })))
    }

    /// Counts the request in until the account is closed, or says which limit of the listener or of this process keeps
    /// it out.
    pub(crate) fn enter(&mut self) -> Result<(), failure::Limit> {
        if let Some(open) = &mut self.0 {
            open.session.count_in()?;
            open.is_in = true;
        }
        Ok(())
    }

    /// Who asked for what, and in which trace. Kept only where the access log or a span will say it.
    pub(crate) fn asked(&mut self, parts: &Parts, host: &str) {
        let Some(open) = &mut self.0 else { return };
        let session = open.session.clone();
        let tracer = session.tracer();
        if tracer.is_on() || session.writes_log() {
            let incoming = Incoming::read(&parts.headers);
            let recorded = tracer.decide(&incoming, || [session.random_bits(), session.random_bits()]);
            open.trace_id = recorded.or_else(|| incoming.parent().map(|(trace, _)| trace));
            open.recording = recorded.map(|trace| {
                let server = SpanId::from_random(session.random_bits());
                Box::new(Recording::new(incoming, trace, server, &parts.headers))
            });
        }
        if open.recording.is_some() || session.writes_log() {
            parts.method.as_str().clone_into(&mut open.method);
            host.clone_into(&mut open.host);
            parts.uri.path().clone_into(&mut open.path);
            open.request_id = parts.headers.get(X_REQUEST_ID).cloned();
        }
    }

    /// The name that a TCP client asked for by SNI.
    pub(crate) fn asked_for_bytes(&mut self, host: &str) {
        if let Some(open) = &mut self.0
            && open.session.writes_log()
        {
            host.clone_into(&mut open.host);
        }
    }

    /// The client set a deadline, so long after its request began.
    pub(crate) fn bounded(&mut self, deadline: Option<Duration>) {
        if let Some(open) = &mut self.0 {
            open.deadline = deadline;
        }
    }

    /// The route that matched.
    pub(crate) fn routed(&mut self, route: &Arc<str>) {
        if let Some(open) = &mut self.0 {
            open.route = Some(route.clone());
        }
    }

    /// A try begins; `in_flight` ends with the account, or with the next try.
    pub(crate) fn tries(&mut self, upstream: &Arc<Upstream>, member: &Arc<Member>, in_flight: InFlight) {
        if let Some(open) = &mut self.0 {
            let now = Instant::now();
            if open.tries.service().is_none_or(|before| **before != *upstream.name) {
                open.count_request(&upstream.name);
            }
            if let Some(recording) = &mut open.recording {
                recording.begin(SpanId::from_random(open.session.random_bits()), upstream, member, now);
            }
            open.tries.begin(upstream, member, now);
            open.in_flight = Some(in_flight);
            open.is_judged = false;
        }
    }

    /// Writes the trace that this try belongs to into the head that is about to be sent. Changes nothing where the
    /// request is not recorded.
    pub(crate) fn stamp(&self, headers: &mut HeaderMap) {
        if let Some(recording) = self.0.as_ref().and_then(|open| open.recording.as_ref()) {
            recording.stamp(headers);
        }
    }

    /// A try ended without a reply that is delivered, and why; `verdict` is what it said about the endpoint.
    pub(crate) fn tried(&mut self, why: Why, verdict: Option<Verdict>) {
        if let Some(verdict) = verdict {
            self.judge(verdict);
        }
        if let Some(open) = &mut self.0 {
            let now = Instant::now();
            open.tries.fail(why, now);
            if let (Some(recording), Some((_, member))) = (&mut open.recording, &open.tries.destination) {
                recording.fail(member, why, now);
            }
            open.in_flight = None;
        }
    }

    /// A second try begins beside the one that is under way. Returns a head with a span of its own, where the request is
    /// recorded.
    pub(crate) fn hedges(&mut self, upstream: &Arc<Upstream>, member: &Arc<Member>, parts: &Parts) -> Option<Parts> {
        let open = self.0.as_mut()?;
        open.tries.hedge();
        let recording = open.recording.as_mut()?;
        recording.begin(SpanId::from_random(open.session.random_bits()), upstream, member, Instant::now());
        let mut parts = parts.clone();
        recording.stamp(&mut parts.headers);
        Some(parts)
    }

    /// The second try failed, or the first one was faster (`None`).
    pub(crate) fn hedge_failed(&mut self, member: &Arc<Member>, why: Option<Why>) {
        if let Some(open) = &mut self.0 {
            let why = why.unwrap_or(OUTRUN);
            open.tries.fail_beside(member, why);
            if let Some(recording) = &mut open.recording {
                recording.fail(member, why, Instant::now());
            }
        }
    }

    /// The second try was faster: it goes on in place of the first one.
    pub(crate) fn hedge_won(&mut self, upstream: &Arc<Upstream>, member: &Arc<Member>, in_flight: InFlight) {
        if let Some(open) = &mut self.0 {
            if open.tries.service().is_none_or(|before| **before != *upstream.name) {
                open.count_request(&upstream.name);
            }
            if let (Some(recording), Some((_, slow))) = (&mut open.recording, &open.tries.destination) {
                recording.fail(slow, OUTRUN, Instant::now());
            }
            open.tries.overtake(upstream, member);
            open.in_flight = Some(in_flight);
            open.is_judged = false;
        }
    }

    /// What the try that is under way said about its endpoint.
    pub(crate) fn judge(&mut self, verdict: Verdict) {
        if let Some(open) = &mut self.0
            && let Some(in_flight) = &mut open.in_flight
        {
            in_flight.judge(verdict);
            open.is_judged = true;
        }
    }

    /// The head of the reply is there. `error` is our label where the reply is ours.
    pub(crate) fn replied(&mut self, status: StatusCode, headers: &HeaderMap, error: &'static str) {
        if let Some(open) = &mut self.0 {
            let now = Instant::now();
            open.first_byte = Some(now);
            open.tries.end(now);
            if error.is_empty()
                && let Some(recording) = &mut open.recording
            {
                recording.answer(status.as_u16());
            }
            open.status = Some(status);
            open.grpc_status = grpc_status(headers);
            open.error = error;
        }
    }

    /// The request has a body.
    pub(crate) fn uploads(&mut self, upload: Rc<Progress>) {
        if let Some(open) = &mut self.0 {
            open.upload = Some(upload);
        }
    }

    /// Bytes of the reply's body.
    pub(crate) fn sent(&mut self, bytes: usize) {
        if let Some(open) = &mut self.0 {
            open.bytes_out += bytes as u64;
        }
    }

    /// Trailers of the reply.
    pub(crate) fn trailers(&mut self, trailers: &HeaderMap) {
        if let Some(open) = &mut self.0 {
            open.grpc_status = grpc_status(trailers).or(open.grpc_status);
        }
    }

    /// What went through a tunnel.
    pub(crate) fn carried(&mut self, carried: &Carried) {
        if let Some(open) = &mut self.0 {
            open.bytes_in += carried.up;
            open.bytes_out += carried.down;
            open.error = match carried.end {
                End::Closed => "",
                End::Idle => "idle",
                End::Reset => "reset",
            };
        }
    }

    /// Closes the account.
    pub(crate) fn finish(mut self, outcome: Outcome) {
        if let Some(mut open) = self.0.take() {
            let cancelled = match outcome {
                Outcome::Complete => false,
                Outcome::ClientGone | Outcome::UpstreamBroke(BodyError::Upload(None)) => true,
                Outcome::UpstreamBroke(BodyError::Upload(Some(reject))) => {
                    open.session.malformed(reject.label());
                    open.error = reject.label();
                    false
                }
                Outcome::UpstreamBroke(error) => {
                    open.broke(&error);
                    open.error = match error {
                        BodyError::Late => "deadline",
                        BodyError::Silent => "body_silent",
                        BodyError::Malformed(_) => "body_malformed",
                        BodyError::Gone(_) | BodyError::Reset(_) | BodyError::Upload(_) => "body_broken",
                    };
                    false
                }
            };
            open.close(cancelled);
        }
    }
}

impl Drop for Account {
    fn drop(&mut self) {
        if let Some(mut open) = self.0.take() {
            open.close(true);
        }
    }
}

impl Open {
    fn count_request(&mut self, service: &str) {
        let series = self.session.requests(service);
        series.begin();
        self.series = Some(series);
    }

    /// The endpoint did not finish its reply.
    fn broke(&mut self, error: &BodyError) {
        let cause = match error {
            // The client's deadline may have been short.
            BodyError::Late | BodyError::Upload(_) => return,
            BodyError::Silent => Cause::Timeout,
            BodyError::Malformed(_) => Cause::Answer,
            BodyError::Gone(_) | BodyError::Reset(_) => Cause::Reset,
        };
        if let Some(in_flight) = &mut self.in_flight {
            in_flight.judge_late(Verdict::Failure(cause));
            self.is_judged = true;
        }
    }

    /// A stream of gRPC has said in its trailers how it went.
    fn judge_trailers(&mut self) {
        if self.is_judged || self.in_flight.is_none() {
            return;
        }
        if let (Some(status), Some(grpc), Some((upstream, _))) =
            (self.status, self.grpc_status, &self.tries.destination)
        {
            let grpc = u8::try_from(grpc).unwrap_or(u8::MAX);
            let verdict = verdict(&upstream.policies.classify, status.as_u16(), Some(grpc), None);
            if let Some(in_flight) = &mut self.in_flight {
                in_flight.judge_late(verdict);
            }
        }
    }

    fn close(&mut self, cancelled: bool) {
        self.judge_trailers();
        self.in_flight = None;
        if std::mem::take(&mut self.is_in) {
            self.session.count_out();
        }
        if self.series.is_none() {
            self.count_request("");
        }
        if cancelled && self.error.is_empty() {
            self.error = "client_gone";
        }
        // Nobody got a status if the client left before the head; the access log leaves it out then.
        let status = self.status.or_else(|| StatusCode::from_u16(499).ok()).unwrap_or_default();
        let broke = matches!(self.error, "body_silent" | "body_malformed" | "body_broken" | "deadline");
        let classification = if broke { Classification::Failure } else { Classification::of(status, self.grpc_status) };
        let now = Instant::now();
        self.tries.end(now);
        let first_byte = self.first_byte.unwrap_or(now).duration_since(self.received);
        let times = Times {
            first_byte,
            added: first_byte.saturating_sub(self.tries.upstream_time()),
            total: now.duration_since(self.received),
        };
        if let Some(series) = &self.series {
            let outcome = Counted { status, grpc_status: self.grpc_status, classification, error: self.error };
            series.end(outcome, &times);
        }
        if self.recording.is_some() || self.session.writes_log() {
            self.tell(&times, Clock { now, wall: SystemTime::now() }, cancelled);
        }
    }

    /// Writes it down for people: the line of the access log, and the spans.
    fn tell(&mut self, times: &Times, clock: Clock, cancelled: bool) {
        if self.session.writes_log() {
            self.log(times, clock.wall, cancelled);
        }
        let Some(recording) = self.recording.take() else { return };
        let server = Server {
            id: recording.server(),
            parent: None,
            span: clock.span(self.received, clock.now),
            method: std::mem::take(&mut self.method),
            host: std::mem::take(&mut self.host),
            path: std::mem::take(&mut self.path),
            protocol: match self.protocol {
                H2 => Protocol::Http2,
                HTTP_10 => Protocol::Http10,
                _ => Protocol::Http11,
            },
            tls: self.session.sender().tls,
            client: self.session.client(),
            user_agent: String::new(),
            request_id: self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default().to_owned(),
            listener: self.session.listener_name().into(),
            route: self.route.clone(),
            status: self.status.map(|status| status.as_u16()),
            grpc_status: self.grpc_status,
            error: self.error,
        };
        self.session.tracer().record(recording.finish(server, clock));
    }

    fn log(&self, times: &Times, now: SystemTime, cancelled: bool) {
        let destination = self.tries.destination.as_ref();
        let endpoint = destination.map(|(_, member)| member.endpoint.address.to_string()).unwrap_or_default();
        let target = destination.and_then(|(upstream, member)| target_of(upstream, member));
        let failed = self.tries.failed.iter();
        let failed: Vec<_> =
            failed.map(|(member, why)| FailedTry { endpoint: &member.endpoint.address, why: *why }).collect();
        self.session.log(&Record {
            time: now.checked_sub(times.total).unwrap_or(now),
            request_id: self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
            trace_id: self.trace_id,
            listener: self.session.listener_name(),
            client: self.session.client(),
            method: &self.method,
            host: crate::route::without_port(&self.host),
            path: &self.path,
            protocol: self.protocol,
            status: self.status.map(|status| status.as_u16()),
            grpc_status: self.grpc_status,
            bytes_in: self.bytes_in + self.upload.as_ref().map_or(0, |upload| upload.received.get()),
            bytes_out: self.bytes_out,
            duration: times.total,
            upstream: (self.tries.count > 0).then(|| self.tries.upstream_time()),
            added: times.added,
            deadline: self.deadline,
            route: self.route.as_deref().unwrap_or_default(),
            service: self.tries.service().map(|name| &**name).unwrap_or_default(),
            target: target.as_ref(),
            endpoint: &endpoint,
            tries: self.tries.count,
            failed: &failed,
            error: self.error,
            is_cancelled: cancelled,
        });
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

const H2: &str = "h2";
const HTTP_10: &str = "http/1.0";

/// The protocol as the access log writes it.
pub(crate) fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => H2,
        http::Version::HTTP_10 => HTTP_10,
        _ => "http/1.1",
    }
}

/// Tells whether a reply's head carries a gRPC status by which a try may be repeated.
pub(crate) fn head_grpc_status(headers: &HeaderMap) -> Option<u8> {
    failure::is_grpc(headers).then(|| grpc_status(headers).and_then(|status| u8::try_from(status).ok())).flatten()
}
