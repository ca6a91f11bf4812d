//! The authority is somewhere else.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use reqwest::Url;
use serde::Serialize;

use super::channel::{Channel, Granted, Ours};
use super::pin::{Pin, Trusted};
use super::wire::{Failure, Wire};
use crate::attest::{Challenge, Prover};
use crate::authority::protocol::{
    BUNDLE, BundleBody, CHALLENGE, ChallengeBody, ChallengeRequest, ISSUE, IssueRequest, IssuedBody, RENEW,
    RenewRequest, read_chain,
};
use crate::{Identity, SourceError, TrustBundle, TrustDomain, pem};

/// How long a request whose answer was lost is sent again as it was. The authority keeps answers for ten minutes.
const REPEAT: Duration = Duration::from_mins(9);

pub(super) struct Remote {
    pub(super) url: Url,
    pub(super) pin: Pin,
    pub(super) trust_domain: TrustDomain,
    pub(super) service: Option<String>,
    pub(super) prover: Arc<dyn Prover>,
    pub(super) lost: Option<Lost>,
}

/// A request that may have been answered, with the key that it is for.
pub(super) struct Lost {
    path: &'static str,
    /// Serial number of the certificate that it was sent under, if any.
    serial: Option<String>,
    ours: Ours,
    body: Vec<u8>,
    sent: Instant,
}

/// Keys and evidence stay out.
impl fmt::Debug for Remote {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Remote")
            .field("url", &self.url.as_str())
            .field("pin", &self.pin)
            .field("prover", &self.prover)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl Channel for Remote {
    async fn bundle(&mut self, known: Option<&Arc<TrustBundle>>) -> Result<TrustBundle, SourceError> {
        let wire = self.wire(known, None).await?;
        let body: BundleBody = wire.get(BUNDLE).await.map_err(Failure::into_error)?;
        self.read(&body)
    }

    async fn attest(&mut self, known: Option<&Arc<TrustBundle>>) -> Result<Granted, SourceError> {
        let wire = self.wire(known, None).await?;
        if let Some(lost) = self.take_lost(ISSUE, None) {
            match self.send(&wire, lost).await {
                // It is not known any more: begin anew.
                Err(Failure::Answered(SourceError::Denied(why))) => {
                    tracing::debug!(why, "A request whose answer was lost is refused.");
                }
                outcome => return outcome.map_err(Failure::into_error),
            }
        }
        let ours = Ours::generate()?;
        let key = ours.hash.digits();
        let body = to_json(&ChallengeRequest { key: key.clone() })?;
        let challenge: ChallengeBody = wire.post(CHALLENGE, body).await.map_err(Failure::into_error)?;
        // Evidence is made for this authority and this key, whatever the answer names.
        if challenge.key != key || challenge.authority != self.trust_domain.as_str() {
            return Err(SourceError::Malformed(format!(
                "the challenge is for the trust domain `{}` or for another key; ours is `{}`",
                challenge.authority.escape_default(),
                self.trust_domain
            )));
        }
        let challenge = Challenge { authority: challenge.authority, nonce: challenge.nonce, key };
        let evidence = self.prover.prove(&challenge).await?;
        let body = to_json(&IssueRequest {
            csr: pem::encode("CERTIFICATE REQUEST", &ours.csr),
            method: self.prover.method(),
            evidence,
            nonce: challenge.nonce,
            service: self.service.clone(),
        })?;
        self.send(&wire, Lost { path: ISSUE, serial: None, ours, body, sent: Instant::now() })
            .await
            .map_err(Failure::into_error)
    }

    async fn renew(&mut self, identity: &Identity, known: Option<&Arc<TrustBundle>>) -> Result<Granted, SourceError> {
        let wire = self.wire(known, Some(identity)).await?;
        let serial = identity.leaf().serial.clone();
        let lost = if let Some(lost) = self.take_lost(RENEW, Some(&serial)) {
            lost
        } else {
            let ours = Ours::generate()?;
            let body = to_json(&RenewRequest { csr: pem::encode("CERTIFICATE REQUEST", &ours.csr) })?;
            Lost { path: RENEW, serial: Some(serial), ours, body, sent: Instant::now() }
        };
        match self.send(&wire, lost).await {
            Err(Failure::Closed(SourceError::Unreachable(why))) => {
                // A server that does not take our certificate closes the connection, which looks like this from here.
                // One that answers who shows none is there: it is the certificate.
                match self.bundle(known).await {
                    Ok(_) => Err(SourceError::Denied(format!("it answers, but not who shows this certificate: {why}"))),
                    Err(_) => Err(SourceError::Unreachable(why)),
                }
            }
            outcome => outcome.map_err(Failure::into_error),
        }
    }
}

impl Remote {
    async fn wire(&self, known: Option<&Arc<TrustBundle>>, shown: Option<&Identity>) -> Result<Wire, SourceError> {
        let mut bundles: Vec<_> = known.cloned().into_iter().collect();
        let mut key = None;
        match &self.pin {
            Pin::Key(pin) => key = Some(*pin),
            Pin::File(path) => {
                let unusable = |why: String| SourceError::Malformed(format!("identity.authority_bundle: {why}"));
                let text = tokio::fs::read(path).await;
                let text = text.map_err(|why| unusable(format!("{}: {why}", path.display())))?;
                let bundle = TrustBundle::from_pem(self.trust_domain.clone(), &text, path);
                bundles.push(Arc::new(bundle.map_err(|why| unusable(why.to_string()))?));
            }
        }
        Wire::new(&self.url, &Trusted { trust_domain: self.trust_domain.clone(), bundles, key }, shown)
    }

    fn take_lost(&mut self, path: &str, serial: Option<&str>) -> Option<Lost> {
        let lost = self.lost.take()?;
        let is_same = lost.path == path && lost.serial.as_deref() == serial && lost.sent.elapsed() < REPEAT;
        is_same.then_some(lost)
    }

    /// Sends a request, and keeps it where it was neither granted nor refused: the answer may be there the next time.
    async fn send(&mut self, wire: &Wire, lost: Lost) -> Result<Granted, Failure> {
        let issued: IssuedBody = match wire.post(lost.path, lost.body.clone()).await {
            Ok(issued) => issued,
            Err(failure) => {
                if !matches!(failure, Failure::Answered(SourceError::Denied(_) | SourceError::Malformed(_))) {
                    self.lost = Some(lost);
                }
                return Err(failure);
            }
        };
        let malformed = |why| Failure::Answered(SourceError::Malformed(why));
        let chain = read_chain(&issued.chain).map_err(malformed)?;
        let bundle = self.read(&issued.bundle).map_err(Failure::Answered)?;
        Ok(Granted { key: lost.ours.key, chain, bundle })
    }

    fn read(&self, body: &BundleBody) -> Result<TrustBundle, SourceError> {
        let bundle = body.read().map_err(SourceError::Malformed)?;
        if bundle.trust_domain == self.trust_domain {
            return Ok(bundle);
        }
        Err(SourceError::Malformed(format!(
            "the authority is that of the trust domain `{}`, ours is `{}`",
            bundle.trust_domain, self.trust_domain
        )))
    }
}

fn to_json(body: &impl Serialize) -> Result<Vec<u8>, SourceError> {
    serde_json::to_vec(body).map_err(|why| SourceError::Malformed(why.to_string()))
}
