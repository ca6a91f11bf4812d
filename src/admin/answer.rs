//! One request to the admin interface: from path and method to an answer.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderName, HeaderValue};
use http::{Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper::body::Body;
use serde::Serialize;
use serde_json::json;

use super::listen::Access;
use super::view::EndpointState;
use super::{Admin, explain, guard};
use crate::telemetry::exposition;
use crate::telemetry::metrics::{Samples, families};

/// How a request came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Peer {
    /// By TCP, so perhaps from a browser.
    Tcp,
    /// By a Unix socket, which no web page reaches.
    Unix,
}

/// Largest body that is taken.
const BODY_BYTES: usize = 64 * 1024;
/// Until a body is there.
const BODY_TIMEOUT: Duration = Duration::from_secs(5);

/// Everything that is answered, for the index and for 405.
const PATHS: [Path; 13] = [
    Path { name: "/config", methods: "GET", access: Access::Full, says: "the configuration that runs" },
    Path { name: "/drain", methods: "POST", access: Access::Full, says: "begin to drain, as SIGTERM does" },
    Path { name: "/endpoints", methods: "GET", access: Access::Full, says: "endpoints; ?service=NAME for one" },
    Path { name: "/explain", methods: "GET", access: Access::Full, says: "why a request goes where it goes; ?url=…" },
    Path {
        name: "/identity",
        methods: "GET",
        access: Access::Full,
        says: "who we are, or null; who comes in clear text",
    },
    Path { name: "/live", methods: "GET", access: Access::Probes, says: "200 while the process answers" },
    Path { name: "/log-level", methods: "GET, POST", access: Access::Full, says: "show or set (?level=debug) it" },
    Path {
        name: "/metrics",
        methods: "GET",
        access: Access::Probes,
        says: "metrics for Prometheus; ?endpoints=SERVICE adds its endpoints",
    },
    Path { name: "/ready", methods: "GET", access: Access::Probes, says: "200 if traffic may come, else 503" },
    Path { name: "/registration", methods: "GET", access: Access::Full, says: "what we registered as, or null" },
    Path { name: "/services", methods: "GET", access: Access::Full, says: "services and their endpoints in numbers" },
    Path {
        name: "/targets",
        methods: "GET",
        access: Access::Full,
        says: "what discovery knows of each target, and since when",
    },
    Path { name: "/", methods: "GET", access: Access::Full, says: "this list" },
];

struct Path {
    name: &'static str,
    methods: &'static str,
    access: Access,
    says: &'static str,
}

pub(super) type Answer = Response<Full<Bytes>>;

pub(super) async fn answer<B>(admin: &Admin, access: Access, peer: Peer, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    // Probes are made to be asked by any name, and tell nothing that the network may not know.
    if peer == Peer::Tcp
        && access == Access::Full
        && let Some(reason) = guard::refusal(request.uri(), request.headers())
    {
        return error(
            StatusCode::FORBIDDEN,
            reason,
            "ask by address, such as http://127.0.0.1:9990/, and not from a page",
        );
    }
    let known = PATHS.iter().find(|path| path.name == request.uri().path());
    let Some(path) = known.filter(|path| access == Access::Full || path.access == Access::Probes) else {
        let hint = match access {
            Access::Full => "GET / lists what is answered",
            Access::Probes => {
                "this listener (admin.probes) answers /live, /ready and /metrics; all else is at admin.listen"
            }
        };
        return error(StatusCode::NOT_FOUND, "no such path", hint);
    };
    // HEAD is GET; hyper leaves the body out.
    let method = if *request.method() == Method::HEAD { "GET" } else { request.method().as_str() };
    if !path.methods.split(", ").any(|allowed| allowed == method) {
        let hint = if path.methods == "POST" { "this is an action: use POST" } else { "this is read: use GET" };
        let mut answer = error(StatusCode::METHOD_NOT_ALLOWED, "the method is not allowed here", hint);
        answer.headers_mut().insert(ALLOW, HeaderValue::from_static(path.methods));
        return answer;
    }
    match (path.name, method) {
        ("/", _) => index(),
        ("/live", _) => json(StatusCode::OK, &json!({ "live": true })),
        ("/ready", _) => {
            let readiness = admin.view.readiness();
            let status = if readiness.ready { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
            json(status, &readiness)
        }
        ("/metrics", _) => metrics(admin, access, request.uri().query()),
        ("/config", _) => json(StatusCode::OK, &admin.view.config()),
        ("/registration", _) => json(StatusCode::OK, &admin.view.registration()),
        ("/identity", _) => json(StatusCode::OK, &admin.view.identity()),
        ("/services", _) => json(StatusCode::OK, &admin.view.services()),
        ("/endpoints", _) => endpoints(admin, request.uri().query()),
        ("/targets", _) => json(StatusCode::OK, &admin.view.targets()),
        ("/explain", _) => explain::answer(&*admin.view, request.uri().query()),
        ("/log-level", "GET") => log_level(admin),
        ("/log-level", _) => set_log_level(admin, request).await,
        ("/drain", _) => {
            tracing::info!("The admin interface was asked to drain.");
            admin.view.drain();
            json(StatusCode::OK, &json!({ "draining": true }))
        }
        _ => error(
            StatusCode::NOT_IMPLEMENTED,
            "not in this build yet",
            "see CHANGELOG.md for when it comes; GET / lists what is answered",
        ),
    }
}

fn index() -> Answer {
    use std::fmt::Write as _;

    let mut text = format!("meshless {}\n\n", env!("CARGO_PKG_VERSION"));
    for path in &PATHS {
        // Writing to a string does not fail.
        let _ = writeln!(text, "{:<12} {:<10} {}", path.name, path.methods, path.says);
    }
    respond(StatusCode::OK, "text/plain; charset=utf-8", text)
}

fn metrics(admin: &Admin, access: Access, query: Option<&str>) -> Answer {
    // Probes take no question: what scrapes them by a pattern of its own gets what it always got.
    let wanted = match (access, parameter(query, "endpoints")) {
        (Access::Probes, _) => None,
        (Access::Full, Ok(wanted)) => wanted,
        (Access::Full, Err(answer)) => return *answer,
    };
    let mut samples = admin.registry.gather(Instant::now());
    count_services(admin, &mut samples);
    if let Some(service) = wanted {
        if let Some(answer) = unknown_service(admin, &service) {
            return answer;
        }
        measure_endpoints(admin, &service, &mut samples);
    }
    respond(StatusCode::OK, exposition::CONTENT_TYPE, exposition::render(&samples))
}

/// What the table knows anyway is read from it, not counted beside it.
fn count_services(admin: &Admin, samples: &mut Samples) {
    for service in admin.view.services() {
        for state in EndpointState::ALL {
            let count = service.endpoints.get(&state).copied().unwrap_or(0);
            samples.gauge(&families::ENDPOINTS, [&service.name, state.label()], count as f64);
        }
        samples.gauge(&families::IN_FLIGHT, [&service.name], service.in_flight as f64);
        samples.gauge(&families::RETRY_BUDGET, [&service.name], service.retry_budget);
    }
}

/// Endpoints come and go with every deploy, so their series are only for who asks: one service at a time.
fn measure_endpoints(admin: &Admin, service: &str, samples: &mut Samples) {
    for endpoint in admin.view.endpoints(Some(service)) {
        let labels = [service, endpoint.target.as_str(), endpoint.address.as_str()];
        samples.gauge(&families::ENDPOINT_IN_FLIGHT, labels, endpoint.in_flight as f64);
        samples.gauge(&families::ENDPOINT_CONNECTIONS, labels, endpoint.connections as f64);
        samples.gauge(&families::ENDPOINT_USABLE, labels, f64::from(endpoint.usable));
        samples.gauge(&families::ENDPOINT_EJECTED, labels, f64::from(endpoint.ejected.is_some()));
        if let Some(latency) = endpoint.latency_ms {
            samples.gauge(&families::ENDPOINT_LATENCY, labels, latency / 1000.0);
        }
    }
}

fn endpoints(admin: &Admin, query: Option<&str>) -> Answer {
    let service = match parameter(query, "service") {
        Ok(service) => service,
        Err(answer) => return *answer,
    };
    if let Some(answer) = service.as_deref().and_then(|service| unknown_service(admin, service)) {
        return answer;
    }
    json(StatusCode::OK, &admin.view.endpoints(service.as_deref()))
}

fn unknown_service(admin: &Admin, service: &str) -> Option<Answer> {
    let is_known = admin.view.services().iter().any(|known| known.name == *service);
    let reason = format!("there is no service `{service}`");
    (!is_known).then(|| error(StatusCode::NOT_FOUND, &reason, "GET /services lists them"))
}

fn log_level(admin: &Admin) -> Answer {
    match admin.log_level.current() {
        Ok(level) => json(StatusCode::OK, &json!({ "level": level })),
        Err(reason) => error(StatusCode::INTERNAL_SERVER_ERROR, &reason.to_string(), "the process is ending"),
    }
}

async fn set_log_level<B>(admin: &Admin, request: Request<B>) -> Answer
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let level = match parameter(request.uri().query(), "level") {
        Ok(Some(level)) => level,
        Ok(None) => match body(request.into_body()).await {
            Ok(body) => body,
            Err(answer) => return *answer,
        },
        Err(answer) => return *answer,
    };
    let before = admin.log_level.current().unwrap_or_default();
    match admin.log_level.set(&level) {
        Ok(()) => {
            tracing::info!(before, level = level.trim(), "The log level was changed.");
            log_level(admin)
        }
        Err(reason) => {
            error(StatusCode::BAD_REQUEST, &reason.to_string(), "POST /log-level?level=debug, or the level as the body")
        }
    }
}

async fn body<B>(body: B) -> Result<String, Box<Answer>>
where
    B: Body,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    let collected =
        match tokio::time::timeout(BODY_TIMEOUT, std::pin::pin!(Limited::new(body, BODY_BYTES)).collect()).await {
            Ok(Ok(collected)) => collected.to_bytes(),
            Ok(Err(reason)) if reason.is::<http_body_util::LengthLimitError>() => {
                return Err(
                    error(StatusCode::PAYLOAD_TOO_LARGE, "the body is too large", "at most 64 KiB are taken").into()
                );
            }
            Ok(Err(reason)) => {
                return Err(error(StatusCode::BAD_REQUEST, &reason.to_string(), "send the body again").into());
            }
            Err(_) => {
                return Err(error(StatusCode::REQUEST_TIMEOUT, "the body did not come", "send it within 5 s").into());
            }
        };
    String::from_utf8(collected.into())
        .map_err(|_| error(StatusCode::BAD_REQUEST, "the body is not UTF-8", "send the level as text").into())
}

/// Returns the one value of a query parameter; others than it are a mistake worth telling.
fn parameter(query: Option<&str>, name: &str) -> Result<Option<String>, Box<Answer>> {
    let mut found = None;
    for pair in query.unwrap_or_default().split('&').filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        if key != name || found.is_some() {
            let reason = format!("the query is not `{name}=…`, once");
            return Err(error(StatusCode::BAD_REQUEST, &reason, "GET / lists what is answered").into());
        }
        let Some(value) = decode(value) else {
            let hint = "write a % as %25";
            return Err(error(StatusCode::BAD_REQUEST, "the query is not percent-encoded UTF-8", hint).into());
        };
        found = Some(value);
    }
    Ok(found)
}

/// Decodes `%xx`; `+` stays, for targets may have one.
pub(super) fn decode(text: &str) -> Option<String> {
    let mut decoded = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte == b'%' {
            let high = char::from(bytes.next()?).to_digit(16)?;
            let low = char::from(bytes.next()?).to_digit(16)?;
            decoded.push(u8::try_from(high * 16 + low).ok()?);
        } else {
            decoded.push(byte);
        }
    }
    String::from_utf8(decoded).ok()
}

pub(super) fn json(status: StatusCode, value: &impl Serialize) -> Answer {
    match serde_json::to_string_pretty(value) {
        Ok(mut text) => {
            text.push('\n');
            respond(status, "application/json", text)
        }
        Err(reason) => {
            tracing::error!(error = %reason, "An answer of the admin interface cannot be written.");
            error(StatusCode::INTERNAL_SERVER_ERROR, "the answer cannot be written", "this is a bug: please report it")
        }
    }
}

pub(super) fn error(status: StatusCode, reason: &str, hint: &str) -> Answer {
    // A map of two strings always serializes, so this does not come back here.
    json(status, &json!({ "error": reason, "hint": hint }))
}

fn respond(status: StatusCode, content_type: &'static str, text: String) -> Answer {
    let mut answer = Response::new(Full::new(Bytes::from(text)));
    *answer.status_mut() = status;
    let headers = answer.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(HeaderName::from_static("x-content-type-options"), HeaderValue::from_static("nosniff"));
    answer
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percent_signs_are_decoded_and_broken_ones_refused() {
        assert_eq!(decode("static%2F127.0.0.1:80+1").as_deref(), Some("static/127.0.0.1:80+1"));
        for broken in ["%", "%2", "%zz", "%ff"] {
            assert_eq!(decode(broken), None, "{broken}");
        }
    }

    #[test]
    fn a_parameter_that_is_not_known_or_comes_twice_is_refused() {
        assert_eq!(parameter(None, "service").unwrap(), None);
        assert_eq!(parameter(Some("service=a%20b"), "service").unwrap().as_deref(), Some("a b"));
        for wrong in ["servce=a", "service=a&service=b", "service=%"] {
            assert_eq!(parameter(Some(wrong), "service").unwrap_err().status(), StatusCode::BAD_REQUEST, "{wrong}");
        }
    }
}
