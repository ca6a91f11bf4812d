//! Traces from outside: what is passed on, what is recorded, and what a collector can do to requests (nothing).

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use rustls::{ServerConfig, ServerConnection, StreamOwned};

use crate::authority::Authority;
use crate::gateway::{self, Running};
use crate::plain::{Client, Served, client, dead_address, load, origin, serve, try_client, wait_until};
use crate::process;

const TRACE: &str = "4bf92f3577b34da6a3ce929d0e0e4736";
const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";
const NOT_SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";

/// A collector that keeps what it is sent.
struct Collector {
    served: Served,
    bodies: Arc<Mutex<Vec<Vec<u8>>>>,
    heads: Arc<Mutex<Vec<String>>>,
}

trait Stream: Read + Write {}
impl<T: Read + Write> Stream for T {}

/// Starts one; every answer has this status line.
fn collector(status: &'static str) -> Collector {
    collector_by(status, None)
}

fn collector_by(status: &'static str, tls: Option<Arc<ServerConfig>>) -> Collector {
    let (bodies, heads) = (Arc::<Mutex<Vec<_>>>::default(), Arc::<Mutex<Vec<_>>>::default());
    let (into, into_heads) = (bodies.clone(), heads.clone());
    let served = serve(move |stream| {
        let stream: Box<dyn Stream> = match &tls {
            None => Box::new(stream),
            Some(tls) => Box::new(StreamOwned::new(ServerConnection::new(tls.clone()).unwrap(), stream)),
        };
        let mut peer = Client::new(stream);
        while let Ok(head) = peer.head() {
            let length =
                head.lines().find_map(|line| line.to_ascii_lowercase().strip_prefix("content-length: ")?.parse().ok());
            let Ok(body) = peer.exactly(length.unwrap()) else { return };
            into.lock().unwrap().push(body);
            into_heads.lock().unwrap().push(head);
            if peer.send(&format!("HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n")).is_err() {
                return;
            }
        }
    });
    Collector { served, bodies, heads }
}

impl Collector {
    /// Tells whether a text stands in what came.
    fn has(&self, text: &str) -> bool {
        let found = |body: &Vec<u8>| body.windows(text.len()).any(|window| window == text.as_bytes());
        self.bodies.lock().unwrap().iter().any(found)
    }
}

fn text(collector: SocketAddr, share: &str, endpoints: &[SocketAddr]) -> String {
    let endpoints = endpoints.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    format!(
        "[telemetry]\naccess_log = \"off\"\ntraces = {{ otlp = \"http://{collector}\", sample = \"{share}\", headers = {{ x-key = \"s3cret\" }} }}\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.app]\nfrom = \"static/{endpoints}\"\nbalance = \"round-robin\"\n[[routes]]\nname = \"all\"\nto = \"app\"\n"
    )
}

fn traced(share: &str, endpoints: &[SocketAddr]) -> Running {
    gateway::with(&text(dead_address(), share, endpoints)).start()
}

/// Sends a request with these fields and returns the fields of what the endpoint got.
fn passed_on(gateway: &Running, fields: &str) -> String {
    let mut client = client(gateway.address("edge"));
    client.send(&format!("GET /dump HTTP/1.1\r\nhost: a.example\r\n{fields}\r\n")).unwrap();
    client.reply().unwrap().body
}

fn field<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(": "))
}

#[test]
fn without_traces_every_form_of_context_is_passed_on_as_it_came() {
    let origin = origin("one");
    let gateway = gateway::before(&[origin.address]).start();
    let b3 = format!("{TRACE}-00f067aa0ba902b7-1");
    let fields = format!(
        "traceparent: {SAMPLED}\r\ntracestate: a=1,b=2\r\nb3: {b3}\r\nx-b3-traceid: {TRACE}\r\nx-b3-spanid: 00f067aa0ba902b7\r\nx-b3-sampled: 1\r\n"
    );
    let head = passed_on(&gateway, &fields);
    for line in fields.lines() {
        assert!(head.lines().any(|other| other == line), "{line} is not in {head}");
    }
    assert_eq!(field(&passed_on(&gateway, ""), "traceparent"), None);
    // Nor is what cannot be read repaired.
    assert_eq!(field(&passed_on(&gateway, "traceparent: nonsense\r\n"), "traceparent"), Some("nonsense"));
}

#[test]
fn a_request_that_its_caller_does_not_record_is_passed_on_as_it_came() {
    let origin = origin("one");
    let gateway = traced("100%", &[origin.address]);
    let head = passed_on(&gateway, &format!("traceparent: {NOT_SAMPLED}\r\ntracestate: a=1\r\n"));
    assert_eq!((field(&head, "traceparent"), field(&head, "tracestate")), (Some(NOT_SAMPLED), Some("a=1")));
    assert_eq!(field(&passed_on(&gateway, "b3: 0\r\n"), "b3"), Some("0"));
}

#[test]
fn a_request_that_its_caller_records_carries_our_span_in_the_forms_that_came_in() {
    let origin = origin("one");
    let gateway = traced("0%", &[origin.address]);
    let head = passed_on(&gateway, &format!("traceparent: {SAMPLED}\r\ntracestate: a=1\r\n"));
    let parent = field(&head, "traceparent").unwrap();
    assert!(parent.starts_with(&format!("00-{TRACE}-")) && parent.ends_with("-01") && parent != SAMPLED, "{parent}");
    assert_eq!((field(&head, "tracestate"), field(&head, "b3")), (Some("a=1"), None));
    let head = passed_on(&gateway, &format!("b3: {TRACE}-00f067aa0ba902b7-1\r\n"));
    let b3 = field(&head, "b3").unwrap();
    assert!(b3.starts_with(TRACE) && !b3.contains("00f067aa0ba902b7"), "{b3}");
    assert_eq!(field(&head, "traceparent"), None);
    // Nobody decided, and our share is none.
    assert_eq!(field(&passed_on(&gateway, ""), "traceparent"), None);
}

#[test]
fn a_request_without_context_that_we_record_gets_a_traceparent() {
    let origin = origin("one");
    let gateway = traced("100%", &[origin.address]);
    let (one, two) = (passed_on(&gateway, ""), passed_on(&gateway, "traceparent: nonsense\r\ntracestate: a=1\r\n"));
    let (one_parent, two_parent) = (field(&one, "traceparent").unwrap(), field(&two, "traceparent").unwrap());
    assert!(one_parent.len() == 55 && one_parent.ends_with("-01"), "{one_parent}");
    assert!(two_parent.len() == 55 && two_parent[3..35] != one_parent[3..35], "{two_parent}");
    assert_eq!(field(&two, "tracestate"), None);
}

#[test]
fn each_try_has_a_span_of_its_own_and_the_endpoint_gets_that_of_its_try() {
    // The first endpoint reads the head and closes.
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let into = heads.clone();
    let closing = serve(move |stream| into.lock().unwrap().extend(Client::new(stream).head()));
    let (origin, collector) = (origin("one"), collector("200 OK"));
    let gateway = gateway::with(&text(collector.served.address, "0%", &[closing.address, origin.address])).start();
    let head = std::iter::repeat_with(|| passed_on(&gateway, &format!("traceparent: {SAMPLED}\r\n")))
        .take(8)
        .find(|_| !heads.lock().unwrap().is_empty())
        .expect("no request went to the endpoint that closes");
    let first = heads.lock().unwrap()[0].clone();
    let (first, second) = (field(&first, "traceparent").unwrap(), field(&head, "traceparent").unwrap());
    assert_eq!(first[..35], second[..35]);
    assert_ne!(first, second);
    wait_until("the spans have come", || collector.has("broken") && collector.has("http.request.resend_count"));
    let heads = collector.heads.lock().unwrap().clone();
    assert!(heads[0].starts_with("POST /v1/traces HTTP/1.1\r\n"), "{heads:?}");
    assert_eq!(field(&heads[0], "x-key"), Some("s3cret"));
    assert!(!gateway.admin("/config").1.contains("s3cret"));
}

#[test]
fn a_second_try_beside_a_slow_one_has_a_span_of_its_own() {
    let heads = Arc::<Mutex<Vec<String>>>::default();
    let into = heads.clone();
    let slow = serve(move |stream| {
        let mut peer = Client::new(stream);
        into.lock().unwrap().extend(peer.head());
        // It answers never; the gateway closes.
        let _ = peer.rest();
    });
    let (origin, collector) = (origin("one"), collector("200 OK"));
    let text = text(collector.served.address, "0%", &[slow.address, origin.address])
        .replace("balance =", "hedge = { after = \"50ms\" }\nbalance =")
        .replace("access_log = \"off\"", "access_log = \"json\"");
    let process = process::with(&text).start();
    let mut client = client(process.address("edge"));
    let mut ask = || {
        client.send(&format!("GET /dump HTTP/1.1\r\nhost: a.example\r\ntraceparent: {SAMPLED}\r\n\r\n")).unwrap();
        client.reply().unwrap().body
    };
    let head = (0..4).map(|_| ask()).find(|_| !heads.lock().unwrap().is_empty()).expect("none went to the slow one");
    let first = heads.lock().unwrap()[0].clone();
    assert_eq!(field(&first, "traceparent").unwrap()[..35], field(&head, "traceparent").unwrap()[..35]);
    assert_ne!(field(&first, "traceparent"), field(&head, "traceparent"));
    let outrun = format!("\"failed_tries\":[{{\"endpoint\":\"{}\",\"why\":\"outrun\"}}]", slow.address);
    wait_until("the access log says who was faster", || process.stdout().contains(&outrun));
    let line = process.stdout().lines().find(|line| line.contains(&outrun)).unwrap().to_owned();
    let line: serde_json::Value = serde_json::from_str(&line).unwrap();
    assert_eq!((&line["tries"], &line["endpoint"]), (&2.into(), &origin.address.to_string().into()));
    assert!(line["upstream_ms"].as_f64() >= Some(49.0), "both tries are one stretch of time: {line}");
    wait_until("the span of the slow try has come", || collector.has("outrun"));
}

#[test]
fn what_waits_is_sent_when_the_process_ends() {
    let (origin, collector) = (origin("one"), collector("200 OK"));
    let mut process = process::with(&text(collector.served.address, "100%", &[origin.address])).start();
    assert_eq!(process::get(&process, "edge", "/the-last-request").status, 200);
    process.signal(rustix::process::Signal::TERM);
    assert!(process.wait().success());
    assert!(collector.has("/the-last-request"), "{}", process.stderr());
    assert!(process.stderr().contains("Drained.") && !process.stderr().contains("tv_sec"), "{}", process.stderr());
}

#[test]
fn a_collector_that_hangs_costs_no_request_and_the_end_no_more_than_a_moment() {
    // It takes connections and never answers.
    let hanging = serve(|mut stream| {
        let _ = stream.read(&mut [0; 1 << 12]);
        std::thread::park_timeout(Duration::from_secs(40));
        let _ = stream.flush();
    });
    let origin = origin("one");
    let mut process = process::with(&text(hanging.address, "100%", &[origin.address])).start();
    let address = process.address("edge");
    let load = load(4, "/", false, move || try_client(address));
    load.wait_for(3000);
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
    wait_until("the queue is full", || process.metric("meshless_traces_dropped_total", &["reason=\"full\""]) > 0.0);
    process.signal(rustix::process::Signal::TERM);
    let began = Instant::now();
    assert!(process.wait().success());
    assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    assert!(process.stderr().contains("in time are lost"), "{}", process.stderr());
}

#[test]
fn a_collector_that_refuses_or_is_gone_is_told_once_and_counted() {
    let (origin, collector) = (origin("one"), collector("400 Bad Request"));
    let process = process::with(&text(collector.served.address, "100%", &[origin.address])).start();
    assert_eq!(process::get(&process, "edge", "/").status, 200);
    wait_until("the spans are counted", || {
        process.metric("meshless_traces_dropped_total", &["reason=\"refused\""]) > 1.5
    });
    process.wait_for_log("The trace collector does not take spans");
    // Turned off by a reload: nothing is recorded any more.
    let quiet = text(collector.served.address, "100%", &[origin.address]);
    let quiet: String =
        quiet.lines().filter(|line| !line.starts_with("traces")).map(|line| format!("{line}\n")).collect();
    process.reload(&quiet);
    let mut client = client(process.address("edge"));
    assert_eq!(field(&client.get("a.example", "/dump").unwrap().body, "traceparent"), None);
}

#[test]
fn a_collector_is_called_by_tls_and_only_if_its_certificate_is_right() {
    let (ours, other) = (Authority::new("ours"), Authority::new("other"));
    let directory = tempfile::tempdir().unwrap();
    let ca = ours.write(directory.path(), "ca.pem");
    let origin = origin("one");
    for (authority, trusted) in [(&ours, true), (&other, false)] {
        let collector = collector_by("200 OK", Some(authority.server(&["127.0.0.1"], &["http/1.1"], None)));
        let text = text(collector.served.address, "100%", &[origin.address])
            .replace("http://", "https://")
            .replace("sample =", &format!("ca = \"{}\", sample =", ca.display()));
        let mut process = process::with(&text).start();
        assert_eq!(process::get(&process, "edge", "/by-tls").status, 200);
        process.signal(rustix::process::Signal::TERM);
        assert!(process.wait().success());
        assert_eq!(collector.has("/by-tls"), trusted, "{}", process.stderr());
        assert_eq!(process.stderr().contains("certificate"), !trusted, "{}", process.stderr());
    }
}

#[test]
fn an_authority_that_cannot_be_read_refuses_the_configuration() {
    let text = text(dead_address(), "100%", &[dead_address()])
        .replace("http://", "https://")
        .replace("sample =", "ca = \"/does/not/exist\", sample =");
    let error = gateway::with(&text).try_start().unwrap_err().to_string();
    assert!(error.starts_with("telemetry.traces: tls: ") && error.contains("/does/not/exist"), "{error}");
}

#[test]
fn a_tcp_connection_has_no_spans() {
    let origin = origin("one");
    let gateway = gateway::with(&format!(
        "[telemetry]\naccess_log = \"off\"\ntraces = {{ otlp = \"http://{}\", sample = \"100%\" }}\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nto = \"static/{}\"\n",
        dead_address(),
        origin.address
    ))
    .start();
    let mut stream = TcpStream::connect(gateway.address("edge")).unwrap();
    stream.write_all(b"GET /dump HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let body = Client::new(stream).reply().unwrap().body;
    assert!(!body.contains("traceparent"), "{body}");
}
