//! What a token of a service account says, and what it must say (pure).
//!
//! The claims are those of bound tokens (KEP-1205); `kubernetes.io` names what the token is bound to.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;

use crate::attest::Rejected;
use crate::attest::evidence::{refused, shown};

/// How far two clocks may be apart (security paper, 1).
const SKEW: Duration = Duration::from_mins(1);

/// Longest life of a token: what kubelet asks for unless a pod says otherwise (security paper, 2).
const MAX_LIFE: Duration = Duration::from_hours(1);

/// What a token says.
#[derive(Debug, Deserialize)]
pub(super) struct Claims {
    iss: String,
    sub: String,
    #[serde(default)]
    aud: Audience,
    iat: Option<u64>,
    nbf: Option<u64>,
    exp: Option<u64>,
    #[serde(rename = "kubernetes.io")]
    bound: Option<Bound>,
}

/// One audience may stand without a list (RFC 7519, 4.1.3).
#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Default for Audience {
    fn default() -> Self {
        Self::Several(Vec::new())
    }
}

#[derive(Debug, Deserialize)]
struct Bound {
    namespace: String,
    serviceaccount: Object,
    pod: Option<Object>,
}

#[derive(Debug, Deserialize)]
struct Object {
    name: String,
    uid: String,
}

/// Whose token it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Bearer {
    pub(super) namespace: String,
    pub(super) service_account: String,
    pub(super) pod: String,
    pub(super) pod_uid: String,
    /// When the token ends.
    pub(super) ends: SystemTime,
}

impl Bearer {
    /// Returns the name of its user at the API server.
    pub(super) fn user(&self) -> String {
        format!("system:serviceaccount:{}:{}", self.namespace, self.service_account)
    }
}

impl fmt::Display for Bearer {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{} of the pod {} ({})", self.user(), self.pod, self.pod_uid)
    }
}

impl Claims {
    /// Tells whether it is for this authority, and for nobody else: another one that it is for could show it to us.
    pub(super) fn is_for(&self, authority: &str) -> bool {
        match &self.aud {
            Audience::One(only) => only == authority,
            Audience::Several(all) => matches!(all.as_slice(), [only] if only == authority),
        }
    }

    /// Says whose token it is, if it is one that may be shown to this authority at this time.
    pub(super) fn check(&self, authority: &str, issuer: Option<&str>, now: SystemTime) -> Result<Bearer, Rejected> {
        if issuer.is_some_and(|issuer| issuer != self.iss) {
            return Err(refused("issuer", format!("its issuer is `{}`", shown(&self.iss))));
        }
        if !self.is_for(authority) {
            return Err(refused("audience", format!("its audience is not `{authority}` alone")));
        }
        let ends = self.time(now)?;
        let (namespace, service_account, pod, pod_uid) = self.names()?;
        Ok(Bearer { namespace, service_account, pod, pod_uid, ends })
    }

    fn time(&self, now: SystemTime) -> Result<SystemTime, Rejected> {
        let at = |seconds: u64| UNIX_EPOCH.checked_add(Duration::from_secs(seconds));
        let Some(ends) = self.exp else {
            return Err(refused("legacy_token", "it has no end: project a token with `expirationSeconds`"));
        };
        let (Some(begins), Some(issued)) = (self.nbf, self.iat) else {
            return Err(refused("malformed", "it does not say when it begins (`nbf`, `iat`)"));
        };
        let (Some(ends), Some(begins), Some(issued)) = (at(ends), at(begins), at(issued)) else {
            return Err(refused("malformed", "its times cannot be read"));
        };
        if now >= ends + SKEW {
            return Err(refused("expired", "it has expired"));
        }
        if begins > now + SKEW || issued > now + SKEW {
            return Err(refused("not_yet_valid", "it is not valid yet; compare the clocks"));
        }
        if ends.duration_since(issued).is_ok_and(|life| life > MAX_LIFE) {
            return Err(refused("lifetime", "it lives longer than 1 h: set `expirationSeconds: 3600`"));
        }
        Ok(ends)
    }

    /// Namespace, service account, pod, the pod's uid.
    fn names(&self) -> Result<(String, String, String, String), Rejected> {
        let Some(bound) = &self.bound else {
            return Err(refused("legacy_token", "it is not bound to a pod: it is no projected token"));
        };
        let Some(pod) = &bound.pod else {
            return Err(refused("no_pod", "it is not bound to a pod"));
        };
        let (namespace, account) = (&bound.namespace, &bound.serviceaccount.name);
        if self.sub != format!("system:serviceaccount:{namespace}:{account}") {
            return Err(refused("malformed", "its subject is not the service account that it is bound to"));
        }
        let names = [namespace, account, &pod.name];
        if !names.into_iter().all(|name| is_name(name)) || !is_uid(&pod.uid) || !is_uid(&bound.serviceaccount.uid) {
            return Err(refused("malformed", "it has names that Kubernetes does not give"));
        }
        Ok((namespace.clone(), account.clone(), pod.name.clone(), pod.uid.clone()))
    }
}

/// A DNS subdomain (RFC 1123), which names of namespaces, accounts and pods are.
fn is_name(text: &str) -> bool {
    let edge = |byte: Option<&u8>| byte.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit());
    let bytes = text.as_bytes();
    bytes.len() <= 253
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|byte| edge(Some(byte)) || matches!(byte, b'-' | b'.'))
}

fn is_uid(text: &str) -> bool {
    (1..=64).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    const NOW: u64 = 1_800_000_000;

    fn claims() -> Value {
        json!({
            "iss": "https://k8s.example", "sub": "system:serviceaccount:default:web", "aud": ["example.org"],
            "iat": NOW - 60, "nbf": NOW - 60, "exp": NOW + 3000,
            "kubernetes.io": {
                "namespace": "default",
                "serviceaccount": { "name": "web", "uid": "8f0e" },
                "pod": { "name": "web-0", "uid": "6a1c" },
            },
        })
    }

    fn check(claims: Value) -> Result<Bearer, &'static str> {
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let claims: Claims = serde_json::from_value(claims).map_err(|_| "unreadable")?;
        claims.check("example.org", Some("https://k8s.example"), now).map_err(|rejected| match rejected {
            Rejected::Refused { reason, .. } => reason,
            Rejected::Unavailable(_) => "unavailable",
        })
    }

    #[test]
    fn a_projected_token_says_which_pod_it_is_of() {
        let bearer = check(claims()).unwrap();
        assert_eq!(bearer.to_string(), "system:serviceaccount:default:web of the pod web-0 (6a1c)");
        let mut one = claims();
        one["aud"] = json!("example.org");
        assert!(check(one).is_ok(), "one audience needs no list");
    }

    #[test]
    fn everything_that_is_not_for_us_now_is_refused_with_the_reason() {
        for (pointer, value, reason) in [
            ("/iss", json!("https://other.example"), "issuer"),
            ("/iss", Value::Null, "unreadable"),
            ("/aud", json!([]), "audience"),
            ("/aud", json!(["other.example"]), "audience"),
            ("/aud", json!(["example.org", "https://kubernetes.default.svc"]), "audience"),
            ("/aud", json!("example.org "), "audience"),
            ("/exp", Value::Null, "legacy_token"),
            ("/exp", json!(NOW - 60), "expired"),
            ("/exp", json!(-1), "unreadable"),
            ("/exp", json!(u64::MAX), "malformed"),
            ("/exp", json!(NOW + 3541), "lifetime"),
            ("/nbf", json!(NOW + 61), "not_yet_valid"),
            ("/nbf", Value::Null, "malformed"),
            ("/iat", json!(NOW + 61), "not_yet_valid"),
            ("/kubernetes.io", Value::Null, "legacy_token"),
            ("/kubernetes.io/pod", Value::Null, "no_pod"),
            ("/kubernetes.io/pod/name", json!("../admin"), "malformed"),
            ("/kubernetes.io/pod/uid", json!(""), "malformed"),
            ("/kubernetes.io/namespace", json!("kube-system"), "malformed"),
            ("/sub", json!("system:serviceaccount:default:admin"), "malformed"),
            ("/sub", json!("system:node:web"), "malformed"),
        ] {
            let mut changed = claims();
            *changed.pointer_mut(pointer).unwrap() = value.clone();
            assert_eq!(check(changed), Err(reason), "{pointer} = {value}");
        }
        let mut without = claims();
        without.as_object_mut().unwrap().remove("aud");
        assert_eq!(check(without), Err("audience"));
    }

    #[test]
    fn clocks_may_be_a_minute_apart() {
        for (key, value) in [("exp", NOW - 59), ("nbf", NOW + 60)] {
            let mut changed = claims();
            changed[key] = json!(value);
            changed["iat"] = json!(NOW - 600);
            assert!(check(changed).is_ok(), "{key}");
        }
    }
}
