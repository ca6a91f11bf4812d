mod allow;
mod balance;
#[cfg(feature = "consul")]
mod consul;
mod hostile;
mod identity;
mod names;
#[cfg(feature = "consul")]
mod register;
mod resilience;
mod routes;

use std::fs;

use meshless_platforms::Scripted;
use tempfile::TempDir;

use super::*;
use crate::config::{Backend, HostMatch, ListenAddress, PathMatch, PathTemplate, RetryOn, UpstreamTls, ZonePreference};

/// Files in a directory of their own, an environment, and `--set`.
#[derive(Default)]
struct Given {
    files: Vec<(&'static str, String)>,
    variables: Vec<(&'static str, &'static str)>,
    sets: Vec<(&'static str, &'static str)>,
}

impl Given {
    fn file(mut self, name: &'static str, text: &str) -> Self {
        self.files.push((name, text.to_owned()));
        self
    }

    fn variable(mut self, name: &'static str, value: &'static str) -> Self {
        self.variables.push((name, value));
        self
    }

    fn set(mut self, name: &'static str, value: &'static str) -> Self {
        self.sets.push((name, value));
        self
    }

    fn load(&self) -> Result<Loaded, Problems> {
        let directory = TempDir::new().unwrap();
        for (name, text) in &self.files {
            fs::write(directory.path().join(name), text).unwrap();
        }
        let pairs = |pairs: &[(&str, &str)]| {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let mut result = load(&[directory.path().to_owned()], &Scripted(pairs(&self.variables)), &pairs(&self.sets));
        // The directory's name is not the same twice.
        let prefix = format!("{}/", directory.path().display());
        let problems = match &mut result {
            Ok(loaded) => &mut loaded.warnings,
            Err(problems) => &mut problems.0,
        };
        for problem in problems {
            if let super::super::Place::File { file, .. } = &mut problem.place {
                *file = file.replace(&prefix, "").into();
            }
            problem.message = problem.message.replace(&prefix, "");
        }
        result
    }

    fn config(&self) -> Config {
        self.load().unwrap_or_else(|problems| panic!("{problems}")).config
    }

    fn problems(&self) -> String {
        self.load().unwrap_err().to_string()
    }

    fn warnings(&self) -> String {
        Problems(self.load().unwrap_or_else(|problems| panic!("{problems}")).warnings).to_string()
    }
}

fn toml(text: &str) -> Given {
    Given::default().file("c.toml", text)
}

/// A listener and a service, so that a test shows only what it is about.
fn around(text: &str) -> Given {
    toml(&format!("{text}\n[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"static/127.0.0.1:2\"\n"))
}

const SMALLEST: &str = include_str!("../../../examples/smallest.toml");

#[test]
fn the_smallest_file_has_every_default() {
    let config = toml(SMALLEST).config();
    assert_eq!(config.admin.listen, ListenAddress::Tcp("127.0.0.1:9990".parse().unwrap()));
    assert_eq!(config.listeners[0].name, "127.0.0.1:4140");
    assert_eq!(config.listeners[0].limits, super::super::ListenerLimits::default());
    assert_eq!(config.routes[0].name, "route 1");
    assert_eq!(config.services["web"].policies, super::super::Policies::default());
    assert_eq!(config.defaults, super::super::Policies::default());
    assert_eq!(config.shutdown.drain, Duration::from_secs(25));
    assert_eq!(config.node.state_dir, Some(PathBuf::from("/var/lib/meshless")));
}

#[test]
fn every_problem_is_told_at_once_with_its_place() {
    let given = toml(
        r#"[admin]
listen = "0.0.0.0:9990"
color = "blue"

[services.web]
from = "static/127.0.0.1:8081 | | b"
timeout = 15
balance = "peak-ewa"

[services.api]
frm = "static/127.0.0.1:8081"
retry = { attempts = 0, backoff = "1s", budget = 0.2, on = ["resets"] }
identity = ["a"]

[[listeners]]
listen = ":80"

[[routes]]
listener = "outbuond"
to = "wbe"
"#,
    );
    assert_eq!(
        given.problems(),
        "\
c.toml:2:10: error: admin.listen: expected a loopback address or a Unix socket; for kubelet, load balancers and Prometheus there is `admin.probes`
c.toml:3:1: error: admin.color: unknown key; allowed: `listen`, `probes`
c.toml:6:33: error: services.web.from: expected a service, a target such as `static/127.0.0.1:80`, or `(`, found `|` (byte 24)
c.toml:7:11: error: services.web.timeout: expected a duration with its unit, such as \"250ms\", \"15s\" or \"5m\", found the number 15
c.toml:8:11: error: services.web.balance: expected `peak-ewma`, `least-request`, `round-robin` or `random`, found `peak-ewa`; did you mean `peak-ewma`?
c.toml:10:11: error: services.api.from: missing: say where its endpoints are found, such as `from = \"static/127.0.0.1:8080\"`
c.toml:11:1: error: services.api.frm: unknown key; did you mean `from`?
c.toml:12:22: error: services.api.retry.attempts: expected a whole number from 1 to 10, found the number 0
c.toml:12:35: error: services.api.retry.backoff: expected a range of durations, the shorter one first, such as \"25ms..250ms\", found `1s`
c.toml:12:50: error: services.api.retry.budget: expected a share from 0% to 100%, such as \"20%\", found the number 0.2
c.toml:12:61: error: services.api.retry.on[0]: expected `connect`, `reset`, `unavailable` or a status from `400` to `599`, found `resets`; did you mean `reset`?
c.toml:13:1: error: services.api.identity: has no meaning without `tls = \"mesh\"`; write that, or remove it
c.toml:15:1: error: listeners[0]: has neither `to` nor a route; add `to`, or [[routes]]
c.toml:16:10: error: listeners[0].listen: expected an IP address and a port such as `127.0.0.1:4140`, or `unix:` and a path, found `:80`; for all addresses write `[::]:80`
c.toml:19:12: error: routes[0].listener: there is no listener `outbuond`; allowed: `:80`
c.toml:20:7: error: routes[0].to: there is no service `wbe`; did you mean `web`?"
    );
}

#[test]
fn yaml_and_json_are_told_the_same() {
    let yaml = Given::default().file("c.yaml", "listeners:\n  - listen: 127.0.0.1:1\n    to: wbe\nservices:\n  web:\n    from: static/127.0.0.1:2\n    timeuot: 1s\n");
    assert_eq!(
        yaml.problems(),
        "c.yaml:3:9: error: listeners[0].to: there is no service `wbe`; did you mean `web`?\n\
         c.yaml:7:5: error: services.web.timeuot: unknown key; did you mean `timeout`?"
    );
    let json = Given::default().file("c.json", "{\"listeners\": [\n  {\"listen\": \"127.0.0.1:1\", \"to\": 1}]}");
    assert_eq!(json.problems(), "c.json:2:35: error: listeners[0].to: expected a string, found the number 1");
}

#[test]
fn nothing_at_all_is_told_as_well() {
    assert_eq!(
        toml("").problems(),
        "configuration: error: listeners: there is no listener; add [[listeners]] with `listen = \"127.0.0.1:4140\"`"
    );
    let nowhere = load(&["/nowhere/c.toml".into()], &Scripted::default(), &BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(nowhere, "/nowhere/c.toml:1:1: error: cannot be read: No such file or directory (os error 2)");
    let none = load(&[], &Scripted::default(), &BTreeMap::new()).unwrap_err().to_string();
    assert_eq!(none, "configuration: error: no file is named; give one, or a directory, with -c");
}

#[test]
fn files_of_a_directory_are_merged_in_the_order_of_their_names() {
    let given = Given::default()
        .file("20.yaml", "routes: [{ to: b }]\nservices: { b: { from: static/127.0.0.1:2 } }\n")
        .file("10.toml", "[[listeners]]\nlisten = \"127.0.0.1:1\"\n[[routes]]\nmatch = { path = \"/a\" }\nto = \"b\"\n")
        .file("notes.txt", "not read")
        .file(".10.toml.swp.toml", "not read = [");
    let loaded = given.load().unwrap();
    assert_eq!(loaded.config.routes.len(), 2);
    assert_eq!(loaded.config.routes[0].matches.path, Some(PathMatch::Template(PathTemplate::new("/a"))));
    assert_eq!(loaded.config.routes[1].name, "route 2");
    let names: Vec<_> = loaded.files.iter().map(|file| file.file_name().unwrap().to_str().unwrap()).collect();
    assert_eq!(names, ["10.toml", "20.yaml"]);
}

#[test]
fn a_key_that_is_set_in_two_files_names_both() {
    let given = Given::default()
        .file("a.toml", SMALLEST)
        .file("b.toml", "[services.web]\ntimeout = \"1s\"\nfrom = \"static/127.0.0.1:3\"\n");
    assert_eq!(given.problems(), "b.toml:3:1: error: services.web.from: is set at a.toml:9:1 too; keep one of them");
}

#[test]
fn a_problem_in_a_later_file_points_there() {
    let given = Given::default().file("a.toml", SMALLEST).file("b.toml", "\n[[routes]]\nto = \"nix\"\n");
    assert!(given.problems().starts_with("b.toml:3:7: error: routes[1].to: there is no service `nix`"));
}

#[test]
fn the_environment_wins_over_files() {
    let config = toml(SMALLEST)
        .variable("MESHLESS__ADMIN__LISTEN", "127.0.0.1:1234")
        .variable("MESHLESS__NODE__WORKERS", "3")
        .variable("MESHLESS__SERVICES__WEB__TIMEOUT", "2s")
        .variable("MESHLESS__NODE__STATE_DIR", "/s")
        .config();
    assert_eq!(config.admin.listen.to_string(), "127.0.0.1:1234");
    assert_eq!(config.node.workers, Some(3));
    assert_eq!(config.services["web"].policies.timeout, Duration::from_secs(2));
    assert_eq!(config.services["web"].from.to_string(), "static/127.0.0.1:8081,127.0.0.1:8082");
    assert_eq!(config.node.state_dir, Some(PathBuf::from("/s")));
}

#[test]
fn a_variable_that_sets_nothing_is_a_problem() {
    let given = toml(SMALLEST)
        .variable("MESHLESS__ADMIN__LISTNE", "127.0.0.1:1")
        .variable("MESHLESS__LISTENERS__0__LISTEN", "127.0.0.1:1")
        .variable("MESHLESS__NODE", "x")
        .variable("MESHLESS__NODE__WORKERS", "many")
        .variable("MESHLESS__NODE____ZONE", "a")
        .variable("MESHLESS_NODE_ZONE", "a")
        .variable("MESHLESS_ECS_SERVICE", "web")
        .variable("MESHLESS_SERVICE_HOST", "10.0.0.1")
        .variable("MESHLESS_PORT_80_TCP", "tcp://10.0.0.1:80");
    assert_eq!(
        given.problems(),
        "\
MESHLESS_NODE_ZONE: warning: is not read; a key is set as MESHLESS__TABLE__KEY, with two underscores
MESHLESS__ADMIN__LISTNE: error: unknown key `listne`; did you mean `listen`?
MESHLESS__LISTENERS__0__LISTEN: error: `0` would be a key in a list; the environment sets single values in tables only
MESHLESS__NODE: error: this is a table; the environment sets single values in tables only
MESHLESS__NODE__WORKERS: error: node.workers: expected a whole number from 1 to 1024, found `many`
MESHLESS__NODE____ZONE: error: expected a name such as MESHLESS__ADMIN__LISTEN"
    );
}

#[test]
fn strings_take_variables_and_facts() {
    let config = toml(
        "[node]\nzone = \"a\"\n[[listeners]]\nlisten = \"127.0.0.1:${PORT:-4140}\"\nname = \"in-${node.zone}-${ecs.cluster}\"\n\
         to = \"static/${HOST}:80\"\nproxy_protocol = \"${PROXY}\"\n",
    )
    .variable("HOST", "10.0.0.1")
    .variable("PROXY", "true")
    .set("ecs.cluster", "prod")
    .config();
    assert_eq!(config.listeners[0].name, "in-a-prod");
    assert_eq!(config.listeners[0].listen.to_string(), "127.0.0.1:4140");
    assert_eq!(config.listeners[0].to.as_ref().unwrap().to_string(), "static/10.0.0.1:80");
    assert!(config.listeners[0].proxy_protocol);
}

#[test]
fn an_unknown_variable_is_told_where_it_stands() {
    let given = toml(
        "[node]\nzone = \"${ZONE}\"\n[[listeners]]\nlisten = \"127.0.0.1:${PORT}\"\nto = \"static/${ecs.address}:80\"\nname = \"${node.service}\"\n",
    )
    .set("ecs.adress", "10.0.0.1");
    assert_eq!(
        given.problems(),
        "\
c.toml:2:9: error: node.zone: `${…}` is not taken in [node], which is read first; write the value
c.toml:4:21: error: listeners[0].listen: the environment variable `PORT` is not set; set it, or write `${PORT:-default}`
c.toml:5:14: error: listeners[0].to: nothing here says `ecs.address`; give `--set ecs.address=…`
c.toml:6:9: error: listeners[0].name: `node.service` is not known; set it in [node], or give `--set node.service=…` to check
--set ecs.adress: warning: nothing uses `${ecs.adress}`"
    );
}

/// Every key that this build has.
const WHOLE: &str = r#"
[node]
service = "web"
zone = "eu-west-1a"
address = "10.0.0.1"
platform = "ecs"
state_dir = "/s"
workers = 2
memory = "64MiB"
[admin]
listen = "unix:/run/meshless/admin.sock"
probes = "0.0.0.0:9991"
[discovery.consul]
address = "https://consul.internal:8501"
token = "t"
token_file = "/run/token"
ca = "/run/ca.pem"
cert = "/run/cert.pem"
key = "/run/key.pem"
server_name = "server.dc1.consul"
datacenter = "dc1"
namespace = "n"
partition = "p"
peer = "other"
consistency = "stale"
cached = true
wait = "30s"
blocking = 100
[discovery.ecs]
region = "eu-west-1"
endpoint = "http://127.0.0.1:1"
profile = "prod"
assume_role = "arn:aws:iam::1:role/r"
external_id = "x"
min_interval = "5s"
max_interval = "20s"
[discovery.kubernetes]
kubeconfig = "/run/kubeconfig"
context = "prod"
addresses = "node-port"
routes = true
namespace = "web"
[discovery.edge]
type = "file"
path = "/e"
[discovery.names]
type = "dns"
resolvers = ["10.0.0.2", "[::1]:5353"]
min_ttl = "10s"
max_ttl = "1m"
family = "ipv4"
allow_link_local = true
[defaults]
timeout = "3s"
retry = { attempts = 3 }
[services.api]
from = "edge/api | static/[::1]:80*2,unix:/run/a.sock"
protocol = "http2"
hedge = { after = "p99.9" }
tls = { ca = "system", cert = "/c", key = "/k", server_name = "api.internal" }
balance = { kind = "ring-hash", on = "header:x-user" }
slow_start = "30s"
zones = "prefer"
connect_timeout = "2s"
idle_timeout = "1m"
retry = { on = ["connect", "502", "unavailable"], per_try = "1s", backoff = "1ms..2ms", budget = "10%", min_per_second = 0.5, body_limit = "1KiB", methods = "all" }
classify = { failure = ["500-504", "unavailable"], retryable = ["502", "aborted"] }
breaker = { consecutive = 7, success_below = "50%", window = "20s", min_requests = 5, eject = "2s..5m", max_ejected = "10%" }
health = { type = "http", path = "/healthz?deep", host = "api.internal", status = "200-399", interval = "10s", timeout = "2s", healthy = 1, unhealthy = 5 }
limits = { connections = 1, pending = 0, requests = 3, queue = "4s", adaptive = false }
panic = "30%"
spill = 2.0
[services.grpc]
from = "static/127.0.0.1:2"
tls = "mesh"
identity = ["spiffe://example.org/svc/legacy"]
health = { type = "grpc", service = "pkg.Api" }
[[listeners]]
name = "in"
listen = "0.0.0.0:4143"
protocol = "http"
tls = { mode = "server", certs = [{ cert = "/c", key = "/k" }], client_ca = "/ca" }
proxy_protocol = true
overrides = true
transparent = false
allow = [{ from = "spiffe://example.org/svc/*", methods = ["GET"], path = "/v1/*", headers = { x-a = "b" }, grpc = "a.B/C", address = ["10.0.0.0/8"] }]
dry_run = true
limits = { connections = 1, connections_per_address = 0, requests = 7, requests_per_connection = 0, connection_age = "2h", handshake_timeout = "1s", header_timeout = "1s", idle_timeout = "1s", head_bytes = "8KiB", headers = 10, trailer_bytes = "0B", streams = 5, hops = 3, control_frames = { settings = 1, ping = 2, reset = 3, other = 4 } }
[[routes]]
name = "one"
listener = "in"
match = { host = "*.Example.com", path = "/v1/*", method = ["GET"], headers = { x-env = "staging", x-a = { regex = "a+" }, x-b = { present = true } }, query = { debug = { not = "1" } }, grpc = "pkg.Service/Method", from = "spiffe://example.org/svc/*", address = ["10.0.0.0/8"] }
to = "90 * api & 10 * edge/api"
timeout = "1s"
retry = { attempts = 3 }
hedge = { after = "10ms" }
rewrite = { path = "/v2/{rest}", host = "api.internal" }
headers = { set = { x-a = "b" }, remove = ["x-b"] }
response_headers = { set = { x-a = "b" } }
mirror = { to = "api", share = "5%" }
rate_limit = { per = "header:x-key", rate = "100/s", burst = 200 }
fault = { delay = "200ms", status = 503, share = "1%" }
[[routes]]
match = { host = "a" }
redirect = { status = 301, scheme = "https", host = "b", path = "/c" }
[[routes]]
match = { host = "b" }
respond = { status = 404, body = "none" }
[[names]]
match = "{service}.mesh"
target = "edge/{service} | api"
[ca]
listen = "0.0.0.0:8443"
state_dir = "/s/ca"
leaf_ttl = "12h"
intermediate_ttl = "30d"
passphrase_file = "/s/passphrase"
allow = [
  { attestor = "kubernetes", namespace = "default", service_account = "api", cluster = "prod", id = "/svc/api" },
  { attestor = "aws-iam", account = "123456789012", role = "arn:aws:iam::123456789012:role/api", service = "api", family = "api", id = "/svc/api" },
  { attestor = "ec2", region = "eu-west-1", instance = "i-0123456789abcdef0", image = "ami-0123456789abcdef0", id = "/svc/vm" },
  { attestor = "x509", roots = "old", common_name = "web", dns = "web.example", uri = "urn:web", id = "/svc/web" },
]
limits = { per_second = 40, per_identity = 5, per_source = 30, handshakes = 100 }
[ca.kubernetes.prod]
issuer = "https://kubernetes.default.svc"
jwks_file = "/s/jwks.json"
[ca.aws]
accounts = ["123456789012"]
regions = ["eu-west-1"]
ecs = true
behind_nat = false
endpoint = "https://sts.internal"
ecs_endpoint = "https://ecs.internal"
[ca.ec2]
accounts = ["123456789012"]
certificates = "/s/aws.pem"
[ca.x509.old]
bundle = "/s/old.pem"
[identity]
# What has no place beside each other is in the tests of `[identity]`: authority_pin = …, cert = …, { chain = …, bundle = … }.
trust_domain = "example.org"
authority = "https://ca.internal:8443"
authority_bundle = "/ca"
attest = "join-token"
token_file = "/token"
[register]
backend = "consul"
listener = "in"
service = "shop"
address = "10.0.0.7"
port = 32768
tags = ["blue"]
meta = { team = "web" }
weight = 5
ttl = "10s"
deregister_after = "2m"
wait = "1s"
check = { by = "gateway", type = "http", address = "127.0.0.1:8080", path = "/healthz", host = "app", status = "200-299", interval = "1s", timeout = "500ms", healthy = 1, unhealthy = 2 }
[telemetry]
access_log = "text"
traces = { otlp = "https://otlp.example.com/base", sample = "2.5%", headers = { x-key = "k" }, service_name = "edge", ca = "/ca" }
[shutdown]
grace = "5s"
notices = ["interruption"]
drain = "1m"
"#;

#[test]
fn the_whole_shape_stands_in_the_test_for_it() {
    fn built(schema: &serde_json::Value, found: &mut Vec<String>) {
        let schema = super::super::schema::resolve(schema);
        if schema.get(super::super::schema::LATER) == Some(&true.into())
            && schema.get(super::super::schema::LATER_UNLESS).is_none()
        {
            return;
        }
        for branch in schema.get("anyOf").and_then(serde_json::Value::as_array).into_iter().flatten() {
            built(branch, found);
        }
        for (key, schema) in schema.get("properties").and_then(serde_json::Value::as_object).into_iter().flatten() {
            let mut below = Vec::new();
            built(schema, &mut below);
            let later = schema.get(super::super::schema::LATER) == Some(&true.into());
            if !later || schema.get(super::super::schema::LATER_UNLESS).is_some() {
                found.push(key.clone());
            }
            found.append(&mut below);
        }
        for inner in ["items", "additionalProperties"]
            .iter()
            .filter_map(|key| schema.get(*key))
            .filter(|inner| inner.is_object())
        {
            built(inner, found);
        }
    }
    let mut keys = Vec::new();
    built(super::super::schema::schema(), &mut keys);
    assert!(keys.len() > 80, "{}", keys.len());
    for key in keys {
        let forms = [format!("{key} = "), format!("[{key}"), format!("[ca.{key}")];
        let written = forms.iter().any(|form| WHOLE.contains(form));
        assert!(written, "`{key}` is built, and not in the test of the whole shape");
    }
}

#[test]
#[cfg_attr(
    not(all(feature = "consul", feature = "dns", feature = "ecs", feature = "kubernetes")),
    ignore = "the whole shape has these backends"
)]
fn the_whole_shape_that_this_build_has_is_taken() {
    let config = toml(WHOLE).config();
    let api = &config.services["api"].policies;
    assert_eq!(api.timeout, Duration::from_secs(3));
    assert_eq!(api.retry.attempts, 3);
    assert_eq!(api.retry.on, [RetryOn::Connect, RetryOn::Status(502), RetryOn::GrpcUnavailable].into());
    assert_eq!(api.limits.pending, 0);
    assert_eq!((api.slow_start, api.zones, api.spill), (Some(Duration::from_secs(30)), ZonePreference::Prefer, 2.0));
    assert!(matches!(&api.tls, UpstreamTls::On { client: Some(_), server_name: Some(_), .. }));
    assert_eq!(config.discovery["edge"], Backend::File { path: "/e".into() });
    assert_eq!(config.routes[0].matches.host, Some(HostMatch::Suffix(".example.com".to_owned())));
    assert_eq!(config.routes[0].matches.path, Some(PathMatch::Template(PathTemplate::new("/v1/*"))));
    let limits = &config.listeners[0].limits;
    assert_eq!((limits.head_bytes, limits.control_frames.other, limits.connections_per_address), (8192, 4, 0));

    let view = serde_json::to_value(&config).unwrap();
    assert_eq!(view["services"]["api"]["from"], "edge/api | static/[::1]:80*2,unix:/run/a.sock");
    assert_eq!(
        view["services"]["api"]["policies"]["retry"]["on"],
        serde_json::json!(["connect", "unavailable", "502"])
    );
    assert_eq!(view["services"]["api"]["policies"]["retry"]["backoff"], "1ms..2ms");
    assert_eq!(view["services"]["api"]["policies"]["retry"]["budget"], "10%");
    assert_eq!(
        view["services"]["api"]["policies"]["balance"],
        serde_json::json!({ "kind": "ring-hash", "on": "header:x-user" })
    );
    assert_eq!(
        view["services"]["api"]["policies"]["classify"],
        serde_json::json!({ "failure": ["500-504", "unavailable"], "retryable": ["502", "aborted"] })
    );
    assert_eq!(
        view["services"]["api"]["policies"]["breaker"],
        serde_json::json!({ "consecutive": 7, "success_below": "50%", "window": "20s", "min_requests": 5,
                             "eject": "2s..5m", "max_ejected": "10%" })
    );
    assert_eq!(
        view["services"]["api"]["policies"]["health"],
        serde_json::json!({ "type": "http", "path": "/healthz?deep", "host": "api.internal", "status": [200, 399],
                            "interval": "10s", "timeout": "2s", "healthy": 1, "unhealthy": 5 })
    );
    assert_eq!(view["services"]["grpc"]["policies"]["health"]["service"], "pkg.Api");
    assert_eq!((&view["node"]["memory"], &view["listeners"][0]["limits"]["requests"]), (&"64MiB".into(), &7.into()));
    assert_eq!(view["listeners"][0]["limits"]["head_bytes"], "8KiB");
    assert_eq!(view["listeners"][0]["limits"]["connection_age"], "2h");
    assert_eq!(view["admin"]["listen"], "unix:/run/meshless/admin.sock");
    assert_eq!(view["discovery"]["edge"], serde_json::json!({ "type": "file", "path": "/e" }));
    assert_eq!(
        view["discovery"]["names"],
        serde_json::json!({
            "type": "dns", "resolvers": ["10.0.0.2:53", "[::1]:5353"], "min_ttl": "10s", "max_ttl": "1m",
            "family": "ipv4", "allow_link_local": true
        })
    );
    assert_eq!(
        view["register"],
        serde_json::json!({
            "backend": "consul", "listener": "in", "service": "shop", "address": "10.0.0.7", "port": 32768,
            "tags": ["blue"], "meta": { "team": "web" }, "weight": 5,
            "check": { "by": "gateway", "address": "127.0.0.1:8080", "type": "http", "path": "/healthz", "host": "app",
                       "status": [200, 299], "interval": "1s", "timeout": "500ms", "healthy": 1, "unhealthy": 2 },
            "ttl": "10s", "deregister_after": "2m", "wait": "1s",
        })
    );
    assert_eq!(view["ca"]["intermediate_ttl"], "720h");
    assert_eq!(
        view["ca"]["allow"][2],
        "ec2 image=ami-0123456789abcdef0 instance=i-0123456789abcdef0 region=eu-west-1 → /svc/vm"
    );
    assert_eq!(view["routes"][0]["timeout"], "1s");
    assert_eq!(
        view["telemetry"]["traces"],
        serde_json::json!({
            "otlp": "https://otlp.example.com:443/base/v1/traces",
            "sample": "2.5%",
            "headers": { "x-key": "(hidden)" },
            "service_name": "edge",
            "ca": "/ca",
        })
    );
    assert_eq!(view["routes"][0]["to"], "90 * api & 10 * edge/api");
    assert_eq!(view["routes"][0]["match"]["path"]["template"], "/v1/*");
    assert_eq!(view["routes"][0]["rewrite"]["path"], "/v2/{rest}");
    assert_eq!(view["routes"][0]["rate_limit"]["rate"], "100/s");
    assert_eq!(view["routes"][0]["headers"]["set"], serde_json::json!(["x-a"]), "values may be secrets");
    assert_eq!(view["routes"][1]["redirect"]["status"], 301);
    assert_eq!(view["routes"][2]["respond"]["body"], "none");
    assert_eq!(view["names"][0], serde_json::json!({ "match": "{service}.mesh", "target": "edge/{service} | api" }));
    assert_eq!(view["listeners"][0]["overrides"], true);
}

#[test]
fn what_is_not_built_yet_says_so() {
    let given = around(
        r#"
[discovery.static]
[discovery.other]
[services.a]
from = "ecs/prod/api"
[[listeners]]
listen = "127.0.0.1:3"
to = "a"
transparent = true
"#,
    );
    assert_eq!(
        given.problems(),
        "\
c.toml:2:12: error: discovery.static: `static` is always there and has no keys; remove the table
c.toml:3:12: error: discovery.other.type: missing: the table's name is not a type; write `type = \"file\"`
c.toml:5:9: error: services.a.from: the backend `ecs` needs a table: add [discovery.ecs]
c.toml:9:1: error: listeners[0].transparent: not in this build yet; remove it"
    );
}

#[cfg(feature = "dns")]
#[test]
fn what_a_dns_backend_is_told_wrongly_is_said() {
    let given = around(
        r#"
[discovery.dns]
path = "/e"
resolvers = ["ns.internal:53", "10.0.0.2", "10.0.0.2:53", "0.0.0.0:53", "10.0.0.3:0"]
min_ttl = "10m"
max_ttl = "1m"
[discovery.other]
type = "dns"
resolvers = []
min_ttl = "500ms"
max_ttl = "2h"
family = "v4"
[discovery.file]
path = "/e"
allow_link_local = true
[services.a]
from = "dns/web | dns/10.0.0.1:80 | other/localhost:80 | dns/srv/a:80"
"#,
    );
    assert_eq!(
        given.problems(),
        "\
c.toml:3:1: error: discovery.dns.path: a key of backends of the type `file`; remove it
c.toml:4:14: error: discovery.dns.resolvers[0]: expected the address of a server such as `10.0.0.2:53` or `[::1]:53`, found `ns.internal:53`
c.toml:4:44: error: discovery.dns.resolvers[2]: `10.0.0.2:53` stands there twice
c.toml:4:59: error: discovery.dns.resolvers[3]: expected the address of a server such as `10.0.0.2:53` or `[::1]:53`, found `0.0.0.0:53`
c.toml:4:73: error: discovery.dns.resolvers[4]: expected the address of a server such as `10.0.0.2:53` or `[::1]:53`, found `10.0.0.3:0`
c.toml:6:11: error: discovery.dns.max_ttl: expected no less than `min_ttl`
c.toml:9:13: error: discovery.other.resolvers: expected 1 to 8 servers, found 0; without the key the system's are asked
c.toml:10:11: error: discovery.other.min_ttl: expected 1s to 1h
c.toml:11:11: error: discovery.other.max_ttl: expected 1s to 1h
c.toml:12:10: error: discovery.other.family: expected `any`, `ipv4` or `ipv6`, found `v4`
c.toml:15:1: error: discovery.file.allow_link_local: a key of backends of the type `dns`; remove it
c.toml:17:9: error: services.a.from: target `dns/web`: no port; write `dns/HOST:PORT`, or `dns/srv/NAME` for SRV records
c.toml:17:19: error: services.a.from: target `dns/10.0.0.1:80`: 10.0.0.1 is an address and no name; write `static/10.0.0.1:80`
c.toml:17:37: error: services.a.from: target `other/localhost:80`: `localhost` is this host and not for a DNS server; write `static/127.0.0.1:80`
c.toml:17:58: error: services.a.from: target `dns/srv/a:80`: an SRV record has the port; write `dns/srv/NAME` without one"
    );
}

#[cfg(feature = "dns")]
#[test]
fn a_dns_target_needs_no_table() {
    let config =
        toml("[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"dns/web.internal:80 | dns/srv/_http._tcp.x\"\n").config();
    assert_eq!(config.discovery, [].into());
}

#[cfg(not(feature = "dns"))]
#[test]
fn a_build_without_the_dns_backend_says_so_where_it_is_named() {
    let given = around("\n[discovery.names]\ntype = \"dns\"\n[services.a]\nfrom = \"dns/web:80 | names/web:80\"\n");
    assert_eq!(
        given.problems(),
        "\
c.toml:2:12: error: discovery.names: this build has no `dns` backend; it was built without that feature
c.toml:5:9: error: services.a.from: this build has no `dns` backend, which `dns/web:80` needs"
    );
}

#[test]
fn names_in_expressions_must_stand_for_something() {
    let given = around(
        r#"
[discovery.files]
type = "file"
path = "/e"
[services.a]
from = "a | b | file/x | fils/x | files/X | files/x[a=b] | static/host:80 | static/1.2.3.4:80*x | static/1.2.3.4:80,1.2.3.4:80*2"
"#,
    );
    assert_eq!(
        given.problems(),
        "\
c.toml:6:9: error: services.a.from: `a` is this service itself; `from` takes targets such as `static/127.0.0.1:8080`
c.toml:6:13: error: services.a.from: `b` is not a target; `from` takes targets such as `static/127.0.0.1:8080`, not services
c.toml:6:17: error: services.a.from: the backend `file` needs a table: add [discovery.file] with a `path`
c.toml:6:26: error: services.a.from: there is no backend `fils`; add [discovery.fils]; did you mean `files`?
c.toml:6:35: error: services.a.from: target `files/X`: service name `X` does not begin with a lower-case letter or a digit
c.toml:6:45: error: services.a.from: target `files/x[a=b]`: option `a` is not known to backend `files`, which has none; remove the brackets
c.toml:6:60: error: services.a.from: target `static/host:80`: `host:80` is a host name, only IP addresses are taken here; a target `dns/host:80` looks names up
c.toml:6:77: error: services.a.from: target `static/1.2.3.4:80*x`: weight `x` is not a whole number from 0 to 100000
c.toml:6:99: error: services.a.from: target `static/1.2.3.4:80,1.2.3.4:80*2`: `1.2.3.4:80` stands there twice; give it a weight instead"
    );
}

#[test]
fn listeners_share_no_name_and_no_address() {
    let given = toml(
        r#"
[[listeners]]
name = "a"
listen = "127.0.0.1:80"
to = "static/127.0.0.1:2"
[[listeners]]
name = "a"
listen = "0.0.0.0:80"
to = "static/127.0.0.1:2"
[[listeners]]
listen = "127.0.0.1:9990"
to = "static/127.0.0.1:2"
[[listeners]]
listen = "127.0.0.1:0"
to = "static/127.0.0.1:2"
[[listeners]]
name = "b"
listen = "127.0.0.1:0"
protocol = "tcp"
[[listeners]]
listen = "127.0.0.1:81"
protocol = "tls-passthrough"
tls = { mode = "server" }
to = "static/127.0.0.1:2"
"#,
    );
    assert_eq!(
        given.problems(),
        "\
c.toml:7:8: error: listeners[1].name: listeners[0] has this name already; names are unique
c.toml:8:10: error: listeners[1].listen: `0.0.0.0:80` is taken by listeners[0].listen already
c.toml:11:10: error: listeners[2].listen: `127.0.0.1:9990` is taken by admin.listen already
c.toml:16:1: error: listeners[4]: a `tcp` listener needs `to`: there is nothing that routes could match
c.toml:23:1: error: listeners[5].tls: a `tls-passthrough` listener passes TLS on unopened; remove `tls`, or change `protocol`
c.toml:23:1: error: listeners[5].tls.cert: missing: `mode = \"server\"` needs `cert` and `key`, or `certs`"
    );
}

#[test]
fn a_listener_that_strangers_reach_by_accident_is_a_warning() {
    let given = toml("[[listeners]]\nlisten = \"0.0.0.0:80\"\n[[routes]]\nto = \"static/127.0.0.1:2\"\n");
    assert_eq!(
        given.warnings(),
        "c.toml:2:10: warning: listeners[0].listen: is not on loopback, and routes without `listener` apply to it (routes[0]); name its listener in each route"
    );
    let given = toml(
        "[[listeners]]\nlisten = \"0.0.0.0:80\"\n[[routes]]\nlistener = \"0.0.0.0:80\"\nto = \"static/127.0.0.1:2\"\n",
    );
    assert_eq!(given.warnings(), "");
}

#[test]
fn a_route_that_nothing_can_reach_is_a_warning() {
    let given = toml(
        r#"
[[listeners]]
name = "a"
listen = "127.0.0.1:80"
[[listeners]]
name = "b"
listen = "127.0.0.1:81"
to = "static/127.0.0.1:2"
[[routes]]
match = { host = "*.x", path = "/a/*" }
to = "static/127.0.0.1:2"
[[routes]]
listener = "a"
match = { host = "y.x", path = "/a/b" }
to = "static/127.0.0.1:2"
[[routes]]
match = { host = "x", path = "/a" }
to = "static/127.0.0.1:2"
[[routes]]
match = { host = "z.x", path = "/ab" }
to = "static/127.0.0.1:2"
[[routes]]
listener = "b"
to = "static/127.0.0.1:2"
[[routes]]
match = { path = "/*" }
to = "static/127.0.0.1:2"
[[routes]]
to = "static/127.0.0.1:2"
"#,
    );
    assert_eq!(
        given.warnings(),
        "\
c.toml:12:1: warning: routes[1]: nothing can reach it: routes[0] stands before it and matches all that it matches
c.toml:23:12: warning: routes[4].listener: the listener `b` has `to`, which wins over routes
c.toml:28:1: warning: routes[6]: nothing can reach it: routes[5] stands before it and matches all that it matches"
    );
}

#[test]
fn hosts_and_paths_that_match_nothing_are_refused() {
    let given = |matches: &str| {
        let text = format!(
            "[[listeners]]\nlisten = \"127.0.0.1:1\"\n[[routes]]\nto = \"static/127.0.0.1:2\"\nmatch = {{ {matches} }}\n"
        );
        toml(&text).load()
    };
    for host in ["", "*", "a:80", "http://a", "a b", "*.", "a..b", "*.*.a", "[::1", "*.[::1]"] {
        assert!(given(&format!("host = \"{host}\"")).is_err(), "{host}");
    }
    for host in ["a", "A.b", "*.a", "127.0.0.1", "[::1]", "a_b"] {
        assert!(given(&format!("host = \"{host}\"")).is_ok(), "{host}");
    }
    for path in ["", "a", "/a*", "/*/a", "/a?b", "/a/../b", "//", "/a b", "/a//*"] {
        assert!(given(&format!("path = \"{path}\"")).is_err(), "{path}");
    }
    for path in ["/", "/a", "/a/", "/a/*", "/*", "/%20"] {
        assert!(given(&format!("path = \"{path}\"")).is_ok(), "{path}");
    }
}

#[test]
fn an_authority_is_checked_and_needs_no_listener() {
    let given = toml(
        r#"[ca]
listen = "8443"
leaf_ttl = "2s"
intermediate_ttl = "91d"
limits = { per_second = 0 }
allow = [
  { attestor = "kubernetes", account = "1", id = "/svc/a" },
  { attestor = "ec2", id = "/svc/a" },
  { attestor = "ec2", account = "1", id = "/other/a" },
  { attestor = "ec2", account = "1", id = "/svc/{namespace}" },
  { namespace = "default" },
]
"#,
    );
    let problems = given.problems();
    for expected in [
        "ca.listen: expected an IP address and a port",
        "ca.leaf_ttl: expected a time from 5s to 24h",
        "ca.intermediate_ttl: expected at least four times",
        "ca.limits.per_second: ",
        "ca.allow[0].attestor: nobody's evidence of this kind is taken: add `[ca.kubernetes.NAME]`",
        "ca.allow[0].account: `kubernetes` does not prove this; it proves cluster, namespace, service_account",
        "ca.allow[1]: the rule selects nothing",
        "ca.allow[2].id: `/other/a` is no identity of a service",
        "ca.allow[3].id: `ec2` does not prove `namespace`",
        "ca.allow[4].attestor: missing",
        "ca.allow[4].id: missing",
    ] {
        assert!(problems.contains(expected), "{expected} is not in\n{problems}");
    }
    // Each of the four rules names an attestor that has no table, too.
    assert_eq!(problems.lines().count(), 10 + 4, "{problems}");
    let config = toml("[node]\nstate_dir = \"/s\"\n[ca]\n").config();
    let ca = config.ca.unwrap();
    assert_eq!((ca.state_dir, ca.limits.handshakes, config.listeners.len()), (PathBuf::from("/s/ca"), 200, 0));
}

#[test]
fn durations_of_nothing_are_refused_where_they_mean_nothing() {
    let given = around("[defaults]\ntimeout = \"0s\"\n[shutdown]\ngrace = \"0s\"\n");
    assert_eq!(given.problems(), "c.toml:2:11: error: defaults.timeout: expected more than 0s");
}

#[test]
fn the_state_directory_is_that_of_systemd_unless_one_is_written() {
    let config = toml(SMALLEST).variable("STATE_DIRECTORY", "/var/lib/a:/var/lib/b").config();
    assert_eq!(config.node.state_dir, Some(PathBuf::from("/var/lib/a")));
}

#[test]
fn a_table_of_yaml_may_be_empty() {
    let text = "node:\nlisteners:\n  - listen: 127.0.0.1:1\n    to: static/127.0.0.1:2\n";
    assert!(Given::default().file("c.yaml", text).load().is_ok());
    let text = "node: { zone: }\nlisteners:\n  - listen: 127.0.0.1:1\n    to: static/127.0.0.1:2\n";
    assert_eq!(
        Given::default().file("c.yaml", text).problems(),
        "c.yaml:1:13: error: node.zone: expected a string, found nothing"
    );
}
