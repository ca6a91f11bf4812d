//! Metrics and the access log from outside: what stands in them, and that nobody who reads them slowly is waited for.

use std::time::Duration;

use serde_json::Value;

use crate::gateway::{self, Running};
use crate::plain::{Client, client, dead_address, get, load, origin, serve, try_client, wait_until};
use crate::process::{self, Process};

fn sum(gateway: &Running, name: &str) -> f64 {
    gateway.metric(name, &["service=\"app\""])
}

#[test]
fn what_the_gateway_adds_is_told_apart_from_what_endpoints_take() {
    let slow = serve(|stream| {
        let mut peer = Client::new(stream);
        while peer.head().is_ok() {
            std::thread::park_timeout(Duration::from_millis(60));
            if peer.send("HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok").is_err() {
                return;
            }
        }
    });
    let gateway = gateway::before(&[slow.address]).start();
    let mut client = client(gateway.address("edge"));
    for _ in 0..3 {
        assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    }
    gateway.wait_for_metric("meshless_request_duration_seconds_count", &["service=\"app\""], 3.0);
    let (total, added) =
        (sum(&gateway, "meshless_request_duration_seconds_sum"), sum(&gateway, "meshless_added_latency_seconds_sum"));
    assert!(total >= 0.15, "three times 60 ms, got {total}");
    assert!(added < total / 2.0, "{added} of {total}");
    assert!((sum(&gateway, "meshless_added_latency_seconds_count") - 3.0).abs() < 0.1);
}

#[test]
fn a_pause_before_a_retry_is_ours() {
    let closing = serve(|stream| drop(Client::new(stream).head()));
    let gateway = gateway::before(&[closing.address]).policies("retry = { backoff = \"200ms..200ms\" }").start();
    for _ in 0..5 {
        assert_eq!(get(gateway.address("edge"), "a.example", "/").status, 502);
    }
    gateway.wait_for_metric("response_total", &["error=\"broken\""], 5.0);
    assert_eq!(gateway.count("meshless_retry_total", &["service=\"app\""]), 5);
    // Full jitter: each pause is between nothing and 200 ms, and all five nearly never nothing.
    let added = sum(&gateway, "meshless_added_latency_seconds_sum");
    assert!(added > 0.05, "{added}");
}

#[test]
fn the_retry_budget_falls_with_each_retry() {
    let closing = serve(|stream| drop(Client::new(stream).head()));
    let gateway = gateway::before(&[closing.address]).policies("retry = { min_per_second = 1 }").start();
    let full = sum(&gateway, "meshless_retry_budget");
    assert!((9.9..10.1).contains(&full), "ten seconds of one a second, got {full}");
    assert_eq!(get(gateway.address("edge"), "a.example", "/").status, 502);
    let left = sum(&gateway, "meshless_retry_budget");
    assert!(left < full - 0.5, "{left} of {full}");
}

#[test]
fn endpoints_are_measured_for_who_asks_and_for_nobody_else() {
    let (one, two) = (origin("one"), origin("two"));
    let gateway = gateway::before(&[one.address, two.address]).start();
    let held = std::thread::spawn({
        let address = gateway.address("edge");
        move || get(address, "a.example", "/hold")
    });
    wait_until("a request is in flight", || sum(&gateway, "meshless_requests_in_flight") > 0.5);
    assert!(!gateway.admin("/metrics").1.contains("meshless_endpoint_"));
    let (status, text) = gateway.admin("/metrics?endpoints=app");
    assert_eq!(status, 200);
    let of = |name: &str| {
        let lines = text.lines().filter(|line| line.starts_with(&format!("{name}{{")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(of("meshless_endpoint_usable"), [1.0, 1.0]);
    assert_eq!(of("meshless_endpoint_ejected"), [0.0, 0.0]);
    assert!((of("meshless_endpoint_requests_in_flight").iter().sum::<f64>() - 1.0).abs() < 0.1, "{text}");
    assert!((of("meshless_endpoint_connections").iter().sum::<f64>() - 1.0).abs() < 0.1, "{text}");
    one.release();
    two.release();
    assert_eq!(held.join().unwrap().status, 200);
    assert!(gateway.admin("/metrics?endpoints=app").1.contains("meshless_endpoint_latency_seconds{"));
    assert_eq!(gateway.admin("/metrics?endpoints=other").0, 404);
    assert_eq!(gateway.admin("/metrics?endpoint=app").0, 400);
}

#[test]
fn an_endpoint_that_is_ejected_is_told() {
    let (dead, origin) = (dead_address(), origin("one"));
    let gateway =
        gateway::before(&[dead, origin.address]).policies("breaker = { consecutive = 1, eject = \"1m..2m\" }").start();
    let mut client = client(gateway.address("edge"));
    (0..4).for_each(|_| assert_eq!(client.get("a.example", "/").unwrap().status, 200));
    let (_, text) = gateway.admin("/metrics?endpoints=app");
    let of = |name: &str| {
        text.lines().find(|line| line.starts_with(name) && line.contains(&format!("endpoint=\"{dead}\""))).unwrap()
    };
    assert!(of("meshless_endpoint_ejected{").ends_with(" 1"), "{text}");
    assert!(of("meshless_endpoint_usable{").ends_with(" 0"), "{text}");
}

#[test]
fn hosts_and_paths_that_clients_make_up_make_no_series() {
    let origin = origin("one");
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.app]\nfrom = \"static/{}\"\n\
         [[routes]]\nmatch = {{ host = \"*.a.example\" }}\nto = \"app\"\n",
        origin.address
    ))
    .start();
    let mut client = client(gateway.address("edge"));
    let mut ask = |number: usize| {
        client.get(&format!("h{number}.a.example"), &format!("/{number}")).unwrap();
        client.get(&format!("h{number}.b.example"), &format!("/{number}")).unwrap();
    };
    let lines = || gateway.admin("/metrics").1.lines().count();
    ask(0);
    gateway.wait_for_metric("response_total", &[], 2.0);
    let before = lines();
    (1..50).for_each(&mut ask);
    gateway.wait_for_metric("response_total", &[], 100.0);
    assert_eq!(lines(), before);
    assert!(!gateway.admin("/metrics").1.contains("example"));
}

fn logged(process: &Process, path: &str) -> Value {
    wait_until("the access log has the request", || process.stdout().contains(path));
    let line = process.stdout().lines().find(|line| line.contains(path)).unwrap().to_owned();
    serde_json::from_str(&line).unwrap()
}

fn log_text(from: &str) -> String {
    format!(
        "[telemetry]\naccess_log = \"json\"\n[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.app]\nfrom = \"{from}\"\n[[routes]]\nname = \"all\"\nto = \"app\"\n"
    )
}

#[test]
fn a_line_says_where_a_request_went_by_which_tries_and_why() {
    let (origin, dead) = (origin("one"), dead_address());
    let process = process::with(&log_text(&format!("static/{dead} | static/{}", origin.address))).start();
    let mut client = client(process.address("edge"));
    let parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-00";
    client
        .send(&format!(
            "GET /tried?secret=1 HTTP/1.1\r\nhost: a.example:1\r\nx-request-id: r1\r\ntraceparent: {parent}\r\n\r\n"
        ))
        .unwrap();
    assert_eq!(client.reply().unwrap().status, 200);
    let line = logged(&process, "/tried");
    assert_eq!(line["failed_tries"], serde_json::json!([{ "endpoint": dead.to_string(), "why": "connect_failed" }]));
    assert_eq!((&line["tries"], &line["service"], &line["route"]), (&2.into(), &"app".into(), &"all".into()));
    assert_eq!(line["endpoint"], origin.address.to_string());
    assert_eq!(line["target"], format!("static/{}", origin.address));
    // The trace is told whether it is recorded or not.
    assert_eq!(line["trace_id"], "4bf92f3577b34da6a3ce929d0e0e4736");
    let number = |name: &str| line[name].as_f64().unwrap_or_else(|| panic!("{name}: {line}"));
    assert!(number("upstream_ms") + number("added_ms") <= number("duration_ms") + 0.002, "{line}");
    assert!(!line.to_string().contains("secret"));
    // What `explain` asks for: the same question leads to the same decision.
    let asked = ["listener", "method", "host", "path"].map(|name| line[name].as_str().unwrap().to_owned());
    assert_eq!(asked, ["edge", "GET", "a.example", "/tried"]);
}

#[test]
fn a_status_that_is_tried_again_is_the_reason_of_its_try() {
    let busy = serve(|stream| {
        let mut peer = Client::new(stream);
        while peer.head().is_ok() {
            let _ = peer.send("HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let process = process::with(&log_text(&format!("static/{}", busy.address))).start();
    assert_eq!(process::get(&process, "edge", "/busy").status, 503);
    let line = logged(&process, "/busy");
    assert_eq!((&line["tries"], &line["status"]), (&2.into(), &503.into()));
    assert_eq!(line["failed_tries"], serde_json::json!([{ "endpoint": busy.address.to_string(), "why": "503" }]));
}

#[test]
fn a_reader_of_the_access_log_that_stops_reading_is_not_waited_for() {
    let origin = origin("one");
    let process = process::with(&log_text(&format!("static/{}", origin.address))).reader_stops().start();
    let address = process.address("edge");
    let load = load(4, "/a-path-that-fills-the-pipe-a-little-sooner", false, move || try_client(address));
    wait_until("the queue is full", || process.metric("meshless_access_log_dropped_total", &["reason=\"full\""]) > 0.0);
    load.wait_for(1000);
    let tally = load.stop();
    assert_eq!(tally.failures, Vec::<String>::new());
}
