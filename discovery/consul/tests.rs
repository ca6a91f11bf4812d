//! The backend against a fake Consul: the conformance suite, and what broke others.

use std::collections::BTreeMap;
use std::time::Duration;

use meshless_fakes::consul::{Consul as Fake, instance};
use meshless_fakes::http::Mode;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::*;
use crate::conformance::{self, Played, Stage, Trouble};
use crate::{Address, Endpoint, Error, Health, Snapshot, Verdict};

/// Longest wait for what must come, and wait for what must not.
const SOON: Duration = Duration::from_secs(15);
const QUIET: Duration = Duration::from_millis(300);

fn config(fake: &Fake) -> ConsulConfig {
    ConsulConfig { address: fake.url().parse().unwrap(), wait: Duration::from_secs(2), ..ConsulConfig::default() }
}

fn target(text: &str) -> Target {
    let (path, rest) = text.split_once('[').unwrap_or((text, ""));
    let pairs = rest.trim_end_matches(']').split(',').filter_map(|pair| pair.split_once('='));
    let options = pairs.map(|(key, value)| (key.to_owned(), value.to_owned())).collect::<BTreeMap<_, _>>();
    Target { backend: "consul".to_owned(), path: path.to_owned(), options }
}

fn open(backend: &Consul, text: &str) -> Box<dyn Source> {
    backend.source(&target(text)).unwrap()
}

async fn next(source: &mut Box<dyn Source>) -> Result<Vec<String>, Error> {
    let answer = timeout(SOON, source.next()).await.expect("an answer comes")?;
    Ok(answer.endpoints().iter().map(|endpoint| endpoint.id.clone().unwrap()).collect())
}

async fn is_quiet(source: &mut Box<dyn Source>) -> bool {
    timeout(QUIET, source.next()).await.is_err()
}

async fn until(what: &str, mut is_so: impl FnMut() -> bool) {
    for _ in 0..1500 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("never: {what}");
}

/// A fake under the suite's control.
struct FakeStage(Fake);

#[async_trait]
impl Stage for FakeStage {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(Consul::new(&config(&self.0)))
    }

    fn target(&self) -> Target {
        target("web")
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        let entries = endpoints.iter().map(|endpoint| match endpoint.address {
            Address::Tcp(address) => instance(&address.to_string(), &address.ip().to_string(), address.port()),
            Address::Unix(_) => unreachable!("the suite sets none"),
        });
        self.0.set("web", entries.collect());
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        let broken = || json!({ "Node": {}, "Service": { "ID": "x" }, "Checks": [] });
        match trouble {
            Trouble::Garbage => self.0.server.set(Mode::Garbage),
            Trouble::Huge => {
                let many = (0..=Snapshot::MAX_ENDPOINTS).map(|number| instance(&number.to_string(), "192.0.2.1", 80));
                self.0.force_body(Some(many.collect()));
                self.0.touch("web");
            }
            Trouble::Partial => {
                self.0.force_body(Some(json!([instance("a", "192.0.2.1", 80), broken()])));
                self.0.touch("web");
            }
            Trouble::Restart => self.0.restart(),
            Trouble::Slow => self.0.server.set(Mode::Slow(50)),
            Trouble::Unreachable => self.0.server.set(Mode::Down),
        }
        Played::Done
    }

    async fn recover(&mut self) {
        self.0.force_body(None);
        self.0.server.set(Mode::Serve);
    }
}

#[tokio::test]
async fn the_backend_conforms() {
    assert_eq!(conformance::run(|| FakeStage(Fake::start())).await, []);
}

#[tokio::test]
async fn an_index_that_goes_backwards_loses_no_change() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    let backend = Consul::new(&config(&fake));
    let mut source = open(&backend, "web");
    assert_eq!(next(&mut source).await, Ok(vec!["a".to_owned()]));
    assert!(is_quiet(&mut source).await);
    fake.set_back(2);
    assert!(is_quiet(&mut source).await);
    fake.set("web", vec![instance("b", "192.0.2.2", 80)]);
    assert_eq!(next(&mut source).await, Ok(vec!["b".to_owned()]));
    assert!(fake.server.requests().iter().all(|request| !request.contains("index=0")));
}

#[tokio::test]
async fn an_index_of_zero_is_no_busy_loop() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    fake.force_index(Some(0));
    let backend = Consul::new(&config(&fake));
    let mut source = open(&backend, "web");
    assert!(next(&mut source).await.is_ok());
    assert!(timeout(Duration::from_secs(1), source.next()).await.is_err());
    let requests = fake.server.requests();
    assert!(requests.len() <= 12 && requests.iter().skip(1).all(|request| request.contains("index=1")), "{requests:?}");
}

#[tokio::test]
async fn a_return_without_a_change_is_no_change_and_a_storm_of_them_is_bounded() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    let backend = Consul::new(&config(&fake));
    let mut source = open(&backend, "web");
    assert!(next(&mut source).await.is_ok());
    let storm = async {
        for _ in 0..100 {
            fake.touch("web");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::select! {
        answer = source.next() => panic!("{answer:?}"),
        () = storm => {}
    }
    assert!(fake.server.requests().len() <= 13, "{}", fake.server.requests().len());
}

#[tokio::test]
async fn errors_of_an_election_keep_the_set() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    for consistency in [crate::ConsulConsistency::Leader, crate::ConsulConsistency::Stale] {
        let backend = Consul::new(&ConsulConfig { consistency, ..config(&fake) });
        let mut source = open(&backend, "web");
        assert!(next(&mut source).await.is_ok());
        fake.lead(false);
        let error = next(&mut source).await.unwrap_err();
        assert!(
            matches!(&error, Error::Unreachable(text) if text.to_lowercase().contains("no cluster leader")),
            "{error}"
        );
        fake.lead(true);
        assert_eq!(next(&mut source).await, Ok(vec!["a".to_owned()]));
    }
}

#[tokio::test]
async fn a_server_that_has_just_started_and_knows_nothing_is_not_believed() {
    let fake = Fake::start();
    fake.lead(false);
    let backend = Consul::new(&config(&fake));
    let mut source = open(&backend, "web");
    assert!(matches!(next(&mut source).await, Err(Error::Unreachable(_))));
    // What it does know is better than nothing at the start of a gateway.
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    assert_eq!(next(&mut source).await, Ok(vec!["a".to_owned()]));
}

#[tokio::test]
async fn a_server_that_is_behind_is_not_believed_and_the_leader_is_asked() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    fake.lag(Duration::from_mins(1));
    let backend = Consul::new(&config(&fake));
    let mut source = open(&backend, "web");
    let error = next(&mut source).await.unwrap_err();
    assert!(error.to_string().contains("not heard from its leader for 60 s"), "{error}");
    assert_eq!(next(&mut source).await, Ok(vec!["a".to_owned()]));
    assert!(!fake.server.requests()[1].contains("stale"), "{:?}", fake.server.requests());
}

#[tokio::test]
async fn a_cache_that_is_cut_off_from_the_servers_is_not_believed() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    let backend = Consul::new(&ConsulConfig { cached: true, ..config(&fake) });
    let mut source = open(&backend, "web");
    assert!(next(&mut source).await.is_ok());
    fake.cut_off(Duration::from_mins(1));
    let error = next(&mut source).await.unwrap_err();
    assert!(error.to_string().contains("not heard from its servers for 60 s"), "{error}");
}

#[tokio::test]
async fn an_answer_that_acls_emptied_is_not_believed_and_says_which_permission_is_missing() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    fake.permit("t", &["service:read", "node:read"]);
    let backend = Consul::new(&ConsulConfig { token: Some("t".to_owned()), ..config(&fake) });
    let mut source = open(&backend, "web");
    assert_eq!(next(&mut source).await, Ok(vec!["a".to_owned()]));
    fake.permit("t", &["service:read"]);
    fake.touch("web");
    let error = next(&mut source).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("service:read on `web` and node:read")), "{error}");
    fake.permit("t", &["service:read", "node:read"]);
    assert_eq!(next(&mut source).await, Ok(vec!["a".to_owned()]));
}

#[tokio::test]
async fn a_token_that_was_revoked_is_denied_and_one_that_is_written_anew_is_taken() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    fake.permit("one", &["service:read", "node:read"]);
    fake.permit("two", &["service:read", "node:read"]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("token");
    std::fs::write(&path, "one\n").unwrap();
    let backend = Consul::new(&ConsulConfig { token_file: Some(path.clone()), ..config(&fake) });
    let mut source = open(&backend, "web");
    assert!(next(&mut source).await.is_ok());
    fake.revoke("one");
    fake.touch("web");
    // The query that waits was let in before; the next one is refused.
    let error = loop {
        if let Err(error) = next(&mut source).await {
            break error;
        }
    };
    assert!(matches!(&error, Error::Denied(text) if text.contains("revoked")), "{error}");
    std::fs::write(&path, "two\n").unwrap();
    for _ in 0..200 {
        if next(&mut source).await.is_ok() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("the new token is never shown");
}

#[tokio::test]
async fn a_datacenter_that_does_not_exist_or_hangs_stalls_nobody_else() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    fake.hang("far");
    let backend = Consul::new(&config(&fake));
    let mut hanging = tokio::task::JoinSet::new();
    for _ in 0..30 {
        let mut source = open(&backend, "web[dc=far]");
        hanging.spawn(async move { source.next().await });
    }
    until("those that hang are asked", || fake.server.requests().len() >= 4).await;
    let mut gone = open(&backend, "web[dc=nowhere]");
    let error = next(&mut gone).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(text) if text.contains("`dc`")), "{error}");
    let mut source = open(&backend, "web");
    let answer = timeout(Duration::from_secs(2), source.next()).await;
    assert!(answer.is_ok_and(|answer| answer.is_ok()));
}

#[tokio::test]
async fn a_poll_that_hangs_is_given_up() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    let backend = Consul::new(&ConsulConfig { wait: Duration::from_secs(1), ..config(&fake) });
    let mut source = open(&backend, "web");
    assert!(next(&mut source).await.is_ok());
    fake.server.set(Mode::Frozen);
    let error = next(&mut source).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(text) if text.contains("no whole answer within")), "{error}");
}

#[tokio::test]
async fn no_more_wait_than_may_and_the_others_poll() {
    let fake = Fake::start();
    let names: Vec<String> = (0..30).map(|number| format!("s{number}")).collect();
    for name in &names {
        fake.set(name, vec![instance("a", "192.0.2.1", 80)]);
    }
    let backend = Consul::new(&ConsulConfig { blocking: 10, ..config(&fake) });
    let mut following = tokio::task::JoinSet::new();
    for name in &names {
        let mut source = open(&backend, name);
        following.spawn(async move {
            loop {
                let snapshot = source.next().await.unwrap();
                if snapshot.endpoints()[0].id.as_deref() == Some("b") {
                    return;
                }
            }
        });
    }
    until("ten wait", || fake.waiting() == 10).await;
    for name in &names {
        fake.set(name, vec![instance("b", "192.0.2.2", 80)]);
    }
    timeout(SOON, following.join_all()).await.expect("each of them is told");
    assert!(fake.most_waiting() <= 10, "{}", fake.most_waiting());
    assert!(fake.server.requests().iter().any(|request| request.contains("&cached")));
}

#[tokio::test]
async fn prepared_queries_are_polled_and_connect_asks_for_what_takes_such_connections() {
    let fake = Fake::start();
    let mut native = instance("native", "192.0.2.2", 80);
    native["Service"]["Connect"] = json!({ "Native": true });
    fake.set("web", vec![instance("plain", "192.0.2.1", 80), native.clone()]);
    fake.prepare("near-web", "web");
    let backend = Consul::new(&config(&fake));
    let mut connect = open(&backend, "web[connect=true]");
    assert_eq!(next(&mut connect).await, Ok(vec!["native".to_owned()]));
    let mut query = open(&backend, "query/near-web");
    assert_eq!(next(&mut query).await.unwrap().len(), 2);
    fake.set("web", vec![native]);
    assert_eq!(next(&mut query).await, Ok(vec!["native".to_owned()]));
    let mut gone = open(&backend, "query/other");
    assert!(matches!(next(&mut gone).await, Err(Error::Gone(_))));
}

#[tokio::test]
async fn tags_are_all_wanted_and_what_is_in_maintenance_drains() {
    let fake = Fake::start();
    let tagged = |id: &str, tags: &[&str]| -> Value {
        let mut entry = instance(id, "192.0.2.1", 80);
        entry["Service"]["Tags"] = json!(tags);
        entry["Checks"] = json!([{ "CheckID": "_node_maintenance", "Status": "critical" }]);
        entry
    };
    fake.set("web", vec![tagged("one", &["blue"]), tagged("both", &["blue", "v2"])]);
    let backend = Consul::new(&config(&fake));
    let mut source = open(&backend, "web[tag=blue;v2]");
    let snapshot = timeout(SOON, source.next()).await.unwrap().unwrap();
    assert_eq!(snapshot.endpoints().len(), 1);
    assert_eq!(snapshot.endpoints()[0].health, Health::Draining);
}

#[tokio::test]
async fn an_examination_says_what_is_missing_and_what_to_do() {
    let fake = Fake::start();
    fake.set("web", vec![instance("a", "192.0.2.1", 80)]);
    let of = |findings: &[Finding]| -> Vec<(String, Verdict)> {
        findings.iter().map(|finding| (finding.what.clone(), finding.verdict)).collect()
    };
    let backend = Consul::new(&ConsulConfig { token: Some("t".to_owned()), blocking: 1, ..config(&fake) });
    let (targets, good) = ([target("web"), target("none")], Verdict::Good);
    let findings = backend.examine(&targets).await;
    assert_eq!(findings.len(), 7, "{findings:?}");
    assert!(of(&findings)[..4].iter().all(|(_, verdict)| *verdict == good), "{findings:?}");
    assert_eq!(of(&findings)[4], ("agent".to_owned(), Verdict::Warning), "more targets than may wait");
    assert_eq!(of(&findings)[5], ("consul/web".to_owned(), good));
    assert_eq!(of(&findings)[6], ("consul/none".to_owned(), Verdict::Warning));

    fake.permit("t", &["service:read"]);
    fake.limit_connections(10);
    let findings = backend.examine(&targets).await;
    let web = findings.iter().find(|finding| finding.what == "consul/web").unwrap();
    assert!(web.verdict == Verdict::Bad && web.remedy.as_ref().unwrap().contains("node:read"), "{web:?}");
    fake.permit("t", &["service:read", "node:read", "agent:read"]);
    let findings = backend.examine(&targets).await;
    assert_eq!(of(&findings)[4], ("agent".to_owned(), Verdict::Bad), "fewer connections than are needed");

    fake.revoke("t");
    fake.lead(false);
    let findings = backend.examine(&targets).await;
    assert!(findings[0].verdict == Verdict::Bad && findings[0].seen.contains("revoked"), "{findings:?}");
    fake.server.set(Mode::Down);
    let findings = backend.examine(&targets).await;
    assert!(findings.len() == 1 && findings[0].verdict == Verdict::Bad, "{findings:?}");
}
