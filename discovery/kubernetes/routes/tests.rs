//! Against a fake API server.

use std::io::Write as _;

use meshless_fakes::http::Mode;
use meshless_fakes::kubernetes::{Gone, Kubernetes as Fake};
use tempfile::NamedTempFile;
use tokio::time::timeout;

use super::*;
use crate::KubernetesConfig;
use crate::kubernetes::client::Timing;

/// Longer than anything here takes.
const PATIENCE: Duration = Duration::from_secs(20);
/// Long enough for what would be told at once.
const A_WHILE: Duration = Duration::from_millis(300);

struct Setting {
    fake: Fake,
    routes: Routes,
    _kubeconfig: NamedTempFile,
}

impl Setting {
    fn new() -> Self {
        let fake = Fake::start();
        let mut kubeconfig = NamedTempFile::new().unwrap();
        kubeconfig.write_all(fake.kubeconfig(None).as_bytes()).unwrap();
        let config = KubernetesConfig {
            kubeconfig: Some(kubeconfig.path().to_owned()),
            namespace: Some("shop".to_owned()),
            routes: true,
            ..KubernetesConfig::default()
        };
        let timing = Timing { answer: Duration::from_millis(500), ..Timing::default() };
        let routes = Routes::new(Arc::new(Client::new(&config).with_timing(timing)));
        Self { fake, routes, _kubeconfig: kubeconfig }
    }

    fn put(&self, resource: &str, namespace: &str, name: &str, spec: &Value) {
        let kind = if resource == "httproutes" { "HTTPRoute" } else { "GRPCRoute" };
        self.fake.put(
            resource,
            json!({
                "apiVersion": "gateway.networking.k8s.io/v1",
                "kind": kind,
                "metadata": {
                    "name": name, "namespace": namespace, "creationTimestamp": "2026-01-02T03:04:05Z",
                    "managedFields": [],
                },
                "spec": spec,
                "status": { "parents": [] },
            }),
        );
    }

    async fn next(&mut self) -> Result<Vec<Value>, Error> {
        timeout(PATIENCE, self.routes.next()).await.expect("it answers")
    }

    /// Kind and name of each object that is told next.
    async fn names(&mut self) -> Vec<String> {
        let objects = self.next().await.unwrap();
        let text = |object: &Value, at: &str| object.pointer(at).and_then(Value::as_str).unwrap_or("?").to_owned();
        objects.iter().map(|object| format!("{}/{}", text(object, "/kind"), text(object, "/metadata/name"))).collect()
    }

    async fn is_silent(&mut self) -> bool {
        timeout(A_WHILE, self.routes.next()).await.is_err()
    }
}

#[tokio::test]
async fn objects_of_both_kinds_of_the_namespace_are_told_without_what_changes_by_itself() {
    let mut setting = Setting::new();
    setting.put("httproutes", "shop", "web", &json!({ "rules": [] }));
    setting.put("grpcroutes", "shop", "cart", &json!({}));
    setting.put("httproutes", "other", "not-ours", &json!({}));
    let objects = setting.next().await.unwrap();
    let metadata = |name| json!({ "name": name, "namespace": "shop", "creationTimestamp": "2026-01-02T03:04:05Z" });
    assert_eq!(
        objects,
        [
            json!({ "kind": "HTTPRoute", "metadata": metadata("web"), "spec": { "rules": [] } }),
            json!({ "kind": "GRPCRoute", "metadata": metadata("cart"), "spec": {} }),
        ]
    );
}

#[tokio::test]
async fn what_comes_changes_and_goes_is_told_and_a_new_status_is_not() {
    let mut setting = Setting::new();
    assert_eq!(setting.names().await, [""; 0]);
    setting.put("httproutes", "shop", "a", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a"]);
    setting.put("grpcroutes", "shop", "b", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a", "GRPCRoute/b"]);
    // Another version of it, in which nothing is changed that is read.
    setting.put("httproutes", "shop", "a", &json!({}));
    assert!(setting.is_silent().await);
    setting.put("httproutes", "shop", "a", &json!({ "hostnames": ["a"] }));
    assert_eq!(setting.next().await.unwrap()[0]["spec"], json!({ "hostnames": ["a"] }));
    setting.fake.remove("httproutes", "shop", "a");
    assert_eq!(setting.names().await, ["GRPCRoute/b"]);
}

#[tokio::test]
async fn a_version_that_the_server_forgot_is_listed_anew_without_a_blink() {
    let mut setting = Setting::new();
    setting.put("httproutes", "shop", "a", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a"]);
    setting.fake.compact(Gone::Event);
    setting.fake.drop_watches();
    setting.put("httproutes", "shop", "b", &json!({}));
    // A watch that ends as soon as it began is an error by itself; what comes after it is whole.
    let found = loop {
        if let Ok(objects) = setting.next().await {
            break objects;
        }
    };
    assert_eq!(found.len(), 2, "{found:?}");
}

#[tokio::test]
async fn a_failure_of_one_kind_is_a_failure_of_all_and_the_next_answer_is_whole() {
    let mut setting = Setting::new();
    setting.put("httproutes", "shop", "a", &json!({}));
    setting.fake.deny("list", "grpcroutes");
    let error = setting.next().await.unwrap_err();
    assert!(matches!(&error, Error::Denied(said) if said.contains("`list` on resource `grpcroutes`")), "{error}");
    setting.fake.permit();
    assert_eq!(setting.names().await, ["HTTPRoute/a"]);
    setting.fake.server().set(Mode::Down);
    setting.fake.drop_watches();
    assert!(matches!(setting.next().await, Err(Error::Unreachable(_))));
    setting.fake.server().set(Mode::Serve);
    assert_eq!(setting.names().await, ["HTTPRoute/a"], "though nothing changed");
}

#[tokio::test]
async fn a_cluster_that_serves_one_kind_alone_has_no_objects_of_the_other() {
    let mut setting = Setting::new();
    setting.fake.fail("list", "grpcroutes", Some(404));
    setting.put("httproutes", "shop", "a", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a"]);
    setting.put("httproutes", "shop", "b", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a", "HTTPRoute/b"]);
}

#[tokio::test]
async fn a_cluster_without_the_gateway_api_is_an_error_that_says_so() {
    let mut setting = Setting::new();
    setting.fake.fail("list", "grpcroutes", Some(404));
    setting.fake.fail("list", "httproutes", Some(404));
    let error = setting.next().await.unwrap_err();
    assert!(error.to_string().contains("install the Gateway API"), "{error}");
    setting.fake.fail("list", "httproutes", None);
    setting.put("httproutes", "shop", "a", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a"], "it was installed meanwhile");
}

#[tokio::test]
async fn a_kind_that_was_served_and_is_not_while_the_server_starts_is_an_error_and_not_empty() {
    let mut setting = Setting::new();
    setting.put("httproutes", "shop", "a", &json!({}));
    assert_eq!(setting.names().await, ["HTTPRoute/a"]);
    setting.fake.fail("list", "httproutes", Some(404));
    setting.fake.compact(Gone::Event);
    setting.fake.drop_watches();
    assert!(matches!(setting.next().await, Err(Error::Malformed(_))));
    setting.fake.fail("list", "httproutes", None);
    assert_eq!(setting.names().await, ["HTTPRoute/a"]);
}

#[tokio::test]
async fn a_call_that_is_dropped_loses_nothing() {
    let mut setting = Setting::new();
    assert_eq!(setting.names().await, [""; 0]);
    for number in 0..20 {
        setting.put("httproutes", "shop", &format!("r{number:02}"), &json!({}));
        let _ = timeout(Duration::from_millis(number % 4), setting.routes.next()).await;
    }
    let deadline = Instant::now() + PATIENCE;
    while setting.routes.last.as_ref().is_none_or(|last| last.len() < 20) {
        assert!(Instant::now() < deadline);
        let _ = timeout(A_WHILE, setting.routes.next()).await;
    }
}
