//! Commands, done. Each that changes something is a line in the audit log.

use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use super::audit::{self, Line};
use super::clock::{seconds, written};
use super::command::{Command, LinkView, PlannedView, Refusal, RefusalKind, Reply, Secret, Status};
use super::csr::Csr;
use super::desk::{Desk, Held, not_stored};
use super::directory;
use super::hierarchy::{Authority as Link, Phase};
use super::issue::{Asked, Claim};
use super::keys::Key;
use super::policy::{Rule, id_of};
use super::record::{self, BLOCKED, Blocked, ENTRIES, Entry, ISSUED, Read, Record, TOKENS};
use super::rotate::RotateError;
use super::store::{Change, StoreError};
use super::token::{self, Cidr, DEFAULT_TTL, LONGEST_TTL, Token};
use super::{Denied, random};
use crate::{SpiffeId, pem};

impl From<Denied> for Refusal {
    fn from(denied: Denied) -> Self {
        let kind = match denied {
            Denied::Malformed { .. } => RefusalKind::Wrong,
            Denied::NotProved { .. } | Denied::NotAllowed { .. } => RefusalKind::NotAllowed,
            Denied::Throttled { .. } | Denied::Unavailable(_) => RefusalKind::Failed,
        };
        Self { kind, why: denied.to_string() }
    }
}

impl From<StoreError> for Refusal {
    fn from(error: StoreError) -> Self {
        not_stored(&error).into()
    }
}

impl From<RotateError> for Refusal {
    fn from(error: RotateError) -> Self {
        match error {
            RotateError::Denied(denied) => denied.into(),
            other => Self::wrong(other),
        }
    }
}

impl From<random::NoRandom> for Refusal {
    fn from(error: random::NoRandom) -> Self {
        Self::failed(error)
    }
}

impl Desk {
    /// Does what a command says. Blocks.
    pub fn execute(&self, command: Command) -> Result<Reply, Refusal> {
        match command {
            Command::AuditVerify => self.verify_audit(),
            Command::Backup { passphrase } => self.backup(&passphrase),
            Command::Block { id } => self.block(&id),
            Command::Bundle => Ok(self.bundle_reply()),
            Command::EntryAdd { rule } => self.add_entry(rule),
            Command::EntryList => {
                Ok(Reply::Entries(self.held()?.entries.iter().map(|read| read.value.clone()).collect()))
            }
            Command::EntryRemove { id } => self.remove_entry(&id),
            Command::Issue { csr, id } => self.issue_by_hand(&csr, &id),
            Command::RotateIntermediate { root_key, now } => self.rotate_intermediate(root_key.as_ref(), now),
            Command::RotateRoot { root_key, now } => self.rotate_root(root_key.as_ref(), now),
            Command::Status => self.status().map(|status| Reply::Status(Box::new(status))),
            Command::TokenCreate { id, ttl, cidr } => self.create_token(&id, ttl.unwrap_or(DEFAULT_TTL), cidr),
            Command::TokenList => self.list_tokens(),
            Command::TokenRevoke { id } => self.revoke_token(&id),
            Command::Unblock { id } => self.unblock(&id),
        }
    }

    /// Reads an identity as people write it.
    fn id(&self, text: &str) -> Result<SpiffeId, Refusal> {
        let prefix = format!("spiffe://{}", self.trust_domain);
        let path = match text.strip_prefix(&prefix) {
            Some(path) => path,
            None if text.starts_with("spiffe:") => {
                return Err(Refusal::wrong(format!("`{text}` is not of the trust domain `{}`", self.trust_domain)));
            }
            None => text,
        };
        Ok(id_of(&self.trust_domain, path)?)
    }

    fn verify_audit(&self) -> Result<Reply, Refusal> {
        // Nobody writes meanwhile, and nobody is let in: a log that was changed is worth the wait.
        let held = self.held()?;
        let lines = audit::verify(&self.directory.join(directory::AUDIT), held.log.head()).map_err(|broken| {
            Refusal::failed(format!(
                "the audit log is not what was written: {broken}; keep a copy of it and find out who changed it"
            ))
        })?;
        Ok(Reply::AuditVerified { lines })
    }

    fn bundle_reply(&self) -> Reply {
        let bundle = self.bundle();
        let pins = bundle.roots.iter().filter_map(super::csr::key_of).map(|key| format!("sha256:{key}")).collect();
        let trust_domain = bundle.trust_domain.to_string();
        Reply::Bundle { trust_domain, sequence: bundle.sequence, roots: bundle.to_pem(), pins }
    }

    fn block(&self, id: &str) -> Result<Reply, Refusal> {
        let id = self.id(id)?;
        let (now, mut held) = (self.now(), self.held()?);
        if self.blocked(id.path())?.is_some() {
            return Err(Refusal::wrong(format!("`{id}` is blocked already")));
        }
        let blocked = Blocked { path: id.path().to_owned(), since: seconds(now) };
        let change = record::put(&format!("{BLOCKED}{}", id.path()), &blocked, 0)?;
        self.note(&mut held, "blocked", Some(&id), None, vec![change])?;
        Ok(Reply::Done {
            what: format!("`{id}` gets no certificate any more; those that it has are valid until they end"),
        })
    }

    fn unblock(&self, id: &str) -> Result<Reply, Refusal> {
        let id = self.id(id)?;
        let mut held = self.held()?;
        let known = self.blocked(id.path())?.ok_or_else(|| Refusal::wrong(format!("`{id}` is not blocked")))?;
        let change = Change::delete(format!("{BLOCKED}{}", id.path()), known.version);
        self.note(&mut held, "unblocked", Some(&id), None, vec![change])?;
        Ok(Reply::Done { what: format!("`{id}` may get certificates again") })
    }

    fn add_entry(&self, rule: Rule) -> Result<Reply, Refusal> {
        let (now, mut held) = (self.now(), self.held()?);
        if let Some(same) = held.entries.iter().find(|entry| entry.value.rule == rule) {
            return Err(Refusal::wrong(format!("entry {} is the same rule", same.value.id)));
        }
        let id = crate::hex(&random::bytes::<4>()?);
        let entry = Entry { id, rule, created: seconds(now) };
        let change = record::put(&format!("{ENTRIES}{}", entry.id), &entry, 0)?;
        let what = format!("{}: {}", entry.id, entry.rule);
        let version = self.note(&mut held, "entry_added", None, Some(what), vec![change])?;
        held.entries.push(Read { value: entry.clone(), version });
        Ok(Reply::EntryAdded(entry))
    }

    fn remove_entry(&self, id: &str) -> Result<Reply, Refusal> {
        let mut held = self.held()?;
        let Some(place) = held.entries.iter().position(|entry| entry.value.id == id) else {
            return Err(Refusal::wrong(format!("there is no entry `{id}`; `meshless ca entry list` shows them")));
        };
        let known = held.entries.remove(place);
        let change = Change::delete(format!("{ENTRIES}{id}"), known.version);
        let what = format!("{id}: {}", known.value.rule);
        if let Err(refusal) = self.note(&mut held, "entry_removed", None, Some(what.clone()), vec![change]) {
            held.entries.insert(place, known);
            return Err(refusal);
        }
        Ok(Reply::Done { what: format!("entry {what} is removed; what it gave is not renewed") })
    }

    fn issue_by_hand(&self, csr: &str, id: &str) -> Result<Reply, Refusal> {
        let id = self.id(id)?;
        let csr =
            STANDARD.decode(csr).map_err(|error| Refusal::wrong(format!("the request is not base64: {error}")))?;
        let asked = Asked { service: None, source: None, method: "operator" };
        let claimed = Csr::parse(&csr).map(|csr| (csr, Claim::Operator(id))).map_err(Into::into);
        let issued = self.answer(&asked, claimed, self.now())?;
        let (chain, not_after) = (pem::encode_chain(&issued.chain), seconds(issued.not_after));
        Ok(Reply::Issued { id: issued.id.to_string(), chain, not_after })
    }

    fn rotate_intermediate(&self, root_key: Option<&Secret>, at_once: bool) -> Result<Reply, Refusal> {
        let (now, given, mut held) = (self.now(), given(root_key)?, self.held()?);
        let root = held.hierarchy.value.root().map(|root| root.number).unwrap_or_default();
        let prepared = held.hierarchy.value.next_signer(root).map(|link| link.name.clone());
        let name = match prepared {
            // It was prepared already; what is asked for is that it signs.
            Some(name) if at_once => name,
            _ => self.prepare_intermediate(&mut held, given, now)?,
        };
        if at_once {
            self.activate_intermediate(&mut held, now)?;
            return Ok(Reply::Rotated { what: format!("{name} signs from now on"), root: None });
        }
        Ok(Reply::Rotated { what: format!("{name} is prepared; `meshless ca status` says when it signs"), root: None })
    }

    fn rotate_root(&self, root_key: Option<&Secret>, at_once: bool) -> Result<Reply, Refusal> {
        let (now, given, mut held) = (self.now(), given(root_key)?, self.held()?);
        if at_once {
            let name = self.activate_root(&mut held, now)?;
            let what = format!(
                "{name} under the new root signs from now on; whoever has not asked for the bundle since it was prepared \
                 does not know that root yet"
            );
            return Ok(Reply::Rotated { what, root: None });
        }
        let root = self.prepare_root(&mut held, given, now)?;
        let at = seconds(now) + self.options.timing().overlap;
        let what = format!("a new root is in the bundle; it signs from {}", written(at));
        Ok(Reply::Rotated { what, root: Some(root) })
    }

    fn create_token(&self, id: &str, ttl: Duration, cidr: Option<Cidr>) -> Result<Reply, Refusal> {
        let id = self.id(id)?;
        if ttl < Duration::from_secs(1) || ttl > LONGEST_TTL {
            return Err(Refusal::wrong("a join token is good from 1s to 24h"));
        }
        let (now, mut held) = (self.now(), self.held()?);
        let (text, kept) = token::mint(random::bytes()?, &random::bytes()?, id.path(), cidr, (seconds(now), ttl));
        let change = record::put(&format!("{TOKENS}{}", kept.id), &kept, 0)?;
        let from = cidr.map_or_else(String::new, |cidr| format!(", from {cidr}"));
        let what = format!("{}: until {}{from}", kept.id, written(kept.expires));
        self.note(&mut held, "token_created", Some(&id), Some(what), vec![change])?;
        Ok(Reply::TokenCreated { token: Secret::new(text), kept })
    }

    fn list_tokens(&self) -> Result<Reply, Refusal> {
        let _held = self.held()?;
        let store = self.store.as_ref();
        let mut tokens: Vec<_> =
            record::list::<Token>(store, TOKENS)?.into_iter().map(|(_, read)| read.value).collect();
        tokens.sort_by_key(|token| token.created);
        let blocked = record::list::<Blocked>(store, BLOCKED)?.into_iter().map(|(_, read)| read.value).collect();
        Ok(Reply::Tokens { tokens, blocked })
    }

    fn revoke_token(&self, id: &str) -> Result<Reply, Refusal> {
        let (now, mut held) = (self.now(), self.held()?);
        let Some(Read { value: mut token, version }) = self.token(id)? else {
            return Err(Refusal::wrong(format!("there is no join token `{id}`; `meshless ca token list` shows them")));
        };
        if token.revoked.is_some() {
            return Err(Refusal::wrong(format!("the join token `{id}` was revoked already")));
        }
        token.revoked = Some(seconds(now));
        let change = record::put(&format!("{TOKENS}{id}"), &token, version)?;
        let of = id_of(&self.trust_domain, &token.path)?;
        self.note(&mut held, "token_revoked", Some(&of), Some(id.to_owned()), vec![change])?;
        Ok(Reply::Done {
            what: format!("the join token `{id}` is worth nothing any more, and what it gave is not renewed"),
        })
    }

    fn status(&self) -> Result<Status, Refusal> {
        let (now, held) = (seconds(self.now()), self.held()?);
        let store = self.store.as_ref();
        let tokens = record::list::<Token>(store, TOKENS)?;
        let usable = |token: &Token| {
            token.used.is_none()
                && token.revoked.is_none()
                && token.expires > now
                && held.restored.is_none_or(|restored| token.created > restored)
        };
        let issued = record::list::<Record>(store, ISSUED)?;
        let hierarchy = &held.hierarchy.value;
        let plan = hierarchy.plan(self.options.timing());
        let blocked = record::list::<Blocked>(store, BLOCKED)?.into_iter().map(|(_, read)| read.value.path).collect();
        Ok(Status {
            trust_domain: self.trust_domain.to_string(),
            sequence: hierarchy.sequence,
            roots: hierarchy.roots.iter().map(view).collect(),
            intermediates: hierarchy.intermediates.iter().map(view).collect(),
            next: plan.into_iter().map(|step| PlannedView { at: step.at, what: step.step.text().to_owned() }).collect(),
            issued: issued.iter().filter(|(_, read)| read.value.not_after > now).count(),
            last_issued: held.issuing.value.last,
            tokens: tokens.iter().filter(|(_, read)| usable(&read.value)).count(),
            rules: self.options.rules.len(),
            entries: held.entries.len(),
            blocked,
            audit_lines: held.log.head().lines,
            restored: held.restored,
            now,
            sealed: self.options.passphrase.is_some(),
        })
    }

    /// Writes down what a person did.
    pub(crate) fn note(
        &self,
        held: &mut Held,
        decision: &str,
        id: Option<&SpiffeId>,
        what: Option<String>,
        changes: Vec<Change>,
    ) -> Result<u64, Refusal> {
        let mut line = Line::new(decision);
        line.id = id.map(ToString::to_string);
        line.method = Some("operator".to_owned());
        if let Some(what) = what {
            line = line.because(what);
        }
        Ok(self.decide(held, line, changes, self.now())?)
    }
}

fn given(key: Option<&Secret>) -> Result<Option<Key>, Refusal> {
    key.map(|key| Key::from_pem(key.expose(), None)).transpose().map_err(Refusal::wrong)
}

fn view(link: &Link) -> LinkView {
    let (phase, time) = match link.phase {
        Phase::Prepared { since } => ("prepared", since),
        Phase::Active { since } => ("active", since),
        Phase::Retiring { until } => ("retiring", until),
    };
    LinkView {
        name: link.name.clone(),
        phase: phase.to_owned(),
        time,
        not_after: link.not_after,
        key: link.key.clone(),
        key_here: link.key_here,
    }
}

/// Returns a PEM request, or one in DER, as [`Command::Issue`] takes it.
pub fn request_of(file: &[u8]) -> Result<String, Refusal> {
    use rustls::pki_types::CertificateSigningRequestDer;
    use rustls::pki_types::pem::PemObject as _;
    let der = if file.starts_with(b"-----") {
        let parsed = CertificateSigningRequestDer::from_pem_slice(file);
        parsed.map_err(|error| Refusal::wrong(format!("no certificate request in PEM: {error}")))?.to_vec()
    } else {
        file.to_vec()
    };
    Ok(STANDARD.encode(der))
}
