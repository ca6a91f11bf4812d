//! `meshless check` and `meshless schema`, as a process.

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

#[test]
fn a_right_configuration_is_ok() {
    let output = meshless(&["check", "-c", "examples/smallest.toml"]);
    assert_eq!(text(&output.stderr), "");
    assert_eq!(text(&output.stdout), "ok: 1 listener, 1 route, 1 service\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn a_wrong_one_is_told_with_its_places_and_ends_with_64() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("wrong.toml");
    fs::write(&file, "[[listeners]]\nlisten = \"127.0.0.1:4140\"\n[[routes]]\nto = \"web\"\ntiemout = \"1s\"\n")
        .unwrap();
    let output = meshless(&["check", "-c", file.to_str().unwrap()]);
    let told = text(&output.stderr).replace(file.to_str().unwrap(), "FILE");
    assert_eq!(
        told,
        "FILE:4:7: error: routes[0].to: there is no service `web`; add [services.web]\n\
         FILE:5:1: error: routes[0].tiemout: unknown key; did you mean `timeout`?\n"
    );
    assert_eq!(output.status.code(), Some(64));
}

#[test]
fn a_value_of_the_platform_can_be_set() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    fs::write(&file, "[[listeners]]\nlisten = \"127.0.0.1:0\"\nto = \"static/${ecs.address}:80\"\n").unwrap();
    let file = file.to_str().unwrap();
    let output = meshless(&["check", "-c", file]);
    assert!(text(&output.stderr).contains("give `--set ecs.address=…`"), "{}", text(&output.stderr));
    let output = meshless(&["check", "-c", file, "--set", "ecs.address=10.0.0.1"]);
    assert_eq!(text(&output.stdout), "ok: 1 listener, 0 routes, 0 services\n", "{}", text(&output.stderr));
}

#[test]
fn a_wrong_command_line_ends_with_64_and_help_with_0() {
    for arguments in [&["chekc"][..], &["check"], &[], &["check", "-c", "x.toml", "--set", "novalue"]] {
        assert_eq!(meshless(arguments).status.code(), Some(64), "{arguments:?}");
    }
    for arguments in [["--help"], ["--version"]] {
        assert_eq!(meshless(&arguments).status.code(), Some(0), "{arguments:?}");
    }
}

#[test]
fn the_schema_is_json() {
    let output = meshless(&["schema"]);
    assert_eq!(output.status.code(), Some(0));
    let schema: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(schema["$schema"], "https://json-schema.org/draft/2020-12/schema");
    assert_eq!(schema["properties"]["listeners"]["items"]["properties"]["listen"]["type"], "string");
}

#[test]
fn every_example_is_ok_without_a_warning() {
    let mut checked = 0;
    for entry in fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let output = meshless(&["check", "-c", path.to_str().unwrap()]);
            assert_eq!((text(&output.stderr).as_str(), output.status.code()), ("", Some(0)), "{}", path.display());
            checked += 1;
        }
    }
    assert!(checked >= 5, "{checked}");
}
