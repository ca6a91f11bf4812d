use std::collections::BTreeMap;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use meshless_platforms::Scripted;
use proptest::prelude::*;

use super::*;
use crate::config::{PathMatch, load};
use crate::proxy::path;

const WEB: &str = "spiffe://example.org/svc/web";
const API: &str = "spiffe://example.org/svc/api";

/// Rules as a person writes them, checked.
fn allow(rules: &str) -> Allow {
    let directory = tempfile::tempdir().unwrap();
    let text = format!(
        "[[listeners]]\nlisten = \"127.0.0.1:1\"\nto = \"static/127.0.0.1:2\"\nallow = [{rules}]\n\
         tls = {{ mode = \"server\", cert = \"/c\", key = \"/k\", client_ca = \"/a\" }}\n"
    );
    std::fs::write(directory.path().join("c.toml"), text).unwrap();
    let loaded = load(&[directory.path().to_owned()], &Scripted(BTreeMap::new()), &BTreeMap::new());
    let loaded = loaded.unwrap_or_else(|problems| panic!("{problems}"));
    Allow::new(&loaded.config.listeners[0]).unwrap()
}

/// A request with its path in normal form, or none where it is refused before.
struct Sent {
    method: Method,
    path: String,
    headers: HeaderMap,
    from: Option<&'static str>,
    is_grpc: bool,
}

fn get(path: &str) -> Sent {
    Sent { method: Method::GET, path: path.to_owned(), headers: HeaderMap::new(), from: Some(WEB), is_grpc: false }
}

impl Sent {
    fn of(self, from: Option<&'static str>) -> Self {
        Self { from, ..self }
    }

    fn by(self, method: Method) -> Self {
        Self { method, ..self }
    }

    fn with(mut self, name: &'static str, value: &'static str) -> Self {
        self.headers.insert(HeaderName::from_static(name), HeaderValue::from_static(value));
        self
    }

    fn facts(&self) -> Facts<'_> {
        Facts {
            host: "h",
            path: &self.path,
            query: "",
            method: &self.method,
            headers: &self.headers,
            is_grpc: self.is_grpc,
            from: self.from,
            address: Some([10, 0, 0, 1].into()),
        }
    }

    fn by_rules(&self, rules: &str) -> Option<usize> {
        match allow(rules).decide(Asked::Request(&self.facts())) {
            Decision::Allowed(rule) => Some(rule),
            Decision::Denied => None,
        }
    }
}

#[test]
fn every_condition_of_a_rule_has_to_hold_and_one_rule_is_enough() {
    let rules = "{ from = \"spiffe://example.org/svc/web\", methods = [\"GET\", \"HEAD\"], path = \"/v1/*\" }, \
                 { from = \"spiffe://example.org/svc/api\" }, { path = \"/healthz\" }, \
                 { headers = { x-token = \"t*\" }, address = [\"10.0.0.0/8\"] }";
    for (sent, expected) in [
        (get("/v1/x"), Some(0)),
        (get("/v1"), Some(0)),
        (get("/v10"), None),
        (get("/v1/x").by(Method::POST), None),
        (get("/v1/x").by(Method::POST).of(Some(API)), Some(1)),
        (get("/v1/x").of(None), None),
        (get("/healthz").of(None), Some(2)),
        (get("/healthz/").of(None), None),
        (get("/HEALTHZ").of(None), None),
        (get("/x").of(None).with("x-token", "t1"), Some(3)),
        (get("/x").of(None).with("x-token", "u1"), None),
        (get("*").by(Method::OPTIONS), None),
    ] {
        assert_eq!(sent.by_rules(rules), expected, "{} {} {:?}", sent.method, sent.path, sent.from);
    }
}

#[test]
fn no_rules_allow_nobody() {
    assert_eq!(get("/").by_rules(""), None);
}

#[test]
fn an_identity_is_compared_as_a_whole_or_below_a_slash() {
    let of = |from, id| get("/").of(Some(id)).by_rules(&format!("{{ from = \"{from}\" }}")).is_some();
    assert!(of("spiffe://example.org/svc/*", "spiffe://example.org/svc/web"));
    assert!(of("spiffe://example.org/*", "spiffe://example.org/svc/web"));
    assert!(!of("spiffe://example.org/svc/*", "spiffe://example.org/svc"));
    assert!(!of("spiffe://example.org/svc/*", "spiffe://example.org/svc2/web"));
    assert!(!of("spiffe://example.org/svc/web", "spiffe://example.org/svc/web2"));
    assert!(!of("spiffe://example.org/svc/web", "spiffe://example.org/svc/web/x"));
    assert!(!of("spiffe://example.org/*", "spiffe://example.org.evil.com/svc/web"));
}

#[test]
fn grpc_methods_are_known_by_path_and_content_type() {
    let rules = "{ grpc = \"greet.v1.Greeter/Hello\" }";
    let call = |path| Sent { is_grpc: true, ..get(path).by(Method::POST) };
    assert_eq!(call("/greet.v1.Greeter/Hello").by_rules(rules), Some(0));
    assert_eq!(call("/greet.v1.Greeter/Bye").by_rules(rules), None);
    assert_eq!(get("/greet.v1.Greeter/Hello").by_rules(rules), None);
}

#[test]
fn a_segment_that_hides_dots_behind_a_parameter_fits_no_path() {
    for path in ["/public/..;/admin", "/public/..;x=1/admin", "/public/.;/..%3B/admin", "/public/..%3Bx/admin", "/..;"]
    {
        assert!(is_ambiguous(path), "{path}");
        assert_eq!(get(path).by_rules("{ path = \"/public/*\" }"), None, "{path}");
        assert_eq!(get(path).by_rules("{ path = { regex = \"/.*\" } }"), None, "{path}");
        assert_eq!(get(path).by_rules("{ path = \"/*\" }, { methods = [\"GET\"] }"), Some(1), "{path}");
    }
    for path in ["/public/a;x=1", "/public/...;x", "/public/;/x", "/public/a..;/x"] {
        assert!(!is_ambiguous(path), "{path}");
        assert_eq!(get(path).by_rules("{ path = \"/public/*\" }"), Some(0), "{path}");
    }
}

#[test]
fn bytes_are_allowed_by_rules_alone_that_ask_for_no_request() {
    let decide = |rules: &str, from| allow(rules).decide(Asked::Bytes(from, Some([10, 0, 0, 1].into())));
    let web = format!("{{ from = \"{WEB}\" }}");
    assert_eq!(decide(&web, Some(WEB)), Decision::Allowed(0));
    assert_eq!(decide(&web, Some(API)), Decision::Denied);
    assert_eq!(decide(&web, None), Decision::Denied);
    assert_eq!(decide("{ address = [\"10.0.0.0/8\"] }", None), Decision::Allowed(0));
    // Each of these would hold of a request that has nothing.
    for rule in ["path = \"/*\"", "methods = [\"CONNECT\"]", "headers = { x = { present = false } }"] {
        assert_eq!(decide(&format!("{{ {rule} }}"), Some(WEB)), Decision::Denied, "{rule}");
    }
}

#[test]
fn the_nearest_rule_misses_least_and_knows_the_client() {
    let rules = allow(&format!(
        "{{ from = \"{API}\", path = \"/v1/*\" }}, {{ from = \"{WEB}\", methods = [\"GET\"], path = \"/v1/*\" }}, \
         {{ from = \"{API}\", methods = [\"GET\"], path = \"/v2/*\" }}"
    ));
    let sent = get("/v1/x").by(Method::POST);
    let whys = rules.why(Asked::Request(&sent.facts()));
    assert_eq!(whys.len(), 3);
    let nearest = nearest(&whys).unwrap();
    assert_eq!(nearest.rule, 1);
    assert_eq!(nearest.misses, [Miss { key: "methods".to_owned(), found: "`POST`".to_owned() }]);
    let all: Vec<_> = whys[2].misses.iter().map(|miss| miss.key.as_str()).collect();
    assert_eq!(all, ["path", "methods", "from"]);
    assert_eq!(super::nearest(&[]), None);
}

#[test]
fn who_is_connected_stays_as_long_as_a_rule_is_about_it() {
    let rules = allow(&format!("{{ from = \"{WEB}\", path = \"/v1/*\" }}, {{ from = \"{API}\" }}"));
    assert!(still_allowed(None, None, None, true), "there are no rules");
    assert!(still_allowed(Some(&rules), Some(WEB), None, false), "some request of its may be allowed");
    assert!(!still_allowed(Some(&rules), Some(WEB), None, true), "bytes have no path");
    assert!(still_allowed(Some(&rules), Some(API), None, true));
    assert!(!still_allowed(Some(&rules), None, None, false));
    let dry = Allow { is_dry_run: true, ..rules };
    assert!(still_allowed(Some(&dry), None, None, true));
}

/// What a server makes of a path that it has not seen in normal form: it decodes, cuts parameters off, and goes up.
fn as_servers_read(path: &str) -> String {
    let mut segments: Vec<String> = Vec::new();
    for segment in path.split('/').skip(1) {
        let cut = segment.replace("%3B", ";").replace("%2E", ".").replace("%2e", ".");
        match cut.split(';').next().unwrap() {
            "" | "." => {}
            ".." => drop(segments.pop()),
            other => segments.push(other.to_owned()),
        }
    }
    format!("/{}", segments.join("/"))
}

proptest! {
    /// Whatever is sent, what rules let through below `/a` is below `/a` for who gets it, and in the same form.
    #[test]
    fn a_path_that_a_rule_allows_is_the_path_that_is_sent(written in "(/|/a/)([ab./;]|%2e|%2E|%3b|%2f|%5c|%61){0,12}") {
        let Ok(sent) = path::normalise(&written) else { return Ok(()) };
        prop_assert_eq!(&*path::normalise(&sent).unwrap(), &*sent, "the form that rules see is the one that is sent");
        let request = get(&sent);
        let rule = Match { path: Some(PathMatch::Template(crate::config::PathTemplate::new("/a/*"))), ..Match::default() };
        let rules = Allow { router: Router::new([&rule]), rules: vec![rule], is_dry_run: false, looks_at_paths: true };
        if rules.decide(Asked::Request(&request.facts())) == Decision::Allowed(0) {
            let read = as_servers_read(&sent);
            prop_assert!(read == "/a" || read.starts_with("/a/"), "{} is read as {}", sent, read);
        }
    }

    /// The index and the walk for people say the same.
    #[test]
    fn what_decides_and_what_explains_agree(path in "/[ab]{0,2}(/[ab;.]{1,3}){0,2}", post in any::<bool>(), from in 0..3_usize) {
        let from = [None, Some(WEB), Some(API)][from];
        let sent = get(&path).by(if post { Method::POST } else { Method::GET }).of(from);
        let below = |path: &str| Some(PathMatch::Template(crate::config::PathTemplate::new(path)));
        let only = |id: &str| Some(crate::config::FromMatch::Exact(id.to_owned()));
        let rules = vec![
            Match { path: below("/a/*"), from: only(WEB), ..Match::default() },
            Match { path: below("/b/{x}"), methods: vec![Method::GET], ..Match::default() },
            Match { from: only(API), methods: vec![Method::POST], ..Match::default() },
        ];
        let rules = Allow { router: Router::new(&rules), rules, is_dry_run: false, looks_at_paths: true };
        let facts = sent.facts();
        let whys = rules.why(Asked::Request(&facts));
        let first = (0..3).find(|rule| whys.iter().all(|why| why.rule != *rule));
        let expected = first.map_or(Decision::Denied, Decision::Allowed);
        prop_assert_eq!(rules.decide(Asked::Request(&facts)), expected);
    }
}
