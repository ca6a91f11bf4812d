//! The server side of one HTTP/2 connection.

use std::cell::{Cell, RefCell};
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use h2::server::SendResponse;
use h2::{Reason, RecvStream};
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode, header};
use tokio::time::Instant;

use super::guard::{Guarded, Seen};
use super::pump::{Counted, Pump, PumpError};
use super::{Cork, rules};
use crate::config::ListenerLimits;
use crate::http1::Reject;
use crate::proxy::account::Account;
use crate::proxy::body::{Body, BodyError, Frame, Length};
use crate::proxy::exchange::{Exchange, Handler, Interim, Outcome, Reply};
use crate::proxy::failure;
use crate::shutdown::Drain;
use crate::stream::Stream;
use crate::timer::{Timer, after};

/// Windows and buffers of the security paper, §1.
const STREAM_WINDOW: u32 = 64 * 1024;
const CONNECTION_WINDOW: u32 = 1024 * 1024;
const SEND_BUFFER: usize = 64 * 1024;
const PENDING_RESETS: usize = 20;
const LOCAL_RESETS: usize = 128;
/// A silent connection with requests under way is asked whether it lives …
const PING_AFTER: Duration = Duration::from_secs(25);
/// … and ended if it does not say so.
const PONG_WITHIN: Duration = Duration::from_secs(10);
/// A connection that was ended for a flood gets so long to read why.
const CALM_TIME: Duration = Duration::from_secs(1);

/// Serves one connection until it ends. `buffered` is what was read of it for protocol detection.
pub(crate) async fn serve<H: Handler + 'static>(
    mut stream: Stream,
    buffered: BytesMut,
    limits: &ListenerLimits,
    drain: Drain,
    handler: Rc<H>,
) {
    stream.unread(buffered);
    let (guarded, seen) = Guarded::new(stream, true, Some(limits.control_frames));
    let mut builder = h2::server::Builder::new();
    builder
        .initial_window_size(STREAM_WINDOW)
        .initial_connection_window_size(CONNECTION_WINDOW)
        .max_concurrent_streams(limits.streams)
        .max_header_list_size(u32::try_from(limits.head_bytes).unwrap_or(u32::MAX))
        .max_send_buffer_size(SEND_BUFFER)
        .max_pending_accept_reset_streams(PENDING_RESETS)
        .max_local_error_reset_streams(Some(LOCAL_RESETS));
    let mut timer = Timer::default();
    let deadline = after(Instant::now(), limits.header_timeout);
    let Ok(Ok(connection)) = timer.bound(Some(deadline), builder.handshake::<_, Bytes>(guarded)).await else {
        return;
    };
    Driver {
        connection,
        seen,
        limits,
        drain,
        handler,
        timer,
        cork: Cork::default(),
        active: Rc::new(Active::default()),
        opened: Instant::now(),
        requests: 0,
        closing: false,
        calm_until: None,
        pings: None,
        ping_sent: None,
    }
    .run()
    .await;
}

/// How many streams are under way, and since when none is.
#[derive(Debug)]
struct Active {
    streams: Cell<usize>,
    idle_since: Cell<Instant>,
}

impl Default for Active {
    fn default() -> Self {
        Self { streams: Cell::new(0), idle_since: Cell::new(Instant::now()) }
    }
}

struct ActiveStream(Rc<Active>);

impl ActiveStream {
    fn new(active: &Rc<Active>) -> Self {
        active.streams.set(active.streams.get() + 1);
        Self(active.clone())
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.0.streams.set(self.0.streams.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
    }
}

struct Driver<'a, H> {
    connection: h2::server::Connection<Guarded, Bytes>,
    seen: Rc<Seen>,
    limits: &'a ListenerLimits,
    drain: Drain,
    handler: Rc<H>,
    timer: Timer,
    cork: Cork,
    active: Rc<Active>,
    opened: Instant,
    requests: u64,
    /// GOAWAY is sent.
    closing: bool,
    calm_until: Option<Instant>,
    pings: Option<h2::PingPong>,
    ping_sent: Option<Instant>,
}

impl<H: Handler + 'static> Driver<'_, H> {
    async fn run(mut self) {
        self.pings = self.connection.ping_pong();
        poll_fn(|context| self.poll(context)).await;
    }

    fn poll(&mut self, context: &mut Context<'_>) -> Poll<()> {
        ready!(self.cork.poll_pulled(context));
        loop {
            match self.connection.poll_accept(context) {
                Poll::Ready(Some(Ok((request, respond)))) => self.begin(request, respond),
                Poll::Ready(Some(Err(_)) | None) => return Poll::Ready(()),
                Poll::Pending => break,
            }
        }
        if self.seen.is_flooded() && self.calm_until.is_none() {
            self.handler.abused("http2_control_frame_flood");
            self.connection.abrupt_shutdown(Reason::ENHANCE_YOUR_CALM);
            self.calm_until = Some(after(Instant::now(), CALM_TIME));
            context.waker().wake_by_ref();
        }
        if !self.closing && self.drain.poll_draining(context).is_ready() {
            self.close(context);
        }
        self.poll_timers(context)
    }

    fn close(&mut self, context: &Context<'_>) {
        self.closing = true;
        self.connection.graceful_shutdown();
        context.waker().wake_by_ref();
    }

    fn begin(&mut self, request: Request<RecvStream>, respond: SendResponse<Bytes>) {
        self.requests += 1;
        let handler = self.handler.clone();
        let active = ActiveStream::new(&self.active);
        let max_headers = self.limits.headers;
        tokio::task::spawn_local(async move {
            serve_stream(request, respond, &*handler, max_headers).await;
            drop(active);
        });
        if !self.closing && self.requests == self.limits.requests_per_connection {
            self.closing = true;
            self.connection.graceful_shutdown();
        }
    }

    /// Ready when the connection has to go.
    fn poll_timers(&mut self, context: &mut Context<'_>) -> Poll<()> {
        loop {
            let now = Instant::now();
            if let Some(until) = self.calm_until {
                return self.timer.poll_expired(context, until);
            }
            if let (Some(pings), Some(_)) = (self.pings.as_mut(), self.ping_sent)
                && pings.poll_pong(context).is_ready()
            {
                self.ping_sent = None;
            }
            let busy = self.active.streams.get() > 0;
            let deadline = if let Some(sent) = self.ping_sent {
                after(sent, PONG_WITHIN)
            } else if busy {
                after(self.seen.last_read.get(), PING_AFTER)
            } else if self.closing {
                // Everything was said; the peer may take a moment to read it and close.
                after(self.active.idle_since.get(), CALM_TIME)
            } else {
                let idle = after(self.active.idle_since.get(), self.limits.idle_timeout);
                idle.min(after(self.opened, self.limits.connection_age)).max(now)
            };
            ready!(self.timer.poll_expired(context, deadline));
            if self.ping_sent.is_some() {
                return Poll::Ready(());
            }
            if busy {
                match self.pings.as_mut().map(|pings| pings.send_ping(h2::Ping::opaque())) {
                    Some(Ok(())) => self.ping_sent = Some(Instant::now()),
                    // One is under way already, or the connection ends: look again later.
                    Some(Err(_)) | None => self.seen.last_read.set(Instant::now()),
                }
                context.waker().wake_by_ref();
                continue;
            }
            if self.closing {
                return Poll::Ready(());
            }
            self.close(context);
            self.active.idle_since.set(Instant::now());
        }
    }
}

/// Sends interim replies on a stream.
#[derive(Clone)]
pub(crate) struct InterimSink(Rc<RefCell<SendResponse<Bytes>>>);

impl std::fmt::Debug for InterimSink {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("InterimSink")
    }
}

impl InterimSink {
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut response = Response::new(());
        *response.status_mut() = status;
        *response.headers_mut() = headers.clone();
        rules::strip_connection_fields(response.headers_mut());
        // An error says that the stream is gone, which the exchange sees for itself.
        let _ = self.0.borrow_mut().send_informational(response);
    }
}

/// The body of a request.
#[derive(Debug)]
pub(crate) struct RequestBody {
    stream: RecvStream,
    left: Option<u64>,
    /// `100 Continue` is still owed to the client.
    owed: Option<InterimSink>,
    data_ended: bool,
    ended: bool,
}

impl RequestBody {
    pub(crate) fn length(&self) -> Length {
        if self.ended || self.stream.is_end_stream() {
            Length::None
        } else {
            self.left.map_or(Length::Unknown, Length::Exact)
        }
    }

    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if let Some(sink) = self.owed.take() {
            sink.send(StatusCode::CONTINUE, &HeaderMap::new());
        }
        let mut frame = ready!(poll_stream(&mut self.stream, &mut self.data_ended, &mut self.left, context));
        if let Some(Ok(Frame::Trailers(trailers))) = &frame
            && let Err(reject) = rules::check_trailers(trailers)
        {
            frame = Some(Err(BodyError::Malformed(reject)));
        }
        if !matches!(frame, Some(Ok(Frame::Data(_)))) {
            self.ended = true;
        }
        Poll::Ready(frame)
    }
}

/// Takes the next piece of a received body; serves both sides.
pub(super) fn poll_stream(
    stream: &mut RecvStream,
    data_ended: &mut bool,
    left: &mut Option<u64>,
    context: &mut Context<'_>,
) -> Poll<Option<Result<Frame, BodyError>>> {
    if !*data_ended {
        match ready!(stream.poll_data(context)) {
            Some(Ok(bytes)) => {
                // Only what somebody took is let in again: the window is the only buffer.
                let _ = stream.flow_control().release_capacity(bytes.len());
                if let Some(left) = left {
                    *left = left.saturating_sub(bytes.len() as u64);
                }
                return Poll::Ready(Some(Ok(Frame::Data(bytes))));
            }
            Some(Err(error)) => return Poll::Ready(Some(Err(body_error(&error)))),
            None => *data_ended = true,
        }
    }
    Poll::Ready(match ready!(stream.poll_trailers(context)) {
        Ok(Some(trailers)) => Some(Ok(Frame::Trailers(trailers))),
        Ok(None) => None,
        Err(error) => Some(Err(body_error(&error))),
    })
}

fn body_error(error: &h2::Error) -> BodyError {
    match error.reason() {
        Some(Reason::PROTOCOL_ERROR) if error.is_library() => BodyError::Malformed(Reject::BodyLength),
        Some(reason) if error.is_reset() => BodyError::Reset(reason),
        _ => BodyError::Gone(error.to_string()),
    }
}

async fn serve_stream<H: Handler>(
    request: Request<RecvStream>,
    respond: SendResponse<Bytes>,
    handler: &H,
    max_headers: usize,
) {
    let (mut parts, stream) = request.into_parts();
    let received = Instant::now();
    let respond = Rc::new(RefCell::new(respond));
    let sink = InterimSink(respond.clone());
    let is_head = parts.method == Method::HEAD;
    let mut timer = Timer::default();
    let reply = if let Err(reject) = rules::normalise(&mut parts, max_headers) {
        Some(handler.refuse(&reject))
    } else {
        let expects_continue =
            parts.headers.get(header::EXPECT).is_some_and(|value| value.as_bytes() == b"100-continue");
        let body = if stream.is_end_stream() {
            Body::Empty
        } else {
            let left = parts.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
            let owed = expects_continue.then(|| sink.clone());
            Body::Http2Request(RequestBody { stream, left, owed, data_ended: false, ended: false })
        };
        let mut exchange = Exchange {
            timer: &mut timer,
            interim: Interim::Http2(sink.clone()),
            // The body itself says 100 when it is first asked for; nothing has to wait for it.
            expects_continue: false,
            upgrade: false,
            received,
            version: http::Version::HTTP_2,
        };
        let mut handling = pin!(handler.handle(Request::from_parts(parts, body), &mut exchange));
        poll_fn(|context| {
            if let Poll::Ready(reply) = handling.as_mut().poll(context) {
                return Poll::Ready(Some(reply));
            }
            // A stream that ends by any means cancels what is done for it (MadeYouReset).
            respond.borrow_mut().poll_reset(context).map(|_| None)
        })
        .await
    };
    if let Some(reply) = reply {
        send_reply(reply, &respond, is_head, &mut timer).await;
    }
}

async fn send_reply(reply: Reply, respond: &RefCell<SendResponse<Bytes>>, is_head: bool, timer: &mut Timer) {
    let Reply { mut head, mut body, mut account, idle_timeout, deadline, .. } = reply;
    rules::strip_connection_fields(&mut head.headers);
    head.version = http::Version::HTTP_2;
    let is_grpc = failure::is_grpc(&head.headers);
    let status = head.status;
    if status == StatusCode::NO_CONTENT {
        // Not even 0 (RFC 9110, 8.6).
        head.headers.remove(header::CONTENT_LENGTH);
    }
    if !is_head
        && status != StatusCode::NO_CONTENT
        && status != StatusCode::NOT_MODIFIED
        && let Length::Exact(length) = body.length()
        && !head.headers.contains_key(header::CONTENT_LENGTH)
    {
        head.headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    }
    let end = is_head || body.is_end();
    let sent = respond.borrow_mut().send_response(Response::from_parts(head, ()), end);
    let Ok(stream) = sent else {
        account.finish(Outcome::ClientGone);
        return;
    };
    if end {
        account.finish(Outcome::Complete);
        return;
    }
    let mut pump = Pump::new(stream);
    let mut since = Instant::now();
    let result = poll_fn(|context| {
        pump.moved = false;
        if let Poll::Ready(done) = pump.poll(context, &mut Counted { body: &mut body, account: &mut account }) {
            return Poll::Ready(done);
        }
        if pump.moved {
            since = Instant::now();
        }
        if pump.stream.poll_reset(context).is_ready() {
            return Poll::Ready(Err(PumpError::Sink));
        }
        let silent = after(since, idle_timeout);
        match timer.poll_expired(context, deadline.map_or(silent, |deadline| deadline.min(silent))) {
            Poll::Ready(()) if deadline.is_some_and(|deadline| deadline < silent) => {
                Poll::Ready(Err(PumpError::Source(BodyError::Late)))
            }
            Poll::Ready(()) if pump.is_blocked() => Poll::Ready(Err(PumpError::Sink)),
            Poll::Ready(()) => Poll::Ready(Err(PumpError::Source(BodyError::Silent))),
            Poll::Pending => Poll::Pending,
        }
    })
    .await;
    let outcome = match result {
        Ok(()) => Outcome::Complete,
        Err(PumpError::Sink) => {
            pump.stream.send_reset(Reason::CANCEL);
            Outcome::ClientGone
        }
        Err(PumpError::Source(error)) => {
            break_off(&mut pump, &error, is_grpc, &mut account);
            Outcome::UpstreamBroke(error)
        }
    };
    account.finish(outcome);
}

/// Tells a client in the middle of a reply that no more will come.
fn break_off(pump: &mut Pump, error: &BodyError, is_grpc: bool, account: &mut Account) {
    match error {
        BodyError::Upload(Some(_)) => pump.stream.send_reset(Reason::PROTOCOL_ERROR),
        BodyError::Upload(None) => pump.stream.send_reset(Reason::CANCEL),
        BodyError::Reset(reason) => pump.stream.send_reset(*reason),
        _ if is_grpc && !pump.is_blocked() => {
            let trailers = if matches!(error, BodyError::Late) {
                failure::grpc_trailers(
                    failure::GRPC_DEADLINE_EXCEEDED,
                    "the deadline passed in the middle of the reply",
                )
            } else {
                failure::grpc_trailers(failure::GRPC_UNAVAILABLE, "the endpoint did not finish its reply")
            };
            account.trailers(&trailers);
            if pump.stream.send_trailers(trailers).is_err() {
                pump.stream.send_reset(Reason::INTERNAL_ERROR);
            }
        }
        _ => pump.stream.send_reset(Reason::INTERNAL_ERROR),
    }
}
