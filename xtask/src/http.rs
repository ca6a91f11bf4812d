//! Just enough HTTP to ask a server on loopback whether it is there.

use std::io::{Read as _, Write as _};
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
    fn the_first_url_of_a_text_is_found() {
        let text = "ready\n  open http://127.0.0.1:4140/ or http://127.0.0.1:9990/ready.\n";
        assert_eq!(first_address(text), Some("127.0.0.1:4140".parse().unwrap()));
        assert_eq!(first_address("see http://[::1]:80."), Some("[::1]:80".parse().unwrap()));
        assert_eq!(first_address("see http://example.org/ and nothing else"), None);
    }
}
