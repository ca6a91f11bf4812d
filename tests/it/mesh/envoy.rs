//! Envoy as the other side of a whole gateway, both ways, with an identity of the same authority.

use std::fs;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

use serde_json::{Value, json};

use super::{inbound, outbound, two};
use crate::identities::{LONG, Place, id};
use crate::plain::{get, origin, wait_until};
use crate::real_programs::program;

/// Envoy with one listener; it ends with the test.
struct Envoy {
    child: Child,
    listener: SocketAddr,
}

impl Drop for Envoy {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Envoy {
    /// Starts it by static resources, and asks it where it listens.
    fn start(envoy: PathBuf, place: &Place, resources: &Value) -> Self {
        let free = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
        let config = json!({ "admin": { "address": free }, "static_resources": resources });
        let (file, admin) = (place.0.join("envoy.json"), place.0.join("admin"));
        fs::write(&file, config.to_string()).unwrap();
        let mut command = Command::new(envoy);
        command.arg("-c").arg(file).arg("--admin-address-path").arg(&admin);
        // No shared memory: two of them may run at once.
        command.args(["--disable-hot-restart", "--concurrency", "1", "--log-level", "off"]).env_clear();
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap();
        let mut started = Self { child, listener: "127.0.0.1:0".parse().unwrap() };
        wait_until("Envoy listens", || {
            assert!(started.child.try_wait().unwrap().is_none(), "Envoy has ended");
            let Some(admin) = fs::read_to_string(&admin).ok().and_then(|text| text.trim().parse().ok()) else {
                return false;
            };
            let told: Value =
                serde_json::from_str(&get(admin, "localhost", "/listeners?format=json").body).unwrap_or_default();
            let socket = &told["listener_statuses"][0]["local_address"]["socket_address"];
            let port = socket["port_value"].as_u64().and_then(|port| u16::try_from(port).ok()).filter(|port| *port > 0);
            if let Some(port) = port {
                started.listener.set_port(port);
            }
            port.is_some()
        });
        started
    }
}

/// TLS by the identity in a place, with a peer that must be `expected`.
fn tls(kind: &str, place: &Place, expected: &str) -> Value {
    let file = |name: &str| json!({ "filename": place.0.join(name) });
    let only = json!({ "tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3" });
    json!({
        "name": "tls",
        "typed_config": {
            "@type": format!("type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.{kind}TlsContext"),
            "common_tls_context": {
                "tls_params": only,
                "tls_certificates": [{ "certificate_chain": file("chain.pem"), "private_key": file("key.pem") }],
                "validation_context": {
                    "trusted_ca": file("bundle.pem"),
                    "match_typed_subject_alt_names": [{ "san_type": "URI", "matcher": { "exact": id(expected) } }],
                },
            },
        },
    })
}

fn listener(route: &Value, transport: Option<Value>) -> Value {
    let manager =
        "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
    let router = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router";
    let mut route = route.clone();
    route["match"] = json!({ "prefix": "/" });
    let mut chain = json!({ "filters": [{
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": manager,
            "stat_prefix": "it",
            "route_config": { "virtual_hosts": [{ "name": "it", "domains": ["*"], "routes": [route] }] },
            "http_filters": [{ "name": "envoy.filters.http.router", "typed_config": { "@type": router } }],
        },
    }] });
    if let Some(mut transport) = transport {
        transport["typed_config"]["require_client_certificate"] = json!(true);
        chain["transport_socket"] = transport;
    }
    let free = json!({ "socket_address": { "address": "127.0.0.1", "port_value": 0 } });
    json!({ "name": "it", "address": free, "filter_chains": [chain] })
}

#[test]
fn envoy_asks_a_strict_listener_whose_identity_it_checks() {
    let Some(envoy) = program("envoy") else { return };
    let (two, origin) = (two(), origin("one"));
    let gateway = inbound(&two.web, "strict", origin.address, "");
    let to = gateway.address("in");
    let endpoint = json!({ "socket_address": { "address": to.ip(), "port_value": to.port() } });
    let cluster = json!({
        "name": "web",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "web",
            "endpoints": [{ "lb_endpoints": [{ "endpoint": { "address": endpoint } }] }],
        },
        "transport_socket": tls("Upstream", &two.client, "web"),
    });
    let listener = listener(&json!({ "route": { "cluster": "web" } }), None);
    let envoy = Envoy::start(envoy, &two.client, &json!({ "listeners": [listener], "clusters": [cluster] }));
    let reply = get(envoy.listener, "web", "/dump");
    assert!(reply.status == 200 && reply.body.contains(&format!("URI={}", id("client"))), "{}", reply.body);
}

#[test]
fn envoy_is_asked_by_a_gateway_and_only_by_the_identity_that_it_lets_in() {
    let Some(envoy) = program("envoy") else { return };
    let two = two();
    let answer = json!({ "direct_response": { "status": 200, "body": { "inline_string": "envoy" } } });
    let listener = listener(&answer, Some(tls("Downstream", &two.web, "client")));
    let envoy = Envoy::start(envoy, &two.web, &json!({ "listeners": [listener] }));
    let gateway = outbound(&two.client, envoy.listener, "");
    let reply = get(gateway.address("out"), "web", "/");
    assert_eq!((reply.status, reply.body.as_str()), (200, "envoy"));
    let stranger = Place::new(two.directory.path(), "stranger");
    stranger.write(&two.root.issue("stranger", LONG), &[&two.root]);
    let gateway = outbound(&stranger, envoy.listener, "");
    assert!(get(gateway.address("out"), "web", "/").status >= 500);
}
