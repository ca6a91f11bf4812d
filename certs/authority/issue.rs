//! The decision: who asks, what for, by what; and the signature if all of it holds.
//!
//! Order matters. Cheap checks come first; limits come before anything is used up; a join token is burnt, and that is on
//! the disk, before anything is signed; the line in the audit log is on the disk before the certificate leaves.

mod claim;
#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::time::{Duration, SystemTime};

use rustls::pki_types::CertificateDer;

use super::audit::Line;
use super::certificate::{self, Validity};
use super::clock::{at, seconds, written};
use super::csr::Csr;
use super::desk::{Desk, Held, not_stored};
use super::record::{self, BLOCKED, Blocked, By, HOLDERS, Holder, ISSUED, ISSUING, Issuing, Read, Record};
use super::store::Change;
use super::{Denied, Issued};
use crate::SpiffeId;
use crate::attest::Attested;

pub(crate) use claim::token_of;

/// How far the clock may be behind the last certificate before nothing is issued (security.md, 2): what would be signed
/// then could be valid for longer than it should, by the true time.
const CLOCK_BACK: Duration = Duration::from_mins(5);

/// By what something is claimed.
#[derive(Debug)]
pub(crate) enum Claim {
    /// The process that the authority runs in.
    Embedded,
    /// Facts that an attestor proved.
    Evidence(Attested),
    /// A person says so.
    Operator(SpiffeId),
    /// The authority's own server.
    Own,
    /// An identity that it had before.
    Renewal(Vec<CertificateDer<'static>>),
    /// A join token, as it was shown.
    Token(zeroize::Zeroizing<String>),
}

impl Claim {
    /// Returns the word in the audit log.
    pub(crate) fn label(&self) -> &'static str {
        match self {
            Self::Embedded => "embedded",
            Self::Evidence(attested) => attested.method.label(),
            Self::Operator(_) => "operator",
            Self::Own => "own",
            Self::Renewal(_) => "renewal",
            Self::Token(_) => "join-token",
        }
    }
}

/// Who asks.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// The service that the asker wants to be.
    pub(crate) service: Option<String>,
    /// Where the question came from.
    pub(crate) source: Option<IpAddr>,
    /// The word in the audit log.
    pub(crate) method: &'static str,
}

/// A refusal, with what only the log should know.
#[derive(Debug)]
pub(crate) struct No {
    pub(crate) denied: Denied,
    pub(crate) detail: Option<String>,
}

impl From<Denied> for No {
    fn from(denied: Denied) -> Self {
        Self { denied, detail: None }
    }
}

/// What is to be issued, once it was found right.
struct Grant {
    id: SpiffeId,
    by: By,
    /// Changes that must be on the disk before anything is signed.
    first: Vec<Change>,
    /// What the token, if there is one, becomes with the certificate; its version comes with `first`.
    token: Option<super::token::Token>,
}

impl Desk {
    /// Decides about a request; every answer but `Throttled` is in the audit log before it is returned. Blocks.
    pub(crate) fn answer(
        &self,
        asked: &Asked,
        claimed: Result<(Csr, Claim), No>,
        now: SystemTime,
    ) -> Result<Issued, Denied> {
        let mut held = self.held()?;
        let key = claimed.as_ref().ok().map(|(csr, _)| csr.key.clone());
        let decided = claimed.and_then(|(csr, claim)| self.issue(&mut held, asked, &csr, claim, now));
        let No { denied, detail } = match decided {
            Ok(issued) => return Ok(issued),
            Err(no) => no,
        };
        // Who is told to wait learns nothing and gets nothing: that is counted, not written.
        if matches!(denied, Denied::Throttled { .. }) {
            return Err(denied);
        }
        if let Err(retry_after) = held.throttle.refuse(now) {
            return Err(Denied::Throttled { retry_after });
        }
        let reason = detail.map_or_else(|| denied.to_string(), |detail| format!("{denied}: {detail}"));
        tracing::info!(method = asked.method, reason = denied.label(), detail = %reason, "A certificate was refused.");
        let mut line = Line::new("refused").because(format!("{}: {reason}", denied.label()));
        line.method = Some(asked.method.to_owned());
        line.source = asked.source.map(|source| source.to_string());
        line.key = key;
        line.id = asked
            .service
            .as_ref()
            .and_then(|service| self.trust_domain.id(&format!("/svc/{service}")).ok())
            .map(|id| id.to_string());
        self.decide(&mut held, line, Vec::new(), now)?;
        Err(denied)
    }

    fn issue(&self, held: &mut Held, asked: &Asked, csr: &Csr, claim: Claim, now: SystemTime) -> Result<Issued, No> {
        check_clock(held.issuing.value, now)?;
        if held.hierarchy.value.has_key(&csr.key) {
            let why = "the key is one of the authority's own".to_owned();
            return Err(Denied::Malformed { reason: "key_of_authority", why }.into());
        }
        let Grant { id, by, first, token } = self.grant(held, asked, claim, now)?;
        csr.names_only(&id)?;
        let holder = self.holder(csr, &id, now)?;
        if self.blocked(id.path())?.is_some() {
            let why = format!("`{id}` is blocked (`meshless ca block`)");
            return Err(Denied::NotAllowed { why }.into());
        }
        held.throttle.issue(id.path(), now).map_err(|retry_after| Denied::Throttled { retry_after })?;
        let validity = self.validity(held, now)?;
        let burnt = if first.is_empty() { 0 } else { self.store.commit(&first).map_err(|error| not_stored(&error))? };

        let signer = held.signer.as_ref().ok_or_else(no_signer)?;
        let (leaf, serial) = certificate::leaf(&id, &csr.public_key, validity, (&signer.name, &signer.key))
            .map_err(|error| unsigned(&error))?;
        let chain = vec![leaf, signer.certificate.clone()];

        let Validity { not_after, .. } = validity;
        let time = seconds(now);
        let mut line = Line::new("issued");
        line.serial = Some(serial.clone());
        line.id = Some(id.to_string());
        line.method = Some(asked.method.to_owned());
        line.facts = by.facts();
        line.source = asked.source.map(|source| source.to_string());
        line.key = Some(csr.key.clone());
        line.not_after = Some(written(not_after));
        if asked.method == "renewal" {
            line = line.because(format!("first issued by {}", by.label()));
        }
        let record = Record { path: id.path().to_owned(), key: csr.key.clone(), by, time, not_after };
        let last_leaf = held.issuing.value.last_leaf.max(not_after);
        let issuing = Issuing { last: held.issuing.value.last.max(time), last_leaf };
        let holds = Holder { path: id.path().to_owned(), not_after: holder.value.not_after.max(not_after) };
        let mut changes = vec![
            record::put(&format!("{ISSUED}{serial}"), &record, 0),
            record::put(&format!("{HOLDERS}{}", csr.key), &holds, holder.version),
            record::put(ISSUING, &issuing, held.issuing.version),
        ];
        if let Some(mut token) = token {
            let was = if burnt == 0 { self.token(&token.id)?.map_or(0, |read| read.version) } else { burnt };
            token.needed = token.needed.max(not_after);
            changes.push(record::put(&format!("{}{}", record::TOKENS, token.id), &token, was));
        }
        let changes = changes.into_iter().collect::<Result<Vec<_>, _>>().map_err(|error| not_stored(&error))?;
        let version = self.decide(held, line, changes, now)?;
        held.issuing = Read { value: issuing, version };
        Ok(Issued { id, chain, bundle: self.bundle(), not_after: at(not_after) })
    }

    fn validity(&self, held: &Held, now: SystemTime) -> Result<Validity, Denied> {
        let signer = held.signer.as_ref().ok_or_else(no_signer)?;
        let now = seconds(now);
        if now >= signer.not_after {
            return Err(Denied::Unavailable(
                "the authority's intermediate has expired; it needs the root's key: `meshless ca rotate intermediate --root-key FILE`"
                    .to_owned(),
            ));
        }
        Ok(Validity::from(now, self.options.leaf_ttl.as_secs(), signer.not_after))
    }

    /// Returns whose the key is; an error if it is another's.
    fn holder(&self, csr: &Csr, id: &SpiffeId, now: SystemTime) -> Result<Read<Holder>, Denied> {
        let known: Option<Read<Holder>> =
            record::read(self.store.as_ref(), &format!("{HOLDERS}{}", csr.key)).map_err(|error| not_stored(&error))?;
        let new = Holder { path: id.path().to_owned(), not_after: 0 };
        match known {
            Some(known) if known.value.path != id.path() && known.value.not_after > seconds(now) => {
                let why = "the key has a certificate of another identity; make a key for each".to_owned();
                Err(Denied::Malformed { reason: "key_of_other", why })
            }
            Some(known) => {
                Ok(Read { value: Holder { not_after: known.value.not_after, ..new }, version: known.version })
            }
            None => Ok(Read { value: new, version: 0 }),
        }
    }

    pub(crate) fn blocked(&self, path: &str) -> Result<Option<Read<Blocked>>, Denied> {
        record::read(self.store.as_ref(), &format!("{BLOCKED}{path}")).map_err(|error| not_stored(&error))
    }
}

/// Refuses to issue by a clock that went back, and says so where it went back a little.
fn check_clock(issuing: Issuing, now: SystemTime) -> Result<(), Denied> {
    let Ok(back) = at(issuing.last).duration_since(now) else { return Ok(()) };
    if back > CLOCK_BACK {
        tracing::error!(seconds = back.as_secs(), "The clock is behind the last certificate; nothing is issued.");
        return Err(Denied::Unavailable(format!(
            "the authority's clock is {} s behind its last certificate; set it right",
            back.as_secs()
        )));
    }
    if !back.is_zero() {
        tracing::warn!(seconds = back.as_secs(), "The clock went back behind the last certificate.");
    }
    Ok(())
}

fn no_signer() -> Denied {
    Denied::Unavailable("the authority has no intermediate that signs; see `meshless ca status`".to_owned())
}

fn unsigned(error: &certificate::Unsigned) -> Denied {
    tracing::error!(%error, "A certificate could not be signed.");
    Denied::Unavailable(error.to_string())
}
