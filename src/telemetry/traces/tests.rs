use std::time::Instant;

use http::HeaderValue;

use super::*;

const SAMPLED: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

fn tracer(share: Option<f64>) -> (Tracer, Switch, Exporter) {
    let (tracer, switch, exporter) = open(&Registry::new(Instant::now()));
    switch.configure(share.map(|share| {
        Arc::new(Collector {
            tls: None,
            host: "collector".to_owned(),
            port: 4318,
            path: "/v1/traces".to_owned(),
            headers: HeaderMap::new(),
            resource: Resource::new("edge", None),
            threshold: context::threshold(share),
        })
    }));
    (tracer, switch, exporter)
}

fn decide(share: Option<f64>, name: &'static str, value: &str) -> bool {
    let headers = HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_str(value).unwrap())]);
    let (tracer, _switch, _exporter) = tracer(share);
    tracer.decide(&Incoming::read(&headers), || [1, 2]).is_some()
}

#[test]
fn the_caller_decides_and_our_share_only_where_nobody_did() {
    let denied = SAMPLED.replace("-01", "-00");
    assert!(decide(Some(0.0), "traceparent", SAMPLED));
    assert!(!decide(Some(1.0), "traceparent", &denied));
    assert!(decide(Some(0.0), "b3", "1"));
    assert!(!decide(Some(1.0), "b3", "0"));
    for share in [0.0, 1.0] {
        let deferred = "4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7";
        assert_eq!(decide(Some(share), "b3", deferred), share > 0.5);
        assert_eq!(decide(Some(share), "x-other", "1"), share > 0.5);
    }
}

#[test]
fn nothing_is_recorded_where_spans_go_nowhere() {
    assert!(!decide(None, "traceparent", SAMPLED));
}

#[test]
fn a_switch_works_while_it_runs() {
    let (tracer, switch, _exporter) = tracer(Some(1.0));
    assert!(tracer.decide(&Incoming::default(), || [1, 2]).is_some());
    switch.configure(None);
    assert!(tracer.decide(&Incoming::default(), || [1, 2]).is_none());
}
