//! An endpoint that fails when it is told to, as a process of its own so that it can be killed and frozen.

use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use rustix::process::{Pid, Signal, kill_process};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::http;
use crate::process::Service;

/// Time that a healthy endpoint takes for an answer.
pub(super) const LATENCY: Duration = Duration::from_millis(5);

/// How many times as long a slow one takes.
pub(super) const SLOWDOWN: u32 = 20;

/// Longest head of a request.
const MAX_HEAD: usize = 16 * 1024;

#[derive(Debug, clap::Args)]
pub(crate) struct Arguments {
    /// Where requests come in.
    #[arg(long)]
    listen: SocketAddr,
    /// Where `GET /MODE` changes what it does.
    #[arg(long)]
    control: SocketAddr,
}

/// What it does with a request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Mode {
    Healthy,
    Slow,
    /// 500, as late as a good answer.
    Fail,
    /// 429 at once.
    Limit,
    /// Reads the request and resets the connection.
    Reset,
}

const MODES: [(&str, Mode); 5] = [
    ("/healthy", Mode::Healthy),
    ("/slow", Mode::Slow),
    ("/fail", Mode::Fail),
    ("/limit", Mode::Limit),
    ("/reset", Mode::Reset),
];

impl Mode {
    fn path(self) -> &'static str {
        MODES.iter().find(|(_, mode)| *mode == self).map_or("/", |(path, _)| path)
    }

    /// Returns how long it takes for an answer, and its status; `None` where there is no answer.
    fn answer(self) -> Option<(Duration, &'static str)> {
        match self {
            Self::Healthy => Some((LATENCY, "200 OK")),
            Self::Slow => Some((LATENCY * SLOWDOWN, "200 OK")),
            Self::Fail => Some((LATENCY, "500 Internal Server Error")),
            Self::Limit => Some((Duration::ZERO, "429 Too Many Requests")),
            Self::Reset => None,
        }
    }
}

/// Serves until it is killed.
pub(crate) fn serve(arguments: &Arguments) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().context("start a runtime")?;
    runtime.block_on(async {
        let requests = TcpListener::bind(arguments.listen).await.context("listen for requests")?;
        let control = TcpListener::bind(arguments.control).await.context("listen for control")?;
        let mode = Arc::new(AtomicU8::new(0));
        loop {
            let (stream, is_control) = tokio::select! {
                accepted = requests.accept() => (accepted, false),
                accepted = control.accept() => (accepted, true),
            };
            let (Ok((stream, _)), mode) = (stream, mode.clone()) else { continue };
            // A peer that goes away in the middle is what this is for.
            if is_control {
                tokio::spawn(async move { drop(change(stream, &mode).await) });
            } else {
                tokio::spawn(async move { drop(answer(stream, &mode).await) });
            }
        }
    })
}

async fn answer(mut stream: TcpStream, mode: &AtomicU8) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let mut buffer = Vec::new();
    while let Some(head) = read_head(&mut stream, &mut buffer).await? {
        drop(head);
        let mode = MODES.get(usize::from(mode.load(Ordering::Relaxed))).map_or(Mode::Healthy, |(_, mode)| *mode);
        let Some((wait, status)) = mode.answer() else {
            stream.set_zero_linger()?;
            return Ok(());
        };
        if !wait.is_zero() {
            tokio::time::sleep(wait).await;
        }
        let reply = format!("HTTP/1.1 {status}\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\r\nok\n");
        stream.write_all(reply.as_bytes()).await?;
    }
    Ok(())
}

async fn change(mut stream: TcpStream, mode: &AtomicU8) -> anyhow::Result<()> {
    let mut buffer = Vec::new();
    let head = read_head(&mut stream, &mut buffer).await?.unwrap_or_default();
    let path = head.split(' ').nth(1).unwrap_or_default();
    let index = MODES.iter().position(|(name, _)| *name == path);
    if let Some(index) = index.and_then(|index| u8::try_from(index).ok()) {
        mode.store(index, Ordering::Relaxed);
    }
    let status = if index.is_some() { "200 OK" } else { "404 Not Found" };
    let reply = format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    stream.write_all(reply.as_bytes()).await?;
    Ok(())
}

/// Reads the head of a request that has no body; `None` at the end of the connection.
async fn read_head(stream: &mut TcpStream, buffer: &mut Vec<u8>) -> anyhow::Result<Option<String>> {
    loop {
        if let Some(at) = buffer.windows(4).position(|window| window == b"\r\n\r\n") {
            let head: Vec<u8> = buffer.drain(..at + 4).collect();
            return Ok(Some(String::from_utf8_lossy(&head).into_owned()));
        }
        anyhow::ensure!(buffer.len() < MAX_HEAD, "a head has no end");
        if stream.read_buf(buffer).await? == 0 {
            return Ok(None);
        }
    }
}

/// An endpoint's process; it ends with this.
#[derive(Debug)]
pub(super) struct Endpoint {
    pub(super) address: SocketAddr,
    control: SocketAddr,
    service: Option<Service>,
}

impl Endpoint {
    /// Starts it on ports of its own.
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let mut endpoint = Self { address: http::free_address()?, control: http::free_address()?, service: None };
        endpoint.restart(folder)?;
        Ok(endpoint)
    }

    /// Starts it again on the same ports and waits until it serves.
    pub(super) fn restart(&mut self, folder: &Path) -> anyhow::Result<()> {
        let ourselves = std::env::current_exe().context("find this program")?;
        let mut command = Command::new(ourselves);
        command.args(["endpoint", &format!("--listen={}", self.address), &format!("--control={}", self.control)]);
        let log = folder.join(format!("endpoint-{}.log", self.address.port()));
        let mut service = Service::start("an endpoint", &mut command, &log)?;
        let control = self.control;
        service.until(Duration::from_secs(5), |_| http::status(control, Mode::Healthy.path()).ok())?;
        self.service = Some(service);
        Ok(())
    }

    /// Changes what it does with requests from now on.
    pub(super) fn become_(&self, mode: Mode) -> anyhow::Result<()> {
        let status = http::status(self.control, mode.path())?;
        anyhow::ensure!(status == 200, "an endpoint does not know {}", mode.path());
        Ok(())
    }

    /// Ends it without a word to anybody.
    pub(super) fn kill(&mut self) -> anyhow::Result<()> {
        let mut service = self.service.take().context("it is dead already")?;
        service.stop(Signal::KILL, Duration::from_secs(2)).map(drop)
    }

    /// Stops it where it stands, its connections open.
    pub(super) fn freeze(&self) -> anyhow::Result<()> {
        self.signal(Signal::STOP)
    }

    /// Lets it go on.
    pub(super) fn thaw(&self) -> anyhow::Result<()> {
        self.signal(Signal::CONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let service = self.service.as_ref().context("it is dead")?;
        let pid = i32::try_from(service.id()).ok().and_then(Pid::from_raw).context("a process has no id")?;
        kill_process(pid, signal).context("signal an endpoint")
    }
}

impl Drop for Endpoint {
    fn drop(&mut self) {
        // A frozen process would take the signal to end only when it goes on.
        let _ = self.thaw();
    }
}
