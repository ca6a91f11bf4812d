use rcgen::PublicKeyData as _;

use super::*;
use crate::Verifier;
use crate::authority::command::Command;
use crate::authority::testing::{Bench, DAY, HOUR, START, claim_of, evidence, key, rule};

const API: [(&str, &str); 2] = [("namespace", "default"), ("service_account", "api")];

fn bench() -> Bench {
    Bench::with(|options| options.rules = vec![rule(&API, "/svc/api")], None)
}

fn denied(result: Result<Issued, Denied>) -> (u16, &'static str) {
    let denied = result.unwrap_err();
    (denied.status(), denied.label())
}

#[test]
fn what_is_proved_becomes_a_certificate_that_peers_take() {
    let (bench, key) = (bench(), key());
    let issued = bench.evidence(&key, &API).unwrap();
    assert_eq!(issued.id.as_str(), "spiffe://example.org/svc/api");
    assert_eq!(issued.not_after, at(START + DAY));
    let leaf = Verifier::new(&issued.bundle).unwrap().verify(&issued.chain, at(START)).unwrap();
    assert_eq!((leaf.id, leaf.not_before, leaf.not_after), (issued.id, at(START - 60), at(START + DAY)));
    assert_eq!((issued.chain.len(), issued.bundle.roots.len(), issued.bundle.sequence), (2, 1, 1));
    let line = bench.last_line();
    assert_eq!(line["decision"], "issued");
    assert_eq!((line["serial"].as_str(), line["method"].as_str()), (Some(leaf.serial.as_str()), Some("kubernetes")));
    assert_eq!(line["facts"]["service_account"], "api");
    assert_eq!(line["key"], crate::authority::random::hash(&key.subject_public_key_info()));
    assert_eq!(bench.verify(), 1);
}

#[test]
fn what_policy_does_not_give_is_refused_and_written_down() {
    let bench = bench();
    let refused = bench.ask(&key(), evidence(&[("namespace", "other")]), None, Some("192.0.2.7"));
    assert_eq!(denied(refused), (403, "not_allowed"));
    let line = bench.last_line();
    assert_eq!((line["decision"].as_str(), line["source"].as_str()), (Some("refused"), Some("192.0.2.7")));
    assert!(line["reason"].as_str().unwrap().contains("namespace=other"), "{line}");
    assert_eq!(denied(bench.ask(&key(), evidence(&API), Some("admin"), None)), (403, "not_allowed"));
    assert_eq!(bench.status().issued, 0);
}

#[test]
fn nobody_but_the_authority_gets_its_identity() {
    let bench = bench();
    for service in ["../meshless/ca", "", "ca/x", "."] {
        assert_eq!(denied(bench.embedded(&key(), service)), (400, "service"), "{service}");
    }
    for id in ["/meshless/ca", "/svc/a/b", "spiffe://other.org/svc/a", "svc"] {
        let csr = base64::Engine::encode(
            &base64::engine::general_purpose::STANDARD,
            crate::authority::testing::request(&key()),
        );
        let refusal = bench.execute(Command::Issue { csr, id: id.to_owned() }).unwrap_err();
        assert_eq!(refusal.kind, crate::authority::command::RefusalKind::Wrong, "{id}");
    }
    assert_eq!(bench.embedded(&key(), "web").unwrap().id.path(), "/svc/web");
}

#[test]
fn a_key_belongs_to_one_identity_and_never_to_the_authority() {
    let (bench, key) = (bench(), key());
    bench.embedded(&key, "web").unwrap();
    bench.embedded(&key, "web").unwrap();
    assert_eq!(denied(bench.evidence(&key, &API)), (400, "key_of_other"));
    bench.sleep(DAY);
    assert!(bench.evidence(&key, &API).is_ok(), "its last certificate has expired");

    let held = bench.desk().held().unwrap();
    let own = rcgen::KeyPair::try_from(held.signer.as_ref().unwrap().key.pkcs8().as_slice()).unwrap();
    drop(held);
    assert_eq!(denied(bench.embedded(&own, "web")), (400, "key_of_authority"));
}

#[test]
fn a_request_for_another_name_is_refused_and_burns_no_token() {
    let bench = bench();
    let (text, _) = bench.token("/svc/web", None);
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI("spiffe://example.org/svc/admin".try_into().unwrap())];
    let csr = Csr::parse(params.serialize_request(&key()).unwrap().der()).unwrap();
    let asked = Asked { service: None, source: None, method: "join-token" };
    assert_eq!(denied(bench.desk().answer(&asked, Ok((csr, claim_of(&text))), at(START))), (400, "csr_name"));
    bench.use_token(&text, None).unwrap();
}

#[test]
fn a_token_is_used_once_for_its_identity() {
    let bench = bench();
    let (text, id) = bench.token("/svc/web", None);
    assert_eq!(bench.last_line()["decision"], "token_created");
    assert!(!bench.audit().contains(&text) && !bench.audit().contains(text.rsplit('_').next().unwrap()));
    assert_eq!(denied(bench.ask(&key(), claim_of(&text), Some("api"), None)), (403, "not_allowed"));
    assert_eq!(bench.use_token(&text, None).unwrap().id.path(), "/svc/web");
    assert_eq!(bench.last_line()["facts"]["token"], id.as_str());
    assert_eq!(denied(bench.use_token(&text, None)), (401, "token_used"));
    assert!(bench.last_line()["reason"].as_str().unwrap().contains(&id));
}

#[test]
fn a_token_is_burnt_before_anything_is_signed() {
    let bench = bench();
    let (text, id) = bench.token("/svc/web", None);
    // The disk is full for the log: the token is gone, and nothing was issued.
    bench.desk().held().unwrap().log.give_up();
    assert_eq!(denied(bench.use_token(&text, None)), (503, "unavailable"));
    assert!(bench.desk().token(&id).unwrap().unwrap().value.used.is_some());
    assert_eq!(bench.status().issued, 0);
}

#[test]
fn tokens_are_refused_by_reason() {
    let bench = bench();
    let (text, _) = bench.token("/svc/web", Some("10.0.0.0/8"));
    assert_eq!(denied(bench.use_token(&text, Some("11.0.0.1"))), (401, "token_source"));
    assert_eq!(denied(bench.use_token(&text, None)), (401, "token_source"));
    bench.use_token(&text, Some("10.0.0.1")).unwrap();
    let (text, id) = bench.token("/svc/web", None);
    bench.execute(Command::TokenRevoke { id }).unwrap();
    assert_eq!(denied(bench.use_token(&text, None)), (401, "token_revoked"));
    let (text, _) = bench.token("/svc/web", None);
    bench.sleep(600);
    assert_eq!(denied(bench.use_token(&text, None)), (401, "token_expired"));
    for text in ["", "mjt_x", "mjt_0000000000000000_AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"] {
        assert_eq!(denied(bench.use_token(text, Some("192.0.2.1"))), (401, "token_unknown"), "{text}");
    }
}

#[test]
fn whoever_guesses_tokens_has_to_wait() {
    let bench = bench();
    let (text, _) = bench.token("/svc/web", None);
    let lines = bench.verify();
    for _ in 0..5 {
        assert_eq!(denied(bench.use_token("mjt_x", Some("192.0.2.1"))), (401, "token_unknown"));
    }
    assert_eq!(denied(bench.use_token(&text, Some("192.0.2.1"))), (429, "throttled"), "even a right one");
    assert_eq!(bench.verify(), lines + 5, "who is told to wait fills no disk");
    bench.use_token(&text, Some("192.0.2.2")).unwrap();
}

#[test]
fn a_renewal_needs_a_living_identity_whose_rule_still_stands() {
    let (bench, first) = (bench(), key());
    let issued = bench.evidence(&first, &API).unwrap();
    let other = self::bench().evidence(&key(), &API).unwrap();
    assert_eq!(denied(bench.renew(&key(), &other.chain)), (401, "unknown_issuer"));
    bench.sleep(12 * HOUR);
    let renewed = bench.renew(&first, &issued.chain).unwrap();
    assert_eq!((renewed.id.path(), renewed.not_after), ("/svc/api", at(START + 36 * HOUR)));
    assert_eq!(bench.last_line()["method"], "renewal");
    let with_new_key = bench.renew(&key(), &renewed.chain).unwrap();
    assert_eq!(denied(bench.ask(&key(), Claim::Renewal(renewed.chain), Some("web"), None)), (403, "not_allowed"));
    bench.sleep(12 * HOUR + 1);
    assert_eq!(denied(bench.renew(&first, &issued.chain)), (401, "expired"));
    assert_eq!(denied(bench.renew(&key(), &[])), (401, "no_certificate"));

    let mut bench = bench;
    bench.options.rules.clear();
    bench.open();
    assert_eq!(denied(bench.renew(&key(), &with_new_key.chain)), (403, "not_allowed"), "the rule is gone");
}

#[test]
fn what_a_rule_of_the_database_gave_ends_with_it() {
    use crate::authority::command::Reply;
    let mut bench = Bench::new();
    assert_eq!(denied(bench.evidence(&key(), &API)), (403, "not_allowed"));
    let Ok(Reply::EntryAdded(entry)) = bench.execute(Command::EntryAdd { rule: rule(&API, "/svc/api") }) else {
        panic!()
    };
    assert!(bench.execute(Command::EntryAdd { rule: rule(&API, "/svc/api") }).is_err(), "twice");
    bench.open();
    let issued = bench.evidence(&key(), &API).unwrap();
    bench.renew(&key(), &issued.chain).unwrap();
    bench.execute(Command::EntryRemove { id: entry.id.clone() }).unwrap();
    assert_eq!(denied(bench.renew(&key(), &issued.chain)), (403, "not_allowed"));
    assert!(bench.execute(Command::EntryRemove { id: entry.id }).is_err());
}

#[test]
fn what_a_token_gave_is_renewed_until_the_token_is_revoked() {
    let bench = bench();
    let (text, id) = bench.token("/svc/web", None);
    let issued = bench.use_token(&text, None).unwrap();
    bench.sleep(20 * HOUR);
    bench.desk().advance().unwrap();
    let renewed = bench.renew(&key(), &issued.chain).unwrap();
    bench.sleep(20 * HOUR);
    bench.desk().advance().unwrap();
    let renewed = bench.renew(&key(), &renewed.chain).unwrap();
    bench.execute(Command::TokenRevoke { id: id.clone() }).unwrap();
    assert_eq!(denied(bench.renew(&key(), &renewed.chain)), (403, "not_allowed"));
    bench.sleep(24 * HOUR);
    bench.desk().advance().unwrap();
    assert!(bench.desk().token(&id).unwrap().is_none(), "nobody needs it any more");
}

#[test]
fn a_blocked_identity_gets_nothing() {
    let bench = bench();
    let issued = bench.evidence(&key(), &API).unwrap();
    bench.execute(Command::Block { id: "/svc/api".to_owned() }).unwrap();
    assert_eq!(denied(bench.renew(&key(), &issued.chain)), (403, "not_allowed"));
    assert_eq!(denied(bench.evidence(&key(), &API)), (403, "not_allowed"));
    let (text, _) = bench.token("/svc/api", None);
    assert_eq!(denied(bench.use_token(&text, None)), (403, "not_allowed"));
    assert_eq!(bench.status().blocked, ["/svc/api"]);
    bench.execute(Command::Unblock { id: "spiffe://example.org/svc/api".to_owned() }).unwrap();
    bench.use_token(&text, None).unwrap();
    assert!(bench.execute(Command::Unblock { id: "/svc/api".to_owned() }).is_err());
}

#[test]
fn certificates_of_operators_and_of_this_process_are_not_renewed() {
    let bench = bench();
    let issued = bench.embedded(&key(), "web").unwrap();
    assert_eq!(denied(bench.renew(&key(), &issued.chain)), (403, "not_allowed"));
    let by_hand = bench.ask(&key(), Claim::Operator(issued.id), None, None).unwrap();
    assert_eq!(denied(bench.renew(&key(), &by_hand.chain)), (403, "not_allowed"));
}

#[test]
fn a_certificate_that_the_database_does_not_know_is_not_renewed() {
    let bench = bench();
    let issued = bench.evidence(&key(), &API).unwrap();
    let serial = crate::leaf(&issued.chain[0]).unwrap().serial;
    let name = format!("{ISSUED}{serial}");
    let version = bench.desk().store.read(&name).unwrap().unwrap().version;
    bench.desk().store.commit(&[Change::delete(name, version)]).unwrap();
    assert_eq!(denied(bench.renew(&key(), &issued.chain)), (401, "unknown_serial"));
}

#[test]
fn a_clock_that_goes_back_far_stops_the_authority() {
    let bench = bench();
    bench.embedded(&key(), "web").unwrap();
    bench.set(START - 300);
    bench.embedded(&key(), "web").unwrap();
    bench.set(START - 301);
    assert_eq!(denied(bench.embedded(&key(), "web")), (503, "unavailable"));
    bench.set(START);
    bench.embedded(&key(), "web").unwrap();
}

#[test]
fn an_identity_asks_ten_times_in_a_minute() {
    let bench = Bench::with(|options| options.limits = crate::authority::Limits::default(), None);
    for _ in 0..10 {
        bench.embedded(&key(), "web").unwrap();
    }
    let lines = bench.verify();
    let refused = bench.embedded(&key(), "web").unwrap_err();
    assert_eq!(refused, Denied::Throttled { retry_after: Duration::from_secs(6) });
    assert_eq!(bench.verify(), lines);
    bench.embedded(&key(), "api").unwrap();
}

#[test]
fn a_log_that_cannot_be_written_stops_the_authority() {
    let mut bench = bench();
    bench.desk().held().unwrap().log.give_up();
    assert_eq!(denied(bench.embedded(&key(), "web")), (503, "unavailable"));
    assert_eq!(denied(bench.evidence(&key(), &[("namespace", "x")])), (503, "unavailable"), "nor is it refused");
    bench.open();
    bench.embedded(&key(), "web").unwrap();
    assert_eq!((bench.verify(), bench.status().issued), (1, 1));
}

#[test]
fn refusals_beyond_the_limit_are_not_written() {
    let bench = bench();
    for _ in 0..50 {
        assert_eq!(denied(bench.evidence(&key(), &[("namespace", "x")])).0, 403);
    }
    assert_eq!(denied(bench.evidence(&key(), &[("namespace", "x")])), (429, "throttled"));
    assert_eq!(bench.verify(), 50);
    bench.embedded(&key(), "web").unwrap();
}
