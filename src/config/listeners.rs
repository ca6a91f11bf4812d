//! `[[listeners]]`, checked.

use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;

use super::policies::CertifiedKeyFiles;
use super::units::print;
use super::{ListenAddress, Match};
use crate::target::Expression;

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
    /// Headers of a request may change where it goes.
    pub overrides: bool,
    /// Who may do what: a request has to fit one of these; `None`: whoever TLS lets in. Host and query are not looked at.
    pub allow: Option<Vec<Match>>,
    /// `allow` denies nothing: what it would deny is counted.
    pub dry_run: bool,
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
    /// Mesh TLS, or clear text: what comes so is counted by source.
    Permissive,
    /// TLS by given certificates.
    Server {
        /// At least one; chosen by SNI, the first one where nothing fits.
        certs: Vec<CertifiedKeyFiles>,
        /// Client certificates must be signed by one of these, in PEM.
        client_ca: Option<PathBuf>,
    },
    /// Mesh TLS: every client shows an identity of the trust domain.
    Strict,
}

impl ListenerTls {
    /// Tells whether it shows the identity of this workload.
    #[must_use]
    pub fn is_mesh(&self) -> bool {
        matches!(self, Self::Permissive | Self::Strict)
    }

    /// Tells whether nobody comes in without a certificate.
    #[must_use]
    pub fn needs_certificates(&self) -> bool {
        matches!(self, Self::Strict | Self::Server { client_ca: Some(_), .. })
    }

    /// Tells whether some who come in have shown a certificate.
    #[must_use]
    pub fn knows_identities(&self) -> bool {
        self.needs_certificates() || self.is_mesh()
    }

    /// Tells whether what comes in this way, by TLS or in clear text, is taken.
    #[must_use]
    pub fn takes(&self, encrypted: bool) -> bool {
        match self {
            Self::Off => !encrypted,
            Self::Permissive => true,
            Self::Server { .. } | Self::Strict => encrypted,
        }
    }
}

/// Limits and timeouts of a listener. The defaults are those of the security paper, §1.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct ListenerLimits {
    /// Open connections. Default 10,000.
    pub connections: usize,
    /// Open connections of one client address. Default 1,000; 0 is no limit. Loopback and Unix peers are exempt.
    pub connections_per_address: usize,
    /// Requests in flight, over all connections and workers. Default 10,000.
    pub requests: usize,
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
            requests: 10_000,
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
