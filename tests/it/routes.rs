//! What routes match and do, through a running gateway.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Response;

use crate::gateway::{self, Running};
use crate::plain::{self, client, get, origin};
use crate::upstream::Upstream;
use crate::wire::{Wire, ask, h2_client, read, request, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nx-powered-by: magic\r\n\r\nok";

/// A gateway with one listener, `edge`, and these routes.
fn routes(text: &str) -> Running {
    gateway::with(&config(text)).start()
}

fn config(text: &str) -> String {
    format!("[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n{text}")
}

/// Sends one request with these header lines; returns which route took it.
fn route_of(gateway: &Running, target: &str, lines: &str) -> String {
    let mut client = client(gateway.address("edge"));
    client.send(&format!("{target} HTTP/1.1\r\nhost: app\r\n{lines}\r\n")).unwrap();
    client.reply().unwrap().body
}

#[test]
fn every_matcher_chooses_by_what_the_request_says() {
    let respond =
        |name: &str, matches: &str| format!("[[routes]]\nmatch = {{ {matches} }}\nrespond = {{ body = \"{name}\" }}\n");
    let gateway = routes(
        &[
            respond("capture", "path = \"/u/{id}/posts\""),
            respond("regex", "path = { regex = \"/v[0-9]+/.*\" }"),
            respond("method", "method = [\"PUT\", \"DELETE\"]"),
            respond("header", "headers = { x-env = \"stag*\", x-no = { not = \"1\" } }"),
            respond("present", "headers = { authorization = { present = true } }"),
            respond("query", "query = { debug = \"a b\" }"),
            respond("far", "address = [\"10.0.0.0/8\"]"),
            respond("known", "from = \"spiffe://example.org/*\""),
            respond("near", "address = [\"127.0.0.0/8\"]"),
        ]
        .concat(),
    );
    for (target, lines, expected) in [
        ("GET /u/Bob/posts", "", "capture"),
        ("GET /u//posts", "", "near"),
        ("GET /v12/x?q", "", "regex"),
        ("GET /v/x", "", "near"),
        ("PUT /", "content-length: 0\r\n", "method"),
        ("GET /", "x-env: staging\r\n", "header"),
        ("GET /", "x-env: staging\r\nx-no: 1\r\n", "near"),
        ("GET /", "x-env: prod\r\nx-env: stag\r\n", "header"),
        ("GET /", "authorization: x\r\n", "present"),
        ("GET /?a=1&debug=a%20b", "", "query"),
        ("GET /?debug=a+b", "", "query"),
    ] {
        assert_eq!(route_of(&gateway, target, lines), expected, "{target} {lines:?}");
    }
}

#[test]
fn a_grpc_route_takes_its_calls_over_http2_and_leaves_others() {
    run(async {
        let gateway = routes(
            "[[routes]]\nmatch = { grpc = \"echo.Echo/Say\" }\nrespond = { status = 404, body = \"say\" }\n\
             [[routes]]\nmatch = { grpc = \"echo.Echo\" }\nrespond = { status = 401, body = \"echo\" }\n\
             [[routes]]\nrespond = { body = \"other\" }\n",
        );
        let client = h2_client(gateway.address("edge")).await;
        let grpc = |path: &str| request("POST", path).header("content-type", "application/grpc").body(()).unwrap();
        for (path, status, message) in
            [("/echo.Echo/Say", "12", "say"), ("/echo.Echo/Sing", "16", "echo"), ("/echo.Other/Say", "2", "other")]
        {
            let (head, body) = ask(&client, grpc(path)).await;
            assert_eq!((head.status().as_u16(), body.as_str()), (200, ""), "{path}");
            assert_eq!(
                (&head.headers()["grpc-status"], &head.headers()["grpc-message"]),
                (&status.parse().unwrap(), &message.parse().unwrap())
            );
        }
        let (head, body) = ask(&client, request("POST", "/echo.Echo/Say").body(()).unwrap()).await;
        assert_eq!((head.status().as_u16(), body.as_str()), (200, "other"), "no gRPC, no gRPC route");
    });
}

#[test]
fn a_client_is_known_by_the_certificate_that_it_was_verified_by() {
    let directory = tempfile::tempdir().unwrap();
    let authority = crate::authority::Authority::new("test");
    let files = authority.issue(&["a.example"]).write(directory.path(), "a");
    let ca = authority.write(directory.path(), "ca.pem");
    let gateway = gateway::with(&format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         tls = {{ mode = \"server\", cert = \"{}\", key = \"{}\", client_ca = \"{}\" }}\n\
         [[routes]]\nmatch = {{ from = \"spiffe://example.org/svc/web\" }}\nrespond = {{ body = \"web\" }}\n\
         [[routes]]\nmatch = {{ from = \"spiffe://example.org/svc/*\" }}\nrespond = {{ body = \"svc\" }}\n\
         [[routes]]\nrespond = {{ body = \"nobody\" }}\n",
        files.cert.display(),
        files.key.display(),
        ca.display()
    ))
    .start();
    for (uris, expected) in [
        (&["spiffe://example.org/svc/web"][..], "web"),
        (&["spiffe://example.org/svc/api"], "svc"),
        (&["spiffe://other.org/svc/web"], "nobody"),
        (&["spiffe://example.org/svc/web", "spiffe://example.org/svc/api"], "nobody"),
        (&[], "nobody"),
    ] {
        let leaf = authority.issue_for(&["client"], uris);
        let config = authority.client(&[], Some(&leaf));
        let mut client = crate::authority::connect(gateway.address("edge"), "a.example", &config).unwrap();
        assert_eq!(client.get("a.example", "/").unwrap().body, expected, "{uris:?}");
    }
}

#[test]
fn a_rewrite_changes_path_and_host_and_keeps_the_query() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = routes(&format!(
            "[[routes]]\nmatch = {{ path = \"/v1/{{id}}/*\" }}\nto = \"static/{0}\"\n\
             rewrite = {{ path = \"/users/{{id}}/{{rest}}\", host = \"api.internal:81\" }}\n\
             [[routes]]\nmatch = {{ path = \"/old/*\" }}\nto = \"static/{0}\"\nrewrite = {{ path = \"/new/{{rest}}\" }}\n",
            upstream.address
        ));
        let mut client = Wire::connect(gateway.address("edge")).await;
        let mut endpoint: Option<Wire> = None;
        for (asked, path, host) in [
            ("/v1/7/a/b?q=1", "/users/7/a/b?q=1", "api.internal:81"),
            ("/v1/7", "/users/7", "api.internal:81"),
            ("/old", "/new", "app"),
            ("/old/", "/new/", "app"),
            ("/old/x/../y/?z", "/new/y/?z", "app"),
        ] {
            client.send(format!("GET {asked} HTTP/1.1\r\nhost: app\r\n\r\n")).await;
            if endpoint.is_none() {
                endpoint = Some(upstream.accept().await);
            }
            let endpoint = endpoint.as_mut().unwrap();
            let head = endpoint.head().await;
            assert!(head.start.starts_with(&format!("GET {path} ")), "{asked}: {}", head.start);
            assert_eq!(head.get("host"), host);
            endpoint.send(OK).await;
            client.message().await;
        }
    });
}

#[test]
fn headers_are_changed_on_both_ways() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = routes(&format!(
            "[[routes]]\nto = \"static/{}\"\n\
             headers = {{ set = {{ x-via = \"meshless\" }}, remove = [\"X-Debug\"] }}\n\
             response_headers = {{ set = {{ cache-control = \"no-store\" }}, remove = [\"x-powered-by\"] }}\n",
            upstream.address
        ));
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\nx-debug: 1\r\nx-via: a\r\nx-via: b\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!((head.all("x-via"), head.has("x-debug")), (vec!["meshless"], false));
        endpoint.send(OK).await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.get("cache-control"), reply.has("x-powered-by")), ("no-store", false));
    });
}

#[test]
fn a_route_answers_by_itself_without_an_endpoint() {
    let gateway = routes(
        "[[routes]]\nmatch = { path = \"/json\" }\nrespond = { status = 403, body = '{\"a\": 1}' }\n\
         [[routes]]\nmatch = { path = \"/text\" }\nrespond = { body = \"{hello\" }\nresponse_headers = { set = { x-a = \"b\" } }\n\
         [[routes]]\nmatch = { path = \"/empty\" }\nrespond = { status = 204 }\n\
         [[routes]]\nmatch = { path = \"/secure\" }\nredirect = { scheme = \"https\" }\n\
         [[routes]]\nmatch = { path = \"/from/{id}\" }\nredirect = { status = 302, path = \"/to/{id}\" }\n\
         [[routes]]\nmatch = { host = \"old.example\" }\nredirect = { status = 301, host = \"new.example\" }\n",
    );
    let address = gateway.address("edge");
    let json = get(address, "app", "/json");
    assert_eq!(
        (json.status, json.header("content-type"), json.header("meshless-error")),
        (403, Some("application/json"), None)
    );
    let text = get(address, "app", "/text");
    assert_eq!((text.status, text.body.as_str()), (200, "{hello"));
    assert_eq!((text.header("content-type"), text.header("x-a")), (Some("text/plain; charset=utf-8"), Some("b")));
    assert_eq!(get(address, "app", "/empty").status, 204);
    for (host, path, status, location) in [
        ("app:8080", "/secure?a=b", 308, "https://app/secure?a=b"),
        ("app", "/from/7?x", 302, "/to/7?x"),
        ("old.example:80", "/a/b", 301, "http://new.example/a/b"),
    ] {
        let reply = get(address, host, path);
        assert_eq!((reply.status, reply.header("location")), (status, Some(location)), "{path}");
    }
    // The connection goes on, also after a body that nobody wanted.
    let mut client = client(address);
    client.send("POST /json HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\n\r\nhello").unwrap();
    assert_eq!(client.reply().unwrap().status, 403);
    gateway.wait_for_metric("response_total", &["status_code=\"403\"", "classification=\"success\""], 2.0);
}

#[test]
fn a_fault_delays_and_fails_its_share_and_says_so() {
    let origin = origin("one");
    let gateway = routes(&format!(
        "[[routes]]\nmatch = {{ path = \"/fail\" }}\nto = \"static/{0}\"\nfault = {{ status = 418 }}\n\
         [[routes]]\nmatch = {{ path = \"/slow\" }}\nto = \"static/{0}\"\nfault = {{ delay = \"120ms\" }}\n\
         [[routes]]\nmatch = {{ path = \"/half\" }}\nto = \"static/{0}\"\nfault = {{ status = 500, share = \"50%\" }}\n\
         [[routes]]\nmatch = {{ path = \"/never\" }}\nto = \"static/{0}\"\nfault = {{ status = 500, share = \"0%\" }}\n",
        origin.address
    ));
    let address = gateway.address("edge");
    let failed = get(address, "app", "/fail");
    assert_eq!((failed.status, failed.header("meshless-error")), (418, Some("fault")));
    assert_eq!(origin.requests(), 0);
    let began = Instant::now();
    assert_eq!(get(address, "app", "/slow").body, "one");
    assert!(began.elapsed() >= Duration::from_millis(120));
    let mut client = client(address);
    let mut count = |path: &str| (0..200).filter(|_| client.get("app", path).unwrap().status == 500).count();
    let half = count("/half");
    assert!((50..150).contains(&half), "{half}");
    assert_eq!(count("/never"), 0);
    gateway.wait_for_metric("response_total", &["error=\"fault\"", "status_code=\"418\""], 1.0);
}

#[test]
fn a_grpc_client_gets_faults_and_limits_as_statuses_of_grpc() {
    run(async {
        let gateway = routes(
            "[[routes]]\nmatch = { path = \"/a.B/Fault\" }\nto = \"static/127.0.0.1:9\"\nfault = { status = 503 }\n\
             [[routes]]\nmatch = { path = \"/a.B/Slow\" }\nto = \"static/127.0.0.1:9\"\nfault = { delay = \"1m\" }\n\
             [[routes]]\nmatch = { path = \"/a.B/Limit\" }\nrespond = {}\nrate_limit = { rate = \"1/h\" }\n",
        );
        let client = h2_client(gateway.address("edge")).await;
        let call = async |path: &str| {
            let call = request("POST", path).header("content-type", "application/grpc").header("grpc-timeout", "100m");
            let (head, _) = ask(&client, call.body(()).unwrap()).await;
            let text = |name: &str| head.headers().get(name).map_or("", |value| value.to_str().unwrap()).to_owned();
            (head.status().as_u16(), text("grpc-status"), text("meshless-error"))
        };
        assert_eq!(call("/a.B/Fault").await, (200, "14".to_owned(), "fault".to_owned()));
        assert_eq!(
            call("/a.B/Slow").await,
            (200, "4".to_owned(), "deadline".to_owned()),
            "a delay ends with the deadline"
        );
        call("/a.B/Limit").await;
        assert_eq!(call("/a.B/Limit").await, (200, "8".to_owned(), "rate_limit".to_owned()));
    });
}

#[test]
fn a_rate_limit_answers_429_with_when_to_come_again_and_workers_share_it() {
    let text = config(
        "[[routes]]\nname = \"all\"\nmatch = { path = \"/all\" }\nrespond = {}\nrate_limit = { rate = \"6/m\", burst = 3 }\n\
         [[routes]]\nname = \"key\"\nmatch = { path = \"/key\" }\nrespond = {}\nrate_limit = { per = \"header:x-key\", rate = \"1/h\" }\n",
    );
    let gateway = gateway::with(&text).workers(2).start();
    let address = gateway.address("edge");
    let statuses: Vec<u16> = (0..6).map(|_| get(address, "app", "/all").status).collect();
    assert_eq!(statuses, [200, 200, 200, 429, 429, 429]);
    let refused = get(address, "app", "/all");
    assert_eq!(refused.header("meshless-error"), Some("rate_limit"));
    let wait: u64 = refused.header("retry-after").unwrap().parse().unwrap();
    assert!((1..=10).contains(&wait), "{wait}");
    let mut client = client(address);
    let mut with_key = |key: &str| {
        client.send(&format!("GET /key HTTP/1.1\r\nhost: app\r\nx-key: {key}\r\n\r\n")).unwrap();
        client.reply().unwrap().status
    };
    assert_eq!([with_key("a"), with_key("a"), with_key("b"), with_key("b")], [200, 429, 200, 429]);

    // A reload that does not change a limit lets it go on, wherever the route stands; a changed one begins anew.
    let reload = |text: &str| {
        let before = gateway.metric("meshless_config_reload_total", &["result=\"applied\""]);
        std::fs::write(gateway.file(), text).unwrap();
        gateway.gateway().reload();
        gateway.wait_until("it was read", |gateway| {
            gateway.metric("meshless_config_reload_total", &["result=\"applied\""]) > before
        });
    };
    reload(&text.replace(
        "[[routes]]\nname = \"all\"",
        "[[routes]]\nmatch = { path = \"/new\" }\nrespond = {}\n[[routes]]\nname = \"all\"",
    ));
    assert_eq!((get(address, "app", "/new").status, get(address, "app", "/all").status), (200, 429));
    reload(&text.replace("burst = 3", "burst = 4"));
    assert_eq!(get(address, "app", "/all").status, 200);
}

#[test]
fn a_mirror_gets_a_whole_copy_and_the_client_notices_nothing_of_it() {
    run(async {
        let (real, shadow) = (Upstream::start().await, Upstream::start().await);
        let gateway = routes(&format!(
            "[services.real]\nfrom = \"static/{}\"\n[services.shadow]\nfrom = \"static/{}\"\n\
             [[routes]]\nname = \"api\"\nto = \"real\"\nmirror = {{ to = \"shadow\" }}\nheaders = {{ set = {{ x-a = \"b\" }} }}\n",
            real.address, shadow.address
        ));
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("POST /p?q HTTP/1.1\r\nhost: app\r\ncontent-length: 5\r\n\r\nhello").await;
        let mut endpoint = real.accept().await;
        let (head, body) = endpoint.message().await;
        assert_eq!((body.as_str(), head.has("meshless-mirror")), ("hello", false));
        // The shadow has not answered, and the client has its reply.
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
        let mut copy = shadow.accept().await;
        let (head, body) = copy.message().await;
        assert!(head.start.starts_with("POST /p?q "), "{}", head.start);
        assert_eq!((body.as_str(), head.get("meshless-mirror"), head.get("x-a")), ("hello", "1", "b"));
        copy.send("HTTP/1.1 500 No\r\ncontent-length: 4\r\n\r\noops").await;
        gateway.wait_for_metric("response_total", &["service=\"shadow\"", "status_code=\"500\""], 1.0);
        gateway.wait_for_metric("response_total", &["service=\"real\"", "status_code=\"200\""], 1.0);
        assert_eq!(gateway.count("meshless_mirror_total", &["route=\"api\"", "result=\"sent\""]), 1);
        // A chunked body is copied, too.
        client
            .send("POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n3\r\ndef\r\n0\r\n\r\n")
            .await;
        assert_eq!(endpoint.message().await.1, "abcdef");
        endpoint.send(OK).await;
        client.message().await;
        assert_eq!(copy.message().await.1, "abcdef");
    });
}

#[test]
fn a_mirror_that_is_dead_or_given_too_much_costs_nothing() {
    run(async {
        let real = Upstream::start().await;
        let gateway = routes(&format!(
            "[services.real]\nfrom = \"static/{}\"\n\
             [services.shadow]\nfrom = \"static/{}\"\nretry = {{ body_limit = \"1KiB\" }}\n\
             [[routes]]\nname = \"api\"\nto = \"real\"\nmirror = {{ to = \"shadow\" }}\n",
            real.address,
            plain::dead_address()
        ));
        let mut client = Wire::connect(gateway.address("edge")).await;
        let mut endpoint: Option<Wire> = None;
        for (size, chunked) in [(5, false), (2000, false), (2000, true)] {
            let body = "x".repeat(size);
            client
                .send(if chunked {
                    format!("POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n{size:x}\r\n{body}\r\n0\r\n\r\n")
                } else {
                    format!("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: {size}\r\n\r\n{body}")
                })
                .await;
            if endpoint.is_none() {
                endpoint = Some(real.accept().await);
            }
            let endpoint = endpoint.as_mut().unwrap();
            assert_eq!(endpoint.message().await.1.len(), size);
            endpoint.send(OK).await;
            assert_eq!(client.message().await.0.status(), 200);
        }
        gateway.wait_for_metric("response_total", &["service=\"shadow\"", "error=\"connect_failed\""], 1.0);
        assert_eq!(gateway.count("meshless_mirror_total", &["result=\"too_large\""]), 2);
        assert_eq!(gateway.count("meshless_retry_total", &["service=\"shadow\""]), 0);
    });
}

#[test]
fn a_grpc_call_is_mirrored_over_http2() {
    run(async {
        let (real, shadow) = (Upstream::start().await, Upstream::start().await);
        let gateway = routes(&format!(
            "[[routes]]\nto = \"static/{}\"\nmirror = {{ to = \"static/{}\" }}\n",
            real.address, shadow.address
        ));
        let client = h2_client(gateway.address("edge")).await;
        let call = request("POST", "/a.B/C").header("content-type", "application/grpc").body(()).unwrap();
        let (response, mut body) = client.clone().send_request(call, false).unwrap();
        body.send_data(Bytes::from_static(b"\0\0\0\0\x02hi"), true).unwrap();
        let mut endpoint = real.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        assert_eq!(read(&mut asked.into_body()).await.unwrap().0, b"\0\0\0\0\x02hi");
        respond.send_response(Response::builder().header("grpc-status", "0").body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        let mut copy = shadow.accept_h2().await;
        let (asked, _respond) = copy.request().await;
        assert_eq!((asked.uri().path(), &asked.headers()["meshless-mirror"]), ("/a.B/C", &"1".parse().unwrap()));
        assert_eq!(read(&mut asked.into_body()).await.unwrap().0, b"\0\0\0\0\x02hi");
    });
}

#[test]
fn the_retries_of_a_route_win_over_those_of_its_service() {
    run(async {
        const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 0\r\n\r\n";
        let endpoint = Upstream::start().await;
        let gateway = routes(&format!(
            "[services.app]\nfrom = \"static/{}\"\nretry = {{ attempts = 1 }}\n\
             [[routes]]\nmatch = {{ path = \"/again\" }}\nto = \"app\"\nretry = {{ attempts = 3, on = [\"503\"], backoff = \"1ms..1ms\" }}\n\
             [[routes]]\nto = \"app\"\n",
            endpoint.address
        ));
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET /once HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut wire, _) = endpoint.request().await;
        wire.send(BUSY).await;
        assert_eq!(client.message().await.0.status(), 503);
        client.send("GET /again HTTP/1.1\r\nhost: app\r\n\r\n").await;
        for reply in [BUSY, BUSY, OK] {
            wire.head().await;
            wire.send(reply).await;
        }
        assert_eq!(client.message().await.0.status(), 200);
        assert_eq!(gateway.count("meshless_retry_total", &["service=\"app\""]), 2);
    });
}

#[test]
fn the_example_does_what_it_says() {
    let text = include_str!("../../examples/routing.toml").replace("127.0.0.1:4140", "127.0.0.1:0");
    let gateway = gateway::with(&text).start();
    let address = gateway.address("edge");
    let closed = get(address, "api.example.com", "/internal/metrics");
    assert_eq!((closed.status, closed.body.as_str()), (403, "{\"error\": \"not for you\"}"));
    assert_eq!(get(address, "api.example.com", "/u/7?a").header("location"), Some("/users/7?a"));
    assert_eq!(get(address, "old.example.com", "/x").header("location"), Some("https://api.example.com/x"));
    let mut client = client(address);
    let statuses: Vec<u16> = (0..40).map(|_| client.get("a", "/users/7").unwrap().status).collect();
    assert!(statuses[..20].iter().all(|status| *status == 503) && statuses.contains(&429), "{statuses:?}");
}
