//! What is written down about a request when it has ended, however it ends.
//!
//! An account rides with the reply and is closed by whoever writes it; if it is dropped before, the client has gone.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::SystemTime;

use http::{HeaderMap, HeaderValue, StatusCode};
use tokio::time::Instant;

use super::body::BodyError;
use super::body::Progress;
use super::exchange::Outcome;
use super::tunnel::{Carried, End};
use super::{Session, failure};
use crate::telemetry::access_log::Record;
use crate::telemetry::metrics::{Classification, Outcome as Counted, RequestSeries};
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
    route: Option<Arc<str>>,
    destination: Option<(Arc<Upstream>, Arc<Member>)>,
    series: Option<Rc<RequestSeries>>,
    in_flight: Vec<InFlight>,
    tries: u32,
    status: Option<StatusCode>,
    grpc_status: Option<u16>,
    error: &'static str,
    /// The request's body.
    upload: Option<Rc<Progress>>,
    bytes_in: u64,
    bytes_out: u64,
}

/// A request that is in flight at an endpoint, until it is dropped.
#[derive(Debug)]
pub(crate) struct InFlight {
    upstream: Arc<Upstream>,
    member: Arc<Member>,
}

impl InFlight {
    /// `None` where `limits.requests` is reached.
    pub(crate) fn begin(upstream: &Arc<Upstream>, member: &Arc<Member>) -> Option<Self> {
        if upstream.state.in_flight.fetch_add(1, Ordering::Relaxed) >= upstream.policies.limits.requests {
            upstream.state.in_flight.fetch_sub(1, Ordering::Relaxed);
            return None;
        }
        member.state.load.begin();
        Some(Self { upstream: upstream.clone(), member: member.clone() })
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.upstream.state.in_flight.fetch_sub(1, Ordering::Relaxed);
        self.member.state.load.end();
    }
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
            route: None,
            destination: None,
            series: None,
            in_flight: Vec::new(),
            tries: 0,
            status: None,
            grpc_status: None,
            error: "",
            upload: None,
            bytes_in: 0,
            bytes_out: 0,
        })))
    }

    /// Who asked for what. Kept only where the access log will say it.
    pub(crate) fn asked(&mut self, method: &str, host: &str, path: &str, request_id: Option<&HeaderValue>) {
        if let Some(open) = &mut self.0
            && open.session.writes_log()
        {
            method.clone_into(&mut open.method);
            host.clone_into(&mut open.host);
            path.clone_into(&mut open.path);
            open.request_id = request_id.cloned();
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
            let changed = open.destination.as_ref().is_none_or(|(before, _)| before.name != upstream.name);
            if changed {
                open.count_request(&upstream.name);
            }
            open.tries += 1;
            open.in_flight.clear();
            open.in_flight.push(in_flight);
            open.destination = Some((upstream.clone(), member.clone()));
        }
    }

    /// A try ended without a reply.
    pub(crate) fn tried(&mut self) {
        if let Some(open) = &mut self.0 {
            open.in_flight.clear();
        }
    }

    /// The head of the reply is there. `error` is our label where the reply is ours.
    pub(crate) fn replied(&mut self, status: StatusCode, headers: &HeaderMap, error: &'static str) {
        if let Some(open) = &mut self.0 {
            open.first_byte = Some(Instant::now());
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

    fn close(&mut self, cancelled: bool) {
        self.in_flight.clear();
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
        let first_byte = self.first_byte.unwrap_or(now);
        if let Some(series) = &self.series {
            series.end(
                Counted { status, grpc_status: self.grpc_status, classification, error: self.error },
                first_byte.duration_since(self.received),
            );
        }
        if !self.session.writes_log() {
            return;
        }
        let duration = now.duration_since(self.received);
        let endpoint =
            self.destination.as_ref().map(|(_, member)| member.endpoint.address.to_string()).unwrap_or_default();
        self.session.log(&Record {
            time: SystemTime::now().checked_sub(duration).unwrap_or_else(SystemTime::now),
            request_id: self.request_id.as_ref().and_then(|id| id.to_str().ok()).unwrap_or_default(),
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
            duration,
            route: self.route.as_deref().unwrap_or_default(),
            service: self.destination.as_ref().map(|(upstream, _)| &*upstream.name).unwrap_or_default(),
            endpoint: &endpoint,
            tries: self.tries,
            error: self.error,
            is_cancelled: cancelled,
        });
    }
}

fn grpc_status(headers: &HeaderMap) -> Option<u16> {
    headers.get("grpc-status")?.to_str().ok()?.parse().ok()
}

/// The protocol as the access log writes it.
pub(crate) fn protocol(version: http::Version) -> &'static str {
    match version {
        http::Version::HTTP_2 => "h2",
        http::Version::HTTP_10 => "http/1.0",
        _ => "http/1.1",
    }
}

/// Tells whether a reply's head carries a gRPC status by which a try may be repeated.
pub(crate) fn head_grpc_status(headers: &HeaderMap) -> Option<u8> {
    failure::is_grpc(headers).then(|| grpc_status(headers).and_then(|status| u8::try_from(status).ok())).flatten()
}
