//! One health check: a connection, a question, an answer. The caller bounds the time.
//!
//! Each check opens a connection of its own, so that it sees what a new client would see: a full accept queue, a
//! certificate that has expired. It is not part of any pool and not counted against `limits.connections`.

use std::time::SystemTime;

use bytes::{Bytes, BytesMut};
use http::{HeaderMap, Request, Version, header};
use hyper::body::{Body, Frame, SizeHint};
use hyper_util::rt::TokioIo;
use meshless_discovery::{Address, AppProtocol};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;

use super::grpc;
use crate::config::{HealthAsk, UpstreamProtocol};
use crate::handshake::Failed;
use crate::upstream::connect::Wanted;
use crate::upstream::tls::TlsClient;

/// Who asks, for the access logs of endpoints.
const AGENT: &str = concat!("meshless-health-check/", env!("CARGO_PKG_VERSION"));
/// Largest answer that is read, in bytes: a health message has two.
const LARGEST: usize = 4096;
/// Largest head of an answer, in bytes.
const HEAD: u32 = 16 * 1024;

trait Wire: AsyncRead + AsyncWrite + Send + Unpin {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin> Wire for T {}

/// Who is asked.
#[derive(Debug)]
pub(in crate::compose) struct Place<'a> {
    pub(in crate::compose) address: &'a Address,
    pub(in crate::compose) tls: Option<&'a TlsClient>,
    pub(in crate::compose) protocol: UpstreamProtocol,
    /// What discovery says that it speaks.
    pub(in crate::compose) app: Option<AppProtocol>,
}

/// Asks an endpoint; the error says why it is not well.
pub(in crate::compose) async fn ask(place: &Place<'_>, ask: &HealthAsk) -> Result<(), String> {
    let wanted = match (ask, place.protocol) {
        (HealthAsk::Tcp, _) => Wanted::Bytes,
        (HealthAsk::Grpc { .. }, _) | (_, UpstreamProtocol::Http2) => Wanted::Http2,
        (_, UpstreamProtocol::Auto) if place.tls.is_some() => Wanted::Either,
        (_, UpstreamProtocol::Auto) if place.app == Some(AppProtocol::H2c) => Wanted::Http2,
        (_, UpstreamProtocol::Auto | UpstreamProtocol::Http1 | UpstreamProtocol::Tcp) => Wanted::Http1,
    };
    let (wire, is_http2) = connect(place, wanted).await?;
    match ask {
        HealthAsk::Tcp => Ok(()),
        HealthAsk::Grpc { service } => {
            let authority = authority(place, None);
            let request = head(place, &authority, "/grpc.health.v1.Health/Check")
                .method("POST")
                .header(header::CONTENT_TYPE, "application/grpc")
                .header(header::TE, "trailers");
            let request = request.body(()).map_err(|error| error.to_string())?;
            let answer = http2(wire, request, Some(grpc::request(service))).await?;
            if answer.status != 200 {
                return Err(format!("HTTP status {}", answer.status));
            }
            match answer.grpc_status.as_deref() {
                Some("0") => grpc::is_serving(&answer.body),
                Some(status) => Err(format!("gRPC status {status}")),
                None => Err("an answer without a gRPC status".to_owned()),
            }
        }
        HealthAsk::Http { path, host, status } => {
            let authority = authority(place, host.as_deref());
            let answered = if is_http2 {
                let request = head(place, &authority, path).body(()).map_err(|error| error.to_string())?;
                http2(wire, request, None).await?.status
            } else {
                http1(wire, &authority, path).await?
            };
            if (status.0..=status.1).contains(&answered) { Ok(()) } else { Err(format!("status {answered}")) }
        }
    }
}

async fn connect(place: &Place<'_>, wanted: Wanted) -> Result<(Box<dyn Wire>, bool), String> {
    let address = place.address;
    let wire: Box<dyn Wire> = match address {
        Address::Tcp(address) => {
            let stream = TcpStream::connect(address).await.map_err(|error| format!("connect: {error}"))?;
            stream.set_nodelay(true).map_err(|error| format!("connect: {error}"))?;
            Box::new(stream)
        }
        Address::Unix(path) => Box::new(UnixStream::connect(path).await.map_err(|error| format!("connect: {error}"))?),
    };
    let Some(tls) = place.tls else { return Ok((wire, wanted == Wanted::Http2)) };
    let (config, name) = tls.begin(address, wanted, SystemTime::now()).map_err(|error| error.to_string())?;
    let connecting = TlsConnector::from(config).connect(name, wire);
    let session = connecting.await.map_err(|error| Failed::of(&error).why)?;
    let connection = session.get_ref().1;
    tls.shown(wanted, connection, SystemTime::now()).map_err(|refused| Failed::refused(&refused).why)?;
    let is_http2 = connection.alpn_protocol() == Some(b"h2");
    if wanted == Wanted::Http2 && !is_http2 {
        return Err("TLS: the endpoint did not agree to HTTP/2 (ALPN h2)".to_owned());
    }
    Ok((Box::new(session), is_http2))
}

fn authority(place: &Place<'_>, host: Option<&str>) -> String {
    let name = place.tls.and_then(TlsClient::configured_name).map(|name| name.to_str().into_owned());
    host.map(ToOwned::to_owned).or(name).unwrap_or_else(|| match place.address {
        Address::Tcp(address) => address.to_string(),
        Address::Unix(_) => "localhost".to_owned(),
    })
}

/// The head of a question over HTTP/2.
fn head(place: &Place<'_>, authority: &str, path: &str) -> http::request::Builder {
    let scheme = if place.tls.is_some() { "https" } else { "http" };
    Request::builder()
        .version(Version::HTTP_2)
        .uri(format!("{scheme}://{authority}{path}"))
        .header(header::USER_AGENT, AGENT)
}

async fn http1(wire: Box<dyn Wire>, authority: &str, path: &str) -> Result<u16, String> {
    let request = Request::builder()
        .uri(path)
        .header(header::HOST, authority)
        .header(header::USER_AGENT, AGENT)
        .header(header::CONNECTION, "close")
        .body(Nothing)
        .map_err(|error| error.to_string())?;
    let (mut sender, connection) = hyper::client::conn::http1::Builder::new()
        .max_buf_size(HEAD as usize)
        .handshake(TokioIo::new(wire))
        .await
        .map_err(|error| error.to_string())?;
    let mut answer = std::pin::pin!(sender.send_request(request));
    let answer = tokio::select! {
        answer = &mut answer => answer,
        // It ends with the answer where that came with it: both are there then.
        _ = connection => answer.await,
    };
    answer.map(|answer| answer.status().as_u16()).map_err(|error| format!("HTTP/1.1: {error}"))
}

/// An answer over HTTP/2.
struct Answer {
    status: u16,
    grpc_status: Option<String>,
    body: BytesMut,
}

async fn http2(wire: Box<dyn Wire>, request: Request<()>, body: Option<Bytes>) -> Result<Answer, String> {
    let said = |error: h2::Error| format!("HTTP/2: {error}");
    let (sender, connection) = h2::client::Builder::new()
        .max_header_list_size(HEAD)
        .enable_push(false)
        .handshake::<_, Bytes>(wire)
        .await
        .map_err(said)?;
    let exchange = async {
        let mut sender = sender.ready().await.map_err(said)?;
        let (answer, mut upload) = sender.send_request(request, body.is_none()).map_err(said)?;
        if let Some(body) = body {
            upload.send_data(body, true).map_err(said)?;
        }
        let (parts, mut download) = answer.await.map_err(said)?.into_parts();
        let mut read = BytesMut::new();
        let mut grpc_status = grpc_status(&parts.headers);
        // Only a message of gRPC is looked at; the page of an HTTP check may be as long as it likes.
        if is_grpc(&parts.headers) {
            while let Some(data) = download.data().await {
                let data = data.map_err(said)?;
                let _ = download.flow_control().release_capacity(data.len());
                if read.len() + data.len() > LARGEST {
                    return Err("an answer that is too long".to_owned());
                }
                read.extend_from_slice(&data);
            }
            if let Some(trailers) = download.trailers().await.map_err(said)? {
                grpc_status = self::grpc_status(&trailers).or(grpc_status);
            }
        }
        Ok(Answer { status: parts.status.as_u16(), grpc_status, body: read })
    };
    let mut exchange = std::pin::pin!(exchange);
    tokio::select! {
        answer = &mut exchange => answer,
        // It ends with the answer where that came with it: both are there then.
        _ = connection => exchange.await,
    }
}

fn is_grpc(headers: &HeaderMap) -> bool {
    let kind = headers.get(header::CONTENT_TYPE);
    kind.is_some_and(|kind| kind.as_bytes().starts_with(b"application/grpc"))
}

fn grpc_status(headers: &HeaderMap) -> Option<String> {
    headers.get("grpc-status").and_then(|status| status.to_str().ok()).map(ToOwned::to_owned)
}

/// A body that is none.
#[derive(Debug)]
struct Nothing;

impl Body for Nothing {
    type Data = Bytes;
    type Error = std::convert::Infallible;

    fn poll_frame(
        self: std::pin::Pin<&mut Self>,
        _: &mut std::task::Context<'_>,
    ) -> std::task::Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        std::task::Poll::Ready(None)
    }

    fn is_end_stream(&self) -> bool {
        true
    }

    fn size_hint(&self) -> SizeHint {
        SizeHint::with_exact(0)
    }
}
