//! What is not understood is never widened: it is left out, or answered with an error, and told.

use serde_json::{Value, json};

use super::{grpc_rule, http_rule, object, to, translated, wins};
use crate::gateway_api::{Effect, Translated};

fn one(object: Value) -> Translated {
    translated(&[object])
}

/// Asserts that a rule is not served, and that this is told.
fn assert_left_out(object: Value, words: &str) {
    let translated = one(object);
    assert_eq!((translated.routes.len(), translated.used, translated.refused), (0, 0, 1), "{translated:?}");
    let remark = translated.remarks.first().unwrap();
    assert_eq!(remark.effect, Effect::LeftOut);
    assert!(remark.to_string().contains(words), "{remark}");
}

/// Asserts that a rule answers with an error, and that this is told.
fn assert_answers(status: u16, object: Value, words: &str) {
    let translated = one(object);
    assert_eq!((translated.used, translated.refused), (0, 1), "{translated:?}");
    assert_eq!(to(&translated.routes[0]), format!("respond {status}"));
    let remark = translated.remarks.iter().find(|remark| remark.effect == Effect::Answers(status, 1.0)).unwrap();
    assert!(remark.to_string().contains(words), "{remark}");
}

#[test]
fn a_match_that_is_not_known_takes_its_rule_out() {
    for (matches, words) in [
        (json!([{ "path": { "type": "Glob", "value": "/a" } }]), "`matches[0].path.type` is `Glob`"),
        (json!([{}, { "headers": [{ "type": "Present", "name": "a", "value": "" }] }]), "`matches[1].headers[0].type`"),
        (
            json!([{ "queryParams": [{ "type": "Prefix", "name": "a", "value": "" }] }]),
            "`matches[0].queryParams[0].type`",
        ),
        (json!([{ "cookies": [] }]), "unknown field `cookies`"),
        (json!([{ "path": { "value": "/a", "caseSensitive": false } }]), "unknown field `caseSensitive`"),
        (json!([{ "headers": [{ "name": "a", "value": "b", "invert": true }] }]), "unknown field `invert`"),
        (json!({}), "`matches` is not understood"),
    ] {
        assert_left_out(http_rule(json!({ "matches": matches })), words);
    }
    for (matches, words) in [
        (json!([{ "method": { "type": "Prefix", "service": "a" } }]), "`matches[0].method.type` is `Prefix`"),
        (json!([{ "method": { "service": "a", "stream": true } }]), "unknown field `stream`"),
        (json!([{ "path": { "value": "/" } }]), "unknown field `path`"),
    ] {
        assert_left_out(grpc_rule(json!({ "matches": matches })), words);
    }
}

#[test]
fn a_match_that_could_never_hold_takes_its_rule_out() {
    let path = |kind: &str, value: &str| json!([{ "path": { "type": kind, "value": value } }]);
    for (matches, words) in [
        (path("Exact", "a"), "a path begins with `/`"),
        (path("Exact", "/a?b"), "no path has"),
        (path("PathPrefix", "/a%2Fb"), "are refused"),
        (path("PathPrefix", &"/a".repeat(65)), "at most 64 segments"),
        (path("RegularExpression", "/("), "expected a regular expression"),
        (json!([{ "headers": [{ "name": "connection", "value": "x" }] }]), "is removed before routes"),
        (json!([{ "headers": [{ "name": "Host", "value": "x" }] }]), "`host`"),
        (json!([{ "method": "get" }]), "expected a method"),
    ] {
        assert_left_out(http_rule(json!({ "matches": matches })), words);
    }
}

#[test]
fn the_other_rules_of_an_object_stay() {
    let rules = json!([
        { "matches": [{ "path": { "type": "Glob", "value": "/a" } }], "backendRefs": [{ "name": "a", "port": 80 }] },
        { "matches": [{ "path": { "value": "/b" } }], "backendRefs": [{ "name": "b", "port": 80 }] },
    ]);
    let translated = one(object("HTTPRoute", "web", json!({ "rules": rules })));
    assert_eq!((translated.used, translated.refused, translated.routes.len()), (1, 1, 1));
    assert_eq!(translated.routes[0].name, "httproute/shop/web/rule-1");
    assert_eq!(translated.remarks[0].about, "httproute/shop/web/rule-0");
}

#[test]
fn a_filter_that_is_not_known_answers_500_and_is_not_skipped() {
    let redirect = |what: Value| json!([{ "type": "RequestRedirect", "requestRedirect": what }]);
    let rewrite = |path: Value| json!([{ "type": "URLRewrite", "urlRewrite": { "path": path } }]);
    let set = |name: &str| {
        let modifier = json!({ "set": [{ "name": name, "value": "x" }] });
        json!([{ "type": "RequestHeaderModifier", "requestHeaderModifier": modifier }])
    };
    for (filters, words) in [
        (json!([{ "type": "CORS", "cors": {} }]), "`filters[0].type` is `CORS`"),
        (json!([{ "type": "ExtensionRef", "extensionRef": {} }]), "`ExtensionRef`"),
        (json!([{ "type": "RequestHeaderModifier" }]), "expected `requestHeaderModifier`"),
        (json!([{ "requestHeaderModifier": {} }]), "missing field `type`"),
        (json!("x"), "not understood"),
        (set("host"), "is changed by"),
        (set("content-length"), "where the message ends"),
        (json!([set("a")[0], set("b")[0]]), "stands there twice"),
        (redirect(json!({ "scheme": "ftp" })), "expected `http` or `https`"),
        (redirect(json!({ "statusCode": 200, "scheme": "https" })), "found 200"),
        (redirect(json!({})), "leads back to itself"),
        (redirect(json!({ "scheme": "https", "query": "x" })), "unknown field `query`"),
        (
            json!([
                redirect(json!({ "scheme": "https" }))[0],
                rewrite(json!({ "type": "ReplaceFullPath", "replaceFullPath": "/" }))[0]
            ]),
            "cannot stand in one rule",
        ),
        (rewrite(json!({ "type": "ReplaceRegex", "replaceRegex": "/" })), "unknown field"),
        (rewrite(json!({ "type": "Other" })), "`Other`"),
        (rewrite(json!({ "type": "ReplaceFullPath", "replaceFullPath": "/{rest}" })), "braces"),
        (rewrite(json!({ "type": "ReplaceFullPath", "replaceFullPath": "x" })), "begins with `/`"),
        (rewrite(json!({ "type": "ReplacePrefixMatch", "replaceFullPath": "/" })), "belongs to its type"),
    ] {
        assert_answers(500, http_rule(json!({ "backendRefs": [], "filters": filters })), words);
    }
    let redirect = redirect(json!({ "scheme": "https" }));
    assert_answers(500, http_rule(json!({ "filters": redirect })), "a RequestRedirect and `backendRefs`");
    assert_answers(503, grpc_rule(json!({ "filters": [{ "type": "URLRewrite", "urlRewrite": {} }] })), "`URLRewrite`");
}

#[test]
fn a_prefix_is_not_replaced_where_none_is_matched() {
    let path = json!({ "type": "ReplacePrefixMatch", "replacePrefixMatch": "/x" });
    let filters = json!([{ "type": "URLRewrite", "urlRewrite": { "path": path } }]);
    let matches = json!([{ "path": { "type": "Exact", "value": "/a" } }]);
    assert_answers(
        500,
        http_rule(json!({ "matches": matches, "filters": filters })),
        "needs matches of the type PathPrefix",
    );
}

#[test]
fn what_a_refused_rule_matches_does_not_fall_to_a_wider_one() {
    let rules = json!([
        { "backendRefs": [{ "name": "public", "port": 80 }] },
        { "matches": [{ "path": { "value": "/admin" } }], "filters": [{ "type": "ExtensionRef", "extensionRef": {} }],
          "backendRefs": [{ "name": "admin", "port": 80 }] },
    ]);
    let translated = one(object("HTTPRoute", "web", json!({ "rules": rules })));
    assert_eq!(wins(&translated.routes, "GET a/admin/x").map(to).unwrap(), "respond 500");
    assert_eq!(wins(&translated.routes, "GET a/").map(to).unwrap(), "kubernetes/shop/public:80");
}

#[test]
fn a_rule_without_a_backend_that_works_answers_500_and_unavailable() {
    for (refs, words) in [
        (json!([]), "no `backendRefs`"),
        (json!([{ "name": "web", "port": 80, "weight": 0 }]), "has weight 0"),
        (json!([{ "name": "web", "port": 80, "namespace": "other" }]), "ReferenceGrants are not read"),
        (
            json!([{ "name": "web", "port": 80, "kind": "ServiceImport", "group": "multicluster.x-k8s.io" }]),
            "ServiceImport",
        ),
        (json!([{ "name": "web" }]), "`backendRefs[0].port` is missing"),
        (json!([{ "name": "unknown", "port": 80 }]), "is wrong"),
        (json!([{ "name": "web", "port": 80, "weight": 1_000_001 }]), "at most 1000000"),
        (json!([{ "name": "web", "port": 80, "filters": [{}] }]), "`backendRefs[0].filters`"),
        (json!([{ "port": 80 }]), "missing field `name`"),
    ] {
        assert_answers(500, http_rule(json!({ "backendRefs": refs.clone() })), words);
        // 503 is UNAVAILABLE to a gRPC client.
        assert_answers(503, grpc_rule(json!({ "backendRefs": refs })), words);
    }
}

#[test]
fn the_share_of_a_wrong_backend_is_answered_with_500() {
    let refs = json!([
        { "name": "web", "port": 80, "weight": 3 },
        { "name": "gone", "port": 80, "weight": 1, "namespace": "other" },
    ]);
    let translated = one(http_rule(json!({ "backendRefs": refs })));
    assert_eq!((translated.used, translated.refused), (0, 1));
    let route = &translated.routes[0];
    assert_eq!(to(route), "3 * kubernetes/shop/web:80");
    let fault = route.fault.as_ref().unwrap();
    assert_eq!(fault.status.unwrap().as_u16(), 500);
    assert!((fault.share - 0.25).abs() < 1e-9);
    assert!(
        translated.remarks[0].to_string().contains("answers 25.0 % of its requests with 500"),
        "{:?}",
        translated.remarks
    );
}

#[test]
fn times_that_are_not_understood_answer_500() {
    for (rule, words) in [
        (json!({ "timeouts": { "request": "1.5s" } }), "`timeouts.request`: expected a duration"),
        (json!({ "timeouts": { "backendRequest": 5 } }), "`timeouts` is not understood"),
        (json!({ "retry": { "codes": [200] } }), "`retry.codes[0]`"),
        (json!({ "retry": { "attempts": -1 } }), "`retry` is not understood"),
        (json!({ "retry": { "backoff": "x" } }), "`retry.backoff`"),
    ] {
        assert_answers(500, http_rule(rule), words);
    }
}

#[test]
fn a_mirror_that_is_wrong_is_left_out_and_the_rule_stays() {
    let to_other = json!({ "backendRef": { "name": "a", "port": 80, "namespace": "other" } });
    let half = json!({ "backendRef": { "name": "a", "port": 80 }, "fraction": { "numerator": 3, "denominator": 2 } });
    for (mirror, words) in [(to_other, "ReferenceGrants"), (half, "from 0 to 1, found 3/2")] {
        let translated = one(http_rule(json!({ "filters": [{ "type": "RequestMirror", "requestMirror": mirror }] })));
        assert_eq!((translated.used, translated.refused), (1, 0));
        assert!(translated.routes[0].mirror.is_none());
        assert_eq!(translated.remarks[0].effect, Effect::Ignored);
        assert!(translated.remarks[0].message.contains(words), "{:?}", translated.remarks);
    }
}

#[test]
fn keys_of_newer_definitions_are_told_and_the_rest_is_served() {
    let mut web =
        http_rule(json!({ "sessionPersistence": {}, "timeouts": { "idle": "1s" }, "retry": { "budget": 1 } }));
    web["spec"]["useDefaultGateways"] = json!("All");
    let translated = one(web);
    assert_eq!((translated.used, translated.refused), (1, 0));
    let remarks: Vec<String> = translated.remarks.iter().map(ToString::to_string).collect();
    for key in ["`spec.useDefaultGateways`", "`rule.sessionPersistence`", "`rule.timeouts.idle`", "`rule.retry.budget`"]
    {
        assert!(remarks.iter().any(|remark| remark.contains(key)), "{remarks:?}");
    }
}

#[test]
fn an_object_that_is_for_none_of_our_listeners_is_left_out() {
    for (parents, words) in [
        (json!([]), "no `parentRefs`"),
        (json!([{ "name": "web", "kind": "Service", "group": "" }]), "`parentRefs[0]` is the Service `web`"),
        (json!([{ "name": "x", "sectionName": "iner" }]), "did you mean `inner`?"),
        (json!([{ "name": "x", "port": 443 }]), "no listener that takes routes has that port"),
        (json!([{ "name": "x", "sectionName": "edge", "port": 8081 }]), "has the name `edge` and the port 8081"),
        (json!([{}]), "missing field `name`"),
    ] {
        assert_left_out(object("HTTPRoute", "web", json!({ "parentRefs": parents })), words);
    }
}

#[test]
fn an_object_that_cannot_be_read_is_left_out_and_the_others_stay() {
    let good = http_rule(json!({}));
    let mut other = http_rule(json!({}));
    other["kind"] = json!("TLSRoute");
    let hostless = object("HTTPRoute", "hosts", json!({ "hostnames": ["a b"] }));
    let translated = translated(&[json!({ "kind": "HTTPRoute" }), other, hostless, good]);
    assert_eq!((translated.used, translated.refused, translated.routes.len()), (1, 3, 1));
    let about: Vec<&str> = translated.remarks.iter().map(|remark| remark.about.as_str()).collect();
    assert_eq!(about, ["httproute/?/?", "httproute/shop/hosts", "tlsroute/shop/web"]);
}

#[test]
fn no_json_makes_it_panic() {
    // Every value of a whole object is replaced by every other kind of value, one at a time.
    let whole = object(
        "HTTPRoute",
        "web",
        json!({ "hostnames": ["a"], "rules": [{
            "matches": [{ "path": { "type": "Exact", "value": "/" }, "headers": [{ "name": "a", "value": "b" }] }],
            "filters": [{ "type": "RequestMirror", "requestMirror": { "backendRef": { "name": "a", "port": 1 } } }],
            "backendRefs": [{ "name": "a", "port": 80, "weight": 1 }],
            "timeouts": { "request": "1s" }, "retry": { "codes": [500] } }] }),
    );
    let mut pointers = Vec::new();
    collect(&whole, String::new(), &mut pointers);
    assert!(pointers.len() > 30);
    let strange =
        [json!(null), json!(-1), json!(1e300), json!(""), json!("\u{0}é{}"), json!([]), json!({}), json!(true)];
    for pointer in &pointers {
        for value in &strange {
            let mut object = whole.clone();
            *object.pointer_mut(pointer).unwrap() = value.clone();
            let found = one(object);
            assert!(found.used + found.refused > 0, "{pointer} {value}");
        }
    }
}

fn collect(value: &Value, at: String, pointers: &mut Vec<String>) {
    match value {
        Value::Array(list) => {
            list.iter().enumerate().for_each(|(index, inner)| collect(inner, format!("{at}/{index}"), pointers));
        }
        Value::Object(map) => map.iter().for_each(|(key, inner)| collect(inner, format!("{at}/{key}"), pointers)),
        _ => {}
    }
    if !at.is_empty() {
        pointers.push(at);
    }
}
