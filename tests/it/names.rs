//! Logical names through the whole gateway: hosts that no route names, looked up when somebody asks for them.

use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gateway::{self, Running};
use crate::plain::{Origin, client, get, origin};

/// A listener without routes, and a `file` backend for names.
const NAMES: &str = "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
                     [discovery.file]\npath = \"DIR/endpoints.toml\"\n\
                     [[names]]\nmatch = \"{service}.{env}.mesh\"\ntarget = \"file/{service}-{env} | file/{service}\"\n";

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { directory: tempfile::tempdir().unwrap() }
    }

    fn text(&self, text: &str) -> String {
        text.replace("DIR", self.directory.path().to_str().unwrap())
    }

    fn endpoints(&self, services: &[(&str, &Origin)]) {
        let entry =
            |(name, origin): &(&str, &Origin)| format!("[[services.{name}]]\naddress = \"{}\"\n", origin.address);
        put(&self.directory.path().join("endpoints.toml"), &services.iter().map(entry).collect::<String>());
    }
}

fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, path).unwrap();
}

fn ask(gateway: &Running, host: &str) -> (u16, String) {
    let reply = get(gateway.address("edge"), host, "/");
    let label = reply.header("meshless-error").map(str::to_owned);
    (reply.status, label.unwrap_or(reply.body))
}

fn ok(body: &str) -> (u16, String) {
    (200, body.to_owned())
}

#[test]
fn a_host_is_looked_up_when_somebody_asks_for_it_and_follows_what_discovery_says() {
    let place = Place::new();
    let (prod, any, other) = (origin("prod"), origin("any"), origin("other"));
    place.endpoints(&[("web-prod", &prod), ("web", &any), ("users", &other)]);
    let gateway = gateway::with(&place.text(NAMES)).workers(2).start();
    assert_eq!(gateway.count("meshless_live_names", &[]), 0);
    assert_eq!(ask(&gateway, "Web.prod.mesh:80"), ok("prod"));
    assert_eq!(ask(&gateway, "web.staging.mesh"), ok("any"), "the second tier serves where the first has nobody");
    assert_eq!(ask(&gateway, "users.prod.mesh"), ok("other"));
    assert_eq!(ask(&gateway, "web.mesh"), (404, "no_route".to_owned()));
    assert_eq!(gateway.count("meshless_live_names", &[]), 3);
    place.endpoints(&[("web-prod", &other), ("web", &any), ("users", &other)]);
    gateway.wait_until("the name follows", |gateway| ask(gateway, "web.prod.mesh") == ok("other"));
    // Counted under the pattern, and never under the host.
    assert_eq!(
        gateway.count("request_total", &["service=\"{service}.{env}.mesh\""]),
        gateway.count("request_total", &["service="])
    );
    let (_, metrics) = gateway.admin("/metrics");
    assert!(!metrics.contains("prod.mesh"), "{metrics}");
    let endpoints = gateway.admin("/endpoints").1;
    assert!(endpoints.contains("\"file/web-prod\""), "{endpoints}");
    let services: Value = serde_json::from_str(&gateway.admin("/services").1).unwrap();
    let services = services["services"].as_array().or(services.as_array()).unwrap();
    assert_eq!(services.len(), 1, "one entry for each rule: {services:?}");
    assert_eq!(services[0]["from"], "file/{service}-{env} | file/{service}");
}

#[test]
fn many_requests_for_a_name_that_nobody_has_asked_for_are_all_answered() {
    let place = Place::new();
    let web = origin("web");
    place.endpoints(&[("web", &web)]);
    let gateway = gateway::with(&place.text(NAMES)).workers(2).start();
    let address = gateway.address("edge");
    let threads: Vec<_> = (0..16)
        .map(|number| std::thread::spawn(move || get(address, &format!("web.e{}.mesh", number % 4), "/").body))
        .collect();
    for thread in threads {
        assert_eq!(thread.join().unwrap(), "web");
    }
    assert_eq!(gateway.count("meshless_live_names", &[]), 4);
}

#[test]
fn routes_come_before_names_and_a_listener_with_to_has_none() {
    let place = Place::new();
    let (route, name) = (origin("route"), origin("name"));
    place.endpoints(&[("web", &name)]);
    let text = place.text(NAMES)
        + &format!("[[routes]]\nmatch = {{ host = \"web.a.mesh\" }}\nto = \"static/{}\"\n", route.address)
        + &format!("[[listeners]]\nname = \"to\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n", route.address);
    let gateway = gateway::with(&text).start();
    assert_eq!((ask(&gateway, "web.a.mesh"), ask(&gateway, "web.b.mesh")), (ok("route"), ok("name")));
    assert_eq!(get(gateway.address("to"), "web.b.mesh", "/").body, "route");
}

#[test]
fn a_name_without_endpoints_is_503_and_one_whose_service_there_is_not_is_404_and_says_so() {
    let place = Place::new();
    let web = origin("web");
    place.endpoints(&[("web", &web)]);
    let text = place.text(NAMES)
        + &format!(
            "[[names]]\nmatch = \"{{service}}.svc\"\ntarget = \"{{service}}\"\n[services.web]\nfrom = \"static/{}\"\n",
            web.address
        );
    let gateway = gateway::with(&text).start();
    assert_eq!(ask(&gateway, "nobody.prod.mesh"), (503, "no_endpoint".to_owned()));
    assert_eq!(ask(&gateway, "web.svc"), ok("web"));
    let refused = get(gateway.address("edge"), "wep.svc", "/");
    assert_eq!((refused.status, refused.header("meshless-error")), (404, Some("name_unusable")));
    assert!(refused.body.contains("there is no service `wep`"), "{}", refused.body);
    // Answered from memory from now on, until it is forgotten.
    for _ in 0..20 {
        assert_eq!(ask(&gateway, "wep.svc").0, 404);
    }
    assert_eq!(gateway.count("meshless_live_names_refused_total", &["reason=\"unusable\""]), 1);
    assert_eq!(gateway.metric("request_total", &["service=\"web\""]) as u64, 1, "a service has its own name");
}

#[test]
fn a_backend_that_does_not_answer_costs_a_second_at_most_and_is_told_and_when_it_comes_back_the_name_works() {
    let place = Place::new();
    let gateway = gateway::with(&place.text(NAMES)).start();
    let began = Instant::now();
    let refused = get(gateway.address("edge"), "web.prod.mesh", "/");
    assert_eq!((refused.status, refused.header("meshless-error")), (503, Some("name_unanswered")));
    assert!(refused.body.contains("file/web-prod"), "{}", refused.body);
    assert!(began.elapsed() < Duration::from_secs(10));
    let web = origin("web");
    place.endpoints(&[("web", &web)]);
    gateway.wait_until("the backend has come back", |gateway| ask(gateway, "web.prod.mesh") == ok("web"));
    // The other way round the last known good goes on.
    std::fs::write(place.directory.path().join("endpoints.toml"), "[[broken").unwrap();
    gateway.wait_until("the backend fails", |gateway| {
        gateway.count("meshless_discovery_errors_total", &["target=\"file/web\""]) > 0
    });
    assert_eq!(ask(&gateway, "web.prod.mesh"), ok("web"));
    assert_eq!(gateway.admin("/ready"), (200, gateway.admin("/ready").1), "names do not hold readiness up");
}

#[test]
fn a_reload_keeps_the_names_in_use_and_their_connections() {
    let place = Place::new();
    let web = origin("web");
    place.endpoints(&[("web", &web)]);
    let gateway = gateway::with(&place.text(NAMES)).start();
    let mut kept = client(gateway.address("edge"));
    assert_eq!(kept.get("web.prod.mesh", "/").unwrap().body, "web");
    let reload = |text: &str| {
        let before = gateway.metric("meshless_config_reload_total", &[]);
        std::fs::write(gateway.file(), place.text(text)).unwrap();
        gateway.gateway().reload();
        gateway.wait_until("the configuration was read", |gateway| {
            gateway.metric("meshless_config_reload_total", &[]) > before
        });
    };
    reload(&format!("{NAMES}[defaults]\ntimeout = \"9s\"\n"));
    assert_eq!(kept.get("web.prod.mesh", "/").unwrap().body, "web");
    assert_eq!(web.accepted(), 1, "the connection to the endpoint was kept");
    assert_eq!(gateway.count("meshless_live_names", &[]), 1);
    reload(&NAMES.replace(".mesh", ".other"));
    assert_eq!(kept.get("web.prod.mesh", "/").unwrap().status, 404);
    assert_eq!(kept.get("web.prod.other", "/").unwrap().body, "web");
}
