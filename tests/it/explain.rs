//! `meshless explain`, as a process: of files, and of a gateway that runs.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

use crate::plain::{self, dead_address, wait_until};
use crate::process::{self, Process};

fn meshless(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    let variables = [("ENDPOINTS", "examples/endpoints")];
    command.arg("explain").args(arguments).env_clear().envs(variables).current_dir(env!("CARGO_MANIFEST_DIR"));
    command.output().unwrap()
}

fn text(output: &Output) -> String {
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn json(arguments: &[&str]) -> Value {
    serde_json::from_str(&text(&meshless(&[&["--json"], arguments].concat()))).unwrap()
}

/// The path to an array of endpoints differs; their addresses and shares are looked for wherever they are.
fn endpoints(value: &Value) -> Vec<Value> {
    match value {
        Value::Object(fields) if fields.contains_key("unused_because") => vec![value.clone()],
        Value::Object(fields) => fields.values().flat_map(endpoints).collect(),
        Value::Array(values) => values.iter().flat_map(endpoints).collect(),
        _ => Vec::new(),
    }
}

/// A file of `examples/`, what is asked about it, and the route and the services that it leads to.
type Case = (&'static str, &'static [&'static str], &'static str, &'static [&'static str]);

/// Stands in a case for a file of endpoints.
const GIVEN: &str = "ENDPOINTS";
/// What is in it: endpoints of the files that an example names and that are not here.
const ENDPOINTS: &str = "[[services.\"file/shop\"]]\naddress = \"10.2.0.1:80\"\n\
                         [[services.\"file/cart\"]]\naddress = \"10.2.0.2:80\"\n\
                         [[services.\"file/cart\"]]\naddress = \"10.2.0.3:80\"\n\
                         [[services.\"file/postgres\"]]\naddress = \"10.2.0.4:5432\"\n";

const CASES: &[Case] = &[
    (
        "authorize",
        &["--from", "spiffe://example.org/svc/web", "https://orders/v1/7"],
        "inbound to",
        &["static/127.0.0.1:8080"],
    ),
    ("authorize", &["tcp://database:5432"], "database to", &["postgres"]),
    ("balancing", &["--endpoints", GIVEN, "http://shop.example.com/"], "route 3", &["shop"]),
    ("balancing", &["--endpoints", GIVEN, "-H", "cookie: session=7", "http://h/cart/1"], "route 1", &["cart"]),
    ("balancing", &["--endpoints", GIVEN, "tcp://database:5432"], "postgres to", &["postgres"]),
    ("cloudmap", &["GET", "http://web/api/x"], "route 1", &["api"]),
    ("cloudmap", &["GET", "http://web/"], "route 2", &["web"]),
    ("consul", &["GET", "http://web/api/x"], "route 1", &["api"]),
    ("consul", &["GET", "http://web/"], "route 2", &["web"]),
    ("dns", &["GET", "http://web/api/x"], "route 1", &["api"]),
    ("dns", &["GET", "http://web/"], "route 2", &["web"]),
    ("ecs", &["GET", "http://web/jobs/1"], "route 2", &["workers"]),
    ("ecs", &["GET", "http://web/billing/1"], "route 3", &["billing"]),
    ("failover-and-split", &["GET", "http://api.example.com/reports/7"], "reports", &["reports"]),
    ("failover-and-split", &["GET", "http://api.example.com/v1/x"], "api", &["api", "api-canary"]),
    ("failover-and-split", &["GET", "http://a.b.example.org/"], "partners", &["api"]),
    ("file-discovery", &["GET", "http://web/"], "route 2", &["web"]),
    ("gateway-api", &["http://web/gateway-status"], "status", &[]),
    ("kubernetes", &["GET", "http://web/api/x"], "route 1", &["api"]),
    ("kubernetes", &["GET", "http://web/"], "route 2", &["web"]),
    ("mesh", &["http://api.internal/"], "route 1", &["api"]),
    ("mesh", &["http://billing.internal/"], "route 2", &["billing"]),
    ("mesh", &["https://web/"], "inbound to", &["static/127.0.0.1:8080"]),
    ("names", &["GET", "http://web-v2.mesh/"], "{service}.mesh", &["web-v2"]),
    ("names", &["GET", "http://legacy.prod.mesh/"], "route 1", &["static/127.0.0.1:8081"]),
    ("names", &["-H", "meshless-route: web-v2", "http://legacy.prod.mesh/"], "route 1", &["web-v2"]),
    ("register", &["GET", "http://web/"], "inbound to", &["static/127.0.0.1:8080"]),
    ("routing", &["POST", "http://api.example.com/users/7?page=2"], "users", &["api"]),
    ("routing", &["-H", "x-tester: 1", "http://api.example.com/users/7"], "testers", &["api-next"]),
    ("routing", &["http://api.example.com/u/7"], "moved", &[]),
    (
        "routing",
        &["-H", "content-type: application/grpc", "POST", "http://greeter/greet.v1.Greeter/Hello"],
        "hello",
        &["greeter"],
    ),
    ("routing", &["--address", "10.1.2.3", "http://api.example.com/"], "rest", &["api"]),
    ("smallest", &["GET", "http://anything/"], "route 1", &["web"]),
    ("tcp-and-passthrough", &["tcp://database:5432"], "postgres to", &["postgres"]),
    ("tcp-and-passthrough", &["tls://shop.example.com"], "route 1", &["shop"]),
    ("tcp-and-passthrough", &["tls://in.mail.example.com"], "route 2", &["mail"]),
    ("tracing", &["http://web/"], "web", &["web"]),
    ("tls-termination", &["https://api.example.com/v1/x"], "route 2", &["api"]),
    ("tls-termination", &["--listener", "partners", "https://www.example.com/"], "route 3", &["api"]),
];

#[test]
fn every_example_is_explained() {
    let asked: BTreeSet<&str> = CASES.iter().map(|(file, ..)| *file).collect();
    for entry in std::fs::read_dir(concat!(env!("CARGO_MANIFEST_DIR"), "/examples")).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_some_and(|ending| ending == "toml") {
            let name = path.file_stem().unwrap().to_str().unwrap();
            assert!(asked.contains(name), "nobody asks about examples/{name}.toml: add a case");
        }
    }
    let given = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    given.as_file().write_all(ENDPOINTS.as_bytes()).unwrap();
    for (file, question, route, services) in CASES {
        let file = format!("examples/{file}.toml");
        let path = given.path().to_str().unwrap();
        let question = question.iter().map(|word| if *word == GIVEN { path } else { word });
        let arguments: Vec<&str> = ["-c", &file].into_iter().chain(question).collect();
        let told = json(&arguments);
        assert_eq!(told["route"]["name"], *route, "{arguments:?}");
        let found: Vec<&str> =
            told["services"].as_array().unwrap().iter().map(|one| one["name"].as_str().unwrap()).collect();
        assert_eq!(found, *services, "{arguments:?}");
        let expected = if services.is_empty() { "answered" } else { "sent" };
        assert_eq!(told["outcome"]["kind"], expected, "{arguments:?}: {told}");
        if arguments.contains(&"cookie: session=7") {
            let shares: Vec<Value> = endpoints(&told).into_iter().map(|one| one["share"].clone()).collect();
            assert!(shares == [1.0, 0.0] || shares == [0.0, 1.0], "one session is at one endpoint: {shares:?}");
        }
        let written = text(&meshless(&arguments));
        assert!(written.contains(route) && written.contains("listener"), "{written}");
    }
}

#[test]
fn the_guide_shows_what_the_command_prints() {
    let guide = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/explain.md")).unwrap();
    let (_, rest) = guide.split_once("\n$ meshless explain ").unwrap();
    let (line, rest) = rest.split_once('\n').unwrap();
    let (shown, _) = rest.split_once("```").unwrap();
    assert_eq!(text(&meshless(&line.split(' ').collect::<Vec<_>>())), shown);
}

#[test]
fn endpoints_of_backends_that_are_not_asked_can_be_given() {
    let file = tempfile::Builder::new().suffix(".toml").tempfile().unwrap();
    let services = "[[services.\"consul-dns/srv/_api._tcp.service.consul.\"]]\naddress = \"10.1.1.1:80\"\n\
                    health = \"unhealthy\"\n[[services.\"dns/api.internal.example:8080\"]]\naddress = \"10.1.1.2:8080\"\n\
                    [[services.\"consul/typo\"]]\naddress = \"10.1.1.3:80\"\n";
    file.as_file().write_all(services.as_bytes()).unwrap();
    let given = file.path().to_str().unwrap();
    let told = json(&["-c", "examples/dns.toml", "--endpoints", given, "http://h/api/x"]);
    let shares: Vec<(String, f64)> = endpoints(&told)
        .iter()
        .map(|one| (one["address"].as_str().unwrap().to_owned(), one["share"].as_f64().unwrap()))
        .collect();
    assert_eq!(shares, [("10.1.1.1:80".to_owned(), 0.0), ("10.1.1.2:8080".to_owned(), 1.0)]);
    assert!(told["notes"].to_string().contains("`consul/typo` is no target"), "{}", told["notes"]);
    // Without them, what is not known is said to be so, and no endpoint is made up.
    let told = json(&["-c", "examples/dns.toml", "http://h/api/x"]);
    assert!(endpoints(&told).is_empty() && told["notes"].to_string().contains("--endpoints FILE"), "{told}");
}

#[test]
fn what_cannot_be_answered_says_what_to_do() {
    let dead = dead_address().to_string();
    for (arguments, code, says) in [
        (&["http://a/"][..], 64, "--config"),
        (&["-c", "examples/smallest.toml"], 64, "METHOD URL"),
        (&["-c", "examples/smallest.toml", "GET", "/x"], 64, "hint: write all of it, such as http://"),
        (&["-c", "examples/smallest.toml", "https://a/"], 64, "`127.0.0.1:4140` takes http"),
        (&["-c", "examples/smallest.toml", "--listener", "x", "http://a/"], 64, "there is no listener `x`"),
        (&["-c", "examples/smallest.toml", "-H", "x", "http://a/"], 64, "NAME:VALUE"),
        (&["-c", "nowhere.toml", "http://a/"], 64, "nowhere.toml"),
        (&["-c", "examples/smallest.toml", "--log-line", "x"], 64, "no line of the access log"),
        (&["--admin", "nowhere", "http://a/"], 64, "IP:PORT"),
        (&["--admin", &dead, "http://a/"], 69, "is it running?"),
    ] {
        let output = meshless(arguments);
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(code), "{arguments:?}: {told}");
        assert!(told.contains(says), "{arguments:?}: {told}");
        assert!(output.stdout.is_empty());
    }
}

fn admin(gateway: &Process) -> String {
    format!("unix:{}", gateway.admin_socket().display())
}

/// Shares of endpoints by their addresses, as a running gateway tells them.
fn share(gateway: &Process, address: &str) -> f64 {
    let told = json(&["--admin", &admin(gateway), "http://a.example/"]);
    assert_eq!(told["source"]["kind"], "running");
    endpoints(&told).iter().find(|one| one["address"] == address).unwrap()["share"].as_f64().unwrap()
}

#[test]
fn what_is_told_of_a_running_gateway_is_what_it_does() {
    const REQUESTS: usize = 400;
    let (light, heavy, canary) = (plain::origin("light"), plain::origin("heavy"), plain::origin("canary"));
    let gateway = process::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[defaults]\nbalance = \"random\"\n\
         [services.app]\nfrom = \"static/{},{}*3\"\n[services.canary]\nfrom = \"static/{}\"\n\
         [[routes]]\nto = \"80 * app & 20 * canary\"\n",
        light.address, heavy.address, canary.address
    ))
    .start();
    let told: Vec<f64> =
        [&light, &heavy, &canary].iter().map(|origin| share(&gateway, &origin.address.to_string())).collect();
    for (told, expected) in told.iter().zip([0.2, 0.6, 0.2]) {
        assert!((told - expected).abs() < 0.02, "{told} for {expected}");
    }
    let mut client = plain::client(gateway.address("edge"));
    for _ in 0..REQUESTS {
        assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    }
    for (told, origin) in told.iter().zip([&light, &heavy, &canary]) {
        let seen = origin.requests() as f64 / REQUESTS as f64;
        // Four standard deviations of 400 draws.
        let bound = 4.0 * (told * (1.0 - told) / REQUESTS as f64).sqrt();
        assert!((seen - told).abs() < bound + 0.01, "told {told}, seen {seen}");
    }
}

#[test]
fn an_endpoint_that_was_ejected_is_told_with_its_reason() {
    let (good, dead) = (plain::origin("good"), dead_address());
    let gateway = process::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.app]\nfrom = \"static/{},{dead}\"\n\
         balance = \"round-robin\"\nbreaker = {{ eject = \"60s..60s\" }}\n[[routes]]\nto = \"app\"\n",
        good.address
    ))
    .start();
    let mut client = plain::client(gateway.address("edge"));
    for _ in 0..20 {
        assert_eq!(client.get("a.example", "/").unwrap().status, 200);
    }
    let told = json(&["--admin", &admin(&gateway), "http://a.example/"]);
    let one = endpoints(&told).into_iter().find(|one| one["address"] == dead.to_string()).unwrap();
    assert_eq!((&one["share"], &one["ejected"]["cause"]), (&Value::from(0.0), &Value::from("connect")));
    let why = one["unused_because"].as_str().unwrap();
    assert!(why.starts_with("ejected for ") && why.contains("(consecutive, connect)"), "{why}");
    let written = text(&meshless(&["--admin", &admin(&gateway), "http://a.example/"]));
    assert!(written.contains("; ejected for ") && written.contains("100.0 %  weight 1"), "{written}");
}

#[test]
fn a_name_that_nobody_asked_for_is_not_opened_by_a_question() {
    let origin = plain::origin("a");
    let builder = process::with(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[discovery.file]\npath = \"DIR/endpoints.toml\"\n\
         [[names]]\nmatch = \"{service}.mesh\"\ntarget = \"file/{service}\"\n",
    );
    let endpoints = format!("[[services.web]]\naddress = \"{}\"\n", origin.address);
    std::fs::write(builder.directory().join("endpoints.toml"), endpoints).unwrap();
    let gateway = builder.start();
    let ask = || json(&["--admin", &admin(&gateway), "http://web.mesh/"]);
    for _ in 0..2 {
        let told = ask();
        assert_eq!(told["outcome"]["kind"], "opens", "{told}");
    }
    assert_eq!(plain::get(gateway.address("edge"), "web.mesh", "/").status, 200);
    let told = ask();
    assert_eq!(
        (&told["route"]["kind"], &told["route"]["name"]),
        (&Value::from("name"), &Value::from("{service}.mesh"))
    );
    assert_eq!(self::endpoints(&told)[0]["address"], origin.address.to_string());
    // Of files, what the first request would open is opened.
    let file = gateway.file();
    let told = json(&["-c", file.to_str().unwrap(), "http://web.mesh/"]);
    assert_eq!((&told["outcome"]["kind"], &told["services"][0]["share"]), (&Value::from("sent"), &Value::from(1.0)));
}

#[test]
fn a_request_id_in_the_access_log_leads_to_the_same_decision() {
    let origin = plain::origin("a");
    let configuration = format!(
        "[telemetry]\naccess_log = \"json\"\n[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [services.app]\nfrom = \"static/{}\"\n[[routes]]\nname = \"testers\"\n\
         match = {{ headers = {{ x-tester = \"on\" }} }}\nto = \"app\"\n[[routes]]\nname = \"app\"\n\
         match = {{ host = \"a.example\", path = \"/v1/*\" }}\nto = \"app\"\n",
        origin.address
    );
    let gateway = process::with(&configuration).start();
    let mut client = plain::client(gateway.address("edge"));
    client.send("GET /v1/x?secret=1 HTTP/1.1\r\nhost: a.example\r\nx-request-id: find-me\r\n\r\n").unwrap();
    assert_eq!(client.reply().unwrap().status, 200);
    wait_until("the request is logged", || gateway.stdout().contains("find-me"));
    let log = gateway.directory().join("access.log");
    std::fs::write(&log, format!("no JSON\n{}", gateway.stdout())).unwrap();
    let find = |id: &str| {
        meshless(&["--json", "--admin", &admin(&gateway), "--access-log", log.to_str().unwrap(), "--request-id", id])
    };
    let told: Value = serde_json::from_str(&text(&find("find-me"))).unwrap();
    assert_eq!((&told["route"]["name"], &told["request"]["path"]), (&Value::from("app"), &Value::from("/v1/x")));
    let logged = &told["logged"];
    assert_eq!((&logged["endpoint"], &logged["status"]), (&Value::from(origin.address.to_string()), &Value::from(200)));
    assert_eq!(logged["differences"], Value::Array(Vec::new()), "{logged}");
    assert!(logged["unknown"].to_string().contains("route `testers` asks for `headers.x-tester`"), "{logged}");
    let nobody = find("nobody");
    assert_eq!(nobody.status.code(), Some(64));
    assert!(String::from_utf8_lossy(&nobody.stderr).contains("no line with request_id `nobody`"));
    // The same line on standard input, after the configuration has changed.
    gateway.reload(&configuration.replace("name = \"app\"", "name = \"other\""));
    let line = gateway.stdout().lines().find(|line| line.contains("find-me")).unwrap().to_owned();
    let mut command = Command::new(env!("CARGO_BIN_EXE_meshless"));
    command.args(["explain", "--admin", &admin(&gateway), "--log-line", "-"]);
    let mut child = command.env_clear().stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
    child.stdin.take().unwrap().write_all(format!("{line}\n").as_bytes()).unwrap();
    let told = text(&child.wait_with_output().unwrap());
    assert!(told.contains("route: the log says `app`, now it is `other`"), "{told}");
}
