//! Spans as OTLP has them: `opentelemetry-proto` 1.x, `collector/trace/v1/trace_service.proto` and what it names (pure).
//!
//! Names of attributes are those of OpenTelemetry's semantic conventions for HTTP (stable since 1.23), and of this product
//! with `meshless.` before them.

use super::context::SpanId;
use super::span::{Protocol, Server, Span, Trace, Try};
use crate::protobuf::{Message, Value, fields};

/// `Span.flags`: sampled, as in `traceparent`; whether the parent is another process is known; and it is.
const FLAGS: u32 = 0x01 | 0x100;
const PARENT_IS_REMOTE: u32 = 0x200;
const KIND_SERVER: u64 = 2;
const KIND_CLIENT: u64 = 3;
const STATUS_ERROR: u64 = 2;
/// Longest text of an attribute: what a client sends must not make a batch large.
const MOST_TEXT: usize = 1024;

/// Who sends spans: written once, sent with each batch.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resource(Message);

impl Resource {
    /// Describes this process.
    pub fn new(service: &str, zone: Option<&str>) -> Self {
        let mut resource = Message::default();
        text(&mut resource, 1, "service.name", service);
        text(&mut resource, 1, "service.version", env!("CARGO_PKG_VERSION"));
        text(&mut resource, 1, "cloud.availability_zone", zone.unwrap_or_default());
        text(&mut resource, 1, "telemetry.sdk.name", "meshless");
        text(&mut resource, 1, "telemetry.sdk.language", "rust");
        text(&mut resource, 1, "telemetry.sdk.version", env!("CARGO_PKG_VERSION"));
        Self(resource)
    }
}

/// Writes an `ExportTraceServiceRequest`.
pub(super) fn request(resource: &Resource, traces: &[Trace]) -> Vec<u8> {
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.written(1, &resource.0);
        resource_spans.message(2, |scope_spans| {
            scope_spans.message(1, |scope| {
                scope.bytes(1, b"meshless");
                scope.bytes(2, env!("CARGO_PKG_VERSION").as_bytes());
            });
            for trace in traces {
                scope_spans.message(2, |span| server(span, trace));
                for (number, one) in trace.tries.iter().enumerate() {
                    scope_spans.message(2, |span| client(span, trace, number, one));
                }
            }
        });
    });
    request.into_bytes()
}

/// Returns how many spans a collector refused, and why, by its `ExportTraceServiceResponse`.
pub(super) fn refused(response: &[u8]) -> Option<(u64, String)> {
    let partial = fields(response).find_map(|field| match field {
        (1, Value::Bytes(partial)) => Some(partial),
        _ => None,
    })?;
    let (mut count, mut why) = (0, String::new());
    for field in fields(partial) {
        match field {
            (1, Value::Number(number)) => count = number,
            (2, Value::Bytes(text)) => why = String::from_utf8_lossy(text).into_owned(),
            _ => {}
        }
    }
    (count > 0).then_some((count, why))
}

fn server(span: &mut Message, trace: &Trace) {
    let Server { listener, route, .. } = &trace.server;
    let server = &trace.server;
    let remote = if server.parent.is_some() { PARENT_IS_REMOTE } else { 0 };
    // Low cardinality: never the path. Our route stands where a framework's route would.
    let name = match route {
        Some(route) => format!("{} {route}", method_of(&server.method)),
        None => method_of(&server.method).to_owned(),
    };
    begin(span, trace, server.id, server.parent, FLAGS | remote, &name, KIND_SERVER, server.span);
    method(span, &server.method);
    text(span, 9, "url.scheme", scheme(server.tls));
    text(span, 9, "url.path", &server.path);
    address(span, "server", &server.host);
    if let Some(client) = server.client {
        text(span, 9, "client.address", &client.to_string());
    }
    text(span, 9, "network.protocol.name", "http");
    text(span, 9, "network.protocol.version", version(server.protocol));
    text(span, 9, "user_agent.original", &server.user_agent);
    if let Some(status) = server.status {
        number(span, "http.response.status_code", status.into());
    }
    if let Some(status) = server.grpc_status {
        number(span, "rpc.grpc.status_code", status.into());
    }
    text(span, 9, "meshless.listener", listener);
    text(span, 9, "meshless.route", route.as_deref().unwrap_or_default());
    if let Some(last) = trace.tries.last() {
        text(span, 9, "meshless.service", &last.service);
        text(span, 9, "meshless.endpoint", &last.endpoint);
    }
    number(span, "meshless.tries", trace.tries.len() as u64);
    text(span, 9, "meshless.request_id", &server.request_id);
    text(span, 9, "meshless.error", server.error);
    // A status of 4xx is the client's error: the span of a server does not fail by it.
    failed(span, server.status.filter(|status| *status >= 500), server.error);
}

fn client(span: &mut Message, trace: &Trace, number_of_try: usize, one: &Try) {
    let server = &trace.server;
    begin(span, trace, one.id, Some(server.id), FLAGS, method_of(&server.method), KIND_CLIENT, one.span);
    method(span, &server.method);
    text(span, 9, "url.full", &format!("{}://{}{}", scheme(one.tls), server.host, server.path));
    address(span, "server", &server.host);
    address(span, "network.peer", &one.endpoint);
    if let Some(status) = one.status {
        number(span, "http.response.status_code", status.into());
    }
    if let Some(status) = one.grpc_status {
        number(span, "rpc.grpc.status_code", status.into());
    }
    if number_of_try > 0 {
        number(span, "http.request.resend_count", number_of_try as u64);
    }
    text(span, 9, "meshless.service", &one.service);
    text(span, 9, "meshless.target", &one.target);
    text(span, 9, "meshless.endpoint", &one.endpoint);
    text(span, 9, "meshless.error", one.error);
    failed(span, one.status.filter(|status| *status >= 400), one.error);
}

#[allow(clippy::too_many_arguments, reason = "the fields of a span, once")]
fn begin(
    span: &mut Message,
    trace: &Trace,
    id: SpanId,
    parent: Option<SpanId>,
    flags: u32,
    name: &str,
    kind: u64,
    when: Span,
) {
    span.bytes(1, trace.id.bytes());
    span.bytes(2, id.bytes());
    span.bytes(3, trace.state.as_bytes());
    if let Some(parent) = parent {
        span.bytes(4, parent.bytes());
    }
    span.bytes(5, name.as_bytes());
    span.varint(6, kind);
    span.fixed64(7, when.start);
    span.fixed64(8, when.end);
    span.fixed32(16, flags);
}

/// Marks a span as failed: by our label, else by a status.
fn failed(span: &mut Message, status: Option<u16>, error: &str) {
    let kind = match status {
        _ if !error.is_empty() => error.to_owned(),
        Some(status) => status.to_string(),
        None => return,
    };
    text(span, 9, "error.type", &kind);
    span.message(15, |outcome| {
        outcome.bytes(2, error.as_bytes());
        outcome.varint(3, STATUS_ERROR);
    });
}

/// The methods that the conventions know by name; others would be one name each.
fn method_of(method: &str) -> &str {
    match method {
        "GET" | "HEAD" | "POST" | "PUT" | "DELETE" | "CONNECT" | "OPTIONS" | "TRACE" | "PATCH" | "QUERY" => method,
        _ => "HTTP",
    }
}

fn method(span: &mut Message, method: &str) {
    if method_of(method) == method {
        text(span, 9, "http.request.method", method);
    } else {
        text(span, 9, "http.request.method", "_OTHER");
        text(span, 9, "http.request.method_original", method);
    }
}

/// `PREFIX.address` and `PREFIX.port`, of `host`, `host:port`, `[v6]:port` or the path of a socket.
fn address(span: &mut Message, prefix: &str, host: &str) {
    let (name, port) = match host.rsplit_once(':') {
        Some((name, port)) if !name.ends_with(':') && !host.starts_with("unix:") => (name, port.parse::<u16>().ok()),
        _ => (host, None),
    };
    let name = if port.is_some() { name } else { host };
    let name = name.strip_prefix('[').and_then(|name| name.strip_suffix(']')).unwrap_or(name);
    text(span, 9, &format!("{prefix}.address"), name);
    if let Some(port) = port {
        number(span, &format!("{prefix}.port"), port.into());
    }
}

fn scheme(tls: bool) -> &'static str {
    if tls { "https" } else { "http" }
}

fn version(protocol: Protocol) -> &'static str {
    match protocol {
        Protocol::Http10 => "1.0",
        Protocol::Http11 => "1.1",
        Protocol::Http2 => "2",
    }
}

/// A `KeyValue` with a string; nothing is left out.
fn text(message: &mut Message, field: u32, key: &str, value: &str) {
    if value.is_empty() {
        return;
    }
    let value = value.get(..value.floor_char_boundary(MOST_TEXT)).unwrap_or(value);
    message.message(field, |pair| {
        pair.bytes(1, key.as_bytes());
        pair.message(2, |any| any.bytes_always(1, value.as_bytes()));
    });
}

/// A `KeyValue` of a span with a whole number.
fn number(message: &mut Message, key: &str, value: u64) {
    message.message(9, |pair| {
        pair.bytes(1, key.as_bytes());
        pair.message(2, |any| any.varint_always(3, value));
    });
}

#[cfg(test)]
pub(super) mod tests;
