//! Active health checks: real endpoints that turn bad and good, in every way of asking.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::atomic::{AtomicU16, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Response};

use crate::authority::Authority;
use crate::gateway::{self, Running};
use crate::plain::{self, Served, dead_address, get, serve, serve_at};
use crate::upstream::Upstream;
use crate::wire::{read, run};

/// Times of a test: fast, and one answer against the last turns an endpoint.
const FAST: &str = "interval = \"100ms\", timeout = \"100ms\", healthy = 2, unhealthy = 2";

/// An endpoint whose health a test sets, and the head of the last check that it saw. It answers other requests with
/// `traffic`.
struct Patient {
    served: Served,
    status: Arc<AtomicU16>,
    traffic: Arc<AtomicU16>,
    requests: Arc<AtomicUsize>,
    asked: Arc<Mutex<String>>,
}

impl Patient {
    fn is(&self, status: u16) {
        self.status.store(status, Ordering::SeqCst);
    }

    fn asked(&self) -> String {
        self.asked.lock().unwrap().clone()
    }
}

fn head_of(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") {
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(head).unwrap()
}

fn patient() -> Patient {
    let status = Arc::new(AtomicU16::new(200));
    let traffic = Arc::new(AtomicU16::new(200));
    let requests = Arc::new(AtomicUsize::new(0));
    let asked = Arc::new(Mutex::new(String::new()));
    let (health, other, count, sees) = (status.clone(), traffic.clone(), requests.clone(), asked.clone());
    let served = serve(move |mut stream| {
        let head = head_of(&mut stream);
        let status = if head.contains("meshless-health-check") {
            *sees.lock().unwrap() = head;
            health.load(Ordering::SeqCst)
        } else if head.is_empty() {
            return;
        } else {
            count.fetch_add(1, Ordering::SeqCst);
            other.load(Ordering::SeqCst)
        };
        if status == 0 {
            // It hangs, as long as the gateway waits.
            let _ = stream.read(&mut [0]);
            return;
        }
        let _ = write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
    });
    Patient { served, status, traffic, requests, asked }
}

fn checked(endpoints: &[SocketAddr], health: &str) -> Running {
    gateway::before(endpoints).policies(&format!("health = {{ {health}, {FAST} }}")).start()
}

/// What `/endpoints` says of the endpoint at this address.
fn view(gateway: &Running, address: SocketAddr) -> serde_json::Value {
    let all: serde_json::Value = serde_json::from_str(&gateway.admin("/endpoints").1).unwrap();
    let all = all.as_array().or_else(|| all["endpoints"].as_array()).unwrap();
    all.iter().find(|one| one["address"] == address.to_string()).unwrap().clone()
}

fn wait_for(gateway: &Running, address: SocketAddr, condition: &str) -> serde_json::Value {
    gateway.wait_until(&format!("{address} is {condition}"), |gateway| view(gateway, address)["check"] == condition);
    view(gateway, address)
}

#[test]
fn an_http_endpoint_that_turns_bad_is_told_apart_and_used_again_when_it_turns_good() {
    let (well, ill) = (patient(), patient());
    let (good, bad) = (well.served.address, ill.served.address);
    let gateway = checked(&[good, bad], "path = \"/healthz?deep=1\", host = \"api.internal\"");
    wait_for(&gateway, good, "good");
    wait_for(&gateway, bad, "good");
    let asked = well.asked();
    assert!(asked.starts_with("GET /healthz?deep=1 HTTP/1.1\r\n"), "{asked}");
    assert!(
        asked.contains("host: api.internal\r\n") && asked.contains("user-agent: meshless-health-check/"),
        "{asked}"
    );

    ill.is(500);
    let seen = wait_for(&gateway, bad, "bad");
    assert_eq!(seen["check_failure"], "status 500");
    assert_eq!(seen["unused_because"], "it fails our health checks; used when nothing else is left");
    gateway.wait_for_metric("meshless_endpoints", &["service=\"app\"", "state=\"unhealthy\""], 1.0);
    assert!(gateway.count("meshless_health_check_total", &["service=\"app\"", "result=\"bad\""]) >= 2);
    assert_eq!(view(&gateway, good)["check"], "good");
    let before = ill.requests.load(Ordering::SeqCst);
    (0..10).for_each(|_| assert_eq!(get(gateway.address("edge"), "app", "/").status, 200));
    assert_eq!(ill.requests.load(Ordering::SeqCst), before, "it gets nothing while another is left");

    ill.is(204);
    assert_eq!(wait_for(&gateway, bad, "good")["check_failure"], serde_json::Value::Null);
    gateway.wait_for_metric("meshless_endpoints", &["service=\"app\"", "state=\"usable\""], 2.0);
}

#[test]
fn an_endpoint_whose_check_is_bad_serves_where_nothing_else_is_left() {
    let ill = patient();
    ill.is(500);
    let gateway = checked(&[ill.served.address], "path = \"/\"");
    wait_for(&gateway, ill.served.address, "bad");
    assert_eq!(get(gateway.address("edge"), "app", "/").status, 200);
}

#[test]
fn a_good_check_ends_an_ejection() {
    let (well, ill) = (patient(), patient());
    let address = ill.served.address;
    ill.traffic.store(500, Ordering::SeqCst);
    // The check decides slowly, so that the ejection comes first; without the check it would last a minute.
    let text = "health = { path = \"/\", interval = \"100ms\", timeout = \"100ms\", unhealthy = 100 }\n\
                breaker = { eject = \"60s..60s\" }";
    let gateway = gateway::before(&[well.served.address, address]).policies(text).start();
    wait_for(&gateway, address, "good");
    ill.is(500);
    gateway.wait_until("a check has failed", |gateway| view(gateway, address)["check_failure"] == "status 500");
    (0..20).for_each(|_| drop(get(gateway.address("edge"), "app", "/")));
    let seen = view(&gateway, address);
    assert_eq!(
        (&seen["ejected"]["reason"], &seen["ejected"]["cause"]),
        (&"consecutive".into(), &"answer".into()),
        "{seen}"
    );
    assert_eq!((&seen["ejected"]["times"], &seen["ejections"]), (&1.into(), &1.into()));
    gateway.wait_for_metric("meshless_endpoints", &["service=\"app\"", "state=\"ejected\""], 1.0);
    assert_eq!(gateway.count("meshless_ejection_total", &["reason=\"consecutive\"", "cause=\"answer\""]), 1);
    ill.traffic.store(200, Ordering::SeqCst);
    ill.is(200);
    gateway.wait_until("it is back", |gateway| view(gateway, address)["ejected"].is_null());
    assert_eq!(gateway.count("meshless_return_total", &["by=\"check\""]), 1);
    let before = ill.requests.load(Ordering::SeqCst);
    (0..4).for_each(|_| drop(get(gateway.address("edge"), "app", "/")));
    assert!(ill.requests.load(Ordering::SeqCst) > before);
}

#[test]
fn a_redirect_is_good_only_where_the_status_says_so() {
    let patient = patient();
    patient.is(302);
    let gateway = checked(&[patient.served.address], "path = \"/\"");
    assert_eq!(wait_for(&gateway, patient.served.address, "bad")["check_failure"], "status 302");
    let gateway = checked(&[patient.served.address], "path = \"/\", status = \"200-399\"");
    wait_for(&gateway, patient.served.address, "good");
}

#[test]
fn an_endpoint_that_hangs_is_bad_after_the_time_of_a_check() {
    let patient = patient();
    patient.is(0);
    let gateway = checked(&[patient.served.address], "path = \"/\"");
    let seen = wait_for(&gateway, patient.served.address, "bad");
    assert_eq!(seen["check_failure"], "no answer within 100ms");
}

#[test]
fn a_tcp_check_asks_for_a_connection_alone() {
    let address = dead_address();
    let gateway = checked(&[address], "type = \"tcp\"");
    let why = wait_for(&gateway, address, "bad")["check_failure"].as_str().unwrap().to_owned();
    assert!(why.starts_with("connect: "), "{why}");
    let _served = serve_at(address, |_| {});
    wait_for(&gateway, address, "good");
}

#[test]
fn a_grpc_check_asks_the_health_service_over_h2c() {
    run(async {
        let upstream = Upstream::start().await;
        let address = upstream.address;
        let status = Arc::new(AtomicU16::new(1));
        let answers = status.clone();
        let serving = tokio::spawn(async move {
            let mut asked = Vec::new();
            loop {
                let mut peer = upstream.accept_h2().await;
                let (request, mut respond) = peer.request().await;
                let path = request.uri().path().to_owned();
                asked.push((path, read(&mut request.into_body()).await.unwrap().0));
                let said = answers.load(Ordering::SeqCst);
                let head = Response::builder().header("content-type", "application/grpc").body(()).unwrap();
                let mut body = respond.send_response(head, false).unwrap();
                body.send_data(Bytes::from(vec![0, 0, 0, 0, 2, 8, u8::try_from(said).unwrap()]), false).unwrap();
                let trailer = (HeaderName::from_static("grpc-status"), HeaderValue::from_static("0"));
                body.send_trailers(HeaderMap::from_iter([trailer])).unwrap();
                if said == 99 {
                    return asked;
                }
            }
        });
        let gateway = checked(&[address], "type = \"grpc\", service = \"pkg.Api\"");
        wait_for_async(&gateway, address, "good").await;
        status.store(2, Ordering::SeqCst);
        assert_eq!(wait_for_async(&gateway, address, "bad").await["check_failure"], "NOT_SERVING");
        status.store(1, Ordering::SeqCst);
        wait_for_async(&gateway, address, "good").await;
        status.store(99, Ordering::SeqCst);
        let asked = serving.await.unwrap();
        assert!(
            asked
                .iter()
                .all(|(path, body)| path == "/grpc.health.v1.Health/Check"
                    && &body[..] == b"\0\0\0\0\x09\x0a\x07pkg.Api")
        );
    });
}

/// The same from within a runtime, which goes on.
async fn wait_for_async(gateway: &Running, address: SocketAddr, condition: &str) -> serde_json::Value {
    let deadline = tokio::time::Instant::now() + plain::PATIENCE;
    loop {
        let seen = view(gateway, address);
        if seen["check"] == condition {
            return seen;
        }
        assert!(tokio::time::Instant::now() < deadline, "{address} is not {condition} but {seen}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[test]
fn a_check_uses_the_tls_of_the_service_and_sees_a_certificate_that_is_not_trusted() {
    let (trusted, other) = (Authority::new("trusted"), Authority::new("other"));
    let directory = tempfile::tempdir().unwrap();
    for (authority, condition) in [(&trusted, "good"), (&other, "bad")] {
        let origin = crate::authority::origin(trusted.server(&["api.internal"], &["h2", "http/1.1"], None));
        let ca = authority.write(directory.path(), condition);
        let tls = format!("tls = {{ ca = \"{}\", server_name = \"api.internal\" }}", ca.display());
        let gateway = gateway::before(&[origin.address])
            .policies(&tls)
            .policies("health = { path = \"/\", interval = \"200ms\", timeout = \"200ms\" }")
            .start();
        let seen = wait_for(&gateway, origin.address, condition);
        let why = seen["check_failure"].as_str().unwrap_or_default();
        assert_eq!(why.starts_with("TLS: "), condition == "bad", "{why}");
    }
}

#[test]
fn a_service_that_loses_health_loses_what_was_thought_of_its_endpoints() {
    let (patient, other) = (patient(), patient());
    patient.is(500);
    let address = patient.served.address;
    let text = |health: &str| {
        format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"app\"\n\
             [services.app]\nfrom = \"static/{address}\"\n{health}\n\
             [services.other]\nfrom = \"static/{}\"\nhealth = {{ path = \"/\", {FAST} }}\n",
            other.served.address
        )
    };
    let gateway = gateway::with(&text(&format!("health = {{ path = \"/\", {FAST} }}"))).start();
    wait_for(&gateway, address, "bad");
    std::fs::write(gateway.file(), text("")).unwrap();
    gateway.gateway().reload();
    assert_eq!(wait_for(&gateway, address, "unknown")["unused_because"], serde_json::Value::Null);
    // While others are checked time and again, nobody asks it; a check that was under way may still have come.
    let (before, others) = (patient.served.accepted(), other.served.accepted());
    plain::wait_until("the other one was checked", || other.served.accepted() >= others + 5);
    assert!(patient.served.accepted() <= before + 1);
}
