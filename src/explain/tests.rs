//! Explanations of configurations in text, with endpoints that a test gives.

use std::collections::HashMap;
use std::sync::Arc;

use meshless_discovery::{Endpoint, Health};
use meshless_platforms::Scripted;

use super::answer::Branch;
use super::*;
use crate::follow::removals::Standing;
use crate::upstream::plan::Plan;
use crate::upstream::reconcile::{Catalog, Reconciler};

/// A configuration and its table; the endpoints of `static` targets are those that they name.
struct Place {
    config: Config,
    table: Table,
}

fn place(text: &str, change: impl Fn(&mut Endpoint)) -> Place {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("c.toml");
    std::fs::write(&file, text).unwrap();
    let config = crate::config::load(&[file], &Scripted::default(), &[].into()).unwrap().config;
    let plan = Arc::new(Plan::new(&config, &mut |_| None));
    let mut catalog = Catalog::new();
    for target in plan.targets() {
        let listed = target.path.split(',').map(|address| {
            let mut endpoint = Endpoint::new(address.parse().unwrap());
            change(&mut endpoint);
            (endpoint, Standing::Listed)
        });
        catalog.insert(target.clone(), listed.collect());
    }
    let table = Reconciler::default().reconcile(&Table::default(), plan, &catalog);
    Place { config, table }
}

impl Place {
    fn ask(&self, question: &Question) -> Result<Explanation, Refusal> {
        let sources = HashMap::new();
        let (config, table) = (&self.config, &self.table);
        let situation = Situation { config, table, sources: &sources, version: None, now: 0, wall: 0 };
        explain(question, &situation).map(|(explanation, _)| explanation)
    }

    fn get(&self, url: &str) -> Explanation {
        self.ask(&Question { url: url.to_owned(), ..Question::default() }).unwrap()
    }
}

const EDGE: &str = "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n";

#[test]
fn shares_are_those_of_tiers_weights_and_endpoints() {
    let text = "[services.a]\nfrom = \"static/10.0.0.1:1,10.0.0.2:1\"\nbalance = \"random\"\n[services.b]\n\
                from = \"static/10.0.0.3:1\"\n[services.c]\nfrom = \"static/10.0.0.4:1\"\n[[routes]]\n\
                to = \"75 * a & 25 * b | c\"\n";
    let told = place(&format!("{EDGE}{text}"), |_| ()).get("http://h/");
    let shares: Vec<(&str, f64)> = told.services.iter().map(|one| (one.name.as_str(), one.share)).collect();
    let [("a", a), ("b", b), ("c", 0.0)] = shares[..] else { panic!("{shares:?}") };
    assert!((a - 0.75).abs() < 0.02 && (b - 0.25).abs() < 0.02, "{shares:?}");
    let of_a: Vec<f64> = told.endpoints().take(2).map(|one| one.share).collect();
    assert!(of_a.iter().all(|share| (share - 0.375).abs() < 0.02), "{of_a:?}");
    assert_eq!(told.destination.unwrap().expression, "75 * a & 25 * b | c");
    assert_eq!(told.outcome.kind, "sent");
}

#[test]
fn what_is_left_of_a_tier_and_what_takes_its_place_is_told_by_the_rule_and_drawn_alike() {
    let text = "[services.a]\nfrom = \"static/10.0.0.1:1,10.0.0.2:1 | static/10.0.0.3:1\"\n[[routes]]\nto = \"a\"\n";
    let half = place(&format!("{EDGE}{text}"), |endpoint| {
        if endpoint.address.to_string() == "10.0.0.2:1" {
            endpoint.health = Health::Unhealthy;
        }
    });
    let told = half.get("http://h/");
    let Branch::Tiers { tiers } = &told.services[0].from else { panic!("{:?}", told.services[0].from) };
    // Envoy's table: half of the first tier is healthy, so it takes 70 %.
    assert!((tiers[0].share - 0.7).abs() < 1e-6 && (tiers[1].share - 0.3).abs() < 1e-6, "{tiers:?}");
    let drawn: Vec<f64> = told.endpoints().map(|one| one.share).collect();
    assert!((drawn[0] - 0.7).abs() < 0.02 && drawn[1] == 0.0 && (drawn[2] - 0.3).abs() < 0.02, "{drawn:?}");
    let why = told.endpoints().nth(1).unwrap().view.unused_because.clone().unwrap();
    assert!(why.contains("unhealthy"), "{why}");
}

#[test]
fn an_ejected_endpoint_is_told_with_its_reason_and_its_probe_is_given_back() {
    use crate::resilience::breaker::{Admit, Case, Cause, Verdict};
    let text = "[services.a]\nfrom = \"static/10.0.0.1:1,10.0.0.2:1\"\n[[routes]]\nto = \"a\"\n";
    let place = place(&format!("{EDGE}{text}"), |_| ());
    let upstream = &place.table.upstreams[0];
    let bad = upstream.members.values().find(|one| one.endpoint.address.to_string() == "10.0.0.2:1").unwrap();
    let case = Case { policy: &upstream.policies.breaker, ejected: &upstream.state.ejected, endpoints: 2, now: 0 };
    for _ in 0..5 {
        bad.state.breaker.record(Verdict::Failure(Cause::Connect), None, &case, || 0.5);
    }
    upstream.state.epoch.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let question = Question { url: "http://h/".to_owned(), ..Question::default() };
    let told = place.ask(&question).unwrap();
    let one = told.endpoints().find(|one| one.view.address == "10.0.0.2:1").unwrap();
    assert_eq!((one.share, one.next_is_probe), (0.0, false));
    let why = one.view.unused_because.as_ref().unwrap();
    assert!(why.contains("consecutive, connect"), "{why}");
    // Its time is over: one draw of many is its probe, and the next request is it still.
    let sources = HashMap::new();
    let (config, table) = (&place.config, &place.table);
    let later = Situation { config, table, sources: &sources, version: None, now: 120_000, wall: 0 };
    for _ in 0..2 {
        let (told, _) = explain(&question, &later).unwrap();
        let one = told.endpoints().find(|one| one.view.address == "10.0.0.2:1").unwrap();
        assert_eq!((one.share, one.next_is_probe), (0.0, true));
        assert!(told.draws.unwrap().without_endpoint == 0);
    }
    assert!(matches!(bad.state.breaker.admits(120_000), Admit::Probe(_)));
}

#[test]
fn routes_that_lost_say_why_and_captures_are_told() {
    let text = "[[routes]]\nname = \"posts\"\nmatch = { path = \"/u/{id}\", method = [\"POST\"] }\n\
                to = \"static/10.0.0.1:1\"\n[[routes]]\nname = \"users\"\nmatch = { path = \"/u/{id}\" }\n\
                rewrite = { path = \"/v2/{id}\" }\nto = \"static/10.0.0.1:1\"\n[[routes]]\nname = \"rest\"\n\
                to = \"static/10.0.0.1:1\"\n";
    let told = place(&format!("{EDGE}{text}"), |_| ()).get("http://h/u/%37?x=1");
    let route = told.route.clone().unwrap();
    assert_eq!((route.name.as_str(), route.position, route.captures["id"].as_str()), ("users", Some(2), "7"));
    let lost: Vec<_> = told.lost.iter().map(|one| (one.name.as_str(), one.key.as_deref(), one.position)).collect();
    assert_eq!(lost, [("posts", Some("method"), 1), ("rest", None, 3)]);
    assert_eq!(told.actions[0].says, "`/u/7?x=1` becomes `/v2/7?x=1`");
    let text = told.to_string();
    assert!(text.contains("not posts  method: found `GET`"), "{text}");
    assert!(text.contains("not rest   all of it holds, but the route above comes first"), "{text}");
}

#[test]
fn a_request_that_nothing_serves_is_explained_all_the_same() {
    let text = "[[routes]]\nmatch = { host = \"a\" }\nto = \"static/10.0.0.1:1\"\n";
    let place = place(&format!("{EDGE}{text}"), |endpoint| endpoint.weight = 0);
    let outcome = |url: &str| {
        let outcome = place.get(url).outcome;
        (outcome.status, outcome.label.unwrap_or_default())
    };
    assert_eq!(outcome("http://b/"), (Some(404), "no_route".to_owned()));
    assert_eq!(outcome("http://a/"), (Some(503), "no_endpoint".to_owned()));
    assert_eq!(outcome("http://a/%00"), (Some(400), "path_malformed".to_owned()));
}

#[test]
fn what_a_client_may_not_say_is_told_as_removed() {
    let text = "[[routes]]\nto = \"static/10.0.0.1:1\"\n";
    let headers = vec![("meshless-route".to_owned(), "x".to_owned()), ("x-mine".to_owned(), "y".to_owned())];
    let question = Question { url: "http://a/".to_owned(), headers, ..Question::default() };
    let told = place(&format!("{EDGE}{text}"), |_| ()).ask(&question).unwrap();
    let changed: Vec<(&str, bool)> = told.headers.iter().map(|one| (one.name.as_str(), one.after.is_some())).collect();
    let expected = [
        ("meshless-route", false),
        ("via", true),
        ("x-forwarded-for", true),
        ("x-forwarded-proto", true),
        ("x-request-id", true),
    ];
    assert_eq!(changed, expected);
}

#[test]
fn a_question_that_cannot_be_answered_says_what_to_do() {
    let place = place(&format!("{EDGE}[[routes]]\nto = \"static/10.0.0.1:1\"\n"), |_| ());
    let refusal = |question: Question| {
        let Refusal { reason, hint } = place.ask(&question).unwrap_err();
        format!("{reason}; {hint}")
    };
    let of = |url: &str| Question { url: url.to_owned(), ..Question::default() };
    for (question, says) in [
        (of("/x"), "has no scheme and no host; write all of it, such as http://"),
        (of("http:///x"), "has no host"),
        (of("http://a:b/"), "`b` is no port"),
        (of("ftp://a/"), "`ftp` is no scheme"),
        (of("https://a/"), "no listener takes https; ask with the scheme that fits: `edge` takes http"),
        (Question { listener: Some("x".to_owned()), ..of("http://a/") }, "there is no listener `x`; there are `edge`"),
        (Question { method: "G T".to_owned(), ..of("http://a/") }, "`G T` is no method"),
        (Question { from: Some("me".to_owned()), ..of("http://a/") }, "takes a SPIFFE ID"),
        (
            Question { headers: vec![("a b".to_owned(), String::new())], ..of("http://a/") },
            "`a b` is no name of a header",
        ),
    ] {
        let told = refusal(question);
        assert!(told.contains(says), "{told}");
    }
}

#[test]
fn the_plan_of_time_is_that_of_the_route_and_the_service() {
    let text = "[services.a]\nfrom = \"static/10.0.0.1:1\"\ntimeout = \"4s\"\nclassify = { retryable = [\"502\"] }\n\
                retry = { on = [\"503\"], attempts = 3, per_try = \"1s\" }\nhedge = { after = \"50ms\" }\n[[routes]]\n\
                name = \"quick\"\nmatch = { path = \"/quick\" }\nto = \"a\"\ntimeout = \"2s\"\n\
                retry = { attempts = 2 }\n[[routes]]\nto = \"a\"\n";
    let place = place(&format!("{EDGE}{text}"), |_| ());
    let ask = |method: &str, path: &str, headers: &[(&str, &str)]| {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
        let url = format!("http://h{path}");
        place.ask(&Question { method: method.to_owned(), url, headers, ..Question::default() }).unwrap()
    };
    let told = ask("GET", "/", &[]);
    let (time, retry) = (&told.services[0].time, &told.services[0].retry);
    assert_eq!((time.until_head_ms, time.per_try_ms, time.hedge_ms), (Some(4000), Some(1000), Some(50)));
    assert_eq!((retry.attempts, &retry.on[..], retry.repeats), (3, &["503".to_owned(), "502".to_owned()][..], true));
    let told = ask("POST", "/quick", &[]);
    let (time, retry) = (&told.services[0].time, &told.services[0].retry);
    assert_eq!((time.until_head_ms, retry.attempts, retry.repeats, time.hedge_ms), (Some(2000), 2, false, None));
    // A stream of gRPC is bounded by silence alone, unless it says how long it may take.
    let grpc = ("content-type", "application/grpc");
    assert_eq!(ask("POST", "/", &[grpc]).services[0].time.until_head_ms, None);
    let time = ask("POST", "/", &[grpc, ("grpc-timeout", "250m")]).services[0].time.clone();
    assert_eq!((time.until_head_ms, time.deadline_ms), (Some(4000), Some(250)));
    assert_eq!(ask("POST", "/", &[grpc, ("grpc-timeout", "0m")]).outcome.label.as_deref(), Some("deadline"));
}

#[test]
fn bytes_have_neither_headers_nor_retries() {
    let text =
        "[[listeners]]\nname = \"db\"\nlisten = \"127.0.0.1:0\"\nprotocol = \"tcp\"\nto = \"static/10.0.0.1:1\"\n";
    let place = place(text, |_| ());
    let told = place.get("tcp://db:5432");
    assert_eq!((told.route.unwrap().kind.as_str(), told.services[0].retry.attempts), ("to", 1));
    assert!(told.headers.is_empty() && told.request.method.is_empty());
    let headers = vec![("a".to_owned(), "b".to_owned())];
    let question = Question { url: "tcp://db:5432".to_owned(), headers, ..Question::default() };
    assert!(place.ask(&question).unwrap_err().reason.contains("has no headers"));
}

#[test]
fn an_explanation_goes_to_json_and_back() {
    let text = "[services.a]\nfrom = \"static/10.0.0.1:1 | static/10.0.0.2:1\"\n[services.b]\nfrom = \"static/10.0.0.3:1\"\n\
                [[routes]]\nto = \"2 * a & b | b\"\n";
    let told = place(&format!("{EDGE}{text}"), |_| ()).get("http://h/");
    let json = serde_json::to_string(&told).unwrap();
    let back: Explanation = serde_json::from_str(&json).unwrap();
    assert_eq!(back.to_string(), told.to_string());
}

#[test]
fn a_line_of_the_log_leads_to_the_same_decision_and_says_what_is_another_one_now() {
    let text = "[services.a]\nfrom = \"static/10.0.0.1:1\"\n[[routes]]\nname = \"testers\"\n\
                match = { headers = { x-tester = \"on\" } }\nto = \"a\"\n[[routes]]\nname = \"all\"\nto = \"a\"\n";
    let place = place(&format!("{EDGE}{text}"), |_| ());
    let line = |route: &str, endpoint: &str| {
        log_line::Line::parse(&format!(
            r#"{{"request_id":"7","listener":"edge","client":"10.9.9.9","method":"GET","host":"h","path":"/x",
            "protocol":"http/1.1","status":200,"route":"{route}","service":"a","endpoint":"{endpoint}","tries":1}}"#
        ))
        .unwrap()
    };
    let explained = |line: &log_line::Line| {
        let mut told = place.ask(&line.questions()[0]).unwrap();
        log_line::compare(line, &mut told);
        told
    };
    let told = explained(&line("all", "10.0.0.1:1"));
    let logged = told.logged.unwrap();
    assert_eq!((logged.differences, told.request.address.as_str()), (Vec::new(), "10.9.9.9"));
    assert!(logged.unknown[0].contains("`testers` asks for `headers.x-tester`"), "{:?}", logged.unknown);
    let logged = explained(&line("testers", "10.0.0.9:1")).logged.unwrap();
    let [route, endpoint] = &logged.differences[..] else { panic!("{:?}", logged.differences) };
    assert!(route.contains("the log says `testers`, now it is `all`"), "{route}");
    assert!(endpoint.contains("`10.0.0.9:1` is not there any more"), "{endpoint}");
    for wrong in ["", "2026 10.0.0.1 \"GET h / http/1.1\" 200", "{}"] {
        assert!(log_line::Line::parse(wrong).is_err(), "{wrong}");
    }
}
