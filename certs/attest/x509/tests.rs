//! Certificates of others, and every way to show one that is not one's own.

use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384, PKCS_ED25519, SanType,
};
use serde_json::{Value, json};
use tempfile::TempDir;

use super::*;

/// A root of its own, in a directory with everything that it signs.
struct Ca {
    directory: TempDir,
    params: CertificateParams,
    key: KeyPair,
}

impl Ca {
    fn new(name: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::DigitalSignature];
        let key = KeyPair::generate().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let root = params.self_signed(&key).unwrap();
        std::fs::write(directory.path().join("root.pem"), root.pem()).unwrap();
        Self { directory, params, key }
    }

    fn root(&self) -> PathBuf {
        self.directory.path().join("root.pem")
    }

    /// Signs a leaf and returns what shows it.
    fn leaf(&self, params: &CertificateParams, key: &KeyPair) -> Certificate {
        let issuer = Issuer::from_params(&self.params, &self.key);
        let leaf = params.signed_by(key, &issuer).unwrap();
        self.files(&leaf.pem(), key)
    }

    fn files(&self, chain: &str, key: &KeyPair) -> Certificate {
        let (cert, key_file) = (self.directory.path().join("leaf.pem"), self.directory.path().join("leaf.key"));
        std::fs::write(&cert, chain).unwrap();
        std::fs::write(&key_file, key.serialize_pem()).unwrap();
        Certificate::new(KeyFiles { cert, key: key_file })
    }

    fn roots(&self) -> Roots {
        Roots::open(BTreeMap::from([("corp".to_owned(), self.root())])).unwrap()
    }
}

fn leaf() -> CertificateParams {
    let mut params = CertificateParams::new(vec!["web.example".to_owned()]).unwrap();
    params.distinguished_name.push(DnType::CommonName, "web");
    params.subject_alt_names.push(SanType::URI("urn:host:web".try_into().unwrap()));
    params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params
}

fn challenge() -> Challenge {
    Challenge { authority: "example.org".to_owned(), nonce: "nonce".to_owned(), key: "c0ffee".to_owned() }
}

async fn attest(roots: &Roots, evidence: &Value, challenge: &Challenge) -> Result<Attested, &'static str> {
    let presented = Presented { evidence, challenge, source: None, now: SystemTime::now() };
    roots.attest(&presented).await.map_err(|rejected| match rejected {
        Rejected::Refused { reason, .. } => reason,
        Rejected::Unavailable(_) => "unavailable",
    })
}

#[tokio::test]
async fn who_has_the_key_of_a_certificate_proves_what_it_names() {
    let ca = Ca::new("Corp");
    for algorithm in [&PKCS_ECDSA_P256_SHA256, &PKCS_ECDSA_P384_SHA384, &PKCS_ED25519] {
        let key = KeyPair::generate_for(algorithm).unwrap();
        let evidence = ca.leaf(&leaf(), &key).prove(&challenge()).await.unwrap();
        let attested = attest(&ca.roots(), &evidence, &challenge()).await.unwrap();
        for (name, value) in
            [("roots", "corp"), ("common_name", "web"), ("dns", "web.example"), ("uri", "urn:host:web")]
        {
            assert_eq!(attested.fact(name), Some(value), "{name}");
        }
        assert_eq!(attested.fact("fingerprint").unwrap().len(), 64);
    }
    let mut plain = leaf();
    (plain.extended_key_usages, plain.key_usages) = (Vec::new(), Vec::new());
    let evidence = ca.leaf(&plain, &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
    assert!(attest(&ca.roots(), &evidence, &challenge()).await.is_ok(), "a leaf that says nothing of its purpose");
}

#[tokio::test]
async fn a_signature_for_another_authority_nonce_or_key_is_none() {
    let ca = Ca::new("Corp");
    let evidence = ca.leaf(&leaf(), &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
    for other in [
        Challenge { authority: "other.example".to_owned(), ..challenge() },
        Challenge { nonce: "other".to_owned(), ..challenge() },
        Challenge { key: "decade".to_owned(), ..challenge() },
        // The same text, cut elsewhere.
        Challenge { authority: "example.or".to_owned(), nonce: "gnonce".to_owned(), ..challenge() },
    ] {
        assert_eq!(attest(&ca.roots(), &evidence, &other).await, Err("signature"), "{other:?}");
    }
    assert!(attest(&ca.roots(), &evidence, &challenge()).await.is_ok());
}

#[tokio::test]
async fn a_certificate_without_its_key_proves_nothing() {
    let ca = Ca::new("Corp");
    let victim = ca.leaf(&leaf(), &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
    let mine = ca.leaf(&leaf(), &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
    let mut forged = mine.clone();
    forged["chain"] = victim["chain"].clone();
    assert_eq!(attest(&ca.roots(), &forged, &challenge()).await, Err("signature"));
    for (field, value, reason) in [
        ("scheme", json!("rsa_pkcs1_sha1"), "algorithm"),
        ("scheme", json!("none"), "algorithm"),
        ("scheme", json!("ed25519"), "signature"),
        ("signature", json!(""), "signature"),
        ("signature", json!("!"), "malformed"),
        ("chain", json!([]), "no_certificate"),
        ("chain", json!(["!"]), "malformed"),
        ("chain", json!(["AAAA"]), "malformed"),
        ("chain", json!(vec![mine["chain"][0].clone(); 4]), "chain_length"),
        ("more", json!(1), "malformed"),
    ] {
        let mut changed = mine.clone();
        changed[field] = value.clone();
        assert_eq!(attest(&ca.roots(), &changed, &challenge()).await, Err(reason), "{field} = {value}");
    }
}

#[tokio::test]
async fn certificates_that_are_no_proof_of_a_workload_are_refused() {
    let ca = Ca::new("Corp");
    let key = KeyPair::generate().unwrap();
    let cases: [(fn(&mut CertificateParams), &str); 6] = [
        (|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth], "usage"),
        (|params| params.key_usages = vec![KeyUsagePurpose::KeyEncipherment], "usage"),
        (
            |params| params.key_usages = vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyCertSign],
            "leaf_is_ca",
        ),
        (|params| params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained), "leaf_is_ca"),
        (|params| params.not_after = (SystemTime::now() - Duration::from_secs(60)).into(), "expired"),
        (|params| params.not_before = (SystemTime::now() + Duration::from_secs(60)).into(), "not_yet_valid"),
    ];
    for (change, reason) in cases {
        let mut params = leaf();
        change(&mut params);
        let evidence = ca.leaf(&params, &key).prove(&challenge()).await.unwrap();
        assert_eq!(attest(&ca.roots(), &evidence, &challenge()).await, Err(reason), "{reason}");
    }
    let evidence = Ca::new("Corp").leaf(&leaf(), &key).prove(&challenge()).await.unwrap();
    assert_eq!(attest(&ca.roots(), &evidence, &challenge()).await, Err("unknown_issuer"), "a root of the same name");
    let own = leaf().self_signed(&key).unwrap();
    let evidence = ca.files(&own.pem(), &key).prove(&challenge()).await.unwrap();
    assert_eq!(attest(&ca.roots(), &evidence, &challenge()).await, Err("unknown_issuer"), "signed by itself");
}

#[tokio::test]
async fn a_leaf_cannot_sign_for_another_one() {
    let ca = Ca::new("Corp");
    let (between, between_key) = (leaf(), KeyPair::generate().unwrap());
    let middle = between.signed_by(&between_key, &Issuer::from_params(&ca.params, &ca.key)).unwrap();
    let key = KeyPair::generate().unwrap();
    let last = leaf().signed_by(&key, &Issuer::from_params(&between, &between_key)).unwrap();
    let evidence = ca.files(&(last.pem() + &middle.pem()), &key).prove(&challenge()).await.unwrap();
    assert_eq!(attest(&ca.roots(), &evidence, &challenge()).await, Err("issuer_usage"));
}

#[tokio::test]
async fn roots_are_told_apart_by_their_names() {
    let (corp, lab) = (Ca::new("Corp"), Ca::new("Lab"));
    let named = BTreeMap::from([("corp".to_owned(), corp.root()), ("lab".to_owned(), lab.root())]);
    let roots = Roots::open(named).unwrap();
    for (ca, name) in [(&corp, "corp"), (&lab, "lab")] {
        let evidence = ca.leaf(&leaf(), &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
        assert_eq!(attest(&roots, &evidence, &challenge()).await.unwrap().fact("roots"), Some(name));
    }
    std::fs::remove_file(lab.root()).unwrap();
    let evidence = corp.leaf(&leaf(), &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
    assert_eq!(attest(&roots, &evidence, &challenge()).await, Err("unavailable"));
    assert!(Roots::open(BTreeMap::from([("lab".to_owned(), lab.root())])).is_err());
}

#[tokio::test]
async fn a_name_of_which_there_are_two_is_no_fact() {
    let ca = Ca::new("Corp");
    let mut params = leaf();
    params.subject_alt_names.push(SanType::DnsName("admin.example".try_into().unwrap()));
    params.subject_alt_names.push(SanType::URI("urn:host:admin".try_into().unwrap()));
    let evidence = ca.leaf(&params, &KeyPair::generate().unwrap()).prove(&challenge()).await.unwrap();
    let attested = attest(&ca.roots(), &evidence, &challenge()).await.unwrap();
    assert_eq!((attested.fact("dns"), attested.fact("uri"), attested.fact("common_name")), (None, None, Some("web")));
}
