//! An authority for tests: a directory of its own and a clock that is set.

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use rcgen::{CertificateParams, KeyPair};
use rustls::pki_types::CertificateDer;

use super::clock::at;
use super::command::{Command, Refusal, Reply};
use super::csr::Csr;
use super::desk::Desk;
use super::issue::{Asked, Claim};
use super::options::Options;
use super::policy::Rule;
use super::{Denied, Issued, init};
use crate::attest::{Attested, Method};

/// When tests begin.
pub(crate) const START: u64 = 1_800_000_000;
pub(crate) const HOUR: u64 = 3_600;
pub(crate) const DAY: u64 = 24 * HOUR;

pub(crate) struct Bench {
    pub(crate) outer: tempfile::TempDir,
    pub(crate) time: Arc<AtomicU64>,
    pub(crate) options: Options,
    pub(crate) desk: Option<Desk>,
}

impl Bench {
    pub(crate) fn new() -> Self {
        Self::with(|_| {}, None)
    }

    /// Makes an authority; with a name its root's key is kept there.
    pub(crate) fn with(change: impl FnOnce(&mut Options), root: Option<&str>) -> Self {
        let time = Arc::new(AtomicU64::new(START));
        let clock = time.clone();
        let mut options = Options { clock: Arc::new(move || at(clock.load(Ordering::SeqCst))), ..Options::default() };
        options.limits.per_identity = 1_000;
        change(&mut options);
        let outer = tempfile::tempdir().unwrap();
        let mut bench = Self { outer, time, options, desk: None };
        let root = root.map(|name| bench.outer.path().join(name));
        init(&bench.directory(), &"example.org".parse().unwrap(), &bench.options, root.as_deref()).unwrap();
        bench.open();
        bench
    }

    pub(crate) fn directory(&self) -> PathBuf {
        self.outer.path().join("ca")
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.outer.path().join(name)
    }

    pub(crate) fn open(&mut self) {
        self.desk = None;
        self.desk = Some(Desk::open(&self.directory(), self.options.clone()).unwrap());
    }

    pub(crate) fn desk(&self) -> &Desk {
        self.desk.as_ref().unwrap()
    }

    pub(crate) fn now(&self) -> u64 {
        self.time.load(Ordering::SeqCst)
    }

    pub(crate) fn sleep(&self, seconds: u64) {
        self.time.fetch_add(seconds, Ordering::SeqCst);
    }

    pub(crate) fn set(&self, time: u64) {
        self.time.store(time, Ordering::SeqCst);
    }

    pub(crate) fn ask(
        &self,
        key: &KeyPair,
        claim: Claim,
        service: Option<&str>,
        source: Option<&str>,
    ) -> Result<Issued, Denied> {
        let asked = Asked {
            service: service.map(ToOwned::to_owned),
            source: source.map(|text| text.parse().unwrap()),
            method: claim.label(),
        };
        let csr = Csr::parse(&request(key)).unwrap();
        self.desk().answer(&asked, Ok((csr, claim)), at(self.now()))
    }

    pub(crate) fn evidence(&self, key: &KeyPair, facts: &[(&'static str, &str)]) -> Result<Issued, Denied> {
        self.ask(key, evidence(facts), None, None)
    }

    pub(crate) fn renew(&self, key: &KeyPair, chain: &[CertificateDer<'static>]) -> Result<Issued, Denied> {
        self.ask(key, Claim::Renewal(chain.to_vec()), None, None)
    }

    pub(crate) fn embedded(&self, key: &KeyPair, service: &str) -> Result<Issued, Denied> {
        self.ask(key, Claim::Embedded, Some(service), None)
    }

    pub(crate) fn token(&self, id: &str, cidr: Option<&str>) -> (String, String) {
        let cidr = cidr.map(|text| text.parse().unwrap());
        match self.execute(Command::TokenCreate { id: id.to_owned(), ttl: None, cidr }).unwrap() {
            Reply::TokenCreated { token, kept } => (token.expose().to_owned(), kept.id),
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn use_token(&self, text: &str, source: Option<&str>) -> Result<Issued, Denied> {
        self.ask(&key(), claim_of(text), None, source)
    }

    pub(crate) fn execute(&self, command: Command) -> Result<Reply, Refusal> {
        self.desk().execute(command)
    }

    pub(crate) fn audit(&self) -> String {
        std::fs::read_to_string(self.directory().join("audit.log")).unwrap()
    }

    pub(crate) fn last_line(&self) -> serde_json::Value {
        serde_json::from_str(self.audit().lines().last().unwrap()).unwrap()
    }

    pub(crate) fn verify(&self) -> u64 {
        match self.execute(Command::AuditVerify).unwrap() {
            Reply::AuditVerified { lines } => lines,
            other => panic!("{other:?}"),
        }
    }

    pub(crate) fn status(&self) -> super::command::Status {
        match self.execute(Command::Status).unwrap() {
            Reply::Status(status) => *status,
            other => panic!("{other:?}"),
        }
    }
}

pub(crate) fn key() -> KeyPair {
    KeyPair::generate().unwrap()
}

pub(crate) fn request(key: &KeyPair) -> Vec<u8> {
    CertificateParams::default().serialize_request(key).unwrap().der().to_vec()
}

pub(crate) fn claim_of(token: &str) -> Claim {
    Claim::Token(zeroize::Zeroizing::new(token.to_owned()))
}

pub(crate) fn evidence(facts: &[(&'static str, &str)]) -> Claim {
    let facts = facts.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
    Claim::Evidence(Attested { method: Method::Kubernetes, facts })
}

pub(crate) fn rule(selectors: &[(&str, &str)], id: &str) -> Rule {
    let selectors = selectors.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Rule::new(Method::Kubernetes, selectors, id).unwrap()
}
