//! Spans decoded by OpenTelemetry's own messages, metrics read by Prometheus' own parsers.

use std::process::Command;

use serde_json::Value;

use super::{ScriptServer, program, python, run, without_proxies};
use crate::gateway::{self, Running};
use crate::plain;

fn gateway(origin: u16, dead: u16, collector: u16) -> Running {
    gateway::with(&format!(
        "[node]\nservice = \"edge\"\nzone = \"a\"\nworkers = 1\n\
         [telemetry]\naccess_log = \"off\"\n\
         traces = {{ otlp = \"http://127.0.0.1:{collector}\", sample = \"100%\" }}\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.app]\nfrom = \"static/127.0.0.1:{dead} | static/127.0.0.1:{origin}\"\n\
         [[routes]]\nname = \"all\"\nto = \"app\"\n"
    ))
    .start()
}

fn spans(collector: u16) -> Vec<Value> {
    let reply = plain::get(([127, 0, 0, 1], collector).into(), "collector", "/spans");
    serde_json::from_str(&reply.body).unwrap()
}

#[test]
fn spans_are_what_opentelemetry_reads() {
    let Some(collector) = ScriptServer::start("otlp_collector.py") else { return };
    let origin = plain::origin("one");
    let dead = plain::dead_address().port();
    let gateway = gateway(origin.address.port(), dead, collector.port());
    let mut client = plain::client(gateway.address("edge"));
    assert_eq!(client.get("api.example:8080", "/things?secret=1").unwrap().status, 200);
    gateway.wait_for_metric("meshless_traces_exported_total", &[], 3.0);
    let spans = spans(collector.port());
    let one = |kind: &str, tried: usize| {
        let mut fitting = spans.iter().filter(|span| span["kind"] == kind);
        fitting.nth(tried).unwrap_or_else(|| panic!("{kind} {tried}: {spans:#?}"))
    };
    let (server, failed, answered) =
        (one("SPAN_KIND_SERVER", 0), one("SPAN_KIND_CLIENT", 0), one("SPAN_KIND_CLIENT", 1));
    assert_eq!((&server["name"], &server["status"]), (&"GET all".into(), &"STATUS_CODE_UNSET".into()));
    assert_eq!(server["resource"]["service.name"], "edge");
    assert_eq!(server["resource"]["cloud.availability_zone"], "a");
    assert_eq!(server["attributes"]["url.path"], "/things");
    assert_eq!(server["attributes"]["server.port"], 8080);
    assert_eq!(server["attributes"]["http.response.status_code"], 200);
    assert_eq!(server["attributes"]["meshless.tries"], 2);
    assert!(!server.to_string().contains("secret"), "{server}");
    assert_eq!(failed["attributes"]["error.type"], "connect_failed");
    assert_eq!(failed["status"], "STATUS_CODE_ERROR");
    assert_eq!(failed["attributes"]["network.peer.port"], dead);
    assert_eq!(answered["attributes"]["network.peer.port"], origin.address.port());
    assert_eq!(answered["attributes"]["http.request.resend_count"], 1);
    for client in [failed, answered] {
        assert_eq!((&client["trace"], &client["parent"]), (&server["trace"], &server["id"]));
        assert!(
            client["start"].as_u64() >= server["start"].as_u64() && client["end"].as_u64() <= server["end"].as_u64()
        );
    }
}

#[test]
fn metrics_are_what_prometheus_reads() {
    let Some(mut command) = python("metrics_check.py") else { return };
    let origin = plain::origin("one");
    let gateway = gateway(origin.address.port(), plain::dead_address().port(), plain::dead_address().port());
    let mut client = plain::client(gateway.address("edge"));
    assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    gateway.wait_for_metric("response_total", &[], 1.0);
    let (status, metrics) = gateway.admin("/metrics?endpoints=app");
    assert_eq!(status, 200, "{metrics}");
    command.stdin(std::process::Stdio::piped());
    run(command, metrics.as_bytes());
    if let Some(promtool) = program("promtool") {
        let mut command = without_proxies(Command::new(promtool));
        command.args(["check", "metrics"]);
        // Linkerd 2's names, a unit and a counter: what promtool says of them is true, and dashboards need them.
        let metrics: String = metrics
            .lines()
            .filter(|line| !line.contains("response_latency_ms") && !line.contains("identity_cert_refresh_count"))
            .map(|line| format!("{line}\n"))
            .collect();
        run(command, metrics.as_bytes());
    }
}
