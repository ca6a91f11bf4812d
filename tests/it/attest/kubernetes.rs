//! Tokens of pods, as a real API server issues and reviews them. No kubelet runs: the test asks for the token that it would.

use std::collections::BTreeMap;

use meshless::compose::prover;
use meshless::config::{Attest, AttestedCluster, Attestors};
use meshless_certs::attest::Attestor;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::{attest, open, surroundings, write};
use crate::kube_apiserver::{ADMIN, ApiServer};

const NAMESPACE: &str = "attested";

/// Makes a pod of an account, and returns its name and its uid.
fn pod(server: &ApiServer, account: &str, name: &str) -> (String, String) {
    server.apply("v1", "ServiceAccount", NAMESPACE, account, &json!({}));
    let containers = json!([{ "name": "app", "image": "app" }]);
    let spec = json!({ "serviceAccountName": account, "containers": containers });
    let (object, ..) = server.apply("v1", "Pod", NAMESPACE, name, &json!({ "spec": spec }));
    (name.to_owned(), object["metadata"]["uid"].as_str().unwrap().to_owned())
}

/// Asks for the token that kubelet would project into a pod, for an audience.
fn projected(server: &ApiServer, account: &str, (name, uid): &(String, String), audience: &str) -> String {
    let bound = json!({ "apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid });
    let spec = json!({ "audiences": [audience], "expirationSeconds": 3600, "boundObjectRef": bound });
    let path = format!("/api/v1/namespaces/{NAMESPACE}/serviceaccounts/{account}/token");
    let reply = server.ask(ADMIN, "POST", &path, "application/json", &json!({ "spec": spec }).to_string());
    assert_eq!(reply.status, 201, "{}", reply.body);
    let answer: Value = serde_json::from_str(&reply.body).unwrap();
    answer["status"]["token"].as_str().unwrap().to_owned()
}

/// Opens an attestor that asks the server, as an account that may.
fn reviewer(server: &ApiServer, directory: &TempDir) -> std::sync::Arc<dyn Attestor> {
    let token = server.account(NAMESPACE, "reviewer");
    let group = "rbac.authorization.k8s.io";
    // What the guide says that the account needs.
    let binding = json!({
        "roleRef": { "apiGroup": group, "kind": "ClusterRole", "name": "system:auth-delegator" },
        "subjects": [{ "kind": "ServiceAccount", "name": "reviewer", "namespace": NAMESPACE }],
    });
    server.apply(&format!("{group}/v1"), "ClusterRoleBinding", "", "meshless-reviewer", &binding);
    let folder = server.write_account(directory.path(), &token, NAMESPACE);
    let cluster = AttestedCluster::Review {
        issuer: None,
        address: format!("https://{}", server.address),
        ca: Some(folder.join("ca.crt")),
        token_file: folder.join("token"),
    };
    let kubernetes = BTreeMap::from([("real".to_owned(), cluster)]);
    open(&Attestors { kubernetes, ..Attestors::default() }, &surroundings(&[]))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_real_api_server_reviews_the_token_of_a_pod_and_refuses_that_of_one_that_is_gone() {
    let Some(server) = ApiServer::shared() else { return };
    server.namespace(NAMESPACE);
    let directory = tempfile::tempdir().unwrap();
    let attestor = reviewer(server, &directory);
    let api = pod(server, "api", "api-1");
    let show = |token: String| {
        let token_file = write(&directory, "projected", &token);
        prover(&Attest::Kubernetes { token_file }, &surroundings(&[])).unwrap()
    };

    let attested = attest(&*show(projected(server, "api", &api, "example.org")), &*attestor).await.unwrap();
    let fact = |name| attested.fact(name);
    assert_eq!((fact("cluster"), fact("namespace")), (Some("real"), Some(NAMESPACE)));
    assert_eq!((fact("service_account"), fact("pod")), (Some("api"), Some("api-1")));
    assert_eq!(fact("pod_uid"), Some(api.1.as_str()));

    // It is never even shown to an authority that it is not for.
    let elsewhere = show(projected(server, "api", &api, "https://elsewhere.example"));
    assert!(attest(&*elsewhere, &*attestor).await.unwrap_err().contains("audience"));

    let late = show(projected(server, "api", &api, "example.org"));
    server.delete("v1", "Pod", NAMESPACE, "api-1");
    // The server remembers for some seconds whom it took a token for.
    let deadline = std::time::Instant::now() + crate::plain::PATIENCE;
    let refused = loop {
        match attest(&*late, &*attestor).await {
            Err(refused) => break refused,
            Ok(_) => assert!(std::time::Instant::now() < deadline, "a token outlives its pod"),
        }
        tokio::time::sleep(std::time::Duration::from_millis(200)).await;
    };
    assert_eq!(refused, "not_authenticated");
}
