//! Who wins: the words of the Gateway API, one test each.

use serde_json::{Value, json};

use super::{object, routes, to, wins};

/// An `HTTPRoute` with one rule that leads to a service of its own name.
fn http(name: &str, hostnames: &[&str], matches: impl Into<Value>) -> Value {
    let rules = json!([{ "matches": matches.into(), "backendRefs": [{ "name": name, "port": 80 }] }]);
    object("HTTPRoute", name, json!({ "hostnames": hostnames, "rules": rules }))
}

fn grpc(name: &str, hostnames: &[&str], matches: impl Into<Value>) -> Value {
    let rules = json!([{ "matches": matches.into(), "backendRefs": [{ "name": name, "port": 80 }] }]);
    object("GRPCRoute", name, json!({ "hostnames": hostnames, "rules": rules }))
}

fn created(mut object: Value, at: &str) -> Value {
    object["metadata"]["creationTimestamp"] = json!(at);
    object
}

fn path(kind: &str, value: &str) -> Value {
    json!({ "path": { "type": kind, "value": value } })
}

/// Asserts that `winner` gets the request, whatever the order of the objects.
fn assert_wins(objects: &[Value], request: &str, winner: &str) {
    let mut objects = objects.to_vec();
    for _ in 0..objects.len() {
        let routes = routes(&objects);
        let found = wins(&routes, request).map(to);
        assert_eq!(found.as_deref(), Some(&*format!("kubernetes/shop/{winner}:80")), "{request}");
        objects.rotate_left(1);
    }
}

#[test]
fn an_exact_host_wins_over_a_wildcard_and_the_longer_wildcard_over_the_shorter() {
    let any = || json!([path("PathPrefix", "/")]);
    let objects = [
        http("anything", &[], json!([path("Exact", "/x")])),
        http("short", &["*.example"], json!([path("Exact", "/x")])),
        http("long", &["*.a.example"], any()),
        http("exact", &["b.a.example"], any()),
    ];
    assert_wins(&objects, "GET b.a.example/x", "exact");
    assert_wins(&objects, "GET c.a.example/x", "long");
    assert_wins(&objects, "GET c.example/x", "short");
    assert_wins(&objects, "GET other/x", "anything");
}

#[test]
fn a_host_with_no_route_for_a_path_leaves_it_to_a_wider_one() {
    let objects =
        [http("exact", &["a.example"], json!([path("Exact", "/x")])), http("wide", &["*.example"], json!([{}]))];
    assert_wins(&objects, "GET a.example/y", "wide");
}

#[test]
fn an_exact_path_wins_over_an_expression_and_that_over_the_longest_prefix() {
    let objects = [
        http("root", &[], json!([path("PathPrefix", "/")])),
        http("prefix", &[], json!([path("PathPrefix", "/a")])),
        http("longer", &[], json!([path("PathPrefix", "/a/b")])),
        http("regex", &[], json!([path("RegularExpression", "/a/b/[cd]")])),
        http("exact", &[], json!([path("Exact", "/a/b/c")])),
    ];
    for (request, winner) in [
        ("GET a/a/b/c", "exact"),
        ("GET a/a/b/d", "regex"),
        ("GET a/a/b/e", "longer"),
        ("GET a/a/x", "prefix"),
        ("GET a/ab", "root"),
    ] {
        assert_wins(&objects, request, winner);
    }
}

#[test]
fn a_method_wins_over_any_number_of_headers() {
    // CVE-2024-42487 of cilium: the other way round, requests came to backends that they were not meant for.
    let headers = json!([{ "headers": [{ "name": "x-a", "value": "1" }, { "name": "x-b", "value": "2" }] }]);
    let objects = [http("headers", &[], headers), http("method", &[], json!([{ "method": "GET" }]))];
    assert_wins(&objects, "GET a/ x-a:1 x-b:2", "method");
    assert_wins(&objects, "POST a/ x-a:1 x-b:2", "headers");
}

#[test]
fn more_headers_win_over_fewer_and_headers_over_query_parameters() {
    let header = |name: &str| json!({ "name": name, "value": "1" });
    let objects = [
        http("two", &[], json!([{ "headers": [header("x-a"), header("x-b")] }])),
        http("one", &[], json!([{ "headers": [header("x-a")], "queryParams": [header("q"), header("r")] }])),
        http("query", &[], json!([{ "queryParams": [header("q"), header("r")] }])),
        http("less", &[], json!([{ "queryParams": [header("q")] }])),
    ];
    assert_wins(&objects, "GET a/?q=1&r=1 x-a:1 x-b:1", "two");
    assert_wins(&objects, "GET a/?q=1&r=1 x-a:1", "one");
    assert_wins(&objects, "GET a/?q=1&r=1", "query");
    assert_wins(&objects, "GET a/?q=1", "less");
}

#[test]
fn of_equals_the_oldest_wins_then_the_first_by_name() {
    let any = || json!([path("PathPrefix", "/")]);
    let (old, new) = ("2025-12-31T23:59:59Z", "2026-01-01T00:00:00Z");
    let by_age = [created(http("a", &[], any()), new), created(http("z", &[], any()), old)];
    assert_wins(&by_age, "GET a/", "z");
    let by_name = [created(http("b", &[], any()), new), created(http("a", &[], any()), new)];
    assert_wins(&by_name, "GET a/", "a");
}

#[test]
fn of_equal_rules_of_one_object_the_first_wins() {
    let rule = |name: &str| json!({ "backendRefs": [{ "name": name, "port": 80 }] });
    let rules: Vec<Value> = (0..12).map(|number| rule(&format!("n{number}"))).collect();
    assert_wins(&[object("HTTPRoute", "web", json!({ "rules": rules }))], "GET a/", "n0");
}

#[test]
fn longer_services_methods_and_more_headers_win_among_grpc_routes() {
    let method = |service: &str, method: &str| json!({ "method": { "service": service, "method": method } });
    let mut with_header = method("pkg.Cart", "");
    with_header["headers"] = json!([{ "name": "x-a", "value": "1" }]);
    let objects = [
        grpc("any", &[], json!([{}])),
        grpc("service", &[], json!([method("pkg.Cart", "")])),
        grpc("header", &[], json!([with_header])),
        grpc("method", &[], json!([method("pkg.Cart", "Add")])),
    ];
    let grpc = "content-type:application/grpc";
    assert_wins(&objects, &format!("POST a/pkg.Cart/Add {grpc} x-a:1"), "method");
    assert_wins(&objects, &format!("POST a/pkg.Cart/Get {grpc} x-a:1"), "header");
    assert_wins(&objects, &format!("POST a/pkg.Cart/Get {grpc}"), "service");
    assert_wins(&objects, &format!("POST a/pkg.Other/Get {grpc}"), "any");
}

#[test]
fn for_one_host_grpc_calls_go_by_grpc_routes_and_all_else_by_http_routes() {
    let objects = [
        http("pages", &["a.example"], json!([path("Exact", "/pkg.Cart/Add")])),
        grpc("calls", &["a.example"], json!([{}])),
        grpc("wide", &[], json!([{ "method": { "service": "pkg.Cart", "method": "Add" } }])),
    ];
    assert_wins(&objects, "POST a.example/pkg.Cart/Add content-type:application/grpc", "calls");
    assert_wins(&objects, "POST a.example/pkg.Cart/Add", "pages");
}
