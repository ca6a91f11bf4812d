//! The server side of one HTTP/1.1 connection: head, handler, reply, again.
//!
//! One task owns the connection; the handler runs inside it and pulls the request's body through it, so the bytes of an
//! exchange cross no thread, no channel and no second task.

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode, header};
use tokio::time::Instant;

use super::Reject;
use super::body::{Decoded, Decoder, Encoder};
use super::head::{self, Framing, HeadLimits, RequestHead, Target, Version};
use super::wire::{Wire, poll_read_scratch};
use crate::config::ListenerLimits;
use crate::proxy::body::{Body, BodyError, Frame, Length};
use crate::proxy::exchange::{Exchange, Handler, Interim, Outcome, Reply};
use crate::proxy::tunnel;
use crate::shutdown::Drain;
use crate::stream::Stream;
use crate::timer::{Timer, after};

/// After an early error this much of what the client still sends is read, so that it gets to see the answer.
const LINGER_BYTES: usize = 64 * 1024;
/// … and so long.
const LINGER_TIME: Duration = Duration::from_secs(1);
/// Most bytes of pipelined requests that are read ahead.
const PIPELINE_BYTES: usize = 16 * 1024;
/// While draining, a connection that was used so recently may send one more request: its client is about to.
const DRAIN_IDLE: Duration = Duration::from_secs(1);

/// What the connection task and the request's body share.
#[derive(Debug)]
struct Shared {
    wire: Wire,
    decoder: Decoder,
    trailer_bytes: usize,
    /// The client waits for `100 Continue` before it sends its body.
    expects_continue: bool,
    /// The client's body broke; nothing may follow on this connection.
    broken: bool,
    /// The client closed while a request was under way.
    gone: bool,
    /// The connection task, to be woken when a body that another task reads has ended.
    task: Option<Waker>,
}

/// The body of the request under way.
#[derive(Debug)]
pub(crate) struct RequestBody(Rc<RefCell<Shared>>);

impl RequestBody {
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.0.borrow_mut().poll_frame(context)
    }

    pub(crate) fn length(&self) -> Length {
        let shared = self.0.borrow();
        if shared.decoder.is_end() {
            Length::None
        } else {
            shared.decoder.remaining().map_or(Length::Unknown, Length::Exact)
        }
    }
}

impl Shared {
    fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        if self.decoder.is_end() {
            return Poll::Ready(None);
        }
        if self.broken {
            return Poll::Ready(Some(Err(BodyError::Gone("the body broke before".to_owned()))));
        }
        if std::mem::take(&mut self.expects_continue) && self.wire.read.is_empty() {
            self.wire.out.extend_from_slice(b"HTTP/1.1 100 Continue\r\n\r\n");
        }
        if !self.wire.is_flushed() {
            // Only an interim reply can be queued while a request is read; its client may wait for it.
            let _ = self.wire.poll_flush(context);
        }
        loop {
            match self.decoder.decode(&mut self.wire.read) {
                Ok(Decoded::Data(bytes)) => {
                    if self.decoder.is_end() {
                        self.ended();
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(bytes))));
                }
                Ok(Decoded::Trailers(trailers)) => {
                    self.ended();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
                Ok(Decoded::End) => {
                    self.ended();
                    return Poll::Ready(None);
                }
                Ok(Decoded::NeedMore) => match ready!(self.wire.poll_fill(context)) {
                    Ok(0) => {
                        self.broken = true;
                        self.gone = true;
                        return Poll::Ready(Some(Err(BodyError::Gone("closed".to_owned()))));
                    }
                    Ok(_) => {}
                    Err(error) => {
                        self.broken = true;
                        self.gone = true;
                        return Poll::Ready(Some(Err(BodyError::Gone(error.to_string()))));
                    }
                },
                Err(reject) => {
                    self.broken = true;
                    return Poll::Ready(Some(Err(BodyError::Malformed(reject))));
                }
            }
        }
    }

    fn ended(&mut self) {
        if let Some(task) = self.task.take() {
            task.wake();
        }
    }

    /// Watches a client whose request is read to its end: writes interim replies, notices that it left.
    fn poll_gone(&mut self, context: &mut Context<'_>) -> Poll<()> {
        if !self.wire.is_flushed() {
            let _ = self.wire.poll_flush(context);
        }
        if self.gone {
            return Poll::Ready(());
        }
        if !self.decoder.is_end() {
            // Its body is being read by whoever sends it on, perhaps from another task.
            if !self.task.as_ref().is_some_and(|task| task.will_wake(context.waker())) {
                self.task = Some(context.waker().clone());
            }
            return Poll::Pending;
        }
        while self.wire.read.len() < PIPELINE_BYTES {
            match ready!(self.wire.poll_fill(context)) {
                Ok(0) | Err(_) => {
                    self.gone = true;
                    return Poll::Ready(());
                }
                Ok(_) => {}
            }
        }
        Poll::Pending
    }
}

/// A way to send interim replies to the client of the request under way.
#[derive(Debug, Clone)]
pub(crate) struct InterimSink(Rc<RefCell<Shared>>);

impl InterimSink {
    /// Queues a 1xx reply; it is written when the task runs next.
    pub(crate) fn send(&self, status: StatusCode, headers: &HeaderMap) {
        let mut shared = self.0.borrow_mut();
        if status == StatusCode::CONTINUE {
            shared.expects_continue = false;
        }
        head::write_response(&mut shared.wire.out, status, headers, &Framing::None, true, Version::Http11);
        if let Some(task) = shared.task.take() {
            task.wake();
        }
    }
}

enum Next {
    /// A request; when its first byte was seen.
    Request(Box<RequestHead>, Instant),
    /// Nothing more will come, or may.
    Close,
    Refuse(Reject),
    /// The head did not end in time.
    Slow,
}

/// Serves one connection until it ends.
///
/// `buffered` is what was read of it for protocol detection.
pub(crate) async fn serve<H: Handler>(
    stream: Stream,
    buffered: BytesMut,
    limits: &ListenerLimits,
    mut drain: Drain,
    handler: &H,
) {
    let mut wire = Wire::new(stream);
    wire.read = buffered;
    let shared = Rc::new(RefCell::new(Shared {
        wire,
        decoder: Decoder::new(&Framing::None, limits.trailer_bytes),
        trailer_bytes: limits.trailer_bytes,
        expects_continue: false,
        broken: false,
        gone: false,
        task: None,
    }));
    let head_limits = HeadLimits { bytes: limits.head_bytes, headers: limits.headers, ..HeadLimits::REQUEST };
    let mut timer = Timer::default();
    let opened = Instant::now();
    let mut served: u64 = 0;
    let mut recycled = HeaderMap::new();
    loop {
        let first = served == 0;
        let next =
            read_head(&shared, &head_limits, limits, std::mem::take(&mut recycled), &mut timer, &mut drain, first)
                .await;
        let (head, received) = match next {
            Next::Request(head, received) => (head, received),
            Next::Close => break,
            Next::Refuse(reject) => {
                Box::pin(refuse(&shared, handler.refuse(&reject), limits, &mut timer)).await;
                return;
            }
            Next::Slow => {
                Box::pin(refuse(&shared, handler.slow(), limits, &mut timer)).await;
                return;
            }
        };
        served += 1;
        let last = served == limits.requests_per_connection
            || received.duration_since(opened) >= limits.connection_age
            || drain.is_draining();
        match exchange(&shared, *head, received, last, limits, &drain, handler, &mut timer).await {
            Done::Again(headers) => recycled = headers,
            Done::Linger => {
                linger(&shared, &mut timer).await;
                return;
            }
            Done::Over => return,
        }
    }
    let _ = poll_fn(|context| Poll::Ready(shared.borrow_mut().wire.stream.poll_close(context))).await;
}

async fn read_head(
    shared: &Rc<RefCell<Shared>>,
    head_limits: &HeadLimits,
    limits: &ListenerLimits,
    recycled: HeaderMap,
    timer: &mut Timer,
    drain: &mut Drain,
    first: bool,
) -> Next {
    let started = Instant::now();
    let mut first_byte: Option<Instant> = None;
    let mut recycled = Some(recycled);
    poll_fn(|context| {
        let shared = &mut *shared.borrow_mut();
        loop {
            if shared.wire.read.is_empty() {
                shared.wire.rest();
            } else {
                let received = *first_byte.get_or_insert_with(Instant::now);
                let Wire { read, scanned, .. } = &mut shared.wire;
                match head::parse_request(read, scanned, head_limits, recycled.take().unwrap_or_default()) {
                    Ok(Some(head)) => return Poll::Ready(Next::Request(Box::new(head), received)),
                    Ok(None) => {}
                    Err(reject) => return Poll::Ready(Next::Refuse(reject)),
                }
            }
            match shared.wire.poll_fill(context) {
                Poll::Ready(Ok(0) | Err(_)) => return Poll::Ready(Next::Close),
                Poll::Ready(Ok(_)) => {}
                Poll::Pending => break,
            }
        }
        let deadline = match first_byte {
            Some(at) => after(at, limits.header_timeout),
            // A connection that never said anything is held no longer than a slow head (slowloris).
            None if first => after(started, limits.header_timeout),
            None => after(started, limits.idle_timeout),
        };
        let deadline = if first_byte.is_none() && drain.poll_draining(context).is_ready() {
            deadline.min(after(started, DRAIN_IDLE))
        } else {
            deadline
        };
        match timer.poll_expired(context, deadline) {
            Poll::Ready(()) if first_byte.is_some() || (first && !drain.is_draining()) => Poll::Ready(Next::Slow),
            Poll::Ready(()) => Poll::Ready(Next::Close),
            Poll::Pending => Poll::Pending,
        }
    })
    .await
}

enum Done {
    /// Another request may follow.
    Again(HeaderMap),
    /// Close, but let the client read what it was told.
    Linger,
    /// Nothing is left to close.
    Over,
}

#[allow(clippy::too_many_arguments, reason = "the parts of one connection, used in one place")]
async fn exchange<H: Handler>(
    shared: &Rc<RefCell<Shared>>,
    head: RequestHead,
    received: Instant,
    last: bool,
    limits: &ListenerLimits,
    drain: &Drain,
    handler: &H,
    timer: &mut Timer,
) -> Done {
    let version = head.version;
    let is_head = head.method == Method::HEAD;
    {
        let mut shared = shared.borrow_mut();
        shared.decoder = Decoder::new(&head.framing, shared.trailer_bytes);
        shared.expects_continue = head.expect_continue;
        shared.broken = false;
    }
    let body = if matches!(head.framing, Framing::None) {
        Body::Empty
    } else {
        Body::Http1Request(RequestBody(shared.clone()))
    };
    let keep_alive = head.keep_alive;
    let mut exchange = Exchange {
        timer,
        interim: match version {
            Version::Http11 => Interim::Http1(InterimSink(shared.clone())),
            Version::Http10 => Interim::None,
        },
        expects_continue: head.expect_continue,
        upgrade: head.upgrade.is_some(),
        received,
        version: match version {
            Version::Http11 => http::Version::HTTP_11,
            Version::Http10 => http::Version::HTTP_10,
        },
    };
    let reply = match into_request(head, body) {
        Err(reject) => {
            Box::pin(refuse(shared, handler.refuse(&reject), limits, timer)).await;
            return Done::Over;
        }
        Ok(request) => {
            let mut handling = pin!(handler.handle(request, &mut exchange));
            poll_fn(|context| {
                if let Poll::Ready(reply) = handling.as_mut().poll(context) {
                    return Poll::Ready(Some(reply));
                }
                // Dropping the handler's future cancels whatever it has under way.
                shared.borrow_mut().poll_gone(context).map(|()| None)
            })
            .await
        }
    };
    let Some(mut reply) = reply else { return Done::Over };
    if let Some(tunnel) = reply.tunnel.take() {
        return Box::pin(upgrade(shared, reply, *tunnel, timer)).await;
    }
    let ended = shared.borrow().decoder.is_end();
    let keep_alive = keep_alive && !last && !reply.close && !drain.is_draining() && ended && !shared.borrow().broken;
    let (outcome, keep_alive) = write_reply(shared, &mut reply, version, is_head, keep_alive, timer).await;
    let ok = matches!(outcome, Outcome::Complete);
    reply.account.finish(outcome);
    let mut shared = shared.borrow_mut();
    if !ok {
        return Done::Over;
    }
    if keep_alive && shared.decoder.is_end() && !shared.broken {
        shared.wire.rest();
        let mut headers = reply.head.headers;
        headers.clear();
        return Done::Again(headers);
    }
    Done::Linger
}

fn into_request(head: RequestHead, body: Body) -> Result<Request<Body>, Reject> {
    let mut request = Request::new(body);
    let path = match head.target {
        Target::Absolute { path, .. } | Target::Origin(path) => path,
        Target::Asterisk => PathAndQuery::from_static("*"),
        Target::Authority(_) => return Err(Reject::ConnectNotAllowed),
    };
    *request.uri_mut() = path.into();
    *request.method_mut() = head.method;
    *request.headers_mut() = head.headers;
    Ok(request)
}

/// Writes a reply; tells how it went and whether the connection can go on.
async fn write_reply(
    shared: &Rc<RefCell<Shared>>,
    reply: &mut Reply,
    version: Version,
    is_head: bool,
    keep_alive: bool,
    timer: &mut Timer,
) -> (Outcome, bool) {
    let status = reply.head.status;
    let bodiless = is_head || status == StatusCode::NO_CONTENT || status == StatusCode::NOT_MODIFIED;
    let (framing, keep_alive) = if bodiless {
        (reply_framing_without_body(reply, status), keep_alive)
    } else {
        match (reply.body.length(), version) {
            (Length::None, _) => (Framing::Length(0), keep_alive),
            (Length::Exact(length), _) => (Framing::Length(length), keep_alive),
            (Length::Unknown, Version::Http11) => (Framing::Chunked, keep_alive),
            (Length::Unknown, Version::Http10) => (Framing::UntilClose, false),
        }
    };
    {
        let shared = &mut *shared.borrow_mut();
        // A client that still waits for 100 is answered by this; nothing may come between head and body.
        shared.expects_continue = false;
        head::write_response(&mut shared.wire.out, status, &reply.head.headers, &framing, keep_alive, version);
    }
    let mut encoder = if bodiless { None } else { Some(Encoder::new(&framing)) };
    let mut silent_since = Instant::now();
    let (idle, deadline) = (reply.idle_timeout, reply.deadline);
    let outcome = poll_fn(|context| {
        loop {
            if let Some(encoding) = encoder.as_mut()
                && shared.borrow().wire.has_room()
            {
                // Not while `shared` is borrowed: the body may drive the rest of an upload, which this connection reads.
                let frame = reply.body.poll_frame(context);
                let wire = &mut shared.borrow_mut().wire;
                match frame {
                    Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                        reply.account.sent(bytes.len());
                        silent_since = Instant::now();
                        if wire.encode(encoding, bytes).is_err() {
                            return Poll::Ready(Outcome::UpstreamBroke(BodyError::Gone(
                                "its body was longer than it said".to_owned(),
                            )));
                        }
                        continue;
                    }
                    Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                        reply.account.trailers(&trailers);
                        let done = encoding.end(&mut wire.out, Some(&trailers));
                        encoder = None;
                        if done.is_err() {
                            return Poll::Ready(short_body());
                        }
                        continue;
                    }
                    Poll::Ready(None) => {
                        let done = encoding.end(&mut wire.out, None);
                        encoder = None;
                        if done.is_err() {
                            return Poll::Ready(short_body());
                        }
                        continue;
                    }
                    Poll::Ready(Some(Err(error))) => {
                        let _ = wire.poll_flush(context);
                        return Poll::Ready(Outcome::UpstreamBroke(error));
                    }
                    Poll::Pending => {}
                }
            }
            let (had, flushed) = {
                let wire = &mut shared.borrow_mut().wire;
                (!wire.is_flushed(), wire.poll_flush(context))
            };
            match flushed {
                Poll::Ready(Ok(())) if encoder.is_none() => return Poll::Ready(Outcome::Complete),
                // Room again: take the next piece, unless it is the body that keeps us waiting.
                Poll::Ready(Ok(())) => {
                    if had {
                        silent_since = Instant::now();
                        continue;
                    }
                }
                Poll::Ready(Err(_)) => return Poll::Ready(Outcome::ClientGone),
                Poll::Pending => reply.body.poll_background(context),
            }
            if shared.borrow_mut().poll_gone(context).is_ready() {
                return Poll::Ready(Outcome::ClientGone);
            }
            let silent = after(silent_since, idle);
            return match timer.poll_expired(context, deadline.map_or(silent, |deadline| deadline.min(silent))) {
                Poll::Ready(()) if deadline.is_some_and(|deadline| deadline < silent) => {
                    Poll::Ready(Outcome::UpstreamBroke(BodyError::Late))
                }
                // It does not read what we have for it.
                Poll::Ready(()) if !shared.borrow().wire.is_flushed() => Poll::Ready(Outcome::ClientGone),
                Poll::Ready(()) => Poll::Ready(Outcome::UpstreamBroke(BodyError::Silent)),
                Poll::Pending => Poll::Pending,
            };
        }
    })
    .await;
    (outcome, keep_alive)
}

fn short_body() -> Outcome {
    Outcome::UpstreamBroke(BodyError::Gone("its body was shorter than it said".to_owned()))
}

/// A reply to HEAD and a 304 may announce the length that GET would have.
fn reply_framing_without_body(reply: &Reply, status: StatusCode) -> Framing {
    if status == StatusCode::NO_CONTENT {
        return Framing::None;
    }
    reply
        .head
        .headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse().ok())
        .map_or(Framing::None, Framing::Length)
}

/// Switches protocols: from here on only bytes.
async fn upgrade(shared: &Rc<RefCell<Shared>>, reply: Reply, tunnel: tunnel::Upgraded, timer: &mut Timer) -> Done {
    let mut wire = {
        let mut shared = shared.borrow_mut();
        let empty = Wire::new(Stream::closed());
        std::mem::replace(&mut shared.wire, empty)
    };
    head::write_response(
        &mut wire.out,
        StatusCode::SWITCHING_PROTOCOLS,
        &reply.head.headers,
        &Framing::None,
        true,
        Version::Http11,
    );
    let flushed = poll_fn(|context| wire.poll_flush(context)).await;
    let mut account = reply.account;
    if flushed.is_err() {
        account.finish(Outcome::ClientGone);
        return Done::Over;
    }
    let mut client = wire.stream;
    client.unread(wire.read);
    let tunnel::Upgraded { stream: endpoint, lease } = tunnel;
    let carried = tunnel::run(client, endpoint, reply.idle_timeout, timer).await;
    drop(lease);
    account.carried(&carried);
    account.finish(Outcome::Complete);
    Done::Over
}

/// Answers what was no request, closes our half, and lets the client read the answer.
async fn refuse(shared: &Rc<RefCell<Shared>>, mut reply: Reply, limits: &ListenerLimits, timer: &mut Timer) {
    let deadline = after(Instant::now(), limits.header_timeout);
    let mut body_timer = Timer::default();
    let writing = write_reply(shared, &mut reply, Version::Http11, false, false, &mut body_timer);
    let outcome = timer.bound(Some(deadline), writing).await.map_or(Outcome::ClientGone, |(outcome, _)| outcome);
    reply.account.finish(outcome);
    linger(shared, timer).await;
}

/// Half-closes, then reads on for a while: a close with unread input would reset the connection and take the answer
/// that is under way with it (RFC 9112, 9.6).
async fn linger(shared: &Rc<RefCell<Shared>>, timer: &mut Timer) {
    let deadline = after(Instant::now(), LINGER_TIME);
    let mut left = LINGER_BYTES;
    let mut closed = false;
    let reading = poll_fn(|context| {
        let wire = &mut shared.borrow_mut().wire;
        if !closed {
            match wire.stream.poll_close(context) {
                Poll::Ready(Ok(())) => closed = true,
                Poll::Ready(Err(_)) => return Poll::Ready(()),
                Poll::Pending => return Poll::Pending,
            }
        }
        while left > 0 {
            match ready!(poll_read_scratch(&mut wire.stream, context, <[u8]>::len)) {
                Ok(0) | Err(_) => break,
                Ok(length) => left = left.saturating_sub(length),
            }
        }
        Poll::Ready(())
    });
    let _ = timer.bound(Some(deadline), reading).await;
}
