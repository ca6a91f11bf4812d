//! The agent: against the real server over loopback, and over a channel of the tests where time is paused.

use std::fs;
use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Mutex;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustls::ClientConfig;
use tokio::time::{Instant, timeout};

use super::pin::{Pinned, Trusted};
use super::*;
use crate::attest::TokenProver;
use crate::authority::server::ServerOptions;
use crate::authority::server::tests::Served;
use crate::authority::server::tests::issuer::InMemory;

/// What an agent makes handshakes with that knows the roots of an authority.
pub(crate) fn client_config(issuer: &InMemory, identity: Option<&Identity>) -> ClientConfig {
    let trust = Trusted { trust_domain: issuer.trust_domain.clone(), bundles: vec![issuer.bundle()], key: None };
    Pinned::new(&trust).unwrap().config(identity).unwrap()
}

fn options(address: SocketAddr, pin: Pin) -> AgentOptions {
    AgentOptions {
        url: format!("https://{address}").parse().unwrap(),
        pin,
        trust_domain: "example.org".parse().unwrap(),
        service: Some("web".to_owned()),
        state_dir: None,
    }
}

fn pin(issuer: &InMemory) -> Pin {
    Pin::Key(KeyHash::of(&issuer.root()).unwrap())
}

/// A prover whose token is in `directory`, where it may be replaced.
fn prover(directory: &Path, token: &str) -> Arc<TokenProver> {
    let path = directory.join("token");
    fs::write(&path, token).unwrap();
    Arc::new(TokenProver::new(path))
}

fn proofs(issuer: &InMemory) -> Vec<&'static str> {
    issuer.proofs.lock().unwrap().clone()
}

/// As the runner of identity sources does: until there is one.
async fn heal(agent: &mut Agent) -> Arc<Identity> {
    let deadline = Instant::now() + Duration::from_secs(20);
    loop {
        match agent.next().await {
            Ok(identity) => return identity,
            Err(error) => assert!(Instant::now() < deadline, "{error}"),
        }
        sleep(Duration::from_millis(50)).await;
    }
}

#[test]
fn a_url_is_that_of_an_origin_by_https() {
    for right in ["https://ca.internal:8443", "https://10.0.0.1:8443/", "https://[::1]:8443"] {
        assert!(right.parse::<AuthorityUrl>().is_ok(), "{right}");
    }
    for wrong in
        ["", "ca.internal:8443", "http://ca.internal", "https://u@ca", "https://ca/v1", "https://ca?x", "https://ca#x"]
    {
        assert_eq!(wrong.parse::<AuthorityUrl>(), Err(AuthorityUrlError), "{wrong}");
    }
    assert_eq!("https://ca:8443".parse::<AuthorityUrl>().unwrap().to_string(), "https://ca:8443");
}

#[tokio::test]
async fn a_token_and_a_pin_are_enough_and_renewal_takes_another_key() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    issuer.lifetime.store(4000, Ordering::SeqCst);
    let mut agent = Agent::new(options(served.address, pin(&issuer)), prover(directory.path(), "good-1"));
    let first = agent.next().await.unwrap();
    assert_eq!(first.id().as_str(), "spiffe://example.org/svc/web");
    let second = agent.next().await.unwrap();
    assert_eq!(proofs(&issuer), ["join-token", "renewal"]);
    assert_ne!(first.key(), second.key());
    assert!(second.leaf().not_after > first.leaf().not_after);
}

#[tokio::test]
async fn roots_may_be_given_as_a_file() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    let file = directory.path().join("ca.pem");
    let mut agent = Agent::new(options(served.address, Pin::File(file.clone())), prover(directory.path(), "good-1"));
    let missing = agent.next().await.unwrap_err().to_string();
    assert!(missing.contains("authority_bundle") && missing.contains("ca.pem"), "{missing}");
    fs::write(&file, issuer.bundle().to_pem()).unwrap();
    agent.next().await.unwrap();
}

#[tokio::test]
async fn who_is_not_pinned_is_told_nothing() {
    let (issuer, other, directory) = (InMemory::new(), InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    let file = directory.path().join("ca.pem");
    fs::write(&file, other.bundle().to_pem()).unwrap();
    for wrong in [pin(&other), Pin::File(file)] {
        let mut agent = Agent::new(options(served.address, wrong), prover(directory.path(), "good-1"));
        let error = agent.next().await.unwrap_err();
        assert!(matches!(&error, SourceError::Malformed(why) if why.contains("is not the authority")), "{error}");
    }
    assert_eq!(issuer.issued(), 0);
    // Of another trust domain, with the right key.
    let mut strange = options(served.address, pin(&issuer));
    strange.trust_domain = "example.com".parse().unwrap();
    let error = Agent::new(strange, prover(directory.path(), "good-1")).next().await.unwrap_err().to_string();
    assert!(error.contains("trust domain"), "{error}");
}

#[tokio::test]
async fn a_workload_cannot_play_the_authority() {
    // A server with a certificate of the right root, whose name is that of a workload.
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    let mut agent = Agent::new(options(served.address, pin(&issuer)), prover(directory.path(), "good-1"));
    let workload = agent.next().await.unwrap();
    let mesh = Arc::new(crate::Mesh::default());
    mesh.publish(workload);
    let config = crate::MeshServer::new(mesh, &[b"h2"]).config(SystemTime::now()).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let _ = tokio_rustls::TlsAcceptor::from(config.clone()).accept(stream).await;
        }
    });
    let file = directory.path().join("ca.pem");
    fs::write(&file, issuer.bundle().to_pem()).unwrap();
    let mut agent = Agent::new(options(address, Pin::File(file)), prover(directory.path(), "good-2"));
    let error = agent.next().await.unwrap_err();
    assert!(matches!(&error, SourceError::Malformed(why) if why.contains("/svc/web, expected")), "{error}");
}

#[tokio::test]
async fn a_token_that_is_used_up_is_denied_and_a_fresh_one_heals() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    for expected in [true, false] {
        let mut agent = Agent::new(options(served.address, pin(&issuer)), prover(directory.path(), "good-1"));
        match agent.next().await {
            Ok(_) => assert!(expected),
            Err(error) => {
                assert!(!expected && matches!(&error, SourceError::Denied(why) if why.contains("token")), "{error}");
                fs::write(directory.path().join("token"), "good-2").unwrap();
                agent.next().await.unwrap();
            }
        }
    }
}

#[tokio::test]
async fn a_renewal_that_is_refused_is_made_good_by_attesting() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    issuer.lifetime.store(3000, Ordering::SeqCst);
    let mut agent = Agent::new(options(served.address, pin(&issuer)), prover(directory.path(), "good-1"));
    agent.next().await.unwrap();
    issuer.refuses_renewal.store(true, Ordering::SeqCst);
    // The token is used up, so both ways are closed; the error has both reasons.
    let error = agent.next().await.unwrap_err();
    assert!(
        matches!(&error, SourceError::Denied(why) if why.contains("token") && why.contains("entry is gone")),
        "{error}"
    );
    fs::write(directory.path().join("token"), "good-2").unwrap();
    agent.next().await.unwrap();
    assert_eq!(proofs(&issuer), ["join-token", "join-token"]);
}

#[tokio::test]
async fn a_leaf_that_the_bundle_of_now_does_not_know_is_replaced_by_attesting() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    issuer.lifetime.store(3000, Ordering::SeqCst);
    let file = directory.path().join("ca.pem");
    fs::write(&file, issuer.bundle().to_pem()).unwrap();
    let mut agent = Agent::new(options(served.address, Pin::File(file.clone())), prover(directory.path(), "good-1"));
    agent.next().await.unwrap();
    issuer.replace_root(false);
    fs::write(&file, issuer.bundle().to_pem()).unwrap();
    fs::write(directory.path().join("token"), "good-2").unwrap();
    let next = heal(&mut agent).await;
    assert_eq!(next.bundle().sequence, 2);
    assert_eq!(proofs(&issuer), ["join-token", "join-token"]);
}

#[tokio::test]
async fn an_authority_that_is_away_costs_nothing_until_the_leaf_expires_and_heals_by_itself() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    let address = served.address;
    issuer.lifetime.store(4000, Ordering::SeqCst);
    let mut agent = Agent::new(options(address, pin(&issuer)), prover(directory.path(), "good-1"));
    let first = agent.next().await.unwrap();
    served.end().await;
    // Asked at half of the lifetime: nobody answers, and what is in force is valid.
    let error = agent.next().await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable(_)), "{error}");
    assert!(!first.left(SystemTime::now()).is_zero());
    // Until it is not any more.
    while !first.left(SystemTime::now()).is_zero() {
        assert!(agent.next().await.is_err());
        sleep(Duration::from_millis(50)).await;
    }
    assert!(matches!(agent.next().await, Err(SourceError::Unreachable(_))));
    // Back at the same place: what has expired is attested anew.
    fs::write(directory.path().join("token"), "good-2").unwrap();
    let _served = Served::with(&issuer, ServerOptions::default(), address.port()).await;
    let healed = heal(&mut agent).await;
    assert!(!healed.left(SystemTime::now()).is_zero());
    assert_eq!(proofs(&issuer), ["join-token", "join-token"]);
}

#[tokio::test]
async fn a_lost_answer_burns_no_token() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    issuer.decides_in.store(400, Ordering::SeqCst);
    let relay = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let mut agent = Agent::new(options(relay.local_addr().unwrap(), pin(&issuer)), prover(directory.path(), "good-1"));
    // The first connection is cut while the authority decides, the next ones are not.
    let (target, decider) = (served.address, issuer.clone());
    tokio::spawn(async move {
        let mut is_first = true;
        while let Ok((mut client, _)) = relay.accept().await {
            let (first, decider) = (std::mem::take(&mut is_first), decider.clone());
            tokio::spawn(async move {
                let mut onward = tokio::net::TcpStream::connect(target).await.unwrap();
                let copy = tokio::io::copy_bidirectional(&mut client, &mut onward);
                let cut = async {
                    while !first || decider.issued() == 0 {
                        sleep(Duration::from_millis(1)).await;
                        if first && decider.is_deciding() {
                            return;
                        }
                    }
                };
                tokio::select! { _ = copy => {}, () = cut => {} }
            });
        }
    });
    let error = agent.next().await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable(_)), "{error}");
    agent.next().await.unwrap();
    assert_eq!((issuer.issued(), proofs(&issuer)), (1, vec!["join-token"]));
}

#[tokio::test]
async fn a_restart_begins_with_what_was_kept_though_nobody_answers() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    let mut kept = options(served.address, pin(&issuer));
    kept.state_dir = Some(directory.path().join("state/identity"));
    let first = Agent::new(kept.clone(), prover(directory.path(), "good-1")).next().await.unwrap();
    served.end().await;
    let again = Agent::new(kept.clone(), prover(directory.path(), "good-1")).next().await.unwrap();
    assert_eq!((again.leaf(), again.key()), (first.leaf(), first.key()));
    let file = directory.path().join("state/identity/identity.json");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!((mode(&file), mode(file.parent().unwrap())), (0o600, 0o700));
    // Another authority, another service or a broken file: it is not used, and nobody answers.
    let mut other_pin = kept.clone();
    other_pin.pin = pin(&InMemory::new());
    let mut other_service = kept.clone();
    other_service.service = Some("api".to_owned());
    for other in [other_pin, other_service] {
        assert!(Agent::new(other, prover(directory.path(), "good-1")).next().await.is_err());
    }
    fs::write(&file, "{").unwrap();
    assert!(Agent::new(kept, prover(directory.path(), "good-1")).next().await.is_err());
}

#[tokio::test]
async fn a_pin_that_names_a_root_of_the_kept_bundle_is_the_same_authority() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    let mut kept = options(served.address, pin(&issuer));
    kept.state_dir = Some(directory.path().join("identity"));
    issuer.replace_root(true);
    Agent::new(kept.clone(), prover(directory.path(), "good-1")).next().await.unwrap_err();
    // The old pin knows nobody who signs now; the new one does, and the bundle of then knows both.
    kept.pin = pin(&issuer);
    Agent::new(kept.clone(), prover(directory.path(), "good-1")).next().await.unwrap();
    let file = directory.path().join("both.pem");
    fs::write(&file, issuer.bundle().to_pem()).unwrap();
    served.end().await;
    kept.pin = Pin::File(file);
    Agent::new(kept, prover(directory.path(), "good-1")).next().await.unwrap();
}

#[tokio::test]
async fn a_bundle_that_changes_is_news_and_one_that_goes_back_is_refused() {
    let (issuer, directory) = (InMemory::new(), tempfile::tempdir().unwrap());
    let served = Served::new(&issuer).await;
    issuer.lifetime.store(20_000, Ordering::SeqCst);
    let mut agent = Agent::new(options(served.address, pin(&issuer)), prover(directory.path(), "good-1"));
    let first = agent.next().await.unwrap();
    issuer.announce_root();
    let second = agent.next().await.unwrap();
    assert_eq!(second.leaf(), first.leaf());
    assert_eq!((second.bundle().sequence, second.bundle().roots.len()), (2, 2));
    issuer.number(1);
    assert!(timeout(Duration::from_secs(4), agent.next()).await.is_err(), "an older bundle is no news");
    issuer.number(3);
    assert_eq!(agent.next().await.unwrap().bundle().sequence, 3);
    assert_eq!(issuer.issued(), 1);
}

#[tokio::test]
async fn the_authority_of_this_process_is_asked_without_a_network() {
    let issuer = InMemory::new();
    issuer.lifetime.store(4000, Ordering::SeqCst);
    let mut agent = Agent::embedded(issuer.clone(), "api".to_owned());
    let first = agent.next().await.unwrap();
    assert_eq!(first.id().path(), "/svc/api");
    let second = agent.next().await.unwrap();
    assert_ne!(first.leaf().serial, second.leaf().serial);
    assert_eq!(proofs(&issuer), ["embedded", "embedded"]);
}

/// A clock that follows the paused time of the runtime.
fn clock() -> impl Fn() -> SystemTime + Clone + Send + Sync + 'static {
    let (began, since) = (SystemTime::now(), Instant::now());
    move || began + since.elapsed()
}

#[tokio::test(start_paused = true)]
async fn a_day_is_renewed_at_its_half_and_outlives_an_authority_that_is_away_for_hours() {
    let clock = clock();
    let issuer = InMemory::with(Box::new(clock.clone()));
    issuer.lifetime.store(86_400_000, Ordering::SeqCst);
    let mut agent = Agent::embedded(issuer.clone(), "api".to_owned());
    agent.clock = Box::new(clock.clone());
    let draws = Arc::new(Mutex::new(vec![0.0, 1.0, 0.5].into_iter().cycle()));
    agent.luck = Box::new(move || draws.lock().unwrap().next().unwrap_or(0.5));
    let began = clock();
    let first = agent.next().await.unwrap();
    issuer.is_unavailable.store(true, Ordering::SeqCst);
    let error = agent.next().await.unwrap_err();
    assert!(matches!(error, SourceError::Unreachable(_)), "{error}");
    let hours = |time: SystemTime| time.duration_since(began).unwrap().as_secs_f64() / 3600.0;
    assert!((9.5..=14.5).contains(&hours(clock())), "{}", hours(clock()));
    // Away until three quarters of its life are over.
    while hours(clock()) < 18.0 {
        assert!(agent.next().await.is_err());
        sleep(Duration::from_mins(5)).await;
    }
    assert!(!first.left(clock()).is_zero());
    issuer.is_unavailable.store(false, Ordering::SeqCst);
    let second = agent.next().await.unwrap();
    assert!(second.left(clock()) > Duration::from_hours(23));
    assert_eq!(issuer.issued(), 2);
}
