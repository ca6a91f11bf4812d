//! Requests at a steady rate, whatever comes of those before (open loop).
//!
//! A request's latency counts from when it was due, not from when it could be sent: a pause of the gateway shows in every
//! request that was due in it, not in one (no coordinated omission).

use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// A client's patience; longer than that of any gateway here.
const PATIENCE: Duration = Duration::from_secs(8);

/// Longest reply.
const MAX_REPLY: usize = 64 * 1024;

/// What came of a request.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Outcome {
    /// When it was due, in seconds from the start.
    pub(crate) due: f64,
    /// In milliseconds, from when it was due.
    pub(crate) latency: f64,
    pub(crate) end: End,
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum End {
    Status(u16),
    /// No connection, or one that ended before the reply was whole.
    Broken,
    /// No whole reply in a client's patience.
    Late,
}

/// Connections that wait for a request.
type Idle = Arc<Mutex<Vec<TcpStream>>>;

/// Sends `rate` requests a second from `start` for as long as `goes_on` is true of when the next one is due, and waits for
/// their ends.
pub(crate) async fn run(
    address: SocketAddr,
    rate: u32,
    start: Instant,
    goes_on: impl Fn(Duration) -> bool,
) -> Vec<Outcome> {
    let idle = Idle::default();
    let mut requests = tokio::task::JoinSet::new();
    for number in 0.. {
        let due = Duration::from_secs(1) * number / rate;
        if !goes_on(due) {
            break;
        }
        tokio::time::sleep_until((start + due).into()).await;
        let idle = idle.clone();
        requests.spawn(async move {
            let end = match tokio::time::timeout(PATIENCE, request(address, &idle)).await {
                Ok(Ok(status)) => End::Status(status),
                Ok(Err(_)) => End::Broken,
                Err(_) => End::Late,
            };
            let latency = start.elapsed().saturating_sub(due).as_secs_f64() * 1000.0;
            Outcome { due: due.as_secs_f64(), latency, end }
        });
    }
    let mut outcomes = requests.join_all().await;
    outcomes.sort_by(|one, other| one.due.total_cmp(&other.due));
    outcomes
}

/// Sends `rate` requests a second while `work` is done, and returns what came of both.
pub(crate) fn beside<T>(
    address: SocketAddr,
    rate: u32,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<(Vec<Outcome>, T)> {
    let ends = AtomicBool::new(false);
    let goes_on = |_| !ends.load(Ordering::Relaxed);
    std::thread::scope(|scope| {
        let load = scope.spawn(|| {
            let runtime =
                tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
            anyhow::Ok(runtime.block_on(run(address, rate, Instant::now(), goes_on)))
        });
        let done = work();
        ends.store(true, Ordering::Relaxed);
        let outcomes = load.join().map_err(|_| anyhow::anyhow!("the load panicked"))?;
        Ok((outcomes?, done?))
    })
}

/// Does one request on a connection that is kept; on a new one where the gateway had closed that in the meantime.
async fn request(address: SocketAddr, idle: &Idle) -> anyhow::Result<u16> {
    let kept = idle.lock().unwrap_or_else(PoisonError::into_inner).pop();
    if let Some(stream) = kept
        && let Some(status) = exchange(stream, address, idle).await?
    {
        return Ok(status);
    }
    let stream = TcpStream::connect(address).await.context("connect")?;
    stream.set_nodelay(true).context("send at once")?;
    exchange(stream, address, idle).await?.context("the connection ended before a reply")
}

/// Returns the status, and keeps the connection; `None` where it ended before the first byte of a reply.
async fn exchange(mut stream: TcpStream, address: SocketAddr, idle: &Idle) -> anyhow::Result<Option<u16>> {
    let head = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    if stream.write_all(head.as_bytes()).await.is_err() {
        return Ok(None);
    }
    let mut reply = Vec::with_capacity(512);
    loop {
        match stream.read_buf(&mut reply).await {
            Ok(0) | Err(_) if reply.is_empty() => return Ok(None),
            Ok(0) | Err(_) => anyhow::bail!("the connection ended in a reply"),
            Ok(_) => {}
        }
        if let Some(reply) = whole(&reply) {
            if reply.is_kept {
                idle.lock().unwrap_or_else(PoisonError::into_inner).push(stream);
            }
            return Ok(Some(reply.status));
        }
        anyhow::ensure!(reply.len() < MAX_REPLY, "a reply has no end");
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Reply {
    status: u16,
    is_kept: bool,
}

/// Reads a reply once all of it is there. Without a length it cannot be used again, and counts as whole.
fn whole(bytes: &[u8]) -> Option<Reply> {
    let end = bytes.windows(4).position(|window| window == b"\r\n\r\n")?;
    let head = String::from_utf8_lossy(bytes.get(..end)?).to_ascii_lowercase();
    let status = head.strip_prefix("http/1.1 ")?.get(..3)?.parse().ok()?;
    let field = |name: &str| head.lines().find_map(|line| line.strip_prefix(name).map(str::trim));
    let length = field("content-length:").and_then(|length| length.parse::<usize>().ok());
    if length.is_some_and(|length| bytes.len() < end + 4 + length) {
        return None;
    }
    Some(Reply { status, is_kept: length.is_some() && field("connection:") != Some("close") })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reply_is_whole_when_its_body_is_there() {
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok"), None);
        let kept = Some(Reply { status: 200, is_kept: true });
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nok\n"), kept);
        let closed = Some(Reply { status: 503, is_kept: false });
        assert_eq!(whole(b"HTTP/1.1 503 No\r\ncontent-length: 0\r\nconnection: close\r\n\r\n"), closed);
        assert_eq!(whole(b"HTTP/1.1 200 OK\r\n"), None);
    }
}
