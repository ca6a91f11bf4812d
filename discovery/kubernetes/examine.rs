//! A look at a cluster for `meshless doctor`: reachable, who we are, what we may, what time it is there.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use http::Request;
use k8s_openapi::api::core::v1::Service;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::client::{Client, Collection};
use super::target::Question;
use crate::{Error, Finding, KubernetesAddresses, Target};

/// Longest that the whole look takes.
const LIMIT: Duration = Duration::from_secs(9);

/// From here on tokens and certificates begin to be refused.
const SKEW: Duration = Duration::from_secs(30);

/// Most services that are looked at one by one.
const SERVICES: usize = 25;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

/// Looks at everything that the sources of these targets need.
pub(super) async fn examine(client: &Client, addresses: KubernetesAddresses, targets: &[Target]) -> Vec<Finding> {
    let mut findings = Vec::new();
    let questions: Vec<Question> = targets.iter().filter_map(|target| Question::parse(&target.path).ok()).collect();
    if timeout(LIMIT, look(client, addresses, &questions, &mut findings)).await.is_err() {
        let seen = format!("not everything was answered within {} s", LIMIT.as_secs());
        findings.push(Finding::warning("time", seen, "look at the load of the API server and at the way to it"));
    }
    findings
}

async fn look(client: &Client, addresses: KubernetesAddresses, questions: &[Question], findings: &mut Vec<Finding>) {
    let Some(clock) = reach(client, findings).await else { return };
    let review = json!({ "apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview" });
    match post(client, "/apis/authentication.k8s.io/v1/selfsubjectreviews", &review).await {
        Ok(answer) => {
            let name = answer["status"]["userInfo"]["username"].as_str().unwrap_or("?").to_owned();
            findings.push(match name.as_str() {
                "system:anonymous" => {
                    Finding::bad("authenticated", name, "give a token: the server takes us for nobody")
                }
                _ => Finding::good("authenticated", name),
            });
        }
        Err(Error::Denied(error)) => {
            findings.push(Finding::bad("authenticated", error, "look at the token or the kubeconfig"));
            return;
        }
        // Kubernetes before 1.28 has no such review; the permissions show the same.
        Err(error) => {
            findings.push(Finding::warning("authenticated", error.to_string(), "nothing, if all below is good"))
        }
    }
    findings.push(clock);
    let namespaces: BTreeSet<&str> = questions.iter().map(|question| question.namespace.as_str()).collect();
    for namespace in namespaces {
        for (verb, group, resource) in needed(addresses) {
            permission(client, verb, group, resource, Some(namespace), findings).await;
        }
    }
    if addresses == KubernetesAddresses::NodePort {
        permission(client, "list", "", "nodes", None, findings).await;
    }
    for question in questions.iter().take(SERVICES) {
        let services = Collection::new("", "v1", "services").of(&question.namespace);
        if let Ok(None) = client.get::<Service>(&services, &question.service).await {
            let remedy = "create it, or correct the target: until then it has no endpoints";
            findings.push(Finding::warning(format!("service {question}"), "there is no such service", remedy));
        }
    }
}

/// Asks for the version; returns what is to be said of the clock, or nothing where nobody answers.
async fn reach(client: &Client, findings: &mut Vec<Finding>) -> Option<Finding> {
    let server = match client.server().await {
        Ok(server) => server,
        Err(error) => {
            findings.push(Finding::bad("configured", error.to_string(), "set `kubeconfig`, or run as a pod"));
            return None;
        }
    };
    let request = Request::get("/version").body(Vec::new()).ok()?;
    let before = SystemTime::now();
    let answer = match client.ask("get", request).await {
        Ok(answer) => answer,
        Err(error @ Error::Denied(_)) => {
            findings.push(Finding::good("reachable", server));
            let remedy = "look at the token or the kubeconfig";
            findings.push(Finding::bad("authenticated", error.to_string(), remedy));
            return None;
        }
        Err(error) => {
            let remedy = "look at the address, the authority of its certificate, and firewalls";
            findings.push(Finding::bad("reachable", error.to_string(), remedy));
            return None;
        }
    };
    let version = serde_json::from_slice::<Version>(answer.body()).map(|version| version.git_version);
    let version = version.unwrap_or_else(|_| "of an unknown version".to_owned());
    findings.push(Finding::good("reachable", format!("{server}, Kubernetes {version}")));
    let date = answer.headers().get(http::header::DATE).and_then(|date| date.to_str().ok());
    Some(clock(date.and_then(|date| httpdate::parse_http_date(date).ok()), before))
}

/// Compares the server's clock, which tells whole seconds, with ours.
fn clock(theirs: Option<SystemTime>, ours: SystemTime) -> Finding {
    let Some(theirs) = theirs else {
        return Finding::warning("clock", "the server does not say what time it is", "nothing; it cannot be compared");
    };
    let apart = theirs.duration_since(ours).unwrap_or_else(|error| error.duration());
    let seen = format!("{} s apart", apart.as_secs());
    if apart > SKEW {
        let remedy = "set the clocks of both by NTP: tokens and certificates hold from a time to a time";
        return Finding::warning("clock", seen, remedy);
    }
    Finding::good("clock", seen)
}

/// What sources do, in each namespace.
fn needed(addresses: KubernetesAddresses) -> Vec<(&'static str, &'static str, &'static str)> {
    let slices = ["list", "watch"].map(|verb| (verb, "discovery.k8s.io", "endpointslices"));
    let services = ["list", "watch"].map(|verb| (verb, "", "services"));
    match addresses {
        KubernetesAddresses::Pod => slices.into_iter().chain([("get", "", "services")]).collect(),
        KubernetesAddresses::NodePort => slices.into_iter().chain(services).collect(),
        KubernetesAddresses::LoadBalancer => services.into_iter().collect(),
    }
}

async fn permission(
    client: &Client,
    verb: &str,
    group: &str,
    resource: &str,
    namespace: Option<&str>,
    findings: &mut Vec<Finding>,
) {
    let mut attributes = json!({ "verb": verb, "group": group, "resource": resource });
    if let (Some(namespace), Some(fields)) = (namespace, attributes.as_object_mut()) {
        fields.insert("namespace".to_owned(), namespace.into());
    }
    let review = json!({
        "apiVersion": "authorization.k8s.io/v1", "kind": "SelfSubjectAccessReview",
        "spec": { "resourceAttributes": attributes },
    });
    let place = namespace.map_or_else(|| "the cluster".to_owned(), |namespace| format!("namespace `{namespace}`"));
    let what = format!("{verb} {resource}");
    findings.push(match post(client, "/apis/authorization.k8s.io/v1/selfsubjectaccessreviews", &review).await {
        Ok(answer) if answer["status"]["allowed"] == true => Finding::good(what, format!("permitted in {place}")),
        Ok(_) => {
            let role = if namespace.is_some() { "Role" } else { "ClusterRole" };
            let remedy = format!(
                "give the account a {role} with verb `{verb}` on resource `{resource}` of apiGroup \"{group}\""
            );
            Finding::bad(what, format!("not permitted in {place}"), remedy)
        }
        Err(error) => Finding::warning(what, error.to_string(), "ask for the permission by `kubectl auth can-i`"),
    });
}

async fn post(client: &Client, path: &str, object: &Value) -> Result<Value, Error> {
    let wrong = |error: &dyn std::fmt::Display| Error::Malformed(format!("{path}: {error}"));
    let request = Request::post(path).header(http::header::CONTENT_TYPE, "application/json");
    let request = request.body(object.to_string().into_bytes()).map_err(|error| wrong(&error))?;
    let answer = client.ask("create", request).await?;
    serde_json::from_slice(answer.body()).map_err(|error| wrong(&error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;

    #[test]
    fn a_clock_that_goes_wrong_is_said() {
        let now = SystemTime::now();
        assert_eq!(clock(Some(now - Duration::from_secs(5)), now).verdict, Verdict::Good);
        assert_eq!(clock(Some(now - Duration::from_secs(90)), now).seen, "90 s apart");
        assert_eq!(clock(Some(now + Duration::from_secs(90)), now).verdict, Verdict::Warning);
        assert_eq!(clock(None, now).verdict, Verdict::Warning);
    }
}
