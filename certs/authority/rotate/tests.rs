use super::*;
use crate::authority::command::{Command, Reply, Secret};
use crate::authority::testing::{Bench, DAY, HOUR, START, key};
use crate::authority::{OpenError, Options, init, make_root_key, read_root_key};
use crate::{Identity, Verifier};

fn signer(bench: &Bench) -> String {
    bench.desk().held().unwrap().signer.as_ref().unwrap().name.clone()
}

/// Sleeps until a day of the authority's life, as its process would: looking at the plan now and then.
fn live_until(bench: &Bench, day: u64) {
    while bench.now() < START + day * DAY {
        bench.sleep(4 * HOUR);
        bench.desk().advance().unwrap();
    }
}

#[test]
fn intermediates_follow_each_other_for_half_a_year_without_a_person() {
    let bench = Bench::new();
    let root = bench.desk().bundle();
    let mut names = std::collections::BTreeSet::new();
    for day in 1..=180 {
        live_until(&bench, day);
        let issued = bench.embedded(&key(), "web").unwrap();
        assert_eq!(seconds(issued.not_after), bench.now() + DAY, "never cut short");
        Verifier::new(&root).unwrap().verify(&issued.chain, bench.desk().now()).unwrap();
        names.insert(signer(&bench));
    }
    assert!((5..=7).contains(&names.len()), "{}", names.len());
    let status = bench.status();
    assert_eq!((status.roots.len(), status.sequence), (1, 1));
    assert!(status.intermediates.len() <= 2);
    assert!(status.issued <= 2, "what has expired is dropped: {}", status.issued);
    let keys = bench.desk().store.list(record::KEYS).unwrap().len();
    assert!(keys <= 3, "keys of those that signed before are gone: {keys}");
    bench.verify();
}

#[test]
fn a_root_is_replaced_while_everybody_goes_on() {
    let mut bench = Bench::new();
    let old = bench.desk().bundle();
    let before = bench.embedded(&key(), "web").unwrap();
    let Ok(Reply::Rotated { root: Some(made), .. }) = bench.execute(Command::RotateRoot { root_key: None, now: false })
    else {
        panic!()
    };
    let both = bench.desk().bundle();
    assert_eq!((both.roots.len(), both.sequence), (2, 2));
    assert!(both.to_pem().ends_with(&made));
    assert!(bench.execute(Command::RotateRoot { root_key: None, now: false }).is_err(), "one at a time");
    bench.sleep(47 * HOUR);
    bench.desk().advance().unwrap();
    let still_old = bench.embedded(&key(), "web").unwrap();
    Verifier::new(&old).unwrap().verify(&still_old.chain, bench.desk().now()).unwrap();

    bench.sleep(HOUR);
    bench.open();
    bench.desk().advance().unwrap();
    let new = bench.embedded(&key(), "web").unwrap();
    let now = bench.desk().now();
    assert!(Verifier::new(&old).unwrap().verify(&new.chain, now).is_err());
    let verifier = Verifier::new(&both).unwrap();
    verifier.verify(&new.chain, now).unwrap();
    verifier.verify(&still_old.chain, now).unwrap();
    assert!(verifier.verify(&before.chain, now).is_err(), "it has expired");
    assert_eq!(bench.desk().bundle().roots.len(), 2, "a leaf under the old one is alive");

    bench.sleep(23 * HOUR);
    bench.desk().advance().unwrap();
    let last = bench.desk().bundle();
    assert_eq!((last.roots.len(), last.sequence), (1, 3));
    Verifier::new(&last).unwrap().verify(&new.chain, bench.desk().now()).unwrap();
    bench.execute(Command::RotateRoot { root_key: None, now: false }).unwrap();
    bench.verify();
}

#[test]
fn an_intermediate_can_be_replaced_at_once() {
    let bench = Bench::new();
    let first = signer(&bench);
    bench.execute(Command::RotateIntermediate { root_key: None, now: false }).unwrap();
    assert_eq!(signer(&bench), first);
    assert!(bench.execute(Command::RotateIntermediate { root_key: None, now: false }).is_err());
    bench.execute(Command::RotateIntermediate { root_key: None, now: true }).unwrap();
    let second = signer(&bench);
    assert_ne!(first, second);
    bench.execute(Command::RotateIntermediate { root_key: None, now: true }).unwrap();
    assert_ne!(signer(&bench), second);
    assert!(bench.execute(Command::RotateRoot { root_key: None, now: true }).is_err(), "none is prepared");
    bench.embedded(&key(), "web").unwrap();
}

#[test]
fn a_root_that_is_kept_elsewhere_is_needed_for_the_next_intermediate() {
    let bench = Bench::with(|_| {}, Some("vault"));
    let names = |path: &str| {
        let mut names: Vec<_> =
            std::fs::read_dir(bench.path(path)).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names("vault"), ["root.key", "root.pem"]);
    assert_eq!(bench.desk().store.list(record::KEYS).unwrap().len(), 1, "the intermediate's alone");
    assert!(!bench.status().roots[0].key_here);
    bench.embedded(&key(), "web").unwrap();
    bench.sleep(31 * DAY);
    bench.desk().advance().unwrap();
    assert_eq!(bench.status().intermediates.len(), 1, "it waits for the root's key");
    let refusal = bench.execute(Command::RotateIntermediate { root_key: None, now: false }).unwrap_err();
    assert!(refusal.why.contains("--root-key"), "{refusal}");
    let other = make_root_key(&bench.path("other"), &bench.options).unwrap();
    let refused = bench.execute(Command::RotateIntermediate { root_key: Some(Secret::new(other)), now: false });
    assert!(refused.unwrap_err().why.contains("is not that of"), "another root's key");
    let right = read_root_key(&bench.path("vault/root.key"), &bench.options).unwrap();
    bench.execute(Command::RotateIntermediate { root_key: Some(Secret::new(right)), now: false }).unwrap();
    bench.sleep(15 * DAY);
    bench.desk().advance().unwrap();
    let issued = bench.embedded(&key(), "web").unwrap();
    Verifier::new(&issued.bundle).unwrap().verify(&issued.chain, bench.desk().now()).unwrap();
    assert_eq!(bench.desk().store.list(record::KEYS).unwrap().len(), 1, "the root's key was not kept");

    let next = make_root_key(&bench.path("vault2"), &bench.options).unwrap();
    bench.execute(Command::RotateRoot { root_key: Some(Secret::new(next)), now: false }).unwrap();
    assert!(bench.status().roots.iter().all(|root| !root.key_here));
    bench.sleep(2 * DAY);
    bench.desk().advance().unwrap();
    let issued = bench.embedded(&key(), "web").unwrap();
    Verifier::new(&issued.bundle).unwrap().verify(&issued.chain, bench.desk().now()).unwrap();
}

#[test]
fn an_expired_intermediate_says_what_it_needs() {
    let bench = Bench::with(|_| {}, Some("vault"));
    bench.sleep(60 * DAY - HOUR);
    let issued = bench.embedded(&key(), "web").unwrap();
    assert_eq!(seconds(issued.not_after), START + 60 * DAY, "never beyond its issuer");
    bench.sleep(HOUR);
    let denied = bench.embedded(&key(), "web").unwrap_err();
    assert!(denied.status() == 503 && denied.to_string().contains("--root-key"), "{denied}");
}

#[test]
fn after_a_long_sleep_the_next_intermediate_signs_at_once() {
    let mut bench = Bench::new();
    bench.sleep(200 * DAY);
    bench.open();
    bench.desk().advance().unwrap();
    let issued = bench.embedded(&key(), "web").unwrap();
    Verifier::new(&issued.bundle).unwrap().verify(&issued.chain, bench.desk().now()).unwrap();
}

#[test]
fn the_shortest_lives_work_too() {
    use std::time::Duration;
    let short = |options: &mut Options| {
        options.leaf_ttl = Duration::from_secs(5);
        options.intermediate_ttl = Duration::from_secs(20);
        options.limits.per_second = 1_000;
    };
    let bench = Bench::with(short, None);
    let mut names = std::collections::BTreeSet::new();
    for second in 0..120 {
        if second == 30 {
            bench.execute(Command::RotateRoot { root_key: None, now: false }).unwrap();
        }
        let wait = bench.desk().advance().unwrap();
        assert!(wait >= Duration::from_secs(1) && wait <= Duration::from_secs(30));
        let key = key();
        let issued = bench.embedded(&key, "web").unwrap();
        let identity = Identity::new(
            issued.chain,
            zeroize::Zeroizing::new(key.serialize_der()),
            issued.bundle,
            bench.desk().now(),
        )
        .unwrap();
        assert!(identity.renew_at(0.0) > bench.desk().now(), "half of the life is ahead");
        names.insert(signer(&bench));
        bench.sleep(1);
    }
    assert!(names.len() >= 10, "{}", names.len());
    assert_eq!((bench.desk().bundle().roots.len(), bench.desk().bundle().sequence), (1, 3));
    bench.verify();
}

#[test]
fn there_is_one_root_and_never_another_by_accident() {
    let mut bench = Bench::new();
    let trust_domain = "example.org".parse().unwrap();
    let again = |path: &std::path::Path, options: &Options| init(path, &trust_domain, options, None);
    assert!(matches!(again(&bench.directory(), &bench.options), Err(OpenError::Exists(_))));
    let open = |bench: &Bench, name: &str| Desk::open(&bench.path(name), bench.options.clone()).unwrap_err();
    assert!(matches!(open(&bench, "ca"), OpenError::InUse(_)));
    assert!(matches!(open(&bench, "nowhere"), OpenError::None(_)));
    bench.desk = None;

    std::fs::rename(bench.path("ca/ca.redb"), bench.path("taken")).unwrap();
    std::fs::write(bench.path("ca/audit.log"), b"").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    std::fs::set_permissions(bench.path("ca/audit.log"), std::fs::Permissions::from_mode(0o600)).unwrap();
    let error = open(&bench, "ca");
    assert!(matches!(error, OpenError::Torn { .. }) && error.to_string().contains("restore a backup"), "{error}");
    assert!(matches!(again(&bench.directory(), &bench.options), Err(OpenError::Torn { .. })));

    std::fs::remove_file(bench.path("ca/audit.log")).unwrap();
    let bytes = std::fs::read(bench.path("taken")).unwrap();
    for torn in [&bytes[..0], &bytes[..100], &bytes[..bytes.len() / 2]] {
        crate::authority::directory::write_new(&bench.path("ca/ca.redb"), torn).unwrap();
        let error = open(&bench, "ca");
        assert!(matches!(error, OpenError::Unreadable { .. }), "{} bytes: {error}", torn.len());
        assert!(matches!(again(&bench.directory(), &bench.options), Err(OpenError::Exists(_))));
        std::fs::remove_file(bench.path("ca/ca.redb")).unwrap();
    }
    // What an interrupted `init` leaves was told to nobody.
    crate::authority::directory::write_new(&bench.path("ca/ca.redb.new"), b"half").unwrap();
    assert!(matches!(open(&bench, "ca"), OpenError::Torn { .. }));
    again(&bench.directory(), &bench.options).unwrap();
    bench.open();
}

#[test]
fn keys_at_rest_are_sealed_when_a_passphrase_is_given() {
    use crate::authority::Passphrase;
    let passphrase = |text: &str| Passphrase::new(zeroize::Zeroizing::new(text.as_bytes().to_vec())).unwrap();
    let mut bench = Bench::new();
    let name = signer(&bench);
    bench.options.passphrase = Some(passphrase("correct horse battery"));
    bench.open();
    assert_eq!(signer(&bench), name);
    for (name, stored) in bench.desk().store.list(record::KEYS).unwrap() {
        assert!(crate::authority::keys::is_sealed(&stored.value), "{name}");
    }
    bench.execute(Command::RotateIntermediate { root_key: None, now: true }).unwrap();
    bench.desk = None;
    let open = |options: Options| Desk::open(&bench.directory(), options).unwrap_err().to_string();
    assert!(open(Options { passphrase: None, ..bench.options.clone() }).contains("passphrase_file"));
    let wrong = Options { passphrase: Some(passphrase("another passphrase")), ..bench.options.clone() };
    assert!(open(wrong).contains("does not open"));
    bench.open();
    bench.embedded(&key(), "web").unwrap();
}

#[test]
fn a_backup_is_restored_into_an_empty_directory_and_old_tokens_are_refused() {
    use crate::authority::{Passphrase, backup_bytes, restore};
    let mut bench = Bench::new();
    let passphrase = zeroize::Zeroizing::new("correct horse battery".to_owned());
    let (token, _) = bench.token("/svc/web", None);
    let issued = bench.embedded(&key(), "web").unwrap();
    let Ok(Reply::Backup(sealed)) = bench.execute(Command::Backup { passphrase: Secret::new(passphrase.clone()) })
    else {
        panic!()
    };
    let bytes = backup_bytes(&sealed).unwrap();
    assert!(!bytes.windows(11).any(|part| part == b"example.org"));
    let (lines, log) = (bench.verify(), bench.audit());
    bench.use_token(&token, None).unwrap();
    let known = bench.desk().bundle();
    bench.desk = None;

    let passphrase = Passphrase::new(zeroize::Zeroizing::new(passphrase.as_bytes().to_vec())).unwrap();
    assert!(matches!(restore(&bench.directory(), &bytes, &passphrase, &bench.options), Err(OpenError::Exists(_))));
    let other = Passphrase::new(zeroize::Zeroizing::new(b"another passphrase".to_vec())).unwrap();
    assert!(restore(&bench.path("new"), &bytes, &other, &bench.options).is_err());
    let restored = restore(&bench.path("new"), &bytes, &passphrase, &bench.options).unwrap();
    assert_eq!(restored.sequence, known.sequence + 1_000);
    std::fs::rename(bench.directory(), bench.path("old")).unwrap();
    std::fs::rename(bench.path("new"), bench.directory()).unwrap();
    bench.open();
    assert_eq!((bench.desk().bundle().roots.clone(), bench.desk().bundle().sequence), (known.roots.clone(), 1_001));
    let denied = bench.use_token(&token, None).unwrap_err();
    assert_eq!(denied.label(), "token_restored");
    Verifier::new(&bench.desk().bundle()).unwrap().verify(&issued.chain, bench.desk().now()).unwrap();
    bench.sleep(1);
    let (token, _) = bench.token("/svc/web", None);
    bench.use_token(&token, None).unwrap();
    assert_eq!(bench.verify(), 3, "a log of its own …");
    let first: serde_json::Value = serde_json::from_str(bench.audit().lines().next().unwrap()).unwrap();
    assert_eq!(
        first["previous"],
        crate::authority::random::hash(log.lines().last().unwrap().as_bytes()),
        "… behind the old"
    );
    assert_eq!(first["line"], lines + 1);
    assert_eq!(bench.status().restored, Some(START));
}
