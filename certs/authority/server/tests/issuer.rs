//! An authority in memory: what the protocol needs of one, without storage and policy.

use std::collections::HashSet;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use async_trait::async_trait;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, PublicKeyData, SanType, SignatureAlgorithm,
};
use rustls::pki_types::CertificateDer;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::FromDer as _;
use zeroize::Zeroizing;

use crate::attest::{Challenge, Method};
use crate::authority::{Denied, Issued, Issuer, Proof, Request};
use crate::{Identity, TrustBundle, TrustDomain, Verifier};

/// The token that is good for `/svc/web`, any number of them: `good-1`, `good-2` …, each once.
const GOOD: &str = "good-";

pub(crate) struct InMemory {
    pub(crate) trust_domain: TrustDomain,
    pub(crate) clock: Box<dyn Fn() -> SystemTime + Send + Sync>,
    /// Lifetime of a leaf, milliseconds; it begins when it is issued.
    pub(crate) lifetime: AtomicU64,
    pub(crate) refuses_renewal: AtomicBool,
    pub(crate) is_unavailable: AtomicBool,
    /// How long a decision takes, milliseconds.
    pub(crate) decides_in: AtomicU64,
    /// Certificates that were issued.
    pub(crate) issued: AtomicUsize,
    /// How each was proved.
    pub(crate) proofs: Mutex<Vec<&'static str>>,
    /// Decisions that are under way.
    deciding: AtomicUsize,
    signing: Mutex<Signing>,
    nonces: Mutex<HashSet<(String, String)>>,
    tokens: Mutex<HashSet<String>>,
    counter: AtomicU64,
}

struct Signing {
    generation: u64,
    issuer: Arc<rcgen::Issuer<'static, KeyPair>>,
    intermediate: CertificateDer<'static>,
    root: CertificateDer<'static>,
    bundle: Arc<TrustBundle>,
    serving: Arc<Identity>,
}

impl std::fmt::Debug for InMemory {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.write_str("InMemory")
    }
}

/// A public key as it stands in a CSR.
struct Key(Vec<u8>);

impl PublicKeyData for Key {
    fn der_bytes(&self) -> &[u8] {
        &self.0
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        &rcgen::PKCS_ECDSA_P256_SHA256
    }
}

impl InMemory {
    pub(crate) fn new() -> Arc<Self> {
        Self::with(Box::new(SystemTime::now))
    }

    pub(crate) fn with(clock: Box<dyn Fn() -> SystemTime + Send + Sync>) -> Arc<Self> {
        let trust_domain: TrustDomain = "example.org".parse().unwrap();
        let signing = Signing::new(&trust_domain, 1, &[], clock());
        Arc::new(Self {
            trust_domain,
            clock,
            lifetime: AtomicU64::new(3_600_000),
            refuses_renewal: AtomicBool::new(false),
            is_unavailable: AtomicBool::new(false),
            decides_in: AtomicU64::new(0),
            issued: AtomicUsize::new(0),
            proofs: Mutex::default(),
            deciding: AtomicUsize::new(0),
            signing: Mutex::new(signing),
            nonces: Mutex::default(),
            tokens: Mutex::default(),
            counter: AtomicU64::new(1),
        })
    }

    pub(crate) fn issued(&self) -> usize {
        self.issued.load(Ordering::SeqCst)
    }

    pub(crate) fn is_deciding(&self) -> bool {
        self.deciding.load(Ordering::SeqCst) > 0
    }

    pub(crate) fn root(&self) -> CertificateDer<'static> {
        self.signing.lock().unwrap().root.clone()
    }

    /// A new root and a new intermediate sign from now on; `keeps`: the old roots stay in the bundle.
    pub(crate) fn replace_root(&self, keeps: bool) {
        let mut signing = self.signing.lock().unwrap();
        let old = if keeps { signing.bundle.roots.clone() } else { Vec::new() };
        let generation = signing.generation + 1;
        *signing = Signing::new(&self.trust_domain, generation, &old, (self.clock)());
    }

    /// Tells a new root beside the one that goes on to sign, as it is done before roots are replaced.
    pub(crate) fn announce_root(&self) {
        let next = Signing::new(&self.trust_domain, 100, &[], (self.clock)());
        let mut signing = self.signing.lock().unwrap();
        let mut bundle = (*signing.bundle).clone();
        bundle.sequence += 1;
        bundle.roots.push(next.root);
        signing.bundle = Arc::new(bundle);
    }

    /// Tells the bundle under another number.
    pub(crate) fn number(&self, sequence: u64) {
        let mut signing = self.signing.lock().unwrap();
        signing.bundle = Arc::new(TrustBundle { sequence, ..(*signing.bundle).clone() });
    }

    fn sign(&self, csr: &[u8], path: &str) -> Result<Issued, Denied> {
        let malformed = || Denied::Malformed { reason: "csr", why: "the CSR cannot be read".to_owned() };
        let (_, request) = X509CertificationRequest::from_der(csr).map_err(|_| malformed())?;
        let key = &request.certification_request_info.subject_pki.subject_public_key.data;
        let signing = self.signing.lock().unwrap();
        let id = self.trust_domain.id(path).map_err(|_| malformed())?;
        let now = (self.clock)();
        let lifetime = Duration::from_millis(self.lifetime.load(Ordering::SeqCst));
        let leaf = leaf(id.as_str(), now, lifetime, &Key(key.to_vec()), &signing.issuer);
        self.issued.fetch_add(1, Ordering::SeqCst);
        Ok(Issued {
            id,
            chain: vec![leaf, signing.intermediate.clone()],
            bundle: signing.bundle.clone(),
            not_after: now + lifetime,
        })
    }
}

#[async_trait]
impl Issuer for InMemory {
    fn bundle(&self) -> Arc<TrustBundle> {
        self.signing.lock().unwrap().bundle.clone()
    }

    fn serving(&self) -> Arc<Identity> {
        self.signing.lock().unwrap().serving.clone()
    }

    fn challenge(&self, key: &str) -> Challenge {
        let nonce = format!("nonce-{}", self.counter.fetch_add(1, Ordering::SeqCst));
        self.nonces.lock().unwrap().insert((nonce.clone(), key.to_owned()));
        Challenge { authority: self.trust_domain.to_string(), nonce, key: key.to_owned() }
    }

    async fn issue(&self, request: &Request, proof: Proof) -> Result<Issued, Denied> {
        let refused = |reason| Err(Denied::NotProved { reason });
        if self.is_unavailable.load(Ordering::SeqCst) {
            return Err(Denied::Unavailable("the disk is full".to_owned()));
        }
        let (how, path) = match proof {
            Proof::Embedded { service } => ("embedded", format!("/svc/{service}")),
            Proof::Renewal { .. } if self.refuses_renewal.load(Ordering::SeqCst) => {
                return Err(Denied::NotAllowed { why: "the entry is gone".to_owned() });
            }
            Proof::Renewal { chain } => {
                let verifier = Verifier::new(&self.bundle()).unwrap();
                let Ok(leaf) = verifier.verify(&chain, (self.clock)()) else { return refused("chain") };
                ("renewal", leaf.id.path().to_owned())
            }
            Proof::Evidence { method, evidence, nonce } => {
                let (_, csr) = X509CertificationRequest::from_der(&request.csr).unwrap();
                let key = crate::agent::KeyHash::of_key(csr.certification_request_info.subject_pki.raw).digits();
                if !self.nonces.lock().unwrap().remove(&(nonce, key)) {
                    return refused("nonce");
                }
                let token = evidence.get("token").and_then(|token| token.as_str()).unwrap_or_default().to_owned();
                let is_good = method == Method::JoinToken && token.starts_with(GOOD);
                if !is_good || !self.tokens.lock().unwrap().insert(token) {
                    return refused("token");
                }
                ("join-token", "/svc/web".to_owned())
            }
        };
        // Burnt by now, as a real one is.
        self.deciding.fetch_add(1, Ordering::SeqCst);
        tokio::time::sleep(Duration::from_millis(self.decides_in.load(Ordering::SeqCst))).await;
        self.deciding.fetch_sub(1, Ordering::SeqCst);
        self.proofs.lock().unwrap().push(how);
        self.sign(&request.csr, &path)
    }
}

impl Signing {
    fn new(trust_domain: &TrustDomain, generation: u64, old: &[CertificateDer<'static>], now: SystemTime) -> Self {
        let (day, year) = (Duration::from_hours(24), Duration::from_hours(24 * 365));
        let root_key = KeyPair::generate().unwrap();
        let root_params = ca(&format!("root {generation}"), now - day, now + 10 * year);
        let root = root_params.self_signed(&root_key).unwrap();
        let root_issuer = rcgen::Issuer::new(root_params, root_key);
        let key = KeyPair::generate().unwrap();
        let params = ca(&format!("intermediate {generation}"), now - day, now + year);
        let intermediate = params.signed_by(&key, &root_issuer).unwrap();
        let issuer = rcgen::Issuer::new(params, key);
        let bundle = Arc::new(TrustBundle {
            trust_domain: trust_domain.clone(),
            sequence: generation,
            roots: old.iter().cloned().chain([root.der().clone()]).collect(),
            refresh_hint: Duration::from_mins(5),
        });
        let key = KeyPair::generate().unwrap();
        let id = format!("spiffe://{trust_domain}/meshless/ca");
        let serving = leaf(&id, now, day * 7, &key, &issuer);
        let chain = vec![serving, intermediate.der().clone()];
        let serving = Identity::new(chain, Zeroizing::new(key.serialize_der()), bundle.clone(), now).unwrap();
        Self {
            generation,
            issuer: Arc::new(issuer),
            intermediate: intermediate.der().clone(),
            root: root.der().clone(),
            bundle,
            serving: Arc::new(serving),
        }
    }
}

fn ca(name: &str, from: SystemTime, until: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    (params.not_before, params.not_after) = (from.into(), until.into());
    params
}

fn leaf(
    id: &str,
    now: SystemTime,
    lifetime: Duration,
    key: &impl PublicKeyData,
    issuer: &rcgen::Issuer<'_, KeyPair>,
) -> CertificateDer<'static> {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(id.try_into().unwrap())];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth, ExtendedKeyUsagePurpose::ServerAuth];
    (params.not_before, params.not_after) = (now.into(), (now + lifetime).into());
    params.signed_by(key, issuer).unwrap().der().clone()
}
