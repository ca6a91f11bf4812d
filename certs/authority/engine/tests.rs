use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use super::*;
use crate::MAX_CHAIN;
use crate::attest::Attested;
use crate::authority::clock::at;
use crate::authority::random::hash;
use crate::authority::testing::{Bench, START, key, request, rule};

/// Takes evidence that names the challenge and an account.
#[derive(Debug)]
struct Fake(Method);

#[async_trait]
impl Attestor for Fake {
    fn method(&self) -> Method {
        self.0
    }

    async fn attest(&self, presented: &Presented<'_>) -> Result<Attested, Rejected> {
        let text = |name: &str| presented.evidence[name].as_str().unwrap_or_default().to_owned();
        if text("down") == "yes" {
            return Err(Rejected::Unavailable("nobody answers".to_owned()));
        }
        if text("nonce") != presented.challenge.nonce || text("key") != presented.challenge.key {
            return Err(Rejected::Refused { reason: "challenge", why: "another challenge".to_owned() });
        }
        assert_eq!(presented.challenge.authority, "example.org");
        Ok(Attested { method: self.0, facts: vec![("namespace", text("namespace"))] })
    }
}

struct Open {
    _bench: Bench,
    authority: Authority,
    time: Arc<AtomicU64>,
}

fn open() -> Open {
    let mut bench = Bench::with(|options| options.rules = vec![rule(&[("namespace", "a")], "/svc/api")], None);
    bench.desk = None;
    let attestors: Vec<Arc<dyn Attestor>> = vec![Arc::new(Fake(Method::Kubernetes))];
    let authority = Authority::open(&bench.directory(), bench.options.clone(), attestors).unwrap();
    let time = bench.time.clone();
    Open { _bench: bench, authority, time }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread().build().unwrap().block_on(future)
}

struct Asker {
    key: rcgen::KeyPair,
    hash: String,
}

impl Asker {
    fn new() -> Self {
        use rcgen::PublicKeyData as _;
        let key = key();
        let hash = hash(&key.subject_public_key_info());
        Self { key, hash }
    }

    fn request(&self) -> Request {
        Request { csr: request(&self.key), service: None, source: None }
    }

    fn show(&self, open: &Open, nonce: &str, extra: &[(&str, &str)]) -> Result<Issued, Denied> {
        let mut evidence = BTreeMap::from([("nonce", nonce), ("key", &self.hash), ("namespace", "a")]);
        evidence.extend(extra.iter().copied());
        let evidence = serde_json::to_value(evidence).unwrap();
        let proof = Proof::Evidence { method: Method::Kubernetes, evidence, nonce: nonce.to_owned() };
        run(open.authority.issue(&self.request(), proof))
    }
}

#[test]
fn evidence_that_answers_a_challenge_is_taken_once() {
    let (open, asker) = (open(), Asker::new());
    let challenge = open.authority.challenge(&asker.hash);
    assert_eq!((challenge.authority.as_str(), &challenge.key), ("example.org", &asker.hash));
    let issued = asker.show(&open, &challenge.nonce, &[]).unwrap();
    assert_eq!(issued.id.path(), "/svc/api");
    assert_eq!(asker.show(&open, &challenge.nonce, &[]).unwrap_err(), Denied::NotProved { reason: "nonce_used" });
}

#[test]
fn a_challenge_is_for_one_key_and_one_minute() {
    let (open, asker, other) = (open(), Asker::new(), Asker::new());
    let nonce = open.authority.challenge(&asker.hash).nonce;
    let foreign = Denied::NotProved { reason: "nonce" };
    assert_eq!(other.show(&open, &nonce, &[]).unwrap_err(), foreign);
    open.time.store(START + 61, Ordering::SeqCst);
    assert_eq!(asker.show(&open, &nonce, &[]).unwrap_err(), foreign);
    assert_eq!(asker.show(&open, "", &[]).unwrap_err(), foreign);
}

#[test]
fn what_an_attestor_says_is_told_by_status() {
    let (open, asker) = (open(), Asker::new());
    let nonce = || open.authority.challenge(&asker.hash).nonce;
    assert_eq!(
        asker.show(&open, &nonce(), &[("key", "another")]).unwrap_err(),
        Denied::NotProved { reason: "challenge" }
    );
    assert_eq!(asker.show(&open, &nonce(), &[("down", "yes")]).unwrap_err().status(), 503);
    assert_eq!(asker.show(&open, &nonce(), &[("namespace", "b")]).unwrap_err().status(), 403);
    let proof = Proof::Evidence { method: Method::AwsIam, evidence: serde_json::Value::Null, nonce: nonce() };
    let denied = run(open.authority.issue(&asker.request(), proof)).unwrap_err();
    assert!(denied.status() == 403 && denied.to_string().contains("aws-iam"), "{denied}");
    let proof = Proof::Embedded { service: "web".to_owned() };
    let broken = Request { csr: b"x".to_vec(), service: None, source: None };
    assert_eq!(run(open.authority.issue(&broken, proof)).unwrap_err().label(), "csr");
    let Ok(Reply::AuditVerified { lines }) = open.authority.execute(Command::AuditVerify) else { panic!() };
    assert_eq!(lines, 6, "its own identity, and each refusal");
}

#[test]
fn a_join_token_is_evidence_too() {
    let (open, asker) = (open(), Asker::new());
    let create = Command::TokenCreate { id: "/svc/web".to_owned(), ttl: None, cidr: None };
    let Ok(Reply::TokenCreated { token, .. }) = open.authority.execute(create) else { panic!() };
    let show = |evidence: serde_json::Value| {
        let nonce = open.authority.challenge(&asker.hash).nonce;
        run(open.authority.issue(&asker.request(), Proof::Evidence { method: Method::JoinToken, evidence, nonce }))
    };
    for wrong in [serde_json::json!({}), serde_json::json!({"token": 1}), serde_json::json!({"token": "a", "id": "b"})]
    {
        assert_eq!(show(wrong).unwrap_err().label(), "evidence");
    }
    assert_eq!(show(serde_json::json!({"token": token.expose()})).unwrap().id.path(), "/svc/web");
    assert_eq!(show(serde_json::json!({"token": token.expose()})).unwrap_err().label(), "token_used");
}

#[test]
fn the_server_shows_an_identity_of_its_own_that_is_renewed_by_itself() {
    let open = open();
    let first = open.authority.serving();
    assert_eq!(first.id().as_str(), "spiffe://example.org/meshless/ca");
    assert!(first.chain().len() < MAX_CHAIN);
    let wait = open.authority.advance().unwrap();
    assert!(wait <= Duration::from_secs(30));
    assert!(Arc::ptr_eq(&first, &open.authority.serving()), "nothing is due");
    open.time.store(START + 13 * 3600, Ordering::SeqCst);
    open.authority.advance().unwrap();
    assert!(open.authority.serving().leaf().not_after > first.leaf().not_after);
    open.authority.execute(Command::RotateRoot { root_key: None, now: false }).unwrap();
    assert_eq!(open.authority.serving().bundle().roots.len(), 2, "it trusts the next root at once");
    assert_eq!(open.authority.bundle().sequence, 2);
}

#[test]
fn the_process_itself_gets_what_it_asks_to_be() {
    let (open, asker) = (open(), Asker::new());
    let issued = run(open.authority.issue(&asker.request(), Proof::Embedded { service: "web".to_owned() })).unwrap();
    assert_eq!((issued.id.path(), issued.not_after), ("/svc/web", at(START + 86_400)));
    let renewal = Proof::Renewal { chain: issued.chain };
    assert_eq!(run(open.authority.issue(&asker.request(), renewal)).unwrap_err().status(), 403);
}
