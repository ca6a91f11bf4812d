//! The interface over real sockets, with a gateway that a test scripts.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use meshless_discovery::Target;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;

use super::*;
use crate::config::ListenAddress;
use crate::explain::answer::Explanation;
use crate::explain::{Question, Refusal};
use crate::targets::TargetView;
use crate::telemetry::log;

#[derive(Debug, Default)]
pub(crate) struct Scripted {
    pub(crate) not_ready: Mutex<Vec<String>>,
    pub(crate) is_draining: AtomicBool,
}

impl View for Scripted {
    fn readiness(&self) -> Readiness {
        let reasons = self.not_ready.lock().unwrap().clone();
        Readiness { ready: reasons.is_empty(), reasons, warnings: vec!["consul/web never answered".into()] }
    }

    fn config(&self) -> ConfigView {
        ConfigView {
            version: 3,
            loaded_at: "2026-09-30T12:34:56.789Z".into(),
            last_error: Some("meshless.toml:7:3: unknown key `form`".into()),
            warnings: Vec::new(),
            pending_restart: vec!["node.workers".into()],
            listeners: vec![ListenerView {
                name: "outbound".into(),
                address: "127.0.0.1:4140".into(),
                protocol: "auto".into(),
                connections: 2,
            }],
            config: json!({ "node": { "platform": "ecs", "zone": "eu-west-1a" }, "services": {} }),
        }
    }

    fn services(&self) -> Vec<ServiceView> {
        vec![ServiceView {
            name: "static/127.0.0.1:80".into(),
            from: "static/127.0.0.1:80".into(),
            balance: "peak-ewma".into(),
            endpoints: BTreeMap::from([(EndpointState::Usable, 1), (EndpointState::Held, 2)]),
            in_flight: 5,
            retry_budget: 100.0,
        }]
    }

    fn targets(&self) -> Vec<TargetView> {
        let target = Target { backend: "consul".into(), path: "web".into(), options: BTreeMap::new() };
        vec![TargetView::failed(&target, "unreachable", "unreachable: refused".into())]
    }

    fn endpoints(&self, service: Option<&str>) -> Vec<EndpointView> {
        let endpoint = EndpointView {
            service: "static/127.0.0.1:80".into(),
            target: "static/127.0.0.1:80".into(),
            backend: "static".into(),
            id: None,
            priority: 0,
            address: "127.0.0.1:80".into(),
            weight: 1,
            zone: None,
            health: "healthy".into(),
            standing: Standing::Listed,
            in_flight: 5,
            latency_ms: Some(1.5),
            penalty_ms: 0.0,
            connections: 6,
            check: "bad".into(),
            check_failure: Some("status 500".into()),
            ejected: Some(EjectionView {
                left_seconds: 1.5,
                probing: false,
                reason: "consecutive".into(),
                cause: "connect".into(),
                times: 2,
            }),
            ejections: 3,
            failures_in_row: 5,
            window_requests: 12,
            window_failures: 5,
            source: "backend".into(),
            age_seconds: 0.5,
            usable: false,
            unused_because: Some("ejected".into()),
        };
        if service.is_none_or(|service| service == endpoint.service) { vec![endpoint] } else { Vec::new() }
    }

    fn explain(&self, question: &Question) -> Result<Explanation, Refusal> {
        Err(Refusal::new(format!("asked for `{}`", question.url), "a scripted gateway decides nothing"))
    }

    fn drain(&self) {
        self.is_draining.store(true, Ordering::SeqCst);
    }
}

/// An interface that serves until it is dropped.
pub(crate) struct Served {
    pub(crate) address: ListenAddress,
    pub(crate) view: Arc<Scripted>,
    pub(crate) registry: Arc<Registry>,
    log_level: LogLevel,
    task: JoinHandle<()>,
    /// The level can be changed as long as its subscriber lives.
    _subscriber: Box<dyn tracing::Subscriber + Send + Sync>,
}

impl Drop for Served {
    fn drop(&mut self) {
        self.task.abort();
    }
}

pub(crate) fn served_at(address: &ListenAddress, access: Access) -> Served {
    let (subscriber, log_level) = log::build(log::LogFormat::Json, "info", std::io::sink).unwrap();
    let view = Arc::<Scripted>::default();
    let registry = Registry::new(Instant::now());
    let admin = Admin {
        view: Arc::clone(&view) as Arc<dyn View>,
        registry: Arc::clone(&registry),
        log_level: log_level.clone(),
    };
    let listener = AdminListener::bind(address, access).unwrap();
    let address = listener.address().unwrap();
    let task = tokio::spawn(async move {
        serve(listener, admin).await;
    });
    Served { address, view, registry, log_level, task, _subscriber: Box::new(subscriber) }
}

pub(crate) fn served(access: Access) -> Served {
    served_at(&ListenAddress::Tcp("127.0.0.1:0".parse().unwrap()), access)
}

struct Answered {
    status: u16,
    head: String,
    body: String,
}

impl Answered {
    fn json(&self) -> Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("{error}: {}", self.body))
    }
}

impl Served {
    async fn stream(&self) -> TcpStream {
        match &self.address {
            ListenAddress::Tcp(address) => TcpStream::connect(address).await.unwrap(),
            ListenAddress::Unix(_) => panic!("not a TCP address"),
        }
    }

    /// Sends bytes as they are and reads until the end.
    async fn raw(&self, bytes: &[u8]) -> Answered {
        let mut stream = self.stream().await;
        // The server may answer and close before it read everything.
        let _ = stream.write_all(bytes).await;
        let mut text = Vec::new();
        let read = tokio::time::timeout(Duration::from_secs(20), stream.read_to_end(&mut text)).await.unwrap();
        assert!(read.is_ok() || !text.is_empty(), "{read:?}");
        let text = String::from_utf8(text).unwrap();
        let (head, body) = text.split_once("\r\n\r\n").unwrap();
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Answered { status, head: head.to_ascii_lowercase(), body: body.into() }
    }

    async fn ask(&self, method: &str, target: &str, headers: &str, body: &str) -> Answered {
        let length = body.len();
        let request = format!(
            "{method} {target} HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n{headers}content-length: {length}\r\n\r\n{body}"
        );
        self.raw(request.as_bytes()).await
    }

    async fn get(&self, target: &str) -> Answered {
        self.ask("GET", target, "", "").await
    }
}

#[tokio::test]
async fn readiness_is_told_with_its_reasons() {
    let served = served(Access::Full);
    assert_eq!(served.get("/live").await.status, 200);
    let ready = served.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["ready"]), (200, &json!(true)));
    served.view.not_ready.lock().unwrap().push("draining".into());
    let ready = served.get("/ready").await;
    assert_eq!((ready.status, &ready.json()["reasons"]), (503, &json!(["draining"])));
    assert_eq!(served.get("/live").await.status, 200);
}

#[tokio::test]
async fn what_the_gateway_knows_is_shown() {
    let served = served(Access::Full);
    let config = served.get("/config").await.json();
    assert_eq!((&config["version"], &config["loaded_at"]), (&json!(3), &json!("2026-09-30T12:34:56.789Z")));
    assert_eq!(config["pending_restart"], json!(["node.workers"]));
    let services = served.get("/services").await;
    assert_eq!(services.json()[0]["endpoints"], json!({ "held": 2, "usable": 1 }));
    assert!(services.body.contains("\n    "), "not pretty: {}", services.body);
    assert_eq!(served.get("/endpoints").await.json()[0]["standing"], "listed");
    assert_eq!(served.get("/targets").await.json()[0]["failure"]["kind"], "unreachable");
    let one = served.get("/endpoints?service=static%2F127.0.0.1:80").await;
    assert_eq!(one.json().as_array().unwrap().len(), 1);
    let unknown = served.get("/endpoints?service=nope").await;
    assert_eq!(unknown.status, 404);
    assert!(unknown.json()["error"].as_str().unwrap().contains("`nope`"));
    let index = served.get("/").await;
    assert!(index.head.contains("text/plain") && index.body.contains("/log-level"));
}

#[tokio::test]
async fn metrics_have_what_was_counted_and_what_the_table_knows() {
    let served = served(Access::Full);
    let control = crate::telemetry::metrics::ControlMetrics::new(&served.registry);
    control.started(3);
    let metrics = served.get("/metrics").await;
    assert!(metrics.head.contains("content-type: text/plain; version=0.0.4"), "{}", metrics.head);
    for line in [
        "meshless_config_version 3\n",
        "meshless_endpoints{service=\"static/127.0.0.1:80\",state=\"held\"} 2\n",
        "meshless_endpoints{service=\"static/127.0.0.1:80\",state=\"draining\"} 0\n",
    ] {
        assert!(metrics.body.contains(line), "{line} is missing in {}", metrics.body);
    }
}

#[tokio::test]
async fn a_page_that_rebinds_dns_or_posts_across_origins_gets_nothing() {
    let served = served(Access::Full);
    let rebound = served.raw(b"GET /config HTTP/1.1\r\nhost: evil.example\r\nconnection: close\r\n\r\n").await;
    assert_eq!(rebound.status, 403);
    assert!(rebound.json()["hint"].as_str().unwrap().contains("127.0.0.1"));
    let posted = served.ask("POST", "/drain", "origin: http://evil.example\r\n", "").await;
    assert_eq!(posted.status, 403);
    assert!(!served.view.is_draining.load(Ordering::SeqCst));
    assert!(!posted.head.contains("access-control"));
}

#[tokio::test]
async fn reading_is_get_and_acting_is_post() {
    let served = served(Access::Full);
    for (method, target, allow) in [
        ("GET", "/drain", "allow: post"),
        ("POST", "/config", "allow: get"),
        ("DELETE", "/log-level", "allow: get, post"),
        ("OPTIONS", "/drain", "allow: post"),
    ] {
        let answer = served.ask(method, target, "", "").await;
        assert_eq!(answer.status, 405, "{method} {target}");
        assert!(answer.head.contains(allow), "{}", answer.head);
        assert!(answer.json()["hint"].is_string());
    }
    assert!(!served.view.is_draining.load(Ordering::SeqCst));
    let head = served.ask("HEAD", "/ready", "", "").await;
    assert_eq!((head.status, head.body.as_str()), (200, ""));
    assert_eq!(served.ask("POST", "/drain", "", "").await.json(), json!({ "draining": true }));
    assert!(served.view.is_draining.load(Ordering::SeqCst));
}

#[tokio::test]
async fn what_is_not_built_says_so_and_what_is_not_there_too() {
    let served = served(Access::Full);
    let answer = served.get("/identity").await;
    assert_eq!((answer.status, &answer.json()["error"]), (200, &json!(null)));
    for path in ["/nope", "/ready/", "/config%2f"] {
        assert_eq!(served.get(path).await.status, 404, "{path}");
    }
}

#[tokio::test]
async fn a_question_comes_to_the_gateway_and_a_refusal_back() {
    let served = served(Access::Full);
    let answer = served.get("/explain?url=http%3A%2F%2Fa%2F").await;
    assert_eq!((answer.status, &answer.json()["error"]), (400, &json!("asked for `http://a/`")));
    assert_eq!(served.get("/explain").await.json()["error"], json!("`url` is missing"));
}

#[tokio::test]
async fn the_log_level_is_shown_and_changed() {
    let served = served(Access::Full);
    assert_eq!(served.get("/log-level").await.json(), json!({ "level": "info" }));
    let by_query = served.ask("POST", "/log-level?level=meshless%3Ddebug", "", "").await;
    assert_eq!(by_query.json(), json!({ "level": "meshless=debug" }));
    let by_body = served.ask("POST", "/log-level", "", "warn\n").await;
    assert_eq!(by_body.json(), json!({ "level": "warn" }));
    assert_eq!(served.log_level.current().unwrap(), "warn");
    let wrong = served.ask("POST", "/log-level", "", "loud").await;
    assert_eq!(wrong.status, 400);
    assert_eq!(served.log_level.current().unwrap(), "warn");
}

#[tokio::test]
async fn bodies_and_heads_are_bounded() {
    let served = served(Access::Full);
    let large = "x".repeat(64 * 1024 + 1);
    assert_eq!(served.ask("POST", "/log-level", "", &large).await.status, 413);
    let header = format!("x-large: {}\r\n", "x".repeat(32 * 1024));
    assert_eq!(served.ask("GET", "/ready", &header, "").await.status, 431);
    let many = "x-many: 1\r\n".repeat(100);
    assert_eq!(served.ask("GET", "/ready", &many, "").await.status, 431);
}

#[tokio::test]
async fn probes_answer_any_name_and_nothing_but_probes() {
    let served = served(Access::Probes);
    for path in ["/live", "/ready", "/metrics"] {
        let request = format!("GET {path} HTTP/1.1\r\nhost: web-0.web.prod.svc\r\nconnection: close\r\n\r\n");
        assert_eq!(served.raw(request.as_bytes()).await.status, 200, "{path}");
    }
    for path in ["/", "/config", "/endpoints", "/log-level", "/services"] {
        assert_eq!(served.get(path).await.status, 404, "{path}");
    }
    assert_eq!(served.ask("POST", "/drain", "", "").await.status, 404);
    assert!(!served.view.is_draining.load(Ordering::SeqCst));
}

#[tokio::test]
async fn sixty_four_idle_connections_are_served_and_more_wait_for_a_place() {
    let served = served(Access::Full);
    let mut held = Vec::new();
    for _ in 0..64 {
        let mut stream = served.stream().await;
        stream.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\n\r\n").await.unwrap();
        let mut byte = [0];
        stream.read_exact(&mut byte).await.unwrap();
        held.push(stream);
    }
    let mut waiting = served.stream().await;
    waiting.write_all(b"GET /live HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    let early = tokio::time::timeout(Duration::from_millis(200), waiting.read_to_string(&mut text)).await;
    assert!(early.is_err(), "served beyond the bound: {text}");
    held.pop();
    tokio::time::timeout(Duration::from_secs(10), waiting.read_to_string(&mut text)).await.unwrap().unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_unix_socket_takes_any_name_and_answers_the_client() {
    let directory = tempfile::tempdir().unwrap();
    let address = ListenAddress::Unix(directory.path().join("admin.sock"));
    let served = served_at(&address, Access::Full);
    let client = client::Client::new(address, Duration::from_secs(10));
    let reply = client.get("/config").await.unwrap();
    assert_eq!(reply.status, 200);
    assert!(reply.text.contains("outbound"));
    let ListenAddress::Unix(path) = &served.address else { panic!("not a path") };
    let mut stream = tokio::net::UnixStream::connect(path).await.unwrap();
    stream.write_all(b"GET /live HTTP/1.1\r\nhost: whatever\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 200"), "{text}");
}

#[tokio::test]
async fn a_client_that_finds_nobody_says_where_it_asked() {
    let address = ListenAddress::Unix("/nonexistent/admin.sock".into());
    let error = client::Client::new(address, Duration::from_secs(10)).get("/ready").await.unwrap_err().to_string();
    assert!(error.contains("unix:/nonexistent/admin.sock"), "{error}");
}
