//! A real Kubernetes API server with etcd, its accounts and their permissions: the conformance suite against it, and
//! the whole gateway. No controllers run, so the tests write the slices that those would write.
//!
//! A real server takes no slice with an address of loopback. Origins listen on an address of this machine instead; what
//! is sent there does not leave it. Where there is none but loopback, those tests say that they are skipped.
//!
//! What only a server that can be broken in any way shows stands in `discovery_kubernetes.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::process::Command;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use meshless_discovery::conformance::{self, Played, Stage, Trouble};
use meshless_discovery::{
    Address, Backend, Config, Endpoint, Error, KubernetesConfig, KubernetesSurroundings, Source, Target, async_trait,
};
use meshless_fakes::kubernetes::{Gone, Kubernetes as Fake};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use crate::answering::{answering, wait_for};
use crate::gateway::{self, Running};
use crate::kube_apiserver::{ADMIN, ApiServer, path};
use crate::plain::{Origin, get, load, origin_at, try_client};

const SLICE: (&str, &str) = ("discovery.k8s.io/v1", "EndpointSlice");

/// Returns an address of this machine that is not loopback's.
fn own_address() -> Option<IpAddr> {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Sends nothing: it only has the kernel choose a route.
    let routed = socket.connect("192.0.2.1:9").and_then(|()| socket.local_addr());
    let address = routed.ok().map(|address| address.ip()).filter(|address| !address.is_loopback());
    if address.is_none() {
        eprintln!("skipped: this machine has no address but loopback's, and no EndpointSlice may have that");
    }
    address
}

fn origin(address: IpAddr, name: &str) -> Origin {
    origin_at(SocketAddr::new(address, 0), name)
}

/// A slice of the service `web`.
fn slice(port: u16, addresses: &[String], conditions: &Value) -> Value {
    let endpoints: Vec<Value> = addresses
        .iter()
        .map(|address| json!({ "addresses": [address], "conditions": conditions, "zone": "eu-1a" }))
        .collect();
    json!({
        "metadata": { "labels": { "kubernetes.io/service-name": "web" } },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
    })
}

fn make_service(server: &ApiServer, namespace: &str, name: &str) {
    let ports = json!([{ "name": "http", "port": 80, "protocol": "TCP", "targetPort": "http" }]);
    server.apply("v1", "Service", namespace, name, &json!({ "spec": { "ports": ports } }));
}

/// A namespace with the service `web`, and a kubeconfig of an account that may do what the documentation says.
struct Shop<'a> {
    server: &'a ApiServer,
    namespace: &'static str,
    folder: TempDir,
}

impl<'a> Shop<'a> {
    fn new(server: &'a ApiServer, namespace: &'static str) -> Self {
        server.namespace(namespace);
        make_service(server, namespace, "web");
        let shop = Self { server, namespace, folder: tempfile::tempdir().unwrap() };
        shop.use_account("meshless");
        shop
    }

    fn use_account(&self, name: &str) {
        let token = self.server.account(self.namespace, name);
        self.server.write_kubeconfig(&self.folder.path().join("config"), &token);
    }

    fn set(&self, origin: &Origin, conditions: &Value) {
        let (address, port) = (origin.address.ip().to_string(), origin.address.port());
        self.server.apply(
            SLICE.0,
            SLICE.1,
            self.namespace,
            &format!("web-{port}"),
            &slice(port, &[address], conditions),
        );
    }

    fn ready(&self, origin: &Origin) {
        self.set(origin, &json!({ "ready": true }));
    }

    fn remove(&self, origin: &Origin) {
        self.server.delete(SLICE.0, SLICE.1, self.namespace, &format!("web-{}", origin.address.port()));
    }

    fn configuration(&self, keys: &str) -> String {
        format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [discovery.kubernetes]\nkubeconfig = \"{}\"\nnamespace = \"{}\"\n{keys}",
            self.folder.path().join("config").display(),
            self.namespace
        )
    }

    fn gateway(&self) -> Running {
        let namespace = self.namespace;
        gateway::with(&self.configuration(&format!(
            "[services.web]\nfrom = \"k8s/{namespace}/web:80\"\nbalance = \"random\"\n[[routes]]\nto = \"web\"\n"
        )))
        .start()
    }
}

fn errors(gateway: &Running, kind: &str) -> u64 {
    gateway.count("meshless_discovery_errors_total", &[&format!("kind=\"{kind}\"")])
}

/// A namespace of a real server under the suite's control. The backend is that of a pod: an account in a folder.
struct RealStage {
    server: Arc<Mutex<ApiServer>>,
    namespace: String,
    account: TempDir,
    slices: usize,
}

impl RealStage {
    fn new(server: &Arc<Mutex<ApiServer>>, number: usize) -> Self {
        let (namespace, account) = (format!("stage-{number}"), tempfile::tempdir().unwrap());
        let locked = server.lock().unwrap();
        locked.namespace(&namespace);
        make_service(&locked, &namespace, "web");
        locked.permit(&namespace, "meshless", &[]);
        let token = locked.account(&namespace, "meshless");
        locked.write_account(account.path(), &token, &namespace);
        Self { server: Arc::clone(server), namespace, account, slices: 0 }
    }
}

#[async_trait]
impl Stage for RealStage {
    fn backend(&self) -> Arc<dyn Backend> {
        let server = Some(format!("https://{}", self.server.lock().unwrap().address));
        let account = self.account.path().to_owned();
        let surroundings = KubernetesSurroundings { server, account, kubeconfigs: Vec::new() };
        let config = KubernetesConfig { surroundings, ..KubernetesConfig::default() };
        meshless_discovery::open("kubernetes", &Config::Kubernetes(config)).unwrap()
    }

    fn target(&self) -> Target {
        target(&format!("{}/web:http", self.namespace))
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        let server = self.server.lock().unwrap();
        let addresses = endpoints.iter().filter_map(|endpoint| match endpoint.address {
            Address::Tcp(address) => Some(address.ip().to_string()),
            Address::Unix(_) => None,
        });
        let addresses: Vec<String> = addresses.collect();
        let parts: Vec<&[String]> = addresses.chunks(2).collect();
        for (number, part) in parts.iter().enumerate() {
            let slice = slice(80, part, &json!({}));
            server.apply(SLICE.0, SLICE.1, &self.namespace, &format!("web-{number}"), &slice);
        }
        for number in parts.len()..self.slices {
            server.delete(SLICE.0, SLICE.1, &self.namespace, &format!("web-{number}"));
        }
        self.slices = parts.len();
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        match trouble {
            Trouble::Restart | Trouble::Unreachable => self.server.lock().unwrap().end(),
            _ => return Played::Impossible,
        }
        Played::Done
    }

    async fn recover(&mut self) {
        self.server.lock().unwrap().restart();
    }
}

fn target(path: &str) -> Target {
    Target { backend: "kubernetes".to_owned(), path: path.to_owned(), options: BTreeMap::new() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_backend_conforms_to_a_real_api_server() {
    let Some(server) = ApiServer::start() else { return };
    let server = Arc::new(Mutex::new(server));
    let mut number = 0;
    let stage = || {
        number += 1;
        RealStage::new(&server, number)
    };
    let impossible = conformance::run(stage).await;
    assert_eq!(impossible, [Trouble::Garbage, Trouble::Huge, Trouble::Partial, Trouble::Slow]);
}

#[test]
fn slices_that_come_change_and_go_under_load_fail_no_request() {
    let (Some(server), Some(own)) = (ApiServer::shared(), own_address()) else { return };
    let (one, two) = (origin(own, "one"), origin(own, "two"));
    let shop = Shop::new(server, "changes");
    server.permit("changes", "meshless", &[]);
    shop.ready(&one);
    let gateway = shop.gateway();
    wait_for(&gateway, &["one"]);
    let address = gateway.address("edge");
    let load = load(4, "/", false, move || try_client(address));
    shop.ready(&two);
    wait_for(&gateway, &["one", "two"]);
    shop.set(&one, &json!({ "ready": false }));
    wait_for(&gateway, &["two"]);
    shop.set(&one, &json!({ "ready": true }));
    wait_for(&gateway, &["one", "two"]);
    shop.set(&one, &json!({ "ready": false, "serving": true, "terminating": true }));
    wait_for(&gateway, &["two"]);
    shop.remove(&one);
    load.wait_for(50);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert_eq!(gateway.count("meshless_discovery_errors_total", &[]), 0);
    assert!(gateway.admin("/endpoints").1.contains("eu-1a"));
}

#[test]
fn a_server_that_is_killed_takes_nothing_away_and_a_revoked_account_is_told() {
    let Some(own) = own_address() else { return };
    let Some(mut server) = ApiServer::start() else { return };
    let (one, two, three) = (origin(own, "one"), origin(own, "two"), origin(own, "three"));
    let shop = Shop::new(&server, "kept");
    server.permit("kept", "meshless", &[]);
    shop.ready(&one);
    let (gateway, folder) = (shop.gateway(), shop.folder);
    wait_for(&gateway, &["one"]);
    server.end();
    gateway.wait_until("the dead server is noticed", |gateway| errors(gateway, "unreachable") > 1);
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    let age = |gateway: &Running| gateway.metric("meshless_discovery_snapshot_age_seconds", &["kept/web"]);
    assert!(age(&gateway) > 0.0);
    server.restart();
    let shop = Shop { server: &server, namespace: "kept", folder };
    shop.ready(&two);
    wait_for(&gateway, &["one", "two"]);
    // The account goes, and its tokens with it; what is watched is not cut off for that, so the server starts anew.
    server.delete("v1", "ServiceAccount", "kept", "meshless");
    let folder = shop.folder;
    server.restart();
    gateway.wait_until("the revoked token is denied", |gateway| errors(gateway, "denied") > 0);
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned(), "two".to_owned()]));
    let shop = Shop { server: &server, namespace: "kept", folder };
    shop.use_account("next");
    server.permit("kept", "next", &[]);
    shop.ready(&three);
    wait_for(&gateway, &["one", "two", "three"]);
    gateway.wait_until("it is over", |gateway| age(gateway) == 0.0);
}

#[test]
fn an_account_without_permissions_is_told_which_and_needs_no_restart_when_it_has_them() {
    let (Some(server), Some(own)) = (ApiServer::shared(), own_address()) else { return };
    let one = origin(own, "one");
    let shop = Shop::new(server, "denied");
    shop.ready(&one);
    let route = "[services.web]\nfrom = \"k8s/denied/web:80\"\n[[routes]]\nto = \"web\"\n";
    let file = shop.folder.path().join("meshless.toml");
    std::fs::write(&file, shop.configuration(route)).unwrap();
    let doctor = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
        command.args(["doctor", "--json", "-c"]).arg(&file).env_clear();
        command.env("STATE_DIRECTORY", shop.folder.path()).env("MESHLESS__ADMIN__LISTEN", "127.0.0.1:0");
        let report: Value = serde_json::from_slice(&command.output().unwrap().stdout).unwrap();
        let sections = report["sections"].as_array().unwrap().clone();
        let section = sections.into_iter().find(|section| section["name"].to_string().contains("kubernetes"));
        section.unwrap_or_else(|| panic!("{report}"))["findings"].clone()
    };
    let verdict = |findings: &Value, what: &str| {
        let found = findings.as_array().unwrap().iter().find(|finding| finding["what"] == what);
        found.unwrap_or_else(|| panic!("{what}: {findings}"))["verdict"].as_str().unwrap().to_owned()
    };
    let needed = ["list endpointslices", "watch endpointslices", "get services"];
    let findings = doctor();
    assert!(findings.to_string().contains("system:serviceaccount:denied:meshless"), "{findings}");
    assert!(findings.to_string().contains(", Kubernetes v1."), "{findings}");
    let verdicts: Vec<String> = needed.iter().map(|what| verdict(&findings, what)).collect();
    assert!(verdicts.iter().all(|verdict| *verdict != "ok"), "{findings}");
    assert!(findings.to_string().contains("a Role with verb `watch` on resource `endpointslices`"), "{findings}");

    let gateway = gateway::with(&shop.configuration(route)).variable("MESHLESS__NODE__WORKERS", "1").try_start();
    let gateway = gateway.unwrap_or_else(|error| panic!("{error}"));
    gateway.wait_until("it is denied", |gateway| errors(gateway, "denied") > 0);
    let told = gateway.admin("/targets").1;
    assert!(told.contains("give the account a Role with verb `"), "{told}");
    server.permit("denied", "meshless", &[]);
    wait_for(&gateway, &["one"]);
    let findings = doctor();
    for what in needed {
        assert_eq!(verdict(&findings, what), "ok", "{findings}");
    }
}

async fn addresses(source: &mut Box<dyn Source>) -> Result<BTreeSet<String>, Error> {
    let answer = timeout(Duration::from_secs(20), source.next()).await.expect("no answer came")?;
    Ok(answer.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect())
}

/// Two pages of a list, each with a version of its own in etcd.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_hundred_slices_are_joined_and_one_that_is_empty_is_taken() {
    let Some(server) = ApiServer::shared() else { return };
    let shop = Shop::new(server, "many");
    server.permit("many", "meshless", &[]);
    let address = |number: usize| format!("10.1.{}.{}", number / 200, number % 200 + 1);
    let put = |number: usize, addresses: &[String]| {
        server.apply(SLICE.0, SLICE.1, "many", &format!("web-{number:03}"), &slice(80, addresses, &json!({})));
    };
    for number in 0..300 {
        put(number, &[address(number)]);
    }
    let kubeconfig = Some(shop.folder.path().join("config"));
    let config = Config::Kubernetes(KubernetesConfig { kubeconfig, ..KubernetesConfig::default() });
    let backend = meshless_discovery::open("kubernetes", &config).unwrap();
    let mut source = backend.source(&target("many/web:80")).unwrap();
    let mut expected: BTreeSet<String> = (0..300).map(|number| format!("{}:80", address(number))).collect();
    assert_eq!(addresses(&mut source).await, Ok(expected.clone()));
    assert!(backend.calls().totals()["list"] >= 2, "a page holds 250");
    // A real server writes the endpoints of an empty slice as null.
    put(7, &[]);
    server.delete(SLICE.0, SLICE.1, "many", "web-299");
    expected.remove(&format!("{}:80", address(7)));
    expected.remove(&format!("{}:80", address(299)));
    while addresses(&mut source).await != Ok(expected.clone()) {}
}

#[test]
fn routes_of_the_gateway_api_are_followed_as_a_real_server_keeps_them() {
    let Some(server) = ApiServer::shared() else { return };
    let shop = Shop::new(server, "routes");
    let group = "gateway.networking.k8s.io";
    let read = json!({ "apiGroups": [group], "resources": ["httproutes", "grpcroutes"], "verbs": ["list", "watch"] });
    server.permit("routes", "meshless", &[read]);
    let define = || {
        let names = json!({ "plural": "httproutes", "singular": "httproute", "kind": "HTTPRoute" });
        let schema = json!({ "openAPIV3Schema": { "type": "object", "x-kubernetes-preserve-unknown-fields": true } });
        // Groups of Kubernetes' own need a word of who approved them.
        let approved = json!({ "api-approved.kubernetes.io": "unapproved, for a test" });
        let definition = json!({
            "metadata": { "annotations": approved },
            "spec": {
                "group": group, "scope": "Namespaced", "names": names,
                "versions": [{ "name": "v1", "served": true, "storage": true, "schema": schema }],
            },
        });
        let kind = "CustomResourceDefinition";
        server.apply("apiextensions.k8s.io/v1", kind, "", &format!("httproutes.{group}"), &definition);
        let listed = path(&format!("{group}/v1"), "HTTPRoute", "routes", "");
        crate::plain::wait_until("the kind is served", || server.ask(ADMIN, "GET", &listed, "", "").status == 200);
    };
    let put = |host: &str| {
        let redirect = json!({ "type": "RequestRedirect", "requestRedirect": { "hostname": host } });
        let route = json!({ "spec": { "parentRefs": [{ "name": "meshless" }], "rules": [{ "filters": [redirect] }] } });
        server.apply(&format!("{group}/v1"), "HTTPRoute", "routes", "web", &route);
    };
    define();
    put("one.example");
    let gateway = gateway::with(&shop.configuration("routes = true\n")).start();
    let wait = |expected: &str| {
        gateway.wait_until(&format!("{expected} is the answer"), |gateway| {
            let reply = get(gateway.address("edge"), "a.example", "/x");
            reply.header("location").map_or_else(|| reply.status.to_string(), str::to_owned) == expected
        });
    };
    wait("http://one.example/x");
    put("two.example");
    wait("http://two.example/x");
    server.delete(&format!("{group}/v1"), "HTTPRoute", "routes", "web");
    wait("404");
    put("three.example");
    wait("http://three.example/x");
}

/// What was asked, and of an answer that which the backend looks at: status, and of each object in the body its type,
/// reason and code.
fn seen(status: u16, body: &str) -> (u16, Vec<[String; 3]>) {
    let objects = serde_json::Deserializer::from_str(body).into_iter::<Value>();
    let shapes = objects.map_while(Result::ok).map(|object| {
        let inner = if object["object"].is_object() { &object["object"] } else { &object };
        [&object["type"], &inner["reason"], &inner["code"]].map(ToString::to_string)
    });
    (status, shapes.collect())
}

/// The fake that all other tests trust answers as the real server does.
#[test]
fn the_fake_tells_the_truth_about_what_goes_wrong() {
    let Some(server) = ApiServer::start() else { return };
    let shop = Shop::new(&server, "shop");
    let fake = Fake::start();
    let slices = "/apis/discovery.k8s.io/v1/namespaces/shop/endpointslices";
    let ask_fake = |path: &str, token: &str| {
        let mut client = try_client(fake.server().address).unwrap();
        let head = format!("GET {path} HTTP/1.1\r\nhost: a\r\nauthorization: Bearer {token}\r\n\r\n");
        client.send(&head).unwrap();
        let reply = client.reply().unwrap();
        (reply.status, reply.body)
    };
    let ask_real = |path: &str, token: &str| {
        let reply = server.ask(token, "GET", path, "", "");
        (reply.status, reply.body)
    };
    let compare = |what: &str, paths: [&str; 2], token: &str| {
        let (real, fake) = (ask_real(paths[0], token), ask_fake(paths[1], token));
        assert_eq!(seen(real.0, &real.1), seen(fake.0, &fake.1), "{what}\nreal: {}\nfake: {}", real.1, fake.1);
        [real.1, fake.1]
    };
    for number in 0..3 {
        let object = slice(80, &[format!("10.0.0.{}", number + 1)], &json!({}));
        let (mut made, ..) = server.apply(SLICE.0, SLICE.1, "shop", &format!("web-{number}"), &object);
        made["metadata"].as_object_mut().unwrap().remove("managedFields");
        fake.put("endpointslices", made);
    }
    let lists = compare("a page", [&format!("{slices}?limit=1"); 2], ADMIN).map(|body| {
        let list: Value = serde_json::from_str(&body).unwrap();
        let text = |key: &str| list["metadata"][key].as_str().unwrap().to_owned();
        assert_eq!((list["items"].as_array().unwrap().len(), &list["metadata"]["remainingItemCount"]), (1, &json!(2)));
        (text("continue"), text("resourceVersion"))
    });
    compare("an object that is not there", ["/api/v1/namespaces/shop/services/nobody"; 2], ADMIN);
    let ahead = format!("{slices}?watch=true&allowWatchBookmarks=true&timeoutSeconds=1&resourceVersion=99999999");
    let bodies = compare("a watch from a version that is not there yet", [&ahead; 2], ADMIN);
    assert_eq!(bodies, ["", ""]);

    // Once forgotten: the rest of the list, and a watch from before it.
    let at = |from: [&str; 2]| from.map(|rest| format!("{slices}?{rest}"));
    server.compact();
    fake.compact(Gone::Event);
    let rests = lists.clone().map(|(token, _)| format!("limit=1&continue={token}"));
    let [real, other] = at([&rests[0], &rests[1]]);
    compare("the second page of a list that is forgotten", [&real, &other], ADMIN);
    let old = at(["watch=true&timeoutSeconds=1&resourceVersion=1"; 2]);
    compare("a watch from a version that is forgotten", [&old[0], &old[1]], ADMIN);

    // Who may not, and who is nobody.
    let token = server.account("shop", "meshless");
    fake.deny("list", "endpointslices");
    let [real, other] = compare("a permission that is missing", [slices; 2], &token).map(|body| {
        let status: Value = serde_json::from_str(&body).unwrap();
        status["message"].as_str().unwrap().replace("system:serviceaccount:shop:meshless", "fake")
    });
    assert_eq!(real, other);
    fake.set_token(Some("somebody"));
    compare("nobody", [slices; 2], "nobody");
    drop(shop);
}

/// From the write to the API server to the first request on the new endpoint.
#[test]
#[ignore = "a measurement: cargo test --test it from_a_slice -- --ignored --nocapture"]
fn from_a_slice_to_the_first_request_on_the_new_endpoint() {
    let (Some(server), Some(own)) = (ApiServer::shared(), own_address()) else { return };
    let origins = [origin(own, "0"), origin(own, "1")];
    let shop = Shop::new(server, "times");
    server.permit("times", "meshless", &[]);
    shop.ready(&origins[0]);
    let gateway = shop.gateway();
    wait_for(&gateway, &["0"]);
    let mut taken = Vec::new();
    for round in 1..=20 {
        // As rare as changes are: a storm is paced on purpose.
        std::thread::park_timeout(Duration::from_millis(1100));
        let next = &origins[round % 2];
        let object = slice(next.address.port(), &[own.to_string()], &json!({ "ready": true }));
        let start = std::time::Instant::now();
        let name = format!("web-{}", origins[0].address.port());
        server.apply(SLICE.0, SLICE.1, "times", &name, &object);
        while get(gateway.address("edge"), "a.example", "/").body != (round % 2).to_string() {}
        taken.push(start.elapsed());
    }
    taken.sort();
    eprintln!("median {:?}, least {:?}, most {:?}", taken[10], taken[0], taken[19]);
}
