//! Kubernetes: a pod proves by the token of its service account, which kubelet projects into it for this authority alone.
//!
//! The token is asked of the API server (`review`) or verified by the issuer's keys (`keys`); in both cases what it says is
//! read here too (`claims`), so that neither a token for somebody else nor one that never ends is taken. A token is bound to the
//! authority by its audience, not to a nonce or a key: `uses` bounds for how many keys one token may be shown.

mod claims;
mod keys;
mod review;
mod uses;

use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

use async_trait::async_trait;
use serde::Deserialize;
use serde_json::json;

use claims::{Bearer, Claims};
use keys::Keys;
use review::Review;
use uses::Uses;

use super::evidence::{self, fingerprint, refused};
use super::jwt::{Bad, MAX_TOKEN, Token};
use super::{Attested, Attestor, Challenge, Method, Presented, Prover, Rejected};
use crate::{Anchors, SourceError};

/// Proves by the token in a file, which is read for each proof: kubelet replaces it.
#[derive(Debug)]
pub struct ServiceAccount {
    file: PathBuf,
}

impl ServiceAccount {
    /// Proves by the token in `file`.
    #[must_use]
    pub fn new(file: PathBuf) -> Self {
        Self { file }
    }
}

#[async_trait]
impl Prover for ServiceAccount {
    fn method(&self) -> Method {
        Method::Kubernetes
    }

    async fn prove(&self, challenge: &Challenge) -> Result<serde_json::Value, SourceError> {
        let path = self.file.display();
        let text = tokio::fs::read_to_string(&self.file).await.map_err(|error| {
            SourceError::Malformed(format!(
                "the service account token {path} cannot be read: {error}; project one into the pod"
            ))
        })?;
        let token = text.trim();
        let audience = Token::parse(token)
            .and_then(|token| token.claims::<Claims>())
            .map_err(|bad| SourceError::Malformed(format!("{path} has no service account token in it: {bad}")))?;
        // A token for the API server must never leave for somebody else, who could use it there.
        if !audience.is_for(&challenge.authority) {
            return Err(SourceError::Malformed(format!(
                "the service account token {path} is not for the authority alone; project one with \
                 `audience: {}`",
                challenge.authority
            )));
        }
        Ok(json!({ "token": token }))
    }
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    token: String,
}

/// A cluster whose service accounts are believed.
#[derive(Debug)]
pub struct Cluster {
    name: String,
    /// What `iss` must be; `None`: the API server alone decides.
    issuer: Option<String>,
    how: How,
}

#[derive(Debug)]
enum How {
    Keys(Keys),
    Review(Review),
}

impl Cluster {
    /// Asks the API server at `address` (`https://HOST:PORT`) about each token, as who the token in `token_file` says.
    #[must_use]
    pub fn by_review(name: &str, issuer: Option<String>, address: &str, anchors: Anchors, token_file: PathBuf) -> Self {
        Self { name: name.to_owned(), issuer, how: How::Review(Review::new(address, anchors, token_file)) }
    }

    /// Verifies each token by the keys that the issuer publishes (OpenID Connect Discovery).
    #[must_use]
    pub fn by_issuer(name: &str, issuer: &str, anchors: Anchors) -> Self {
        let keys = Keys::published(issuer, anchors);
        Self { name: name.to_owned(), issuer: Some(issuer.to_owned()), how: How::Keys(keys) }
    }

    /// Verifies each token by the keys in a file (JWKS), which is read each time.
    #[must_use]
    pub fn by_file(name: &str, issuer: &str, file: PathBuf) -> Self {
        Self { name: name.to_owned(), issuer: Some(issuer.to_owned()), how: How::Keys(Keys::file(file)) }
    }

    async fn bearer(&self, token: &Token<'_>, text: &str, presented: &Presented<'_>) -> Result<Bearer, Rejected> {
        let authority = &presented.challenge.authority;
        let claims: Claims = token.claims().map_err(not_taken)?;
        // What its words alone say is looked at first: nobody is asked about a token that is not for us.
        let bearer = claims.check(authority, self.issuer.as_deref(), presented.now)?;
        match &self.how {
            How::Keys(keys) => keys.verify(token).await?,
            How::Review(review) => {
                let user = review.ask(text, authority).await?;
                if !user.is(&bearer) {
                    let why = format!("the API server says that it is {user}, the token says {bearer}");
                    return Err(refused("not_authenticated", why));
                }
            }
        }
        Ok(bearer)
    }
}

/// Takes tokens of service accounts of one or more clusters.
///
/// Facts: `cluster` (its name here), `namespace`, `service_account`, `pod`, `pod_uid`.
#[derive(Debug)]
pub struct ServiceAccounts {
    clusters: Vec<Cluster>,
    uses: Mutex<Uses>,
}

impl ServiceAccounts {
    /// Takes tokens of these clusters. Where there are several, each should name its issuer: it tells which one to ask.
    #[must_use]
    pub fn new(clusters: Vec<Cluster>) -> Self {
        Self { clusters, uses: Mutex::default() }
    }

    /// Finds the cluster that a token is of. Issuers of different clusters may have the same name, so every one of that name is
    /// asked until one knows the token.
    async fn of(&self, token: &Token<'_>, text: &str, presented: &Presented<'_>) -> Result<(&str, Bearer), Rejected> {
        let mut rejected = refused("issuer", "no cluster is configured".to_owned());
        for cluster in &self.clusters {
            match cluster.bearer(token, text, presented).await {
                Ok(bearer) => return Ok((&cluster.name, bearer)),
                Err(error) => rejected = worth_more(rejected, error),
            }
        }
        Err(rejected)
    }
}

/// Of two reasons, the one that says more: a cluster that cannot be asked leaves it open, and another issuer is no finding about
/// a token.
fn worth_more(left: Rejected, right: Rejected) -> Rejected {
    let weight = |rejected: &Rejected| match rejected {
        Rejected::Unavailable(_) => 2,
        Rejected::Refused { reason: "issuer", .. } => 0,
        Rejected::Refused { .. } => 1,
    };
    if weight(&right) >= weight(&left) { right } else { left }
}

#[async_trait]
impl Attestor for ServiceAccounts {
    fn method(&self) -> Method {
        Method::Kubernetes
    }

    async fn attest(&self, presented: &Presented<'_>) -> Result<Attested, Rejected> {
        let Evidence { token: text } = evidence::read(presented.evidence)?;
        if text.len() > MAX_TOKEN {
            return Err(refused("malformed", "the token is too long"));
        }
        let token = Token::parse(&text).map_err(not_taken)?;
        let (cluster, bearer) = self.of(&token, &text, presented).await?;
        let first = self.uses.lock().unwrap_or_else(PoisonError::into_inner).note(
            &fingerprint(text.as_bytes()),
            &presented.challenge.key,
            bearer.ends,
            presented.now,
        )?;
        if !first {
            // A restart without a state directory looks like this, and so does a token that was read by somebody else.
            tracing::info!(%bearer, source = ?presented.source, "A service account token was shown for another key.");
        }
        let Bearer { namespace, service_account, pod, pod_uid, .. } = bearer;
        Ok(Attested {
            method: Method::Kubernetes,
            facts: vec![
                ("cluster", cluster.to_owned()),
                ("namespace", namespace),
                ("service_account", service_account),
                ("pod", pod),
                ("pod_uid", pod_uid),
            ],
        })
    }
}

fn not_taken(bad: Bad) -> Rejected {
    let reason = match bad {
        Bad::Malformed(_) => "malformed",
        Bad::Algorithm => "algorithm",
        Bad::UnknownKey => "unknown_key",
        Bad::Signature => "signature",
    };
    refused(reason, format!("the token: {bad}"))
}

#[cfg(test)]
mod tests;
