//! Tokens before an API server and its keys.

use std::path::Path;
use std::time::SystemTime;

use meshless_fakes::http::Mode;
use meshless_fakes::tokens::{REVIEWER, Signing, Tokens, claims};
use serde_json::Value;

use super::*;

const AUTHORITY: &str = "example.org";

fn challenge(key: &str) -> Challenge {
    Challenge { authority: AUTHORITY.to_owned(), nonce: "nonce".to_owned(), key: key.to_owned() }
}

async fn attest(attestor: &ServiceAccounts, token: &str, key: &str) -> Result<Attested, &'static str> {
    attest_evidence(attestor, &json!({ "token": token }), key).await
}

async fn attest_evidence(attestor: &ServiceAccounts, evidence: &Value, key: &str) -> Result<Attested, &'static str> {
    let challenge = challenge(key);
    let presented = Presented { evidence, challenge: &challenge, source: None, now: SystemTime::now() };
    attestor.attest(&presented).await.map_err(|rejected| match rejected {
        Rejected::Refused { reason, .. } => reason,
        Rejected::Unavailable(_) => "unavailable",
    })
}

/// Both ways to check the tokens of a server, with the directory of their files.
fn both(server: &Tokens, directory: &Path) -> [ServiceAccounts; 2] {
    [by_review(server, directory), ServiceAccounts::new(vec![by_keys(server, directory)])]
}

fn by_review(server: &Tokens, directory: &Path) -> ServiceAccounts {
    let token_file = directory.join("reviewer");
    std::fs::write(&token_file, format!("{REVIEWER}\n")).unwrap();
    let anchors = Anchors::File(certificate(directory));
    ServiceAccounts::new(vec![Cluster::by_review("prod", None, &server.server.url(), anchors, token_file)])
}

fn by_keys(server: &Tokens, directory: &Path) -> Cluster {
    let file = directory.join("keys.json");
    std::fs::write(&file, server.jwks().to_string()).unwrap();
    Cluster::by_file("prod", &server.issuer(), file)
}

/// Nothing is said in TLS here, but a client is built with anchors.
fn certificate(directory: &Path) -> PathBuf {
    let path = directory.join("ca.pem");
    let certified = rcgen::generate_simple_self_signed(vec!["a.example".to_owned()]).unwrap();
    std::fs::write(&path, certified.cert.pem()).unwrap();
    path
}

#[tokio::test]
async fn a_projected_token_proves_cluster_namespace_account_and_pod() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let published = Cluster::by_issuer("prod", &server.issuer(), Anchors::File(certificate(directory.path())));
    let [review, file] = both(&server, directory.path());
    for attestor in [review, file, ServiceAccounts::new(vec![published])] {
        let attested = attest(&attestor, &server.token(AUTHORITY), "key").await.unwrap();
        assert_eq!(attested.method, Method::Kubernetes);
        for (name, value) in [
            ("cluster", "prod"),
            ("namespace", "default"),
            ("service_account", "web"),
            ("pod", "web-0"),
            ("pod_uid", "6a1c"),
        ] {
            assert_eq!(attested.fact(name), Some(value), "{name}");
        }
    }
}

#[tokio::test]
async fn both_ways_refuse_the_same_tokens() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let good = claims(&server.issuer(), AUTHORITY, SystemTime::now());
    let changed = |pointer: &str, value: Value| {
        let mut changed = good.clone();
        *changed.pointer_mut(pointer).unwrap() = value;
        server.sign(&changed)
    };
    let now = good["iat"].as_u64().unwrap();
    let mut legacy = good.clone();
    for gone in ["exp", "aud", "iat", "nbf"] {
        legacy.as_object_mut().unwrap().remove(gone);
    }
    let stranger = Signing::new("one").token(&good);
    let unsigned = format!("{}.", server.sign(&good).rsplit_once('.').unwrap().0);
    for attestor in both(&server, directory.path()) {
        for (token, reasons) in [
            (server.token("https://kubernetes.default.svc"), &["audience"][..]),
            (changed("/aud", json!([AUTHORITY, "other.example"])), &["audience"]),
            (changed("/exp", json!(now - 61)), &["expired"]),
            (changed("/nbf", json!(now + 90)), &["not_yet_valid"]),
            (changed("/exp", json!(now + 86_400)), &["lifetime"]),
            (changed("/kubernetes.io/pod", Value::Null), &["no_pod"]),
            (server.sign(&legacy), &["audience", "legacy_token"]),
            (stranger.clone(), &["signature", "not_authenticated"]),
            (unsigned.clone(), &["signature", "not_authenticated"]),
            ("not.a.token".to_owned(), &["malformed"]),
        ] {
            let reason = attest(&attestor, &token, "key").await.unwrap_err();
            assert!(reasons.contains(&reason), "{reason}, expected one of {reasons:?}");
        }
        for evidence in
            [json!({}), json!({ "token": 1 }), json!(server.token(AUTHORITY)), json!({ "token": "a", "cluster": "b" })]
        {
            assert_eq!(attest_evidence(&attestor, &evidence, "key").await, Err("malformed"), "{evidence}");
        }
        assert!(attest(&attestor, &server.sign(&good), "key").await.is_ok(), "nothing else was wrong");
    }
}

#[tokio::test]
async fn a_token_is_taken_again_after_a_restart_but_not_for_ever_new_keys() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let attestor = ServiceAccounts::new(vec![by_keys(&server, directory.path())]);
    let token = server.token(AUTHORITY);
    for number in 0..16 {
        assert!(attest(&attestor, &token, &format!("key {number}")).await.is_ok(), "{number}");
    }
    assert_eq!(attest(&attestor, &token, "key 16").await, Err("token_reuse"));
    assert!(attest(&attestor, &token, "key 0").await.is_ok(), "a key that it was shown for before");
}

#[tokio::test]
async fn a_pod_that_is_gone_is_refused_by_review() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let attestor = by_review(&server, directory.path());
    let token = server.token(AUTHORITY);
    assert!(attest(&attestor, &token, "key").await.is_ok());
    server.delete("6a1c");
    assert_eq!(attest(&attestor, &token, "key").await, Err("not_authenticated"));
}

#[tokio::test]
async fn what_the_api_server_says_must_be_what_the_token_says() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let attestor = by_review(&server, directory.path());
    let token = server.token(AUTHORITY);
    let user = |name: &str, pod: &str, uid: &str| {
        json!({ "user": { "username": name, "extra": {
            "authentication.kubernetes.io/pod-name": [pod], "authentication.kubernetes.io/pod-uid": [uid] } } })
    };
    let name = "system:serviceaccount:default:web";
    for (said, reason) in [
        (json!({ "authenticated": false }), "not_authenticated"),
        (json!({ "authenticated": null }), "unavailable"),
        (json!({ "audiences": [] }), "audience"),
        (json!({ "audiences": ["other.example"] }), "audience"),
        (json!({ "audiences": [AUTHORITY, "other.example"] }), "audience"),
        (user("system:serviceaccount:default:admin", "web-0", "6a1c"), "not_authenticated"),
        (user("system:node:node-1", "web-0", "6a1c"), "not_authenticated"),
        (user(name, "web-1", "6a1c"), "not_authenticated"),
        (user(name, "web-0", "other"), "not_authenticated"),
        (json!({ "user": { "username": name } }), "not_authenticated"),
    ] {
        server.lie(said.clone());
        assert_eq!(attest(&attestor, &token, "key").await, Err(reason), "{said}");
    }
    server.lie(json!({}));
    assert!(attest(&attestor, &token, "key").await.is_ok());
    server.forget_audiences();
    assert_eq!(attest(&attestor, &token, "key").await, Err("audience"), "a server that knows no audiences");
}

#[tokio::test]
async fn trouble_at_the_api_server_proves_nothing_and_disproves_nothing() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let attestor = by_review(&server, directory.path());
    let token = server.token(AUTHORITY);
    for mode in [Mode::Status(500), Mode::Status(403), Mode::Status(302), Mode::Garbage, Mode::Down] {
        server.server.set(mode);
        assert_eq!(attest(&attestor, &token, "key").await, Err("unavailable"), "{mode:?}");
    }
    server.server.set(Mode::Serve);
    std::fs::write(directory.path().join("reviewer"), "stale").unwrap();
    assert_eq!(attest(&attestor, &token, "key").await, Err("unavailable"), "our own token is not taken");
    std::fs::remove_file(directory.path().join("reviewer")).unwrap();
    assert_eq!(attest(&attestor, &token, "key").await, Err("unavailable"), "our own token is gone");
}

#[tokio::test]
async fn keys_that_an_issuer_publishes_later_are_looked_for_but_not_for_each_made_up_one() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let anchors = Anchors::File(certificate(directory.path()));
    let attestor = ServiceAccounts::new(vec![Cluster::by_issuer("prod", &server.issuer(), anchors)]);
    server.server.set(Mode::Down);
    assert_eq!(attest(&attestor, &server.token(AUTHORITY), "key").await, Err("unavailable"));
    server.server.set(Mode::Serve);
    // A moment later nobody is asked again.
    assert_eq!(attest(&attestor, &server.token(AUTHORITY), "key").await, Err("unavailable"));
    let anchors = Anchors::File(certificate(directory.path()));
    let attestor = ServiceAccounts::new(vec![Cluster::by_issuer("prod", &server.issuer(), anchors)]);
    assert!(attest(&attestor, &server.token(AUTHORITY), "key").await.is_ok());
    let asked = server.server.requests().len();
    let made_up = Signing::new("made up").token(&claims(&server.issuer(), AUTHORITY, SystemTime::now()));
    for _ in 0..5 {
        assert_eq!(attest(&attestor, &made_up, "key").await, Err("unknown_key"));
    }
    assert_eq!(server.server.requests().len(), asked, "within 10 s the issuer is not asked again");
    server.server.set(Mode::Down);
    assert!(attest(&attestor, &server.token(AUTHORITY), "key").await.is_ok(), "keys that are known hold");
}

#[tokio::test]
async fn a_discovery_document_of_another_issuer_is_not_taken() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    server.publish(Some(
        json!({ "issuer": "https://other.example", "jwks_uri": format!("{}/openid/v1/jwks", server.issuer()) }),
    ));
    let anchors = Anchors::File(certificate(directory.path()));
    let attestor = ServiceAccounts::new(vec![Cluster::by_issuer("prod", &server.issuer(), anchors)]);
    assert_eq!(attest(&attestor, &server.token(AUTHORITY), "key").await, Err("unavailable"));
}

#[tokio::test]
async fn of_several_clusters_the_one_that_signed_is_named() {
    let (one, two) = (Tokens::start(), Tokens::start());
    let (here, there) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    // Clusters made by one tool have issuers of one name.
    let issuer = "https://kubernetes.default.svc.cluster.local";
    let cluster = |name: &str, server: &Tokens, directory: &Path| {
        let file = directory.join("keys.json");
        std::fs::write(&file, server.jwks().to_string()).unwrap();
        Cluster::by_file(name, issuer, file)
    };
    let attestor = ServiceAccounts::new(vec![cluster("one", &one, here.path()), cluster("two", &two, there.path())]);
    let claims = claims(issuer, AUTHORITY, SystemTime::now());
    for (server, name) in [(&one, "one"), (&two, "two")] {
        let attested = attest(&attestor, &server.sign(&claims), name).await.unwrap();
        assert_eq!(attested.fact("cluster"), Some(name));
    }
    assert_eq!(attest(&attestor, &Signing::new("one").token(&claims), "key").await, Err("signature"));
    std::fs::remove_file(there.path().join("keys.json")).unwrap();
    assert_eq!(attest(&attestor, &two.sign(&claims), "key").await, Err("unavailable"), "it could be of the other one");
}

#[tokio::test]
async fn a_pod_shows_its_token_to_the_authority_that_it_is_for_and_to_nobody_else() {
    let (server, directory) = (Tokens::start(), tempfile::tempdir().unwrap());
    let file = directory.path().join("token");
    let prover = ServiceAccount::new(file.clone());
    let error = prover.prove(&challenge("key")).await.unwrap_err().to_string();
    assert!(error.contains("cannot be read") && error.contains(file.to_str().unwrap()), "{error}");
    std::fs::write(&file, server.token("https://kubernetes.default.svc")).unwrap();
    let error = prover.prove(&challenge("key")).await.unwrap_err().to_string();
    assert!(error.contains("audience: example.org"), "{error}");
    let first = server.token(AUTHORITY);
    std::fs::write(&file, format!("{first}\n")).unwrap();
    assert_eq!(prover.prove(&challenge("key")).await.unwrap(), json!({ "token": first }));
    let second = server.token(AUTHORITY);
    std::fs::write(&file, &second).unwrap();
    assert_eq!(prover.prove(&challenge("key")).await.unwrap(), json!({ "token": second }), "read anew");
}
