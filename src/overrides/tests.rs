use std::collections::BTreeMap;

use meshless_discovery::Target;
use proptest::prelude::*;

use super::dtab::{Entry, Tree};
use super::*;

/// A configuration with services `web`, `web-v2`, `users`, a backend `file`, one inline target, and names `*.mesh`.
struct Configured;

impl Known for Configured {
    fn has_service(&self, name: &str) -> bool {
        ["web", "web-v2", "users"].contains(&name)
    }

    fn name(&self, host: &str) -> Option<Expression> {
        let service = host.strip_suffix(".mesh")?;
        let target = Target { backend: "file".to_owned(), path: service.to_owned(), options: BTreeMap::new() };
        Some(leaf(Node::Target(target)))
    }

    fn has_backend(&self, name: &str) -> bool {
        ["file", "consul", "kubernetes"].contains(&name)
    }

    fn is_for_addresses(&self, backend: &str) -> bool {
        ["static", "dns"].contains(&backend)
    }

    fn has_target(&self, target: &Target) -> bool {
        target.to_string() == "static/10.0.0.1:80"
    }
}

fn headers(fields: &[(&'static str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(*name, HeaderValue::from_str(value).unwrap());
    }
    headers
}

/// Where a request goes whose host is `web.example`, and whose route, `shop`, leads to `to`.
fn applied(fields: &[(&'static str, &str)], to: &str) -> Result<Option<String>, Problem> {
    let to = Expression::parse(to).unwrap();
    let subject = Subject { host: "web.example", route: "shop", to: &to };
    apply(&headers(fields), &subject, &Configured).map(|found| found.map(|expression| expression.to_string()))
}

/// The same by one dtab, for a route to `web`.
fn by(dtab: &str) -> Result<Option<String>, Problem> {
    applied(&[("l5d-dtab", dtab)], "web")
}

fn goes(dtab: &str) -> String {
    by(dtab).unwrap().unwrap_or_else(|| "as it was".to_owned())
}

fn refused(dtab: &str) -> String {
    match by(dtab) {
        Err(Problem::Refused(why)) => why,
        other => panic!("{dtab}: {other:?}"),
    }
}

#[test]
fn a_service_is_replaced_by_another_one_wherever_a_route_leads_to_it() {
    assert_eq!(goes("/svc/web => /svc/web-v2"), "web-v2");
    let split = applied(&[("l5d-dtab", "/svc/web => /svc/web-v2")], "90 * web & 10 * users | file/x");
    assert_eq!(split.unwrap().unwrap(), "90 * web-v2 & 10 * users | file/x");
    assert_eq!(goes("/svc/users => /svc/web-v2"), "as it was", "it is for another hop");
}

#[test]
fn the_host_is_a_name_too_as_it_was_in_linkerd_and_so_is_the_route() {
    assert_eq!(goes("/svc/web.example => /svc/users"), "users");
    assert_eq!(goes("/host/web.example => /svc/users"), "users");
    assert_eq!(goes("/svc/shop => /svc/users"), "users");
    assert_eq!(goes("/svc/* => /host/shop; /host/* => ~"), "web");
    assert_eq!(goes("/host/web.example => 0.9 * /svc/shop & 0.1 * /svc/web-v2"), "9 * web & web-v2");
    assert_eq!(goes("/svc/web => 1 * /host/web.example & 3 * /svc/web-v2"), "web & 3 * web-v2");
}

#[test]
fn later_entries_come_first_and_what_they_leave_open_falls_to_earlier_ones_and_then_to_the_configuration() {
    assert_eq!(goes("/svc/web => /svc/users; /svc/web => /svc/web-v2"), "web-v2");
    assert_eq!(goes("/svc/web => /svc/users; /svc/web => ~"), "users");
    assert_eq!(goes("/svc/web => ~ | ~"), "web");
    assert_eq!(goes("/svc/web => ~ | /svc/users"), "users");
    let context_first =
        applied(&[("l5d-dtab", "/svc/web => /svc/web-v2"), ("l5d-ctx-dtab", "/svc/web => /svc/users")], "web");
    assert_eq!(context_first.unwrap().unwrap(), "web-v2", "what a person sets wins over what travels along");
    let repeated =
        applied(&[("l5d-dtab", "/svc/web => /svc/users # one"), ("l5d-dtab", "/svc/web => /svc/web-v2")], "web");
    assert_eq!(repeated.unwrap().unwrap(), "web-v2");
}

#[test]
fn environments_are_prefixes_as_they_were_in_linkerd() {
    let dtab = "/env/prod => /#/file; /env/staging => /#/file/staging; /svc => /env/prod";
    assert_eq!(goes(dtab), "file/web.example");
    assert_eq!(goes(&dtab.replace("/svc => /env/prod", "/svc => /env/staging")), "file/staging/web.example");
    assert!(
        refused(&dtab.replace("/svc => /env/prod", "/svc => /env/none")).contains("`/env/none/web.example` is no name")
    );
    // The staging first, and what it leaves open by prod.
    assert_eq!(goes("/svc => /#/file; /svc => ~"), "file/web.example");
    assert_eq!(goes("/s/* => /#/file; /svc => /s/any"), "file/web.example");
}

#[test]
fn alternatives_are_tiers_and_unions_are_shares() {
    assert_eq!(goes("/svc/web => /svc/web-v2 | /svc/users"), "web-v2 | users");
    assert_eq!(goes("/svc/web => 0.5 * /svc/web-v2 & 1.5 * (/svc/users | /#/file/x)"), "web-v2 & 3 * (users | file/x)");
    assert_eq!(goes("/svc/web => /svc/web-v2 | !"), "web-v2");
    assert_eq!(by("/svc/web => ! | /svc/users"), Err(Problem::Nowhere));
    assert_eq!(by("/svc/web => $"), Err(Problem::Nowhere));
    assert_eq!(by("/svc/web => /$/nil"), Err(Problem::Nowhere));
    assert!(refused("/svc/web => 0.5 * /svc/users & 0.5 * !").ends_with("`!` or `$` with a share does not map"));
}

#[test]
fn namers_map_onto_backends_and_addresses_are_taken_only_if_the_configuration_has_them() {
    for (written, expected) in [
        ("/#/file/a", "file/a"),
        ("/#/io.l5d.fs/a", "file/a"),
        ("/#/io.l5d.consul/dc1/a", "consul/a[dc=dc1]"),
        ("/#/io.l5d.consul/.local/a", "consul/a"),
        ("/#/io.l5d.consul/dc1/canary/a", "consul/a[dc=dc1,tag=canary]"),
        ("/#/io.l5d.k8s/default/http/a", "kubernetes/default/a:http"),
        ("/svc/other.mesh", "file/other"),
        ("/$/inet/10.0.0.1/80", "static/10.0.0.1:80"),
        ("/$/io.buoyant.rinet/80/10.0.0.1", "static/10.0.0.1:80"),
    ] {
        assert_eq!(goes(&format!("/svc/web => {written}")), expected, "{written}");
    }
    for (written, why) in [
        ("/$/inet/10.0.0.2/80", "`static/10.0.0.2:80`: addresses are not taken from a header"),
        ("/$/inet/169.254.169.254/80", "addresses are not taken from a header"),
        ("/$/inet/localhost/80", "`dns/localhost:80`: addresses are not taken from a header"),
        ("/$/inet/10.0.0.1/http", "`http` is no port"),
        ("/#/static/10.0.0.2:80", "addresses are not taken from a header"),
        ("/#/ecs/a", "`ecs/a`: there is no backend `ecs`"),
        ("/#/io.l5d.marathon/a", "the namer `/#/io.l5d.marathon` with 1 parts does not map"),
        ("/#/file/a\\x7cb", "cannot be written as a target"),
        ("/#/file/a\\x20", "cannot be written as a target"),
        ("/#/file", "is no name here"),
        ("/svc/nobody", "there is no service and no logical name `nobody`"),
        ("/svc/users/x", "a name has one part behind `/svc`"),
        ("/x/y", "`/x/y` is no name here"),
    ] {
        let found = refused(&format!("/svc/web => {written}"));
        assert!(found.contains(why), "{written}: {found}");
        assert!(found.starts_with("dtab: `/svc/web => "), "the entry is named: {found}");
    }
}

#[test]
fn what_goes_in_circles_or_can_never_match_is_refused() {
    assert!(refused("/svc/web => /svc/web").contains("goes in circles"));
    assert!(refused("/svc => /a; /a => /svc").contains("goes in circles"));
    let wide = format!(
        "/svc/web => /a; {}",
        "/a => (/b | /b | /b); /b => (/c | /c | /c); /c => (/d | /d | /d); /d => (/e|/e|/e|/e); /e => ~"
    );
    assert!(matches!(by(&wide), Err(Problem::Refused(_))));
    assert!(refused("/svc/1.1/GET/web => /svc/users").contains("no name can come to it"));
    assert!(refused("/http/1.1/GET/web => /svc/users").contains("`/http/1.1/GET/web => /svc/users`: no name can come"));
    assert_eq!(goes("/svc/web.example => /http/1.1/GET/web; /http/1.1 => /m; /m/GET/web => /svc/users"), "users");
}

#[test]
fn meshless_route_names_services_and_what_configured_backends_know() {
    let route = |text: &str| applied(&[("meshless-route", text)], "web");
    assert_eq!(
        route("9 * web-v2 & file/a | static/10.0.0.1:80").unwrap().unwrap(),
        "9 * web-v2 & file/a | static/10.0.0.1:80"
    );
    let wins = applied(&[("meshless-route", "users"), ("l5d-dtab", "/svc/web => /svc/web-v2")], "web");
    assert_eq!(wins.unwrap().unwrap(), "users");
    for (text, why) in [
        ("nobody", "there is no service `nobody`"),
        ("ecs/a", "there is no backend `ecs`"),
        ("static/169.254.169.254:80", "addresses are not taken from a header"),
        ("dns/localhost:80", "addresses are not taken from a header"),
    ] {
        let Err(Problem::Refused(found)) = route(text) else { panic!("{text}: {:?}", route(text)) };
        assert!(found.starts_with("meshless-route: ") && found.contains(why), "{text}: {found}");
    }
    for text in ["", "web |", "Web", "web, users"] {
        assert!(matches!(route(text), Err(Problem::Malformed(_))), "{text}");
    }
    let twice = applied(&[("meshless-route", "web"), ("meshless-route", "users")], "web");
    assert_eq!(twice, Err(Problem::Malformed("meshless-route: it stands there twice".to_owned())));
    assert!(matches!(route(&"(".repeat(5000)), Err(Problem::Malformed(_))));
    assert!(matches!(route(&vec!["web"; MAX_LEAVES + 1].join("|")), Err(Problem::Refused(_))));
}

#[test]
fn what_a_person_set_goes_on_as_context_and_the_rest_as_it_is() {
    let mut set = headers(&[
        ("l5d-ctx-dtab", "/svc/a => /svc/b # why"),
        ("l5d-dtab", "/svc/c=>/svc/d"),
        ("l5d-dtab", "/svc/e => 0.50*/svc/f & /svc/g,"),
        ("meshless-route", "web"),
    ]);
    pass_on(&mut set);
    assert_eq!(set["l5d-ctx-dtab"], "/svc/a => /svc/b; /svc/c => /svc/d; /svc/e => 0.5 * /svc/f & /svc/g");
    assert_eq!((set.get("l5d-dtab"), &set["meshless-route"]), (None, &HeaderValue::from_static("web")));
    let context = [("l5d-ctx-dtab", "/svc/a=>/svc/b")];
    let mut only_context = headers(&context);
    pass_on(&mut only_context);
    assert_eq!(only_context, headers(&context));
}

#[test]
fn a_wrong_dtab_says_where_and_what_is_expected() {
    let cases = [
        ("/svc/web", 8, "expected `=>`, found the end"),
        ("svc => /a", 0, "expected a path such as `/svc/web`, found `s`"),
        ("/svc => ", 8, "expected a path such as `/svc/web`, `(`, `~`, `!` or `$`, found the end"),
        ("/a => /b /c", 9, "expected `|`, `&`, `;` or the end, found `/`"),
        ("/a => (/b", 9, "expected `|`, `&` or `)`, found the end"),
        ("/a => 0.5 /b", 10, "expected `*` after a weight, found `/`"),
        ("/a => 0.1234 * /b", 6, "expected a weight from 0 to 1000 with three decimals at most"),
        ("/a => 1001 * /b", 6, "expected a weight from 0 to 1000 with three decimals at most"),
        ("/a => . * /b", 6, "expected a weight from 0 to 1000 with three decimals at most"),
        ("/a// => /b", 3, "expected a part of a path, found `/`"),
        ("/a => /*", 7, "expected `|`, `&`, `;` or the end, found `*`"),
        ("/a => /\\xzz", 7, "expected an escape such as `\\x2f`, found `\\\\`"),
        ("/a => /\\x00", 7, "expected a part of printable text"),
    ];
    for (text, offset, message) in cases {
        let error = Dtab::parse(text).unwrap_err();
        assert_eq!((error.offset, error.message.as_str()), (offset, message), "{text}");
    }
}

#[test]
fn size_depth_and_number_are_bounded() {
    let nested = |depth: usize| format!("/a => {}/b{}", "(".repeat(depth), ")".repeat(depth));
    assert!(Dtab::parse(&nested(Dtab::MAX_DEPTH)).is_ok());
    assert!(Dtab::parse(&nested(Dtab::MAX_DEPTH + 1)).is_err());
    assert!(Dtab::parse(&"/a=>/b;".repeat(Dtab::MAX_ENTRIES)).is_ok());
    assert!(Dtab::parse(&"/a=>/b;".repeat(Dtab::MAX_ENTRIES + 1)).is_err());
    assert!(Dtab::parse(&format!("/a => {}", "/b".repeat(Dtab::MAX_PARTS))).is_ok());
    assert!(Dtab::parse(&format!("/a => {}", "/b".repeat(Dtab::MAX_PARTS + 1))).is_err());
    assert!(Dtab::parse(&" ".repeat(Dtab::MAX_BYTES + 1)).is_err());
}

#[test]
fn separators_comments_and_spaces_are_free() {
    let parsed = Dtab::parse(" ; , /a=>/b ,\n# a comment; /x\n/#/c => /$/inet/1/2 # the rest ; /y => /z\n ;").unwrap();
    assert_eq!(parsed.to_string(), "/a => /b; /#/c => /$/inet/1/2");
    assert_eq!(Dtab::parse("# nothing").unwrap(), Dtab::default());
    assert_eq!(Dtab::parse("/ => /a|/b&.5*/c").unwrap().to_string(), "/ => /a | /b & 0.5 * /c");
}

fn path() -> impl Strategy<Value = Vec<String>> {
    proptest::collection::vec("[a-zA-Z0-9_:.#$% é/|*=-]{1,5}".prop_filter("a star alone", |part| part != "*"), 0..4)
}

fn tree() -> impl Strategy<Value = Tree> {
    let leaf = prop_oneof![
        4 => path().prop_map(Tree::Path),
        1 => Just(Tree::Neg),
        1 => Just(Tree::Fail),
        1 => Just(Tree::Empty),
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        let weighted = (prop_oneof![Just(Dtab::WEIGHT), 0..=Dtab::MAX_WEIGHT], inner.clone());
        prop_oneof![
            proptest::collection::vec(inner, 2..4).prop_map(Tree::Alt),
            proptest::collection::vec(weighted, 1..4).prop_map(|mut entries| match entries.as_slice() {
                [(Dtab::WEIGHT, _)] => entries.remove(0).1,
                _ => Tree::Union(entries),
            }),
        ]
    })
}

fn dtab() -> impl Strategy<Value = Dtab> {
    let part = prop_oneof![4 => "[a-z0-9.]{1,5}".prop_map(Some), 1 => Just(None)];
    let entry = (proptest::collection::vec(part, 0..4), tree()).prop_map(|(prefix, tree)| Entry { prefix, tree });
    proptest::collection::vec(entry, 0..4).prop_map(|entries| Dtab { entries })
}

proptest! {
    #[test]
    fn what_is_printed_parses_to_the_same(written in dtab()) {
        let text = written.to_string();
        if text.len() <= Dtab::MAX_BYTES {
            prop_assert_eq!(Dtab::parse(&text).map_err(|error| format!("{text}: {error}")), Ok(written));
        }
    }

    #[test]
    fn any_text_is_taken_or_refused_at_a_place_in_it(text in "\\PC{0,40}") {
        if let Err(error) = Dtab::parse(&text) {
            prop_assert!(text.is_char_boundary(error.offset), "{} in {:?}", error.offset, text);
        }
    }

    #[test]
    fn a_text_of_its_own_tokens_is_followed_or_refused_in_bounded_time(
        tokens in proptest::collection::vec(prop::sample::select(vec![
            "/svc", "/web", "/web-v2", "/host", "/web.example", "/#/file", "/$/inet", "/a", "/b", "/*", " => ", " => ", ";", "|", "&",
            "0.5 *", "2*", "(", ")", "~", "!", "$", "#", "\n", "/",
        ]), 0..30),
    ) {
        // Followed, refused or malformed: what matters is that it ends, and that what it says can be read back.
        let text: String = tokens.concat();
        if let Ok(Some(expression)) = applied(&[("l5d-dtab", &text.replace('\n', " "))], "web & users") {
            prop_assert!(Expression::parse(&expression).is_ok(), "{}", expression);
        }
    }

    #[test]
    fn an_entry_for_a_service_changes_that_service_alone(share in 1u32..1000, other in "[a-z]{1,8}") {
        let to = format!("{share} * web & users");
        let found = applied(&[("l5d-dtab", &format!("/svc/{other}x => /svc/web-v2; /svc/users => /svc/web-v2"))], &to);
        let share = if share == 1 { String::new() } else { format!("{share} * ") };
        prop_assert_eq!(found.unwrap().unwrap(), format!("{share}web & web-v2"));
    }
}
