//! Posts a batch to a collector: one connection, kept while the collector keeps it.
//!
//! The connection is driven only while a batch is under way: there is no task to own. What the collector did meanwhile
//! (it closes idle connections) is seen when the next batch is sent.

use std::fmt::Debug;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::Poll;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;

use super::Collector;

/// Most of an answer that is read.
const ANSWER_BYTES: usize = 64 * 1024;
/// Longest pause that a collector may ask for.
const LONGEST_PAUSE: Duration = Duration::from_mins(1);

/// What a collector answered.
#[derive(Debug, Clone)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    /// `Retry-After`, where it is a number of seconds; a minute at most.
    pub(super) retry_after: Option<Duration>,
    pub(super) body: Bytes,
}

/// Takes batches; a test scripts it.
pub(super) trait Post: Debug + Send {
    /// Posts a body; any status is an answer. The caller bounds the time.
    fn post(&mut self, to: &Arc<Collector>, body: Bytes) -> impl Future<Output = Result<Answer, BoxError>> + Send;
}

pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Connection = http1::Connection<TokioIo<Box<dyn Stream>>, Full<Bytes>>;

trait Stream: AsyncRead + AsyncWrite + Send + Unpin + Debug {}
impl<T: AsyncRead + AsyncWrite + Send + Unpin + Debug> Stream for T {}

/// A connection to a collector, or none.
#[derive(Debug, Default)]
pub(super) struct Client {
    open: Option<Open>,
}

#[derive(Debug)]
struct Open {
    /// Another collector needs another connection.
    to: Arc<Collector>,
    sender: SendRequest<Full<Bytes>>,
    connection: Pin<Box<Connection>>,
}

impl Post for Client {
    async fn post(&mut self, to: &Arc<Collector>, body: Bytes) -> Result<Answer, BoxError> {
        let mut open = match self.usable(to).await {
            Some(open) => open,
            None => Open::connect(to).await?,
        };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(&to.path)
            .header(header::CONTENT_TYPE, HeaderValue::from_static("application/x-protobuf"))
            .body(Full::new(body))?;
        let headers = request.headers_mut();
        headers.extend(to.headers.clone());
        headers.insert(header::HOST, host(to)?);
        let Open { sender, connection, .. } = &mut open;
        let exchange = async {
            let reply = sender.send_request(request).await?;
            let status = reply.status();
            let retry_after = retry_after(reply.headers());
            let body = Limited::new(reply.into_body(), ANSWER_BYTES).collect().await?.to_bytes();
            Ok::<_, BoxError>(Answer { status, retry_after, body })
        };
        // The connection must be driven beside the exchange; once it ended, the exchange knows why.
        let answer = {
            let mut exchange = std::pin::pin!(exchange);
            tokio::select! {
                answer = &mut exchange => answer?,
                _ = connection => return exchange.await,
            }
        };
        self.open = Some(open);
        Ok(answer)
    }
}

impl Client {
    /// Takes the connection that is open, if it is one to this collector and still open.
    async fn usable(&mut self, to: &Arc<Collector>) -> Option<Open> {
        let mut open = self.open.take().filter(|open| Arc::ptr_eq(&open.to, to))?;
        let has_ended =
            std::future::poll_fn(|context| Poll::Ready(open.connection.as_mut().poll(context).is_ready())).await;
        (!has_ended && open.sender.is_ready()).then_some(open)
    }
}

impl Open {
    async fn connect(to: &Arc<Collector>) -> Result<Self, BoxError> {
        let stream = TcpStream::connect((to.host.as_str(), to.port)).await?;
        stream.set_nodelay(true)?;
        let stream: Box<dyn Stream> = match &to.tls {
            None => Box::new(stream),
            Some(config) => {
                let name = ServerName::try_from(to.host.clone())?;
                Box::new(tokio_rustls::TlsConnector::from(config.clone()).connect(name, stream).await?)
            }
        };
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        Ok(Self { to: to.clone(), sender, connection: Box::pin(connection) })
    }
}

fn host(to: &Collector) -> io::Result<HeaderValue> {
    let host =
        if to.host.contains(':') { format!("[{}]:{}", to.host, to.port) } else { format!("{}:{}", to.host, to.port) };
    HeaderValue::try_from(host).map_err(|_| io::ErrorKind::InvalidInput.into())
}

fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let seconds = headers.get(header::RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(LONGEST_PAUSE))
}
