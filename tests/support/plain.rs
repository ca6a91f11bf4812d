//! Small blocking origins and clients: a thread for each connection, no protocol library, so that a test sees every byte.

use std::collections::HashSet;
use std::fmt::Debug;
use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use socket2::{Domain, Socket, Type};

/// Longest that anything may take that a test waits for: longer than the longest back-off of a source (30 s), which bad
/// luck can draw early.
pub(crate) const PATIENCE: Duration = Duration::from_secs(45);

/// Waits until something is so, and fails where it does not become so.
pub(crate) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !is_so() {
        assert!(Instant::now() < deadline, "waited in vain until {what}");
        thread::park_timeout(Duration::from_millis(5));
    }
}

/// A TCP server whose connections are served by a closure. Its connections end when it is dropped.
#[derive(Debug)]
pub(crate) struct Served {
    pub(crate) address: SocketAddr,
    shared: Arc<Sockets>,
}

#[derive(Debug, Default)]
struct Sockets {
    ended: AtomicBool,
    accepted: AtomicUsize,
    open: Mutex<Vec<TcpStream>>,
}

/// Serves connections on a free port of loopback.
pub(crate) fn serve(each: impl Fn(TcpStream) + Send + Sync + 'static) -> Served {
    serve_at("127.0.0.1:0".parse().unwrap(), each)
}

/// Serves connections on an address.
pub(crate) fn serve_at(address: SocketAddr, each: impl Fn(TcpStream) + Send + Sync + 'static) -> Served {
    let listener = TcpListener::bind(address).unwrap();
    let address = listener.local_addr().unwrap();
    let shared = Arc::new(Sockets::default());
    let (sockets, each) = (shared.clone(), Arc::new(each));
    thread::spawn(move || {
        for stream in listener.incoming() {
            if sockets.ended.load(Ordering::SeqCst) {
                return;
            }
            let Ok(stream) = stream else { continue };
            sockets.accepted.fetch_add(1, Ordering::SeqCst);
            let _ = stream.set_nodelay(true);
            if let Ok(clone) = stream.try_clone() {
                let mut open = sockets.open.lock().unwrap();
                // What the other side left is let go of, so that a long run does not run out of descriptors.
                if open.len() > 64 {
                    open.retain(|stream| stream.peer_addr().is_ok());
                }
                open.push(clone);
            }
            let each = each.clone();
            thread::spawn(move || {
                let end = stream.try_clone();
                each(stream);
                if let Ok(end) = end {
                    let _ = end.shutdown(Shutdown::Both);
                }
            });
        }
    });
    Served { address, shared }
}

impl Served {
    /// Returns how many connections came.
    pub(crate) fn accepted(&self) -> usize {
        self.shared.accepted.load(Ordering::SeqCst)
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.shared.ended.store(true, Ordering::SeqCst);
        // Wakes the thread that accepts.
        let _ = TcpStream::connect(self.address);
        for stream in self.shared.open.lock().unwrap().drain(..) {
            let _ = stream.shutdown(Shutdown::Both);
        }
    }
}

/// Returns an address of loopback that nobody listens on, and that the kernel gives to nobody else while the tests run:
/// a connection to an endpoint that is dead must not reach another test's. A listener may still be put there.
pub(crate) fn dead_address() -> SocketAddr {
    reserve("127.0.0.1:0".parse().unwrap())
}

fn reserve(address: SocketAddr) -> SocketAddr {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM, None).unwrap();
    socket.set_reuse_address(true).unwrap();
    socket.bind(&address.into()).unwrap();
    let address = socket.local_addr().unwrap().as_socket().unwrap();
    // Bound but not listening, to the end of the process.
    std::mem::forget(socket);
    address
}

/// An HTTP/1.1 origin that answers with its name.
///
/// `/dump` answers with the head of the request; `/hold` answers when it is released; `/stream` sends `begin`, and `end`
/// when it is released.
#[derive(Debug)]
pub(crate) struct Origin {
    pub(crate) address: SocketAddr,
    served: Served,
    gate: Arc<Gate>,
}

#[derive(Debug, Default)]
struct Gate {
    is_open: Mutex<bool>,
    changed: Condvar,
    waiting: AtomicUsize,
    requests: AtomicUsize,
}

impl Gate {
    fn pass(&self) {
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let is_open = self.is_open.lock().unwrap();
        let waited = self.changed.wait_timeout_while(is_open, PATIENCE * 2, |is_open| !*is_open);
        drop(waited.unwrap());
        self.waiting.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Starts an origin on a free port.
pub(crate) fn origin(name: &str) -> Origin {
    origin_at("127.0.0.1:0".parse().unwrap(), name)
}

/// Starts an origin on an address.
pub(crate) fn origin_at(address: SocketAddr, name: &str) -> Origin {
    let gate = Arc::new(Gate::default());
    let (inner, name) = (gate.clone(), name.to_owned());
    let served = serve_at(address, move |stream| {
        let _ = answer(stream, &name, &inner);
    });
    Origin { address: served.address, served, gate }
}

impl Origin {
    /// Ends; its address stays dead.
    pub(crate) fn die(self) {
        let address = self.address;
        drop(self);
        wait_until("nobody listens any more", || TcpStream::connect(address).is_err());
        reserve(address);
    }

    /// Returns how many connections came.
    pub(crate) fn accepted(&self) -> usize {
        self.served.accepted()
    }

    /// Returns how many requests came.
    pub(crate) fn requests(&self) -> usize {
        self.gate.requests.load(Ordering::SeqCst)
    }

    /// Waits until so many requests are held.
    pub(crate) fn wait_for_held(&self, count: usize) {
        wait_until(&format!("{count} requests are held"), || self.gate.waiting.load(Ordering::SeqCst) == count);
    }

    /// Answers what is held, and holds nothing any more.
    pub(crate) fn release(&self) {
        *self.gate.is_open.lock().unwrap() = true;
        self.gate.changed.notify_all();
    }
}

impl Drop for Origin {
    fn drop(&mut self) {
        self.release();
    }
}

/// Serves an origin's connection of any kind.
fn answer(stream: impl Read + Write, name: &str, gate: &Gate) -> io::Result<()> {
    let mut client = Client::new(stream);
    loop {
        let head = client.head()?;
        gate.requests.fetch_add(1, Ordering::SeqCst);
        let body = client.body(&head)?;
        let path = head.split(' ').nth(1).unwrap_or_default().to_owned();
        let text = match path.as_str() {
            "/dump" => head.clone(),
            "/hold" => {
                gate.pass();
                name.to_owned()
            }
            "/stream" => {
                client.send(&format!("HTTP/1.1 200 OK\r\nx-origin: {name}\r\ntransfer-encoding: chunked\r\n\r\n"))?;
                client.send("5\r\nbegin\r\n")?;
                gate.pass();
                client.send("3\r\nend\r\n0\r\n\r\n")?;
                continue;
            }
            _ if !body.is_empty() => body.len().to_string(),
            _ => name.to_owned(),
        };
        client.send(&format!("HTTP/1.1 200 OK\r\nx-origin: {name}\r\ncontent-length: {}\r\n\r\n{text}", text.len()))?;
    }
}

/// A blocking HTTP/1.1 client on a stream of any kind.
#[derive(Debug)]
pub(crate) struct Client<S> {
    pub(crate) stream: S,
    read: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Reply {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: String,
}

impl Reply {
    /// Returns a header's value.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(':')?;
            key.eq_ignore_ascii_case(name).then(|| value.trim())
        })
    }

    /// Tells whether the connection ends with it.
    pub(crate) fn closes(&self) -> bool {
        self.header("connection").is_some_and(|value| value.eq_ignore_ascii_case("close"))
    }
}

/// Connects to a TCP address.
pub(crate) fn client(address: SocketAddr) -> Client<TcpStream> {
    try_client(address).unwrap()
}

/// Connects to a TCP address, if that works.
pub(crate) fn try_client(address: SocketAddr) -> io::Result<Client<TcpStream>> {
    // Longer than a SYN takes that is sent again.
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(5))?;
    stream.set_nodelay(true)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Client::new(stream))
}

/// Tells whether nobody answers attempts to connect.
pub(crate) fn is_deserted(address: SocketAddr) -> bool {
    TcpStream::connect_timeout(&address, Duration::from_millis(100)).is_err()
}

/// Connects to a Unix socket.
pub(crate) fn unix_client(path: &Path) -> io::Result<Client<UnixStream>> {
    let stream = UnixStream::connect(path)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    Ok(Client::new(stream))
}

/// Asks once, on a connection of its own.
pub(crate) fn get(address: SocketAddr, host: &str, path: &str) -> Reply {
    client(address).get(host, path).unwrap()
}

impl<S: Read + Write> Client<S> {
    /// Returns a client on a stream.
    pub(crate) fn new(stream: S) -> Self {
        Self { stream, read: Vec::new() }
    }

    /// Sends text as it is.
    pub(crate) fn send(&mut self, text: &str) -> io::Result<()> {
        self.stream.write_all(text.as_bytes())?;
        self.stream.flush()
    }

    /// Asks by GET and reads the answer.
    pub(crate) fn get(&mut self, host: &str, path: &str) -> io::Result<Reply> {
        self.send(&format!("GET {path} HTTP/1.1\r\nhost: {host}\r\n\r\n"))?;
        self.reply()
    }

    /// Reads an answer.
    pub(crate) fn reply(&mut self) -> io::Result<Reply> {
        let head = self.head()?;
        let status = head.split(' ').nth(1).and_then(|status| status.parse().ok());
        let status = status.ok_or_else(|| io::Error::other(format!("no status: {head}")))?;
        let body = String::from_utf8_lossy(&self.body(&head)?).into_owned();
        Ok(Reply { status, head, body })
    }

    /// Reads a head, up to its empty line.
    pub(crate) fn head(&mut self) -> io::Result<String> {
        self.until(b"\r\n\r\n")
    }

    fn body(&mut self, head: &str) -> io::Result<Vec<u8>> {
        let lower = head.to_ascii_lowercase();
        let value = |name: &str| lower.lines().find_map(|line| line.strip_prefix(name)).map(str::trim);
        if let Some(length) = value("content-length:") {
            return self.exactly(length.parse().map_err(io::Error::other)?);
        }
        let mut body = Vec::new();
        if value("transfer-encoding:") == Some("chunked") {
            loop {
                let size = self.until(b"\r\n")?;
                let size = usize::from_str_radix(size.trim(), 16).map_err(io::Error::other)?;
                let chunk = self.exactly(size + 2)?;
                if size == 0 {
                    return Ok(body);
                }
                body.extend_from_slice(&chunk[..size]);
            }
        }
        Ok(body)
    }

    /// Reads up to a mark, which is part of the answer.
    pub(crate) fn until(&mut self, mark: &[u8]) -> io::Result<String> {
        loop {
            if let Some(at) = self.read.windows(mark.len()).position(|window| window == mark) {
                let text: Vec<u8> = self.read.drain(..at + mark.len()).collect();
                return String::from_utf8(text).map_err(io::Error::other);
            }
            self.more()?;
        }
    }

    /// Reads so many bytes.
    pub(crate) fn exactly(&mut self, count: usize) -> io::Result<Vec<u8>> {
        while self.read.len() < count {
            self.more()?;
        }
        Ok(self.read.drain(..count).collect())
    }

    /// Reads to the end.
    pub(crate) fn rest(&mut self) -> io::Result<Vec<u8>> {
        let mut rest = std::mem::take(&mut self.read);
        self.stream.read_to_end(&mut rest)?;
        Ok(rest)
    }

    /// Tells whether the other side closes without another byte.
    pub(crate) fn is_closed(&mut self) -> bool {
        match self.more() {
            Ok(()) => false,
            Err(error) => !matches!(error.kind(), io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut),
        }
    }

    fn more(&mut self) -> io::Result<()> {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            length => {
                self.read.extend_from_slice(&buffer[..length]);
                Ok(())
            }
        }
    }
}

/// Clients that ask again and again on connections that they keep, each on a thread, until they are stopped.
#[derive(Debug)]
pub(crate) struct Load {
    stop: Arc<AtomicBool>,
    done: Arc<AtomicUsize>,
    threads: Vec<thread::JoinHandle<Tally>>,
}

/// What a load saw.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    /// Good answers.
    pub(crate) good: usize,
    /// What went wrong, without repetition.
    pub(crate) failures: Vec<String>,
    /// Names of the origins that answered.
    pub(crate) origins: HashSet<String>,
}

/// Asks from so many connections. `connect` opens one; an error of it ends that client in order where `refused_ends`.
pub(crate) fn load<S: Read + Write>(
    clients: usize,
    path: &'static str,
    refused_ends: bool,
    connect: impl Fn() -> io::Result<Client<S>> + Send + Sync + 'static,
) -> Load {
    let (stop, done) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let connect = Arc::new(connect);
    let threads = (0..clients)
        .map(|_| {
            let (stop, done, connect) = (stop.clone(), done.clone(), connect.clone());
            thread::spawn(move || {
                let mut tally = Tally::default();
                let mut connection: Option<Client<S>> = None;
                while !stop.load(Ordering::SeqCst) && tally.failures.len() < 5 {
                    let kind = if connection.is_some() { "kept" } else { "fresh" };
                    let mut open = match connection.take().map_or_else(|| connect(), Ok) {
                        Ok(open) => open,
                        Err(_) if refused_ends => break,
                        Err(error) => {
                            tally.failures.push(format!("connect: {error}"));
                            continue;
                        }
                    };
                    match open.get("load.example", path) {
                        Ok(reply) if reply.status == 200 => {
                            tally.good += 1;
                            done.fetch_add(1, Ordering::SeqCst);
                            tally.origins.insert(reply.header("x-origin").unwrap_or_default().to_owned());
                            if !reply.closes() {
                                connection = Some(open);
                            }
                        }
                        Ok(reply) => tally.failures.push(format!("{} {}", reply.status, reply.body)),
                        Err(error) => tally.failures.push(format!("on a {kind} connection: {error:?}")),
                    }
                }
                tally
            })
        })
        .collect();
    Load { stop, done, threads }
}

impl Load {
    /// Returns how many good answers there were so far.
    pub(crate) fn done(&self) -> usize {
        self.done.load(Ordering::SeqCst)
    }

    /// Waits until so many more good answers came.
    pub(crate) fn wait_for(&self, more: usize) {
        let wanted = self.done() + more;
        wait_until(&format!("{more} more requests are answered"), || {
            self.done() >= wanted || self.threads.iter().all(thread::JoinHandle::is_finished)
        });
    }

    /// Stops asking and returns what was seen.
    pub(crate) fn stop(self) -> Tally {
        self.stop.store(true, Ordering::SeqCst);
        self.join()
    }

    /// Waits until all clients have ended by themselves.
    pub(crate) fn join(self) -> Tally {
        let mut all = Tally::default();
        for thread in self.threads {
            let tally = thread.join().unwrap();
            all.good += tally.good;
            all.failures.extend(tally.failures);
            all.origins.extend(tally.origins);
        }
        all.failures.sort();
        all
    }
}
