//! What is known of a request when it ended, and how it is written.
//!
//! Nothing a client sent can break out of its line or reach the terminal that shows it: control characters, the C1 range
//! and the two Unicode line ends included, are escaped in both formats (log injection).

use std::fmt::Display;
use std::io::Write as _;
use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use meshless_discovery::{Address, Target};

use crate::telemetry::timestamp::Timestamp;
use crate::telemetry::traces::context::TraceId;

/// How lines look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Format {
    /// One JSON object a line.
    Json,
    /// `TIME CLIENT "METHOD HOST PATH PROTOCOL" STATUS DURATION` and `key=value` for the rest.
    Text,
}

/// One request that ended. Empty strings and `None` are left out.
#[derive(Debug, Clone, Copy)]
pub struct Record<'a> {
    /// When it began.
    pub time: SystemTime,
    /// Its id, the one in `x-request-id`.
    pub request_id: &'a str,
    /// The trace that it is part of, recorded or not.
    pub trace_id: Option<TraceId>,
    /// Listener that it came by.
    pub listener: &'a str,
    /// Address of the client; `None` for a Unix socket.
    pub client: Option<IpAddr>,
    /// Method; empty for TCP.
    pub method: &'a str,
    /// Host that was asked for, without a port.
    pub host: &'a str,
    /// Path without the query: queries carry secrets.
    pub path: &'a str,
    /// `http/1.1`, `h2`, `tcp`.
    pub protocol: &'a str,
    /// Status that the client got; `None` where there was none.
    pub status: Option<u16>,
    /// gRPC status.
    pub grpc_status: Option<u16>,
    /// Bytes of the request's body.
    pub bytes_in: u64,
    /// Bytes of the reply's body.
    pub bytes_out: u64,
    /// From the first byte of the head to the last one of the reply.
    pub duration: Duration,
    /// From the choice of an endpoint to the head of its reply, over all tries; `None` where there was none.
    pub upstream: Option<Duration>,
    /// What is left of the time to the head of the reply: what this gateway added.
    pub added: Duration,
    /// What the client's own deadline left at the start.
    pub deadline: Option<Duration>,
    /// Route that matched.
    pub route: &'a str,
    /// Service that it went to.
    pub service: &'a str,
    /// Target that the endpoint was found by.
    pub target: Option<&'a Target>,
    /// Endpoint that answered, or was tried last.
    pub endpoint: &'a str,
    /// How often it was sent.
    pub tries: u32,
    /// Tries that failed, the first one first.
    pub failed: &'a [FailedTry<'a>],
    /// Label of what went wrong, the same as in `meshless-error` and the metric.
    pub error: &'a str,
    /// The client went away before the end.
    pub is_cancelled: bool,
}

/// A try whose reply the client did not get.
#[derive(Debug, Clone, Copy)]
pub struct FailedTry<'a> {
    /// Where it went.
    pub endpoint: &'a Address,
    /// Why it failed.
    pub why: Why,
}

/// Why a try failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// A label of ours.
    Label(&'static str),
    /// What the endpoint answered was tried again: its status, and where that says less its gRPC status.
    Reply {
        /// HTTP's.
        status: u16,
        /// gRPC's.
        grpc: Option<u8>,
    },
}

impl Display for Why {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Label(label) => formatter.write_str(label),
            Self::Reply { grpc: Some(grpc), .. } => write!(formatter, "grpc_{grpc}"),
            Self::Reply { status, grpc: None } => status.fmt(formatter),
        }
    }
}

impl Record<'_> {
    /// Appends the line with its end to `line`.
    pub fn write(&self, format: Format, line: &mut Vec<u8>) {
        match format {
            Format::Json => self.write_json(line),
            Format::Text => self.write_text(line),
        }
        line.push(b'\n');
    }

    fn write_json(&self, line: &mut Vec<u8>) {
        line.extend_from_slice(b"{\"time\":\"");
        display(line, Timestamp(self.time));
        line.push(b'"');
        let mut object = Json(line);
        object.string("request_id", self.request_id);
        if let Some(trace) = self.trace_id {
            object.displayed("trace_id", trace);
        }
        object.string("listener", self.listener);
        if let Some(client) = self.client {
            object.displayed("client", client);
        }
        object.string("method", self.method);
        object.string("host", self.host);
        object.string("path", self.path);
        object.string("protocol", self.protocol);
        if let Some(status) = self.status {
            object.number("status", status);
        }
        if let Some(status) = self.grpc_status {
            object.number("grpc_status", status);
        }
        object.number("bytes_in", self.bytes_in);
        object.number("bytes_out", self.bytes_out);
        object.number("duration_ms", Milliseconds(self.duration));
        if let Some(upstream) = self.upstream {
            object.number("upstream_ms", Milliseconds(upstream));
        }
        object.number("added_ms", Milliseconds(self.added));
        if let Some(deadline) = self.deadline {
            object.number("deadline_ms", Milliseconds(deadline));
        }
        object.string("route", self.route);
        object.string("service", self.service);
        if let Some(target) = self.target {
            object.string("target", &target.to_string());
        }
        object.string("endpoint", self.endpoint);
        object.number("tries", self.tries);
        object.failed(self.failed);
        object.string("error", self.error);
        if self.is_cancelled {
            object.number("cancelled", true);
        }
        line.push(b'}');
    }

    fn write_text(&self, line: &mut Vec<u8>) {
        display(line, Timestamp(self.time));
        line.push(b' ');
        match self.client {
            Some(client) => display(line, client),
            None => line.push(b'-'),
        }
        line.extend_from_slice(b" \"");
        let words = [self.method, self.host, self.path, self.protocol];
        for (number, word) in words.into_iter().filter(|word| !word.is_empty()).enumerate() {
            if number > 0 {
                line.push(b' ');
            }
            escape(line, word);
        }
        line.extend_from_slice(b"\" ");
        match self.status {
            Some(status) => display(line, status),
            None => line.push(b'-'),
        }
        line.push(b' ');
        display(line, Milliseconds(self.duration));
        line.extend_from_slice(b"ms");
        let mut pairs = Pairs(line);
        if let Some(status) = self.grpc_status {
            pairs.number("grpc_status", status);
        }
        pairs.number("bytes_in", self.bytes_in);
        pairs.number("bytes_out", self.bytes_out);
        if let Some(upstream) = self.upstream {
            pairs.number("upstream_ms", Milliseconds(upstream));
        }
        pairs.number("added_ms", Milliseconds(self.added));
        if let Some(deadline) = self.deadline {
            pairs.number("deadline_ms", Milliseconds(deadline));
        }
        pairs.string("listener", self.listener);
        pairs.string("route", self.route);
        pairs.string("service", self.service);
        if let Some(target) = self.target {
            pairs.string("target", &target.to_string());
        }
        pairs.string("endpoint", self.endpoint);
        pairs.number("tries", self.tries);
        pairs.failed(self.failed);
        pairs.string("error", self.error);
        if self.is_cancelled {
            pairs.number("cancelled", true);
        }
        pairs.string("request_id", self.request_id);
        if let Some(trace) = self.trace_id {
            pairs.number("trace_id", trace);
        }
    }
}

/// Members of a JSON object after its first one.
struct Json<'a>(&'a mut Vec<u8>);

impl Json<'_> {
    fn name(&mut self, name: &str) {
        self.0.extend_from_slice(b",\"");
        self.0.extend_from_slice(name.as_bytes());
        self.0.extend_from_slice(b"\":");
    }

    fn string(&mut self, name: &str, value: &str) {
        if !value.is_empty() {
            self.name(name);
            self.0.push(b'"');
            escape(self.0, value);
            self.0.push(b'"');
        }
    }

    /// For what needs no escape, such as an address.
    fn displayed(&mut self, name: &str, value: impl Display) {
        self.name(name);
        self.0.push(b'"');
        display(self.0, value);
        self.0.push(b'"');
    }

    fn number(&mut self, name: &str, value: impl Display) {
        self.name(name);
        display(self.0, value);
    }

    fn failed(&mut self, tries: &[FailedTry<'_>]) {
        for (number, one) in tries.iter().enumerate() {
            if number == 0 {
                self.name("failed_tries");
                self.0.push(b'[');
            } else {
                self.0.push(b',');
            }
            self.0.extend_from_slice(b"{\"endpoint\":\"");
            // The path of a Unix socket may hold anything.
            escape(self.0, &one.endpoint.to_string());
            self.0.extend_from_slice(b"\",\"why\":\"");
            display(self.0, one.why);
            self.0.extend_from_slice(b"\"}");
        }
        if !tries.is_empty() {
            self.0.push(b']');
        }
    }
}

/// ` key=value`, quoted where the value would not be one word.
struct Pairs<'a>(&'a mut Vec<u8>);

impl Pairs<'_> {
    fn name(&mut self, name: &str) {
        self.0.push(b' ');
        self.0.extend_from_slice(name.as_bytes());
        self.0.push(b'=');
    }

    fn string(&mut self, name: &str, value: &str) {
        if value.is_empty() {
            return;
        }
        self.name(name);
        if value.bytes().all(|byte| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\' | b'=')) {
            self.0.extend_from_slice(value.as_bytes());
        } else {
            self.0.push(b'"');
            escape(self.0, value);
            self.0.push(b'"');
        }
    }

    fn number(&mut self, name: &str, value: impl Display) {
        self.name(name);
        display(self.0, value);
    }

    fn failed(&mut self, tries: &[FailedTry<'_>]) {
        if !tries.is_empty() {
            let words: Vec<_> = tries.iter().map(|one| format!("{} {}", one.endpoint, one.why)).collect();
            self.string("failed_tries", &words.join(", "));
        }
    }
}

/// Milliseconds with three digits after the point.
struct Milliseconds(Duration);

impl Display for Milliseconds {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let microseconds = self.0.as_micros();
        write!(formatter, "{}.{:03}", microseconds / 1000, microseconds % 1000)
    }
}

fn display(line: &mut Vec<u8>, value: impl Display) {
    // Writing to a vector does not fail.
    let _ = write!(line, "{value}");
}

/// Appends `text` as the inside of a JSON string; readable in text lines, too.
fn escape(line: &mut Vec<u8>, text: &str) {
    if text.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'"' && byte != b'\\') {
        line.extend_from_slice(text.as_bytes());
        return;
    }
    for character in text.chars() {
        match character {
            '"' => line.extend_from_slice(b"\\\""),
            '\\' => line.extend_from_slice(b"\\\\"),
            '\n' => line.extend_from_slice(b"\\n"),
            '\r' => line.extend_from_slice(b"\\r"),
            '\t' => line.extend_from_slice(b"\\t"),
            // Line and paragraph separators end a line for some readers; bidirectional controls reorder what is shown.
            '\u{2028}' | '\u{2029}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' => unicode(line, character),
            control if control.is_control() => unicode(line, control),
            other => line.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

fn unicode(line: &mut Vec<u8>, character: char) {
    // All that come here are below U+FFFF: no surrogates are needed.
    let _ = write!(line, "\\u{:04x}", u32::from(character));
}

#[cfg(test)]
pub(super) mod tests {
    use std::collections::BTreeMap;
    use std::time::UNIX_EPOCH;

    use super::*;

    pub(in super::super) fn record() -> Record<'static> {
        Record {
            time: UNIX_EPOCH + Duration::from_millis(1_790_771_696_789),
            request_id: "0198f2",
            trace_id: None,
            listener: "in",
            client: Some([10, 0, 0, 7].into()),
            method: "GET",
            host: "api.example.com",
            path: "/v1/things",
            protocol: "http/1.1",
            status: Some(200),
            grpc_status: None,
            bytes_in: 0,
            bytes_out: 1024,
            duration: Duration::from_micros(12_345),
            upstream: Some(Duration::from_micros(11_900)),
            added: Duration::from_micros(45),
            deadline: None,
            route: "api-v1",
            service: "api",
            target: None,
            endpoint: "10.0.0.9:8080",
            tries: 1,
            failed: &[],
            error: "",
            is_cancelled: false,
        }
    }

    fn written(record: &Record<'_>, format: Format) -> String {
        let mut line = Vec::new();
        record.write(format, &mut line);
        String::from_utf8(line).unwrap()
    }

    #[test]
    fn a_json_line_has_what_is_known_and_nothing_that_is_not() {
        assert_eq!(
            written(&record(), Format::Json),
            concat!(
                r#"{"time":"2026-09-30T12:34:56.789Z","request_id":"0198f2","listener":"in","client":"10.0.0.7","#,
                r#""method":"GET","host":"api.example.com","path":"/v1/things","protocol":"http/1.1","status":200,"#,
                r#""bytes_in":0,"bytes_out":1024,"duration_ms":12.345,"upstream_ms":11.900,"added_ms":0.045,"#,
                r#""route":"api-v1","service":"api","#,
                r#""endpoint":"10.0.0.9:8080","tries":1}"#,
                "\n"
            )
        );
    }

    #[test]
    fn tries_that_failed_stand_in_their_order_with_what_is_known_of_the_trace_and_the_deadline() {
        let (endpoints, target) = (
            ["10.0.0.9:8080", "unix:/run/a \"b\".sock"],
            Target { backend: "consul".to_owned(), path: "api".to_owned(), options: BTreeMap::new() },
        );
        let endpoints = endpoints.map(|text| text.parse::<Address>().unwrap());
        let failed = [
            FailedTry { endpoint: &endpoints[0], why: Why::Label("connect_failed") },
            FailedTry { endpoint: &endpoints[0], why: Why::Reply { status: 200, grpc: Some(14) } },
            FailedTry { endpoint: &endpoints[1], why: Why::Reply { status: 503, grpc: None } },
        ];
        let record = Record {
            tries: 4,
            failed: &failed,
            target: Some(&target),
            deadline: Some(Duration::from_millis(250)),
            trace_id: Some(TraceId::from_random(1, 2)),
            ..record()
        };
        let line: serde_json::Value = serde_json::from_str(&written(&record, Format::Json)).unwrap();
        assert_eq!(
            line["failed_tries"],
            serde_json::json!([
                { "endpoint": "10.0.0.9:8080", "why": "connect_failed" },
                { "endpoint": "10.0.0.9:8080", "why": "grpc_14" },
                { "endpoint": "unix:/run/a \"b\".sock", "why": "503" },
            ])
        );
        assert_eq!(line["target"], "consul/api");
        assert_eq!(line["deadline_ms"], 250.0);
        assert_eq!(line["trace_id"], "00000000000000010000000000000002");
        let text = written(&record, Format::Text);
        assert!(text.contains(" deadline_ms=250.000 listener=in "), "{text}");
        assert!(
            text.contains(
                r#"failed_tries="10.0.0.9:8080 connect_failed, 10.0.0.9:8080 grpc_14, unix:/run/a \"b\".sock 503""#
            ),
            "{text}"
        );
        assert!(text.contains(" trace_id=00000000000000010000000000000002\n"), "{text}");
    }

    #[test]
    fn a_text_line_begins_with_what_people_look_for() {
        let failed = Record {
            status: Some(503),
            error: "no-endpoint",
            endpoint: "",
            route: "two words",
            is_cancelled: true,
            grpc_status: Some(14),
            client: None,
            ..record()
        };
        assert_eq!(
            written(&failed, Format::Text),
            concat!(
                r#"2026-09-30T12:34:56.789Z - "GET api.example.com /v1/things http/1.1" 503 12.345ms grpc_status=14 "#,
                r#"bytes_in=0 bytes_out=1024 upstream_ms=11.900 added_ms=0.045 listener=in route="two words" service=api "#,
                r#"tries=1 error=no-endpoint "#,
                "cancelled=true request_id=0198f2\n"
            )
        );
    }

    #[test]
    fn nothing_a_client_sends_breaks_out_of_its_line() {
        let hostile = "/a\"b\\c\nd\re\0f\u{1b}[31mg\u{7f}h\u{9b}i\u{2028}j\u{202e}k é";
        let record = Record { path: hostile, request_id: hostile, ..record() };
        for format in [Format::Json, Format::Text] {
            let line = written(&record, format);
            let inside = line.strip_suffix('\n').unwrap();
            assert!(!inside.contains(|c: char| c.is_control() || c == '\u{2028}' || c == '\u{202e}'), "{line:?}");
        }
        let json: serde_json::Value = serde_json::from_str(&written(&record, Format::Json)).unwrap();
        assert_eq!(json["path"], hostile);
        assert_eq!(json["request_id"], hostile);
    }
}
