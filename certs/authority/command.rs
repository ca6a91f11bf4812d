//! What a person can ask an authority for: the same words at its socket and on its directory.
//!
//! At the socket (`ca.sock` in the directory, mode 0600) a command is the JSON body of `POST /command`; the answer is 200
//! with the JSON of `Result<Reply, Refusal>`: `{"Ok": …}` or `{"Err": …}`.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::policy::Rule;
use super::record::{Blocked, Entry};
use super::token::{Cidr, Token};

/// Where commands are posted to.
pub const PATH: &str = "/command";

/// A text that stays out of every log.
#[derive(Clone, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Secret(Zeroizing<String>);

impl Secret {
    /// Takes a text in.
    #[must_use]
    pub fn new(text: Zeroizing<String>) -> Self {
        Self(text)
    }

    /// Shows it.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("Secret")
    }
}

/// What is asked for. Identities are written as `/svc/NAME`, or whole.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", deny_unknown_fields)]
pub enum Command {
    /// Is the audit log what was written?
    AuditVerify,
    /// All of it but the audit log, sealed.
    Backup {
        /// What it is sealed with.
        passphrase: Secret,
    },
    /// This identity gets nothing from now on.
    Block {
        /// Which one.
        id: String,
    },
    /// The roots.
    Bundle,
    /// One more rule.
    EntryAdd {
        /// The rule.
        rule: Rule,
    },
    /// All rules of the database.
    EntryList,
    /// One rule less.
    EntryRemove {
        /// Which one.
        id: String,
    },
    /// A certificate, by hand.
    Issue {
        /// PKCS#10, DER in base64.
        csr: String,
        /// For whom.
        id: String,
    },
    /// The next intermediate.
    RotateIntermediate {
        /// The root's key, PEM and not sealed, where it is kept elsewhere.
        root_key: Option<Secret>,
        /// Let it sign at once.
        now: bool,
    },
    /// The next root: prepared, or with `now` the prepared one activated.
    RotateRoot {
        /// The new root's key, PEM and not sealed, where it is to be kept elsewhere.
        root_key: Option<Secret>,
        /// Let the prepared one sign at once.
        now: bool,
    },
    /// How is it?
    Status,
    /// A join token.
    TokenCreate {
        /// For whom.
        id: String,
        /// How long it is good; not set: 10 min.
        ttl: Option<Duration>,
        /// From where it may be used.
        cidr: Option<Cidr>,
    },
    /// All join tokens that are known.
    TokenList,
    /// A join token is worth nothing any more, nor is what it gave renewed.
    TokenRevoke {
        /// Its public half.
        id: String,
    },
    /// This identity may get something again.
    Unblock {
        /// Which one.
        id: String,
    },
}

/// What was done, or is known.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "they answer the commands of these names")]
pub enum Reply {
    AuditVerified {
        /// Lines of this file.
        lines: u64,
    },
    /// A sealed backup, in base64.
    Backup(Secret),
    Bundle {
        /// Name of the trust domain.
        trust_domain: String,
        /// Counts changes.
        sequence: u64,
        /// PEM.
        roots: String,
        /// SHA-256 of each root's public key, as `identity.authority_pin` takes it.
        pins: Vec<String>,
    },
    Done {
        /// What was done, a sentence.
        what: String,
    },
    Entries(Vec<Entry>),
    EntryAdded(Entry),
    Issued {
        /// To whom.
        id: String,
        /// PEM, leaf first, without the root.
        chain: String,
        /// End of validity, in seconds since 1970.
        not_after: u64,
    },
    Rotated {
        /// What was done, a sentence.
        what: String,
        /// The root that was made, PEM.
        root: Option<String>,
    },
    Status(Box<Status>),
    TokenCreated {
        /// What the workload shows. It is told once.
        token: Secret,
        /// What is kept.
        kept: Token,
    },
    Tokens {
        /// Those that can be used, were used by somebody who is still alive, or were revoked lately.
        tokens: Vec<Token>,
        /// Identities that get nothing.
        blocked: Vec<Blocked>,
    },
}

/// How an authority is. Times are seconds since 1970.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Name of the trust domain.
    pub trust_domain: String,
    /// Sequence number of the bundle.
    pub sequence: u64,
    /// Oldest first.
    pub roots: Vec<LinkView>,
    /// Oldest first.
    pub intermediates: Vec<LinkView>,
    /// Steps to come, the next one first.
    pub next: Vec<PlannedView>,
    /// Certificates that are valid.
    pub issued: usize,
    /// When one was issued last; 0: never.
    pub last_issued: u64,
    /// Join tokens that can be used.
    pub tokens: usize,
    /// Rules of the configuration.
    pub rules: usize,
    /// Rules of the database.
    pub entries: usize,
    /// Identities that get nothing.
    pub blocked: Vec<String>,
    /// Lines of the audit log.
    pub audit_lines: u64,
    /// When it was restored from a backup.
    pub restored: Option<u64>,
    /// The time by which all of this is told.
    pub now: u64,
    /// Whether keys at rest are sealed.
    pub sealed: bool,
}

/// A root or an intermediate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LinkView {
    /// The common name of its subject.
    pub name: String,
    /// `prepared`, `active` or `retiring`.
    pub phase: String,
    /// Since when, or (retiring) until when.
    pub time: u64,
    /// End of its validity.
    pub not_after: u64,
    /// SHA-256 of its public key, hexadecimal.
    pub key: String,
    /// Whether its private key is here.
    pub key_here: bool,
}

/// A step to come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PlannedView {
    /// When.
    pub at: u64,
    /// What.
    pub what: String,
}

/// Why something was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, thiserror::Error)]
#[error("{why}")]
pub struct Refusal {
    /// Whose fault it is.
    pub kind: RefusalKind,
    /// Why, and what to do.
    pub why: String,
}

/// Whose fault it is that something was not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalKind {
    /// The authority fails.
    Failed,
    /// It is not allowed.
    NotAllowed,
    /// What was asked for cannot be asked for.
    Wrong,
}

impl Refusal {
    pub(crate) fn wrong(why: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::Wrong, why: why.to_string() }
    }

    pub(crate) fn failed(why: impl fmt::Display) -> Self {
        Self { kind: RefusalKind::Failed, why: why.to_string() }
    }
}
