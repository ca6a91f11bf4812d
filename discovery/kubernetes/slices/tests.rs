use serde_json::{Value, json};

use super::*;
use crate::Snapshot;

fn slice(endpoints: &Value) -> EndpointSlice {
    slice_of("IPv4", &json!([{ "name": "http", "port": 8080 }]), endpoints)
}

fn slice_of(family: &str, ports: &Value, endpoints: &Value) -> EndpointSlice {
    let object = json!({
        "metadata": { "namespace": "shop", "name": "web-1" },
        "addressType": family, "ports": ports, "endpoints": endpoints,
    });
    serde_json::from_value(object).unwrap()
}

fn http() -> Wanted {
    Wanted::Name { name: "http".to_owned(), number: 80, node_port: None, protocol: None }
}

/// Each endpoint as its address, with what is not healthy about it.
fn told(slices: &[EndpointSlice]) -> Vec<String> {
    told_of(slices, None)
}

fn told_of(slices: &[EndpointSlice], family: Option<&str>) -> Vec<String> {
    let slices: Vec<&EndpointSlice> = slices.iter().collect();
    let snapshot = Snapshot::new(endpoints(&slices, &http(), family).unwrap()).unwrap();
    let shown = |endpoint: &Endpoint| match endpoint.health {
        Health::Healthy => endpoint.address.to_string(),
        other => format!("{} {other:?}", endpoint.address),
    };
    snapshot.endpoints().iter().map(shown).collect()
}

fn pod(address: &str, conditions: &Value) -> Value {
    json!({ "addresses": [address], "conditions": conditions })
}

#[test]
fn many_slices_of_one_service_are_joined() {
    let slices = [slice(&json!([pod("10.0.0.1", &json!({}))])), slice(&json!([pod("10.0.0.2", &json!({}))]))];
    assert_eq!(told(&slices), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}

#[test]
fn a_pod_that_is_moved_between_slices_is_one_endpoint_and_its_better_copy_counts() {
    let copy = |ready: bool| {
        json!({
            "addresses": ["10.0.0.1"], "conditions": { "ready": ready }, "targetRef": { "kind": "Pod", "uid": "u" },
        })
    };
    for order in [[true, false], [false, true]] {
        let slices = order.map(|ready| slice(&json!([copy(ready)])));
        assert_eq!(told(&slices), ["10.0.0.1:8080"]);
    }
}

#[test]
fn conditions_that_are_missing_have_a_meaning() {
    let there = |conditions: Value| told(&[slice(&json!([pod("10.0.0.1", &conditions)]))]);
    let ready = ["10.0.0.1:8080"];
    assert_eq!(there(Value::Null), ready, "nothing said is ready");
    assert_eq!(there(json!({ "ready": null })), ready);
    assert_eq!(there(json!({ "ready": false })), [""; 0]);
    // `serving` is as `ready`: not ready and on its way out serves nobody.
    assert_eq!(there(json!({ "ready": false, "terminating": true })), [""; 0]);
    // `terminating` is false: one that serves but is not ready for another reason gets nothing.
    assert_eq!(there(json!({ "ready": false, "serving": true })), [""; 0]);
}

#[test]
fn a_pod_that_is_terminating_drains_while_another_one_is_ready() {
    let ending = json!({ "ready": false, "serving": true, "terminating": true });
    let slices = [slice(&json!([pod("10.0.0.1", &ending), pod("10.0.0.2", &json!({ "ready": true }))]))];
    assert_eq!(told(&slices), ["10.0.0.1:8080 Draining", "10.0.0.2:8080"]);
}

#[test]
fn if_no_pod_is_ready_those_that_still_serve_get_what_is_new() {
    let ending = json!({ "ready": false, "serving": true, "terminating": true });
    let slices = [
        slice(&json!([pod("10.0.0.1", &ending)])),
        slice(&json!([pod("10.0.0.2", &json!({ "ready": false, "serving": false, "terminating": true }))])),
    ];
    assert_eq!(told(&slices), ["10.0.0.1:8080"]);
}

#[test]
fn a_service_that_publishes_addresses_that_are_not_ready_is_believed() {
    // The controller says `ready` then, even of a pod that ends.
    let published = json!({ "ready": true, "serving": false, "terminating": true });
    assert_eq!(told(&[slice(&json!([pod("10.0.0.1", &published)]))]), ["10.0.0.1:8080"]);
}

#[test]
fn of_two_families_that_of_the_service_counts() {
    let ports = json!([{ "name": "http", "port": 8080 }]);
    let four = slice(&json!([pod("10.0.0.1", &json!({}))]));
    let six = slice_of("IPv6", &ports, &json!([pod("fd00::1", &json!({}))]));
    let both = [four.clone(), six];
    assert_eq!(told_of(&both, Some("IPv4")), ["10.0.0.1:8080"]);
    assert_eq!(told_of(&both, Some("IPv6")), ["[fd00::1]:8080"]);
    assert_eq!(told_of(&both, None).len(), 2);
    assert_eq!(told_of(&[four], Some("IPv6")), ["10.0.0.1:8080"], "better another family than nobody");
}

#[test]
fn pods_of_another_revision_may_listen_on_another_number_or_lack_the_port() {
    let with = |port: u16, address: &str| {
        slice_of("IPv4", &json!([{ "name": "http", "port": port }]), &json!([pod(address, &json!({}))]))
    };
    let without = slice_of("IPv4", &json!([{ "name": "admin", "port": 1 }]), &json!([pod("10.0.0.3", &json!({}))]));
    let udp = slice_of(
        "IPv4",
        &json!([{ "name": "http", "port": 1, "protocol": "UDP" }]),
        &json!([pod("10.0.0.4", &json!({}))]),
    );
    assert_eq!(
        told(&[with(8080, "10.0.0.1"), with(9090, "10.0.0.2"), without, udp]),
        ["10.0.0.1:8080", "10.0.0.2:9090"]
    );
}

#[test]
fn a_pod_tells_where_it_is_and_what_it_speaks() {
    let slice = slice_of(
        "IPv4",
        &json!([{ "name": "http", "port": 8080, "appProtocol": "kubernetes.io/h2c" }]),
        &json!([{
            "addresses": ["10.0.0.1"], "nodeName": "n1", "zone": "eu-1a", "hostname": "web-0",
            "targetRef": { "kind": "Pod", "name": "web-0", "uid": "6f1c" },
            "hints": { "forZones": [{ "name": "eu-1a" }, { "name": "eu-1b" }] },
        }]),
    );
    let found = endpoints(&[&slice], &http(), None).unwrap();
    let [endpoint] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(endpoint.id.as_deref(), Some("6f1c"));
    assert_eq!(endpoint.zone.as_deref(), Some("eu-1a"));
    assert_eq!(endpoint.protocol, Some(AppProtocol::H2c));
    assert_eq!(endpoint.weight, 1);
    let metadata =
        [("hint_zones", "eu-1a,eu-1b"), ("hostname", "web-0"), ("namespace", "shop"), ("node", "n1"), ("pod", "web-0")];
    assert_eq!(endpoint.metadata, metadata.map(|(key, value)| (key.to_owned(), value.to_owned())).into());
    assert_eq!(nodes(&[&slice], &http(), None), Ok(BTreeSet::from(["n1".to_owned()])));
}

#[test]
fn a_slice_that_cannot_be_understood_is_an_error() {
    let of = |slice: EndpointSlice| endpoints(&[&slice], &http(), None).unwrap_err();
    let ports = json!([{ "name": "http", "port": 8080 }]);
    assert!(of(slice_of("FQDN", &ports, &json!([pod("a.example", &json!({}))]))).contains("`FQDN`"));
    assert!(of(slice(&json!([pod("10.0.0", &json!({}))]))).contains("`10.0.0`"));
    assert!(of(slice_of("IPv4", &json!([{ "name": "http", "port": 70000 }]), &json!([]))).contains("70000"));
}
