//! `[register]`.

use std::time::Duration;

use super::{Given, toml};
use crate::config::CheckedBy;

/// `[register]` beside a listener on all addresses and a Consul.
fn register(keys: &str) -> Given {
    with(keys, "listen = \"0.0.0.0:4143\"\nto = \"static/127.0.0.1:8080\"")
}

fn with(keys: &str, listener: &str) -> Given {
    toml(&format!("[register]\n{keys}\n[discovery.consul]\n[[listeners]]\nname = \"in\"\n{listener}\n"))
}

#[test]
fn what_is_not_said_has_its_default() {
    let config = register("backend = \"consul\"\nservice = \"web\"\ncheck = {}").config().register.unwrap();
    assert_eq!((config.listener.as_str(), config.address, config.port, config.weight), ("in", None, None, 1));
    let (ttl, after, wait) = (Duration::from_secs(15), Duration::from_mins(1), Duration::from_secs(2));
    assert_eq!((config.ttl, config.deregister_after, config.wait), (ttl, after, wait));
    let check = config.check.unwrap();
    assert_eq!((check.by, check.address.to_string().as_str()), (CheckedBy::Gateway, "127.0.0.1:8080"));
    assert_eq!((check.health.interval, check.health.timeout), (Duration::from_secs(2), Duration::from_secs(1)));
    assert_eq!((check.health.healthy, check.health.unhealthy), (2, 3));
    assert_eq!(register("backend = \"consul\"\nservice = \"web\"").config().register.unwrap().check, None);
}

#[test]
fn the_application_is_found_through_the_services_that_to_names() {
    let listener = "listen = \"0.0.0.0:4143\"\nto = \"app\"\n[services.app]\nfrom = \"static/[::1]:9\"";
    let config = with("backend = \"consul\"\nservice = \"web\"\ncheck = { path = \"/\" }", listener).config();
    assert_eq!(config.register.unwrap().check.unwrap().address.to_string(), "[::1]:9");
}

#[test]
fn the_name_of_the_node_is_the_name_of_the_service() {
    let given = toml(
        "[node]\nservice = \"shop\"\n[register]\nbackend = \"consul\"\n[discovery.consul]\n[[listeners]]\n\
         listen = \"0.0.0.0:4143\"\nto = \"static/127.0.0.1:1\"\n",
    );
    assert_eq!(given.config().register.unwrap().service, "shop");
}

#[test]
fn what_is_missing_is_said() {
    assert_eq!(
        register("").problems(),
        "\
c.toml:1:2: error: register.backend: missing: name a table of `[discovery]` of type `consul`, such as `backend = \"consul\"`
c.toml:1:2: error: register.service: missing: say which service this is, here or in `node.service`"
    );
    let two = "listen = \"0.0.0.0:1\"\nto = \"static/127.0.0.1:1\"\n[[listeners]]\nlisten = \"0.0.0.0:2\"\nto = \"static/127.0.0.1:1\"";
    let problems = with("backend = \"consul\"\nservice = \"web\"", two).problems();
    assert!(problems.contains("register.listener: missing: there is more than one listener"), "{problems}");
    let listener = "listen = \"0.0.0.0:1\"\nto = \"static/127.0.0.1:1,127.0.0.1:2\"";
    let problems = with("backend = \"consul\"\nservice = \"web\"\ncheck = {}", listener).problems();
    assert!(problems.contains("register.check.address: missing: the listener's `to` names 2 addresses"), "{problems}");
    let listener = "listen = \"0.0.0.0:1\"\nto = \"dns/app.internal:80\"";
    let problems = with("backend = \"consul\"\nservice = \"web\"\ncheck = {}", listener).problems();
    assert!(problems.contains("register.check.address: missing: the listener's `to` names no address"), "{problems}");
}

#[test]
fn what_is_wrong_is_said_where_it_stands() {
    let problems = |keys: &str| register(keys).problems();
    for (keys, expected) in [
        ("backend = \"consul\"\nservice = \"Web\"", "3:11: error: register.service: expected a name of a-z"),
        (
            "backend = \"cnsul\"\nservice = \"a\"",
            "2:11: error: register.backend: there is no backend `cnsul`; did you mean `consul`?",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\nlistener = \"inn\"",
            "4:12: error: register.listener: there is no listener `inn`; did you mean `in`?",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\naddress = \"0.0.0.0\"",
            "4:11: error: register.address: expected an IP address",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\naddress = \"web.internal\"",
            "4:11: error: register.address: expected an IP address",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\nweight = 0",
            "register.weight: expected a whole number from 1 to 65535",
        ),
        ("backend = \"consul\"\nservice = \"a\"\nttl = \"1s\"", "register.ttl: expected a time from 5s to 1h"),
        (
            "backend = \"consul\"\nservice = \"a\"\nderegister_after = \"30s\"",
            "register.deregister_after: expected a time from 1m",
        ),
        ("backend = \"consul\"\nservice = \"a\"\nwait = \"1h\"", "register.wait: expected a time of at most 10m"),
        ("backend = \"consul\"\nservice = \"a\"\ntags = [\"\"]", "register.tags[0]: expected a tag"),
        (
            "backend = \"consul\"\nservice = \"a\"\nmeta = { meshless-instance = \"1\" }",
            "keys that begin with `meshless-` are ours",
        ),
        ("backend = \"consul\"\nservice = \"a\"\nmeta = { \"a.b\" = \"1\" }", "expected a key of 1 to 128 letters"),
        (
            "backend = \"consul\"\nservice = \"a\"\ncheck = { type = \"grpc\", path = \"/\" }",
            "register.check.path: belongs to `type = \"http\"`",
        ),
        ("backend = \"consul\"\nservice = \"a\"\ncheck = { type = \"http\" }", "register.check.path: missing"),
        (
            "backend = \"consul\"\nservice = \"a\"\ncheck = { address = \"localhost:1\" }",
            "register.check.address: expected an address",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\ncheck = { by = \"agent\", path = \"/\", status = \"200\" }",
            "register.check.status: Consul's agent takes 2xx",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\ncheck = { by = \"agent\", address = \"unix:/a\" }",
            "register.check.by: Consul's agent does not check Unix sockets",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\ncheck = { type = \"exec\" }",
            "register.check.type: expected `http`, `tcp` or `grpc`",
        ),
        (
            "backend = \"consul\"\nservice = \"a\"\ncheck = { interval = \"1s\", timeout = \"2s\" }",
            "register.check.timeout: expected at most `interval`",
        ),
    ] {
        let found = problems(keys);
        assert!(found.contains(expected), "{keys}:\n{found}");
    }
    let elsewhere = with(
        "backend = \"files\"\nservice = \"a\"",
        "listen = \"0.0.0.0:1\"\nto = \"static/127.0.0.1:1\"\n[discovery.files]\ntype = \"file\"\npath = \"/a\"",
    );
    assert!(elsewhere.problems().contains("the backend `files` is not of type `consul`"), "{}", elsewhere.problems());
    let socket = with("backend = \"consul\"\nservice = \"a\"", "listen = \"unix:/a\"\nto = \"static/127.0.0.1:1\"");
    assert!(socket.problems().contains("is a Unix socket, which no other host reaches"), "{}", socket.problems());
}

#[test]
fn a_listener_that_only_this_host_reaches_is_warned_of() {
    let listener = "listen = \"127.0.0.1:4143\"\nto = \"static/127.0.0.1:1\"";
    let warnings = with("backend = \"consul\"\nservice = \"a\"", listener).warnings();
    assert!(warnings.contains("who finds `127.0.0.1:4143` would reach itself"), "{warnings}");
    assert_eq!(with("backend = \"consul\"\nservice = \"a\"\naddress = \"127.0.0.1\"", listener).warnings(), "");
}
