//! A pod of Kubernetes: variables of the downward API, and the files of its service account.
//!
//! The API server is not asked: that would need a permission that nothing else here needs. A pod's specification hands in what is
//! wanted, as docs/platforms.md shows; the projected token has most of it, too. It is our own file, and nothing is granted by
//! what stands in it, so its signature is nobody's business here.

use base64::Engine as _;
use base64::prelude::BASE64_URL_SAFE_NO_PAD;
use serde_json::Value;

use crate::surroundings::Surroundings;
use crate::whereabouts::{Platform, Whereabouts};

/// Kubelet sets it in every container of a pod.
pub(crate) const HOST: &str = "KUBERNETES_SERVICE_HOST";
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

/// Reads what the pod was given.
pub(crate) fn read(because: String, surroundings: &dyn Surroundings) -> Whereabouts {
    let mut place = Whereabouts::new(Platform::Kubernetes, because);
    if surroundings.variable(HOST).is_none() {
        place.unanswered = Some(format!("{HOST} is not set: this is no pod of Kubernetes"));
    }
    for (name, variable) in [
        ("kubernetes.namespace", "POD_NAMESPACE"),
        ("kubernetes.node", "NODE_NAME"),
        ("kubernetes.pod", "POD_NAME"),
        ("kubernetes.service_account", "POD_SERVICE_ACCOUNT"),
        ("node.region", "NODE_REGION"),
        ("node.zone", "NODE_ZONE"),
    ] {
        place.put(name, surroundings.variable(variable), variable);
        place.lack(name, &format!("{variable} is not set; let the downward API set it"));
    }
    let file = |name: &str| {
        let path = format!("{ACCOUNT}/{name}");
        Some((surroundings.file(&path)?, path))
    };
    if let Some((namespace, path)) = file("namespace") {
        place.put("kubernetes.namespace", Some(namespace), &path);
    }
    if let Some((token, path)) = file("token")
        && let Some(claims) = claims(&token)
    {
        for (name, pointer) in [
            ("kubernetes.namespace", "/namespace"),
            ("kubernetes.node", "/node/name"),
            ("kubernetes.pod", "/pod/name"),
            ("kubernetes.service_account", "/serviceaccount/name"),
        ] {
            place.put(name, claims.pointer(pointer).and_then(Value::as_str), &path);
        }
    }
    place.put_address("node.address", surroundings.variable("POD_IP").as_deref(), "POD_IP");
    // A pod's default route is its own interface; with the host's network it is the host's, and so is its address.
    place.put("node.address", surroundings.address().map(|address| address.to_string()), "the default route");
    place.lack("node.address", "POD_IP is not set, and there is no default route");
    place
}

/// Returns what a projected token says of its pod.
fn claims(token: &str) -> Option<Value> {
    let payload = token.trim().split('.').nth(1)?;
    let bytes = BASE64_URL_SAFE_NO_PAD.decode(payload.trim_end_matches('=')).ok()?;
    let claims: Value = serde_json::from_slice(&bytes).ok()?;
    claims.get("kubernetes.io").cloned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::surroundings::Scripted;

    fn place(given: &[(&str, &str)]) -> Whereabouts {
        let given = given.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        read("test".to_owned(), &Scripted(given))
    }

    #[test]
    fn the_downward_api_says_it_all() {
        let place = place(&[
            (HOST, "10.96.0.1"),
            ("POD_NAME", "web-1"),
            ("POD_NAMESPACE", "shop"),
            ("POD_IP", "10.1.2.3"),
            ("POD_SERVICE_ACCOUNT", "web"),
            ("NODE_NAME", "node-7"),
            ("NODE_ZONE", "eu-west-1b"),
            ("NODE_REGION", "eu-west-1"),
            ("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "other"),
        ]);
        assert_eq!(place.unanswered, None);
        assert_eq!(place.missing, std::collections::BTreeMap::new());
        assert_eq!(place.value("kubernetes.namespace"), Some("shop"), "a variable wins over the file");
        assert_eq!((place.zone(), place.address()), (Some("eu-west-1b"), "10.1.2.3".parse().ok()));
    }

    #[test]
    fn a_pod_that_was_given_nothing_has_its_account() {
        let payload = r#"{"iss":"x","kubernetes.io":{"namespace":"shop","node":{"name":"node-7"},"pod":{"name":"web-1"},"serviceaccount":{"name":"web"}}}"#;
        let token = format!("e30.{}.c2ln\n", BASE64_URL_SAFE_NO_PAD.encode(payload));
        let place = place(&[
            (HOST, "10.96.0.1"),
            ("NODE_ZONE", ""),
            ("ADDRESS", "10.1.2.4"),
            ("/var/run/secrets/kubernetes.io/serviceaccount/namespace", "shop\n"),
            ("/var/run/secrets/kubernetes.io/serviceaccount/token", &token),
        ]);
        let of = |name| place.value(name);
        assert_eq!((of("kubernetes.namespace"), of("kubernetes.pod")), (Some("shop"), Some("web-1")));
        assert_eq!((of("kubernetes.service_account"), of("kubernetes.node")), (Some("web"), Some("node-7")));
        assert_eq!(of("node.address"), Some("10.1.2.4"));
        assert_eq!(place.missing["node.zone"], "NODE_ZONE is not set; let the downward API set it");
    }

    #[test]
    fn a_token_that_is_none_says_nothing() {
        for token in ["", "a.b.c", "a", "e30.e30.x", "é.é.é"] {
            let place = place(&[(HOST, "x"), ("/var/run/secrets/kubernetes.io/serviceaccount/token", token)]);
            assert_eq!(place.values.len(), 0, "{token}");
        }
    }

    #[test]
    fn outside_of_a_pod_it_says_so() {
        let reason = place(&[]).unanswered.unwrap();
        assert_eq!(reason, "KUBERNETES_SERVICE_HOST is not set: this is no pod of Kubernetes");
    }
}
