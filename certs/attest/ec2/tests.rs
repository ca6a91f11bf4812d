//! Documents that OpenSSL signed. No key of AWS can be had: that AWS's own signatures have this shape is taken from its
//! documentation and from what instances show.

use std::net::IpAddr;
use std::time::SystemTime;

use meshless_fakes::http::Mode;
use meshless_fakes::metadata::{self, CERTIFICATE, DOCUMENT, RSA2048};
use serde_json::{Value, json};

use super::*;
use crate::attest::{Challenge, Prover as _};

const ACCOUNT: &str = "123456789012";

fn open(certificates: &str, account: &str, behind_nat: bool) -> Result<Instances, Error> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("aws.pem");
    std::fs::write(&path, certificates).unwrap();
    Instances::open(BTreeSet::from([account.to_owned()]), &path, behind_nat)
}

fn challenge(key: &str) -> Challenge {
    Challenge { authority: "example.org".to_owned(), nonce: "nonce".to_owned(), key: key.to_owned() }
}

async fn attest(
    instances: &Instances,
    evidence: &Value,
    key: &str,
    source: Option<IpAddr>,
) -> Result<Attested, &'static str> {
    let challenge = challenge(key);
    let presented = Presented { evidence, challenge: &challenge, source, now: SystemTime::now() };
    instances.attest(&presented).await.map_err(|rejected| match rejected {
        Rejected::Refused { reason, .. } => reason,
        Rejected::Unavailable(_) => "unavailable",
    })
}

fn here() -> Option<IpAddr> {
    Some(IpAddr::from([127, 0, 0, 1]))
}

fn evidence() -> Value {
    json!({ "document": DOCUMENT, "rsa2048": RSA2048 })
}

#[tokio::test]
async fn a_document_proves_which_instance_it_is_of() {
    let imds = metadata::instance();
    let evidence = Instance::new(Some(&imds.url())).prove(&challenge("key")).await.unwrap();
    assert_eq!(
        imds.requests(),
        [
            "PUT /latest/api/token",
            "GET /latest/dynamic/instance-identity/document",
            "GET /latest/dynamic/instance-identity/rsa2048"
        ]
    );
    let attested = attest(&open(CERTIFICATE, ACCOUNT, false).unwrap(), &evidence, "key", here()).await.unwrap();
    assert_eq!(
        attested.facts,
        [
            ("account", ACCOUNT.to_owned()),
            ("region", "eu-west-1".to_owned()),
            ("zone", "eu-west-1a".to_owned()),
            ("instance", "i-0123456789abcdef0".to_owned()),
            ("image", "ami-0123456789abcdef0".to_owned()),
        ]
    );
    for mode in [Mode::Down, Mode::Status(403)] {
        imds.set(mode);
        let error = Instance::new(Some(&imds.url())).prove(&challenge("key")).await.unwrap_err().to_string();
        assert!(error.contains("metadata service of the instance"), "{error}");
    }
}

#[tokio::test]
async fn a_signature_may_stand_beside_the_document_and_in_der() {
    let detached = json!({ "document": DOCUMENT, "rsa2048": include_str!("tests/detached.txt") });
    assert!(attest(&open(CERTIFICATE, ACCOUNT, false).unwrap(), &detached, "key", here()).await.is_ok());
}

#[tokio::test]
async fn no_other_document_key_or_algorithm_is_taken() {
    let instances = open(CERTIFICATE, ACCOUNT, false).unwrap();
    let changed = DOCUMENT.replace(ACCOUNT, "210987654321");
    for (document, rsa2048, reason) in [
        (changed.as_str(), RSA2048, "signature"),
        (changed.as_str(), include_str!("tests/detached.txt"), "signature"),
        (&format!("{DOCUMENT}\n"), RSA2048, "signature"),
        // A signature of the right key over another document of the same shape.
        (DOCUMENT, include_str!("tests/other_document.txt"), "signature"),
        (DOCUMENT, include_str!("tests/other.txt"), "signature"),
        (DOCUMENT, include_str!("tests/sha1.txt"), "malformed"),
        (DOCUMENT, include_str!("tests/without_attributes.txt"), "malformed"),
        (DOCUMENT, include_str!("tests/two_signers.txt"), "malformed"),
        (DOCUMENT, "", "malformed"),
        (DOCUMENT, "!", "malformed"),
        (DOCUMENT, "MAA=", "malformed"),
    ] {
        let evidence = json!({ "document": document, "rsa2048": rsa2048 });
        assert_eq!(attest(&instances, &evidence, "key", here()).await, Err(reason), "{rsa2048:.40}");
    }
    for evidence in [json!({}), json!({ "document": DOCUMENT }), json!({ "document": {}, "rsa2048": RSA2048 })] {
        assert_eq!(attest(&instances, &evidence, "key", here()).await, Err("malformed"));
    }
}

/// Each byte of the signature is changed in turn: none of the results is taken for the document of another instance, and nothing
/// panics.
#[test]
fn no_byte_of_a_signature_matters_little() {
    let keys = open(CERTIFICATE, ACCOUNT, false).unwrap().keys;
    let packed: String = RSA2048.split_ascii_whitespace().collect();
    let good = STANDARD.decode(packed).unwrap();
    assert!(pkcs7::verify(&good, DOCUMENT.as_bytes(), &keys).is_ok());
    let mut taken = 0;
    for position in 0..good.len() {
        let mut changed = good.clone();
        changed[position] ^= 0x01;
        taken += usize::from(pkcs7::verify(&changed, DOCUMENT.as_bytes(), &keys).is_ok());
        assert!(pkcs7::verify(&changed, DOCUMENT.replace("i-0", "i-1").as_bytes(), &keys).is_err());
    }
    // What does not count: the version, the list of digests, the issuer's name and serial number, parameters.
    assert!(taken < 250, "{taken} of {}", good.len());
    for length in 0..good.len() {
        assert!(pkcs7::verify(&good[..length], DOCUMENT.as_bytes(), &keys).is_err(), "cut at {length}");
    }
}

#[tokio::test]
async fn an_instance_comes_from_its_own_address_as_often_as_it_likes() {
    let instances = open(CERTIFICATE, ACCOUNT, false).unwrap();
    for key in ["key", "key", "another key after a restart"] {
        assert!(attest(&instances, &evidence(), key, here()).await.is_ok());
    }
    for source in [Some(IpAddr::from([10, 0, 0, 7])), None] {
        assert_eq!(attest(&instances, &evidence(), "key", source).await, Err("address"));
    }
}

#[tokio::test]
async fn behind_a_nat_an_instance_has_one_key() {
    let instances = open(CERTIFICATE, ACCOUNT, true).unwrap();
    let elsewhere = Some(IpAddr::from([192, 0, 2, 1]));
    assert!(attest(&instances, &evidence(), "key", elsewhere).await.is_ok());
    assert!(attest(&instances, &evidence(), "key", elsewhere).await.is_ok(), "the answer was lost");
    assert_eq!(attest(&instances, &evidence(), "stolen", elsewhere).await, Err("instance_known"));
}

#[tokio::test]
async fn only_our_accounts_are_taken() {
    let instances = open(CERTIFICATE, "210987654321", false).unwrap();
    assert_eq!(attest(&instances, &evidence(), "key", here()).await, Err("account"));
}

#[test]
fn certificates_that_cannot_be_meant_are_refused_when_they_are_read() {
    let weak = open(include_str!("tests/rsa1024.pem"), ACCOUNT, false).unwrap_err().to_string();
    assert!(weak.contains("RSA-2048"), "{weak}");
    assert!(open("", ACCOUNT, false).unwrap_err().to_string().contains("no certificate"));
    let missing = Instances::open(BTreeSet::new(), &PathBuf::from("/nowhere/aws.pem"), false).unwrap_err();
    assert!(missing.to_string().contains("/nowhere/aws.pem"));
}
