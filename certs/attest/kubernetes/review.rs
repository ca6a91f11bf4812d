//! Asks the API server whose a token is (`TokenReview`, authentication.k8s.io/v1): it knows whether the pod still exists.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;

use serde::Deserialize;
use serde_json::json;

use super::claims::Bearer;
use crate::Anchors;
use crate::attest::Rejected;
use crate::attest::evidence::{refused, shown};
use crate::attest::http::{Http, PATIENCE, exchange};

const POD_NAME: &str = "authentication.kubernetes.io/pod-name";
const POD_UID: &str = "authentication.kubernetes.io/pod-uid";

/// One API server.
#[derive(Debug)]
pub(super) struct Review {
    address: String,
    http: Http,
    /// Our own token there; kubelet replaces it.
    token_file: PathBuf,
}

#[derive(Deserialize)]
struct Answer {
    status: Status,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[derive(Default)]
struct Status {
    authenticated: bool,
    audiences: Vec<String>,
    user: User,
    error: String,
}

/// Whose a token is.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct User {
    username: String,
    extra: BTreeMap<String, Vec<String>>,
}

impl User {
    /// Tells whether this is who the token itself says, pod included.
    pub(super) fn is(&self, bearer: &Bearer) -> bool {
        let extra = |key: &str| match self.extra.get(key).map(Vec::as_slice) {
            Some([only]) => only.as_str(),
            _ => "",
        };
        self.username == bearer.user() && extra(POD_NAME) == bearer.pod && extra(POD_UID) == bearer.pod_uid
    }
}

impl fmt::Display for User {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}", shown(&self.username))?;
        match self.extra.get(POD_NAME).and_then(|names| names.first()) {
            Some(pod) => write!(formatter, " of the pod {}", shown(pod)),
            None => formatter.write_str(" of no pod"),
        }
    }
}

impl Review {
    pub(super) fn new(address: &str, anchors: Anchors, token_file: PathBuf) -> Self {
        let address = address.trim_end_matches('/').to_owned();
        Self { address, http: Http::new(anchors), token_file }
    }

    /// Returns whose a token is, if it is good for `audience` now.
    pub(super) async fn ask(&self, token: &str, audience: &str) -> Result<User, Rejected> {
        let Self { address, token_file, .. } = self;
        let unavailable = |why: String| Rejected::Unavailable(format!("TokenReview at {address}: {why}"));
        let own = tokio::fs::read_to_string(token_file)
            .await
            .map_err(|error| unavailable(format!("our own token {}: {error}", token_file.display())))?;
        let body = json!({
            "apiVersion": "authentication.k8s.io/v1",
            "kind": "TokenReview",
            "spec": { "token": token, "audiences": [audience] },
        });
        let request = self
            .http
            .client()
            .await
            .map_err(unavailable)?
            .post(format!("{address}/apis/authentication.k8s.io/v1/tokenreviews"))
            .bearer_auth(own.trim())
            .header("accept", "application/json")
            .header("content-type", "application/json")
            .body(body.to_string());
        let answer = exchange(request, PATIENCE).await.map_err(unavailable)?;
        match answer.status {
            200 | 201 => {}
            401 => return Err(unavailable(format!("it does not know us by {}", token_file.display()))),
            403 => {
                let role = "bind the cluster role `system:auth-delegator` to our service account";
                return Err(unavailable(format!("we may not ask; {role}")));
            }
            status => return Err(unavailable(format!("it answered {status}"))),
        }
        let Answer { status } = serde_json::from_slice(&answer.body)
            .map_err(|error| unavailable(format!("the answer cannot be read: {error}")))?;
        if !status.authenticated {
            return Err(refused("not_authenticated", format!("the API server: {}", shown(&status.error))));
        }
        // An API server that does not know audiences takes any token that it issued, and says no audience.
        if status.audiences.as_slice() != [audience] {
            return Err(refused("audience", "the API server did not say that the token is for this authority"));
        }
        Ok(status.user)
    }
}
