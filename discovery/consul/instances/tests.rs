//! Answers as Consul writes them, and what they become.

use serde_json::{Value, json};

use super::*;
use crate::ConsulConfig;

fn question(option: &str) -> Question {
    let options =
        option.split(',').filter_map(|pair| pair.split_once('=')).map(|(key, value)| (key.into(), value.into()));
    Question::parse("web", &options.collect(), &ConsulConfig::default()).unwrap()
}

fn entry(id: &str, address: &str, port: u16, checks: &[(&str, &str)]) -> Value {
    let checks: Vec<_> = checks.iter().map(|(id, status)| json!({ "CheckID": id, "Status": status })).collect();
    json!({
        "Node": { "Node": "n1", "Address": "10.0.0.9", "Datacenter": "dc1", "Meta": { "rack": "r1" } },
        "Service": {
            "ID": id, "Service": "web", "Tags": ["blue", "v2"], "Address": address, "Port": port,
            "Meta": { "version": "2" }, "Weights": { "Passing": 5, "Warning": 2 },
        },
        "Checks": checks,
    })
}

fn read_all(entries: &Value, option: &str) -> Result<Vec<Endpoint>, String> {
    let entries: Vec<Entry> = serde_json::from_value(entries.clone()).map_err(|error| error.to_string())?;
    Ok(snapshot(&entries, &question(option))?.endpoints().to_vec())
}

fn one(entry: &Value, option: &str) -> Endpoint {
    read_all(&json!([entry]), option).unwrap().remove(0)
}

#[test]
fn the_address_of_the_service_wins_over_that_of_its_node() {
    assert_eq!(one(&entry("a", "10.0.0.1", 80, &[]), "").address.to_string(), "10.0.0.1:80");
    assert_eq!(one(&entry("a", "", 80, &[]), "").address.to_string(), "10.0.0.9:80");
    assert_eq!(one(&entry("a", "2001:db8::1", 80, &[]), "").address.to_string(), "[2001:db8::1]:80");
    assert_eq!(one(&entry("a", "[2001:db8::1]", 80, &[]), "").address.to_string(), "[2001:db8::1]:80");
}

#[test]
fn two_instances_on_one_node_are_two_endpoints() {
    let entries = json!([entry("a", "", 80, &[]), entry("b", "", 81, &[]), entry("c", "", 80, &[])]);
    let ids: Vec<_> = read_all(&entries, "").unwrap().into_iter().filter_map(|endpoint| endpoint.id).collect();
    assert_eq!(ids, ["a", "c", "b"]);
}

#[test]
fn maintenance_goes_before_critical_before_warning_before_passing() {
    let with = |checks: &[(&str, &str)], option| {
        let endpoint = one(&entry("a", "", 80, checks), option);
        (endpoint.health, endpoint.weight)
    };
    let (serf, own) = ("serfHealth", "service:a");
    assert_eq!(with(&[], ""), (Health::Healthy, 5));
    assert_eq!(with(&[(serf, "passing"), (own, "passing")], ""), (Health::Healthy, 5));
    assert_eq!(with(&[(serf, "passing"), (own, "warning")], ""), (Health::Healthy, 2));
    assert_eq!(with(&[(serf, "passing"), (own, "warning")], "passing=true"), (Health::Unhealthy, 2));
    assert_eq!(with(&[(serf, "critical"), (own, "warning")], ""), (Health::Unhealthy, 5));
    assert_eq!(with(&[(serf, "critical"), ("_node_maintenance", "critical")], ""), (Health::Draining, 5));
    assert_eq!(with(&[("_service_maintenance:a", "critical"), (own, "warning")], ""), (Health::Draining, 5));
    assert_eq!(with(&[(own, "what is new")], ""), (Health::Unhealthy, 5));
}

#[test]
fn a_zone_is_consuls_locality_or_what_the_metadata_says() {
    let mut written = entry("a", "", 80, &[]);
    assert_eq!(one(&written, "").zone, None);
    written["Node"]["Meta"]["availability-zone"] = json!("node");
    assert_eq!(one(&written, "").zone.as_deref(), Some("node"));
    written["Service"]["Meta"]["zone"] = json!("service");
    assert_eq!(one(&written, "").zone.as_deref(), Some("service"));
    written["Node"]["Locality"] = json!({ "Region": "eu", "Zone": "eu-1" });
    assert_eq!(one(&written, "").zone.as_deref(), Some("eu-1"));
    written["Service"]["Locality"] = json!({ "Region": "eu", "Zone": "eu-2" });
    assert_eq!(one(&written, "").zone.as_deref(), Some("eu-2"));
}

#[test]
fn metadata_of_the_service_and_the_node_is_there_and_bounded() {
    let mut written = entry("a", "", 80, &[("service:a", "warning")]);
    let metadata = one(&written, "").metadata;
    for (key, value) in [
        ("version", "2"),
        ("node.rack", "r1"),
        ("consul.node", "n1"),
        ("consul.datacenter", "dc1"),
        ("consul.tags", "blue,v2"),
        ("consul.status", "warning"),
    ] {
        assert_eq!(metadata.get(key).map(String::as_str), Some(value), "{key}");
    }
    written["Service"]["Meta"] = (0..500).map(|number| (format!("k{number}"), json!("é".repeat(999)))).collect();
    let metadata = one(&written, "").metadata;
    assert_eq!(metadata.len(), MAX_ENTRIES);
    assert!(metadata.values().all(|value| value.len() <= MAX_VALUE));
}

#[test]
fn what_consul_writes_as_null_is_empty_and_what_it_never_writes_is_an_error() {
    let mut written = entry("a", "", 80, &[]);
    for pointer in ["/Checks", "/Service/Tags", "/Service/Meta", "/Service/Weights", "/Node/Meta", "/Service/Address"] {
        *written.pointer_mut(pointer).unwrap() = Value::Null;
    }
    assert_eq!(one(&written, "").weight, 1);
    for (pointer, wrong) in [
        ("/Service/Port", json!("80")),
        ("/Service/ID", Value::Null),
        ("/Node", Value::Null),
        ("/Service/Weights", json!({ "Passing": -1, "Warning": 1 })),
    ] {
        let mut broken = entry("b", "", 80, &[]);
        *broken.pointer_mut(pointer).unwrap() = wrong;
        assert!(read_all(&json!([written, broken]), "").is_err(), "{pointer}");
    }
}

#[test]
fn an_instance_without_an_address_to_connect_to_does_not_take_the_others_away() {
    let good = entry("good", "10.0.0.1", 80, &[]);
    for (bad, answer) in [
        (entry("bad", "web.example", 80, &[]), "`dns/HOST:PORT`"),
        (entry("bad", "10.0.0.1", 0, &[]), "port 0"),
        (entry("bad", "0.0.0.0", 80, &[]), "all addresses"),
        // Whoever may register a service must not get at the credentials of the machine.
        (entry("bad", "169.254.169.254", 80, &[]), "metadata address"),
    ] {
        assert_eq!(read_all(&json!([good, bad]), "").unwrap().len(), 1);
        let error = read_all(&json!([bad]), "").unwrap_err();
        assert!(error.starts_with("none of 1 instances") && error.contains(answer), "{error}");
    }
    assert_eq!(read_all(&json!([]), "").unwrap(), []);
}

#[test]
fn the_nearest_are_taken_and_those_that_serve_before_others() {
    let entries = json!([
        entry("ill", "10.0.0.1", 80, &[("x", "critical")]),
        entry("near", "10.0.0.2", 80, &[]),
        entry("far", "10.0.0.3", 80, &[]),
        entry("farther", "10.0.0.4", 80, &[]),
    ]);
    let ids = |option: &str| -> Vec<_> {
        read_all(&entries, option).unwrap().into_iter().filter_map(|endpoint| endpoint.id).collect()
    };
    assert_eq!(ids("near=_agent,limit=2"), ["near", "far"]);
    assert_eq!(ids("near=_agent,limit=9").len(), 4);
}

#[test]
fn ten_thousand_instances_are_taken_and_one_more_is_an_error() {
    let entries = |count: u32| -> Value {
        (0..count)
            .map(|number| {
                entry(&number.to_string(), &std::net::Ipv4Addr::from(0x0a00_0000 + number + 1).to_string(), 80, &[])
            })
            .collect()
    };
    assert_eq!(read_all(&entries(10_000), "").unwrap().len(), 10_000);
    assert!(read_all(&entries(10_001), "").unwrap_err().contains("10001"));
}
