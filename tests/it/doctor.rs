//! `meshless doctor`, as a process: what it finds on this machine, and how it ends.

use std::net::{TcpListener, UdpSocket};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::process;

/// Runs it with room for descriptors that the machine of a test may not give by itself.
fn doctor(arguments: &[&str], variables: &[(&str, &str)]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.arg("doctor").args(arguments).env_clear().envs(variables.iter().copied()).output().unwrap()
}

fn json(output: &Output) -> Value {
    let text = String::from_utf8_lossy(&output.stdout);
    serde_json::from_str(&text)
        .unwrap_or_else(|error| panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr)))
}

/// Returns the findings of a section, by what was looked at: verdict, what was seen, what to do.
fn findings(report: &Value, section: &str) -> Vec<(String, String, String, String)> {
    let sections = report["sections"].as_array().unwrap();
    let found = sections.iter().find(|one| one["name"] == section).unwrap_or_else(|| panic!("{section}: {report}"));
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let one = |one: &Value| (text(&one["what"]), text(&one["verdict"]), text(&one["seen"]), text(&one["remedy"]));
    found["findings"].as_array().unwrap().iter().map(one).collect()
}

fn finding(report: &Value, section: &str, what: &str) -> (String, String, String) {
    let found = findings(report, section).into_iter().find(|(name, ..)| name == what);
    let (_, verdict, seen, remedy) = found.unwrap_or_else(|| panic!("{what} of {section}: {report}"));
    (verdict, seen, remedy)
}

/// Writes a configuration with few connections, so that no test depends on the limits of the machine.
fn write(directory: &Path, rest: &str) -> String {
    let state = directory.join("state");
    std::fs::create_dir_all(&state).unwrap();
    let text = format!(
        "[node]\nstate_dir = \"{}\"\n[admin]\nlisten = \"unix:{}/admin.sock\"\n[defaults]\nlimits = {{ connections = 10 }}\n{rest}",
        state.display(),
        directory.display()
    );
    let file = directory.join("meshless.toml");
    std::fs::write(&file, text.replace("DIR", directory.to_str().unwrap())).unwrap();
    file.to_str().unwrap().to_owned()
}

const LISTENER: &str = "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nlimits = { connections = 10 }\n";

#[test]
fn a_machine_that_is_well_has_a_report_of_what_is_good_and_ends_with_0() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("endpoints")).unwrap();
    std::fs::write(directory.path().join("endpoints/a.toml"), "[[services.web]]\naddress = \"10.0.0.1:80\"\n").unwrap();
    let file = write(
        directory.path(),
        &format!(
            "{LISTENER}[discovery.file]\npath = \"DIR/endpoints\"\n[services.web]\nfrom = \"file/web\"\n[[routes]]\nto = \"web\"\n"
        ),
    );
    let output = doctor(&["-c", &file, "--json"], &[]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    assert_eq!(report["schema"], 1);
    for (section, what) in [
        ("process", "file descriptors"),
        ("process", "kernel"),
        ("process", "clock"),
        ("ports", "admin.listen"),
        ("ports", "listener edge"),
        ("state", "state_dir"),
        ("backend file", "readable"),
        ("backend file", "targets"),
    ] {
        let (verdict, seen, remedy) = finding(&report, section, what);
        assert_eq!((verdict.as_str(), remedy.as_str()), ("ok", ""), "{section} {what}: {seen}");
    }
    assert_eq!(finding(&report, "backend file", "understood").1, "1 service, 1 endpoint");
    let text = String::from_utf8(doctor(&["-c", &file], &[]).stdout).unwrap();
    assert!(text.starts_with("process\n  ok ") && text.ends_with(" 0 problems\n"), "{text}");
}

#[test]
fn what_is_in_the_way_is_named_with_what_to_do() {
    let directory = tempfile::tempdir().unwrap();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let file = write(
        directory.path(),
        &format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:{port}\"\nlimits = {{ connections = 100000000 }}\n\
             [[listeners]]\nname = \"away\"\nlisten = \"192.0.2.1:4140\"\nlimits = {{ connections = 10 }}\n\
             [[routes]]\nto = \"static/127.0.0.1:9\"\n"
        ),
    );
    std::fs::remove_dir(directory.path().join("state")).unwrap();
    std::fs::write(directory.path().join("state"), "a file").unwrap();
    let output = doctor(&["-c", &file, "--json"], &[]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(1), "{report}");
    let (verdict, seen, remedy) = finding(&report, "process", "file descriptors");
    assert!(
        verdict != "ok" && seen.contains("100000010 for clients") && remedy.contains("LimitNOFILE="),
        "{seen} {remedy}"
    );
    let (verdict, seen, remedy) = finding(&report, "ports", "listener edge");
    assert!(verdict == "problem" && seen.contains("in use by another process"), "{seen}");
    assert!(remedy.contains(&format!("sport = :{port}")), "{remedy}");
    assert!(finding(&report, "ports", "listener away").1.contains("is no address of this machine"));
    let (verdict, seen, remedy) = finding(&report, "state", "state_dir");
    assert!(
        verdict == "warning" && seen.contains("no directory") && remedy.contains("StateDirectory=meshless"),
        "{seen}"
    );
}

#[test]
fn a_backend_that_says_nothing_and_one_that_is_gone_do_not_hang_the_report_and_end_it_with_69() {
    let directory = tempfile::tempdir().unwrap();
    // Over UDP it says nothing, over TCP nobody is there.
    let silent = UdpSocket::bind("127.0.0.1:0").unwrap();
    let file = write(
        directory.path(),
        &format!(
            "{LISTENER}[discovery.slow]\ntype = \"dns\"\nresolvers = [\"{}\"]\n[discovery.file]\npath = \"DIR/nowhere\"\n\
             [services.web]\nfrom = \"slow/web.x:80 | file/web | static/127.0.0.1:9\"\n[[routes]]\nto = \"web\"\n",
            silent.local_addr().unwrap()
        ),
    );
    let began = Instant::now();
    let output = doctor(&["-c", &file, "--json"], &[]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(69), "{report}");
    // 10 s are the limit of a look; a busy machine may need some more around it.
    assert!(began.elapsed() < Duration::from_secs(25), "{:?}", began.elapsed());
    assert_eq!(finding(&report, "backend static", "targets").0, "ok");
    assert!(finding(&report, "backend file", "readable").1.starts_with("unreachable: "));
    let slow = findings(&report, "backend slow (dns)");
    assert!(slow.iter().any(|(what, verdict, ..)| what.ends_with(" UDP") && verdict == "problem"), "{slow:?}");
    assert!(slow.iter().any(|(what, verdict, ..)| what == "slow/web.x:80" && verdict == "problem"), "{slow:?}");
}

#[test]
fn a_refusal_ends_it_with_77() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::create_dir(directory.path().join("endpoints")).unwrap();
    std::fs::write(directory.path().join("outside.toml"), "services = {}").unwrap();
    std::os::unix::fs::symlink("../outside.toml", directory.path().join("endpoints/a.toml")).unwrap();
    let file = write(
        directory.path(),
        &format!("{LISTENER}[discovery.file]\npath = \"DIR/endpoints\"\n[[routes]]\nto = \"file/web\"\n"),
    );
    let output = doctor(&["-c", &file, "--json"], &[]);
    assert_eq!(output.status.code(), Some(77), "{}", json(&output));
}

#[test]
fn ports_of_our_own_gateway_are_not_in_the_way_and_its_limits_count() {
    let gateway = process::with(
        "[node]\nstate_dir = \"DIR/state\"\n[admin]\nlisten = \"unix:DIR/admin.sock\"\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"unix:DIR/edge.sock\"\nlimits = { connections = 10 }\n\
         [discovery.file]\npath = \"DIR/endpoints.toml\"\n\
         [services.web]\nfrom = \"file/web\"\nlimits = { connections = 10 }\n[[routes]]\nto = \"web\"\n",
    );
    std::fs::write(gateway.directory().join("endpoints.toml"), "[[services.web]]\naddress = \"127.0.0.1:9\"\n")
        .unwrap();
    let gateway = gateway.descriptors(4096).start();
    crate::plain::wait_until("the snapshot is on disk", || {
        std::fs::read_dir(gateway.directory().join("state/snapshots")).is_ok_and(|entries| entries.count() > 0)
    });
    let output = doctor(&["-c", gateway.file().to_str().unwrap(), "--json"], &[]);
    let report = json(&output);
    assert_eq!(output.status.code(), Some(0), "{report}");
    for what in ["admin.listen", "listener edge"] {
        let (verdict, seen, _) = finding(&report, "ports", what);
        assert!(verdict == "ok" && seen.ends_with("is held by the gateway that runs here"), "{seen}");
    }
    assert!(
        finding(&report, "process", "file descriptors").1.starts_with("4096 may be open in the gateway that runs here")
    );
    assert!(finding(&report, "state", "last known good").1.starts_with("1 of 1 targets"));
}

#[test]
fn without_a_configuration_the_machine_and_what_the_environment_speaks_of_are_looked_at() {
    let admin = tempfile::tempdir().unwrap();
    let socket = format!("unix:{}/admin.sock", admin.path().display());
    let state = admin.path().to_str().unwrap();
    let variables = [("MESHLESS__ADMIN__LISTEN", socket.as_str()), ("STATE_DIRECTORY", state)];
    let report = json(&doctor(&["--json"], &variables));
    assert_eq!(finding(&report, "ports", "admin.listen").0, "ok");
    let names: Vec<&str> =
        report["sections"].as_array().unwrap().iter().map(|section| section["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["process", "ports", "state"]);
    let output = doctor(&["-c", "nowhere.toml"], &[]);
    assert_eq!(output.status.code(), Some(64));
}
