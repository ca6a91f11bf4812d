use std::collections::BTreeMap;
use std::fs;

use meshless_platforms::Scripted;
use tempfile::TempDir;

use crate::config::{Traces, load};

fn read(traces: &str) -> Result<Traces, String> {
    let directory = TempDir::new().unwrap();
    let text = format!(
        "[node]\nservice = \"web\"\n[telemetry]\ntraces = {traces}\n\
         [[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"static/127.0.0.1:2\"\n"
    );
    fs::write(directory.path().join("c.toml"), text).unwrap();
    let surroundings = Scripted(BTreeMap::from([("OTLP_KEY".to_owned(), "s3cret".to_owned())]));
    match load(&[directory.path().to_owned()], &surroundings, &BTreeMap::new()) {
        Ok(loaded) => Ok(loaded.config.telemetry.traces.unwrap()),
        Err(problems) => Err(problems.to_string().split_once("error: ").unwrap().1.to_owned()),
    }
}

#[test]
fn what_is_left_out_has_its_default() {
    let traces = read("{ otlp = \"http://127.0.0.1\" }").unwrap();
    assert_eq!(traces.otlp.to_string(), "http://127.0.0.1:4318/v1/traces");
    assert!((traces.sample - 0.01).abs() < 1e-9);
    assert_eq!((traces.service_name.as_str(), traces.headers.len(), traces.ca), ("web", 0, None));
}

#[test]
fn the_address_of_a_collector_is_read_as_people_write_it() {
    for (text, expected) in [
        ("http://collector:14318/", "http://collector:14318/v1/traces"),
        ("https://otlp.example.com", "https://otlp.example.com:443/v1/traces"),
        ("https://otlp.example.com/tenant/v1/traces", "https://otlp.example.com:443/tenant/v1/traces"),
        ("http://[::1]:4318", "http://[::1]:4318/v1/traces"),
    ] {
        assert_eq!(read(&format!("{{ otlp = \"{text}\" }}")).unwrap().otlp.to_string(), expected, "{text}");
    }
    for wrong in [
        "",
        "collector:4318",
        "grpc://a:4317",
        "http://",
        "http://a:b",
        "http://a:0",
        "http://u:p@a",
        "http://a/?key=1",
    ] {
        let problem = read(&format!("{{ otlp = \"{wrong}\" }}")).unwrap_err();
        assert!(problem.contains("telemetry.traces.otlp: expected the URL of an OTLP collector"), "{wrong}: {problem}");
        assert!(problem.contains("such as `http://127.0.0.1:4318`"), "{wrong}: {problem}");
    }
}

#[test]
fn what_is_missing_or_does_not_fit_is_told() {
    let otlp = "otlp = \"http://127.0.0.1:4318\"";
    for (traces, expected) in [
        ("{ sample = \"1%\" }".to_owned(), "telemetry.traces.otlp: missing: name a collector"),
        (format!("{{ {otlp}, ca = \"/ca.pem\" }}"), "telemetry.traces.ca: is for a collector that is called by https"),
        (format!("{{ {otlp}, sample = 0.1 }}"), "telemetry.traces.sample: expected a share from 0% to 100%"),
        (format!("{{ {otlp}, service_name = \"\" }}"), "telemetry.traces.service_name: expected"),
        (format!("{{ {otlp}, headers = {{ \"a b\" = \"x\" }} }}"), "expected the name of a header"),
        (format!("{{ {otlp}, headers = {{ Host = \"x\" }} }}"), "is set by the exporter; remove it"),
        (format!("{{ {otlp}, headers = {{ x-key = \"a\\nb\" }} }}"), "expected the value of a header"),
    ] {
        let problem = read(&traces).unwrap_err();
        assert!(problem.contains(expected), "{traces}: {problem}");
    }
}

#[test]
fn a_key_is_shown_to_nobody() {
    let traces = read("{ otlp = \"https://a.example\", headers = { x-key = \"${OTLP_KEY}\" } }").unwrap();
    assert_eq!(traces.headers["x-key"].1, "s3cret");
    assert!(!format!("{traces:?}").contains("s3cret"));
    assert_eq!(serde_json::to_value(&traces).unwrap()["headers"]["x-key"], "(hidden)");
    let problem = read("{ otlp = \"https://a.example\", headers = { x-key = \"s3cret\\n\" } }").unwrap_err();
    assert!(!problem.contains("s3cret"), "{problem}");
}
