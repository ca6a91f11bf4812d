use super::*;
use crate::telemetry::traces::context::TraceId;

/// A request of two tries.
pub(in crate::telemetry::traces) fn trace() -> Box<Trace> {
    let one = |id, endpoint: &str, status, error| Try {
        id: SpanId::from_random(id),
        span: Span { start: 1_000, end: 2_000 },
        service: "api".into(),
        target: "consul/api".to_owned(),
        endpoint: endpoint.to_owned(),
        tls: false,
        status,
        grpc_status: None,
        error,
    };
    Box::new(Trace {
        id: TraceId::from_random(1, 2),
        state: "vendor=1".to_owned(),
        server: Server {
            id: SpanId::from_random(3),
            parent: Some(SpanId::from_random(4)),
            span: Span { start: 500, end: 2_500 },
            method: "GET".to_owned(),
            host: "api.example.com:8443".to_owned(),
            path: "/v1/things".to_owned(),
            protocol: Protocol::Http2,
            tls: true,
            client: Some([10, 0, 0, 7].into()),
            user_agent: "curl/8".to_owned(),
            request_id: "0198f2".to_owned(),
            listener: "in".into(),
            route: Some("api-v1".into()),
            status: Some(200),
            grpc_status: None,
            error: "",
        },
        tries: vec![one(5, "10.0.0.9:8080", None, "connect_failed"), one(6, "[fd00::8]:8080", Some(200), "")],
    })
}

/// What a message holds in a field, again and again.
fn inner(message: &[u8], wanted: u64) -> Vec<&[u8]> {
    let bytes = fields(message).filter_map(|field| match field {
        (number, Value::Bytes(bytes)) if number == wanted => Some(bytes),
        _ => None,
    });
    bytes.collect()
}

/// The spans of a request.
fn spans(request: &[u8]) -> Vec<Vec<u8>> {
    let scope = inner(inner(request, 1)[0], 2)[0];
    inner(scope, 2).into_iter().map(<[u8]>::to_vec).collect()
}

/// The attributes of a span, as text.
fn attributes(span: &[u8]) -> Vec<(String, String)> {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let one = |pair: &[u8]| {
        let value = match fields(inner(pair, 2)[0]).next() {
            Some((1, Value::Bytes(value))) => text(value),
            Some((3, Value::Number(number))) => number.to_string(),
            other => panic!("{other:?}"),
        };
        (text(inner(pair, 1)[0]), value)
    };
    inner(span, 9).into_iter().map(one).collect()
}

fn encoded(trace: Box<Trace>) -> Vec<Vec<u8>> {
    spans(&request(&Resource::new("edge", Some("a")), &[*trace]))
}

fn attribute<'a>(attributes: &'a [(String, String)], name: &str) -> Option<&'a str> {
    attributes.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
}

#[test]
fn a_request_is_a_server_span_and_a_client_span_for_each_try() {
    let spans = encoded(trace());
    assert_eq!(spans.len(), 3);
    let server = attributes(&spans[0]);
    assert_eq!(inner(&spans[0], 5), [b"GET api-v1"]);
    for (name, value) in [
        ("http.request.method", "GET"),
        ("url.scheme", "https"),
        ("url.path", "/v1/things"),
        ("server.address", "api.example.com"),
        ("server.port", "8443"),
        ("client.address", "10.0.0.7"),
        ("network.protocol.version", "2"),
        ("http.response.status_code", "200"),
        ("meshless.route", "api-v1"),
        ("meshless.service", "api"),
        ("meshless.tries", "2"),
    ] {
        assert_eq!(attribute(&server, name), Some(value), "{name}");
    }
    assert_eq!(attribute(&server, "error.type"), None);
    let (failed, answered) = (attributes(&spans[1]), attributes(&spans[2]));
    assert_eq!(attribute(&failed, "error.type"), Some("connect_failed"));
    assert_eq!(attribute(&failed, "http.request.resend_count"), None);
    assert_eq!(attribute(&answered, "http.request.resend_count"), Some("1"));
    assert_eq!(attribute(&answered, "network.peer.address"), Some("fd00::8"));
    assert_eq!(attribute(&answered, "network.peer.port"), Some("8080"));
    assert_eq!(attribute(&answered, "url.full"), Some("http://api.example.com:8443/v1/things"));
    // Every client span is a child of the server span, in one trace.
    for client in &spans[1..] {
        assert_eq!(inner(client, 4), inner(&spans[0], 2));
        assert_eq!(inner(client, 1), inner(&spans[0], 1));
    }
}

#[test]
fn a_server_fails_by_5xx_and_a_client_by_4xx_already() {
    for (status, server_fails, client_fails) in [(200, false, false), (404, false, true), (503, true, true)] {
        let mut trace = trace();
        trace.server.status = Some(status);
        trace.tries[1].status = Some(status);
        let spans = encoded(trace);
        assert_eq!(inner(&spans[0], 15).len(), usize::from(server_fails), "{status}");
        assert_eq!(inner(&spans[2], 15).len(), usize::from(client_fails), "{status}");
    }
}

#[test]
fn a_method_that_nobody_knows_makes_no_name_of_its_own() {
    let mut trace = trace();
    trace.server.method = "BREW".to_owned();
    let spans = encoded(trace);
    assert_eq!(inner(&spans[0], 5), [b"HTTP api-v1"]);
    assert_eq!(attribute(&attributes(&spans[0]), "http.request.method"), Some("_OTHER"));
    assert_eq!(attribute(&attributes(&spans[0]), "http.request.method_original"), Some("BREW"));
}

#[test]
fn a_long_text_is_cut_between_characters() {
    let mut trace = trace();
    trace.server.path = format!("/{}", "ü".repeat(MOST_TEXT));
    let server = attributes(&encoded(trace)[0]);
    let path = attribute(&server, "url.path").unwrap();
    assert!(path.len() <= MOST_TEXT && path.ends_with('ü'));
}

#[test]
fn hosts_and_sockets_are_told_apart_from_ports() {
    let of = |host: &str| {
        let mut span = Message::default();
        address(&mut span, "server", host);
        attributes(&span.into_bytes()).into_iter().map(|(_, value)| value).collect::<Vec<_>>()
    };
    assert_eq!(of("a.example"), ["a.example"]);
    assert_eq!(of("a.example:80"), ["a.example", "80"]);
    assert_eq!(of("[::1]:80"), ["::1", "80"]);
    assert_eq!(of("[::1]"), ["::1"]);
    assert_eq!(of("unix:/run/a:1"), ["unix:/run/a:1"]);
    assert!(of("").is_empty());
}

#[test]
fn an_answer_without_a_complaint_is_none() {
    assert_eq!(refused(b""), None);
    assert_eq!(refused(b"\x0a\x00"), None);
    assert_eq!(refused(b"\x0a\x06\x08\x07\x12\x02no"), Some((7, "no".to_owned())));
}
