//! One test for each kind of match and filter, and for what is refused; `precedence` asks who wins.

mod precedence;
mod refused;

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde_json::{Value, json};

use super::*;
use crate::config::{
    HeaderChanges, ListenAddress, ListenerLimits, ListenerProtocol, ListenerTls, RetryOn, RouteAction,
};
use crate::route::{Facts, Router};

/// An object of this kind whose spec is this, with a Gateway for parent unless it says otherwise.
fn object(kind: &str, name: &str, mut spec: Value) -> Value {
    let fields = spec.as_object_mut().unwrap();
    fields.entry("parentRefs").or_insert_with(|| json!([{ "name": "edge" }]));
    json!({
        "apiVersion": "gateway.networking.k8s.io/v1",
        "kind": kind,
        "metadata": { "name": name, "namespace": "shop", "creationTimestamp": "2026-01-01T00:00:00Z" },
        "spec": spec,
        "status": { "parents": [] },
    })
}

/// An `HTTPRoute` called `web` with one rule, which leads to the service `web` unless it says otherwise.
fn http_rule(mut rule: Value) -> Value {
    rule.as_object_mut().unwrap().entry("backendRefs").or_insert_with(|| json!([{ "name": "web", "port": 80 }]));
    object("HTTPRoute", "web", json!({ "rules": [rule] }))
}

fn grpc_rule(mut rule: Value) -> Value {
    rule.as_object_mut().unwrap().entry("backendRefs").or_insert_with(|| json!([{ "name": "web", "port": 80 }]));
    object("GRPCRoute", "web", json!({ "rules": [rule] }))
}

fn translated(objects: &[Value]) -> Translated {
    let listeners = [listener("edge", 8080), listener("inner", 8081)];
    let check = |target: &Target| {
        if target.path.contains("unknown") { Err(format!("`{target}` is wrong")) } else { Ok(()) }
    };
    translate(objects, &Place { backend: "kubernetes", listeners: &listeners, check: &check })
}

fn listener(name: &str, port: u16) -> Listener {
    Listener {
        name: name.to_owned(),
        listen: ListenAddress::Tcp(([127, 0, 0, 1], port).into()),
        protocol: ListenerProtocol::Auto,
        to: None,
        tls: ListenerTls::Off,
        proxy_protocol: false,
        overrides: false,
        allow: None,
        dry_run: false,
        limits: ListenerLimits::default(),
    }
}

/// The routes of objects with which nothing is wrong.
fn routes(objects: &[Value]) -> Vec<Route> {
    let translated = translated(objects);
    assert_eq!(translated.remarks, []);
    assert_eq!(translated.refused, 0);
    translated.routes
}

/// The one route of an object with which nothing is wrong.
fn route(object: Value) -> Route {
    let mut routes = routes(&[object]);
    assert_eq!(routes.len(), 1, "{routes:?}");
    routes.pop().unwrap()
}

/// A request, such as `GET a.example/path?query x-name:value`.
fn wins<'a>(routes: &'a [Route], request: &str) -> Option<&'a Route> {
    let mut words = request.split(' ');
    let (method, url) = (words.next().unwrap(), words.next().unwrap());
    let (host, path) = url.split_at(url.find('/').unwrap());
    let (path, query) = path.split_once('?').unwrap_or((path, ""));
    let mut headers = HeaderMap::new();
    for (name, value) in words.map(|word| word.split_once(':').unwrap()) {
        headers.append(HeaderName::try_from(name).unwrap(), HeaderValue::try_from(value).unwrap());
    }
    let facts = Facts {
        host,
        path,
        query,
        method: &Method::from_bytes(method.as_bytes()).unwrap(),
        headers: &headers,
        is_grpc: crate::proxy::failure::is_grpc(&headers),
        from: None,
        address: None,
    };
    let matched = Router::new(routes.iter().map(|route| &route.matches)).route(&facts)?;
    routes.get(matched.position)
}

fn to(route: &Route) -> String {
    match &route.action {
        RouteAction::To(to) => to.to_string(),
        RouteAction::Redirect(redirect) => format!("redirect {}", redirect.status.as_u16()),
        RouteAction::Respond(respond) => format!("respond {}", respond.status.as_u16()),
    }
}

/// Which of these requests one match takes.
fn takes(object: &Value, requests: &[&str]) -> Vec<bool> {
    let routes = routes(std::slice::from_ref(object));
    requests.iter().map(|request| wins(&routes, request).is_some()).collect()
}

#[test]
fn a_rule_becomes_a_route_that_is_named_after_it() {
    let route = route(http_rule(json!({ "name": "all" })));
    assert_eq!(route.name, "httproute/shop/web/rule-0");
    assert_eq!(to(&route), "kubernetes/shop/web:80");
    assert_eq!(route.listener, None);
    assert_eq!(route.matches.host, None);
    assert!(route.matches.needs_http().is_some(), "a listener that opens no TLS must not take it");
}

#[test]
fn an_object_without_rules_matches_everything_and_answers_500() {
    let translated = translated(&[object("HTTPRoute", "web", json!({}))]);
    assert_eq!(to(&translated.routes[0]), "respond 500");
    assert!(translated.remarks[0].message.contains("no `backendRefs`"), "{:?}", translated.remarks);
}

#[test]
fn hosts_are_exact_or_a_suffix_of_one_or_more_labels() {
    let spec = json!({ "hostnames": ["a.example", "*.B.example"], "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }] });
    let routes = routes(&[object("HTTPRoute", "web", spec)]);
    assert_eq!(routes.len(), 2);
    for (host, is_taken) in [
        ("a.example", true),
        ("a.example:8080", true),
        ("x.a.example", false),
        ("x.b.example", true),
        ("x.y.b.example", true),
        ("b.example", false),
    ] {
        assert_eq!(wins(&routes, &format!("GET {host}/")).is_some(), is_taken, "{host}");
    }
}

#[test]
fn an_exact_path_is_taken_as_it_is() {
    for value in ["/a", "/a/", "/a*", "/a/*", "/a%2Dx", "/{x}"] {
        let exact = http_rule(json!({ "matches": [{ "path": { "type": "Exact", "value": value } }] }));
        let asked = crate::proxy::path::normalise(value).unwrap();
        let requests = [format!("GET a{asked}"), format!("GET a{asked}x"), format!("GET a{asked}/x")];
        let requests: Vec<&str> = requests.iter().map(String::as_str).collect();
        assert_eq!(takes(&exact, &requests), [true, false, false], "{value}");
    }
}

#[test]
fn a_prefix_goes_by_segments_and_a_slash_at_its_end_is_ignored() {
    let requests = ["GET a/abc", "GET a/abc/", "GET a/abc/def", "GET a/abcd", "GET a/"];
    for value in ["/abc", "/abc/"] {
        let prefix = http_rule(json!({ "matches": [{ "path": { "type": "PathPrefix", "value": value } }] }));
        assert_eq!(takes(&prefix, &requests), [true, true, true, false, false], "{value}");
    }
    let default = http_rule(json!({ "matches": [{ "path": { "value": "/abc" } }, { "path": {} }] }));
    assert_eq!(takes(&default, &requests), [true; 5]);
}

#[test]
fn a_regular_expression_is_about_the_whole_path() {
    let regex =
        http_rule(json!({ "matches": [{ "path": { "type": "RegularExpression", "value": "/v[0-9]+/(x|y)" } }] }));
    assert_eq!(
        takes(&regex, &["GET a/v1/x", "GET a/v12/y", "GET a/v1/x/", "GET a/b/v1/x"]),
        [true, true, false, false]
    );
}

#[test]
fn headers_match_exactly_or_by_an_expression_and_all_of_them_must() {
    let matches = json!([{ "headers": [
        { "name": "X-Env", "value": "a*" },
        { "type": "RegularExpression", "name": "x-version", "value": "v[12]" },
        { "name": "x-ENV", "value": "the second of one name does not count" },
    ] }]);
    let requests = [
        "GET a/ x-env:a* x-version:v2",
        "GET a/ x-env:abc x-version:v2",
        "GET a/ x-env:a* x-version:v3",
        "GET a/ x-env:a*",
    ];
    assert_eq!(takes(&http_rule(json!({ "matches": matches })), &requests), [true, false, false, false]);
}

#[test]
fn query_parameters_match_like_headers() {
    let matches = json!([{ "queryParams": [
        { "name": "a", "value": "1" },
        { "type": "RegularExpression", "name": "b", "value": "x+" },
    ] }]);
    let requests = ["GET a/?a=1&b=xx", "GET a/?b=x&a=%31", "GET a/?a=1", "GET a/?a=1&b=xy"];
    assert_eq!(takes(&http_rule(json!({ "matches": matches })), &requests), [true, true, false, false]);
}

#[test]
fn a_method_is_one() {
    let matches = json!([{ "method": "POST" }]);
    assert_eq!(takes(&http_rule(json!({ "matches": matches })), &["POST a/", "GET a/"]), [true, false]);
}

#[test]
fn a_rule_matches_if_one_of_its_matches_does() {
    let matches = json!([{ "path": { "value": "/a" }, "method": "GET" }, { "path": { "value": "/b" } }]);
    let requests = ["GET a/a", "POST a/a", "POST a/b", "GET a/c"];
    assert_eq!(takes(&http_rule(json!({ "matches": matches })), &requests), [true, false, true, false]);
}

#[test]
fn grpc_routes_take_grpc_calls_alone() {
    let calls = [
        "POST a/pkg.Cart/Add content-type:application/grpc",
        "POST a/pkg.Cart/Get content-type:application/grpc+proto",
        "POST a/pkg.Other/Add content-type:application/grpc",
        "POST a/pkg.Cart/Add content-type:application/grpc-web",
        "POST a/pkg.Cart/Add",
    ];
    for (method, taken) in [
        (json!({ "service": "pkg.Cart", "method": "Add" }), [true, false, false, false, false]),
        (json!({ "service": "pkg.Cart" }), [true, true, false, false, false]),
        (json!({ "type": "Exact", "method": "Add" }), [true, false, true, false, false]),
        (
            json!({ "type": "RegularExpression", "service": "pkg[.].*", "method": "(Add|Put)" }),
            [true, false, true, false, false],
        ),
        (json!({ "type": "RegularExpression", "service": "pkg[.]Cart" }), [true, true, false, false, false]),
        (json!({}), [true, true, true, false, false]),
    ] {
        let rule = grpc_rule(json!({ "matches": [{ "method": method.clone() }] }));
        assert_eq!(takes(&rule, &calls), taken, "{method}");
    }
    assert_eq!(takes(&grpc_rule(json!({})), &calls), [true, true, true, false, false]);
    let header = json!({ "method": { "service": "pkg.Cart" }, "headers": [{ "name": "x-a", "value": "1" }] });
    assert_eq!(takes(&grpc_rule(json!({ "matches": [header] })), &calls[..1]), [false]);
}

#[test]
fn backends_share_by_weight_and_one_is_the_default() {
    for (refs, expected) in [
        (json!([{ "name": "web", "port": 80 }]), "kubernetes/shop/web:80"),
        (
            json!([{ "name": "web", "port": 80, "weight": 90 }, { "name": "next", "port": 81, "weight": 10 }]),
            "90 * kubernetes/shop/web:80 & 10 * kubernetes/shop/next:81",
        ),
        (
            json!([{ "name": "web", "port": 80, "weight": 0 }, { "name": "next", "port": 81, "namespace": "shop", "kind": "Service", "group": "" }]),
            "0 * kubernetes/shop/web:80 & kubernetes/shop/next:81",
        ),
    ] {
        assert_eq!(to(&route(http_rule(json!({ "backendRefs": refs })))), expected);
    }
}

fn changes(set: &[(&str, &str)], add: &[(&str, &str)], remove: &[&str]) -> HeaderChanges {
    let pairs = |pairs: &[(&str, &str)]| {
        pairs.iter().map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap())).collect()
    };
    HeaderChanges {
        set: pairs(set),
        add: pairs(add),
        remove: remove.iter().map(|name| name.parse().unwrap()).collect(),
    }
}

#[test]
fn headers_are_set_added_and_removed_both_ways() {
    let modifier = json!({ "set": [{ "name": "X-A", "value": "1" }], "add": [{ "name": "x-b", "value": "2" }], "remove": ["x-c"] });
    let route = route(http_rule(json!({ "filters": [
        { "type": "RequestHeaderModifier", "requestHeaderModifier": modifier },
        { "type": "ResponseHeaderModifier", "responseHeaderModifier": { "add": [{ "name": "x-d", "value": "3" }] } },
    ] })));
    assert_eq!(route.headers, changes(&[("x-a", "1")], &[("x-b", "2")], &["x-c"]));
    assert_eq!(route.response_headers, changes(&[], &[("x-d", "3")], &[]));
    let mut headers: HeaderMap = [("x-a", "0"), ("x-b", "0"), ("x-c", "0")]
        .map(|(name, value)| (name.parse().unwrap(), value.parse().unwrap()))
        .into_iter()
        .collect();
    route.headers.apply(&mut headers);
    let all = |name: &str| headers.get_all(name).iter().map(|value| value.to_str().unwrap()).collect::<Vec<_>>();
    assert_eq!([all("x-a"), all("x-b"), all("x-c")], [vec!["1"], vec!["0", "2"], vec![]]);
}

#[test]
fn a_redirect_is_302_unless_it_says_otherwise() {
    let redirect = |what: Value| {
        let filters = json!([{ "type": "RequestRedirect", "requestRedirect": what }]);
        let route = route(http_rule(json!({ "backendRefs": [], "filters": filters })));
        let RouteAction::Redirect(redirect) = route.action else { panic!("{route:?}") };
        redirect
    };
    let found = redirect(json!({ "scheme": "https", "statusCode": 301 }));
    assert_eq!((found.status.as_u16(), found.scheme), (301, Some("https")));
    let found = redirect(
        json!({ "hostname": "b.example", "port": 8443, "path": { "type": "ReplaceFullPath", "replaceFullPath": "/x" } }),
    );
    assert_eq!((found.status.as_u16(), found.host.as_deref(), found.port), (302, Some("b.example"), Some(8443)));
    assert_eq!(found.path.unwrap().to_string(), "/x");
}

/// The path that an endpoint sees, or a client is sent to.
fn rewritten(prefix: &str, path: impl Into<Value>, asked: &str) -> String {
    let rule = json!({
        "matches": [{ "path": { "type": "PathPrefix", "value": prefix } }],
        "filters": [{ "type": "URLRewrite", "urlRewrite": { "path": path.into() } }],
    });
    let route = route(http_rule(rule));
    let rewrite = route.rewrite.as_ref().unwrap();
    let matched = Router::new([&route.matches]);
    let facts = Facts {
        host: "a",
        path: asked,
        query: "",
        method: &Method::GET,
        headers: &HeaderMap::new(),
        is_grpc: false,
        from: None,
        address: None,
    };
    let captures = matched.route(&facts).unwrap().captures;
    let (mut parts, ()) = http::Request::builder().uri(asked).body(()).unwrap().into_parts();
    crate::proxy::actions::rewrite(rewrite, &captures, &mut parts).unwrap();
    parts.uri.to_string()
}

#[test]
fn a_prefix_is_replaced_as_the_table_of_the_gateway_api_says() {
    // HTTPPathModifier, `replacePrefixMatch`.
    for (asked, prefix, replacement, expected) in [
        ("/foo/bar", "/foo", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo", "/xyz/", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz", "/xyz/bar"),
        ("/foo/bar", "/foo/", "/xyz/", "/xyz/bar"),
        ("/foo", "/foo", "/xyz", "/xyz"),
        ("/foo/", "/foo", "/xyz", "/xyz/"),
        ("/foo/bar", "/foo", "", "/bar"),
        ("/foo/", "/foo", "", "/"),
        ("/foo", "/foo", "", "/"),
        ("/foo/", "/foo", "/", "/"),
        ("/foo", "/foo", "/", "/"),
        ("/a/b", "/", "/xyz", "/xyz/a/b"),
    ] {
        let path = json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": replacement });
        assert_eq!(rewritten(prefix, path, asked), expected, "{asked}: {prefix} by {replacement}");
    }
    assert_eq!(rewritten("/foo", json!({ "type": "ReplaceFullPath", "replaceFullPath": "/one" }), "/foo/bar"), "/one");
}

#[test]
fn a_host_is_rewritten() {
    let filters = json!([{ "type": "URLRewrite", "urlRewrite": { "hostname": "Inner.example" } }]);
    let rewrite = route(http_rule(json!({ "filters": filters }))).rewrite.unwrap();
    assert_eq!(rewrite.host.unwrap(), "inner.example");
}

#[test]
fn a_share_of_requests_is_mirrored() {
    for (told, share) in [
        (json!({}), 1.0),
        (json!({ "percent": 5 }), 0.05),
        (json!({ "percent": 0 }), 0.0),
        (json!({ "fraction": { "numerator": 1, "denominator": 8 } }), 0.125),
        (json!({ "fraction": { "numerator": 7 } }), 0.07),
    ] {
        let mut mirror = json!({ "backendRef": { "name": "shadow", "port": 81 } });
        mirror.as_object_mut().unwrap().extend(told.as_object().unwrap().clone());
        for rule in [http_rule, grpc_rule] {
            let filters = json!([{ "type": "RequestMirror", "requestMirror": mirror }]);
            let found = route(rule(json!({ "filters": filters }))).mirror.unwrap();
            assert_eq!(found.to.to_string(), "kubernetes/shop/shadow:81");
            assert!((found.share - share).abs() < 1e-9, "{told}");
        }
    }
}

#[test]
fn timeouts_bound_the_request_and_each_try() {
    let route = |timeouts: Value| route(http_rule(json!({ "timeouts": timeouts })));
    let both = route(json!({ "request": "10s", "backendRequest": "2s500ms" }));
    assert_eq!(both.timeout, Some(Duration::from_secs(10)));
    assert_eq!(both.retry.unwrap().per_try, Some(Duration::from_millis(2500)));
    let none = route(json!({}));
    assert_eq!((none.timeout, none.retry), (None, None));
    assert!(route(json!({ "request": "0s" })).timeout.unwrap() > Duration::from_hours(1000), "0s is no limit");
}

#[test]
fn retries_come_after_the_first_try_and_never_after_a_reset() {
    let retry = |retry: Value| route(http_rule(json!({ "retry": retry }))).retry.unwrap();
    let found = retry(json!({ "codes": [500, 503], "attempts": 3, "backoff": "100ms" }));
    let on = [RetryOn::Connect, RetryOn::GrpcUnavailable, RetryOn::Status(500), RetryOn::Status(503)];
    assert_eq!(found.on, Some(on.into()));
    assert_eq!(found.attempts, Some(4));
    assert_eq!(found.backoff, Some((Duration::from_millis(100), Duration::from_secs(1))));
    assert_eq!(retry(json!({ "attempts": 0 })).attempts, Some(1), "none");
    assert_eq!(retry(json!({})).attempts, None, "the service's");
}

#[test]
fn a_section_name_is_the_name_of_a_listener_and_a_port_its_port() {
    let listeners = |parents: Value| {
        let spec = json!({ "parentRefs": parents, "rules": [{ "backendRefs": [{ "name": "web", "port": 80 }] }] });
        let routes = routes(&[object("HTTPRoute", "web", spec)]);
        routes.into_iter().map(|route| route.listener).collect::<Vec<_>>()
    };
    assert_eq!(listeners(json!([{ "name": "any" }])), [None]);
    assert_eq!(listeners(json!([{ "name": "any", "sectionName": "inner" }])), [Some("inner".to_owned())]);
    assert_eq!(listeners(json!([{ "name": "any", "port": 8080 }])), [Some("edge".to_owned())]);
    let both = json!([{ "name": "any", "sectionName": "inner" }, { "name": "any", "port": 8080 }]);
    assert_eq!(listeners(both), [Some("edge".to_owned()), Some("inner".to_owned())]);
    assert_eq!(listeners(json!([{ "name": "any", "sectionName": "inner" }, { "name": "other" }])), [None]);
}
