//! Just enough HTTP to ask a server on loopback whether it is there, and to tell it something.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

use anyhow::Context as _;

/// Returns the status of a `GET` on a connection of its own.
pub(crate) fn status(address: SocketAddr, path: &str) -> anyhow::Result<u16> {
    let mut stream = connect(address)?;
    send(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n"))?;
    let mut reply = String::new();
    stream.take(64 * 1024).read_to_string(&mut reply).context("read a reply")?;
    status_of(&reply).with_context(|| format!("no HTTP reply from {address}"))
}

/// Returns the body of a `GET` that is answered by 200, on a connection of its own.
pub(crate) fn get(address: SocketAddr, path: &str) -> anyhow::Result<String> {
    let mut stream = connect(address)?;
    send(&mut stream, &format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"))?;
    let mut reply = String::new();
    stream.take(64 * 1024 * 1024).read_to_string(&mut reply).context("read a reply")?;
    let (head, body) = reply.split_once("\r\n\r\n").with_context(|| format!("no HTTP reply from {address}"))?;
    anyhow::ensure!(status_of(head) == Some(200), "GET {path} of {address}: {head}");
    Ok(body.to_owned())
}

/// Opens a connection, does one request and leaves the connection open and idle.
pub(crate) fn open_idle(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let mut stream = connect(address)?;
    send(&mut stream, &format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n"))?;
    let mut reply = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk).context("read a reply")?;
        anyhow::ensure!(length > 0, "{address} closed an idle connection at once");
        reply.extend_from_slice(chunk.get(..length).unwrap_or_default());
        let text = String::from_utf8_lossy(&reply);
        if let Some((head, body)) = text.split_once("\r\n\r\n") {
            anyhow::ensure!(status_of(head) == Some(200), "{address} did not answer 200 to an idle client");
            let length = content_length(head).context("the reply has no Content-Length")?;
            if body.len() >= length {
                return Ok(stream);
            }
        }
    }
}

/// A client that keeps its connection, for many requests to one server.
#[derive(Debug)]
pub(crate) struct Client {
    address: SocketAddr,
    /// Lines of header, each with its end.
    headers: String,
    connection: Option<BufReader<TcpStream>>,
}

impl Client {
    pub(crate) fn new(address: SocketAddr, headers: &str) -> Self {
        Self { address, headers: headers.to_owned(), connection: None }
    }

    /// Sends a request and returns status and body. A kept connection that is gone is replaced once.
    pub(crate) fn send(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<(u16, String)> {
        if let Some(kept) = self.connection.take()
            && let Ok(reply) = self.exchange(kept, method, path, body)
        {
            return Ok(reply);
        }
        let stream = connect(self.address)?;
        stream.set_nodelay(true).context("send at once")?;
        self.exchange(BufReader::new(stream), method, path, body)
    }

    /// Sends a request whose answer must be 200, and returns the body.
    pub(crate) fn done(&mut self, method: &str, path: &str, body: &str) -> anyhow::Result<String> {
        let (status, reply) = self.send(method, path, body)?;
        anyhow::ensure!(status == 200, "{method} {path} at {}: {status} {}", self.address, reply.trim());
        Ok(reply)
    }

    fn exchange(
        &mut self,
        mut connection: BufReader<TcpStream>,
        method: &str,
        path: &str,
        body: &str,
    ) -> anyhow::Result<(u16, String)> {
        let (address, length) = (self.address, body.len());
        let head =
            format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\n{}Content-Length: {length}\r\n\r\n", self.headers);
        send(connection.get_mut(), &(head + body))?;
        let mut head = String::new();
        while !head.ends_with("\r\n\r\n") {
            anyhow::ensure!(connection.read_line(&mut head).context("read a head")? > 0, "the connection ended");
        }
        let status = status_of(&head).context("no HTTP status")?;
        let mut body = Vec::new();
        if let Some(length) = content_length(&head) {
            body.resize(length, 0);
            connection.read_exact(&mut body).context("read a body")?;
        } else if head.to_ascii_lowercase().contains("transfer-encoding: chunked") {
            while let Some(chunk) = chunk(&mut connection)? {
                body.extend(chunk);
            }
        }
        self.connection = Some(connection);
        Ok((status, String::from_utf8_lossy(&body).into_owned()))
    }
}

/// Reads a chunk; `None` at the last one.
fn chunk(connection: &mut BufReader<TcpStream>) -> anyhow::Result<Option<Vec<u8>>> {
    let mut line = String::new();
    connection.read_line(&mut line).context("read the length of a chunk")?;
    let length = usize::from_str_radix(line.trim(), 16).context("understand the length of a chunk")?;
    let mut chunk = vec![0; length + 2];
    connection.read_exact(&mut chunk).context("read a chunk")?;
    chunk.truncate(length);
    Ok((length > 0).then_some(chunk))
}

/// Returns an address on loopback that the kernel says is free.
///
/// Another process could take it before we use it; inside the benchmark's own network there is none.
pub(crate) fn free_address() -> anyhow::Result<SocketAddr> {
    let listener = TcpListener::bind("127.0.0.1:0").context("ask for a free port")?;
    listener.local_addr().context("read the free port")
}

/// Returns the first `http://ADDRESS:PORT` in a text.
pub(crate) fn first_address(text: &str) -> Option<SocketAddr> {
    text.split("http://").skip(1).find_map(|rest| {
        let end = rest.find(|letter: char| !(letter.is_ascii_hexdigit() || ".:[]".contains(letter)));
        rest.get(..end.unwrap_or(rest.len()))?.trim_end_matches(['.', ':']).parse().ok()
    })
}

fn connect(address: SocketAddr) -> anyhow::Result<TcpStream> {
    let stream = TcpStream::connect_timeout(&address, Duration::from_secs(2)).context("connect")?;
    stream.set_read_timeout(Some(Duration::from_secs(5))).context("set a timeout")?;
    stream.set_write_timeout(Some(Duration::from_secs(5))).context("set a timeout")?;
    Ok(stream)
}

/// Sends a request in one piece: in several, each would wait for the peer's acknowledgement of the one before.
fn send(stream: &mut TcpStream, request: &str) -> anyhow::Result<()> {
    stream.write_all(request.as_bytes()).context("send a request")
}

fn status_of(reply: &str) -> Option<u16> {
    reply.strip_prefix("HTTP/1.")?.split(' ').nth(1)?.parse().ok()
}

fn content_length(head: &str) -> Option<usize> {
    let lines = head.lines().filter_map(|line| line.split_once(':'));
    let mut lengths = lines.filter(|(name, _)| name.eq_ignore_ascii_case("content-length"));
    lengths.next()?.1.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_keeps_its_connection_and_reads_both_kinds_of_bodies() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut seen = [0; 4096];
            for reply in [
                "HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\none",
                "HTTP/1.1 404 No\r\ntransfer-encoding: chunked\r\n\r\n2\r\ntw\r\n1\r\no\r\n0\r\n\r\n",
            ] {
                assert!(stream.read(&mut seen).unwrap() > 0);
                stream.write_all(reply.as_bytes()).unwrap();
            }
        });
        let mut client = Client::new(address, "X-Token: a\r\n");
        assert_eq!(client.send("PUT", "/", "body").unwrap(), (200, "one".into()));
        assert_eq!(client.send("GET", "/", "").unwrap(), (404, "two".into()));
        server.join().unwrap();
    }

    #[test]
    fn the_first_url_of_a_text_is_found() {
        let text = "ready\n  open http://127.0.0.1:4140/ or http://127.0.0.1:9990/ready.\n";
        assert_eq!(first_address(text), Some("127.0.0.1:4140".parse().unwrap()));
        assert_eq!(first_address("see http://[::1]:80."), Some("[::1]:80".parse().unwrap()));
        assert_eq!(first_address("see http://example.org/ and nothing else"), None);
    }
}
