//! What a person may write wrong in `[[routes]]`.

use super::*;

fn route(lines: &str) -> Given {
    toml(&format!(
        "[[listeners]]\nname = \"l\"\nlisten = \"127.0.0.1:1\"\n[[routes]]\nto = \"static/127.0.0.1:2\"\n{lines}\n"
    ))
}

fn matching(inside: &str) -> Given {
    route(&format!("match = {{ {inside} }}"))
}

fn problem(given: &Given) -> String {
    let text = given.problems();
    text.split_once("error: routes[0].").map(|(_, rest)| rest.to_owned()).unwrap_or(text)
}

#[test]
fn each_matcher_says_what_it_takes() {
    for (inside, expected) in [
        (
            "path = \"/a/{id}x\"",
            "match.path: expected a path such as `/v1`, `/v1/*` or `/v1/{id}`, found `/a/{id}x`; a capture is a whole segment, such as `/v1/{id}`",
        ),
        ("path = \"/{a}/{a}\"", "match.path: `a` stands there twice"),
        ("path = \"/{rest}/*\"", "match.path: `rest` is the name of what `*` takes"),
        ("path = \"/{rest}\"", "match.path: `rest` is the name of what `*` takes"),
        ("path = \"/{a-b}\"", "match.path: `a-b` is no name of a capture: letters, digits and `_`"),
        ("path = \"/{}\"", "match.path: `` is no name of a capture: letters, digits and `_`"),
        ("path = \"/{a}/{b}/{c}/{d}/{e}/{f}/{g}/{h}/*\"", "match.path: `*` is one too many; a path captures at most 8"),
        (
            "path = \"/%2f\"",
            "match.path: expected a path such as `/v1`, `/v1/*` or `/v1/{id}`, found `/%2f`; paths are matched in their normal form, with escapes in upper case and only where they are needed",
        ),
        ("path = {}", "match.path.regex: missing: write the expression, such as `{ regex = \"/v[0-9]+/.*\" }`"),
        ("method = []", "match.method: expected at least one method; left out, it stands for every one"),
        (
            "method = [\"get\"]",
            "match.method[0]: expected a method such as `GET`, found `get`; methods are told apart by case, did you mean `GET`?",
        ),
        ("method = [\"GET\", \"A B\"]", "match.method[1]: expected a method such as `GET`, found `A B`"),
        (
            "headers = { \":path\" = \"/\" }",
            "match.headers.:path: `:path` has no place here; match `host`, `path` or `method`",
        ),
        ("headers = { Host = \"a\" }", "match.headers.Host: `Host` is matched by `host`"),
        (
            "headers = { te = \"a\" }",
            "match.headers.te: `te` belongs to one connection and is removed before routes are looked up",
        ),
        ("headers = { \"a b\" = \"a\" }", "match.headers.a b: `a b` is no name of a header"),
        (
            "headers = { x-a = \"1\", X-A = \"2\" }",
            "match.headers.x-a: stands there twice; names of headers do not differ by case",
        ),
        (
            "headers = { x = \"*\" }",
            "match.headers.x: expected a value such as `v`, `v*` or `*v`, found `*`; for any value write `{ present = true }`",
        ),
        (
            "headers = { x = \"*a*\" }",
            "match.headers.x: expected a value such as `v`, `v*` or `*v`, found `*a*`; for a text in the middle write `{ regex = \".*….*\" }`",
        ),
        (
            "headers = { x = \" a\" }",
            "match.headers.x: expected a value such as `v`, `v*` or `*v`, found ` a`; values have no spaces around them, so it would match nothing",
        ),
        (
            "headers = { x = { present = true, regex = \"a\" } }",
            "match.headers.x: expected one of `regex`, `present` and `not`",
        ),
        ("headers = { x = {} }", "match.headers.x: expected one of `regex`, `present` and `not`"),
        (
            "query = { q = { not = \"a*b\" } }",
            "match.query.q.not: expected a value such as `v`, `v*` or `*v`, found `a*b`; a `*` that is meant so needs `{ regex = \"…\" }`",
        ),
        (
            "grpc = \"/a.B/C\"",
            "match.grpc: expected `pkg.Service` or `pkg.Service/Method`, found `/a.B/C`; it begins without `/`",
        ),
        (
            "grpc = \"a.B/*\"",
            "match.grpc: expected `pkg.Service` or `pkg.Service/Method`, found `a.B/*`; for all methods leave `/*` out",
        ),
        (
            "from = \"web\"",
            "match.from: expected a SPIFFE ID such as `spiffe://example.org/svc/web` or `spiffe://example.org/svc/*`, found `web`",
        ),
        (
            "from = \"spiffe://Example.org/a\"",
            "match.from: expected a SPIFFE ID such as `spiffe://example.org/svc/web` or `spiffe://example.org/svc/*`, found `spiffe://Example.org/a`",
        ),
        ("address = []", "match.address: expected 1 to 100 networks, found 0"),
        (
            "address = [\"10.0.0.1/8\"]",
            "match.address[0]: `10.0.0.1/8` has bits behind its prefix; did you mean `10.0.0.0/8`?",
        ),
        (
            "address = [\"::1\", \"x\"]",
            "match.address[1]: expected a network such as `10.0.0.0/8` or `2001:db8::/32`, or one address, found `x`",
        ),
    ] {
        assert_eq!(problem(&matching(inside)), expected, "{inside}");
    }
}

#[test]
fn a_bad_expression_is_told_at_its_byte() {
    let given = matching("path = { regex = \"/v(1\" }, headers = { x = { regex = \"a{2,1}\" } }");
    assert_eq!(
        given.problems(),
        "\
c.toml:6:31: error: routes[0].match.path.regex: expected a regular expression, found `/v(1`: unclosed group (byte 2 of the expression)
c.toml:6:66: error: routes[0].match.headers.x.regex: expected a regular expression, found `a{2,1}`: invalid repetition count range, the start must be <= the end (byte 1 of the expression)"
    );
}

#[test]
fn all_forms_of_matchers_are_taken() {
    for inside in [
        "path = \"/a/{id}/b/*\"",
        "path = { regex = \"/v(?<n>[0-9]+)/.*\" }",
        "path = \"/%3F\"",
        "method = [\"GET\", \"PROPFIND\", \"M-SEARCH\"]",
        "headers = { X-Env = \"v*\", x-b = \"*v\", x-c = { not = { regex = \"a\" } }, x-d = { present = false }, x-e = \"\" }",
        "query = { \"a b\" = \"c d\", q = { not = \"1\" } }",
        "grpc = \"Greeter\"",
        "from = \"spiffe://example.org/*\"",
        "address = [\"10.0.0.0/8\", \"::1\", \"0.0.0.0/0\"]",
    ] {
        assert!(matching(inside).load().is_ok(), "{inside}: {}", matching(inside).problems());
    }
}

#[test]
fn on_passed_tls_only_host_and_address_can_match() {
    let given = |matches: &str, listener: &str| {
        toml(&format!(
            "[[listeners]]\nname = \"l\"\nlisten = \"127.0.0.1:1\"\nprotocol = \"tls-passthrough\"\n[[routes]]\n{listener}\nto = \"static/127.0.0.1:2\"\nmatch = {{ {matches} }}\n"
        ))
    };
    assert!(given("host = \"a\", address = [\"::1\"]", "listener = \"l\"").load().is_ok());
    assert_eq!(
        given("host = \"a\", from = \"spiffe://a/b\"", "listener = \"l\"").problems(),
        "c.toml:8:23: error: routes[0].match.from: the listener `l` does not open TLS and so sees no from; match `host` and `address` alone"
    );
    assert_eq!(
        given("method = [\"GET\"]", "").warnings(),
        "c.toml:5:1: warning: routes[0]: nothing can reach it: no listener without `to` takes it"
    );
}

#[test]
fn a_route_below_a_wider_one_of_any_kind_is_a_warning() {
    let given = route(
        "match = { path = \"/a/{id}\", headers = { x = \"v*\" } }\n\
         [[routes]]\nto = \"static/127.0.0.1:2\"\nmatch = { path = \"/a/b\", headers = { x = \"v1\" }, method = [\"GET\"] }\n\
         [[routes]]\nto = \"static/127.0.0.1:2\"\nmatch = { path = \"/a/b\", headers = { x = \"w\" } }",
    );
    assert_eq!(
        given.warnings(),
        "c.toml:7:1: warning: routes[1]: nothing can reach it: routes[0] stands before it and matches all that it matches"
    );
}

/// A route that has only what is given.
fn doing(lines: &str) -> Given {
    toml(&format!("[[listeners]]\nname = \"l\"\nlisten = \"127.0.0.1:1\"\n[[routes]]\n{lines}\n"))
}

#[test]
fn a_route_has_exactly_one_of_to_redirect_and_respond() {
    for (lines, expected) in [
        ("", "to: missing: say where requests go, such as `to = \"web\"`, or `redirect`, or `respond`"),
        (
            "to = \"static/127.0.0.1:2\"\nrespond = {}",
            "respond: the route has `to` already; keep one of `to`, `redirect` and `respond`",
        ),
        (
            "redirect = { path = \"/a\" }\nrespond = {}",
            "respond: the route has `redirect` already; keep one of `to`, `redirect` and `respond`",
        ),
        ("respond = {}\ntimeout = \"1s\"", "timeout: nothing is sent on by a route with `respond`; remove it"),
        (
            "redirect = { path = \"/a\" }\nmirror = { to = \"static/127.0.0.1:2\" }",
            "mirror: nothing is sent on by a route with `redirect`; remove it",
        ),
        (
            "match = { host = \"a\", path = \"/{id}\" }\nto = \"ecs/prod/{id}\"",
            "to: captures choose targets in `target` of [[names]] alone; name the targets here",
        ),
    ] {
        assert_eq!(problem(&doing(lines)), expected, "{lines}");
    }
    for lines in ["respond = {}", "redirect = { path = \"/a\" }", "respond = {}\nrate_limit = { rate = \"1/s\" }"] {
        assert!(doing(lines).load().is_ok(), "{lines}");
    }
}

#[test]
fn each_action_says_what_it_takes() {
    for (lines, expected) in [
        ("rewrite = {}", "rewrite: changes nothing; give `path` or `host`"),
        (
            "rewrite = { path = \"a\" }",
            "rewrite.path: expected a path such as `/v2/{rest}`, found `a`; a path begins with `/`",
        ),
        (
            "rewrite = { path = \"/a?b\" }",
            "rewrite.path: expected a path such as `/v2/{rest}`, found `/a?b`; a path ends before `?` and `#`, and the query stays as it came",
        ),
        (
            "rewrite = { path = \"/a/*\" }",
            "rewrite.path: expected a path such as `/v2/{rest}`, found `/a/*`; what `*` took is `{rest}`",
        ),
        (
            "rewrite = { path = \"/{rest}\" }",
            "rewrite.path: `{rest}` is what `*` takes; the `path` of `match` has none",
        ),
        (
            "rewrite = { path = \"/{id}\" }",
            "rewrite.path: the `path` of `match` captures nothing; write `{id}` there, too",
        ),
        (
            "match = { path = \"/{a}/*\" }\nrewrite = { path = \"/{b}\" }",
            "rewrite.path: the `path` of `match` does not capture `{b}`; it has `{a}`, `{rest}`",
        ),
        (
            "rewrite = { host = \"http://a\" }",
            "rewrite.host: expected a host such as `api.internal` or `api.internal:8443`, found `http://a`",
        ),
        (
            "rewrite = { host = \"{a}.b\" }",
            "rewrite.host: expected a host such as `api.internal` or `api.internal:8443`, found `{a}.b`; captures stand in paths alone",
        ),
        (
            "headers = { set = { content-length = \"1\" } }",
            "headers.set.content-length: `content-length` says where the message ends; it follows from the body",
        ),
        (
            "headers = { remove = [\"Connection\"] }",
            "headers.remove[0]: `Connection` belongs to one connection; every hop writes its own",
        ),
        ("headers = { set = { Host = \"a\" } }", "headers.set.Host: `Host` is changed by `rewrite = { host = \"…\" }`"),
        (
            "response_headers = { remove = [\"meshless-error\"] }",
            "response_headers.remove[0]: `meshless-error` tells our answers from those of endpoints",
        ),
        (
            "headers = { set = { x = \"a\\nb\" } }",
            "headers.set.x: expected a value of visible ASCII characters without spaces around it, found `a\\nb`",
        ),
        (
            "headers = { set = { x = \"a\" }, remove = [\"X\"] }",
            "headers.remove[0]: is under `set`, too, which replaces every line of it already",
        ),
        ("mirror = {}", "mirror.to: missing: say where copies go, such as `to = \"web-shadow\"`"),
        ("mirror = { to = \"nix\" }", "mirror.to: there is no service `nix`; add [services.nix]"),
        (
            "rate_limit = { per = \"adress\", rate = \"1/s\" }",
            "rate_limit.per: expected `from`, `address` or `header:NAME`, found `adress`; did you mean `address`?; left out, the whole route has one limit",
        ),
        (
            "rate_limit = { per = \"header:a b\", rate = \"1/s\" }",
            "rate_limit.per: expected `from`, `address` or `header:NAME`, found `header:a b`; left out, the whole route has one limit",
        ),
        ("rate_limit = {}", "rate_limit.rate: missing: say how many, such as `rate = \"100/s\"`"),
        (
            "rate_limit = { rate = \"1/s\", burst = 0 }",
            "rate_limit.burst: expected a whole number from 1 to 1000000, found the number 0",
        ),
        ("fault = { share = \"1%\" }", "fault: does nothing; give `delay` or `status`"),
        ("fault = { delay = \"1h\" }", "fault.delay: expected at most 10m"),
        ("fault = { status = 200 }", "fault.status: expected a whole number from 400 to 599, found the number 200"),
        ("retry = { budget = \"1%\" }", "retry.budget: the budget is one for all requests to a service; set it there"),
    ] {
        assert_eq!(problem(&route(lines)), expected, "{lines}");
    }
    for (lines, expected) in [
        ("redirect = {}", "redirect: leads back to itself; give `scheme`, `host` or `path`"),
        (
            "redirect = { status = 200, path = \"/\" }",
            "redirect.status: expected 301, 302, 303, 307 or 308, found the number 200",
        ),
        ("redirect = { scheme = \"ftp\" }", "redirect.scheme: expected `http` or `https`, found `ftp`"),
        (
            "redirect = { path = \"//evil.example\" }",
            "redirect.path: expected a path such as `/v2/{rest}`, found `//evil.example`; it has empty or dot segments",
        ),
        ("respond = { status = 204, body = \"a\" }", "respond.body: a reply with status 204 has no body"),
        ("respond = { status = 100 }", "respond.status: expected a whole number from 200 to 599, found the number 100"),
    ] {
        assert_eq!(problem(&doing(lines)), expected, "{lines}");
    }
}

#[test]
fn what_needs_requests_is_refused_on_passed_tls() {
    let given = toml(
        "[[listeners]]\nname = \"l\"\nlisten = \"127.0.0.1:1\"\nprotocol = \"tls-passthrough\"\n[[routes]]\nlistener = \"l\"\nto = \"static/127.0.0.1:2\"\nrewrite = { path = \"/a\" }\n",
    );
    assert_eq!(
        given.problems(),
        "c.toml:8:1: error: routes[0].rewrite: the listener `l` does not open TLS and so sees no requests; remove `rewrite`"
    );
}

#[test]
fn a_limit_has_a_burst_of_one_second_unless_it_says_otherwise() {
    let burst = |limit: &str| {
        route(&format!("rate_limit = {{ {limit} }}")).config().routes[0].rate_limit.as_ref().unwrap().burst
    };
    assert_eq!((burst("rate = \"100/s\""), burst("rate = \"600/m\""), burst("rate = \"6/h\"")), (100, 10, 1));
    assert_eq!(burst("rate = \"100/s\", burst = 7"), 7);
}
