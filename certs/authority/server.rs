//! The authority's server: HTTP/2 and JSON over TLS 1.3, bounded in number, time and size.
//!
//! ```text
//! accept ─► handshake (what the authority shows now; a client certificate is checked if there is one)
//!        ─► streams ─► routes ─► answers given before, or a job that decides ─► Issuer
//! ```
//!
//! Deciding is a job of its own: a client that goes away in the middle leaves no token burnt without an answer kept for
//! it. Nothing here spawns by itself: jobs are handed to [`Spawn`].

mod answers;
mod face;
pub mod operator;
mod routes;
mod sources;
#[cfg(test)]
pub(crate) mod tests;

use std::convert::Infallible;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hyper::rt::Executor;
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use rustls::pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use self::answers::Answers;
use self::face::{ALPN, Face};
use self::sources::Sources;
use super::Issuer;

/// Connections at a time, handshakes among them; more wait in the kernel's queue.
const CONNECTIONS: usize = 2048;
/// Requests that are being decided at a time.
const JOBS: usize = 1024;
/// Until a handshake is complete.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// Age at which a connection is closed in order: an agent needs it for two requests.
const AGE: Duration = Duration::from_mins(1);
/// What is under way then, or at the end, may still end.
const LAST_WORDS: Duration = Duration::from_secs(20);
/// Requests of one connection at a time.
const STREAMS: u32 = 32;
/// A share of all handshakes that one source may have under way: one of them cannot keep the others out.
const SOURCE_SHARE: usize = 4;
/// Pause after a failed accept, such as when descriptors ran out.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// A piece of work.
pub type Job = Pin<Box<dyn Future<Output = ()> + Send>>;
/// Runs work beside its caller; whoever makes it sees to the end of what it runs.
pub type Spawn = Arc<dyn Fn(Job) + Send + Sync>;

/// Limits that an operator sets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ServerOptions {
    /// Handshakes at a time.
    pub handshakes: usize,
    /// Challenges, issuances and renewals that one source address (for IPv6, one /64) may ask for in a second; ten times
    /// as many at once.
    pub per_source: u32,
}

impl Default for ServerOptions {
    /// 200 handshakes, 20 requests of a source in a second.
    fn default() -> Self {
        Self { handshakes: 200, per_source: 20 }
    }
}

/// Is told what the server does, for metrics; must not wait.
pub trait Witness: fmt::Debug + Send + Sync {
    /// A request (`bundle`, `challenge`, `issue`, `renew`, `other`) was answered with this status.
    fn answered(&self, request: &'static str, status: u16);
    /// No connection came of it: `certificate`, `protocol`, `source_limit`, `timeout`, `tls`, `unavailable`.
    fn refused(&self, why: &'static str);
}

/// The server of one authority.
pub struct Server {
    issuer: Arc<dyn Issuer>,
    witness: Arc<dyn Witness>,
    spawn: Spawn,
    face: Face,
    answers: Arc<Answers>,
    sources: Mutex<Sources>,
    handshakes: Arc<Semaphore>,
    connections: Arc<Semaphore>,
    jobs: Arc<Semaphore>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Server").field("issuer", &self.issuer).finish_non_exhaustive()
    }
}

/// Who asks.
#[derive(Debug)]
struct Peer {
    source: IpAddr,
    /// What it showed, as the handshake verified it; empty for nothing.
    chain: Vec<CertificateDer<'static>>,
}

/// Room for one handshake of a source, until it is dropped.
struct Turn<'a> {
    server: &'a Server,
    source: IpAddr,
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        self.server.sources().end(self.source, Instant::now());
    }
}

impl Server {
    /// Serves what `issuer` gives.
    #[must_use]
    pub fn new(issuer: Arc<dyn Issuer>, options: ServerOptions, witness: Arc<dyn Witness>, spawn: Spawn) -> Arc<Self> {
        let handshakes = options.handshakes.clamp(1, CONNECTIONS);
        Arc::new(Self {
            issuer,
            witness,
            spawn,
            face: Face::default(),
            answers: Arc::default(),
            sources: Mutex::new(Sources::new(options.per_source, handshakes.div_ceil(SOURCE_SHARE))),
            handshakes: Arc::new(Semaphore::new(handshakes)),
            connections: Arc::new(Semaphore::new(CONNECTIONS)),
            jobs: Arc::new(Semaphore::new(JOBS)),
        })
    }

    /// Accepts until `stop` says true or its sender is gone. Then waits, 20 s at most, for what is under way.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, stop: watch::Receiver<bool>) {
        let mut stopped = std::pin::pin!(stopped(stop.clone()));
        loop {
            let accepted = tokio::select! {
                () = &mut stopped => break,
                accepted = self.accept(&listener) => accepted,
            };
            match accepted {
                Ok((stream, address, room)) => {
                    (self.spawn)(Box::pin(self.clone().connection(stream, address.ip(), room, stop.clone())));
                }
                Err(error) if is_of_one_connection(&error) => {}
                Err(error) => {
                    tracing::warn!(%error, "The authority cannot accept a connection.");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let under_way = async {
            let _ = self.connections.acquire_many(u32::try_from(CONNECTIONS).unwrap_or(u32::MAX)).await;
            let _ = self.jobs.acquire_many(u32::try_from(JOBS).unwrap_or(u32::MAX)).await;
        };
        if timeout(LAST_WORDS, under_way).await.is_err() {
            tracing::warn!("Requests to the authority were still under way at the end.");
        }
    }

    /// Accepts when there is room. Cancel-safe.
    async fn accept(&self, listener: &TcpListener) -> io::Result<(TcpStream, SocketAddr, Room)> {
        let closed = |_| io::Error::other("closed");
        let connection = self.connections.clone().acquire_owned().await.map_err(closed)?;
        let handshake = self.handshakes.clone().acquire_owned().await.map_err(closed)?;
        let (stream, address) = listener.accept().await?;
        Ok((stream, address, Room { handshake, _connection: connection }))
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, source: IpAddr, room: Room, stop: watch::Receiver<bool>) {
        let Room { handshake, _connection } = room;
        let tls = match timeout(HANDSHAKE, self.handshake(stream, source)).await {
            Ok(Ok(tls)) => tls,
            Ok(Err(why)) => return self.witness.refused(why),
            Err(_) => return self.witness.refused("timeout"),
        };
        drop(handshake);
        let chain = tls.get_ref().1.peer_certificates().unwrap_or_default();
        let peer = Arc::new(Peer { source, chain: chain.iter().map(|one| one.clone().into_owned()).collect() });
        let service = service_fn(|request| {
            let (server, peer) = (self.clone(), peer.clone());
            async move { Ok::<_, Infallible>(server.answer(&peer, request).await) }
        });
        // The limits of the hardening checklist; control frames beyond them end the connection.
        let mut connection = std::pin::pin!(
            http2::Builder::new(Beside(self.spawn.clone()))
                .timer(TokioTimer::new())
                .max_concurrent_streams(STREAMS)
                .initial_stream_window_size(64 * 1024)
                .initial_connection_window_size(1024 * 1024)
                .max_frame_size(16 * 1024)
                .max_header_list_size(16 * 1024)
                .max_send_buf_size(64 * 1024)
                .max_pending_accept_reset_streams(20)
                .max_local_error_reset_streams(128)
                .keep_alive_interval(Duration::from_secs(20))
                .keep_alive_timeout(Duration::from_secs(10))
                .serve_connection(TokioIo::new(tls), service)
        );
        let ended = tokio::select! {
            ended = connection.as_mut() => Some(ended),
            () = sleep(AGE) => None,
            () = stopped(stop) => None,
        };
        let ended = if let Some(ended) = ended {
            ended
        } else {
            connection.as_mut().graceful_shutdown();
            timeout(LAST_WORDS, connection).await.unwrap_or(Ok(()))
        };
        if let Err(error) = ended {
            tracing::debug!(%error, %source, "A connection to the authority ended early.");
        }
    }

    async fn handshake(&self, stream: TcpStream, source: IpAddr) -> Result<TlsStream<TcpStream>, &'static str> {
        if !self.sources().begin(source, Instant::now()) {
            tracing::debug!(%source, "Too many handshakes of one source at a time.");
            return Err("source_limit");
        }
        let _turn = Turn { server: self, source };
        let config = self.face.config(&*self.issuer, SystemTime::now()).ok_or("unavailable")?;
        let _ = stream.set_nodelay(true);
        let tls = TlsAcceptor::from(config).accept(stream).await.map_err(|error| {
            tracing::debug!(%error, %source, "A handshake with the authority failed.");
            match error.get_ref().and_then(|inner| inner.downcast_ref()) {
                Some(rustls::Error::InvalidCertificate(_)) => "certificate",
                Some(rustls::Error::NoApplicationProtocol) => "protocol",
                _ => "tls",
            }
        })?;
        // A client that names no protocol at all gets through the handshake.
        if tls.get_ref().1.alpn_protocol() == Some(ALPN) { Ok(tls) } else { Err("protocol") }
    }

    fn sources(&self) -> MutexGuard<'_, Sources> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for one connection.
struct Room {
    handshake: OwnedSemaphorePermit,
    _connection: OwnedSemaphorePermit,
}

/// hyper runs each stream beside its connection; a stream ends with its connection.
#[derive(Clone)]
struct Beside(Spawn);

impl<F: Future<Output = ()> + Send + 'static> Executor<F> for Beside {
    fn execute(&self, stream: F) {
        (self.0)(Box::pin(stream));
    }
}

async fn stopped(mut stop: watch::Receiver<bool>) {
    // A sender that is gone stops, too.
    let _ = stop.wait_for(|stop| *stop).await;
}

fn is_of_one_connection(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::ConnectionAborted | io::ErrorKind::ConnectionReset)
}
