//! The server side of one HTTP/1.1 connection: head, handler, reply, again.
//!
//! One task owns the connection; the handler runs inside it and pulls the request's body through it, so the bytes of an
//! exchange cross no thread, no channel and no second task.

mod reply;

use std::cell::RefCell;
use std::future::poll_fn;
use std::pin::pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker, ready};
use std::time::Duration;

use bytes::BytesMut;
use http::uri::PathAndQuery;
use http::{HeaderMap, Method, Request, StatusCode};
use tokio::time::Instant;

use self::reply::{linger, refuse, upgrade, write_reply};
use super::Reject;
use super::body::{Decoded, Decoder};
use super::head::{self, Framing, HeadLimits, RequestHead, Target, Version};
use super::wire::Wire;
use crate::config::ListenerLimits;
use crate::proxy::body::{Body, BodyError, Frame, Length};
use crate::proxy::exchange::{Exchange, Handler, Interim, Outcome};
use crate::shutdown::Drain;
use crate::stream::Stream;
use crate::timer::{Timer, after};

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
