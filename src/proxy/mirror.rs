//! Copies of requests to a second target: fire and forget.
//!
//! What passes through a request's body is copied on its way and sent when all of it has passed. So the request waits for
//! nothing, and a copy is whole or is not sent. The copy runs as a request of its own, with the pools, limits and ejections
//! of where it goes; its reply is read and dropped.

use std::future::poll_fn;
use std::rc::Rc;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Version};
use tokio::time::Instant;

use super::account::{self, Account};
use super::body::{Body, BodyError, Frame, Length};
use super::exchange::{Exchange, Interim, Outcome};
use super::tries::Plan;
use super::{Session, failure};
use crate::timer::{Timer, after};
use crate::upstream::Table;
use crate::upstream::plan::actions::MirrorPlan;
use crate::worker::Aside;

/// Tells an endpoint that nobody waits for its reply.
const MESHLESS_MIRROR: HeaderName = HeaderName::from_static("meshless-mirror");
/// How long the reply to a copy is read: it counts its bytes and keeps the connection, and is worth no more.
const REPLY: Duration = Duration::from_secs(10);

/// A copy that is made.
#[derive(Debug)]
pub(crate) struct Copy {
    session: Rc<Session>,
    table: Arc<Table>,
    mirror: Arc<MirrorPlan>,
    head: Parts,
    body: BytesMut,
}

/// A body that is read along.
#[derive(Debug)]
pub(crate) struct Tapped {
    body: Body,
    /// `None` when it was sent, or is not worth it any more.
    copy: Option<Copy>,
}

impl Session {
    /// Makes a copy of its share of requests, and returns the body that the request goes on with.
    pub(super) fn mirror(
        self: &Rc<Self>,
        mirror: &Arc<MirrorPlan>,
        table: &Arc<Table>,
        parts: &Parts,
        body: Body,
    ) -> Body {
        if self.worker().random_share() >= mirror.share {
            return body;
        }
        if matches!(body.length(), Length::Exact(length) if length > mirror.body_limit as u64) {
            self.worker().mirrored(&mirror.route.name, "too_large");
            return body;
        }
        let mut head = Request::new(()).into_parts().0;
        head.method = parts.method.clone();
        head.uri = parts.uri.clone();
        head.headers = parts.headers.clone();
        head.headers.insert(MESHLESS_MIRROR, HeaderValue::from_static("1"));
        let copy =
            Copy { session: self.clone(), table: table.clone(), mirror: mirror.clone(), head, body: BytesMut::new() };
        if body.is_end() {
            copy.send(None);
            return body;
        }
        Body::Tapped(Box::new(Tapped { body, copy: Some(copy) }))
    }
}

impl Tapped {
    pub(super) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        let frame = std::task::ready!(self.body.poll_frame(context));
        let trailers = match &frame {
            Some(Ok(Frame::Data(bytes))) => {
                self.keep(bytes);
                if !self.body.is_end() {
                    return Poll::Ready(frame);
                }
                None
            }
            Some(Ok(Frame::Trailers(trailers))) => Some(trailers.clone()),
            None => None,
            Some(Err(_)) => {
                // The client broke off: there is no whole request to copy.
                self.copy = None;
                return Poll::Ready(frame);
            }
        };
        if let Some(copy) = self.copy.take() {
            copy.send(trailers);
        }
        Poll::Ready(frame)
    }

    pub(super) fn inner(&self) -> &Body {
        &self.body
    }

    pub(super) fn inner_mut(&mut self) -> &mut Body {
        &mut self.body
    }

    fn keep(&mut self, bytes: &Bytes) {
        let Some(copy) = &mut self.copy else { return };
        if copy.body.len() + bytes.len() <= copy.mirror.body_limit {
            copy.body.extend_from_slice(bytes);
        } else {
            copy.session.worker().mirrored(&copy.mirror.route.name, "too_large");
            self.copy = None;
        }
    }
}

impl Copy {
    /// Sends it beside the requests of this worker, if there is place.
    fn send(self, trailers: Option<HeaderMap>) {
        let worker = self.session.worker();
        let Some(place) = worker.aside().place() else {
            worker.mirrored(&self.mirror.route.name, "full");
            return;
        };
        worker.mirrored(&self.mirror.route.name, "sent");
        Aside::run(place, async move { self.ask(trailers).await });
    }

    async fn ask(self, trailers: Option<HeaderMap>) {
        let Self { session, table, mirror, mut head, body } = self;
        let route = &mirror.route;
        let now = Instant::now();
        let mut timer = Timer::default();
        let mut exchange = Exchange {
            timer: &mut timer,
            interim: Interim::None,
            expects_continue: false,
            upgrade: false,
            received: now,
            version: Version::HTTP_11,
        };
        let mut account = Account::open(&session, now, account::protocol(exchange.version));
        let host = head.headers.get(http::header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
        account.asked(&head, host);
        account.routed(&route.name);
        let is_grpc = failure::is_grpc(&head.headers);
        let plan = Plan { table: &table, route, to: &route.to, is_grpc, asked: None, deadline: None };
        let body = Body::whole(body.freeze(), trailers);
        match session.tries(&plan, &mut head, body, &mut exchange, &mut account).await {
            Err(failure) => account.replied(failure.status(), &HeaderMap::new(), failure.label()),
            Ok(served) => {
                let (reply, mut body) = served.answer.response.into_parts();
                account.replied(reply.status, &reply.headers, "");
                let end = after(Instant::now(), served.idle_timeout.min(REPLY));
                let read = async {
                    while let Some(Ok(frame)) = poll_fn(|context| body.poll_frame(context)).await {
                        match frame {
                            Frame::Data(bytes) => account.sent(bytes.len()),
                            Frame::Trailers(trailers) => account.trailers(&trailers),
                        }
                    }
                };
                let _ = timer.bound(Some(end), read).await;
            }
        }
        account.finish(Outcome::Complete);
    }
}
