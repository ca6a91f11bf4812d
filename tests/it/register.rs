//! A gateway that registers itself: at a Consul of a test, and at a real one where there is one.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU16, Ordering};
use std::time::{Duration, Instant};

use meshless_fakes::consul::Consul;
use meshless_fakes::http::Mode;
use rustix::process::Signal;
use serde_json::Value;

use crate::gateway::{self, Running};
use crate::plain::{Served, dead_address, get, is_deserted, origin, serve, wait_until};
use crate::process::{self, Process};

/// An application beside a gateway: answers checks with a status, everything else with 200.
struct Application {
    served: Served,
    status: Arc<AtomicU16>,
}

fn application(status: u16) -> Application {
    let status = Arc::new(AtomicU16::new(status));
    let health = status.clone();
    let served = serve(move |mut stream| {
        loop {
            let mut head = Vec::new();
            let mut byte = [0];
            while !head.ends_with(b"\r\n\r\n") {
                match stream.read(&mut byte) {
                    Ok(1) => head.push(byte[0]),
                    _ => return,
                }
            }
            let is_check = head.starts_with(b"GET /healthz");
            let status = if is_check { health.load(Ordering::SeqCst) } else { 200 };
            if write!(stream, "HTTP/1.1 {status} X\r\ncontent-length: 0\r\n\r\n").is_err() {
                return;
            }
        }
    });
    Application { served, status }
}

const FAST: &str = "interval = \"100ms\", timeout = \"100ms\", healthy = 1, unhealthy = 2";

/// A gateway before an application, registered as `web` at an agent.
fn text(consul: &str, listen: &str, application: SocketAddr, keys: &str) -> String {
    format!(
        "[discovery.consul]\naddress = \"{consul}\"\n\
         [[listeners]]\nname = \"inbound\"\nlisten = \"{listen}\"\nto = \"static/{application}\"\n\
         [register]\nbackend = \"consul\"\nservice = \"web\"\naddress = \"127.0.0.1\"\n{keys}\n"
    )
}

fn checked(consul: &Consul, application: &Application, keys: &str) -> String {
    let keys = format!("check = {{ path = \"/healthz\", {FAST} }}\n{keys}");
    text(&consul.url(), "127.0.0.1:0", application.served.address, &keys)
}

/// The one entry of the agent.
fn entry(consul: &Consul) -> Option<(String, Value)> {
    let registered = consul.registered();
    assert!(registered.len() <= 1, "{registered:?}");
    registered.into_iter().next()
}

fn status(consul: &Consul) -> Option<String> {
    consul.status(&format!("service:{}", entry(consul)?.0))
}

fn wait_for_status(consul: &Consul, expected: &str) {
    wait_until(&format!("the entry is {expected}"), || status(consul).as_deref() == Some(expected));
}

fn view(gateway: &Running) -> Value {
    serde_json::from_str(&gateway.admin("/registration").1).unwrap()
}

/// Somebody who asks the agent for something directly.
fn ask(consul: SocketAddr, line: &str) -> String {
    let mut stream = TcpStream::connect(consul).unwrap();
    write!(stream, "{line} HTTP/1.0\r\nhost: a\r\nconnection: close\r\ncontent-length: 0\r\n\r\n").unwrap();
    let mut reply = String::new();
    stream.read_to_string(&mut reply).unwrap();
    reply
}

/// Writes that Consul passes on to its leader.
fn changes(consul: &Consul) -> Vec<String> {
    consul.writes().into_iter().filter(|write| !write.contains("/check/pass/")).collect()
}

#[test]
fn a_gateway_registers_when_it_is_ready_and_the_application_well() {
    let (consul, application) = (Consul::start(), application(500));
    let keys = "tags = [\"blue\"]\nmeta = { version = \"7\" }\nweight = 5";
    let text = format!("[node]\nzone = \"a\"\nworkers = 1\n{}", checked(&consul, &application, keys));
    let gateway = gateway::with(&text).start();
    gateway.wait_until("the application was checked", |gateway| view(gateway)["check"] == "bad");
    assert_eq!(view(&gateway)["waits_for"], "the application to be well: status 500");
    assert_eq!((view(&gateway)["state"].clone(), consul.writes().len()), ("absent".into(), 0));
    application.status.store(200, Ordering::SeqCst);
    wait_for_status(&consul, "passing");
    let address = gateway.address("inbound");
    let (id, sent) = entry(&consul).unwrap();
    assert_eq!(id, format!("web-127.0.0.1-{}", address.port()));
    assert_eq!((&sent["Name"], &sent["Address"]), (&"web".into(), &"127.0.0.1".into()));
    assert_eq!((&sent["Port"], &sent["Weights"]["Passing"]), (&address.port().into(), &5.into()));
    assert_eq!((&sent["Tags"][0], &sent["Meta"]["version"]), (&"blue".into(), &"7".into()));
    assert_eq!(sent["Meta"]["zone"], "a");
    assert_eq!((&sent["Check"]["TTL"], &sent["Check"]["Status"]), (&"15000ms".into(), &"passing".into()));
    gateway.wait_for_metric("meshless_register_state", &["service=\"web\"", "state=\"passing\""], 1.0);
    let seen = view(&gateway);
    assert_eq!((&seen["state"], &seen["id"], &seen["waits_for"]), (&"passing".into(), &id.into(), &Value::Null));
    assert_eq!(gateway.count("meshless_register_writes_total", &["kind=\"announce\""]), 1);
    assert!(gateway.count("meshless_register_check_total", &["result=\"good\""]) >= 1);
}

#[test]
fn an_application_that_fails_is_critical_and_comes_back() {
    let (consul, application) = (Consul::start(), application(200));
    let gateway = gateway::with(&checked(&consul, &application, "")).start();
    wait_for_status(&consul, "passing");
    application.status.store(503, Ordering::SeqCst);
    wait_for_status(&consul, "critical");
    assert!(consul.writes().last().unwrap().contains("/check/fail/"), "{:?}", consul.writes());
    assert!(consul.writes().last().unwrap().ends_with("?note=status%20503"), "{:?}", consul.writes());
    // The gateway itself goes on: who still comes is served.
    assert_eq!(get(gateway.address("inbound"), "web", "/").status, 200);
    application.status.store(200, Ordering::SeqCst);
    wait_for_status(&consul, "passing");
}

/// Airbnb's nerve reported each flip, and consul-ecs wrote once a second (consul-ecs#309).
#[test]
fn a_flapping_application_costs_the_registry_a_handful_of_writes() {
    let (consul, application) = (Consul::start(), application(200));
    let keys = "check = { path = \"/healthz\", interval = \"100ms\", timeout = \"100ms\", healthy = 1, unhealthy = 1 }";
    let text = text(&consul.url(), "127.0.0.1:0", application.served.address, keys);
    let gateway = gateway::with(&text).start();
    wait_for_status(&consul, "passing");
    for flip in 1..=40 {
        application.status.store(if flip % 2 == 0 { 200 } else { 500 }, Ordering::SeqCst);
        let checks = application.served.accepted();
        wait_until("it was checked again", || application.served.accepted() >= checks + 2);
    }
    // One announcement, two returns, and a fall for each of the three; one more return if 20 s went by.
    assert!(consul.writes().len() <= 8, "{:?}", consul.writes());
    assert!(gateway.count("meshless_register_check_total", &[]) >= 40);
}

#[test]
fn heartbeats_say_the_same_each_time() {
    let (consul, application) = (Consul::start(), application(200));
    let _gateway = gateway::with(&checked(&consul, &application, "ttl = \"5s\"")).start();
    wait_until("two heartbeats came", || consul.writes().len() >= 3);
    let writes = consul.writes();
    assert!(writes[0].starts_with("PUT /v1/agent/service/register"), "{writes:?}");
    assert!(writes[1].contains("/check/pass/") && writes[1] == writes[2], "{writes:?}");
    assert_eq!(changes(&consul).len(), 1);
}

#[test]
fn an_agent_that_forgot_us_is_told_again() {
    let (consul, application) = (Consul::start(), application(200));
    let gateway = gateway::with(&checked(&consul, &application, "ttl = \"5s\"")).start();
    wait_for_status(&consul, "passing");
    let (id, _) = entry(&consul).unwrap();
    ask(consul.server.address, &format!("PUT /v1/agent/service/deregister/{id}"));
    assert_eq!(entry(&consul), None);
    wait_for_status(&consul, "passing");
    assert_eq!(gateway.count("meshless_register_failures_total", &["error=\"gone\""]), 1);
}

#[test]
fn an_agent_that_is_away_holds_nothing_up_and_hears_of_us_when_it_is_back() {
    let (consul, application) = (Consul::start(), application(200));
    consul.server.set(Mode::Down);
    let gateway = gateway::with(&checked(&consul, &application, "")).start();
    assert_eq!(get(gateway.address("inbound"), "web", "/").status, 200);
    gateway.wait_until("it was tried", |gateway| {
        gateway.metric("meshless_register_unconfirmed_seconds", &["service=\"web\""]) > 0.5
    });
    let seen = view(&gateway);
    assert!(seen["failure"].as_str().unwrap().contains("/v1/agent/service/register"), "{seen}");
    consul.server.set(Mode::Serve);
    wait_for_status(&consul, "passing");
    gateway.wait_for_metric("meshless_register_unconfirmed_seconds", &["service=\"web\""], 0.0);
    // Frozen is worse than down: nothing is said at all. Who asks the gateway does not notice.
    consul.server.set(Mode::Frozen);
    application.status.store(500, Ordering::SeqCst);
    gateway.wait_until("it was tried", |gateway| {
        gateway.count("meshless_register_failures_total", &["kind=\"report\""]) >= 1
    });
    assert_eq!(get(gateway.address("inbound"), "web", "/").status, 200);
    consul.server.set(Mode::Serve);
    wait_for_status(&consul, "critical");
}

#[test]
fn a_token_without_permission_is_told_by_name() {
    let (consul, application) = (Consul::start(), application(200));
    consul.permit("", &["service:read"]);
    let gateway = gateway::with(&checked(&consul, &application, "")).start();
    gateway.wait_until("it was refused", |gateway| {
        gateway.count("meshless_register_failures_total", &["error=\"denied\""]) >= 1
    });
    assert!(view(&gateway)["failure"].as_str().unwrap().contains("service:write"), "{}", view(&gateway));
    consul.permit("", &["service:read", "service:write"]);
    wait_for_status(&consul, "passing");
}

#[test]
fn an_agent_that_checks_by_itself_is_told_how() {
    let (consul, application) = (Consul::start(), application(200));
    let keys =
        "ttl = \"5s\"\ncheck = { by = \"agent\", path = \"/healthz\", host = \"web.internal\", interval = \"3s\" }";
    let text = text(&consul.url(), "127.0.0.1:0", application.served.address, keys);
    let gateway = gateway::with(&text).start();
    wait_until("it is registered", || entry(&consul).is_some());
    let check = entry(&consul).unwrap().1["Check"].clone();
    assert_eq!(check["HTTP"], format!("http://{}/healthz", application.served.address));
    assert_eq!((&check["Header"]["Host"][0], &check["Interval"]), (&"web.internal".into(), &"3000ms".into()));
    // It is only looked whether we are still there, and nothing is written.
    gateway.wait_until("it was looked", |gateway| {
        gateway.count("meshless_register_writes_total", &["kind=\"heartbeat\""]) >= 1
    });
    assert_eq!((consul.writes().len(), application.served.accepted()), (1, 0), "{:?}", consul.writes());
    let (id, _) = entry(&consul).unwrap();
    ask(consul.server.address, &format!("PUT /v1/agent/service/deregister/{id}"));
    wait_until("it is registered again", || entry(&consul).is_some());
}

#[test]
fn a_reload_changes_the_entry_moves_it_and_takes_it_out() {
    let (consul, other, application) = (Consul::start(), Consul::start(), application(200));
    let gateway = gateway::with(&checked(&consul, &application, "")).start();
    wait_for_status(&consul, "passing");
    let (id, _) = entry(&consul).unwrap();
    let reload = |text: &str| {
        std::fs::write(gateway.file(), text).unwrap();
        gateway.gateway().reload();
    };
    reload(&checked(&consul, &application, "weight = 9"));
    wait_until("the weight changed", || entry(&consul).is_some_and(|(_, sent)| sent["Weights"]["Passing"] == 9));
    assert_eq!(entry(&consul).unwrap().0, id);
    // The same again is no change.
    reload(&format!("{}\n[shutdown]\ndrain = \"7s\"", checked(&consul, &application, "weight = 9")));
    gateway.wait_until("it was applied", |gateway| gateway.metric("meshless_config_version", &[]) >= 3.0);
    assert_eq!(changes(&consul).len(), 2, "{:?}", consul.writes());
    reload(&checked(&consul, &application, "").replace("service = \"web\"", "service = \"shop\""));
    wait_until("the other name is there", || entry(&consul).is_some_and(|(id, _)| id.starts_with("shop-")));
    reload(&checked(&other, &application, ""));
    wait_for_status(&other, "passing");
    wait_until("it left the first agent", || entry(&consul).is_none());
    let without = checked(&other, &application, "");
    reload(without.split("[register]").next().unwrap());
    wait_until("it is gone", || entry(&other).is_none());
    gateway.wait_until("nothing is shown", |gateway| view(gateway).is_null());
}

#[test]
fn a_process_that_was_killed_is_replaced_or_removed_by_its_successor() {
    let (consul, application) = (Consul::start(), application(200));
    let start = |listen: &str| {
        let text = text(&consul.url(), listen, application.served.address, &format!("check = {{ {FAST} }}"));
        process::with(&text).start()
    };
    // A sibling on the same host, which lives, is left alone.
    let sibling = start("127.0.0.1:0");
    let (one, two) = (start("127.0.0.1:0"), dead_address().to_string());
    let port = |process: &Process| process.address("inbound").port();
    let id = |port: u16| format!("web-127.0.0.1-{port}");
    let (sibling_id, dead_id) = (id(port(&sibling)), id(port(&one)));
    wait_until("both are there", || consul.registered().len() == 2);
    one.kill();
    // On another port: what is left is seen by its process.
    let next = start(&two);
    let next_id = id(port(&next));
    wait_until("the dead one is gone", || {
        let ids: Vec<String> = consul.registered().into_keys().collect();
        ids.contains(&next_id) && !ids.contains(&dead_id)
    });
    assert!(consul.registered().contains_key(&sibling_id));
    next.wait_for_log("Removed from the registry what a process that is gone had left.");
    // On the same port: it is the same entry.
    next.kill();
    let again = start(&two);
    wait_until("it is written anew", || {
        let mark = |id: &str| consul.registered()[id]["Meta"]["meshless-instance"].as_str().unwrap().to_owned();
        mark(&next_id).contains(&format!("/{}/", again.id()))
    });
    assert_eq!(consul.registered().len(), 2);
}

#[test]
fn sigterm_unready_deregister_wait_stop_accepting_in_this_order() {
    let (consul, application) = (Consul::start(), origin("one"));
    let text = text(&consul.url(), &dead_address().to_string(), application.address, "wait = \"1s\"\ncheck = {}");
    let mut process = process::with(&text).start();
    let address = process.address("inbound");
    wait_for_status(&consul, "passing");
    consul.server.set(Mode::Slow(300));
    process.signal(Signal::TERM);
    wait_until("it is not ready", || process.admin("/ready").status == 503);
    assert!(entry(&consul).is_some(), "it says that it is not ready before anything else");
    wait_until("it is out of the registry", || entry(&consul).is_none());
    let out = Instant::now();
    // Who has not heard of it yet is served.
    assert_eq!(get(address, "web", "/").status, 200);
    wait_until("nobody listens any more", || is_deserted(address));
    assert!(out.elapsed() >= Duration::from_millis(900), "{:?}", out.elapsed());
    assert_eq!(process.wait().code(), Some(0));
    let told = process.stderr();
    let places: Vec<usize> =
        ["Draining.", "Taken out of the registry.", "Drained."].iter().map(|line| told.find(line).unwrap()).collect();
    assert!(places.is_sorted(), "{told}");
    assert_eq!(consul.writes().iter().filter(|write| write.contains("deregister")).count(), 1);
}

#[test]
fn an_agent_that_is_away_does_not_hold_the_end_up() {
    let (consul, application) = (Consul::start(), origin("one"));
    let text = text(&consul.url(), "127.0.0.1:0", application.address, "wait = \"60s\"\ncheck = {}");
    let mut process = process::with(&text).start();
    wait_for_status(&consul, "passing");
    consul.server.set(Mode::Frozen);
    let start = Instant::now();
    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(start.elapsed() < Duration::from_secs(20), "{:?}", start.elapsed());
    assert!(process.stderr().contains("We could not be taken out of the registry before the end."));
}

#[test]
fn sigint_leaves_without_waiting() {
    let (consul, application) = (Consul::start(), origin("one"));
    let text = text(&consul.url(), "127.0.0.1:0", application.address, "wait = \"60s\"\ncheck = {}");
    let mut process = process::with(&text).start();
    wait_for_status(&consul, "passing");
    process.signal(Signal::INT);
    assert_eq!(process.wait().code(), Some(0));
    assert_eq!(entry(&consul), None);
}

/// A real Consul of one node that keeps everything in memory; ended with this.
struct Real {
    child: std::process::Child,
    address: SocketAddr,
}

impl Drop for Real {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Real {
    /// Starts one on ports that are free; `None` where there is no such program.
    fn start() -> Option<Self> {
        let program = crate::real_programs::program("consul")?;
        let [http, server, serf] = [dead_address(), dead_address(), dead_address()];
        let ports = format!(
            "ports {{ http = {} server = {} serf_lan = {} serf_wan = -1 dns = -1 grpc = -1 }}",
            http.port(),
            server.port(),
            serf.port()
        );
        let child = std::process::Command::new(program)
            .args(["agent", "-dev", "-bind", "127.0.0.1", "-log-level", "err", "-hcl", &ports])
            .stdin(std::process::Stdio::null())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let real = Self { child, address: http };
        wait_until("Consul has a leader", || {
            TcpStream::connect(http).is_ok() && ask(http, "GET /v1/status/leader").contains("127.0.0.1:")
        });
        Some(real)
    }

    fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    fn json(&self, path: &str) -> Value {
        let reply = ask(self.address, &format!("GET {path}"));
        let (head, body) = reply.split_once("\r\n\r\n").unwrap();
        assert!(!head.to_ascii_lowercase().contains("chunked"), "{head}");
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {reply}"))
    }

    /// What health says of a service: id and status of its own check.
    fn health(&self, service: &str) -> Vec<(String, String)> {
        let entries = self.json(&format!("/v1/health/service/{service}"));
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        let of = |entry: &Value| {
            let id = text(&entry["Service"]["ID"]);
            let checks = entry["Checks"].as_array().unwrap();
            let own = checks.iter().find(|check| check["CheckID"] == format!("service:{id}"));
            (id, own.map(|check| text(&check["Status"])).unwrap_or_default())
        };
        entries.as_array().unwrap().iter().map(of).collect()
    }

    /// Addresses that anybody who asks for passing ones gets.
    fn passing(&self, service: &str) -> Vec<String> {
        let entries = self.json(&format!("/v1/health/service/{service}?passing=true"));
        let address = |entry: &Value| {
            let service = &entry["Service"];
            format!("{}:{}", service["Address"].as_str().unwrap(), service["Port"])
        };
        entries.as_array().unwrap().iter().map(address).collect()
    }

    /// The index that each write to the leader raises.
    fn index(&self, service: &str) -> u64 {
        let entries = self.json(&format!("/v1/health/service/{service}"));
        let index = |value: &Value| value["ModifyIndex"].as_u64().unwrap();
        let of = |entry: &Value| entry["Checks"].as_array().unwrap().iter().map(index).max().unwrap();
        entries.as_array().unwrap().iter().map(of).max().unwrap()
    }
}

#[test]
fn a_real_consul_knows_us_fails_with_us_forgets_us_and_lets_us_go() {
    let Some(consul) = Real::start() else { return };
    let application = application(200);
    let keys = format!("ttl = \"5s\"\nwait = \"0s\"\nweight = 3\ncheck = {{ path = \"/healthz\", {FAST} }}");
    let text = text(&consul.url(), &dead_address().to_string(), application.served.address, &keys);
    let mut process = process::with(&text).start();
    let id = format!("web-127.0.0.1-{}", process.address("inbound").port());
    let is = |status: &str| consul.health("web") == [(id.clone(), status.to_owned())];
    wait_until("it passes", || is("passing"));
    assert_eq!(consul.json("/v1/health/service/web")[0]["Service"]["Weights"]["Passing"], 3);
    // Heartbeats are no writes: the check has the index that it had.
    let before = consul.index("web");
    let beats = || process.metric("meshless_register_writes_total", &["kind=\"heartbeat\""]);
    let first = beats();
    wait_until("it said four times that it is well", || beats() >= first + 4.0);
    assert_eq!(consul.index("web"), before);
    assert!(is("passing"), "its time did not run out");

    application.status.store(500, Ordering::SeqCst);
    wait_until("it is critical", || is("critical"));
    let checks = consul.json("/v1/agent/checks");
    assert_eq!(checks[format!("service:{id}")]["Output"], "status 500");
    application.status.store(200, Ordering::SeqCst);
    wait_until("it passes again", || is("passing"));

    ask(consul.address, &format!("PUT /v1/agent/service/deregister/{id}"));
    wait_until("it was forgotten", || process.stderr().contains("The registry had forgotten us."));
    wait_until("it passes again", || is("passing"));

    process.signal(Signal::TERM);
    assert_eq!(process.wait().code(), Some(0));
    assert!(consul.health("web").is_empty());
    assert!(consul.json("/v1/agent/checks").as_object().unwrap().is_empty());
}

#[test]
fn a_real_consul_hears_nothing_of_a_killed_one_but_its_successor() {
    let Some(consul) = Real::start() else { return };
    let application = application(200);
    let start = || process::with(&text(&consul.url(), "127.0.0.1:0", application.served.address, "check = {}")).start();
    let one = start();
    wait_until("it is there", || consul.health("web").len() == 1);
    let dead = consul.health("web")[0].0.clone();
    one.kill();
    let next = start();
    let id = format!("web-127.0.0.1-{}", next.address("inbound").port());
    assert_ne!(id, dead);
    wait_until("the dead one is gone", || consul.health("web") == [(id.clone(), "passing".to_owned())]);
}

#[test]
fn a_deploy_loses_no_request_of_who_finds_us_through_consul() {
    let Some(consul) = Real::start() else { return };
    let origins = [origin("one"), origin("two")];
    let instance = |number: usize| {
        let keys = "wait = \"1s\"\ncheck = {}";
        let text = text(&consul.url(), &dead_address().to_string(), origins[number].address, keys);
        process::with(&text).start()
    };
    let (mut old, kept) = (instance(0), instance(1));
    wait_until("both pass", || consul.passing("web").len() == 2);
    // No try is repeated: a request to an instance that is gone would be seen.
    let edge = gateway::with(&format!(
        "[discovery.consul]\naddress = \"{}\"\n[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.web]\nfrom = \"consul/web\"\nbalance = \"round-robin\"\nretry = {{ attempts = 1 }}\n[[routes]]\nto = \"web\"\n",
        consul.url()
    ))
    .start();
    let usable =
        |count: f64| edge.wait_for_metric("meshless_endpoints", &["service=\"web\"", "state=\"usable\""], count);
    usable(2.0);
    let address = edge.address("edge");
    let ended = Arc::new(std::sync::atomic::AtomicBool::new(false));
    let stop = ended.clone();
    let client = std::thread::spawn(move || {
        let (mut good, mut bad) = (0_u32, Vec::new());
        while !stop.load(Ordering::SeqCst) {
            let reply = get(address, "web", "/");
            if reply.status == 200 { good += 1 } else { bad.push(reply) }
        }
        (good, bad)
    });
    // A new one comes, an old one goes; nobody is asked to try again.
    let fresh = instance(0);
    usable(3.0);
    old.signal(Signal::TERM);
    assert_eq!(old.wait().code(), Some(0));
    usable(2.0);
    ended.store(true, Ordering::SeqCst);
    let (good, bad) = client.join().unwrap();
    assert!(bad.is_empty() && good > 100, "{good} good, {bad:?}");
    drop((kept, fresh));
}
