//! Documents of the metadata endpoint as the public documentation describes their fields, and an endpoint that fails.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use meshless_fakes::http::{Mode, Server, text};
use serde_json::{Value, json};

use super::*;
use crate::surroundings::Scripted;

fn network(mode: &str, addresses: &[&str]) -> Value {
    json!([{ "NetworkMode": mode, "IPv4Addresses": addresses }])
}

fn own(networks: &Value) -> Value {
    json!({ "DockerId": "d1", "Name": "meshless", "Networks": networks, "Limits": { "CPU": 128, "Memory": 256 } })
}

fn on_fargate() -> Value {
    json!({
        "Cluster": "arn:aws:ecs:eu-west-1:111122223333:cluster/prod",
        "TaskARN": "arn:aws:ecs:eu-west-1:111122223333:task/prod/0123abcd",
        "Family": "web", "Revision": "7", "DesiredStatus": "RUNNING", "KnownStatus": "RUNNING",
        "Limits": { "CPU": 0.25, "Memory": 512 },
        "Containers": [{ "DockerId": "d0", "Name": "app" }, own(&network("awsvpc", &["10.0.1.5"]))],
        "LaunchType": "FARGATE", "AvailabilityZone": "eu-west-1a", "ClockDrift": { "ClockErrorBound": 0.5 }
    })
}

fn place(task: &Value, own: &Value, variables: &[(&str, &str)]) -> Whereabouts {
    let surroundings = scripted(variables);
    let mut place = Whereabouts::new(Platform::Ecs, "test");
    let (task, own) = (serde_json::from_value(task.clone()).unwrap(), serde_json::from_value(own.clone()).unwrap());
    read(&mut place, "U", &task, &own, &surroundings);
    place
}

fn scripted(variables: &[(&str, &str)]) -> Scripted {
    Scripted(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn values(place: &Whereabouts) -> BTreeMap<&str, &str> {
    place.values.iter().map(|(name, fact)| (name.as_str(), fact.value.as_str())).collect()
}

#[test]
fn a_task_on_fargate_says_all_but_its_service() {
    let place = place(&on_fargate(), &own(&network("awsvpc", &["10.0.1.5"])), &[]);
    let expected = BTreeMap::from([
        ("ecs.account", "111122223333"),
        ("ecs.address", "10.0.1.5"),
        ("ecs.cluster", "prod"),
        ("ecs.container", "meshless"),
        ("ecs.family", "web"),
        ("ecs.launch_type", "FARGATE"),
        ("ecs.revision", "7"),
        ("ecs.task", "0123abcd"),
        ("ecs.task_arn", "arn:aws:ecs:eu-west-1:111122223333:task/prod/0123abcd"),
        ("node.address", "10.0.1.5"),
        ("node.region", "eu-west-1"),
        ("node.zone", "eu-west-1a"),
    ]);
    assert_eq!(values(&place), expected);
    assert_eq!(place.limits, crate::Limits { cpus: Some(0.25), memory: Some(256 << 20) });
}

#[test]
fn an_old_arn_and_a_short_name_of_a_cluster_are_read_too() {
    let mut task = on_fargate();
    task["Cluster"] = "default".into();
    task["TaskARN"] = "arn:aws:ecs:eu-west-1:111122223333:task/0123abcd".into();
    task["ServiceName"] = "api".into();
    let place = place(&task, &own(&network("awsvpc", &["10.0.1.5"])), &[]);
    let of = |name| place.value(name);
    assert_eq!(
        (of("ecs.cluster"), of("ecs.task"), of("ecs.service")),
        (Some("default"), Some("0123abcd"), Some("api"))
    );
}

#[test]
fn the_address_of_a_container_in_bridge_mode_is_not_the_nodes() {
    let own = own(&network("bridge", &["172.17.0.2"]));
    let blind = place(&on_fargate(), &own, &[]);
    assert_eq!((blind.value("ecs.address"), blind.value("node.address")), (Some("172.17.0.2"), None));
    assert!(blind.missing["node.address"].contains("network mode `bridge`"), "{:?}", blind.missing);
    let file = r#"{ "HostPrivateIPv4Address": "10.0.9.9", "AvailabilityZone": "eu-west-1c" }"#;
    let mut task = on_fargate();
    task["AvailabilityZone"] = Value::Null;
    let seen = place(&task, &own, &[(FILE, "/ecs.json"), ("/ecs.json", file)]);
    assert_eq!((seen.value("node.address"), seen.zone()), (Some("10.0.9.9"), Some("eu-west-1c")));
}

#[test]
fn in_host_mode_the_empty_address_is_no_address_and_the_default_route_has_it() {
    let place = place(&on_fargate(), &own(&network("host", &[""])), &[("ADDRESS", "10.0.9.8")]);
    assert_eq!((place.value("ecs.address"), place.value("node.address")), (None, Some("10.0.9.8")));
}

#[test]
fn a_task_with_ipv6_alone_has_an_address() {
    let networks = json!([{ "NetworkMode": "awsvpc", "IPv6Addresses": ["2001:db8::5"] }]);
    assert_eq!(place(&on_fargate(), &own(&networks), &[]).value("node.address"), Some("2001:db8::5"));
}

#[test]
fn what_is_left_out_is_missing_with_a_reason() {
    let place = place(&json!({}), &json!({}), &[]);
    assert_eq!(place.values, BTreeMap::new());
    for name in NAMES {
        assert_eq!(place.missing[name], "U does not say it", "{name}");
    }
    assert_eq!(place.limits, crate::Limits::default());
}

fn endpoint() -> Server {
    Server::start(Arc::new(|request| {
        let reply = match request.uri().path() {
            "/v4/d1/task" => on_fargate(),
            "/v4/d1" => own(&network("awsvpc", &["10.0.1.5"])),
            _ => return Box::pin(async { text(404, "") }),
        };
        Box::pin(async move { meshless_fakes::http::json(&reply) })
    }))
}

async fn asked(server: &Server, more: &[(&str, &str)]) -> Whereabouts {
    let base = format!("{}/v4/d1", server.url());
    ask("test".to_owned(), &scripted(&[&[(URI, base.as_str())], more].concat())).await
}

#[tokio::test]
async fn the_endpoint_is_asked_for_the_task_and_our_container() {
    let server = endpoint();
    let place = asked(&server, &[(SERVICE, "checkout")]).await;
    assert_eq!((place.unanswered.as_deref(), place.value("ecs.cluster")), (None, Some("prod")));
    assert_eq!(place.values["ecs.service"].from, SERVICE);
    assert_eq!(place.values["ecs.task"].from, format!("{}/v4/d1/task", server.url()));
    assert_eq!(server.requests(), ["GET /v4/d1/task", "GET /v4/d1"]);
    assert!(asked(&server, &[]).await.missing["ecs.service"].ends_with("set MESHLESS_ECS_SERVICE"));
}

#[tokio::test]
async fn an_endpoint_that_fails_once_is_asked_again() {
    let failures = Arc::new(AtomicUsize::new(0));
    let counted = failures.clone();
    let server = Server::start(Arc::new(move |_| {
        let is_first = counted.fetch_add(1, Ordering::SeqCst) == 0;
        Box::pin(async move { if is_first { text(429, "") } else { meshless_fakes::http::json(&on_fargate()) } })
    }));
    assert_eq!(asked(&server, &[]).await.value("ecs.cluster"), Some("prod"));
    assert_eq!(failures.load(Ordering::SeqCst), 3);
}

#[tokio::test]
async fn an_endpoint_that_is_dead_slow_or_talks_nonsense_is_said() {
    let server = endpoint();
    for (mode, said) in [
        (Mode::Down, "did not answer: "),
        (Mode::Frozen, "did not answer: nothing in 1s"),
        (Mode::Garbage, "/v4/d1/task: what it answered is no text"),
        (Mode::Status(500), "answered 500"),
    ] {
        server.set(mode);
        let place = asked(&server, &[("AWS_REGION", "eu-west-1")]).await;
        let reason = place.unanswered.clone().unwrap();
        assert!(reason.contains(said), "{mode:?}: {reason}");
        assert_eq!(place.missing["ecs.cluster"], reason);
        assert_eq!(place.value("node.region"), Some("eu-west-1"), "variables are there all the same");
    }
}

#[tokio::test]
async fn without_the_variable_this_is_no_task() {
    let place = ask("test".to_owned(), &scripted(&[])).await;
    assert!(place.unanswered.unwrap().starts_with("ECS_CONTAINER_METADATA_URI_V4 is not set: this is no task of ECS"));
    let place = ask("test".to_owned(), &scripted(&[(URI, "https://x")])).await;
    assert!(place.unanswered.unwrap().starts_with("ECS_CONTAINER_METADATA_URI_V4: https://x: expected `http://`"));
}

#[test]
fn a_container_without_networks_is_looked_up_in_its_task() {
    let mut bare = own(&Value::Null);
    assert_eq!(place(&on_fargate(), &bare, &[]).value("node.address"), Some("10.0.1.5"));
    bare["DockerId"] = "another".into();
    assert_eq!(place(&on_fargate(), &bare, &[]).value("node.address"), None);
}
