//! What is known of a traced request when it has ended. Plain facts: [`otlp`](super::otlp) makes attributes of them,
//! where no request waits.

use std::net::IpAddr;
use std::sync::Arc;

use super::context::{SpanId, TraceId};

/// A request and its tries: one server span, and a client span for each try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trace {
    /// The trace that they belong to.
    pub id: TraceId,
    /// `tracestate` as it came in.
    pub state: String,
    /// The request.
    pub server: Server,
    /// Its tries, the first one first.
    pub tries: Vec<Try>,
}

/// From when to when, in nanoseconds since 1970.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    /// First.
    pub start: u64,
    /// Last.
    pub end: u64,
}

/// A request as its client sees it. Empty strings and `None`: not known.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Server {
    /// Its span.
    pub id: SpanId,
    /// The caller's span.
    pub parent: Option<SpanId>,
    /// From its first byte to the last one of the reply.
    pub span: Span,
    /// Method.
    pub method: String,
    /// Host with its port, as asked for.
    pub host: String,
    /// Path without the query: queries carry secrets.
    pub path: String,
    /// How it came.
    pub protocol: Protocol,
    /// It came by TLS.
    pub tls: bool,
    /// Address of the client; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// What the client calls itself.
    pub user_agent: String,
    /// The one in `x-request-id`.
    pub request_id: String,
    /// Listener that it came by.
    pub listener: Arc<str>,
    /// Route that matched.
    pub route: Option<Arc<str>>,
    /// Status that the client got.
    pub status: Option<u16>,
    /// gRPC status.
    pub grpc_status: Option<u16>,
    /// Label of what went wrong.
    pub error: &'static str,
}

/// The protocol of a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.0
    Http10,
    /// HTTP/1.1
    Http11,
    /// HTTP/2
    Http2,
}

/// One try.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Try {
    /// Its span.
    pub id: SpanId,
    /// From the choice of the endpoint to the head of its reply; of the try that answered, to the end of the reply.
    pub span: Span,
    /// Service that was called.
    pub service: Arc<str>,
    /// Target that the endpoint was found by.
    pub target: String,
    /// The endpoint.
    pub endpoint: String,
    /// It is called by TLS.
    pub tls: bool,
    /// Status of its reply.
    pub status: Option<u16>,
    /// gRPC status of its reply.
    pub grpc_status: Option<u16>,
    /// Label of what went wrong.
    pub error: &'static str,
}

impl Trace {
    /// Returns how many spans it has.
    pub fn spans(&self) -> u64 {
        1 + self.tries.len() as u64
    }
}
