//! What the simulator predicts, beside what a running gateway does.
//!
//! The cases are such that no figure hangs on the speed of the machine: turns instead of latencies, ejections that outlast
//! the run, a budget that is never empty.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use meshless::simulate::{Report, Scenario};
use meshless_platforms::Scripted;

use crate::gateway;
use crate::plain;
use crate::upstream::Upstream;
use crate::wire::{Wire, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 500 Bad\r\ncontent-length: 3\r\n\r\nbad";
const REQUESTS: usize = 2000;

/// What came of all requests.
#[derive(Debug)]
struct Measured {
    errors: f64,
    /// Of all tries, by endpoint.
    shares: Vec<f64>,
}

/// Answers at an endpoint, `bad` of `of` requests with 500; returns how many there were. Which ones is drawn: a pattern
/// could fall into step with the turns of the gateway.
fn answer(upstream: Upstream, bad: usize, of: usize) -> Arc<AtomicUsize> {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    let luck = Arc::new(Mutex::new(fastrand::Rng::with_seed(7)));
    tokio::spawn(async move {
        loop {
            let mut endpoint = upstream.accept().await;
            let (count, luck) = (count.clone(), luck.clone());
            tokio::spawn(async move {
                while let Some(head) = endpoint.head_unless_closed().await {
                    endpoint.content(&head).await;
                    count.fetch_add(1, Ordering::Relaxed);
                    let is_bad = luck.lock().unwrap().usize(..of) < bad;
                    endpoint.send(if is_bad { BAD } else { OK }).await;
                }
            });
        }
    });
    served
}

/// Sends requests one after the other to a gateway before endpoints, each of which fails so many of so many requests.
async fn measure(policies: &str, endpoints: &[(usize, usize)]) -> Measured {
    let (mut addresses, mut served) = (Vec::new(), Vec::new());
    for (bad, of) in endpoints {
        let upstream = Upstream::start().await;
        addresses.push(upstream.address);
        served.push(answer(upstream, *bad, *of));
    }
    let gateway = gateway::before(&addresses).policies(policies).start();
    let mut client = Wire::connect(gateway.address("edge")).await;
    let mut errors = 0;
    for _ in 0..REQUESTS {
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        errors += usize::from(client.message().await.0.status() != 200);
    }
    let tries: Vec<f64> = served.iter().map(|served| served.load(Ordering::Relaxed) as f64).collect();
    let all: f64 = tries.iter().sum();
    Measured { errors: errors as f64 / REQUESTS as f64, shares: tries.iter().map(|tries| tries / all).collect() }
}

/// Lets the simulator predict the same.
fn predict(policies: &str, addresses: &[SocketAddr], faults: &str) -> Report {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.toml");
    let list: Vec<String> = addresses.iter().map(ToString::to_string).collect();
    let text = format!(
        "service = \"app\"\nrate = \"100/s\"\nduration = \"20s\"\nlatency = \"1ms\"\n[[config.listeners]]\nlisten = \"127.0.0.1:0\"\n\
         [config.services.app]\nfrom = \"static/{}\"\nbalance = \"round-robin\"\n{policies}\n[[config.routes]]\nto = \"app\"\n{faults}",
        list.join(",")
    );
    std::fs::write(&file, text).unwrap();
    let scenario = Scenario::load(&file, &Scripted::default(), &BTreeMap::new());
    scenario.unwrap_or_else(|problems| panic!("{problems}")).run().unwrap()
}

/// Within 10 % of what was measured, or within what so few tries can be off by chance (four standard deviations).
fn is_near(predicted: f64, measured: f64) -> bool {
    let chance = 4.0 * (measured * (1.0 - measured) / REQUESTS as f64).sqrt();
    (predicted - measured).abs() <= (0.1 * measured).max(chance)
}

fn compare(policies: &str, endpoints: &[(usize, usize)]) -> Report {
    let measured = run(measure(policies, endpoints));
    let addresses: Vec<SocketAddr> = (1..=endpoints.len()).map(|port| ([10, 0, 0, 1], port as u16).into()).collect();
    let faults: String = addresses
        .iter()
        .zip(endpoints)
        .filter(|(_, (bad, _))| *bad > 0)
        .map(|(address, (bad, of))| {
            let share = *bad as f64 / *of as f64 * 100.0;
            format!("[[faults]]\nendpoint = \"{address}\"\nkind = \"status\"\nshare = \"{share:.2}%\"\n")
        })
        .collect();
    let report = predict(policies, &addresses, &faults);
    let whole = &report.runs[0].whole;
    assert!(is_near(whole.error_share, measured.errors), "{whole:?}\n{measured:?}");
    // The first one is the bad one. Which of the others is first in turn is luck: they are equal, and compared by size.
    let in_order = |shares: &[f64]| {
        let mut shares = shares.to_vec();
        shares[1..].sort_by(f64::total_cmp);
        shares
    };
    for (predicted, found) in in_order(&whole.shares).iter().zip(in_order(&measured.shares)) {
        assert!(is_near(*predicted, found), "{whole:?}\n{measured:?}");
    }
    report
}

#[test]
fn an_endpoint_that_answers_500_is_ejected_after_as_many_errors_as_predicted() {
    let report = compare("retry = { on = [\"503\"] }\nbreaker = { eject = \"5m..5m\" }", &[(1, 1), (0, 1), (0, 1)]);
    assert_eq!((report.runs[0].whole.errors, report.runs[0].endpoints[0].ejections), (5, 1));
}

#[test]
fn an_endpoint_that_fails_in_part_and_is_not_ejected_gives_as_many_errors_as_predicted() {
    let policies = "retry = { on = [\"503\"] }\nbreaker = { consecutive = 1000, success_below = \"0%\" }";
    let report = compare(policies, &[(2, 5), (0, 1), (0, 1)]);
    assert!((0.1..0.17).contains(&report.runs[0].whole.error_share), "two fifths of a third");
}

#[test]
fn retries_save_as_many_requests_as_predicted() {
    let policies = "retry = { on = [\"500\"], budget = \"100%\", min_per_second = 1000, backoff = \"0ms..0ms\" }\n\
                    breaker = { consecutive = 1000, success_below = \"0%\" }";
    let report = compare(policies, &[(1, 2), (0, 1), (0, 1)]);
    let whole = &report.runs[0].whole;
    assert!(whole.errors == 0 && whole.retries > 200 && whole.amplification > 1.1, "{whole:?}");
}

#[test]
fn a_dead_endpoint_costs_no_request_anything_as_predicted() {
    let measured = run(async {
        let live = [Upstream::start().await, Upstream::start().await];
        let addresses = [plain::dead_address(), live[0].address, live[1].address];
        let served = live.map(|upstream| answer(upstream, 0, 1));
        let gateway = gateway::before(&addresses).policies("breaker = { eject = \"5m..5m\" }").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        for _ in 0..REQUESTS {
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            assert_eq!(client.message().await.0.status(), 200);
        }
        let tries = served.map(|served| served.load(Ordering::Relaxed));
        (gateway.count("meshless_requeue_total", &[]), tries)
    });
    let addresses: Vec<SocketAddr> = (1..=3).map(|port| ([10, 0, 0, 1], port).into()).collect();
    let report = predict(
        "breaker = { eject = \"5m..5m\" }",
        &addresses,
        "[[faults]]\nendpoint = \"10.0.0.1:1\"\nkind = \"down\"\n",
    );
    let run = &report.runs[0];
    assert_eq!((run.whole.errors, run.endpoints[0].tries as u64), (0, measured.0), "{measured:?}");
    for (endpoint, tries) in run.endpoints[1..].iter().zip(measured.1) {
        assert!(is_near(endpoint.tries as f64 / 2000.0, tries as f64 / 2000.0), "{endpoint:?} {measured:?}");
    }
}

fn meshless(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.args(arguments).env_clear().current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

#[test]
fn the_same_seed_gives_the_same_bytes_and_another_seed_others() {
    let directory = tempfile::tempdir().unwrap();
    let svg = directory.path().join("plot.svg");
    let svg = svg.to_str().unwrap();
    let once = |file: &str| {
        let output = meshless(&["simulate", file, "--json", "--svg", svg]);
        assert_eq!(output.status.code(), Some(0), "{}", text(&output.stderr));
        (text(&output.stdout), std::fs::read_to_string(svg).unwrap())
    };
    let first = once("examples/simulate/fails.toml");
    assert_eq!(first, once("examples/simulate/fails.toml"));
    assert!(first.1.starts_with("<svg") && first.1.matches("<path").count() == 5 + 6, "a curve for each, and for all");
    let other = directory.path().join("other.toml");
    let scenario = std::fs::read_to_string("examples/simulate/fails.toml").unwrap();
    std::fs::write(&other, scenario.replace("rate =", "seed = 2\nrate =")).unwrap();
    assert_ne!(first.0, once(other.to_str().unwrap()).0);
}

#[test]
fn every_example_runs() {
    for entry in std::fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/simulate")).unwrap() {
        let file = entry.unwrap().path();
        let output = meshless(&["simulate", file.to_str().unwrap()]);
        assert_eq!(output.status.code(), Some(0), "{}: {}", file.display(), text(&output.stderr));
        assert!(text(&output.stdout).contains("share of tries"));
    }
}

#[test]
fn what_is_wrong_in_a_scenario_is_told_with_its_places_and_ends_with_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("scenario.toml");
    std::fs::write(
        &file,
        "rate = \"10/s\"\nduraton = \"1s\"\nlatency = \"5\"\n[[faults]]\nendpoint = \"10.0.0.1\"\nkind = \"slow\"\nstatus = 500\n",
    )
    .unwrap();
    let output = meshless(&["simulate", file.to_str().unwrap()]);
    let told = text(&output.stderr).replace(file.to_str().unwrap(), "FILE");
    assert_eq!(told, "FILE:2:1: error: duraton: unknown key; did you mean `duration`?\n");
    assert_eq!(output.status.code(), Some(64));
    let right = std::fs::read_to_string(&file).unwrap().replace("duraton", "duration");
    std::fs::write(&file, right).unwrap();
    let told = text(&meshless(&["simulate", file.to_str().unwrap()]).stderr).replace(file.to_str().unwrap(), "FILE");
    for expected in [
        "`config` is missing",
        "FILE:3:11: error: latency: expected a time such as \"300us\"",
        "FILE:7:10: error: faults[0].status: means nothing for a fault of this kind",
        "`slow` needs a `factor`",
        "add `url`, or `service`",
    ] {
        assert!(told.contains(expected), "{expected}:\n{told}");
    }
}
