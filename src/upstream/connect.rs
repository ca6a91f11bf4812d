//! Opens a connection to an endpoint.

use std::io;
use std::rc::Rc;
use std::time::SystemTime;

use meshless_discovery::{Address, AppProtocol, Endpoint};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::{TlsConnector, TlsStream};

use super::tls::{CannotBegin, TlsClient};
use crate::config::{Policies, UpstreamProtocol, UpstreamTls};
use crate::handshake::Failed;
use crate::stream::Stream;
use crate::telemetry::metrics::TcpSeries;
use crate::trust::Shown;

/// What a connection is wanted for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// Bytes only.
    Bytes,
    /// Whichever of the two ALPN says; HTTP/1.1 where it says nothing.
    Either,
    Http1,
    Http2,
}

impl Wanted {
    /// Returns what a request wants of an endpoint.
    pub(crate) fn of(policies: &Policies, endpoint: &Endpoint, is_grpc: bool, upgrade: bool) -> Self {
        let is_encrypted = policies.tls != UpstreamTls::Off;
        match policies.protocol {
            UpstreamProtocol::Http1 => Self::Http1,
            _ if upgrade => Self::Http1,
            UpstreamProtocol::Http2 => Self::Http2,
            UpstreamProtocol::Tcp => Self::Bytes,
            UpstreamProtocol::Auto if is_encrypted => Self::Either,
            UpstreamProtocol::Auto if is_grpc || endpoint.protocol == Some(AppProtocol::H2c) => Self::Http2,
            UpstreamProtocol::Auto => Self::Http1,
        }
    }

    /// The word in explanations.
    pub(crate) fn label(self) -> &'static str {
        match self {
            Self::Bytes => "bytes",
            Self::Either => "alpn",
            Self::Http1 => "http1",
            Self::Http2 => "http2",
        }
    }

    pub(crate) fn takes_http1(self) -> bool {
        matches!(self, Self::Http1 | Self::Either)
    }

    pub(crate) fn takes_http2(self) -> bool {
        matches!(self, Self::Http2 | Self::Either)
    }
}

/// A connection that was just opened.
#[derive(Debug)]
pub(crate) struct Fresh {
    pub(crate) stream: Stream,
    pub(crate) is_http2: bool,
    /// Who the endpoint is, for TLS of the mesh.
    pub(crate) shown: Option<Shown>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) struct ConnectError {
    /// For the metric.
    pub(crate) label: &'static str,
    pub(crate) why: String,
}

impl ConnectError {
    fn new(error: &io::Error) -> Self {
        let label = match error.kind() {
            io::ErrorKind::ConnectionRefused => "refused",
            io::ErrorKind::ConnectionReset => "reset",
            io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => "unreachable",
            io::ErrorKind::NotFound => "no_socket",
            io::ErrorKind::PermissionDenied => "permission",
            io::ErrorKind::TimedOut => "timeout",
            _ => "io",
        };
        Self { label, why: error.to_string() }
    }
}

impl From<Failed> for ConnectError {
    fn from(failed: Failed) -> Self {
        Self { label: failed.label, why: failed.why }
    }
}

impl From<CannotBegin> for ConnectError {
    fn from(error: CannotBegin) -> Self {
        match error {
            CannotBegin::NoIdentity(why) => Failed::no_identity(&why).into(),
            CannotBegin::NoName => Self { label: "tls", why: error.to_string() },
        }
    }
}

/// Connects, shakes hands. The caller bounds the time.
pub(crate) async fn connect(
    address: &Address,
    tls: Option<&TlsClient>,
    wanted: Wanted,
    series: &Rc<TcpSeries>,
) -> Result<Fresh, ConnectError> {
    let mut stream = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|error| ConnectError::new(&error))?;
            stream.set_nodelay(true).map_err(|error| ConnectError::new(&error))?;
            Stream::from(stream)
        }
        Address::Unix(path) => {
            Stream::from(UnixStream::connect(path).await.map_err(|error| ConnectError::new(&error))?)
        }
    };
    stream.count(series.open());
    let Some(tls) = tls else { return Ok(Fresh { stream, is_http2: wanted == Wanted::Http2, shown: None }) };
    let (config, name) = tls.begin(address, wanted, SystemTime::now())?;
    let connecting = TlsConnector::from(config).connect(name, stream);
    let session = connecting.await.map_err(|error| {
        let failed = Failed::of(&error);
        if tls.is_mesh() { failed } else { Failed { label: "tls", ..failed } }
    })?;
    let connection = session.get_ref().1;
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    if wanted == Wanted::Http2 && !is_http2 {
        let why = "TLS: the endpoint did not agree to HTTP/2 (ALPN h2); set `protocol`".to_owned();
        return Err(ConnectError { label: "alpn", why });
    }
    let shown = tls.shown(wanted, connection, SystemTime::now()).map_err(|refused| Failed::refused(&refused))?;
    Ok(Fresh { stream: Stream::from(TlsStream::from(session)), is_http2, shown })
}
