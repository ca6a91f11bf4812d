use super::*;
use proptest::prelude::*;

fn printed(text: &str) -> String {
    Expression::parse(text).unwrap().to_string()
}

fn refused(text: &str) -> (usize, String) {
    let error = Expression::parse(text).unwrap_err();
    (error.offset, error.message)
}

#[test]
fn a_split_binds_tighter_than_a_tier() {
    let parsed = Expression::parse("a & b | c").unwrap();
    assert_eq!(parsed.tiers.len(), 2);
    assert_eq!(parsed.tiers[0].terms.len(), 2);
    assert_eq!(parsed.services().collect::<Vec<_>>(), ["a", "b", "c"]);
}

#[test]
fn the_example_of_the_documentation_prints_as_it_is_written() {
    let text = "ecs/prod/api:http | consul/api[dc=eu,tag=blue] | 90 * kubernetes/default/api:80 & 10 * kubernetes/canary/api:80";
    assert_eq!(printed(text), text);
    let parsed = Expression::parse(text).unwrap();
    let backends: Vec<_> = parsed.targets().map(|target| target.backend.as_str()).collect();
    assert_eq!(backends, ["ecs", "consul", "kubernetes", "kubernetes"]);
    assert_eq!(parsed.tiers[2].terms[1].weight, 10);
}

#[test]
fn k8s_is_another_word_for_kubernetes() {
    assert_eq!(printed("k8s/default/api:80 | k8s"), "kubernetes/default/api:80 | k8s");
}

#[test]
fn spaces_are_free_between_tokens() {
    assert_eq!(printed(" 90*a&10\t* ( b|c )\n"), "90 * a & 10 * (b | c)");
}

#[test]
fn an_address_in_brackets_is_part_of_the_path_and_options_are_not() {
    let parsed = Expression::parse("static/[::1]:80*2,[fe80::1%eth0]:81[zone=a]").unwrap();
    let target = parsed.targets().next().unwrap();
    assert_eq!(target.path, "[::1]:80*2,[fe80::1%eth0]:81");
    assert_eq!(target.options, [("zone".to_owned(), "a".to_owned())].into());
}

#[test]
fn a_unix_socket_is_a_path() {
    let parsed = Expression::parse("static/unix:/run/app.sock").unwrap();
    assert_eq!(parsed.targets().next().unwrap().path, "unix:/run/app.sock");
}

#[test]
fn a_number_alone_is_a_service_and_before_a_star_a_weight() {
    assert_eq!(Expression::parse("90").unwrap().services().next(), Some("90"));
    assert_eq!(Expression::parse("0 * 90").unwrap().tiers[0].terms[0].weight, 0);
}

#[test]
fn an_error_says_where_and_what_is_expected() {
    let start = "expected a service, a target such as `static/127.0.0.1:80`, or `(`";
    let cases = [
        ("", 0, format!("{start}, found the end")),
        ("a |", 3, format!("{start}, found the end")),
        ("a || b", 3, format!("{start}, found `|`")),
        ("Web", 0, format!("{start}, found `W`")),
        ("a b", 2, "expected `|`, `&` or the end, found `b`".to_owned()),
        ("(a", 2, "expected `|`, `&` or `)`, found the end".to_owned()),
        ("a)", 1, "`)` without a `(` before it".to_owned()),
        ("aB", 1, "expected `/`, `|`, `&` or the end, found `B`".to_owned()),
        (
            "consul/",
            7,
            "expected what to look up in the backend, such as a name or an address, found the end".to_owned(),
        ),
        ("consul/web[tag]", 10, "expected options such as `[tag=blue]`, or an IPv6 address such as `[::1]`".to_owned()),
        ("consul/web[tag=", 15, "expected a value, found the end".to_owned()),
        ("consul/web[tag=a", 16, "expected `,` or `]`, found the end".to_owned()),
        ("consul/web[tag=a,b]", 18, "expected an option such as `tag=blue`, found `]`".to_owned()),
        ("consul/web[a=1,a=2]", 15, "the option `a` stands twice".to_owned()),
        ("consul/web[a=1]x", 15, "expected `|`, `&` or the end, found `x`".to_owned()),
        ("9999999 * a", 0, "expected a weight from 0 to 1000000, found `9999999`".to_owned()),
        ("1.5 * a", 4, "expected `|`, `&` or the end, found `*`".to_owned()),
        (
            "static/1.2.3.4:1, 1.2.3.5:1",
            17,
            "a list in a path is written without spaces, and does not end in a comma".to_owned(),
        ),
    ];
    for (text, offset, message) in cases {
        assert_eq!(refused(text), (offset, message), "{text}");
    }
}

#[test]
fn nesting_and_size_are_bounded() {
    let nested = |depth: usize| format!("{}a{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Expression::parse(&nested(Expression::MAX_DEPTH)).is_ok());
    assert!(refused(&nested(Expression::MAX_DEPTH + 1)).1.contains("parentheses"));
    assert!(refused(&"(".repeat(60_000)).1.contains("parentheses"));
    assert!(refused(&vec!["a"; Expression::MAX_LEAVES + 1].join("|")).1.contains("targets and services"));
    assert!(refused(&"a".repeat(Expression::MAX_BYTES + 1)).1.contains("bytes"));
}

fn target() -> impl Strategy<Value = meshless_discovery::Target> {
    let path = prop_oneof![
        "[a-zA-Z0-9._:*/{}=@%+-]{0,12}[a-z0-9]",
        Just("[::1]:80,[2001:db8::1]:81*3".to_owned()),
        Just("unix:/run/x.sock".to_owned()),
    ];
    let options = proptest::collection::btree_map("[a-z][a-zA-Z0-9._:/-]{0,6}", "[a-zé0-9=\"|&()]{1,5}", 0..3);
    ("[a-z0-9][a-z0-9._-]{0,6}", path, options).prop_map(|(backend, path, options)| meshless_discovery::Target {
        backend,
        path,
        options,
    })
}

fn expression() -> impl Strategy<Value = Expression> {
    let leaf = prop_oneof!["[a-z0-9][a-z0-9._-]{0,8}".prop_map(Node::Service), target().prop_map(Node::Target)];
    let node = leaf.prop_recursive(3, 24, 3, |inner| {
        let term = (0..=Expression::MAX_WEIGHT, inner).prop_map(|(weight, node)| Term { weight, node });
        let split = proptest::collection::vec(term, 1..3).prop_map(|terms| Split { terms });
        proptest::collection::vec(split, 1..3).prop_map(|tiers| Node::Group(Expression { tiers }))
    });
    node.prop_map(|node| match node {
        Node::Group(expression) => expression,
        leaf => Expression { tiers: vec![Split { terms: vec![Term { weight: 1, node: leaf }] }] },
    })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(written in expression()) {
        let text = written.to_string();
        prop_assert_eq!(Expression::parse(&text).map_err(|error| format!("{text}: {error}")), Ok(written));
    }

    #[test]
    fn any_text_is_parsed_or_refused_within_its_bounds(text in "\\PC{0,40}") {
        if let Err(error) = Expression::parse(&text) {
            prop_assert!(text.is_char_boundary(error.offset), "{} in {:?}", error.offset, text);
        }
    }

    #[test]
    fn a_text_of_its_own_tokens_never_panics(text in "[a1/|&()\\[\\]=*,: .-]{0,30}") {
        if let Ok(parsed) = Expression::parse(&text) {
            prop_assert_eq!(Expression::parse(&parsed.to_string()), Ok(parsed));
        }
    }
}
