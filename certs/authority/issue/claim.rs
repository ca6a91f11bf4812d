//! From a claim to an identity: policy, tokens, and what was issued before.

use std::time::SystemTime;

use super::{Asked, Claim, Grant, No};
use crate::attest::{Attested, Method};
use crate::authority::Denied;
use crate::authority::clock::seconds;
use crate::authority::desk::{Desk, Held, not_stored};
use crate::authority::policy::{self, Facts, id_of, service_of};
use crate::authority::record::{self, By, ISSUED, Read, Record, TOKENS};
use crate::authority::token::{Shown, Token};
use crate::{Refused, SpiffeId, Verifier};

impl Desk {
    /// Finds the identity that a claim gives, or says why there is none.
    pub(super) fn grant(&self, held: &mut Held, asked: &Asked, claim: Claim, now: SystemTime) -> Result<Grant, No> {
        let simple = |id, by| Grant { id, by, first: Vec::new(), token: None };
        match claim {
            Claim::Own => Ok(simple(self.own_id()?, By::Own)),
            Claim::Operator(id) => Ok(simple(id, By::Operator)),
            Claim::Embedded => {
                let service = asked.service.as_deref().unwrap_or_default();
                Ok(simple(id_of(&self.trust_domain, &format!("/svc/{service}"))?, By::Embedded))
            }
            Claim::Evidence(Attested { method, facts }) => {
                let facts: Facts = facts.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
                let path = policy::decide(held.rules(&self.options), method, &facts, asked.service.as_deref())?;
                Ok(simple(id_of(&self.trust_domain, &path)?, By::Evidence { method, facts }))
            }
            Claim::Token(text) => self.by_token(held, asked, &text, now),
            Claim::Renewal(chain) => {
                let verifier = Verifier::new(&self.bundle()).map_err(|why| unavailable(&why))?;
                let leaf = verifier.verify(&chain, now).map_err(not_proved)?;
                asked_for(asked, &leaf.id)?;
                self.by_renewal(held, &leaf.serial, leaf.id)
            }
        }
    }

    /// Reads a token.
    pub(crate) fn token(&self, id: &str) -> Result<Option<Read<Token>>, Denied> {
        record::read(self.store.as_ref(), &format!("{TOKENS}{id}")).map_err(|error| not_stored(&error))
    }

    fn by_token(&self, held: &mut Held, asked: &Asked, text: &str, now: SystemTime) -> Result<Grant, No> {
        held.throttle.tries(asked.source, now).map_err(|retry_after| Denied::Throttled { retry_after })?;
        let found = match Shown::parse(text) {
            Some(shown) => self.token(&shown.id)?.map(|token| (shown, token)),
            None => None,
        };
        let checked = found.ok_or("token_unknown").and_then(|(shown, token)| {
            token.value.check(&shown, asked.source, seconds(now), held.restored)?;
            Ok(token)
        });
        let Read { value: mut token, version } = checked.map_err(|reason| {
            held.throttle.failed(asked.source, now);
            // The public half says which one it was; a text that is none stays out of the log.
            let detail = Shown::parse(text).map(|shown| format!("token {}", shown.id));
            No { denied: Denied::NotProved { reason }, detail }
        })?;
        let id = id_of(&self.trust_domain, &token.path)?;
        asked_for(asked, &id)?;
        token.used = Some(seconds(now));
        let burn =
            record::put(&format!("{TOKENS}{}", token.id), &token, version).map_err(|error| not_stored(&error))?;
        Ok(Grant { id, by: By::Token(token.id.clone()), first: vec![burn], token: Some(token) })
    }

    /// What gave the identity must still give it.
    fn by_renewal(&self, held: &Held, serial: &str, id: SpiffeId) -> Result<Grant, No> {
        let known: Option<Read<Record>> =
            record::read(self.store.as_ref(), &format!("{ISSUED}{serial}")).map_err(|error| not_stored(&error))?;
        let record = match known {
            Some(known) if known.value.path == id.path() => known.value,
            // A backup does not know what was issued after it; it is for the workload to prove again what it is.
            _ => {
                return Err(No {
                    denied: Denied::NotProved { reason: "unknown_serial" },
                    detail: Some(format!("{id} {serial}")),
                });
            }
        };
        let again = "prove again what you are";
        let over = |why: String| Err(No::from(Denied::NotAllowed { why }));
        let mut token = None;
        match &record.by {
            By::Evidence { method, facts } => {
                let service = service_of(id.path()).ok();
                policy::decide(held.rules(&self.options), *method, facts, service)?;
            }
            By::Token(name) => match self.token(name)? {
                Some(read) if read.value.revoked.is_none() => token = Some(read.value),
                Some(_) => {
                    return over(format!("the join token `{name}`, by which `{id}` was issued, was revoked; {again}"));
                }
                None => {
                    return over(format!("the join token `{name}`, by which `{id}` was issued, is not known; {again}"));
                }
            },
            By::Operator => {
                return over(format!(
                    "`{id}` was issued by hand: issue it again by `meshless ca issue`, or add a rule"
                ));
            }
            By::Embedded | By::Own => {
                return over(format!("`{id}` belongs to the process of the authority, which asks for it there"));
            }
        }
        Ok(Grant { id, by: record.by, first: Vec::new(), token })
    }
}

/// Refuses to give another identity than the one that is asked for.
fn asked_for(asked: &Asked, id: &SpiffeId) -> Result<(), Denied> {
    match &asked.service {
        Some(service) if service_of(id.path()).ok() != Some(service) => {
            Err(Denied::NotAllowed { why: format!("`{service}` is asked for, what was proved is `{id}`") })
        }
        _ => Ok(()),
    }
}

fn not_proved(refused: Refused) -> No {
    No { denied: Denied::NotProved { reason: refused.label() }, detail: Some(refused.to_string()) }
}

fn unavailable(refused: &Refused) -> Denied {
    Denied::Unavailable(format!("the authority's own bundle cannot be used: {refused}"))
}

/// Returns the claim of evidence for a join token: `{"token": "mjt_…"}`.
pub(crate) fn token_of(evidence: &serde_json::Value) -> Result<Claim, Denied> {
    let malformed = || Denied::Malformed {
        reason: "evidence",
        why: format!("evidence of {} is an object with one key, `token`", Method::JoinToken),
    };
    match evidence.as_object().and_then(|object| object.get("token").filter(|_| object.len() == 1)) {
        Some(serde_json::Value::String(token)) => Ok(Claim::Token(zeroize::Zeroizing::new(token.clone()))),
        _ => Err(malformed()),
    }
}
