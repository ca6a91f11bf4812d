use super::*;

/// A listener that verifies clients, with these lines.
fn verified(lines: &str) -> Given {
    toml(&format!(
        "[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"static/127.0.0.1:2\"\n{lines}\n\
         tls = {{ mode = \"server\", cert = \"/c\", key = \"/k\", client_ca = \"/a\" }}\n"
    ))
}

#[test]
fn rules_keep_their_order_and_say_what_they_say() {
    let config = verified(
        "dry_run = true\nallow = [{ from = \"spiffe://example.org/svc/*\", methods = [\"GET\"], path = \"/v1/*\" }, \
         { grpc = \"a.B/C\", headers = { x-a = \"b\" }, address = [\"10.0.0.0/8\"] }]",
    )
    .config();
    let listener = &config.listeners[0];
    let rules = listener.allow.as_ref().unwrap();
    assert!(listener.dry_run && rules.len() == 2);
    assert_eq!(rules[0].from, Some(crate::config::FromMatch::Below("spiffe://example.org/svc/".to_owned())));
    assert_eq!((rules[0].methods.len(), rules[1].headers.len(), rules[1].addresses.len()), (1, 1, 1));
    assert_eq!(verified("allow = []").config().listeners[0].allow, Some(Vec::new()));
    assert_eq!(verified("").config().listeners[0].allow, None);
    assert_eq!(verified("allow = []").warnings(), "");
}

#[test]
fn a_rule_that_is_wrong_is_told_and_never_widened() {
    for (rule, told) in [
        ("from = \"web\"", "allow[0].from: expected a SPIFFE ID"),
        ("from = \"spiffe://example.org/svc/w*\"", "allow[0].from: expected a SPIFFE ID"),
        ("from = \"*\"", "allow[0].from: expected a SPIFFE ID"),
        ("methods = [\"get\"]", "did you mean `GET`?"),
        ("methods = []", "expected at least one method"),
        ("method = [\"GET\"]", "unknown key; did you mean `methods`?"),
        ("path = \"v1\"", "allow[0].path: "),
        ("path = \"/a/../b\"", "allow[0].path: "),
        ("path = { regex = \"(\" }", "allow[0].path.regex: "),
        ("headers = { te = \"x\" }", "belongs to one connection"),
        ("address = [\"10.0.0.1/8\"]", "allow[0].address[0]: "),
        ("to = \"web\"", "unknown key"),
    ] {
        let problems = verified(&format!("allow = [{{ {rule} }}]")).problems();
        assert!(problems.contains(told), "{rule}: {problems}");
    }
    let many = vec!["{ path = \"/a\" }"; 501].join(", ");
    assert!(verified(&format!("allow = [{many}]")).problems().contains("at most 500 rules, found 501"));
    let problems = verified("dry_run = true").problems();
    assert!(problems.contains("dry_run: has no meaning without `allow`"), "{problems}");
}

#[test]
fn a_rule_for_what_its_listener_never_sees_is_refused() {
    let listener = |lines: &str| toml(&format!("[[listeners]]\nlisten = \"127.0.0.1:1\"\n{lines}\n"));
    let plain =
        listener("to = \"static/127.0.0.1:2\"\nallow = [{ from = \"spiffe://example.org/svc/web\" }]").problems();
    assert!(plain.contains("allow[0].from: can never hold: this listener verifies no clients"), "{plain}");
    for (key, value) in
        [("path", "\"/x\""), ("methods", "[\"GET\"]"), ("headers", "{ x = \"y\" }"), ("grpc", "\"a.B\"")]
    {
        let text = format!("to = \"static/127.0.0.1:2\"\nprotocol = \"tcp\"\nallow = [{{ {key} = {value} }}]");
        let problems = listener(&text).problems();
        assert!(
            problems.contains(&format!("allow[0].{key}: can never hold: this listener carries bytes")),
            "{problems}"
        );
    }
    let passed = listener(
        "to = \"static/127.0.0.1:2\"\nprotocol = \"tls-passthrough\"\nallow = [{ from = \"spiffe://example.org/a\" }]",
    )
    .problems();
    assert!(passed.contains("allow[0].from: can never hold: this listener does not open TLS"), "{passed}");
    let config = listener("to = \"static/127.0.0.1:2\"\nprotocol = \"tcp\"\nallow = [{ address = [\"10.0.0.0/8\"] }]");
    assert!(config.config().listeners[0].allow.is_some());
}

#[test]
fn rules_that_decide_nothing_are_told() {
    let warnings = verified(
        "allow = [{ from = \"spiffe://example.org/svc/*\", path = \"/v1/*\" }, \
         { from = \"spiffe://example.org/svc/web\", path = \"/v1/x\" }]",
    )
    .warnings();
    assert!(warnings.contains("listeners[0].allow[1]: decides nothing: allow[0] allows all"), "{warnings}");
    let warnings = verified("allow = [{}]").warnings();
    assert!(warnings.contains("listeners[0].allow[0]: allows everybody everything"), "{warnings}");
    let fine = verified("allow = [{ path = \"/a\" }, { path = \"/b\" }, { from = \"spiffe://other.org/*\" }]");
    assert_eq!(fine.warnings(), "");
}
