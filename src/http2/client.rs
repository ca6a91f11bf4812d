//! The client side of HTTP/2: sessions to endpoints, and one exchange on a session.

use std::cell::Cell;
use std::future::poll_fn;
use std::rc::Rc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use bytes::Bytes;
use h2::client::{ResponseFuture, SendRequest};
use h2::{Reason, RecvStream};
use http::uri::{Authority, PathAndQuery, Scheme};
use http::{HeaderMap, Method, Request, Response, StatusCode, Uri, header};
use tokio::time::Instant;

use super::guard::{Guarded, Seen};
use super::pump::{Pump, PumpError};
use super::server::poll_stream;
use super::{Cork, rules};
use crate::http1::Reject;
use crate::http1::client::Answer;
use crate::proxy::body::{Body, BodyError, Frame, Length, Outgoing};
use crate::proxy::exchange::Interim;
use crate::proxy::failure::TryError;
use crate::stream::Stream;
use crate::timer::{Timer, after};
use crate::trust::Bond;
use crate::upstream::pool::{Lease, Vacancy};

const STREAM_WINDOW: u32 = 256 * 1024;
/// Never the narrower one: the session is shared, and replies that their clients do not read must not stop others.
const CONNECTION_WINDOW: u32 = 100 * STREAM_WINDOW;
const SEND_BUFFER: usize = 64 * 1024;
const HEAD_BYTES: u32 = 64 * 1024;
/// Most requests of ours on one session, whatever the peer allows; more open another one.
const MAX_STREAMS: usize = 100;
const PING_AFTER: Duration = Duration::from_secs(25);
const PONG_WITHIN: Duration = Duration::from_secs(10);

/// One HTTP/2 connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Session {
    send: SendRequest<Bytes>,
    state: Rc<State>,
}

#[derive(Debug)]
struct State {
    active: Cell<usize>,
    closed: Cell<bool>,
    idle_since: Cell<Instant>,
    vacancy: Vacancy,
    /// Who the endpoint is, for TLS of the mesh.
    bond: Option<Rc<Bond>>,
}

impl Session {
    /// Shakes hands and starts the session's driver on this worker.
    pub(crate) async fn open(stream: Stream, lease: Lease) -> Result<Rc<Self>, TryError> {
        let (guarded, seen) = Guarded::new(stream, false, None);
        let mut builder = h2::client::Builder::new();
        builder
            .enable_push(false)
            .initial_window_size(STREAM_WINDOW)
            .initial_connection_window_size(CONNECTION_WINDOW)
            .max_send_buffer_size(SEND_BUFFER)
            .max_header_list_size(HEAD_BYTES)
            .initial_max_send_streams(MAX_STREAMS);
        let (send, connection) =
            builder.handshake(guarded).await.map_err(|error| TryError::Unsent { why: error.to_string() })?;
        let state = Rc::new(State {
            active: Cell::new(0),
            closed: Cell::new(false),
            idle_since: Cell::new(Instant::now()),
            vacancy: lease.vacancy(),
            bond: lease.bond(),
        });
        let session = Rc::new(Self { send, state: state.clone() });
        tokio::task::spawn_local(drive(connection, seen, state, lease));
        Ok(session)
    }

    /// Tells whether another request may be sent on it.
    pub(crate) fn has_room(&self) -> bool {
        !self.state.closed.get()
            && !self.is_lost()
            && self.state.active.get() < self.send.current_max_send_streams().clamp(1, MAX_STREAMS)
    }

    /// Tells whether the endpoint is trusted no longer.
    pub(crate) fn is_lost(&self) -> bool {
        self.state.bond.as_ref().is_some_and(|bond| bond.is_lost())
    }

    /// Tells whether it has ended.
    pub(crate) fn is_closed(&self) -> bool {
        self.state.closed.get()
    }

    /// Returns since when nothing is under way on it; `None` while something is.
    pub(crate) fn idle_since(&self) -> Option<Instant> {
        (self.state.active.get() == 0).then(|| self.state.idle_since.get())
    }
}

/// Drives a session until it ends; gives its place under the limits back then.
async fn drive(mut connection: h2::client::Connection<Guarded, Bytes>, seen: Rc<Seen>, state: Rc<State>, lease: Lease) {
    let mut cork = Cork::default();
    let mut timer = Timer::default();
    let mut pings = connection.ping_pong();
    let mut ping_sent: Option<Instant> = None;
    poll_fn(|context| {
        ready!(cork.poll_pulled(context));
        if std::pin::Pin::new(&mut connection).poll(context).is_ready() {
            return Poll::Ready(());
        }
        loop {
            if let (Some(pings), Some(_)) = (pings.as_mut(), ping_sent)
                && pings.poll_pong(context).is_ready()
            {
                ping_sent = None;
            }
            let deadline = match ping_sent {
                Some(sent) => after(sent, PONG_WITHIN),
                None => after(seen.last_read.get(), PING_AFTER),
            };
            ready!(timer.poll_expired(context, deadline));
            if ping_sent.is_some() {
                // Silent for too long: every request on it fails, and the next one opens another session.
                return Poll::Ready(());
            }
            match pings.as_mut().map(|pings| pings.send_ping(h2::Ping::opaque())) {
                Some(Ok(())) => ping_sent = Some(Instant::now()),
                Some(Err(_)) | None => seen.last_read.set(Instant::now()),
            }
            context.waker().wake_by_ref();
        }
    })
    .await;
    state.closed.set(true);
    drop(lease);
}

/// A request under way counts until this is dropped.
#[derive(Debug)]
struct ActiveStream(Rc<State>);

impl ActiveStream {
    fn new(state: &Rc<State>) -> Self {
        state.active.set(state.active.get() + 1);
        Self(state.clone())
    }
}

impl Drop for ActiveStream {
    fn drop(&mut self) {
        self.0.active.set(self.0.active.get().saturating_sub(1));
        self.0.idle_since.set(Instant::now());
        self.0.vacancy.announce();
    }
}

/// Sends a request and waits for the head of the reply. Dropping the future resets the stream.
pub(crate) async fn exchange(
    session: Rc<Session>,
    method: &Method,
    scheme: &Scheme,
    uri: &Uri,
    headers: &HeaderMap,
    outgoing: &mut Option<Outgoing>,
    interim: &Interim,
) -> Result<Answer, TryError> {
    let active = ActiveStream::new(&session.state);
    let mut send = session.send.clone();
    poll_fn(|context| send.poll_ready(context)).await.map_err(|error| {
        session.state.closed.set(true);
        TryError::Unsent { why: error.to_string() }
    })?;
    let end = outgoing.as_ref().is_none_or(|outgoing| outgoing.length() == Length::None);
    let request = build(method, scheme, uri, headers, outgoing.as_ref().map_or(Length::None, Outgoing::length))?;
    let (mut response, stream) = send.send_request(request, end).map_err(|error| try_error(&error))?;
    let mut pump = (!end).then(|| Pump::new(stream));
    let head = poll_fn(|context| {
        if let (Some(pumping), Some(outgoing)) = (pump.as_mut(), outgoing.as_mut()) {
            match pumping.poll(context, outgoing) {
                Poll::Ready(Err(PumpError::Source(error))) => return Poll::Ready(Err(TryError::Client(error))),
                // Sent, or the endpoint took no more of it; its reply says why.
                Poll::Ready(Ok(()) | Err(PumpError::Sink)) => pump = None,
                Poll::Pending => {}
            }
        }
        poll_head(&mut response, interim, context)
    })
    .await?;
    let (head, stream) = head.into_parts();
    let left = head.headers.get(header::CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    let body = if stream.is_end_stream() && pump.is_none() {
        Body::Empty
    } else {
        let upload = pump.and_then(|pump| Some((pump, outgoing.take()?)));
        Body::Http2Response(Box::new(ResponseBody {
            stream,
            left,
            data_ended: false,
            ended: false,
            upload,
            failed: None,
            _active: active,
        }))
    };
    Ok(Answer { response: Response::from_parts(head, body), upgraded: None })
}

fn poll_head(
    response: &mut ResponseFuture,
    interim: &Interim,
    context: &mut Context<'_>,
) -> Poll<Result<Response<RecvStream>, TryError>> {
    while let Poll::Ready(Some(Ok(head))) = response.poll_informational(context) {
        if head.status() != StatusCode::CONTINUE {
            interim.send(head.status(), head.headers());
        }
    }
    match ready!(std::pin::Pin::new(response).poll(context)) {
        Ok(head) => Poll::Ready(Ok(head)),
        Err(error) => Poll::Ready(Err(try_error(&error))),
    }
}

fn build(
    method: &Method,
    scheme: &Scheme,
    uri: &Uri,
    headers: &HeaderMap,
    length: Length,
) -> Result<Request<()>, TryError> {
    let bad = |_| TryError::Client(BodyError::Malformed(Reject::Host));
    let mut headers = headers.clone();
    rules::strip_connection_fields(&mut headers);
    headers.remove(header::EXPECT);
    if let Length::Exact(length) = length {
        headers.insert(header::CONTENT_LENGTH, length.into());
    }
    let host = headers.remove(header::HOST);
    let authority = match &host {
        Some(host) => Authority::try_from(host.as_bytes()).map_err(bad)?,
        // An HTTP/1.0 client may name no host.
        None => Authority::from_static("localhost"),
    };
    let path = uri.path_and_query().cloned().unwrap_or_else(|| PathAndQuery::from_static("/"));
    let uri = Uri::builder()
        .scheme(scheme.clone())
        .authority(authority)
        .path_and_query(path)
        .build()
        .map_err(|_| TryError::Client(BodyError::Malformed(Reject::Target)))?;
    let mut request = Request::new(());
    *request.method_mut() = method.clone();
    *request.uri_mut() = uri;
    *request.version_mut() = http::Version::HTTP_2;
    *request.headers_mut() = headers;
    Ok(request)
}

/// What an error of a stream or its connection says about the request on it.
fn try_error(error: &h2::Error) -> TryError {
    let why = error.to_string();
    match error.reason() {
        // RFC 9113, 8.7: neither was looked at by the application.
        Some(Reason::REFUSED_STREAM) if error.is_remote() => TryError::Unsent { why },
        // h2 gives this error to streams beyond the last one that the peer looked at, whatever the code (6.8).
        Some(_) if error.is_go_away() && error.is_remote() => TryError::Unsent { why },
        Some(Reason::PROTOCOL_ERROR) if error.is_library() => TryError::Malformed(Reject::Http2),
        _ => TryError::Reset { why, reused: false },
    }
}

/// The body of a reply.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    stream: RecvStream,
    left: Option<u64>,
    data_ended: bool,
    ended: bool,
    /// The rest of an upload whose reply came early.
    upload: Option<(Pump, Outgoing)>,
    /// What broke that upload.
    failed: Option<BodyError>,
    _active: ActiveStream,
}

impl ResponseBody {
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.poll_background(context);
        if let Some(error) = self.failed.take() {
            self.ended = true;
            return Poll::Ready(Some(Err(error)));
        }
        if self.ended {
            return Poll::Ready(None);
        }
        let frame = ready!(poll_stream(&mut self.stream, &mut self.data_ended, &mut self.left, context));
        if !matches!(frame, Some(Ok(Frame::Data(_)))) {
            self.ended = true;
        }
        Poll::Ready(frame)
    }

    pub(crate) fn poll_background(&mut self, context: &mut Context<'_>) {
        if let Some((pump, outgoing)) = self.upload.as_mut() {
            match pump.poll(context, outgoing) {
                Poll::Pending => {}
                Poll::Ready(Ok(()) | Err(PumpError::Sink)) => self.upload = None,
                // The client broke its upload off: the endpoint must not take it for whole.
                Poll::Ready(Err(PumpError::Source(error))) => {
                    pump.stream.send_reset(Reason::CANCEL);
                    self.failed = Some(error.of_upload());
                    self.upload = None;
                }
            }
        }
    }

    pub(crate) fn length(&self) -> Length {
        if self.ended || self.stream.is_end_stream() {
            Length::None
        } else {
            self.left.map_or(Length::Unknown, Length::Exact)
        }
    }
}
