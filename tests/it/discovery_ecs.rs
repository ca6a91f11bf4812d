//! Endpoints from AWS ECS and Cloud Map, through the whole gateway, against the strict fake and against moto.
//!
//! What the services must be scripted for stands in `discovery/ecs/tests.rs` and `discovery/cloudmap/tests.rs`. moto is an
//! emulator that others wrote: it shows that the fake did not make the calls up.

use std::path::PathBuf;

use meshless_fakes::aws::{Aws, KEY, REGION, Task};
use meshless_fakes::http::Mode;

use crate::gateway::{self, Running};
use crate::plain::{get, load, origin, try_client};
use crate::real_programs::ScriptServer;

/// A gateway before the service `web` of the cluster `prod`.
fn before(url: &str, from: &str) -> Running {
    gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.ecs]\nendpoint = \"{url}\"\nmin_interval = \"1s\"\nmax_interval = \"1s\"\n\
         [discovery.cloudmap]\nendpoint = \"{url}\"\nmin_interval = \"1s\"\nmax_interval = \"1s\"\n\
         [services.web]\nfrom = \"{from}\"\nbalance = \"round-robin\"\n[[routes]]\nto = \"web\"\n"
    ))
    .variable("AWS_REGION", REGION)
    .variable("AWS_ACCESS_KEY_ID", KEY)
    .variable("AWS_SECRET_ACCESS_KEY", "secret")
    .start()
}

/// A task in `host` mode on this host would need two ports for two tasks: `bridge` has them.
fn put(aws: &Aws, tasks: impl IntoIterator<Item = (usize, u16, &'static str, &'static str)>) {
    aws.change(|world| {
        world.instances.insert("ci/1".to_owned(), "i-0a".to_owned());
        world.addresses.insert("i-0a".to_owned(), "127.0.0.1".to_owned());
        let task = |(number, port, last, desired)| {
            Task::new("web", number).on("ci/1", &[(80, port)]).status(last, desired).json()
        };
        world.tasks = tasks.into_iter().map(task).collect();
    });
}

fn answers(gateway: &Running, name: &str) -> bool {
    (0..6).all(|_| get(gateway.address("edge"), "a.example", "/").body == name)
}

#[test]
fn a_rolling_deploy_under_load_fails_no_request() {
    let (old, new) = (origin("old"), origin("new"));
    let aws = Aws::start();
    put(&aws, [(1, old.address.port(), "RUNNING", "RUNNING")]);
    let gateway = before(&aws.server.url(), "ecs/prod/web:80");
    gateway.wait_until("the old task answers", |gateway| answers(gateway, "old"));
    let address = gateway.address("edge");
    let load = load(2, "/", false, move || try_client(address));
    put(&aws, [(1, old.address.port(), "RUNNING", "STOPPED"), (2, new.address.port(), "RUNNING", "RUNNING")]);
    gateway.wait_until("the new task answers alone", |gateway| answers(gateway, "new"));
    put(&aws, [(1, old.address.port(), "STOPPED", "STOPPED"), (2, new.address.port(), "RUNNING", "RUNNING")]);
    drop(old);
    load.wait_for(100);
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    assert!(tally.good > 100, "{}", tally.good);
}

#[test]
fn an_outage_and_a_throttle_take_no_endpoint_away() {
    let one = origin("one");
    let aws = Aws::start();
    put(&aws, [(1, one.address.port(), "RUNNING", "RUNNING")]);
    let gateway = before(&aws.server.url(), "ecs/prod/web:80");
    gateway.wait_until("the task answers", |gateway| answers(gateway, "one"));
    for (kind, mode, budget) in
        [("unreachable", Mode::Down, None), ("malformed", Mode::Garbage, None), ("throttled", Mode::Serve, Some(0))]
    {
        aws.world().budget = budget;
        aws.server.set(mode);
        let labels = [format!("kind=\"{kind}\"")];
        let labels: Vec<&str> = labels.iter().map(String::as_str).collect();
        gateway.wait_until(kind, |gateway| gateway.count("meshless_discovery_errors_total", &labels) > 0);
        assert!(answers(&gateway, "one"), "{kind}");
        aws.world().budget = None;
        aws.server.set(Mode::Serve);
    }
}

/// The example, with the fake in place of AWS.
#[test]
fn the_example_of_cloud_map_runs() {
    let (web, api) = (origin("web"), origin("api"));
    let aws = Aws::start();
    aws.change(|world| {
        for (name, origin, port) in [("api", &api, true), ("web", &web, false)] {
            let mut attributes = vec![("AWS_INSTANCE_IPV4".to_owned(), "127.0.0.1".to_owned())];
            attributes.extend(port.then(|| ("AWS_INSTANCE_PORT".to_owned(), origin.address.port().to_string())));
            let service = world.discovered.entry(("prod.local".to_owned(), name.to_owned())).or_default();
            service.instances = vec![("t1".to_owned(), "HEALTHY".to_owned(), attributes.into_iter().collect())];
        }
    });
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("examples/cloudmap.toml");
    let url = aws.server.url();
    let example = std::fs::read_to_string(path)
        .unwrap()
        .replace("[[listeners]]\n", "[[listeners]]\nname = \"edge\"\n")
        .replace("[discovery.cloudmap]\n", &format!("[discovery.cloudmap]\nendpoint = \"{url}\"\n"))
        .replace("[discovery.ecs]\n", &format!("[discovery.ecs]\nendpoint = \"{url}\"\n"))
        .replace("/web:8080 |", &format!("/web:{} |", web.address.port()));
    let gateway = gateway::with(&example)
        .variable("PORT", "0")
        .variable("AWS_REGION", REGION)
        .variable("AWS_ACCESS_KEY_ID", KEY)
        .variable("AWS_SECRET_ACCESS_KEY", "secret")
        .start();
    assert_eq!(get(gateway.address("edge"), "a.example", "/").body, "web");
    assert_eq!(get(gateway.address("edge"), "a.example", "/api/x").body, "api");
}

#[test]
fn an_emulator_that_others_wrote_understands_the_calls() {
    let Some(moto) = ScriptServer::start("moto_server.py") else { return };
    let one = origin("one");
    let url = format!("http://127.0.0.1:{}", moto.port());
    let control = std::net::SocketAddr::from(([127, 0, 0, 1], moto.port()));
    let put = |path: String| {
        let reply = get(control, "moto", &path);
        assert_eq!(reply.status, 200, "{path}: {}", reply.body);
    };
    // The launcher's own: a service `web` in the cluster `prod`, of one task with this address, and an instance in Cloud Map.
    put(format!("/meshless/task?ip=127.0.0.1&port={}", one.address.port()));
    for from in [
        format!("ecs/prod/web:{}", one.address.port()),
        "ecs/prod/web:http".to_owned(),
        "ecs/prod/web".to_owned(),
        "cloudmap/prod.local/web".to_owned(),
    ] {
        let gateway = before(&url, &from);
        gateway.wait_until(&from, |gateway| answers(gateway, "one"));
    }
    let gateway = before(&url, "ecs/prod/web:http");
    gateway.wait_until("the task answers", |gateway| answers(gateway, "one"));
    put("/meshless/stop".to_owned());
    gateway.wait_until("a task that stops drains", |gateway| {
        gateway.admin("/endpoints").1.to_lowercase().contains("draining")
    });
}
