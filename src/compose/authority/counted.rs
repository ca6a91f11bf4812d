//! The authority, with what it does counted.

use std::sync::Arc;
use std::time::Instant;

use async_trait::async_trait;
use meshless_certs::attest::Challenge;
use meshless_certs::authority::server::Witness;
use meshless_certs::authority::{Denied, Issued, Issuer, Proof, Request};
use meshless_certs::{Identity, TrustBundle, ends};

use crate::telemetry::metrics::{AuthoritySeries, AuthorityStanding, Registry};

/// Counts what an issuer issues and refuses, whoever asks: the network, or the gateway of this process.
#[derive(Debug)]
pub(super) struct Counted {
    issuer: Arc<dyn Issuer>,
    series: AuthoritySeries,
}

/// Counts what the server does.
#[derive(Debug)]
pub(super) struct Counting(pub(super) AuthoritySeries);

impl Witness for Counting {
    fn answered(&self, request: &'static str, status: u16) {
        self.0.answered(request, status);
    }

    fn refused(&self, why: &'static str) {
        self.0.connection_refused(why);
    }
}

impl Counted {
    pub(super) fn new(issuer: Arc<dyn Issuer>, registry: &Arc<Registry>) -> Self {
        let asked = issuer.clone();
        let series = AuthoritySeries::new(registry, move || standing(&*asked));
        Self { issuer, series }
    }

    pub(super) fn series(&self) -> &AuthoritySeries {
        &self.series
    }
}

#[async_trait]
impl Issuer for Counted {
    fn bundle(&self) -> Arc<TrustBundle> {
        self.issuer.bundle()
    }

    fn serving(&self) -> Arc<Identity> {
        self.issuer.serving()
    }

    fn challenge(&self, key: &str) -> Challenge {
        self.issuer.challenge(key)
    }

    async fn issue(&self, request: &Request, proof: Proof) -> Result<Issued, Denied> {
        let (method, began) = (method(&proof), Instant::now());
        let outcome = self.issuer.issue(request, proof).await;
        match &outcome {
            Ok(_) => self.series.issued(method, began.elapsed()),
            Err(denied) => self.series.denied(denied.label(), began.elapsed()),
        }
        outcome
    }
}

fn method(proof: &Proof) -> &'static str {
    match proof {
        Proof::Embedded { .. } => "embedded",
        Proof::Evidence { method, .. } => method.label(),
        Proof::Renewal { .. } => "renewal",
    }
}

/// The authority's own leaf was signed by the intermediate that signs now.
fn standing(issuer: &dyn Issuer) -> Option<AuthorityStanding> {
    let (serving, bundle) = (issuer.serving(), issuer.bundle());
    Some(AuthorityStanding {
        intermediate: ends(serving.chain().get(1)?).ok()?,
        root: bundle.roots.iter().filter_map(|root| ends(root).ok()).min()?,
        roots: bundle.roots.len(),
        sequence: bundle.sequence,
    })
}
