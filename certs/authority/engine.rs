//! The authority as those who ask see it: attestors in front of the desk, and the identity of its own server.

use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use async_trait::async_trait;
use rcgen::CertificateParams;

use super::command::{Command, Refusal, Reply};
use super::csr::Csr;
use super::desk::Desk;
use super::issue::{Asked, Claim, No, token_of};
use super::keys::Key;
use super::nonce::{Nonces, Stale};
use super::open::OpenError;
use super::options::Options;
use super::{Denied, Issued, Issuer, Proof, Request};
use crate::attest::{Attestor, Challenge, Method, Presented, Rejected};
use crate::{Identity, TrustBundle};

/// How long to wait where too many nonces were used within a minute.
const PATIENCE: Duration = Duration::from_secs(5);

/// An authority that issues. Whoever opens it calls [`Authority::advance`] again and again, as it says.
#[derive(Debug)]
pub struct Authority {
    desk: Arc<Desk>,
    attestors: Vec<Arc<dyn Attestor>>,
    nonces: Mutex<Nonces>,
    serving: ArcSwap<Identity>,
}

impl Authority {
    /// Opens the authority in a directory; `attestors` say who is who. Blocks.
    pub fn open(directory: &Path, options: Options, attestors: Vec<Arc<dyn Attestor>>) -> Result<Self, OpenError> {
        let desk = Desk::open(directory, options)?;
        let failed = |denied: Denied| OpenError::Failed(denied.to_string());
        // It may have slept for long: an intermediate that has expired is replaced first.
        desk.advance().map_err(failed)?;
        let serving = ArcSwap::new(own(&desk, desk.now()).map_err(failed)?);
        Ok(Self { desk: Arc::new(desk), attestors, nonces: Mutex::new(Nonces::new()?), serving })
    }

    /// Returns the desk, where commands are done.
    #[must_use]
    pub fn desk(&self) -> &Arc<Desk> {
        &self.desk
    }

    /// Does what a command says. Blocks.
    pub fn execute(&self, command: Command) -> Result<Reply, Refusal> {
        let reply = self.desk.execute(command);
        self.refresh()?;
        reply
    }

    /// Makes what is due: steps of the hierarchy, records that expired, the identity of the authority's own server. Returns
    /// how long to wait before it is called again, 30 s at most. Blocks.
    pub fn advance(&self) -> Result<Duration, Denied> {
        let wait = self.desk.advance()?;
        self.refresh()?;
        let renewal = self.serving.load().renew_at(0.5).duration_since(self.desk.now()).unwrap_or_default();
        Ok(wait.min(renewal).max(Duration::from_millis(100)))
    }

    /// Renews what the server shows, at half of its life or when the bundle changed.
    fn refresh(&self) -> Result<(), Denied> {
        let now = self.desk.now();
        let serving = self.serving.load();
        let is_current = serving.bundle().sequence == self.desk.bundle().sequence;
        if !is_current || serving.renew_at(0.5) <= now {
            self.serving.store(own(&self.desk, now)?);
        }
        Ok(())
    }

    /// Finds what a proof claims; evidence is judged by its attestors.
    async fn claim(&self, request: &Request, csr: &Csr, proof: Proof, now: SystemTime) -> Result<Claim, No> {
        match proof {
            Proof::Embedded { .. } => Ok(Claim::Embedded),
            Proof::Renewal { chain } => Ok(Claim::Renewal(chain)),
            Proof::Evidence { method, evidence, nonce } => {
                self.take_nonce(&nonce, csr, now)?;
                if method == Method::JoinToken {
                    return Ok(token_of(&evidence)?);
                }
                let challenge =
                    Challenge { authority: self.desk.trust_domain().to_string(), nonce, key: csr.key.clone() };
                let presented = Presented { evidence: &evidence, challenge: &challenge, source: request.source, now };
                self.attested(method, &presented).await
            }
        }
    }

    async fn attested(&self, method: Method, presented: &Presented<'_>) -> Result<Claim, No> {
        let mut refused: Option<No> = None;
        for attestor in self.attestors.iter().filter(|attestor| attestor.method() == method) {
            match attestor.attest(presented).await {
                Ok(attested) if attested.method == method => return Ok(Claim::Evidence(attested)),
                Ok(attested) => {
                    let why = format!(
                        "an attestor of {method} proved by {}; this is a bug, please report it",
                        attested.method
                    );
                    return Err(Denied::Unavailable(why).into());
                }
                Err(Rejected::Refused { reason, why }) => {
                    refused.get_or_insert(No { denied: Denied::NotProved { reason }, detail: Some(why) });
                }
                // It might have been the one that takes it.
                Err(Rejected::Unavailable(why)) => {
                    refused = Some(Denied::Unavailable(format!("{method} cannot be checked now: {why}")).into());
                }
            }
        }
        Err(refused.unwrap_or_else(|| {
            let why =
                format!("this authority does not attest by {method}; a rule of `[ca] allow` names those that it does");
            Denied::NotAllowed { why }.into()
        }))
    }

    fn take_nonce(&self, nonce: &str, csr: &Csr, now: SystemTime) -> Result<(), No> {
        let mut nonces = self
            .nonces
            .lock()
            .map_err(|_| Denied::Unavailable("the authority failed before; restart it".to_owned()))?;
        nonces.take(nonce, &csr.key, now).map_err(|stale| {
            No::from(match stale {
                Stale::Foreign => Denied::NotProved { reason: "nonce" },
                Stale::Used => Denied::NotProved { reason: "nonce_used" },
                Stale::Full => Denied::Throttled { retry_after: PATIENCE },
            })
        })
    }
}

#[async_trait]
impl Issuer for Authority {
    fn bundle(&self) -> Arc<TrustBundle> {
        self.desk.bundle()
    }

    fn serving(&self) -> Arc<Identity> {
        self.serving.load_full()
    }

    fn challenge(&self, key: &str) -> Challenge {
        let nonce = match self.nonces.lock().map(|nonces| nonces.make(key, self.desk.now())) {
            Ok(Ok(nonce)) => nonce,
            // An empty one is never taken.
            _ => {
                tracing::error!("No challenge can be made: the system gives no random numbers.");
                String::new()
            }
        };
        Challenge { authority: self.desk.trust_domain().to_string(), nonce, key: key.to_owned() }
    }

    async fn issue(&self, request: &Request, proof: Proof) -> Result<Issued, Denied> {
        let now = self.desk.now();
        let mut asked = Asked { service: request.service.clone(), source: request.source, method: label(&proof) };
        if let Proof::Embedded { service } = &proof {
            asked.service = Some(service.clone());
        }
        let claimed = match Csr::parse(&request.csr) {
            Ok(csr) => self.claim(request, &csr, proof, now).await.map(|claim| (csr, claim)),
            Err(denied) => Err(denied.into()),
        };
        let desk = self.desk.clone();
        // The desk waits for the disk.
        let answered = tokio::task::spawn_blocking(move || desk.answer(&asked, claimed, now)).await;
        answered.unwrap_or_else(|_| Err(Denied::Unavailable("the authority failed; restart it".to_owned())))
    }
}

fn label(proof: &Proof) -> &'static str {
    match proof {
        Proof::Embedded { .. } => "embedded",
        Proof::Evidence { method, .. } => method.label(),
        Proof::Renewal { .. } => "renewal",
    }
}

/// Issues what the authority's own server shows, with a new key each time.
fn own(desk: &Desk, now: SystemTime) -> Result<Arc<Identity>, Denied> {
    let failed = |error: &dyn std::fmt::Display| Denied::Unavailable(format!("the authority's own identity: {error}"));
    let key = Key::generate().map_err(|error| failed(&error))?;
    let csr = CertificateParams::default().serialize_request(key.pair()).map_err(|error| failed(&error))?;
    let claimed = Csr::parse(csr.der()).map(|csr| (csr, Claim::Own)).map_err(Into::into);
    let asked = Asked { service: None, source: None, method: Claim::Own.label() };
    let issued = desk.answer(&asked, claimed, now)?;
    let identity = Identity::new(issued.chain, key.pkcs8(), issued.bundle, now).map_err(|error| failed(&error))?;
    Ok(Arc::new(identity))
}

#[cfg(test)]
mod tests;
