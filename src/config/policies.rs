//! `[defaults]` and the policies of a service, checked.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use meshless_certs::SpiffeId;
use serde::{Serialize, Serializer};

use super::balance::{Balance, ZonePreference};
use super::breaker::Breaker;
use super::classify::Classify;
use super::health::Health;
use super::hedge::Hedge;
use super::units::print;

/// How a service or an inline target is called.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Policies {
    /// What endpoints speak. Default `auto`.
    pub protocol: UpstreamProtocol,
    /// TLS to endpoints. Default off.
    pub tls: UpstreamTls,
    /// How an endpoint is chosen. Default `peak-ewma`.
    pub balance: Balance,
    /// Time in which a new endpoint grows from a tenth of its weight to all of it; `None`: it has all at once.
    #[serde(serialize_with = "print::some_period")]
    pub slow_start: Option<Duration>,
    /// Whether requests stay in the gateway's own zone. Default `ignore`.
    pub zones: ZonePreference,
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
    /// A second request when the first one is slow. Default: none.
    pub hedge: Option<Hedge>,
    /// What counts against an endpoint.
    pub classify: Classify,
    /// When an endpoint is ejected.
    pub breaker: Breaker,
    /// Active health checks; `None`: none.
    pub health: Option<Health>,
    /// Limits.
    pub limits: Limits,
    /// Healthy share of endpoints below which, in every tier, health is ignored; 0: never. Default 0.5.
    #[serde(serialize_with = "print::ratio")]
    pub panic: f64,
    /// Overprovisioning factor between tiers and zones, at least 1. Default 1.4.
    pub spill: f64,
}

impl Default for Policies {
    fn default() -> Self {
        Self {
            protocol: UpstreamProtocol::Auto,
            tls: UpstreamTls::Off,
            balance: Balance::PeakEwma,
            slow_start: None,
            zones: ZonePreference::Ignore,
            timeout: Duration::from_secs(15),
            connect_timeout: Duration::from_secs(1),
            idle_timeout: Duration::from_mins(5),
            retry: Retry::default(),
            hedge: None,
            classify: Classify::default(),
            breaker: Breaker::default(),
            health: None,
            limits: Limits::default(),
            panic: 0.5,
            spill: 1.4,
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
    /// By the identity of this workload, to endpoints that have one of these. Of `[defaults]` alone it says nothing: there is
    /// nobody to expect until a service has a name, and nobody is spoken to.
    Mesh {
        /// At least one for a service.
        #[serde(serialize_with = "ids")]
        expected: Vec<SpiffeId>,
    },
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

impl UpstreamTls {
    /// Tells whether it shows the identity of this workload.
    #[must_use]
    pub fn is_mesh(&self) -> bool {
        matches!(self, Self::Mesh { .. })
    }
}

fn ids<S: Serializer>(ids: &[SpiffeId], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(ids.iter().map(SpiffeId::as_str))
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
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
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
