//! An HTTP/1.1 server of a test, in a thread of its own, that can be broken.

use std::convert::Infallible;
use std::fmt;
use std::future::Future;
use std::net::{Ipv4Addr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use bytes::Bytes;
use futures_util::FutureExt as _;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::BoxBody;
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::TcpListener;
use tokio::sync::watch;

/// A reply's body; may go on for as long as a watch does.
pub type Body = BoxBody<Bytes, Infallible>;

/// What answers requests, each read to its end.
pub type Handler =
    Arc<dyn Fn(Request<Bytes>) -> Pin<Box<dyn Future<Output = Response<Body>> + Send>> + Send + Sync + 'static>;

/// How the server behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// The handler answers.
    #[default]
    Serve,
    /// Nobody listens, and every connection that was open is gone.
    Down,
    /// Connections are taken and nothing is ever said on them; what was under way is never answered.
    Frozen,
    /// Every request gets this status.
    Status(u16),
    /// Every request gets 200 and bytes that mean nothing.
    Garbage,
    /// The handler answers, this many milliseconds late, and in pieces of a few bytes.
    Slow(u64),
}

/// A server; it ends when this is dropped.
pub struct Server {
    /// Where it listens; stays the same while it is down.
    pub address: SocketAddr,
    mode: watch::Sender<Mode>,
    listens: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
    end: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("address", &self.address).finish_non_exhaustive()
    }
}

impl Server {
    /// Starts one on a loopback port of the kernel's choice.
    pub fn start(handler: Handler) -> Self {
        // Held for as long as the server lives, and never listened on: nobody else gets the port while it is down.
        let reserved = socket(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)));
        let address = reserved.local_addr().unwrap().as_socket().unwrap();
        let (mode, _) = watch::channel(Mode::Serve);
        let (end, ending) = watch::channel(false);
        let requests = Arc::new(Mutex::new(Vec::new()));
        let listens = Arc::new(AtomicBool::new(false));
        let state = State { handler, mode: mode.clone(), listens: listens.clone(), requests: requests.clone() };
        let (ready, is_ready) = std::sync::mpsc::channel();
        let thread = std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(serve(address, state, ending, ready));
            drop(reserved);
        });
        is_ready.recv().unwrap();
        Self { address, mode, listens, requests, end, thread: Some(thread) }
    }

    /// Returns `http://ADDRESS`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Changes how it behaves, for what is under way too. Returns when it listens again, or no longer does.
    #[allow(clippy::disallowed_methods, reason = "it polls with a deadline; the server is a thread of its own")]
    pub fn set(&self, mode: Mode) {
        self.mode.send_replace(mode);
        let until = Instant::now() + Duration::from_secs(10);
        while self.listens.load(Ordering::Acquire) == (mode == Mode::Down) {
            assert!(Instant::now() < until, "the fake server did not become {mode:?}");
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    /// Returns method and target of every request so far, in order, whatever came of it.
    pub fn requests(&self) -> Vec<String> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.end.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

/// Returns a whole body.
pub fn full(bytes: impl Into<Bytes>) -> Body {
    Full::new(bytes.into()).boxed()
}

/// Returns a reply of JSON.
pub fn json(value: &serde_json::Value) -> Response<Body> {
    Response::builder().header("content-type", "application/json").body(full(value.to_string())).unwrap()
}

/// Returns a reply of text.
pub fn text(status: u16, text: impl Into<String>) -> Response<Body> {
    Response::builder().status(status).header("content-type", "text/plain").body(full(text.into())).unwrap()
}

/// Returns a body that sends what comes through the channel, for watches.
pub fn streamed(mut chunks: tokio::sync::mpsc::UnboundedReceiver<Bytes>) -> Body {
    let stream = futures_util::stream::poll_fn(move |context| {
        chunks.poll_recv(context).map(|chunk| chunk.map(|chunk| Ok(Frame::data(chunk))))
    });
    http_body_util::StreamBody::new(SyncStream(Mutex::new(Box::pin(stream)))).boxed()
}

/// A stream that may be shared, because nobody shares it.
struct SyncStream<S>(Mutex<Pin<Box<S>>>);

impl<S: futures_util::Stream> futures_util::Stream for SyncStream<S> {
    type Item = S::Item;

    fn poll_next(self: Pin<&mut Self>, context: &mut std::task::Context<'_>) -> std::task::Poll<Option<Self::Item>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).as_mut().poll_next(context)
    }
}

#[derive(Clone)]
struct State {
    handler: Handler,
    mode: watch::Sender<Mode>,
    listens: Arc<AtomicBool>,
    requests: Arc<Mutex<Vec<String>>>,
}

fn socket(address: SocketAddr) -> socket2::Socket {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.set_reuse_port(true).unwrap();
    socket.set_nonblocking(true).unwrap();
    socket.bind(&address.into()).unwrap();
    socket
}

async fn serve(
    address: SocketAddr,
    state: State,
    mut ending: watch::Receiver<bool>,
    ready: std::sync::mpsc::Sender<()>,
) {
    let mut mode = state.mode.subscribe();
    let mut ready = Some(ready);
    loop {
        let listening = socket(address);
        listening.listen(1024).unwrap();
        let listener = TcpListener::from_std(listening.into()).unwrap();
        state.listens.store(true, Ordering::Release);
        if let Some(ready) = ready.take() {
            ready.send(()).unwrap();
        }
        let mut connections = tokio::task::JoinSet::new();
        loop {
            tokio::select! {
                _ = ending.wait_for(|end| *end) => return,
                _ = mode.wait_for(|mode| *mode == Mode::Down) => break,
                accepted = listener.accept() => {
                    if let Ok((stream, _)) = accepted {
                        let _ = stream.set_nodelay(true);
                        connections.spawn(connection(stream, state.clone()));
                    }
                }
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
            }
        }
        drop((listener, connections));
        state.listens.store(false, Ordering::Release);
        tokio::select! {
            _ = ending.wait_for(|end| *end) => return,
            _ = mode.wait_for(|mode| *mode != Mode::Down) => {}
        }
    }
}

async fn connection(stream: tokio::net::TcpStream, state: State) {
    let service = service_fn(move |request: Request<Incoming>| answer(request, state.clone()).map(Ok::<_, Infallible>));
    // How a connection ends is the client's to see.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

async fn answer(request: Request<Incoming>, state: State) -> Response<Body> {
    let (parts, body) = request.into_parts();
    state.requests.lock().unwrap_or_else(PoisonError::into_inner).push(format!("{} {}", parts.method, parts.uri));
    let bytes = body.collect().await.map(http_body_util::Collected::to_bytes).unwrap_or_default();
    let mut mode = state.mode.subscribe();
    let mut answering =
        Box::pin(behaved(*mode.borrow_and_update(), Request::from_parts(parts.clone(), bytes.clone()), &state));
    loop {
        tokio::select! {
            reply = &mut answering => return reply,
            _ = mode.changed() => {
                // Who waits for a change when trouble begins has the trouble too.
                let mode = *mode.borrow_and_update();
                answering = Box::pin(behaved(mode, Request::from_parts(parts.clone(), bytes.clone()), &state));
            }
        }
    }
}

async fn behaved(mode: Mode, request: Request<Bytes>, state: &State) -> Response<Body> {
    match mode {
        Mode::Serve => (state.handler)(request).await,
        Mode::Down | Mode::Frozen => std::future::pending().await,
        Mode::Status(status) => {
            text(StatusCode::from_u16(status).map_or(500, |status| status.as_u16()), "told to fail\n")
        }
        Mode::Garbage => Response::builder()
            .header("content-type", "application/json")
            .body(full(&b"\x00\xff{[\"not\": json"[..]))
            .unwrap(),
        Mode::Slow(milliseconds) => {
            tokio::time::sleep(Duration::from_millis(milliseconds)).await;
            let (parts, body) = (state.handler)(request).await.into_parts();
            let (send, pieces) = tokio::sync::mpsc::unbounded_channel();
            tokio::spawn(async move {
                let mut body = body;
                while let Some(Ok(frame)) = body.frame().await {
                    let Ok(data) = frame.into_data() else { continue };
                    for piece in data.chunks(data.len().div_ceil(5).max(1)) {
                        tokio::time::sleep(Duration::from_millis(10)).await;
                        if send.send(Bytes::copy_from_slice(piece)).is_err() {
                            return;
                        }
                    }
                }
            });
            let mut reply = Response::from_parts(parts, streamed(pieces));
            reply.headers_mut().remove("content-length");
            reply
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Write as _};
    use std::net::TcpStream;

    use super::*;

    fn ask(address: SocketAddr) -> Option<String> {
        let mut stream = TcpStream::connect(address).ok()?;
        stream.set_read_timeout(Some(Duration::from_millis(300))).unwrap();
        stream.write_all(b"GET /x HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").ok()?;
        let mut reply = Vec::new();
        stream.read_to_end(&mut reply).ok()?;
        Some(String::from_utf8_lossy(&reply).into_owned())
    }

    #[test]
    fn a_server_goes_down_and_comes_back_on_its_port() {
        let server = Server::start(Arc::new(|_| Box::pin(async { text(200, "here") })));
        assert!(ask(server.address).unwrap().ends_with("here"));
        server.set(Mode::Down);
        while ask(server.address).is_some() {}
        server.set(Mode::Status(503));
        while ask(server.address).is_none_or(|reply| !reply.contains("503")) {}
        server.set(Mode::Frozen);
        assert_eq!(ask(server.address), None);
        server.set(Mode::Garbage);
        assert!(ask(server.address).unwrap().contains("not"));
        server.set(Mode::Slow(1));
        let slow = ask(server.address).unwrap();
        assert!(slow.starts_with("HTTP/1.1 200") && slow.ends_with("\r\n0\r\n\r\n"), "{slow}");
        assert!(server.requests().iter().all(|request| request == "GET /x"));
    }
}
