//! `meshless test`, as a process.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

fn meshless(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.args(arguments).env_clear().current_dir(env!("CARGO_MANIFEST_DIR")).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

/// Runs a file of cases; returns the exit code, and what it says on either stream without the file's name.
fn cases(content: &str, arguments: &[&str]) -> (Option<i32>, String) {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("cases.toml");
    fs::write(&file, content).unwrap();
    let file = file.to_str().unwrap();
    let output = meshless(&[&["test", file], arguments].concat());
    (output.status.code(), (text(&output.stdout) + &text(&output.stderr)).replace(file, "FILE"))
}

const CONFIG: &str = r#"
[[config.listeners]]
listen = "127.0.0.1:0"
[config.discovery.file]
path = "/nowhere"
[config.services.web]
from = "file/web"
[[config.routes]]
name = "web"
match = { host = "web.example" }
to = "web"
[[config.routes]]
name = "other"
match = { host = "other.example" }
to = "static/10.0.0.9:80"
[[catalog."file/web"]]
address = "10.0.0.1:80"
[[catalog."file/web"]]
address = "10.0.0.2:80"
weight = 3
"#;

#[test]
fn cases_of_the_examples_pass() {
    let mut files = vec!["test".to_owned()];
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/tests")).unwrap() {
        files.push(entry.unwrap().path().to_str().unwrap().to_owned());
    }
    let output = meshless(&files.iter().map(String::as_str).collect::<Vec<_>>());
    assert_eq!(output.status.code(), Some(0), "{}{}", text(&output.stdout), text(&output.stderr));
}

#[test]
fn what_is_not_as_expected_is_told_beside_what_is() {
    let case = "[[cases]]\nname = \"all is wrong\"\nrequest = { url = \"http://web.example/\" }\n\
                expect = { route = \"other\", service = \"x\", status = 201, retried = true, timeout = \"3s\", share = { \"10.0.0.9:80\" = \"90%\" } }\n";
    let (code, told) = cases(&format!("{CONFIG}{case}"), &[]);
    assert_eq!(
        told,
        "FILE\n  FAILED  all is wrong\n            route: expected \"other\", found \"web\"\n            \
         service: expected \"x\", found \"web\"\n            share of `10.0.0.9:80`: expected 90% ± 2%, found 0.0%\n            \
         status: expected 201, found 200\n            retried: expected true, found false\n            \
         timeout: expected 3s, found 15s\n1 case, 1 failed; 1 of 2 routes reached\nnot reached: other (FILE)\n"
    );
    assert_eq!(code, Some(1));
}

#[test]
fn events_change_where_requests_go_and_time_changes_it_back() {
    let request = "request = { url = \"http://web.example/\" }\n";
    let case = |name: &str, rest: &str, second: &str| {
        format!(
            "[[cases]]\nname = \"{name}\"\n{request}{rest}\nexpect = {{ share = {{ \"10.0.0.2:80\" = \"{second}\" }} }}\n"
        )
    };
    let text = [
        CONFIG,
        &case("by weight", "", "75%"),
        &case("ejected", "events = [{ endpoint = \"10.0.0.2:80\", fails = 5 }]", "0%"),
        &case("four are too few", "events = [{ endpoint = \"10.0.0.2:80\", fails = 4 }]", "75%"),
        &case("drained", "events = [{ endpoint = \"10.0.0.2:80\", health = \"draining\" }]", "0%"),
        &case("gone", "events = [{ endpoint = \"10.0.0.2:80\", gone = true }]", "0%"),
        &case("another list", "catalog.\"file/web\" = [{ address = \"10.0.0.2:80\" }]", "100%"),
    ]
    .concat();
    let (code, told) = cases(&text, &[]);
    assert_eq!(code, Some(0), "{told}");
}

#[test]
fn coverage_can_be_required() {
    let case = "[[cases]]\nname = \"web\"\nrequest = { url = \"http://web.example/\" }\nexpect = { route = \"web\" }\n";
    assert_eq!(cases(&format!("{CONFIG}{case}"), &[]).0, Some(0));
    assert_eq!(cases(&format!("{CONFIG}{case}"), &["--require-coverage"]).0, Some(1));
}

#[test]
fn what_is_wrong_in_a_file_ends_with_64() {
    for (content, expected) in [
        ("[[cases]]\nname = \"x\"\n".to_owned(), "`config` is missing"),
        (CONFIG.to_owned(), "there is no case"),
        (format!("{CONFIG}[[cases]]\nname = \"x\"\nrequets = {{}}\n"), "did you mean `request`?"),
        (
            format!("{CONFIG}[[cases]]\nname = \"x\"\nrequest = {{ url = \"/\" }}\nexpect = {{}}\n"),
            "nothing is expected",
        ),
        (
            format!(
                "{CONFIG}[[cases]]\nname = \"x\"\nrequest = {{ url = \"http://web.example/\" }}\nevents = [{{ endpoint = \"10.9.9.9:80\", fails = 5 }}]\nexpect = {{ status = 200 }}\n"
            ),
            "which no target lists",
        ),
        (
            CONFIG.replace("[[catalog.\"file/web\"]]", "[[catalog.\"file/wbe\"]]")
                + "[[cases]]\nname = \"x\"\nrequest = { url = \"http://web.example/\" }\nexpect = { status = 200 }\n",
            "nothing says which endpoints `file/web` has",
        ),
    ] {
        let (code, told) = cases(&content, &[]);
        assert!(told.contains(expected) && code == Some(64), "{expected}: {code:?} {told}");
    }
}
