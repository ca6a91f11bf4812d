//! What a gateway tells of discovery: why an endpoint waits, how often backends are asked, and that one that fails or
//! hangs delays no other.

use std::net::UdpSocket;
use std::path::Path;
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::gateway::{self, Running};

/// Puts a file in place as careful writers do.
fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, path).unwrap();
}

fn json(gateway: &Running, path: &str) -> Vec<Value> {
    serde_json::from_str(&gateway.admin(path).1).unwrap()
}

fn endpoint(gateway: &Running, address: &str) -> Value {
    let all = json(gateway, "/endpoints");
    all.into_iter().find(|one| one["address"] == address).unwrap_or_else(|| panic!("no {address}"))
}

fn reload(gateway: &Running, text: &str) {
    let before = gateway.count("meshless_config_version", &[]);
    put(&gateway.file(), text);
    gateway.gateway().reload();
    gateway
        .wait_until("the configuration is applied", |gateway| gateway.count("meshless_config_version", &[]) > before);
}

const LISTENER: &str = "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[[routes]]\nto = \"web\"\n";

#[test]
fn an_endpoint_that_is_well_and_waits_says_what_for() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("endpoints.toml");
    let zones = "[[services.web]]\naddress = \"10.0.0.1:80\"\nzone = \"a\"\n\
                 [[services.web]]\naddress = \"10.0.0.2:80\"\nzone = \"b\"\n\
                 [[services.web]]\naddress = \"10.0.0.3:80\"\nzone = \"a\"\nhealth = \"draining\"\n\
                 [[services.web]]\naddress = \"10.0.0.4:80\"\nzone = \"a\"\nweight = 0\n";
    put(&file, zones);
    let text = format!(
        "{LISTENER}[node]\nzone = \"a\"\nworkers = 1\n[discovery.file]\npath = \"{}\"\n[services.web]\nzones = \"prefer\"\n\
         from = \"file/web | 1 * static/10.0.1.1:80 & 0 * static/10.0.1.2:80\"\n",
        file.display()
    );
    let gateway = gateway::with(&text).start();
    let told = |address: &str| {
        let one = endpoint(&gateway, address);
        (one["usable"].as_bool().unwrap(), one["unused_because"].as_str().unwrap_or_default().to_owned())
    };
    assert_eq!(told("10.0.0.1:80"), (true, String::new()));
    assert_eq!(told("10.0.0.2:80"), (true, "it is in another zone: this one carries everything".to_owned()));
    assert_eq!(told("10.0.0.3:80"), (false, "draining".to_owned()));
    assert_eq!(told("10.0.0.4:80"), (false, "weight 0".to_owned()));
    let waits = "tier 2 is not in use: what is before it carries everything".to_owned();
    assert_eq!(told("10.0.1.1:80"), (true, waits));
    let one = endpoint(&gateway, "10.0.0.1:80");
    for (field, value) in [
        ("backend", Value::from("file")),
        ("target", "file/web".into()),
        ("source", "live".into()),
        ("priority", 0.into()),
        ("zone", "a".into()),
        ("age_seconds", 0.0.into()),
        ("id", Value::Null),
    ] {
        assert_eq!(one[field], value, "{field}");
    }
    // The first tier goes: the second one is used, save what was given no weight.
    put(&file, &zones.replace("zone =", "health = \"unhealthy\"\nzone =").replace("health = \"draining\"\n", ""));
    gateway.wait_until("the second tier is in use", |gateway| {
        endpoint(gateway, "10.0.1.1:80")["unused_because"].is_null()
    });
    assert_eq!(told("10.0.1.2:80"), (true, "its part of the split has weight 0".to_owned()));
}

#[test]
fn questions_to_a_backend_are_counted_and_go_on_counting_when_it_is_opened_anew() {
    let directory = tempfile::tempdir().unwrap();
    let (one, two) = (directory.path().join("one.toml"), directory.path().join("two.toml"));
    for file in [&one, &two] {
        put(file, "[[services.web]]\naddress = \"10.0.0.1:80\"\n");
    }
    let text = |file: &Path| {
        format!("{LISTENER}[discovery.file]\npath = \"{}\"\n[services.web]\nfrom = \"file/web\"\n", file.display())
    };
    let gateway = gateway::with(&text(&one)).start();
    let asked =
        |gateway: &Running| gateway.count("meshless_discovery_calls_total", &["backend=\"file\"", "call=\"read\""]);
    gateway.wait_until("it was read", |gateway| asked(gateway) > 0);
    put(&one, "[[services.web]]\naddress = \"10.0.0.2:80\"\n");
    gateway.wait_until("it was read again", |gateway| asked(gateway) > 1);
    // Unchanged, a configuration leaves its backend as it is; changed, another one takes its place and begins at 0.
    reload(&gateway, &format!("{}\n", text(&one)));
    let before = asked(&gateway);
    assert!(before > 1);
    reload(&gateway, &text(&two));
    gateway.wait_until("the other one was read", |gateway| asked(gateway) > before);
    assert!(asked(&gateway) >= before, "a counter never goes back");
}

#[test]
fn one_backend_that_fails_and_one_that_hangs_delay_no_other() {
    const OTHERS: usize = 50;
    // Longer than a change needs on a busy machine, shorter than one lookup that hangs (15 s).
    const SOON: Duration = Duration::from_secs(8);
    let directory = tempfile::tempdir().unwrap();
    let (well, torn) = (directory.path().join("well.toml"), directory.path().join("torn.toml"));
    let listed = |round: usize| -> String {
        (0..OTHERS).map(|at| format!("[[services.s{at}]]\naddress = \"10.0.{round}.{}:80\"\n", at + 1)).collect()
    };
    put(&well, &listed(0));
    put(&torn, "[[services.web]]\naddress = \"10.1.0.1:80\"\n");
    let services: String = (0..OTHERS).map(|at| format!("[services.s{at}]\nfrom = \"file/s{at}\"\n")).collect();
    let text = format!(
        "{LISTENER}[discovery.file]\npath = \"{}\"\n[discovery.torn]\ntype = \"file\"\npath = \"{}\"\n\
         [services.web]\nfrom = \"torn/web\"\n{services}",
        well.display(),
        torn.display()
    );
    let gateway = gateway::with(&text).start();
    // Nobody ever answers.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let address = silent.local_addr().unwrap();
    reload(
        &gateway,
        &format!(
            "{text}[discovery.slow]\ntype = \"dns\"\nresolvers = [\"{address}\"]\n[services.slow]\nfrom = \"slow/web.x:80\"\n"
        ),
    );
    put(&torn, "torn");
    let fails = "meshless_discovery_consecutive_errors";
    gateway.wait_until("the torn file fails again and again", |gateway| {
        gateway.metric(fails, &["target=\"torn/web\""]) > 2.0
    });
    for round in 1..=3 {
        put(&well, &listed(round));
        let began = Instant::now();
        let expected = format!("10.0.{round}.");
        gateway.wait_until(&format!("all see change {round}"), |gateway| {
            let targets = json(gateway, "/targets");
            let is_there = |target: &&Value| {
                target["target"].as_str().unwrap().starts_with("file/s")
                    && target["endpoints"][0]["address"].as_str().is_some_and(|address| address.starts_with(&expected))
            };
            targets.iter().filter(is_there).count() == OTHERS
        });
        assert!(began.elapsed() < SOON, "change {round} took {:?}", began.elapsed());
    }
    // What failed keeps what it knew, and what hangs has nothing yet; both are told.
    let target = |name: &str| json(&gateway, "/targets").into_iter().find(|one| one["target"] == name).unwrap();
    let failing = target("torn/web");
    assert_eq!(
        (&failing["endpoints"][0]["address"], &failing["failure"]["kind"]),
        (&"10.1.0.1:80".into(), &"malformed".into())
    );
    assert!(failing["age_seconds"].as_f64().unwrap() > 0.0 && failing["failure"]["count"].as_u64().unwrap() > 2);
    assert_eq!(target("slow/web.x:80")["origin"], "");
    put(&torn, "[[services.web]]\naddress = \"10.1.0.2:80\"\n");
    gateway.wait_for_metric(fails, &["target=\"torn/web\""], 0.0);
    gateway.wait_until("it answers again", |_| target("torn/web")["endpoints"][0]["address"] == "10.1.0.2:80");
}
