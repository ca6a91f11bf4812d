//! `allow`: who may do what through a whole gateway, over every protocol, by certificates with SPIFFE IDs.

use std::io::{Read as _, Write as _};
use std::net::SocketAddr;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;

use bytes::Bytes;
use h2::client::SendRequest;
use http::Request;
use rustls::pki_types::ServerName;
use serde_json::Value;
use tempfile::TempDir;
use tokio_rustls::TlsConnector;

use crate::authority::{Authority, Tls, connect};
use crate::gateway::{self, Running};
use crate::plain::{self, Client, Origin, origin, serve, wait_until};
use crate::process;
use crate::wire::{read, run};

const WEB: &str = "spiffe://example.org/svc/web";
const API: &str = "spiffe://example.org/svc/api";

/// An authority, and the files of a listener that asks for certificates of it.
struct Mesh {
    authority: Authority,
    directory: TempDir,
}

impl Mesh {
    fn new() -> Self {
        let (authority, directory) = (Authority::new("mesh"), tempfile::tempdir().unwrap());
        authority.issue(&["a.example"]).write(directory.path(), "server");
        authority.write(directory.path(), "ca.pem");
        Self { authority, directory }
    }

    /// Text of a listener `edge` that verifies clients, with these lines.
    fn listener(&self, lines: &str) -> String {
        let file = |name: &str| self.directory.path().join(name).display().to_string();
        format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n{lines}\n\
             tls = {{ mode = \"server\", cert = \"{}\", key = \"{}\", client_ca = \"{}\" }}\n",
            file("server.pem"),
            file("server.key"),
            file("ca.pem")
        )
    }

    fn config(&self, id: Option<&str>, alpn: &[&str]) -> Arc<rustls::ClientConfig> {
        let leaf = self.authority.issue_for(&["client"], id.as_slice());
        self.authority.client(alpn, Some(&leaf))
    }

    /// Connects as this workload, or as one that has a certificate without a SPIFFE ID.
    fn client(&self, address: SocketAddr, id: Option<&str>) -> Client<Tls> {
        connect(address, "a.example", &self.config(id, &[])).unwrap()
    }

    async fn h2(&self, address: SocketAddr, id: &str) -> SendRequest<Bytes> {
        let stream = tokio::net::TcpStream::connect(address).await.unwrap();
        let name = ServerName::try_from("a.example").unwrap();
        let stream = TlsConnector::from(self.config(Some(id), &["h2"])).connect(name, stream).await.unwrap();
        let (client, connection) = h2::client::handshake(stream).await.unwrap();
        tokio::spawn(async move {
            let _ = connection.await;
        });
        client
    }
}

fn ask(client: &mut Client<Tls>, method: &str, path: &str) -> (u16, String) {
    client.send(&format!("{method} {path} HTTP/1.1\r\nhost: a.example\r\ncontent-length: 0\r\n\r\n")).unwrap();
    let reply = client.reply().unwrap();
    (reply.status, reply.header("meshless-error").unwrap_or_default().to_owned())
}

/// What a denied request gets.
fn denied() -> (u16, String) {
    (403, "denied".to_owned())
}

fn passed() -> (u16, String) {
    (200, String::new())
}

fn to(origin: &Origin, allow: &str) -> String {
    format!("to = \"static/{}\"\nallow = [{allow}]", origin.address)
}

/// Writes a configuration, asks for it to be read, and waits until it was.
fn reload(gateway: &Running, text: &str) {
    let before = gateway.metric("meshless_config_reload_total", &["result=\"applied\""]);
    std::fs::write(gateway.file(), text).unwrap();
    gateway.gateway().reload();
    gateway.wait_until("the configuration was read", |gateway| {
        gateway.metric("meshless_config_reload_total", &["result=\"applied\""]) > before
    });
}

#[test]
fn requests_need_a_rule_for_their_client_method_and_path() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let rules = format!("{{ from = \"{WEB}\", methods = [\"GET\"], path = \"/v1/*\" }}, {{ path = \"/healthz\" }}");
    let gateway = gateway::with(&mesh.listener(&to(&origin, &rules))).start();
    let address = gateway.address("edge");
    let mut web = mesh.client(address, Some(WEB));
    // All on one connection: a denied request ends no connection.
    assert_eq!(ask(&mut web, "GET", "/v1/x?y=/../.."), passed());
    assert_eq!(ask(&mut web, "POST", "/v1/x"), denied());
    assert_eq!(ask(&mut web, "GET", "/v2"), denied());
    assert_eq!(ask(&mut web, "GET", "/v1"), passed());
    let mut api = mesh.client(address, Some(API));
    assert_eq!(ask(&mut api, "GET", "/v1/x"), denied());
    assert_eq!(ask(&mut api, "GET", "/healthz"), passed());
    let mut nobody = mesh.client(address, None);
    assert_eq!(ask(&mut nobody, "GET", "/v1/x"), denied());
    assert_eq!(ask(&mut nobody, "GET", "/healthz"), passed());
    // An upgrade is a request like every other, and what a denied one sends as its body is nobody's request.
    api.send("GET /v1/ws HTTP/1.1\r\nhost: a\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").unwrap();
    assert_eq!(api.reply().unwrap().status, 403);
    let smuggled = "GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n";
    let length = smuggled.len();
    api.send(&format!("POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: {length}\r\n\r\n{smuggled}")).unwrap();
    assert_eq!(api.reply().unwrap().status, 403);
    // Two identities are none.
    let leaf = mesh.authority.issue_for(&["client"], &[WEB, API]);
    let mut two = connect(address, "a.example", &mesh.authority.client(&[], Some(&leaf))).unwrap();
    assert_eq!(ask(&mut two, "GET", "/v1/x"), denied());
    assert_eq!(origin.requests(), 4);
    gateway.wait_for_metric("inbound_http_authz_allow_total", &["listener=\"edge\"", "rule=\"allow[0]\""], 2.0);
    gateway.wait_for_metric("inbound_http_authz_allow_total", &["rule=\"allow[1]\""], 2.0);
    gateway.wait_for_metric("inbound_http_authz_deny_total", &["listener=\"edge\""], 7.0);
    assert_eq!(gateway.count("inbound_http_authz_deny_total", &["dry_run"]), 0);
    gateway.wait_for_metric(
        "response_total",
        &["error=\"denied\"", "status_code=\"403\"", "classification=\"success\""],
        7.0,
    );
}

#[test]
fn no_way_to_write_a_path_leads_around_a_rule() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let rules = "{ path = \"/public/*\" }, { methods = [\"GET\"], path = \"/admin/status\" }";
    let gateway = gateway::with(&mesh.listener(&to(&origin, rules))).start();
    let mut client = mesh.client(gateway.address("edge"), Some(WEB));
    for path in
        ["/public/x", "/public//x", "/public/./x", "/public/x/../y", "//public/x", "/%70ublic/x", "/public/a;b=c"]
    {
        assert_eq!(ask(&mut client, "GET", path), passed(), "{path}");
    }
    for path in [
        "/admin",
        "/public/../admin",
        "/public/%2e%2e/admin",
        "/public/%2E%2e/admin",
        "/public/./../admin",
        "/public/..;/admin",
        "/public/..;a=b/admin",
        "/public/..%3b/admin",
        "/public/.;/../../admin",
        "//admin",
        "/%61dmin",
        "/Public/x",
        "/public%20/x",
        "/admin/status/",
        "/admin/status/x",
        "/admin/status;x",
        "/publicx",
        "/?/public/x",
    ] {
        assert_eq!(ask(&mut client, "GET", path), denied(), "{path}");
    }
    let before = origin.requests();
    // What could be read as two paths is refused before any rule, and ends its connection.
    for path in
        ["/public/..%2fadmin", "/public/%2e%2e%2Fadmin", "/public/..%5cadmin", "/public\\..\\admin", "/public/%00"]
    {
        let mut client = mesh.client(gateway.address("edge"), Some(WEB));
        let (status, label) = ask(&mut client, "GET", path);
        assert_eq!(status, 400, "{path}: {label}");
    }
    // The absolute form is decided by its path, whatever its authority looks like.
    let mut client = mesh.client(gateway.address("edge"), Some(WEB));
    assert_eq!(ask(&mut client, "GET", "https://a.example/admin"), denied());
    assert_eq!(ask(&mut client, "GET", "https://a.example/public/../admin"), denied());
    assert_eq!(ask(&mut client, "GET", "https://a.example/public/x"), passed());
    assert_eq!(ask(&mut client, "OPTIONS", "*"), denied());
    // No header says which path it is.
    client
        .send("GET /admin HTTP/1.1\r\nhost: a.example\r\nx-original-url: /public/x\r\nx-rewrite-url: /public/x\r\n\r\n")
        .unwrap();
    assert_eq!(client.reply().unwrap().status, 403);
    assert_eq!(origin.requests(), before + 1);
}

#[test]
fn http2_requests_and_grpc_calls_are_decided_alike() {
    run(async {
        let mesh = Mesh::new();
        let rules = format!("{{ from = \"{WEB}\", path = \"/public/*\" }}, {{ from = \"{WEB}\", grpc = \"a.B/C\" }}");
        let text = mesh.listener(&format!("allow = [{rules}]")) + "[[routes]]\nrespond = { body = \"in\" }\n";
        let gateway = gateway::with(&text).start();
        let web = mesh.h2(gateway.address("edge"), WEB).await;
        let api = mesh.h2(gateway.address("edge"), API).await;
        for (client, path, status) in [
            (&web, "/public/x", 200),
            (&web, "/public/../admin", 403),
            (&web, "/public/..;/admin", 403),
            (&web, "/admin?/public/x", 403),
            (&web, "//public/x", 200),
            (&web, "/public/..%2fadmin", 400),
            (&api, "/public/x", 403),
        ] {
            let request = Request::get(format!("https://a.example{path}")).body(()).unwrap();
            let (answer, _) = client.clone().send_request(request, true).unwrap();
            assert_eq!(answer.await.unwrap().status(), status, "{path}");
        }
        // What a route answers with 200 and no message is UNKNOWN (2) to gRPC.
        for (client, method, status) in [(&web, "C", "2"), (&web, "D", "7"), (&api, "C", "7")] {
            let request = Request::post(format!("https://a.example/a.B/{method}"));
            let request = request.header("content-type", "application/grpc").header("te", "trailers").body(()).unwrap();
            let (answer, _) = client.clone().send_request(request, true).unwrap();
            let answer = answer.await.unwrap();
            assert_eq!(answer.status(), 200);
            let (head, mut body) = answer.into_parts();
            let (_, trailers) = read(&mut body).await.unwrap();
            let grpc = head.headers.get("grpc-status").cloned().or_else(|| trailers?.get("grpc-status").cloned());
            assert_eq!(grpc.unwrap(), status, "{method}");
            let label = head.headers.get("meshless-error").map(|label| label.to_str().unwrap().to_owned());
            assert_eq!(label.as_deref(), (status == "7").then_some("denied"));
        }
    });
}

#[test]
fn what_a_route_answers_or_limits_comes_after_the_rules() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let text = mesh.listener(&format!("allow = [{{ from = \"{WEB}\" }}]"))
        + &format!(
            "[[routes]]\nmatch = {{ path = \"/own\" }}\nrespond = {{ body = \"own\" }}\n\
             [[routes]]\nmatch = {{ path = \"/moved\" }}\nredirect = {{ path = \"/own\" }}\n\
             [[routes]]\nmatch = {{ path = \"/limited\" }}\nto = \"static/{0}\"\nrate_limit = {{ rate = \"1/h\", burst = 1 }}\n\
             [[routes]]\nmatch = {{ path = \"/copied\" }}\nto = \"static/{0}\"\nmirror = {{ to = \"static/{0}\" }}\n",
            origin.address
        );
    let gateway = gateway::with(&text).start();
    let mut api = mesh.client(gateway.address("edge"), Some(API));
    for path in ["/own", "/moved", "/limited", "/limited", "/copied", "/nowhere"] {
        assert_eq!(ask(&mut api, "GET", path), denied(), "{path}");
    }
    let mut web = mesh.client(gateway.address("edge"), Some(WEB));
    assert_eq!(ask(&mut web, "GET", "/own"), passed());
    assert_eq!(ask(&mut web, "GET", "/limited"), passed(), "what was denied has taken nothing of the limit");
    assert_eq!(ask(&mut web, "GET", "/nowhere").0, 404);
    assert_eq!(origin.requests(), 1, "and nothing was copied");
}

#[test]
fn bytes_are_carried_for_clients_with_a_rule_and_cut_off_for_others() {
    let mesh = Mesh::new();
    let greeter = serve(|mut stream| {
        let _ = stream.write_all(b"220 hello\r\n");
        let _ = stream.read(&mut [0; 16]);
    });
    let lines = format!("protocol = \"tcp\"\nto = \"static/{}\"\nallow = [{{ from = \"{WEB}\" }}]", greeter.address);
    let gateway = gateway::with(&mesh.listener(&lines)).start();
    let address = gateway.address("edge");
    assert_eq!(mesh.client(address, Some(WEB)).until(b"\r\n").unwrap(), "220 hello\r\n");
    for id in [Some(API), None] {
        assert!(mesh.client(address, id).is_closed(), "{id:?}");
    }
    assert_eq!(greeter.accepted(), 1);
    gateway.wait_for_metric("inbound_tcp_authz_allow_total", &["listener=\"edge\"", "rule=\"allow[0]\""], 1.0);
    gateway.wait_for_metric("inbound_tcp_authz_deny_total", &["listener=\"edge\""], 2.0);
}

#[test]
fn bytes_that_a_listener_found_out_to_be_bytes_need_a_rule_without_a_request() {
    let mesh = Mesh::new();
    let echo = serve(|mut stream| {
        let mut byte = [0; 5];
        let _ = stream.read_exact(&mut byte).and_then(|()| stream.write_all(&byte));
    });
    let text = |rule: &str| {
        mesh.listener(&format!("to = \"bytes\"\nallow = [{rule}]"))
            + &format!("[services.bytes]\nprotocol = \"tcp\"\nfrom = \"static/{}\"\n", echo.address)
    };
    let gateway = gateway::with(&text(&format!("{{ from = \"{WEB}\", path = \"/*\" }}"))).start();
    let say = |gateway: &Running| {
        let mut client = mesh.client(gateway.address("edge"), Some(WEB));
        client.send("\u{1}\u{2}\u{3}\u{4}\u{5}").unwrap();
        client.exactly(5).ok()
    };
    assert_eq!(say(&gateway), None, "a rule about paths says nothing of bytes");
    reload(&gateway, &text(&format!("{{ from = \"{WEB}\" }}")));
    assert_eq!(say(&gateway), Some(vec![1, 2, 3, 4, 5]));
}

#[test]
fn changed_rules_hold_for_the_next_request_of_an_open_connection() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let text = |rules: &str| mesh.listener(&to(&origin, rules));
    let gateway = gateway::with(&text(&format!("{{ from = \"{WEB}\" }}"))).start();
    let mut web = mesh.client(gateway.address("edge"), Some(WEB));
    let mut api = mesh.client(gateway.address("edge"), Some(API));
    assert_eq!((ask(&mut web, "GET", "/"), ask(&mut api, "GET", "/")), (passed(), denied()));
    reload(&gateway, &text(&format!("{{ from = \"{API}\" }}")));
    assert_eq!((ask(&mut web, "GET", "/"), ask(&mut api, "GET", "/")), (denied(), passed()));
    reload(&gateway, &text(""));
    assert_eq!((ask(&mut web, "GET", "/"), ask(&mut api, "GET", "/")), (denied(), denied()));
    // A file that is wrong opens nothing.
    std::fs::write(gateway.file(), text("{ from = \"everybody\" }")).unwrap();
    gateway.gateway().reload();
    gateway.wait_until("the file was refused", |gateway| {
        gateway.metric("meshless_config_reload_total", &["result=\"refused\""]) > 0.0
    });
    assert_eq!(ask(&mut web, "GET", "/"), denied());
    reload(&gateway, &mesh.listener(&format!("to = \"static/{}\"", origin.address)));
    assert_eq!((ask(&mut web, "GET", "/"), ask(&mut api, "GET", "/")), (passed(), passed()));
}

#[test]
fn a_dry_run_lets_everything_pass_and_counts_it() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let rules = to(&origin, &format!("{{ from = \"{WEB}\" }}")) + "\ndry_run = true";
    let gateway = gateway::with(&mesh.listener(&rules)).start();
    assert_eq!(ask(&mut mesh.client(gateway.address("edge"), Some(API)), "GET", "/"), passed());
    assert_eq!(ask(&mut mesh.client(gateway.address("edge"), Some(WEB)), "GET", "/"), passed());
    gateway.wait_for_metric("inbound_http_authz_deny_total", &["listener=\"edge\"", "dry_run=\"true\""], 1.0);
    gateway.wait_for_metric("inbound_http_authz_allow_total", &["rule=\"allow[0]\""], 1.0);
    assert_eq!(gateway.count("response_total", &["error=\"denied\""]), 0);
}

#[test]
fn a_rule_without_an_identity_is_for_clear_text_too() {
    let origin = origin("one");
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n\
         allow = [{{ path = \"/healthz\" }}, {{ headers = {{ x-token = \"secret\" }} }}, \
         {{ path = \"/far\", address = [\"10.0.0.0/8\"] }}, {{ path = \"/near\", address = [\"127.0.0.0/8\"] }}]\n",
        origin.address
    ))
    .start();
    let address = gateway.address("edge");
    for (path, status) in [("/healthz", 200), ("/x", 403), ("/far", 403), ("/near", 200)] {
        assert_eq!(plain::get(address, "a.example", path).status, status, "{path}");
    }
    let mut client = plain::client(address);
    client.send("GET /x HTTP/1.1\r\nhost: a\r\nx-token: secret\r\n\r\n").unwrap();
    assert_eq!(client.reply().unwrap().status, 200);
}

#[test]
fn denials_are_written_down_with_the_nearest_rule_and_a_flood_is_cut() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let rules = format!("{{ from = \"{API}\" }}, {{ from = \"{WEB}\", methods = [\"GET\"], path = \"/v1/*\" }}");
    let process = process::with(&mesh.listener(&to(&origin, &rules))).start();
    let mut web = mesh.client(process.address("edge"), Some(WEB));
    assert_eq!(ask(&mut web, "POST", "/v1/x?password=secret"), denied());
    process.wait_for_log("No rule allows what a client asks for.");
    let log = process.stderr();
    let line = log.lines().find(|line| line.contains("No rule allows")).unwrap();
    let line: Value = serde_json::from_str(line).unwrap();
    assert_eq!((&line["target"], &line["level"]), (&"audit".into(), &"INFO".into()), "{line}");
    let fields = &line["fields"];
    for (name, expected) in [
        ("listener", Value::from("edge")),
        ("from", WEB.into()),
        ("address", "127.0.0.1".into()),
        ("method", "POST".into()),
        ("path", "/v1/x".into()),
        ("nearest", "allow[1]".into()),
        ("missed", "methods: found `POST`".into()),
        ("dry_run", false.into()),
        ("left_out", 0.into()),
    ] {
        assert_eq!(fields[name], expected, "{name}: {line}");
    }
    assert!(fields["request_id"].as_str().is_some_and(|id| !id.is_empty()), "{line}");
    assert!(!log.contains("secret"), "the query stays out");
    for _ in 0..2000 {
        assert_eq!(ask(&mut web, "GET", "/"), denied());
    }
    let lines = || process.stderr().lines().filter(|line| line.contains("No rule allows")).count();
    // 100 at once, and 10 a second for as long as it took.
    assert!((100..1500).contains(&lines()), "{}", lines());
    let told = || -> u64 {
        let log = process.stderr();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.filter(|line| line["target"] == "audit").map(|line| line["fields"]["left_out"].as_u64().unwrap()).sum()
    };
    wait_until("all that was left out is told", || told() + lines() as u64 == 2001);
}

fn meshless(arguments: &[&str], directory: &Path) -> (Option<i32>, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_meshless")).args(arguments).current_dir(directory).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap() + &String::from_utf8(output.stderr).unwrap();
    (output.status.code(), text)
}

#[test]
fn explain_says_which_rule_allows_and_what_the_others_miss() {
    let mesh = Mesh::new();
    let rules = format!(
        "{{ from = \"{WEB}\", methods = [\"GET\"], path = \"/v1/*\" }}, {{ from = \"{API}\", path = \"/v2/*\" }}"
    );
    let text = mesh.listener(&format!("to = \"static/127.0.0.1:9\"\nallow = [{rules}]"));
    let file = mesh.directory.path().join("meshless.toml");
    std::fs::write(&file, &text).unwrap();
    let explain = |arguments: &[&str]| {
        let all = [&["explain", "-c", "meshless.toml"], arguments].concat();
        meshless(&all, mesh.directory.path()).1
    };
    let allowed = explain(&["--from", WEB, "https://a.example/v1/x"]);
    assert!(allowed.contains("allow[0] of 2") && allowed.contains("edge to"), "{allowed}");
    let denied = explain(&["--from", WEB, "POST", "https://a.example/v1/x"]);
    assert!(denied.contains("403: this client may not do that here"), "{denied}");
    assert!(denied.contains("(denied)") && denied.contains("no rule allows it (of 2)"), "{denied}");
    assert!(denied.contains("not allow[0]  methods: found `POST`  (comes closest)"), "{denied}");
    assert!(denied.contains(&format!("not allow[1]  path: found `/v1/x`; from: found `{WEB}`")), "{denied}");
    let json: Value = serde_json::from_str(&explain(&["--json", "--from", WEB, "https://a.example/v1/..;/x"])).unwrap();
    assert_eq!((&json["outcome"]["status"], &json["outcome"]["label"]), (&403.into(), &"denied".into()), "{json}");
    assert_eq!((&json["allow"]["rule"], &json["allow"]["nearest"]), (&Value::Null, &"allow[0]".into()), "{json}");
    assert!(json["allow"]["missed"][0]["misses"][0]["found"].as_str().unwrap().contains("different ways"), "{json}");
    // The gateway that runs says the same.
    let gateway = gateway::with(&text).start();
    let (status, answer) = gateway.admin(&format!("/explain?url=https://a.example/v2&from={WEB}"));
    let running: Value = serde_json::from_str(&answer).unwrap();
    assert_eq!((status, &running["outcome"]["label"]), (200, &"denied".into()), "{running}");
    // Each misses one thing; the first one knows the client.
    assert_eq!(running["allow"]["nearest"], "allow[0]");
    std::fs::write(&file, text.replace("allow = [", "dry_run = true\nallow = [")).unwrap();
    let dry = explain(&["https://a.example/v3"]);
    assert!(dry.contains("no rule allows it (of 2), but `dry_run` lets it pass") && dry.contains("edge to"), "{dry}");
}

#[test]
fn cases_say_who_is_denied() {
    let mesh = Mesh::new();
    let rules = format!("allow = [{{ from = \"{WEB}\", path = \"/v1/*\" }}]");
    let listener = mesh.listener(&format!("to = \"static/127.0.0.1:9\"\n{rules}"));
    let indented = listener.replace("[[listeners]]", "[[config.listeners]]");
    let case = |name: &str, from: &str, path: &str, expect: &str| {
        format!(
            "[[cases]]\nname = \"{name}\"\nrequest = {{ url = \"http://a.example{path}\", {from} }}\nexpect = {{ {expect} }}\n"
        )
    };
    let web = format!("from = \"{WEB}\"");
    let file = indented
        + &case("one", &web, "/v1/x", "denied = false, status = 200")
        + &case("two", &web, "/v2", "denied = true, status = 403, error = \"denied\"")
        + &case("three", "", "/v1/x", "denied = true")
        + &case("four", "", "/v1/x", "denied = false");
    std::fs::write(mesh.directory.path().join("cases.toml"), file).unwrap();
    let (code, text) = meshless(&["test", "cases.toml"], mesh.directory.path());
    assert_eq!(code, Some(1), "{text}");
    assert!(text.contains("4 cases, 1 failed") && text.contains("denied: expected false, found true"), "{text}");
}

#[test]
fn a_path_that_looks_like_a_line_forges_none() {
    let (mesh, origin) = (Mesh::new(), origin("one"));
    let process = process::with(&mesh.listener(&to(&origin, ""))).start();
    let mut web = mesh.client(process.address("edge"), Some(WEB));
    assert_eq!(ask(&mut web, "GET", "/%0a%0dINFO%20audit"), denied());
    process.wait_for_log("No rule allows what a client asks for.");
    let log = process.stderr();
    assert_eq!(log.lines().filter(|line| line.starts_with("INFO")).count(), 0, "{log}");
    assert!(log.contains("there is no rule"), "{log}");
}
