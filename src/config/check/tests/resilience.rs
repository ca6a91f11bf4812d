//! `classify` and `breaker`.

use super::*;
use crate::config::HealthAsk;

#[test]
fn words_and_ranges_that_a_breaker_cannot_take_are_refused_with_what_it_can() {
    let given = around(
        r#"[services.a]
from = "static/127.0.0.1:2"
classify = { failure = ["5xx", "2xx", "unavailible", "deadline_exceeded"], retryable = ["504-500"] }
breaker = { consecutive = -1, success_below = 0.8, window = "100ms", min_requests = 0, eject = "1s..2h", max_ejected = "0%" }
"#,
    );
    let expected = "expected `4xx`, `5xx`, a status from `400` to `599`, a range such as `500-504`, or a gRPC status such as `unavailable`";
    assert_eq!(
        given.problems(),
        format!(
            "\
c.toml:3:32: error: services.a.classify.failure[1]: {expected}, found `2xx`
c.toml:3:39: error: services.a.classify.failure[2]: {expected}, found `unavailible`; did you mean `unavailable`?
c.toml:3:54: error: services.a.classify.failure[3]: {expected}, found `deadline_exceeded`; did you mean `deadline-exceeded`?
c.toml:3:89: error: services.a.classify.retryable[0]: {expected}, found `504-500`
c.toml:4:27: error: services.a.breaker.consecutive: expected a whole number from 0 to 1000, found the number -1
c.toml:4:47: error: services.a.breaker.success_below: expected a share from 0% to 100%, such as \"20%\", found the number 0.8
c.toml:4:61: error: services.a.breaker.window: expected a time from 1s to 10m
c.toml:4:85: error: services.a.breaker.min_requests: expected a whole number from 1 to 1000000, found the number 0
c.toml:4:96: error: services.a.breaker.eject: expected a range within 100ms..1h
c.toml:4:120: error: services.a.breaker.max_ejected: expected more than 0%: one endpoint may always be ejected; to eject none, write `consecutive = 0` and `success_below = \"0%\"`"
        )
    );
}

#[test]
fn a_service_takes_what_it_does_not_say_from_the_defaults() {
    let config = around(
        r#"[defaults]
breaker = { consecutive = 3, window = "5s" }
classify = { failure = ["500"] }
[services.a]
from = "static/127.0.0.1:2"
breaker = { consecutive = 9 }
classify = { retryable = ["502"] }
[services.b]
from = "static/127.0.0.1:2"
classify = { failure = [] }
"#,
    )
    .config();
    let policies = |name: &str| &config.services[name].policies;
    assert_eq!((policies("a").breaker.consecutive, policies("a").breaker.window), (9, Duration::from_secs(5)));
    assert!(!policies("a").classify.is_failure(503) && policies("a").classify.is_failure(500));
    assert!(policies("a").classify.is_retryable(502, None));
    assert!(!policies("b").classify.is_failure(500) && !policies("b").classify.is_grpc_failure(14));
}

#[test]
fn a_health_check_says_what_it_asks_and_nothing_of_another_kind() {
    let problems = |health: &str| {
        let text = format!("[services.a]\nfrom = \"static/127.0.0.1:2\"\nhealth = {{ {health} }}\n");
        around(&text).load().map_or_else(
            |problems| problems.to_string(),
            |loaded| format!("{:?}", loaded.config.services["a"].policies.health),
        )
    };
    for (health, expected) in [
        ("interval = \"1s\"", "health.path: missing: say the path of an HTTP check, or `type = \"tcp\"` or \"grpc\""),
        ("type = \"http\"", "health.path: missing: an HTTP check needs a path, such as `path = \"/healthz\"`"),
        ("type = \"tcp\", path = \"/\"", "health.path: belongs to `type = \"http\"`; remove it, or change `type`"),
        ("path = \"/\", service = \"a\"", "health.service: belongs to `type = \"grpc\"`; remove it, or change `type`"),
        ("path = \"healthz\"", "health.path: expected a path such as `/healthz`, found `healthz`"),
        ("path = \"/\", host = \"a b\"", "health.host: expected a host such as `api.internal`, found `a b`"),
        (
            "path = \"/\", status = \"2xx\"",
            "health.status: expected a status such as `200`, or a range such as `200-399`, found `2xx`",
        ),
        ("path = \"/\", interval = \"1ms\"", "health.interval: expected a time from 100ms to 1h"),
        (
            "path = \"/\", interval = \"1s\", timeout = \"2s\"",
            "health.timeout: expected at most `interval`: an endpoint has one check at a time",
        ),
        ("path = \"/\", healthy = 0", "health.healthy: expected a whole number from 1 to 100, found the number 0"),
    ] {
        let problems = problems(health);
        assert!(problems.contains(expected), "{health}: {problems}");
    }
    assert_eq!(problems("type = \"off\""), "None");
    let short = problems("type = \"tcp\", interval = \"500ms\"");
    assert!(short.contains("timeout: 500ms"), "{short}");
}

#[test]
fn a_service_turns_the_checks_of_the_defaults_off_or_asks_something_else() {
    let config = around(
        r#"[defaults]
health = { path = "/healthz", interval = "9s", healthy = 7 }
[services.a]
from = "static/127.0.0.1:2"
health = { host = "a.example" }
[services.b]
from = "static/127.0.0.1:2"
health = { type = "off" }
[services.c]
from = "static/127.0.0.1:2"
health = { type = "tcp" }
"#,
    )
    .config();
    let health = |name: &str| config.services[name].policies.health.clone();
    let http = HealthAsk::Http { path: "/healthz".to_owned(), host: Some("a.example".to_owned()), status: (200, 299) };
    assert_eq!(health("a").map(|health| (health.ask, health.healthy)), Some((http, 7)));
    assert_eq!(health("b"), None);
    assert_eq!(health("c").map(|health| (health.ask, health.interval)), Some((HealthAsk::Tcp, Duration::from_secs(9))));
}

#[test]
fn a_limit_that_finds_itself_is_not_in_this_build() {
    let given = around("[services.a]\nfrom = \"static/127.0.0.1:2\"\nlimits = { adaptive = true }\n");
    assert_eq!(given.problems(), "c.toml:3:12: error: services.a.limits.adaptive: not in this build yet; remove it");
}

#[test]
fn less_memory_than_the_gateway_itself_needs_is_refused() {
    let given = around("[node]\nmemory = \"1MiB\"\n");
    assert_eq!(
        given.problems(),
        "c.toml:2:10: error: node.memory: expected at least 16MiB: the gateway itself needs about as much"
    );
}
