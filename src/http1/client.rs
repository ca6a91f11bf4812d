//! The client side of HTTP/1.1: one exchange on a connection to an endpoint.
//!
//! It runs inside the task of the client's connection: the same loop pulls the request's body, writes it, and reads the
//! reply's head. If the reply comes before the upload has ended, the rest of the upload is driven by the reply's body.

use std::future::poll_fn;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use http::{HeaderMap, Method, Response, StatusCode, Uri};
use tokio::time::Instant;

use super::Reject;
use super::body::{Decoded, Decoder, Encoder};
use super::head::{self, Framing, HeadLimits, ResponseHead};
use super::hop;
use super::wire::Wire;
use crate::proxy::body::{Body, BodyError, Frame, Length, Outgoing};
use crate::proxy::exchange::Interim;
use crate::proxy::failure::TryError;
use crate::proxy::tunnel::Upgraded;
use crate::stream::Stream;
use crate::timer::{Timer, after};
use crate::upstream::pool::Lease;

/// A client that expects `100 Continue` gets its body sent on after this time, whatever the endpoint says (RFC 9110,
/// 10.1.1: a proxy must not wait for ever).
const CONTINUE_WAIT: Duration = Duration::from_secs(1);
/// Most trailers of a reply, in bytes.
const TRAILER_BYTES: usize = 8 * 1024;
/// Most interim replies before a final one.
const MAX_INTERIM: u32 = 16;

/// A connection to an endpoint.
#[derive(Debug)]
pub(crate) struct Connection {
    wire: Wire,
    /// At least one exchange was done on it.
    pub(crate) reused: bool,
    /// Its place in the pool and under the limits.
    pub(crate) lease: Lease,
}

impl Connection {
    pub(crate) fn new(stream: Stream, lease: Lease) -> Self {
        Self { wire: Wire::new(stream), reused: false, lease }
    }

    /// Tells whether an idle connection may be used again.
    pub(crate) fn is_quiet(&mut self) -> bool {
        self.wire.is_quiet()
    }

    fn give_back(mut self) {
        self.reused = true;
        self.wire.rest();
        let lease = self.lease.clone();
        lease.give_back(self);
    }
}

/// The head of a request as an endpoint gets it.
#[derive(Debug)]
pub(crate) struct RequestHead<'a> {
    pub(crate) method: &'a Method,
    pub(crate) uri: &'a Uri,
    pub(crate) headers: &'a HeaderMap,
    /// Wait for `100 Continue` before the body.
    pub(crate) expects_continue: bool,
    /// The client may switch protocols.
    pub(crate) upgrade: bool,
}

/// What an endpoint answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) response: Response<Body>,
    /// Behind a 101.
    pub(crate) upgraded: Option<Box<Upgraded>>,
}

/// Sends a request and waits for the head of the reply.
///
/// `outgoing` is left where it was when the exchange fails, so that it can be rewound for another try. Dropping the
/// future closes the connection.
pub(crate) async fn exchange(
    mut connection: Connection,
    request: RequestHead<'_>,
    outgoing: &mut Option<Outgoing>,
    interim: &Interim,
    timer: &mut Timer,
) -> Result<Answer, TryError> {
    let length = outgoing.as_ref().map_or(Length::None, Outgoing::length);
    let framing = match length {
        Length::None if expects_body(request.method) => Framing::Length(0),
        Length::None => Framing::None,
        Length::Exact(length) => Framing::Length(length),
        Length::Unknown => Framing::Chunked,
    };
    let path = request.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    head::write_request(&mut connection.wire.out, request.method, path, request.headers, &framing);
    connection.wire.mark();
    let mut encoder = (length != Length::None).then(|| Encoder::new(&framing));
    let mut gate = request.expects_continue.then(|| after(Instant::now(), CONTINUE_WAIT));
    let mut interims = 0;
    let mut write_error = None;
    let limits = HeadLimits::RESPONSE;
    let result = poll_fn(|context| {
        loop {
            // The gate opens on 100, on a final reply, or when its time is over.
            if let Some(deadline) = gate
                && timer.poll_expired(context, deadline).is_ready()
            {
                gate = None;
            }
            let wire = &mut connection.wire;
            let mut progress = false;
            if gate.is_none() && write_error.is_none() {
                match poll_upload(wire, &mut encoder, outgoing.as_mut(), context) {
                    Ok(moved) => progress |= moved,
                    Err(error) => return Poll::Ready(Err(error)),
                }
            }
            if write_error.is_none() && !wire.is_flushed() {
                match wire.poll_flush(context) {
                    Poll::Ready(Ok(())) => progress |= encoder.is_some() && gate.is_none(),
                    // The endpoint may have answered and closed without reading all: look before giving up.
                    Poll::Ready(Err(error)) => write_error = Some(error),
                    Poll::Pending => {}
                }
            }
            let Wire { read, scanned, .. } = wire;
            if !read.is_empty() {
                match head::parse_response(read, scanned, &limits, request.method, HeaderMap::new()) {
                    Ok(Some(head)) if head.status == StatusCode::SWITCHING_PROTOCOLS => {
                        return Poll::Ready(if request.upgrade { Ok(head) } else { Err(unasked_upgrade()) });
                    }
                    Ok(Some(mut head)) if head.status.is_informational() => {
                        hop::strip(&mut head.headers, hop::Direction::Response, hop::Upgrade::Strip);
                        interims += 1;
                        if interims > MAX_INTERIM {
                            return Poll::Ready(Err(TryError::Malformed(Reject::InterimTooMany)));
                        }
                        if head.status == StatusCode::CONTINUE {
                            gate = None;
                            if request.expects_continue {
                                interim.send(head.status, &head.headers);
                            }
                        } else {
                            interim.send(head.status, &head.headers);
                        }
                        continue;
                    }
                    Ok(Some(head)) => return Poll::Ready(Ok(head)),
                    Ok(None) => {}
                    Err(reject) => return Poll::Ready(Err(TryError::Malformed(reject))),
                }
            }
            match wire.poll_fill(context) {
                Poll::Ready(Ok(0)) => return Poll::Ready(Err(broken(&connection, "closed before a reply"))),
                Poll::Ready(Ok(_)) => continue,
                Poll::Ready(Err(error)) => return Poll::Ready(Err(broken(&connection, &error.to_string()))),
                Poll::Pending => {}
            }
            if let Some(error) = &write_error {
                // Nothing to read and nothing can be written: broken.
                return Poll::Ready(Err(broken(&connection, &error.to_string())));
            }
            if !progress {
                return Poll::Pending;
            }
        }
    })
    .await?;
    if result.status == StatusCode::SWITCHING_PROTOCOLS && (encoder.is_some() || !connection.wire.is_flushed()) {
        // The rest of the request would be taken for bytes of the new protocol.
        return Err(unasked_upgrade());
    }
    let gated = gate.is_some();
    Ok(answer(connection, result, encoder, outgoing, gated))
}

fn answer(
    connection: Connection,
    head: ResponseHead,
    encoder: Option<Encoder>,
    outgoing: &mut Option<Outgoing>,
    gated: bool,
) -> Answer {
    let ResponseHead { status, headers, framing, mut keep_alive, .. } = head;
    let mut upgraded = None;
    let body = if status == StatusCode::SWITCHING_PROTOCOLS {
        let Connection { mut wire, lease, .. } = connection;
        wire.stream.unread(wire.read);
        upgraded = Some(Box::new(Upgraded { stream: wire.stream, lease }));
        Body::Empty
    } else {
        // The client was never told to send its body, and the endpoint may still wait for it.
        keep_alive &= !gated;
        let unfinished = !gated && (encoder.is_some() || !connection.wire.is_flushed());
        let upload = unfinished.then(|| Upload { encoder, outgoing: outgoing.take() });
        let decoder = Decoder::new(&framing, TRAILER_BYTES);
        let mut body = ResponseBody { connection: Some(connection), decoder, keep_alive, upload, failed: None };
        if body.decoder.is_end() {
            body.finish();
            Body::Empty
        } else {
            Body::Http1Response(Box::new(body))
        }
    };
    let mut response = Response::new(body);
    *response.status_mut() = status;
    *response.headers_mut() = headers;
    Answer { response, upgraded }
}

/// Methods whose requests carry `Content-Length: 0` when they have no body (RFC 9110, 8.6).
fn expects_body(method: &Method) -> bool {
    matches!(*method, Method::POST | Method::PUT | Method::PATCH)
}

fn unasked_upgrade() -> TryError {
    TryError::Malformed(Reject::UpgradeUnasked)
}

fn broken(connection: &Connection, why: &str) -> TryError {
    if connection.wire.has_written() {
        TryError::Reset { why: why.to_owned(), reused: connection.reused }
    } else {
        TryError::Unsent { why: why.to_owned() }
    }
}

/// Moves what there is of a body to the wire. True: something moved.
fn poll_upload(
    wire: &mut Wire,
    encoder: &mut Option<Encoder>,
    outgoing: Option<&mut Outgoing>,
    context: &mut Context<'_>,
) -> Result<bool, TryError> {
    let (Some(encoding), Some(outgoing)) = (encoder.as_mut(), outgoing) else {
        return Ok(false);
    };
    let mut moved = false;
    while wire.has_room() {
        match outgoing.poll_frame(context) {
            Poll::Ready(Some(Ok(Frame::Data(bytes)))) => {
                wire.encode(encoding, bytes).map_err(|_| TryError::Client(BodyError::Malformed(Reject::BodyLength)))?;
                moved = true;
            }
            Poll::Ready(Some(Ok(Frame::Trailers(trailers)))) => {
                encoding
                    .end(&mut wire.out, Some(&trailers))
                    .map_err(|_| TryError::Client(BodyError::Malformed(Reject::BodyLength)))?;
                *encoder = None;
                return Ok(true);
            }
            Poll::Ready(None) => {
                encoding
                    .end(&mut wire.out, None)
                    .map_err(|_| TryError::Client(BodyError::Malformed(Reject::BodyLength)))?;
                *encoder = None;
                return Ok(true);
            }
            Poll::Ready(Some(Err(error))) => return Err(TryError::Client(error)),
            Poll::Pending => break,
        }
    }
    Ok(moved)
}

/// The rest of an upload whose reply came early.
#[derive(Debug)]
struct Upload {
    encoder: Option<Encoder>,
    outgoing: Option<Outgoing>,
}

/// The body of a reply; gives its connection back when it has ended.
#[derive(Debug)]
pub(crate) struct ResponseBody {
    connection: Option<Connection>,
    decoder: Decoder,
    keep_alive: bool,
    upload: Option<Upload>,
    failed: Option<BodyError>,
}

impl ResponseBody {
    pub(crate) fn poll_frame(&mut self, context: &mut Context<'_>) -> Poll<Option<Result<Frame, BodyError>>> {
        self.poll_background(context);
        let Some(connection) = self.connection.as_mut() else {
            return Poll::Ready(self.failed.take().map(Err));
        };
        loop {
            match self.decoder.decode(&mut connection.wire.read) {
                Ok(Decoded::Data(bytes)) => {
                    if self.decoder.is_end() {
                        self.finish();
                    }
                    return Poll::Ready(Some(Ok(Frame::Data(bytes))));
                }
                Ok(Decoded::Trailers(trailers)) => {
                    self.finish();
                    return Poll::Ready(Some(Ok(Frame::Trailers(trailers))));
                }
                Ok(Decoded::End) => {
                    self.finish();
                    return Poll::Ready(None);
                }
                Ok(Decoded::NeedMore) => {}
                Err(reject) => {
                    self.connection = None;
                    return Poll::Ready(Some(Err(BodyError::Malformed(reject))));
                }
            }
            let error = match ready!(connection.wire.poll_fill(context)) {
                Ok(0) if self.decoder.end_of_input().is_ok() => {
                    self.connection = None;
                    return Poll::Ready(None);
                }
                Ok(0) => "closed in the middle".to_owned(),
                Ok(_) => continue,
                Err(error) => error.to_string(),
            };
            self.connection = None;
            return Poll::Ready(Some(Err(BodyError::Gone(error))));
        }
    }

    pub(crate) fn poll_background(&mut self, context: &mut Context<'_>) {
        let (Some(upload), Some(connection)) = (self.upload.as_mut(), self.connection.as_mut()) else { return };
        loop {
            let moved = poll_upload(&mut connection.wire, &mut upload.encoder, upload.outgoing.as_mut(), context);
            let was_full = !connection.wire.has_room();
            let flushed = connection.wire.poll_flush(context);
            match (moved, flushed) {
                (Ok(_), Poll::Ready(Ok(()))) if upload.encoder.is_none() => {
                    self.upload = None;
                    return;
                }
                // Without room the body was not asked, and nobody else would ask it.
                (Ok(moved), Poll::Ready(Ok(()))) if moved || was_full => {}
                (Ok(_), Poll::Pending | Poll::Ready(Ok(()))) => return,
                // The client broke its upload off: the endpoint must not take it for whole, nor wait for the rest.
                (Err(TryError::Client(error)), _) => {
                    self.failed = Some(error.of_upload());
                    self.connection = None;
                    self.upload = None;
                    return;
                }
                // The upload is lost, the reply may still be whole; the connection is not used again.
                (Err(_), _) | (_, Poll::Ready(Err(_))) => {
                    self.upload = None;
                    self.keep_alive = false;
                    return;
                }
            }
        }
    }

    pub(crate) fn length(&self) -> Length {
        if self.decoder.is_end() {
            Length::None
        } else {
            self.decoder.remaining().map_or(Length::Unknown, Length::Exact)
        }
    }

    fn finish(&mut self) {
        let Some(connection) = self.connection.take() else { return };
        if self.keep_alive && self.upload.is_none() && connection.wire.is_flushed() && connection.wire.read.is_empty() {
            connection.give_back();
        }
    }
}
