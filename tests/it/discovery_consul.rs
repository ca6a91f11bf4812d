//! Services of a real Consul, through the whole gateway, and the conformance suite against it.
//!
//! What Consul must be scripted for stands in `discovery/consul/tests.rs`.

use std::collections::BTreeSet;
use std::fs::File;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use meshless_discovery::conformance::{self, Played, Stage, Trouble};
use meshless_discovery::{Address, Backend, Config, ConsulConfig, Endpoint, Target, async_trait};
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::answering::{answering, wait_for};
use crate::gateway::{self, Running};
use crate::plain::{Reply, get, load, origin, try_client, wait_until};
use crate::real_programs::program;

/// An agent and server in one, whose state is in its memory; ended with this.
struct Consul {
    child: Child,
    folder: TempDir,
    http: SocketAddr,
    configuration: String,
}

impl Drop for Consul {
    fn drop(&mut self) {
        self.end();
    }
}

impl Consul {
    /// Starts one, if it is there.
    fn start(configuration: &str) -> Option<Self> {
        let program = program("consul")?;
        for _ in 0..10 {
            let folder = tempfile::tempdir().unwrap();
            // Held together, so that they differ.
            let held: Vec<_> = (0..3).map(|_| TcpListener::bind("127.0.0.1:0").unwrap()).collect();
            let ports: Vec<_> = held.iter().map(|listener| listener.local_addr().unwrap().port()).collect();
            drop(held);
            let configuration = format!(
                "{configuration}\nbind_addr = \"127.0.0.1\"\nports {{ http = {}, server = {}, serf_lan = {}, \
                 serf_wan = -1, dns = -1, grpc = -1 }}\n",
                ports[0], ports[1], ports[2]
            );
            let http = SocketAddr::from(([127, 0, 0, 1], ports[0]));
            let child = spawn(&program, &folder, &configuration);
            let mut consul = Self { child, folder, http, configuration };
            if consul.is_ready() {
                return Some(consul);
            }
            eprintln!("it ended: {}", std::fs::read_to_string(consul.folder.path().join("log")).unwrap());
        }
        panic!("Consul does not start");
    }

    /// Waits until it leads; `false` if it ended, because somebody else was faster to have a port.
    fn is_ready(&mut self) -> bool {
        let mut ended = false;
        wait_until("Consul leads", || {
            ended = self.child.try_wait().unwrap().is_some();
            let leads =
                || self.try_ask("GET", "/v1/catalog/nodes", "").is_some_and(|reply| reply.body.contains("Node"));
            let has_leader =
                || self.try_ask("GET", "/v1/status/leader", "").is_some_and(|reply| reply.body.contains(':'));
            ended || has_leader() && (self.configuration.contains("acl") || leads())
        });
        !ended
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Starts it again on its port, with nothing registered.
    fn restart(&mut self) {
        self.end();
        let program = program("consul").unwrap();
        for _ in 0..20 {
            self.child = spawn(&program, &self.folder, &self.configuration);
            if self.is_ready() {
                return;
            }
        }
        panic!("Consul does not start again");
    }

    fn try_ask(&self, method: &str, path: &str, body: &str) -> Option<Reply> {
        let mut client = try_client(self.http).ok()?;
        let request = format!(
            "{method} {path} HTTP/1.1\r\nhost: consul\r\nx-consul-token: root\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        client.send(&request).ok()?;
        client.reply().ok()
    }

    fn put(&self, path: &str, body: &Value) -> Value {
        let reply = self.try_ask("PUT", path, &body.to_string()).unwrap();
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
        serde_json::from_str(&reply.body).unwrap_or_default()
    }

    fn register(&self, id: &str, address: SocketAddr, more: &Value) {
        let mut service =
            json!({ "ID": id, "Name": "web", "Address": address.ip().to_string(), "Port": address.port() });
        service.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
        self.put("/v1/agent/service/register", &service);
    }

    fn deregister(&self, id: &str) {
        self.put(&format!("/v1/agent/service/deregister/{id}"), &json!(null));
    }

    fn gateway(&self, from: &str, keys: &str) -> Running {
        gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [discovery.consul]\naddress = \"http://{}\"\n{keys}\n\
             [services.web]\nfrom = \"{from}\"\nbalance = \"random\"\n[[routes]]\nto = \"web\"\n",
            self.http
        ))
        .start()
    }
}

fn spawn(program: &std::path::Path, folder: &TempDir, configuration: &str) -> Child {
    let file = folder.path().join("consul.hcl");
    std::fs::write(&file, configuration).unwrap();
    let log = File::create(folder.path().join("log")).unwrap();
    let mut command = Command::new(program);
    command.args(["agent", "-dev", "-node=one", "-config-file"]).arg(file).current_dir(folder.path());
    command.stdin(Stdio::null()).stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap()
}

/// A real Consul under the suite's control.
struct RealStage {
    consul: Consul,
    set: Vec<Endpoint>,
}

#[async_trait]
impl Stage for RealStage {
    fn backend(&self) -> Arc<dyn Backend> {
        let address = format!("http://{}", self.consul.http).parse().unwrap();
        let config = ConsulConfig { address, wait: Duration::from_secs(2), ..ConsulConfig::default() };
        meshless_discovery::open("consul", &Config::Consul(config)).unwrap()
    }

    fn target(&self) -> Target {
        Target { backend: "consul".to_owned(), path: "web".to_owned(), options: std::collections::BTreeMap::new() }
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        for endpoint in endpoints {
            let Address::Tcp(address) = endpoint.address else { continue };
            self.consul.register(&address.to_string(), address, &json!({}));
        }
        for gone in self.set.iter().filter(|endpoint| !endpoints.contains(endpoint)) {
            self.consul.deregister(&gone.address.to_string());
        }
        self.set = endpoints.to_vec();
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        match trouble {
            Trouble::Restart | Trouble::Unreachable => self.consul.end(),
            _ => return Played::Impossible,
        }
        Played::Done
    }

    async fn recover(&mut self) {
        self.consul.restart();
        let set = std::mem::take(&mut self.set);
        self.set(&set).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_conforms_to_a_real_consul() {
    if Consul::start("").is_none() {
        return;
    }
    let stage = || RealStage { consul: Consul::start("").unwrap(), set: Vec::new() };
    let impossible = conformance::run(stage).await;
    assert_eq!(impossible, [Trouble::Garbage, Trouble::Huge, Trouble::Partial, Trouble::Slow]);
}

#[test]
fn what_is_registered_gets_requests_and_what_changes_under_load_fails_none() {
    let Some(consul) = Consul::start("") else { return };
    let (one, two) = (origin("one"), origin("two"));
    let check = json!({ "Check": { "CheckID": "two", "TTL": "60s", "Status": "passing" } });
    consul.register("a", one.address, &json!({}));
    let gateway = consul.gateway("consul/web", "");
    wait_for(&gateway, &["one"]);
    let address = gateway.address("edge");
    let load = load(4, "/", false, move || try_client(address));
    consul.register("b", two.address, &check);
    wait_for(&gateway, &["one", "two"]);
    consul.put("/v1/agent/check/fail/two", &json!(null));
    wait_for(&gateway, &["one"]);
    consul.put("/v1/agent/check/warn/two", &json!(null));
    wait_for(&gateway, &["one", "two"]);
    consul.put("/v1/agent/service/maintenance/a?enable=true", &json!(null));
    wait_for(&gateway, &["two"]);
    consul.put("/v1/agent/service/maintenance/a?enable=false", &json!(null));
    wait_for(&gateway, &["one", "two"]);
    consul.deregister("a");
    wait_for(&gateway, &["two"]);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert_eq!(gateway.count("meshless_discovery_errors_total", &[]), 0);
}

#[test]
fn an_agent_that_is_killed_takes_nothing_away_and_one_with_other_data_is_followed() {
    let Some(mut consul) = Consul::start("") else { return };
    let (one, two) = (origin("one"), origin("two"));
    consul.register("a", one.address, &json!({}));
    let gateway = consul.gateway("consul/web", "");
    wait_for(&gateway, &["one"]);
    consul.end();
    let errors = ["kind=\"unreachable\""];
    gateway.wait_until("the dead agent is noticed", |gateway| {
        gateway.count("meshless_discovery_errors_total", &errors) > 1
    });
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    assert!(gateway.metric("meshless_discovery_snapshot_age_seconds", &["consul/web"]) > 0.0);
    consul.restart();
    consul.register("b", two.address, &json!({}));
    wait_for(&gateway, &["two"]);
}

#[test]
fn a_token_that_is_revoked_takes_nothing_away_and_a_new_one_in_its_file_is_taken() {
    let acl = "acl { enabled = true\n default_policy = \"deny\"\n tokens { master = \"root\"\n agent = \"root\" } }";
    let Some(consul) = Consul::start(acl) else { return };
    let one = origin("one");
    let rules = "service_prefix \"\" { policy = \"read\" } node_prefix \"\" { policy = \"read\" }";
    wait_until("ACLs are set up", || {
        let body = json!({ "Name": "read", "Rules": rules }).to_string();
        consul.try_ask("PUT", "/v1/acl/policy", &body).is_some_and(|reply| reply.status == 200)
    });
    consul.register("a", one.address, &json!({}));
    let token = || consul.put("/v1/acl/token", &json!({ "Policies": [{ "Name": "read" }] }));
    let (first, second) = (token(), token());
    let path = consul.folder.path().join("token");
    let secret = |token: &Value| token["SecretID"].as_str().unwrap().to_owned();
    std::fs::write(&path, secret(&first)).unwrap();
    let gateway = consul.gateway("consul/web", &format!("wait = \"1s\"\ntoken_file = \"{}\"", path.display()));
    wait_for(&gateway, &["one"]);
    let accessor = first["AccessorID"].as_str().unwrap();
    assert_eq!(consul.try_ask("DELETE", &format!("/v1/acl/token/{accessor}"), "").unwrap().status, 200);
    gateway.wait_until("the revoked token is denied", |gateway| {
        gateway.count("meshless_discovery_errors_total", &["kind=\"denied\""]) > 0
    });
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    std::fs::write(&path, secret(&second)).unwrap();
    let two = origin("two");
    consul.register("b", two.address, &json!({}));
    wait_for(&gateway, &["one", "two"]);
}

/// From the write to Consul to the first request on the new endpoint.
#[test]
#[ignore = "a measurement: cargo test --test it from_a_change -- --ignored --nocapture"]
fn from_a_change_to_the_first_request_on_the_new_endpoint() {
    let Some(consul) = Consul::start("") else { return };
    let origins = [origin("0"), origin("1")];
    consul.register("a", origins[0].address, &json!({}));
    let gateway = consul.gateway("consul/web", "");
    wait_for(&gateway, &["0"]);
    let mut taken = Vec::new();
    for round in 1..=20 {
        // As rare as changes are: a storm is paced on purpose.
        wait_until("a second passes", {
            let start = Instant::now();
            move || start.elapsed() > Duration::from_millis(1100)
        });
        let next = &origins[round % 2];
        let start = Instant::now();
        consul.register("a", next.address, &json!({}));
        let name = (round % 2).to_string();
        while get(gateway.address("edge"), "a.example", "/").body != name {}
        taken.push(start.elapsed());
    }
    taken.sort();
    eprintln!("median {:?}, least {:?}, most {:?}", taken[10], taken[0], taken[19]);
}
