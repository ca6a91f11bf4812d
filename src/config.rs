//! The checked configuration: what the rest of the gateway works with.
//!
//! [`raw`] is what a person writes, [`check`] turns it into the types here once, at the edge, and reports *every*
//! problem with file, line and column. After that nothing is validated again: a value of these types is right.
//!
//! ```text
//! files ─► document (tree with places) ─► layers (files, environment) ─► interpolate (`${…}`)
//!       ─► structure (against the schema of raw) ─► check (meaning) ─► Config
//! ```
//!
//! A step that finds something wrong reports it, leaves it out and goes on, so that one run tells everything.
//! The checked types serialize, with units and without secrets, for `/config`.

pub mod check;
mod document;
mod interpolate;
mod layers;
pub mod problem;
pub mod raw;
pub mod schema;
mod structure;
pub mod units;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use crate::target::Expression;

pub use check::{Loaded, load};
pub use problem::{Place, Problem, Problems, Severity};
use units::print;

/// A whole checked configuration.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Config {
    /// This process.
    pub node: Node,
    /// The admin interface.
    pub admin: Admin,
    /// Backends by name. `static` is always there and never in this map.
    pub discovery: BTreeMap<String, Backend>,
    /// Policies for inline targets: `[defaults]` over the built-in ones.
    pub defaults: Policies,
    /// Services by name.
    pub services: BTreeMap<String, Service>,
    /// Listeners; names are unique.
    pub listeners: Vec<Listener>,
    /// Routes in file order: the first match wins.
    pub routes: Vec<Route>,
    /// Logs, metrics and traces.
    pub telemetry: Telemetry,
    /// What happens on a signal to end.
    pub shutdown: Shutdown,
}

/// `[node]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Node {
    /// The service that we ask to be.
    pub service: Option<String>,
    /// Our zone.
    pub zone: Option<String>,
    /// Where last-known-good snapshots are kept; `None`: nowhere, said once in the log.
    pub state_dir: Option<PathBuf>,
    /// Worker threads; `None`: the CPUs that this process may use.
    pub workers: Option<usize>,
}

/// `[admin]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Admin {
    /// The whole admin interface. Default `127.0.0.1:9990`.
    pub listen: ListenAddress,
    /// `/live /ready /metrics` alone.
    pub probes: Option<ListenAddress>,
}

/// Where to listen.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ListenAddress {
    /// An IP address and a port; port 0 asks the kernel for a free one.
    Tcp(SocketAddr),
    /// A Unix socket, mode 0600 for admin.
    Unix(PathBuf),
}

impl std::fmt::Display for ListenAddress {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

impl Serialize for ListenAddress {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// `[discovery.NAME]`, for the backends that this build has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case", tag = "type")]
pub enum Backend {
    /// Endpoints in files.
    File {
        /// A file or a directory.
        path: PathBuf,
    },
}

/// `[services.NAME]`.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Service {
    /// Its name.
    pub name: String,
    /// Where its endpoints are found: targets only.
    pub from: Expression,
    /// How it is called.
    pub policies: Policies,
}

/// How a service or an inline target is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policies {
    /// What endpoints speak. Default `auto`.
    pub protocol: UpstreamProtocol,
    /// TLS to endpoints. Default off.
    pub tls: UpstreamTls,
    /// How an endpoint is chosen. Default `peak-ewma`.
    pub balance: Balance,
    /// From the end of the request to the head of the reply, retries included. Default 15 s.
    #[serde(serialize_with = "print::period")]
    pub timeout: Duration,
    /// For a connection, TLS included. Default 1 s.
    #[serde(serialize_with = "print::period")]
    pub connect_timeout: Duration,
    /// Longest silence of a body, a tunnel or a TCP connection. Default 5 min.
    #[serde(serialize_with = "print::period")]
    pub idle_timeout: Duration,
    /// Retries.
    pub retry: Retry,
    /// Limits.
    pub limits: Limits,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Auto,
            tls: UpstreamTls::Off,
            balance: Balance::PeakEwma,
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_mins(5),
            retry: Retry::default(),
            limits: Limits::default(),
        }
    }
}

/// What endpoints of a service speak.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamProtocol {
    /// By ALPN with TLS; in clear h2c for gRPC or where the platform says so, else HTTP/1.1.
    Auto,
    /// HTTP/1.1.
    Http1,
    /// HTTP/2; in clear by prior knowledge.
    Http2,
    /// Bytes.
    Tcp,
}

/// TLS to endpoints.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum UpstreamTls {
    /// Clear text.
    Off,
    /// TLS whose server certificate is checked against `ca`.
    On {
        /// Trust anchors.
        ca: TrustAnchors,
        /// Chain and key of ours, in PEM.
        client: Option<CertifiedKeyFiles>,
        /// Name to ask for and to check; default: the name in the request's authority.
        server_name: Option<String>,
    },
}

/// What a peer's certificate is checked against.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum TrustAnchors {
    /// A PEM file.
    File(PathBuf),
    /// The system's store.
    System,
}

/// A certificate chain and its key, in PEM files.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize)]
pub struct CertifiedKeyFiles {
    /// Chain, leaf first.
    pub cert: PathBuf,
    /// Private key.
    pub key: PathBuf,
}

/// How an endpoint is chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Balance {
    /// The one with fewer requests in flight of two drawn at random.
    LeastRequest,
    /// The one with the lower latency times load of two drawn at random.
    PeakEwma,
    /// At random by weight.
    Random,
    /// In turn by weight.
    RoundRobin,
}

/// When a request is sent again.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Retry {
    /// What is retried. Default connect, reset, 503, unavailable.
    pub on: BTreeSet<RetryOn>,
    /// All tries, the first one included; at least 1. Default 2.
    pub attempts: u32,
    /// Limit for one try, until the head of its reply.
    #[serde(serialize_with = "print::some_period")]
    pub per_try: Option<Duration>,
    /// Wait between tries, with full jitter. Default 25 ms to 250 ms.
    #[serde(serialize_with = "print::range")]
    pub backoff: (Duration, Duration),
    /// Share of requests that may be retries, 0.0 to 1.0. Default 0.2.
    #[serde(serialize_with = "print::ratio")]
    pub budget: f64,
    /// Retries that are always allowed, per second. Default 10.
    pub min_per_second: f64,
    /// Largest body that is kept for another try, in bytes. Default 64 KiB.
    #[serde(serialize_with = "print::size")]
    pub body_limit: usize,
    /// Which methods may be sent again once an endpoint may have seen them. Default idempotent ones.
    pub methods: RetryMethods,
}

impl Default for Retry {
    fn default() -> Self {
        Self {
            on: [RetryOn::Connect, RetryOn::Reset, RetryOn::Status(503), RetryOn::GrpcUnavailable].into(),
            attempts: 2,
            per_try: None,
            backoff: (Duration::from_millis(25), Duration::from_millis(250)),
            budget: 0.2,
            min_per_second: 10.0,
            body_limit: 64 * 1024,
            methods: RetryMethods::Idempotent,
        }
    }
}

/// One reason to send a request again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum RetryOn {
    /// No connection: the request was not sent.
    Connect,
    /// gRPC status 14 in a reply without a body.
    GrpcUnavailable,
    /// The connection broke, or the stream was reset, before a reply.
    Reset,
    /// A reply of this status.
    Status(u16),
}

impl std::fmt::Display for RetryOn {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Connect => formatter.write_str("connect"),
            Self::GrpcUnavailable => formatter.write_str("unavailable"),
            Self::Reset => formatter.write_str("reset"),
            Self::Status(status) => status.fmt(formatter),
        }
    }
}

impl Serialize for RetryOn {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

/// Which methods may be sent again once an endpoint may have seen them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RetryMethods {
    /// Every method.
    All,
    /// GET, HEAD, OPTIONS, TRACE, PUT, DELETE (RFC 9110, 9.2.2).
    Idempotent,
}

/// Limits of a service, over all workers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Limits {
    /// Open connections. Default 1,024.
    pub connections: usize,
    /// Requests that wait for a connection. Default 1,024.
    pub pending: usize,
    /// Requests in flight. Default 10,000.
    pub requests: usize,
    /// Longest wait for a connection. Default 1 s.
    #[serde(serialize_with = "print::period")]
    pub queue: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self { connections: 1024, pending: 1024, requests: 10_000, queue: Duration::from_secs(1) }
    }
}

/// One listener.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Listener {
    /// Its name; the address where none was given.
    pub name: String,
    /// Where it listens.
    pub listen: ListenAddress,
    /// What it expects.
    pub protocol: ListenerProtocol,
    /// Where everything goes, instead of routes.
    pub to: Option<Expression>,
    /// TLS of the listener.
    pub tls: ListenerTls,
    /// Each connection begins with a PROXY protocol header, version 1 or 2.
    pub proxy_protocol: bool,
    /// Limits and timeouts of the listener.
    pub limits: ListenerLimits,
}

/// What a listener expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerProtocol {
    /// HTTP/1.1 or HTTP/2, told apart by preface or ALPN.
    Auto,
    /// HTTP only: other bytes are 400.
    Http,
    /// Bytes.
    Tcp,
    /// TLS that is passed on unopened; routes match its SNI as host.
    TlsPassthrough,
}

/// TLS of a listener.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ListenerTls {
    /// Clear text.
    Off,
    /// TLS by given certificates.
    Server {
        /// At least one; chosen by SNI, the first one where nothing fits.
        certs: Vec<CertifiedKeyFiles>,
        /// Client certificates must be signed by one of these, in PEM.
        client_ca: Option<PathBuf>,
    },
}

/// Limits and timeouts of a listener. The defaults are those of the security paper, §1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerLimits {
    /// Open connections. Default 10,000.
    pub connections: usize,
    /// Open connections of one client address. Default 1,000; 0 is no limit. Loopback and Unix peers are exempt.
    pub connections_per_address: usize,
    /// Requests on one connection before it is closed in order. Default 10,000; 0 is no limit.
    pub requests_per_connection: u64,
    /// Age at which a connection is closed in order. Default 1 h.
    #[serde(serialize_with = "print::period")]
    pub connection_age: Duration,
    /// Until a TLS handshake (and PROXY header) is done. Default 10 s.
    #[serde(serialize_with = "print::period")]
    pub handshake_timeout: Duration,
    /// From the first byte of a head to its end. Default 10 s.
    #[serde(serialize_with = "print::period")]
    pub header_timeout: Duration,
    /// Longest silence between requests. Default 60 s.
    #[serde(serialize_with = "print::period")]
    pub idle_timeout: Duration,
    /// Request line and headers, in bytes. Default 16 KiB.
    #[serde(serialize_with = "print::size")]
    pub head_bytes: usize,
    /// Header lines. Default 100.
    pub headers: usize,
    /// Trailers, in bytes. Default 8 KiB.
    #[serde(serialize_with = "print::size")]
    pub trailer_bytes: usize,
    /// Concurrent HTTP/2 streams of one connection. Default 100.
    pub streams: u32,
    /// HTTP/2 control frames in 10 s before the connection is ended: SETTINGS 50, PING 100, RST 100, others 1,000.
    pub control_frames: ControlFrames,
    /// `Via` hops over which a request is a loop. Default 16.
    pub hops: usize,
}

/// Most HTTP/2 frames of a kind in 10 s on one connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ControlFrames {
    /// SETTINGS. Default 50.
    pub settings: u32,
    /// PING. Default 100.
    pub ping: u32,
    /// `RST_STREAM`, where they are also more than half of the streams opened. Default 100.
    pub reset: u32,
    /// Empty DATA, PRIORITY, `WINDOW_UPDATE` beyond two for each DATA frame we sent, and unknown kinds. Default 1,000.
    pub other: u32,
}

impl Default for ListenerLimits {
    fn default() -> Self {
        Self {
            connections: 10_000,
            connections_per_address: 1000,
            requests_per_connection: 10_000,
            connection_age: Duration::from_hours(1),
            handshake_timeout: Duration::from_secs(10),
            header_timeout: Duration::from_secs(10),
            idle_timeout: Duration::from_mins(1),
            head_bytes: 16 * 1024,
            headers: 100,
            trailer_bytes: 8 * 1024,
            streams: 100,
            control_frames: ControlFrames { settings: 50, ping: 100, reset: 100, other: 1000 },
            hops: 16,
        }
    }
}

/// One route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Route {
    /// Its name; `route N` counted from 1 where none was given.
    pub name: String,
    /// The listener that it is for; `None`: every listener without `to`.
    pub listener: Option<String>,
    /// Which host matches; `None`: any.
    pub host: Option<HostMatch>,
    /// Which path matches; `None`: any.
    pub path: Option<PathMatch>,
    /// Where a request goes.
    pub to: Expression,
    /// Wins over the service's.
    #[serde(serialize_with = "print::some_period")]
    pub timeout: Option<Duration>,
}

/// Which host a route is for; ports are ignored, names are lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostMatch {
    /// This host.
    Exact(String),
    /// One or more labels before this suffix, which begins with a dot.
    Suffix(String),
}

/// Which path a route is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum PathMatch {
    /// This path.
    Exact(String),
    /// `/a/*` is the prefix `/a`: that path itself and all below it.
    Prefix(String),
}

/// `[telemetry]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Telemetry {
    /// Form of the access log. Default JSON.
    pub access_log: AccessLog,
}

/// Form of the access log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum AccessLog {
    /// One JSON object a line.
    Json,
    /// None.
    Off,
    /// One line of text.
    Text,
}

/// `[shutdown]`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Shutdown {
    /// Go on accepting so long after SIGTERM. Default 0 s.
    #[serde(serialize_with = "print::period")]
    pub grace: Duration,
    /// Longest wait for what is in flight. Default 25 s.
    #[serde(serialize_with = "print::period")]
    pub drain: Duration,
}
