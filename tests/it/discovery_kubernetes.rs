//! Endpoints from Kubernetes, through the whole gateway, with an API server that can be broken.
//!
//! What a source makes of each trouble stands in `discovery/kubernetes/tests/`.

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use meshless_fakes::http::Mode;
use meshless_fakes::kubernetes::{Gone, Kubernetes};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answering::{answering, wait_for};
use crate::gateway::{self, Running};
use crate::plain::{Origin, get, load, origin, try_client};

/// A cluster with the service `shop/web`, and a kubeconfig for it.
struct Cluster {
    fake: Kubernetes,
    folder: TempDir,
}

impl Cluster {
    fn new() -> Self {
        let cluster = Self { fake: Kubernetes::start(), folder: tempfile::tempdir().unwrap() };
        cluster.write_kubeconfig(None);
        cluster.service("web");
        cluster
    }

    fn write_kubeconfig(&self, token: Option<&str>) {
        std::fs::write(self.kubeconfig(), self.fake.kubeconfig(token)).unwrap();
    }

    fn kubeconfig(&self) -> PathBuf {
        self.folder.path().join("config")
    }

    fn service(&self, name: &str) {
        let ports = json!([{ "name": "http", "port": 80, "targetPort": "http" }]);
        let service = json!({ "metadata": { "namespace": "shop", "name": name }, "spec": { "ports": ports } });
        self.fake.put("services", service);
    }

    /// Puts a pod into a slice of its own: tests tell pods apart by their ports.
    #[allow(clippy::needless_pass_by_value, reason = "it is written in place")]
    fn pod(&self, service: &str, origin: &Origin, conditions: Value) {
        let port = origin.address.port();
        self.fake.put(
            "endpointslices",
            json!({
                "metadata": {
                    "namespace": "shop", "name": format!("{service}-{port}"),
                    "labels": { "kubernetes.io/service-name": service },
                },
                "addressType": "IPv4",
                "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
                "endpoints": [{
                    "addresses": ["127.0.0.1"], "conditions": conditions, "nodeName": "n1", "zone": "eu-1a",
                    "targetRef": { "kind": "Pod", "name": format!("pod-{port}"), "uid": format!("uid-{port}") },
                }],
            }),
        );
    }

    fn ready(&self, origin: &Origin) {
        self.pod("web", origin, json!({ "ready": true }));
    }

    fn remove(&self, origin: &Origin) {
        self.fake.remove("endpointslices", "shop", &format!("web-{}", origin.address.port()));
    }

    fn gateway(&self) -> Running {
        gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [discovery.kubernetes]\nkubeconfig = \"{}\"\n\
             [services.web]\nfrom = \"k8s/shop/web:80\"\nbalance = \"random\"\n[[routes]]\nto = \"web\"\n",
            self.kubeconfig().display()
        ))
        .start()
    }
}

#[test]
fn pods_that_come_and_go_under_load_fail_no_request() {
    let (one, two, three) = (origin("one"), origin("two"), origin("three"));
    let cluster = Cluster::new();
    cluster.ready(&one);
    let gateway = cluster.gateway();
    wait_for(&gateway, &["one"]);
    let address = gateway.address("edge");
    let load = load(4, "/", false, move || try_client(address));
    cluster.ready(&two);
    wait_for(&gateway, &["one", "two"]);
    cluster.pod("web", &one, json!({ "ready": false, "serving": true, "terminating": true }));
    wait_for(&gateway, &["two"]);
    cluster.remove(&one);
    cluster.fake.compact(Gone::Event);
    cluster.fake.drop_watches();
    cluster.ready(&three);
    wait_for(&gateway, &["two", "three"]);
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.good > 100, "{}", tally.good);
    assert_eq!(gateway.count("meshless_discovery_errors_total", &[]), 0);
}

#[test]
fn a_cluster_that_fails_in_any_way_takes_no_endpoint_away() {
    let one = origin("one");
    let cluster = Cluster::new();
    cluster.ready(&one);
    let gateway = cluster.gateway();
    wait_for(&gateway, &["one"]);
    let errors = |gateway: &Running| gateway.count("meshless_discovery_errors_total", &[]);
    for mode in [Mode::Down, Mode::Garbage, Mode::Status(500), Mode::Status(401)] {
        let before = errors(&gateway);
        cluster.fake.server().set(mode);
        cluster.fake.drop_watches();
        gateway.wait_until(&format!("{mode:?} is an error"), |gateway| errors(gateway) > before);
        assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]), "{mode:?}");
        assert!(gateway.metric("meshless_discovery_snapshot_age_seconds", &["shop/web:80"]) > 0.0, "{mode:?}");
        cluster.fake.server().set(Mode::Serve);
        gateway.wait_until("it is over", |gateway| {
            gateway.metric("meshless_discovery_snapshot_age_seconds", &["shop/web:80"]) == 0.0
        });
    }
}

#[test]
fn a_token_that_was_revoked_keeps_the_last_known_good_set() {
    let (one, two) = (origin("one"), origin("two"));
    let cluster = Cluster::new();
    cluster.write_kubeconfig(Some("first"));
    cluster.fake.set_token(Some("first"));
    cluster.ready(&one);
    let gateway = cluster.gateway();
    wait_for(&gateway, &["one"]);
    cluster.fake.set_token(Some("second"));
    cluster.fake.drop_watches();
    let denied = ["kind=\"denied\""];
    gateway.wait_until("it is denied", |gateway| gateway.count("meshless_discovery_errors_total", &denied) > 0);
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    cluster.write_kubeconfig(Some("second"));
    cluster.ready(&two);
    wait_for(&gateway, &["one", "two"]);
}

#[test]
fn endpoints_tell_pod_node_and_zone() {
    let one = origin("one");
    let cluster = Cluster::new();
    cluster.ready(&one);
    let gateway = cluster.gateway();
    wait_for(&gateway, &["one"]);
    let told = gateway.admin("/endpoints").1;
    for word in ["kubernetes/shop/web:80", "eu-1a", &format!("uid-{}", one.address.port())] {
        assert!(told.contains(word), "{word}: {told}");
    }
}

/// From the change at the API server to the first reply of the new pod; wanted below 200 ms.
#[test]
fn a_new_pod_serves_within_200_ms() {
    let (old, new) = (origin("old"), origin("new"));
    let cluster = Cluster::new();
    cluster.ready(&old);
    let gateway = cluster.gateway();
    wait_for(&gateway, &["old"]);
    let mut times = Vec::new();
    let mut pair = [(&new, "new"), (&old, "old")];
    for _ in 0..20 {
        let [(next, name), (last, _)] = pair;
        let begun = Instant::now();
        // One change: the slice of the last one goes only when the next one is there.
        cluster.ready(next);
        cluster.remove(last);
        gateway
            .wait_until("the new pod answers", |gateway| get(gateway.address("edge"), "a.example", "/").body == name);
        times.push(begun.elapsed());
        wait_for(&gateway, &[name]);
        pair.swap(0, 1);
        // The runner paces answers that follow one another closely.
        gateway.wait_until("the pace is earned back", |_| begun.elapsed() > Duration::from_millis(900));
    }
    times.sort();
    let (median, longest) = (times[times.len() / 2], times[times.len() - 1]);
    eprintln!("from a change to the first request on the new pod: median {median:?}, longest {longest:?}");
    assert!(median < Duration::from_millis(200), "{times:?}");
}

/// The example, with the fake in place of a cluster.
#[test]
fn the_example_runs() {
    let (web, api) = (origin("web"), origin("api"));
    let cluster = Cluster::new();
    cluster.service("api");
    cluster.ready(&web);
    cluster.pod("api", &api, json!({}));
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/kubernetes.toml");
    let example = std::fs::read_to_string(path).unwrap();
    let example = example.replace("[[listeners]]\n", "[[listeners]]\nname = \"edge\"\n");
    let gateway = gateway::with(&example)
        .variable("PORT", "0")
        .variable("KUBECONFIG", cluster.kubeconfig().to_str().unwrap())
        .start();
    wait_for(&gateway, &["web"]);
    gateway.wait_until("the API answers", |gateway| get(gateway.address("edge"), "a.example", "/api/x").body == "api");
}
