//! `meshless targets`, as a process: of targets, of a configuration, of a gateway that runs, and while things change.

use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;

use crate::plain::{dead_address, wait_until};
use crate::process;

fn meshless(arguments: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_meshless")).arg("targets").args(arguments).env_clear().output().unwrap()
}

fn text(output: &Output) -> (Option<i32>, String) {
    (output.status.code(), String::from_utf8([output.stdout.clone(), output.stderr.clone()].concat()).unwrap())
}

fn json(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {:?}", text(output)))
}

/// A configuration of a file backend whose files are in `endpoints`, beside it.
fn configure(directory: &Path) -> String {
    let endpoints = directory.join("endpoints");
    std::fs::create_dir_all(&endpoints).unwrap();
    let text = format!(
        "[[listeners]]\nlisten = \"127.0.0.1:0\"\n[discovery.file]\npath = \"{}\"\n\
         [services.web]\nfrom = \"file/web | static/127.0.0.1:9\"\n[[routes]]\nto = \"web\"\n\
         [[names]]\nmatch = \"{{app}}.mesh\"\ntarget = \"file/{{app}}\"\n",
        endpoints.display()
    );
    let file = directory.join("meshless.toml");
    std::fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}

fn put(directory: &Path, text: &str) {
    let next = directory.join("endpoints/.next");
    std::fs::write(&next, text).unwrap();
    std::fs::rename(&next, directory.join("endpoints/web.toml")).unwrap();
}

const ONE: &str = "[[services.web]]\naddress = \"10.0.0.1:80\"\nzone = \"a\"\n";
const TWO: &str =
    "[[services.web]]\naddress = \"10.0.0.1:80\"\nweight = 3\n[[services.web]]\naddress = \"10.0.0.2:80\"\n";

#[test]
fn a_target_needs_no_configuration() {
    let (code, told) = text(&meshless(&["static/10.0.0.1:80*3,10.0.0.2:80 | static/10.0.0.3:80"]));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("static/10.0.0.1:80*3,10.0.0.2:80  2 endpoints, "), "{told}");
    assert!(told.contains("\n  10.0.0.1:80  3       healthy\n"), "{told}");
    assert!(told.contains("\nstatic/10.0.0.3:80  1 endpoint, "), "{told}");
}

#[test]
fn what_cannot_be_asked_is_said_with_what_to_do_and_ends_with_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = configure(directory.path());
    for (arguments, says) in [
        (&[][..], "--admin ADDRESS"),
        (&["web"], "`web` is a service"),
        (&["file/web"], "-c FILE"),
        (&["nowhere/web"], "there is no backend `nowhere`"),
        (&["consul/"], "consul/"),
        (&["static/web:80"], "`dns/web:80`"),
        (&["-c", &file, "wbe"], "the configuration has web"),
        (&["-c", &file, "consul/web"], "[discovery.consul]"),
        (&["-c", "nowhere.toml"], "nowhere.toml"),
        (&["--admin", "nowhere"], "IP:PORT"),
        (&["static/10.0.0.1:80", "--timeout", "0s"], "more than 0s"),
    ] {
        let (code, told) = text(&meshless(arguments));
        assert_eq!(code, Some(64), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
    }
}

#[test]
fn every_target_of_a_configuration_is_asked_and_services_are_opened() {
    let directory = tempfile::tempdir().unwrap();
    let file = configure(directory.path());
    put(directory.path(), ONE);
    let all = json(&meshless(&["-c", &file, "--json"]));
    assert_eq!(all["schema"], 1);
    let targets = all["targets"].as_array().unwrap();
    assert_eq!((&targets[0]["target"], &targets[1]["target"]), (&"file/web".into(), &"static/127.0.0.1:9".into()));
    assert_eq!((&targets[0]["services"][0], &targets[0]["origin"]), (&"web".into(), &"live".into()));
    assert_eq!(targets[0]["endpoints"][0]["zone"], "a");
    let notes = all["notes"].to_string();
    assert!(notes.contains("file/{app}") && notes.contains("meshless targets -c FILE file/app"), "{notes}");
    // A name that a capture may stand for, and one of which there is none.
    let named = json(&meshless(&["-c", &file, "--json", "web & file/other"]));
    let found: Vec<&str> =
        named["targets"].as_array().unwrap().iter().map(|one| one["target"].as_str().unwrap()).collect();
    assert_eq!(found, ["file/other", "file/web", "static/127.0.0.1:9"]);
    assert_eq!(named["targets"][0]["endpoints"].as_array().unwrap().len(), 0);
}

#[test]
fn an_unreachable_backend_ends_with_69_a_refusal_with_77_and_the_others_are_printed() {
    let directory = tempfile::tempdir().unwrap();
    let file = configure(directory.path());
    std::fs::remove_dir(directory.path().join("endpoints")).unwrap();
    let (code, told) = text(&meshless(&["-c", &file]));
    assert_eq!(code, Some(69), "{told}");
    assert!(told.contains("file/web  no answer, for web\n  unreachable: ") && told.contains("  do: "), "{told}");
    assert!(told.contains("static/127.0.0.1:9  1 endpoint"), "{told}");

    std::fs::create_dir(directory.path().join("endpoints")).unwrap();
    std::fs::write(directory.path().join("outside.toml"), ONE).unwrap();
    symlink(directory.path().join("outside.toml"), directory.path().join("endpoints/web.toml")).unwrap();
    let (code, told) = text(&meshless(&["-c", &file]));
    assert_eq!(code, Some(77), "{told}");
    assert!(told.contains("denied: ") && told.contains("leads out of its directory"), "{told}");
}

#[test]
fn a_backend_that_says_nothing_costs_the_timeout_once_for_all_its_targets() {
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("meshless.toml");
    let port = silent.local_addr().unwrap().port();
    let from: Vec<String> = (0..20).map(|number| format!("dns/host-{number}.x:80")).collect();
    let text_of = format!(
        "[[listeners]]\nlisten = \"127.0.0.1:0\"\n[discovery.dns]\nresolvers = [\"127.0.0.1:{port}\"]\n\
         [services.web]\nfrom = \"{}\"\n[[routes]]\nto = \"web\"\n",
        from.join(" | ")
    );
    std::fs::write(&file, text_of).unwrap();
    let began = std::time::Instant::now();
    let (code, told) = text(&meshless(&["-c", file.to_str().unwrap(), "--timeout", "500ms"]));
    assert_eq!(code, Some(69), "{told}");
    assert_eq!(told.matches("no answer within 0.5 s").count(), 20, "{told}");
    assert!(began.elapsed() < std::time::Duration::from_secs(8), "one after another: {:?}", began.elapsed());
}

#[test]
fn a_running_gateway_is_asked_what_it_holds() {
    let builder = process::with(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[discovery.file]\npath = \"DIR/endpoints\"\n\
         [services.web]\nfrom = \"file/web\"\n[[routes]]\nmatch = { path = \"/x\" }\nto = \"static/127.0.0.1:9\"\n\
         [[routes]]\nto = \"web\"\n",
    );
    std::fs::create_dir(builder.directory().join("endpoints")).unwrap();
    put(builder.directory(), ONE);
    let gateway = builder.start();
    let admin = format!("unix:{}", gateway.admin_socket().display());
    let all = json(&meshless(&["--admin", &admin, "--json"]));
    let targets = all["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 2, "{all}");
    assert_eq!((&targets[0]["target"], &targets[0]["origin"]), (&"file/web".into(), &"live".into()));
    assert_eq!((&targets[0]["services"][0], &targets[0]["age_seconds"]), (&"web".into(), &0.0.into()));
    let (code, told) = text(&meshless(&["--admin", &admin, "web"]));
    assert_eq!(code, Some(0), "{told}");
    assert!(told.starts_with("file/web  1 endpoint, for web\n") && !told.contains("static/"), "{told}");
    for (asked, says) in [("file/other", "does not follow `file/other`"), ("shop", "no service `shop`")] {
        let (code, told) = text(&meshless(&["--admin", &admin, asked]));
        assert!(code == Some(64) && told.contains(says), "{told}");
    }
    // What cannot be confirmed is shown all the same, with its age.
    std::fs::remove_dir_all(gateway.directory().join("endpoints")).unwrap();
    wait_until("the failure is told", || text(&meshless(&["--admin", &admin])).0 == Some(69));
    let (_, told) = text(&meshless(&["--admin", &admin]));
    assert!(told.contains("  unreachable: ") && told.contains("10.0.0.1:80"), "{told}");
    let dead = dead_address().to_string();
    let (code, told) = text(&meshless(&["--admin", &dead]));
    assert!(code == Some(69) && told.contains("is it running?"), "{told}");
}

#[test]
fn changes_are_printed_as_they_come_until_somebody_interrupts() {
    let directory = tempfile::tempdir().unwrap();
    let file = configure(directory.path());
    put(directory.path(), ONE);
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.args(["targets", "-c", &file, "--watch", "--json", "file/web"]).env_clear();
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap();
    let first = next();
    assert_eq!((&first["change"], &first["endpoint"]["address"]), (&"added".into(), &"10.0.0.1:80".into()));
    assert!(first["at"].as_str().unwrap().ends_with('Z') && first["target"] == "file/web", "{first}");
    put(directory.path(), TWO);
    let changed = next();
    assert_eq!(
        (&changed["change"], &changed["before"]["weight"], &changed["endpoint"]["weight"]),
        (&"changed".into(), &1.into(), &3.into())
    );
    assert_eq!(next()["endpoint"]["address"], "10.0.0.2:80");
    put(directory.path(), "torn");
    let fails = next();
    assert_eq!((&fails["change"], &fails["failure"]["kind"]), (&"fails".into(), &"malformed".into()));
    put(directory.path(), ONE);
    assert_eq!(next()["change"], "answers");
    kill_process(Pid::from_child(&child), Signal::INT).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
