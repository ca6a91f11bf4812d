//! Raw ends of a connection: HTTP/1.1 as bytes, HTTP/2 as frames, and clients and servers on the `h2` crate.
//!
//! Both sides of a test are one task that says what happens in order; the gateway runs on threads of its own. Everything
//! here panics where the other side does what no test expects, and [`run`] bounds the time of a whole test.

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use h2::client::SendRequest;
use h2::{Reason, RecvStream};
use http::{HeaderMap, Request, Response};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Longest that one test may take.
const PATIENCE: Duration = Duration::from_secs(20);
/// How long nothing must come for nothing to be under way. Only for what must *not* happen.
const SILENCE: Duration = Duration::from_millis(200);

/// Runs a test to its end, in time.
pub(crate) fn run<T>(test: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let result = runtime.block_on(async { tokio::time::timeout(PATIENCE, test).await.expect("the test does not end") });
    // Tasks that hang must not hold up the end.
    runtime.shutdown_background();
    result
}

/// How a connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    /// In order.
    Closed,
    /// By a reset.
    Reset,
}

/// One end of a connection.
#[derive(Debug)]
pub(crate) struct Wire {
    stream: TcpStream,
    buffer: Vec<u8>,
}

/// The head of a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Head {
    /// Request or status line.
    pub(crate) start: String,
    fields: Vec<(String, String)>,
}

/// A body in whatever framing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    pub(crate) trailers: Vec<(String, String)>,
}

impl Head {
    fn parse(text: &str) -> Self {
        let mut lines = text.split("\r\n");
        let start = lines.next().unwrap().to_owned();
        let fields = lines.map(field).collect();
        Self { start, fields }
    }

    /// Returns the status of a reply.
    pub(crate) fn status(&self) -> u16 {
        let mut words = self.start.splitn(3, ' ');
        assert_eq!(words.next(), Some("HTTP/1.1"), "{}", self.start);
        words.next().unwrap().parse().unwrap()
    }

    /// Returns the value of a field that is there once; empty where it is not there.
    pub(crate) fn get(&self, name: &str) -> &str {
        let all = self.all(name);
        assert!(all.len() < 2, "{name} is there {} times: {self:?}", all.len());
        all.first().copied().unwrap_or_default()
    }

    /// Returns the values of all fields of a name.
    pub(crate) fn all(&self, name: &str) -> Vec<&str> {
        self.fields.iter().filter(|(other, _)| other == name).map(|(_, value)| value.as_str()).collect()
    }

    /// Tells whether a field is there.
    pub(crate) fn has(&self, name: &str) -> bool {
        !self.all(name).is_empty()
    }
}

fn field(line: &str) -> (String, String) {
    let (name, value) = line.split_once(": ").unwrap_or_else(|| panic!("no field: {line:?}"));
    assert_eq!(name, name.to_ascii_lowercase());
    (name.to_owned(), value.to_owned())
}

impl From<TcpStream> for Wire {
    fn from(stream: TcpStream) -> Self {
        stream.set_nodelay(true).unwrap();
        Self { stream, buffer: Vec::new() }
    }
}

impl Wire {
    pub(crate) async fn connect(address: SocketAddr) -> Self {
        TcpStream::connect(address).await.unwrap().into()
    }

    /// Connects with a small receive buffer, so that what is not read is soon felt by the sender.
    pub(crate) async fn connect_narrow(address: SocketAddr) -> Self {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(16 * 1024).unwrap();
        socket.connect(address).await.unwrap().into()
    }

    pub(crate) async fn send(&mut self, bytes: impl AsRef<[u8]>) {
        self.stream.write_all(bytes.as_ref()).await.unwrap();
    }

    /// Sends as much as the other side takes before it takes nothing for a moment; returns how much that was.
    pub(crate) async fn send_until_blocked(&mut self, most: usize) -> usize {
        let piece = vec![b'x'; 16 * 1024];
        let mut sent = 0;
        while sent < most {
            let length = piece.len().min(most - sent);
            match tokio::time::timeout(SILENCE, self.stream.write(&piece[..length])).await {
                Ok(written) => sent += written.unwrap(),
                Err(_) => break,
            }
        }
        sent
    }

    /// Reads more; false at the end.
    async fn fill(&mut self) -> Result<bool, End> {
        match self.stream.read_buf(&mut self.buffer).await {
            Ok(length) => Ok(length > 0),
            Err(_) => Err(End::Reset),
        }
    }

    async fn until(&mut self, mark: &[u8]) -> Vec<u8> {
        loop {
            if let Some(at) = self.buffer.windows(mark.len()).position(|window| window == mark) {
                let rest = self.buffer.split_off(at + mark.len());
                let mut found = std::mem::replace(&mut self.buffer, rest);
                found.truncate(at);
                return found;
            }
            let before = String::from_utf8_lossy(&self.buffer).into_owned();
            assert_eq!(self.fill().await, Ok(true), "the connection ended after {before:?}");
        }
    }

    /// Reads the next head.
    pub(crate) async fn head(&mut self) -> Head {
        let head = self.until(b"\r\n\r\n").await;
        Head::parse(std::str::from_utf8(&head).unwrap())
    }

    /// Reads the next head; `None` where the connection ends instead.
    pub(crate) async fn head_unless_closed(&mut self) -> Option<Head> {
        if self.buffer.is_empty() && self.fill().await != Ok(true) {
            return None;
        }
        Some(self.head().await)
    }

    pub(crate) async fn exactly(&mut self, length: usize) -> Vec<u8> {
        while self.buffer.len() < length {
            assert_eq!(
                self.fill().await,
                Ok(true),
                "the connection ended after {} of {length} bytes",
                self.buffer.len()
            );
        }
        let rest = self.buffer.split_off(length);
        std::mem::replace(&mut self.buffer, rest)
    }

    /// Reads a chunk; `None` is the last one, and its trailers remain.
    pub(crate) async fn chunk(&mut self) -> Option<Vec<u8>> {
        let size = self.until(b"\r\n").await;
        let size = usize::from_str_radix(std::str::from_utf8(&size).unwrap(), 16).unwrap();
        if size == 0 {
            return None;
        }
        let chunk = self.exactly(size).await;
        assert_eq!(self.exactly(2).await, b"\r\n");
        Some(chunk)
    }

    async fn trailers(&mut self) -> Vec<(String, String)> {
        let mut trailers = Vec::new();
        loop {
            let line = self.until(b"\r\n").await;
            if line.is_empty() {
                return trailers;
            }
            trailers.push(field(std::str::from_utf8(&line).unwrap()));
        }
    }

    /// Reads the body that a head announces. A reply without any framing is read until the end of the connection.
    pub(crate) async fn content(&mut self, head: &Head) -> Content {
        let mut content = Content { bytes: Vec::new(), trailers: Vec::new() };
        if head.has("transfer-encoding") {
            assert_eq!(head.get("transfer-encoding"), "chunked");
            assert!(!head.has("content-length"));
            while let Some(chunk) = self.chunk().await {
                content.bytes.extend(chunk);
            }
            content.trailers = self.trailers().await;
        } else if head.has("content-length") {
            content.bytes = self.exactly(head.get("content-length").parse().unwrap()).await;
        } else if head.start.starts_with("HTTP/") {
            let (bytes, end) = self.rest().await;
            assert_eq!(end, End::Closed);
            content.bytes = bytes;
        }
        content
    }

    /// Reads a whole message.
    pub(crate) async fn message(&mut self) -> (Head, String) {
        let head = self.head().await;
        let content = self.content(&head).await;
        (head, String::from_utf8(content.bytes).unwrap())
    }

    /// Reads until the connection ends.
    pub(crate) async fn rest(&mut self) -> (Vec<u8>, End) {
        let end = loop {
            match self.fill().await {
                Ok(true) => {}
                Ok(false) => break End::Closed,
                Err(end) => break end,
            }
        };
        (std::mem::take(&mut self.buffer), end)
    }

    /// Waits until the connection ends after nothing but the first so many of these bytes.
    pub(crate) async fn ended_after(&mut self, most: &[u8]) {
        let (rest, _) = self.rest().await;
        assert!(most.starts_with(&rest), "{:?} came", String::from_utf8_lossy(&rest));
    }

    /// Waits until the connection ends without another byte.
    pub(crate) async fn ended(&mut self) -> End {
        let (rest, end) = self.rest().await;
        assert_eq!(String::from_utf8_lossy(&rest), "", "nothing more was expected");
        end
    }

    /// Fails if anything comes, the end of the connection included.
    pub(crate) async fn stays_silent(&mut self) {
        let silent = tokio::time::timeout(SILENCE, self.fill()).await.is_err();
        assert!(silent && self.buffer.is_empty(), "something came: {:?}", String::from_utf8_lossy(&self.buffer));
    }

    /// Closes the sending half.
    pub(crate) async fn finish(&mut self) {
        self.stream.shutdown().await.unwrap();
    }

    /// Resets the connection.
    pub(crate) fn reset(self) {
        socket2::SockRef::from(&self.stream).set_linger(Some(Duration::ZERO)).unwrap();
    }
}

/// A frame of HTTP/2.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const END_STREAM: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

impl Frame {
    /// Returns the code of a `RST_STREAM` or GOAWAY.
    pub(crate) fn reason(&self) -> Reason {
        let code = match self.kind {
            RST_STREAM => &self.payload[..4],
            GOAWAY => &self.payload[4..8],
            other => panic!("a frame of kind {other} has no code"),
        };
        Reason::from(u32::from_be_bytes(code.try_into().unwrap()))
    }
}

/// Makes a frame.
pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    let mut bytes = vec![length[1], length[2], length[3], kind, flags];
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// Makes a header block of literals, which may say what no library would let us say.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (name, value) in fields {
        bytes.push(0);
        for text in [name, value] {
            assert!(text.len() < 127);
            bytes.push(u8::try_from(text.len()).unwrap());
            bytes.extend(text.bytes());
        }
    }
    bytes
}

impl Wire {
    /// Begins HTTP/2 as a client.
    pub(crate) async fn preface(&mut self) {
        self.send(PREFACE).await;
        self.send(frame(SETTINGS, 0, 0, &[])).await;
    }

    /// Begins HTTP/2 as a server, with settings of its own.
    pub(crate) async fn take_preface(&mut self, settings: &[u8]) {
        assert_eq!(self.exactly(PREFACE.len()).await, PREFACE);
        self.send(frame(SETTINGS, 0, 0, settings)).await;
    }

    /// Sends a frame.
    pub(crate) async fn frame(&mut self, kind: u8, flags: u8, stream: u32, payload: &[u8]) {
        self.send(frame(kind, flags, stream, payload)).await;
    }

    /// Reads the next frame.
    pub(crate) async fn next_frame(&mut self) -> Frame {
        let head = self.exactly(9).await;
        let length = usize::from(head[0]) << 16 | usize::from(head[1]) << 8 | usize::from(head[2]);
        let stream = u32::from_be_bytes(head[5..9].try_into().unwrap());
        Frame { kind: head[3], flags: head[4], stream, payload: self.exactly(length).await }
    }

    /// Reads up to the next frame of a kind, and passes over all others.
    pub(crate) async fn frame_of(&mut self, kind: u8) -> Frame {
        loop {
            let frame = self.next_frame().await;
            if frame.kind == kind {
                return frame;
            }
        }
    }
}

/// A client that speaks HTTP/2.
pub(crate) async fn h2_client(address: SocketAddr) -> SendRequest<Bytes> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    let (send, connection) = h2::client::handshake(stream).await.unwrap();
    tokio::spawn(async move {
        // How it ends is seen by the streams on it.
        let _ = connection.await;
    });
    send.ready().await.unwrap()
}

/// Begins a request over HTTP/2 for a host that everything is routed from.
pub(crate) fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(format!("http://app.example{path}"))
}

/// Reads a body of HTTP/2, or how it broke.
pub(crate) async fn read(stream: &mut RecvStream) -> Result<(Vec<u8>, Option<HeaderMap>), h2::Error> {
    let mut bytes = Vec::new();
    while let Some(piece) = stream.data().await {
        let piece = piece?;
        stream.flow_control().release_capacity(piece.len())?;
        bytes.extend_from_slice(&piece);
    }
    Ok((bytes, stream.trailers().await?))
}

/// Sends a request without a body over HTTP/2 and reads the reply.
pub(crate) async fn ask(client: &SendRequest<Bytes>, request: Request<()>) -> (Response<()>, String) {
    let (response, _) = client.clone().ready().await.unwrap().send_request(request, true).unwrap();
    let (head, mut body) = response.await.unwrap().into_parts();
    let (bytes, _) = read(&mut body).await.unwrap();
    (Response::from_parts(head, ()), String::from_utf8(bytes).unwrap())
}

/// Sends all of `bytes` on a stream as its window allows.
pub(crate) async fn write(stream: &mut h2::SendStream<Bytes>, mut bytes: Bytes, end: bool) -> Result<(), h2::Error> {
    if bytes.is_empty() {
        return stream.send_data(bytes, end);
    }
    while !bytes.is_empty() {
        stream.reserve_capacity(bytes.len());
        match std::future::poll_fn(|context| stream.poll_capacity(context)).await {
            Some(capacity) => {
                let piece = bytes.split_to(capacity?.min(bytes.len()));
                let last = end && bytes.is_empty();
                stream.send_data(piece, last)?;
            }
            None => return Err(Reason::STREAM_CLOSED.into()),
        }
    }
    Ok(())
}
