//! Our HTTP/1.1 against hyper's: the same bytes must mean the same, or we must refuse them and say why.
//!
//! What is compared is a connection, not a message: smuggling is two sides that disagree where a message ends. A
//! difference is an error of ours, unless it is on the list in [`is_documented`].

use std::cell::RefCell;
use std::convert::Infallible;
use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, Waker};

use bytes::{Bytes, BytesMut};
use http::uri::Uri;
use http::{HeaderMap, Method, Request, Response};
use http_body_util::{BodyExt, Empty};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use meshless::http1::Reject;
use meshless::http1::body::{Decoded, Decoder};
use meshless::http1::head::{Framing, HeadLimits, ResponseHead, Target, parse_request, parse_response};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};

const TRAILER_BYTES: usize = 8 * 1024;

/// A message as one side understood it; only complete ones are.
#[derive(Debug, PartialEq)]
pub(crate) struct Message {
    /// Method and target of a request, status of a response.
    pub(crate) start: Start,
    /// All fields.
    pub(crate) headers: HeaderMap,
    /// The body without its framing.
    pub(crate) body: Vec<u8>,
    /// The trailers.
    pub(crate) trailers: HeaderMap,
}

/// What the first line says.
#[derive(Debug, PartialEq)]
pub(crate) enum Start {
    /// Of a request.
    Request(Method, Uri),
    /// Of a response.
    Response(u16),
}

/// How a connection ended for us.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// We close after the last message (or it is a tunnel), or the peer did between two messages.
    Closed,
    /// We refuse what follows the last complete message.
    Refused(Reject),
    /// The peer closed within a message.
    Truncated,
}

/// What we made of the bytes, once hyper agreed.
#[derive(Debug)]
pub(crate) struct Agreement {
    /// The complete messages.
    pub(crate) messages: Vec<Message>,
    /// How it ended.
    pub(crate) end: End,
}

/// Runs hyper.
pub(crate) struct Oracle {
    runtime: tokio::runtime::Runtime,
}

impl Oracle {
    /// Starts the runtime that hyper runs on.
    pub(crate) fn new() -> Self {
        Self { runtime: tokio::runtime::Builder::new_current_thread().build().expect("a runtime") }
    }

    /// Compares what the two make of a client's bytes; the error shows both.
    pub(crate) fn compare_requests(&self, bytes: &[u8]) -> Result<Agreement, String> {
        let (messages, end) = our_requests(bytes);
        let theirs = self.runtime.block_on(hyper_requests(bytes));
        judge(bytes, messages, end, &theirs)
    }

    /// Compares what the two make of the response to a `method` request; the error shows both.
    pub(crate) fn compare_response(&self, method: &Method, bytes: &[u8]) -> Result<Agreement, String> {
        let (message, end) = our_response(method, bytes);
        let theirs = self.runtime.block_on(hyper_response(method, bytes));
        judge(bytes, message.into_iter().collect(), end, &theirs.into_iter().collect::<Vec<_>>())
    }
}

/// Says what differs.
pub(crate) fn judge(bytes: &[u8], messages: Vec<Message>, end: End, theirs: &[Message]) -> Result<Agreement, String> {
    let same = messages.len() <= theirs.len()
        && messages.iter().zip(theirs).all(|(ours, theirs)| ours == theirs || is_documented(ours, theirs));
    // What we refused hyper may have taken. What we did not refuse must end at the same place.
    let ends_alike = matches!(end, End::Refused(_)) || messages.len() == theirs.len();
    if same && ends_alike {
        return Ok(Agreement { messages, end });
    }
    Err(format!("bytes: \"{}\"\nwe: {messages:#?}\nthen {end:?}\nhyper: {theirs:#?}", bytes.escape_ascii()))
}

/// The differences that are meant.
fn is_documented(ours: &Message, theirs: &Message) -> bool {
    match (&ours.start, &theirs.start) {
        // `OPTIONS http://host` without a path is about the server, and must be relayed as `*` (RFC 9112 §3.2.4);
        // hyper's URI cannot tell it from one with the path `/`.
        (Start::Request(Method::OPTIONS, our_uri), Start::Request(Method::OPTIONS, their_uri)) => {
            our_uri.path() == "*"
                && their_uri.path() == "/"
                && our_uri.authority() == their_uri.authority()
                && (&ours.headers, &ours.body, &ours.trailers) == (&theirs.headers, &theirs.body, &theirs.trailers)
        }
        _ => false,
    }
}

fn our_requests(bytes: &[u8]) -> (Vec<Message>, End) {
    let (mut buffer, mut scanned, mut messages) = (BytesMut::from(bytes), 0, Vec::new());
    loop {
        let head = match parse_request(&mut buffer, &mut scanned, &HeadLimits::REQUEST, HeaderMap::new()) {
            Ok(Some(head)) => head,
            // A lone empty line is no message.
            Ok(None) if buffer.is_empty() || &buffer[..] == b"\r\n" => return (messages, End::Closed),
            Ok(None) => return (messages, End::Truncated),
            Err(reject) => return (messages, End::Refused(reject)),
        };
        let (body, trailers) = match our_body(&head.framing, &mut buffer) {
            Ok(body) => body,
            Err(end) => return (messages, end),
        };
        let tunnel = matches!(head.target, Target::Authority(_));
        let start = Start::Request(head.method, head.target.into_uri());
        messages.push(Message { start, headers: head.headers, body, trailers });
        if tunnel || !head.keep_alive {
            return (messages, End::Closed);
        }
    }
}

fn our_response(method: &Method, bytes: &[u8]) -> (Option<Message>, End) {
    let (mut buffer, mut scanned) = (BytesMut::from(bytes), 0);
    loop {
        let head: ResponseHead =
            match parse_response(&mut buffer, &mut scanned, &HeadLimits::RESPONSE, method, HeaderMap::new()) {
                Ok(Some(head)) if head.is_interim() => continue,
                Ok(Some(head)) => head,
                Ok(None) => return (None, End::Truncated),
                Err(reject) => return (None, End::Refused(reject)),
            };
        return match our_body(&head.framing, &mut buffer) {
            Ok((body, trailers)) => {
                let start = Start::Response(head.status.as_u16());
                (Some(Message { start, headers: head.headers, body, trailers }), End::Closed)
            }
            Err(end) => (None, end),
        };
    }
}

fn our_body(framing: &Framing, buffer: &mut BytesMut) -> Result<(Vec<u8>, HeaderMap), End> {
    let mut decoder = Decoder::new(framing, TRAILER_BYTES);
    let (mut body, mut trailers) = (Vec::new(), HeaderMap::new());
    loop {
        match decoder.decode(buffer).map_err(End::Refused)? {
            Decoded::Data(data) => body.extend_from_slice(&data),
            Decoded::Trailers(fields) => trailers = fields,
            Decoded::End => return Ok((body, trailers)),
            Decoded::NeedMore => {
                return decoder.end_of_input().map(|()| (body, trailers)).map_err(|_| End::Truncated);
            }
        }
    }
}

async fn hyper_requests(bytes: &[u8]) -> Vec<Message> {
    let seen = Rc::new(RefCell::new(Vec::new()));
    let service = service_fn(|request: Request<Incoming>| {
        let seen = Rc::clone(&seen);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect().await?;
            let trailers = body.trailers().cloned().unwrap_or_default();
            let start = Start::Request(head.method, head.uri);
            let body = body.to_bytes().to_vec();
            seen.borrow_mut().push(Message { start, headers: head.headers, body, trailers });
            Ok::<_, hyper::Error>(Response::new(Empty::<Bytes>::new()))
        }
    });
    let io = TokioIo::new(tokio::io::join(io::Cursor::new(bytes.to_vec()), tokio::io::sink()));
    // The result only says why hyper ended; what it took is in `seen`.
    let _ = hyper::server::conn::http1::Builder::new().half_close(true).serve_connection(io, service).await;
    seen.take()
}

async fn hyper_response(method: &Method, bytes: &[u8]) -> Option<Message> {
    let io = TokioIo::new(Reply { answer: io::Cursor::new(bytes.to_vec()), asked: false, waiting: None });
    let (mut sender, connection) = hyper::client::conn::http1::handshake(io).await.ok()?;
    let uri = if *method == Method::CONNECT { "a:1" } else { "/" };
    let request = Request::builder().method(method).uri(uri).header("host", "a").body(Empty::<Bytes>::new()).ok()?;
    let exchange = async move {
        let (head, body) = sender.send_request(request).await.ok()?.into_parts();
        let body = body.collect().await.ok()?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let start = Start::Response(head.status.as_u16());
        Some(Message { start, headers: head.headers, body: body.to_bytes().to_vec(), trailers })
    };
    let drive = async {
        let _ = connection.await;
        Ok::<(), Infallible>(())
    };
    tokio::join!(exchange, drive).0
}

/// A server that answers once it was asked; hyper's client takes an answer that is there before as an error.
struct Reply {
    answer: io::Cursor<Vec<u8>>,
    asked: bool,
    waiting: Option<Waker>,
}

impl AsyncRead for Reply {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.asked {
            return Pin::new(&mut self.answer).poll_read(cx, buffer);
        }
        self.waiting = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl AsyncWrite for Reply {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.asked = true;
        if let Some(waker) = self.waiting.take() {
            waker.wake();
        }
        Poll::Ready(Ok(bytes.len()))
    }

    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}
