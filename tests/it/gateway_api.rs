//! Routes of the Gateway API, through the whole gateway, from a fake API server. How objects are translated stands in
//! `src/gateway_api/tests.rs`.
//!
//! Most rules here redirect: then where a request is sent tells which object it came by, and no endpoint is needed.

use std::time::Duration;

use meshless_fakes::http::Mode;
use meshless_fakes::kubernetes::Kubernetes;
use serde_json::{Value, json};
use tempfile::NamedTempFile;

use crate::gateway::{self, Running};
use crate::plain::{Origin, get, origin, wait_until};

/// Long enough for what must not happen.
const A_WHILE: Duration = Duration::from_millis(600);

/// A cluster without objects, and a gateway that reads it.
struct Setting {
    cluster: Kubernetes,
    gateway: Running,
    kubeconfig: NamedTempFile,
}

/// The text of a gateway with two listeners that reads the routes of the namespace `shop`.
fn text(kubeconfig: &NamedTempFile, more: &str) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [[listeners]]\nname = \"inner\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.kubernetes]\nkubeconfig = \"{}\"\nnamespace = \"shop\"\nroutes = true\n{more}",
        kubeconfig.path().display()
    )
}

fn kubeconfig(cluster: &Kubernetes) -> NamedTempFile {
    let file = NamedTempFile::new().unwrap();
    std::fs::write(file.path(), cluster.kubeconfig(None)).unwrap();
    file
}

fn start(cluster: Kubernetes, more: &str) -> Setting {
    let kubeconfig = kubeconfig(&cluster);
    let gateway = gateway::with(&text(&kubeconfig, more)).start();
    Setting { cluster, gateway, kubeconfig }
}

/// A rule that sends everything below a path to a host.
fn redirect(path: &str, host: &str) -> Value {
    json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": path } }],
        "filters": [{ "type": "RequestRedirect", "requestRedirect": { "hostname": host } }],
    })
}

fn put(cluster: &Kubernetes, name: &str, rules: &[Value]) {
    put_for(cluster, name, &json!([{ "name": "meshless" }]), rules);
}

fn put_for(cluster: &Kubernetes, name: &str, parents: &Value, rules: &[Value]) {
    cluster.put(
        "httproutes",
        json!({
            "apiVersion": "gateway.networking.k8s.io/v1",
            "kind": "HTTPRoute",
            "metadata": { "name": name, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z" },
            "spec": { "parentRefs": parents, "rules": rules },
        }),
    );
}

impl Setting {
    /// Where a request is sent, or what it is answered with.
    fn ask(&self, listener: &str, path: &str) -> String {
        let reply = get(self.gateway.address(listener), "a.example", path);
        reply.header("location").map_or_else(|| reply.status.to_string(), str::to_owned)
    }

    fn wait_for(&self, path: &str, expected: &str) {
        let mut found = String::new();
        self.gateway.wait_until(&format!("{path} is answered with {expected}"), |_| {
            found = self.ask("edge", path);
            found == expected
        });
    }

    fn config(&self) -> Value {
        serde_json::from_str(&self.gateway.admin("/config").1).unwrap()
    }

    fn warnings(&self) -> String {
        self.config()["warnings"].to_string()
    }
}

#[test]
fn a_route_appears_changes_and_disappears() {
    let setting = start(Kubernetes::start(), "");
    assert_eq!(setting.ask("edge", "/x"), "404");
    put(&setting.cluster, "web", &[redirect("/", "one.example")]);
    setting.wait_for("/x", "http://one.example/x");
    put(&setting.cluster, "web", &[redirect("/", "two.example")]);
    setting.wait_for("/x", "http://two.example/x");
    setting.cluster.remove("httproutes", "shop", "web");
    setting.wait_for("/x", "404");
}

#[test]
fn routes_that_are_there_at_the_start_serve_the_first_request() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "one.example")]);
    let setting = start(cluster, "");
    assert_eq!(setting.ask("edge", "/x"), "http://one.example/x");
    assert_eq!(setting.ask("inner", "/x"), "http://one.example/x");
}

#[test]
fn an_api_server_that_goes_down_takes_no_route_with_it_and_its_age_tells() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "one.example")]);
    let setting = start(cluster, "");
    let labels = ["backend=\"kubernetes\"", "target=\"routes\""];
    setting.gateway.wait_for_metric("meshless_discovery_snapshot_age_seconds", &labels, 0.0);
    setting.cluster.server().set(Mode::Down);
    setting.gateway.wait_until("the failure is counted", |gateway| {
        gateway.count("meshless_discovery_errors_total", &labels) > 0
            && gateway.metric("meshless_discovery_snapshot_age_seconds", &labels) > 0.0
    });
    assert_eq!(setting.ask("edge", "/x"), "http://one.example/x");
    // A reload while it is away keeps them, too: of the backend that runs, and of one that is opened anew.
    for more in ["", "context = \"fake\"\n"] {
        let version = setting.config()["version"].as_u64();
        let route = "[[routes]]\nmatch = { path = \"/file\" }\nredirect = { host = \"file.example\" }\n";
        std::fs::write(setting.gateway.file(), text(&setting.kubeconfig, &format!("{more}{route}"))).unwrap();
        setting.gateway.gateway().reload();
        setting.gateway.wait_until("the file is read again", |_| setting.config()["version"].as_u64() > version);
        assert_eq!(setting.ask("edge", "/x"), "http://one.example/x");
        assert_eq!(setting.ask("edge", "/file"), "http://file.example/file");
    }
    put(&setting.cluster, "web", &[redirect("/", "two.example")]);
    setting.cluster.server().set(Mode::Serve);
    setting.wait_for("/x", "http://two.example/x");
    setting.gateway.wait_for_metric("meshless_discovery_snapshot_age_seconds", &labels, 0.0);
}

#[test]
fn a_gateway_that_starts_while_the_api_server_is_away_serves_what_it_has_and_says_so() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "one.example")]);
    cluster.server().set(Mode::Status(500));
    let kubeconfig = kubeconfig(&cluster);
    let more = "[[routes]]\nmatch = { path = \"/file\" }\nredirect = { host = \"file.example\" }\n";
    let cluster_comes = std::thread::spawn(move || {
        std::thread::park_timeout(A_WHILE);
        cluster.server().set(Mode::Serve);
        cluster
    });
    // Ready means that the objects were read.
    let gateway = gateway::with(&text(&kubeconfig, more)).start();
    let setting = Setting { cluster: cluster_comes.join().unwrap(), gateway, kubeconfig };
    assert_eq!(setting.ask("edge", "/file"), "http://file.example/file");
    setting.wait_for("/x", "http://one.example/x");
}

#[test]
fn routes_of_the_file_stand_before_those_of_the_cluster_and_names_behind() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "cluster.example")]);
    let setting = start(
        cluster,
        "[[routes]]\nmatch = { path = \"/a\" }\nredirect = { host = \"file.example\" }\n\
         [[names]]\nmatch = \"a.example\"\ntarget = \"static/127.0.0.1:1\"\n",
    );
    assert_eq!(setting.ask("edge", "/a"), "http://file.example/a");
    assert_eq!(setting.ask("edge", "/b"), "http://cluster.example/b");
}

#[test]
fn a_wrong_object_is_told_and_the_others_stay() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "one.example")]);
    let setting = start(cluster, "");
    let unknown = json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": "/y" } }],
        "filters": [{ "type": "ExtensionRef", "extensionRef": { "group": "x", "kind": "Y", "name": "z" } }],
    });
    let strange = json!({ "matches": [{ "path": { "type": "Glob", "value": "/*" } }] });
    put(&setting.cluster, "wrong", &[unknown, strange, redirect("/z", "three.example")]);
    setting.wait_for("/z", "http://three.example/z");
    assert_eq!(setting.ask("edge", "/y"), "500");
    assert_eq!(setting.ask("edge", "/x"), "http://one.example/x");
    // Requests go by the new table a moment before the status tells of it.
    wait_until("it is told", || setting.warnings().contains("httproute/shop/wrong/rule-1"));
    let warnings = setting.warnings();
    for words in [
        "discovery.kubernetes: warning: httproute/shop/wrong/rule-0: answers 500: `filters[0].type` is `ExtensionRef`",
        "httproute/shop/wrong/rule-1: is left out: `matches[0].path.type` is `Glob`",
    ] {
        assert!(warnings.contains(words), "{warnings}");
    }
    let rules = |state: &str| setting.gateway.metric("meshless_route_rules", &[&format!("state=\"{state}\"")]);
    assert_eq!((rules("used").round(), rules("refused").round()), (2.0, 2.0));
    setting.gateway.wait_for_metric("meshless_route_objects", &[], 2.0);
    setting.cluster.remove("httproutes", "shop", "wrong");
    setting.wait_for("/y", "http://one.example/y");
    wait_until("nothing is told any more", || setting.warnings() == "[]");
}

#[test]
fn a_section_name_is_a_listener() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "one.example")]);
    let inner = json!([{ "name": "meshless", "sectionName": "inner" }]);
    put_for(&cluster, "inner", &inner, &[redirect("/in", "inner.example")]);
    let setting = start(cluster, "");
    assert_eq!(setting.ask("inner", "/in"), "http://inner.example/in");
    assert_eq!(setting.ask("edge", "/in"), "http://one.example/in");
}

#[test]
fn the_configuration_and_explain_show_which_object_a_route_came_from() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/a", "one.example"), redirect("/", "two.example")]);
    let setting = start(cluster, "");
    let names: Vec<Value> =
        setting.config()["config"]["routes"].as_array().unwrap().iter().map(|route| route["name"].clone()).collect();
    assert_eq!(names, ["httproute/shop/web/rule-0", "httproute/shop/web/rule-1"]);
    let (status, explained) = setting.gateway.admin("/explain?url=http://a.example/b");
    let explained: Value = serde_json::from_str(&explained).unwrap();
    assert_eq!((status, &explained["route"]["name"]), (200, &json!("httproute/shop/web/rule-1")));
    assert_eq!(explained["lost"][0]["name"], json!("httproute/shop/web/rule-0"));
}

#[test]
fn requests_reach_the_pods_of_the_services_that_a_rule_names() {
    let (web, next) = (origin("web"), origin("next"));
    let cluster = Kubernetes::start();
    for origin in [(&web, "web"), (&next, "next")] {
        serve(&cluster, origin.1, origin.0);
    }
    let rules = json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": "/shop" } }],
        "filters": [{ "type": "ResponseHeaderModifier", "responseHeaderModifier": { "add": [{ "name": "x-by", "value": "rule" }] } }],
        "backendRefs": [{ "name": "web", "port": 80, "weight": 3 }, { "name": "next", "port": 80 }],
    });
    let gone = json!({
        "matches": [{ "path": { "type": "Exact", "value": "/half" } }],
        "backendRefs": [{ "name": "web", "port": 80 }, { "name": "next", "port": 80, "namespace": "other" }],
    });
    put(&cluster, "web", &[rules, gone]);
    let setting = start(cluster, "");
    let ask = |path: &str| get(setting.gateway.address("edge"), "a.example", path);
    setting.gateway.wait_until("a pod answers", |_| ask("/shop/x").status == 200);
    let replies: Vec<_> = (0..400).map(|_| ask("/shop/x")).collect();
    assert!(replies.iter().all(|reply| reply.status == 200 && reply.header("x-by") == Some("rule")));
    // Three quarters of 400, five standard deviations away at the most.
    let to_web = replies.iter().filter(|reply| reply.body == "web").count();
    assert!((256..=344).contains(&to_web), "{to_web} of 400");
    let failed = (0..400).map(|_| ask("/half")).filter(|reply| reply.status == 500).count();
    assert!((150..=250).contains(&failed), "{failed} of 400 belong to a backend that is wrong");
    // A service that is named for the first time is there with its route.
    let later = origin("later");
    serve(&setting.cluster, "later", &later);
    put(
        &setting.cluster,
        "later",
        &[json!({
            "matches": [{ "path": { "type": "Exact", "value": "/later" } }],
            "backendRefs": [{ "name": "later", "port": 80 }],
        })],
    );
    let mut seen = Vec::new();
    setting.gateway.wait_until("the new service answers", |_| {
        let reply = ask("/later");
        seen.push(reply.status);
        reply.status == 200 && reply.body == "later"
    });
    assert!(seen[..seen.len() - 1].iter().all(|status| *status == 404), "never without its endpoints: {seen:?}");
}

/// A service of one pod.
fn serve(cluster: &Kubernetes, name: &str, origin: &Origin) {
    let port = json!({ "port": origin.address.port(), "name": "http", "protocol": "TCP" });
    let metadata = json!({
        "name": format!("{name}-1"), "namespace": "shop", "labels": { "kubernetes.io/service-name": name },
    });
    cluster.put(
        "services",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "name": name, "namespace": "shop" },
            "spec": { "clusterIP": "10.0.0.1", "ports": [{ "name": "http", "port": 80, "targetPort": origin.address.port() }] },
        }),
    );
    cluster.put(
        "endpointslices",
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "metadata": metadata,
            "addressType": "IPv4", "ports": [port],
            "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": true } }],
        }),
    );
}

#[test]
fn routes_are_not_read_any_more_when_the_key_goes() {
    let cluster = Kubernetes::start();
    put(&cluster, "web", &[redirect("/", "one.example")]);
    let setting = start(cluster, "[[routes]]\nmatch = { path = \"/file\" }\nredirect = { host = \"file.example\" }\n");
    setting.wait_for("/x", "http://one.example/x");
    let without = std::fs::read_to_string(setting.gateway.file()).unwrap().replace("routes = true", "routes = false");
    std::fs::write(setting.gateway.file(), without).unwrap();
    setting.gateway.gateway().reload();
    setting.wait_for("/x", "404");
    setting.gateway.wait_until("nobody watches", |_| setting.cluster.watches() == 0);
}
