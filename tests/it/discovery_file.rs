//! Endpoints from files, through the whole gateway: what changes, what breaks, what a restart finds.

use std::collections::BTreeSet;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::Value;

use crate::gateway::{self, Running};
use crate::plain::{Origin, get, origin, wait_until};
use crate::process::{self, Process};

fn text(path: &Path) -> String {
    format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.file]\npath = \"{}\"\n\
         [services.web]\nfrom = \"file/web\"\nbalance = \"random\"\n[[routes]]\nto = \"web\"\n",
        path.display()
    )
}

/// The text of an endpoints' file; each endpoint with what more is to be said of it.
fn listed(endpoints: &[(&Origin, &str)]) -> String {
    let entry =
        |(origin, extra): &(&Origin, &str)| format!("[[services.web]]\naddress = \"{}\"\n{extra}\n", origin.address);
    endpoints.iter().map(entry).collect::<Vec<_>>().concat()
}

/// Puts a file in place as careful writers do.
fn put(path: &Path, text: &str) {
    let next = path.with_extension("next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, path).unwrap();
}

/// Asks often enough to see every origin that is used.
fn answering(gateway: &Running) -> BTreeSet<String> {
    (0..40)
        .map(|_| {
            let reply = get(gateway.address("edge"), "a.example", "/");
            if reply.status == 200 { reply.body } else { reply.header("meshless-error").unwrap_or("?").to_owned() }
        })
        .collect()
}

fn wait_for(gateway: &Running, names: &[&str]) {
    let expected: BTreeSet<String> = names.iter().map(ToString::to_string).collect();
    let mut last = BTreeSet::new();
    gateway.wait_until(&format!("{names:?} answer"), |gateway| {
        last = answering(gateway);
        last == expected
    });
}

fn entries(text: &str) -> Vec<Value> {
    let all: Value = serde_json::from_str(text).unwrap();
    all["endpoints"].as_array().or(all.as_array()).unwrap().clone()
}

fn standing_of(gateway: &Running, origin: &Origin) -> Option<String> {
    let all = entries(&gateway.admin("/endpoints").1);
    let found = all.into_iter().find(|each| each["address"] == origin.address.to_string())?;
    found["standing"].as_str().map(str::to_lowercase)
}

struct Place {
    directory: tempfile::TempDir,
}

fn place() -> Place {
    Place { directory: tempfile::tempdir().unwrap() }
}

impl Place {
    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }
}

#[test]
fn endpoints_come_and_go_with_the_file() {
    let (one, two) = (origin("one"), origin("two"));
    let place = place();
    let file = place.path("endpoints.toml");
    put(&file, &listed(&[(&one, "")]));
    let gateway = gateway::with(&text(&file)).workers(2).start();
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    put(&file, &listed(&[(&one, ""), (&two, "")]));
    wait_for(&gateway, &["one", "two"]);
    put(&file, &listed(&[(&two, "")]));
    wait_for(&gateway, &["two"]);
    put(&file, &listed(&[(&one, "weight = 0"), (&two, "")]));
    gateway.wait_until("the drained endpoint is listed", |gateway| standing_of(gateway, &one).is_some());
    assert_eq!(answering(&gateway), BTreeSet::from(["two".to_owned()]));
}

#[test]
fn a_link_that_is_swapped_is_followed() {
    let (one, two) = (origin("one"), origin("two"));
    let place = place();
    for (version, origin) in [("v1", &one), ("v2", &two)] {
        std::fs::create_dir(place.path(version)).unwrap();
        std::fs::write(place.path(version).join("endpoints.toml"), listed(&[(origin, "")])).unwrap();
    }
    let current = place.path("current");
    symlink("v1", &current).unwrap();
    let by_directory = gateway::with(&text(&current)).start();
    let by_file = gateway::with(&text(&current.join("endpoints.toml"))).start();
    wait_for(&by_directory, &["one"]);
    wait_for(&by_file, &["one"]);
    symlink("v2", place.path("next")).unwrap();
    std::fs::rename(place.path("next"), &current).unwrap();
    wait_for(&by_directory, &["two"]);
    wait_for(&by_file, &["two"]);
}

#[test]
fn a_file_that_is_half_written_or_empty_changes_nothing_and_is_told() {
    let (one, two) = (origin("one"), origin("two"));
    let place = place();
    let file = place.path("endpoints.toml");
    put(&file, &listed(&[(&one, "")]));
    let gateway = gateway::with(&text(&file)).start();
    wait_for(&gateway, &["one"]);
    let age = |gateway: &Running| gateway.metric("meshless_discovery_snapshot_age_seconds", &["target=\"file/web\""]);
    assert!(age(&gateway).abs() < 1e-9);
    let mut failures = 0.0;
    for wrong in ["[[services.web]]\naddress = \"127.0.", "", "\n", "[[services.web]]\naddress = \"nowhere\"\n"] {
        std::fs::write(&file, wrong).unwrap();
        gateway.wait_until("the failure is counted", |gateway| {
            gateway.metric("meshless_discovery_errors_total", &["kind=\"malformed\""]) > failures
        });
        failures = gateway.metric("meshless_discovery_errors_total", &["kind=\"malformed\""]);
        assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]), "{wrong:?}");
    }
    gateway.wait_until("the age rises", |gateway| age(gateway) > 0.1);
    put(&file, &listed(&[(&two, "")]));
    wait_for(&gateway, &["two"]);
    gateway.wait_until("the age is 0 again", |gateway| age(gateway).abs() < 1e-9);
}

#[test]
fn a_directory_that_is_deleted_keeps_serving_and_one_made_anew_is_read() {
    let (one, two) = (origin("one"), origin("two"));
    let place = place();
    let directory = place.path("endpoints.d");
    let write = |origin: &Origin| {
        std::fs::create_dir_all(&directory).unwrap();
        put(&directory.join("web.toml"), &listed(&[(origin, "")]));
    };
    write(&one);
    let gateway = gateway::with(&text(&directory)).start();
    wait_for(&gateway, &["one"]);
    std::fs::remove_dir_all(&directory).unwrap();
    gateway.wait_until("the age rises", |gateway| {
        gateway.metric("meshless_discovery_snapshot_age_seconds", &["target=\"file/web\""]) > 0.1
    });
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    assert_eq!(gateway.admin("/ready").0, 200);
    write(&two);
    wait_for(&gateway, &["two"]);
}

#[test]
fn an_answer_without_endpoints_is_not_believed_at_once() {
    let one = origin("one");
    let place = place();
    let file = place.path("endpoints.toml");
    put(&file, &listed(&[(&one, "")]));
    let gateway = gateway::with(&text(&file)).start();
    wait_for(&gateway, &["one"]);
    put(&file, "services = {}\n");
    gateway.wait_until("the endpoint is held", |gateway| standing_of(gateway, &one).as_deref() == Some("held"));
    assert_eq!(answering(&gateway), BTreeSet::from(["one".to_owned()]));
    // One that cannot be connected to was really gone.
    one.die();
    gateway.wait_until("the held endpoint is dropped", |gateway| {
        get(gateway.address("edge"), "a.example", "/").header("meshless-error") == Some("no_endpoint")
    });
}

#[test]
fn endpoints_that_an_answer_removed_all_at_once_serve_only_when_no_other_can() {
    let (one, two, three, four) = (origin("one"), origin("two"), origin("three"), origin("four"));
    let place = place();
    let file = place.path("endpoints.toml");
    put(&file, &listed(&[(&one, ""), (&two, ""), (&three, ""), (&four, "")]));
    let gateway = gateway::with(&text(&file)).start();
    wait_for(&gateway, &["one", "two", "three", "four"]);
    put(&file, &listed(&[(&four, "")]));
    gateway.wait_until("three are held", |gateway| standing_of(gateway, &one).as_deref() == Some("held"));
    wait_for(&gateway, &["four"]);
    four.die();
    wait_for(&gateway, &["one", "two", "three"]);
}

#[test]
fn draining_endpoints_get_nothing_new_and_unhealthy_ones_only_what_no_other_takes() {
    let (one, two, three) = (origin("one"), origin("two"), origin("three"));
    let place = place();
    let file = place.path("endpoints.toml");
    put(&file, &listed(&[(&one, ""), (&two, "health = \"unhealthy\""), (&three, "health = \"draining\"")]));
    let gateway = gateway::with(&text(&file)).start();
    wait_for(&gateway, &["one"]);
    // What is under way on an endpoint that begins to drain ends there.
    let address = gateway.address("edge");
    let held = std::thread::spawn(move || get(address, "a.example", "/hold"));
    one.wait_for_held(1);
    put(
        &file,
        &listed(&[
            (&one, "health = \"draining\""),
            (&two, "health = \"unhealthy\""),
            (&three, "health = \"draining\""),
        ]),
    );
    wait_for(&gateway, &["two"]);
    one.release();
    assert_eq!(held.join().unwrap().body, "one");
    put(&file, &listed(&[(&one, "health = \"draining\""), (&three, "health = \"draining\"")]));
    wait_for(&gateway, &["no_endpoint"]);
}

fn state_file(directory: &Path) -> Option<PathBuf> {
    let entries = std::fs::read_dir(directory.join("state/snapshots")).ok()?;
    // What is being written has another ending.
    entries.flatten().map(|entry| entry.path()).find(|path| path.extension().is_some_and(|ending| ending == "json"))
}

/// Runs a process until its snapshot is on disk, kills it, and takes the endpoints' directory away.
fn remembered(one: &Origin) -> tempfile::TempDir {
    let builder = process::with(&text(Path::new("DIR/endpoints.d")));
    let endpoints = builder.directory().join("endpoints.d");
    std::fs::create_dir(&endpoints).unwrap();
    put(&endpoints.join("web.toml"), &listed(&[(one, "")]));
    let process = builder.start();
    assert_eq!(process::get(&process, "edge", "/").body, "one");
    wait_until("the snapshot is on disk", || state_file(process.directory()).is_some());
    let directory = process.kill();
    std::fs::remove_dir_all(endpoints).unwrap();
    directory
}

fn restart(directory: tempfile::TempDir) -> process::Builder {
    process::with(&text(Path::new("DIR/endpoints.d"))).within(directory)
}

fn age(process: &Process) -> f64 {
    process.metric("meshless_discovery_snapshot_age_seconds", &["target=\"file/web\""])
}

#[test]
fn a_restart_while_the_source_is_away_serves_what_the_disk_knows() {
    let one = origin("one");
    let process = restart(remembered(&one)).start();
    assert_eq!(process::get(&process, "edge", "/").body, "one");
    let found = &entries(&process.admin("/endpoints").body)[0];
    assert_eq!(found["source"], "disk", "{found}");
    assert!(found["age_seconds"].as_f64().unwrap() > 0.0, "{found}");
    process.wait_for_log("Starting with the last known good snapshot.");
    wait_until("the age is told", || age(&process) > 0.0);
    let before = age(&process);
    wait_until("the age rises", || age(&process) > before + 0.5);
    // The source comes back.
    let endpoints = process.directory().join("endpoints.d");
    std::fs::create_dir(&endpoints).unwrap();
    put(&endpoints.join("web.toml"), &listed(&[(&one, "")]));
    wait_until("the age is 0", || age(&process).abs() < 1e-9);
    let found = &entries(&process.admin("/endpoints").body)[0];
    assert_eq!(found["source"], "live", "{found}");
}

#[test]
fn a_torn_state_file_is_ignored_with_a_warning() {
    let one = origin("one");
    let directory = remembered(&one);
    let file = state_file(directory.path()).unwrap();
    let whole = std::fs::read(&file).unwrap();
    std::fs::write(&file, &whole[..whole.len() / 2]).unwrap();
    let process = restart(directory).spawn();
    process.wait_for_log("A last known good snapshot is ignored.");
    wait_until("it waits for the target", || {
        process.try_admin("GET", "/ready").is_some_and(|ready| ready.status == 503 && ready.body.contains("file/web"))
    });
    let reply = process::get(&process, "edge", "/");
    assert_eq!((reply.status, reply.header("meshless-error")), (503, Some("no_endpoint")));
    let endpoints = process.directory().join("endpoints.d");
    std::fs::create_dir(&endpoints).unwrap();
    put(&endpoints.join("web.toml"), &listed(&[(&one, "")]));
    wait_until("it is ready", || process.admin("/ready").status == 200);
    assert_eq!(process::get(&process, "edge", "/").body, "one");
}
