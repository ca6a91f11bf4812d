//! `[[names]]` and `overrides`.

use super::toml;

const AROUND: &str = "[discovery.file]\npath = \"/e\"\n[services.web]\nfrom = \"file/web\"\n";
const LISTENER: &str = "[[listeners]]\nlisten = \"127.0.0.1:1\"\n";

fn problems(names: &str) -> String {
    toml(&format!("{AROUND}{LISTENER}{names}")).problems()
}

#[test]
fn a_listener_needs_no_route_where_there_are_names() {
    let config =
        toml(&format!("{AROUND}{LISTENER}[[names]]\nmatch = \"{{a}}.mesh\"\ntarget = \"file/{{a}}\"\n")).config();
    assert_eq!(config.names[0].bind("web.mesh").unwrap().to_string(), "file/web");
}

#[test]
fn a_wrong_name_is_told_with_its_place_and_what_is_allowed() {
    let given = problems(
        r#"[discovery.names]
type = "dns"
[[names]]
[[names]]
match = "{a}.*"
target = "file/{a}"
[[names]]
match = "{a}.mesh"
target = "file/x | {a}/x | static/{a}:80"
[[names]]
match = "{a}.{b}.mesh"
target = "file/x | static/{a}:80"
[[names]]
match = "x.{a}"
target = "file/{c}"
[[names]]
match = "y.{a}"
target = "names/{a}:80 | wep | {a} | consul/{a} | fil/{a} | file/{a}[tag=b] | file/X"
"#,
    );
    assert_eq!(
        given,
        "\
c.toml:9:1: error: names[0].match: missing: say which hosts it is for, such as `match = \"{service}.mesh\"`
c.toml:9:1: error: names[0].target: missing: say what these hosts stand for, such as `target = \"consul/{service}\"`
c.toml:11:14: error: names[1].match: expected a label of a host or a capture, found `*`; a capture such as `{name}` takes any label
c.toml:15:20: error: names[2].target: a capture cannot stand in the place of a backend; write the backend's name (byte 9)
c.toml:18:27: error: names[3].target: a capture cannot stand in `static/`: whoever sends a request would choose the address; name a backend that knows the endpoints (byte 16)
c.toml:21:16: error: names[4].target: `{c}` is no capture of `match`, which has `{a}` (byte 5)
c.toml:24:11: error: names[5].target: a capture cannot stand in `names/`, which is DNS: whoever sends a request would choose the address; name a backend that knows the endpoints
c.toml:24:26: error: names[5].target: there is no service `wep`; did you mean `web`?
c.toml:24:38: error: names[5].target: the backend `consul` needs a table: add [discovery.consul]
c.toml:24:51: error: names[5].target: there is no backend `fil`; add [discovery.fil]; did you mean `file`?
c.toml:24:61: error: names[5].target: target `file/a[tag=b]`: option `tag` is not known to backend `file`, which has none; remove the brackets
c.toml:24:79: error: names[5].target: target `file/X`: service name `X` does not begin with a lower-case letter or a digit"
    );
}

#[test]
fn a_name_that_nothing_can_reach_and_one_that_the_world_can_are_warned_of() {
    let names = |listener: &str| {
        let two = "[[names]]\nmatch = \"{a}.{b}\"\ntarget = \"file/{a}\"\n[[names]]\nmatch = \"{c}.mesh\"\ntarget = \"web\"\n";
        toml(&format!("{AROUND}{listener}{two}")).warnings()
    };
    assert_eq!(
        names(LISTENER),
        "c.toml:10:1: warning: names[1]: nothing can reach it: names[0] stands before it and matches all that it matches"
    );
    let with_to = names("[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"web\"\n");
    assert!(with_to.contains("names[0]: nothing can reach it: every listener has `to`"), "{with_to}");
    let open = names("[[listeners]]\nlisten = \"0.0.0.0:1\"\n");
    assert!(open.contains("listeners[0].listen: is not on loopback, and names apply to it"), "{open}");
}

#[test]
fn overrides_have_no_meaning_where_nothing_can_be_changed_and_are_warned_of_where_anybody_can() {
    let with = |listen: &str, more: &str| {
        format!("{AROUND}[[routes]]\nto = \"web\"\n[[listeners]]\nlisten = \"{listen}\"\noverrides = true\n{more}\n")
    };
    let with_to = toml(&with("127.0.0.1:1", "to = \"web\"")).problems();
    assert!(with_to.contains("listeners[0].overrides: has no meaning beside `to`"), "{with_to}");
    let tcp = toml(&with("127.0.0.1:1", "protocol = \"tls-passthrough\"")).problems();
    assert!(tcp.contains("there are no headers that could change a target"), "{tcp}");
    assert_eq!(toml(&with("127.0.0.1:1", "")).warnings(), "");
    let open = toml(&with("0.0.0.0:1", "")).warnings();
    assert!(open.contains("listeners[0].overrides: is not on loopback, and takes overrides"), "{open}");
    let known = "tls = { mode = \"server\", cert = \"/c\", key = \"/k\", client_ca = \"/ca\" }";
    let known = toml(&with("0.0.0.0:1", known)).warnings();
    assert!(!known.contains("overrides"), "{known}");
}
