//! The authority is in this very process: nothing is attested, and no network is between.

use std::sync::Arc;

use async_trait::async_trait;

use super::channel::{Channel, Granted, Ours};
use crate::authority::{Denied, Issuer, Proof, Request};
use crate::{Identity, SourceError, TrustBundle};

#[derive(Debug)]
pub(super) struct Embedded {
    pub(super) issuer: Arc<dyn Issuer>,
    pub(super) service: String,
}

#[async_trait]
impl Channel for Embedded {
    async fn bundle(&mut self, _known: Option<&Arc<TrustBundle>>) -> Result<TrustBundle, SourceError> {
        Ok((*self.issuer.bundle()).clone())
    }

    async fn attest(&mut self, _known: Option<&Arc<TrustBundle>>) -> Result<Granted, SourceError> {
        let ours = Ours::generate()?;
        let request = Request { csr: ours.csr, service: Some(self.service.clone()), source: None };
        let proof = Proof::Embedded { service: self.service.clone() };
        let issued = self.issuer.issue(&request, proof).await.map_err(|denied| match denied {
            Denied::Throttled { retry_after } => SourceError::Throttled { retry_after: Some(retry_after) },
            Denied::Unavailable(why) => SourceError::Unreachable(format!("the authority of this process: {why}")),
            denied => SourceError::Denied(denied.to_string()),
        })?;
        Ok(Granted { key: ours.key, chain: issued.chain, bundle: (*issued.bundle).clone() })
    }

    async fn renew(&mut self, _identity: &Identity, known: Option<&Arc<TrustBundle>>) -> Result<Granted, SourceError> {
        self.attest(known).await
    }
}
