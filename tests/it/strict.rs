//! What a gateway refuses, and how it says so: to the client by 400 and a close, to the endpoint by nothing at all.

use std::fmt::Write as _;
use std::process::{Command, Stdio};

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{End, Wire, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

async fn pair() -> (gateway::Running, Upstream, Wire) {
    let upstream = Upstream::start().await;
    let gateway = gateway::before(&[upstream.address]).start();
    let client = Wire::connect(gateway.address("edge")).await;
    (gateway, upstream, client)
}

/// Heads that are refused, with status and label.
fn heads() -> Vec<(String, u16, &'static str)> {
    let get = |fields: &str| format!("GET / HTTP/1.1\r\nhost: app\r\n{fields}\r\n");
    let post = |fields: &str| format!("POST / HTTP/1.1\r\nhost: app\r\n{fields}\r\n");
    let target = |target: &str| format!("GET {target} HTTP/1.1\r\nhost: app\r\n\r\n");
    let long = "x".repeat(20_000);
    let many = (0..120).fold(String::new(), |mut all, number| {
        let _ = write!(all, "x-{number}: 1\r\n");
        all
    });
    vec![
        // Lines and fields.
        ("GET / HTTP/1.1\nhost: app\n\n".into(), 400, "bare_lf"),
        (get("x: a\rb\r\n"), 400, "bare_cr"),
        (get("x: a\0b\r\n"), 400, "field_control"),
        (get("x: a\x01b\r\n"), 400, "field_control"),
        (get("x: a\x7fb\r\n"), 400, "field_control"),
        (get("x: a\r\n folded\r\n"), 400, "field_folded"),
        (get("x : a\r\n"), 400, "field_space_before_colon"),
        (get("x y: a\r\n"), 400, "field_space_before_colon"),
        (get("x(y: a\r\n"), 400, "field_name"),
        (get(": a\r\n"), 400, "field_name"),
        (get("content_length: 5\r\n"), 400, "field_underscore"),
        (get("transfer_encoding: chunked\r\n"), 400, "field_underscore"),
        (get("x_forwarded_for: 192.0.2.1\r\n"), 400, "field_underscore"),
        (get("any_thing: 1\r\n"), 400, "field_underscore"),
        ("\r\n\r\nGET / HTTP/1.1\r\nhost: app\r\n\r\n".into(), 400, "empty_line"),
        // Host.
        ("GET / HTTP/1.1\r\n\r\n".into(), 400, "host_missing"),
        (get("host: app\r\n"), 400, "host_repeated"),
        ("GET / HTTP/1.1\r\nhost:\r\n\r\n".into(), 400, "host_malformed"),
        ("GET / HTTP/1.1\r\nhost: a, b\r\n\r\n".into(), 400, "host_malformed"),
        ("GET / HTTP/1.1\r\nhost: user@a\r\n\r\n".into(), 400, "host_malformed"),
        ("GET / HTTP/1.1\r\nhost: a/b\r\n\r\n".into(), 400, "host_malformed"),
        (target("http://other/"), 400, "host_mismatch"),
        // The length of the body.
        (post("content-length: 3\r\ntransfer-encoding: chunked\r\n"), 400, "content_length_with_transfer_encoding"),
        (post("content-length: 3\r\ncontent-length: 3\r\n"), 400, "content_length_repeated"),
        (post("content-length: 3, 3\r\n"), 400, "content_length"),
        (post("content-length: +3\r\n"), 400, "content_length"),
        (post("content-length: -1\r\n"), 400, "content_length"),
        (post("content-length: 0x3\r\n"), 400, "content_length"),
        (post("transfer-encoding: gzip, chunked\r\n"), 400, "transfer_encoding"),
        (post("transfer-encoding: identity\r\n"), 400, "transfer_encoding"),
        (post("transfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n"), 400, "transfer_encoding"),
        (post("transfer-encoding: ,chunked\r\n"), 400, "transfer_encoding"),
        (
            "POST / HTTP/1.0\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n".into(),
            400,
            "transfer_encoding_in_http_1_0",
        ),
        // Connection and Expect.
        (get("connection: host\r\n"), 400, "connection_names_protected"),
        (get("connection: x-forwarded-for\r\n"), 400, "connection_names_protected"),
        (get("connection: authorization\r\n"), 400, "connection_names_protected"),
        (get("connection: a b\r\n"), 400, "connection_malformed"),
        (post("expect: miracles\r\ncontent-length: 1\r\n"), 417, "expectation"),
        // The request line.
        ("GET /\r\nhost: app\r\n\r\n".into(), 400, "version_malformed"),
        ("GET / HTTP/2.1\r\nhost: app\r\n\r\n".into(), 505, "version_unsupported"),
        ("GET  / HTTP/1.1\r\nhost: app\r\n\r\n".into(), 400, "request_line"),
        ("G(T / HTTP/1.1\r\nhost: app\r\n\r\n".into(), 400, "method_malformed"),
        (format!("{} / HTTP/1.1\r\nhost: app\r\n\r\n", "G".repeat(33)), 501, "method_too_long"),
        (target("*"), 400, "target_form"),
        (target("no-slash"), 400, "target_form"),
        (target("/a#b"), 400, "target_fragment"),
        (target("/a%00"), 400, "path_malformed"),
        (target("/a%2fb"), 400, "path_malformed"),
        (target("/a%5cb"), 400, "path_malformed"),
        (target("/a%4"), 400, "path_malformed"),
        (target(&format!("/{long}")), 414, "target_too_long"),
        (get(&format!("x: {long}\r\n")), 431, "head_too_large"),
        (get(&many), 431, "too_many_fields"),
        ("CONNECT app:443 HTTP/1.1\r\nhost: app:443\r\n\r\n".into(), 400, "connect_not_allowed"),
        ("\x16\x03\x01\x02\0\x01".into(), 400, "method_malformed"),
    ]
}

#[test]
fn a_head_that_could_be_read_in_two_ways_is_refused_told_and_closed() {
    run(async {
        let (gateway, upstream, _) = pair().await;
        for (head, status, label) in heads() {
            let mut client = Wire::connect(gateway.address("edge")).await;
            // Another request behind it must not be served.
            client.send(format!("{head}GET /behind HTTP/1.1\r\nhost: app\r\n\r\n")).await;
            let (reply, body) = client.message().await;
            let shown = &head[..head.len().min(80)];
            assert_eq!((reply.status(), reply.get("meshless-error")), (status, label), "{shown:?}");
            assert_eq!(reply.get("connection"), "close", "{shown:?}");
            assert!(body.ends_with('\n') && body.len() > 10, "{body:?}");
            assert_eq!(client.ended().await, End::Closed, "{shown:?}");
            assert!(gateway.metric("meshless_malformed_total", &[&format!("label=\"{label}\"")]) > 0.0, "{label}");
            let refused = format!("error=\"{label}\"");
            gateway.wait_until("the answer is counted", |gateway| gateway.metric("response_total", &[&refused]) > 0.0);
        }
        upstream.is_left_alone().await;
        assert_eq!(gateway.count("response_total", &["classification=\"failure\"", "status_code=\"502\""]), 0);
    });
}

#[test]
fn a_malformed_body_is_the_clients_fault_and_reaches_no_endpoint_whole() {
    run(async {
        for (body, label) in [
            ("zz\r\n", "chunk_size"),
            ("3 \r\nabc\r\n", "chunk_size"),
            ("3\nabc\r\n", "chunk_size"),
            ("0x3\r\nabc\r\n", "chunk_size"),
            ("fffffffffffffffff\r\n", "chunk_size"),
            ("3\r\nabcd\r\n", "chunk_end"),
            ("3;=\r\nabc\r\n", "chunk_extension"),
            ("3;a=\x01\r\nabc\r\n", "chunk_extension"),
            ("0\r\ncontent-length: 5\r\n\r\n", "trailer_forbidden"),
            ("0\r\nx_y: 1\r\n\r\n", "field_underscore"),
            ("0\r\nx: a\x01\r\n\r\n", "field_control"),
        ] {
            for early in [true, false] {
                let (gateway, upstream, mut client) = pair().await;
                client.send("POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n").await;
                if early {
                    client.send(body).await;
                } else {
                    // The endpoint has seen the beginning of it.
                    client.send("1\r\na\r\n").await;
                    let mut endpoint = upstream.accept().await;
                    endpoint.head().await;
                    assert_eq!(endpoint.chunk().await.unwrap(), b"a");
                    client.send(body).await;
                    endpoint.ended_after(b"3\r\nabc\r\n").await;
                }
                client.send("GET /behind HTTP/1.1\r\nhost: app\r\n\r\n").await;
                let (reply, _) = client.message().await;
                assert_eq!((reply.status(), reply.get("meshless-error")), (400, label), "{body:?}");
                assert_eq!((reply.get("connection"), client.ended().await), ("close", End::Closed));
                let error = format!("error=\"{label}\"");
                gateway.wait_for_metric("response_total", &["classification=\"success\"", &error], 1.0);
                gateway.wait_for_metric("meshless_malformed_total", &[&format!("label=\"{label}\"")], 1.0);
                assert_eq!(gateway.count("meshless_retry_total", &[]), 0);
                assert_eq!(gateway.count("meshless_requeue_total", &[]), 0);
            }
        }
    });
}

#[test]
fn a_malformed_reply_is_502_and_never_tried_again() {
    run(async {
        for reply in [
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ntransfer-encoding: chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\ncontent-length: 2\r\ncontent-length: 3\r\n\r\n",
            "HTTP/1.1 200 OK\r\ntransfer-encoding: gzip, chunked\r\n\r\n",
            "HTTP/1.1 200 OK\r\nx: a\0b\r\n\r\n",
            "HTTP/1.1 200 OK\nx: a\n\n",
            "HTTP/1.1 99 Low\r\n\r\n",
            "HTTP/2.0 200 OK\r\n\r\n",
            "SSH-2.0-OpenSSH_9.9\r\n",
            "\r\nHTTP/1.1 200 OK\r\n\r\n",
        ] {
            let (gateway, upstream, mut client) = pair().await;
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send(reply).await;
            let (answer, _) = client.message().await;
            assert_eq!((answer.status(), answer.get("meshless-error")), (502, "bad_reply"), "{reply:?}");
            endpoint.ended().await;
            gateway.wait_for_metric("response_total", &["error=\"bad_reply\"", "classification=\"failure\""], 1.0);
            assert_eq!(gateway.count("meshless_malformed_total", &[]), 0, "that counts clients");
            // The client's connection is as good as before.
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send(OK).await;
            assert_eq!(client.message().await.0.status(), 200);
        }
    });
}

#[test]
fn a_reply_that_turns_out_malformed_in_its_body_is_broken_off() {
    run(async {
        let (gateway, upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\nzz\r\n").await;
        client.head().await;
        client.ended_after(b"1\r\na\r\n").await;
        endpoint.ended().await;
        gateway.wait_for_metric("response_total", &["error=\"body_malformed\"", "classification=\"failure\""], 1.0);
    });
}

#[test]
fn interim_replies_without_end_are_a_malformed_reply() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 103 x\r\n\r\n".repeat(17)).await;
        let mut heads = vec![client.head().await];
        while heads.last().unwrap().status() == 103 {
            heads.push(client.head().await);
        }
        assert_eq!((heads.len(), heads.last().unwrap().get("meshless-error")), (17, "bad_reply"));
    });
}

#[test]
fn a_client_that_sends_on_still_gets_to_read_why_it_was_refused() {
    run(async {
        let (_gateway, _upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\n\r\n").await;
        client.send(vec![b'x'; 50_000]).await;
        let (reply, _) = client.message().await;
        assert_eq!(reply.get("meshless-error"), "host_missing");
        assert_eq!(client.ended().await, End::Closed);
    });
}

#[test]
fn the_path_that_is_matched_is_the_path_that_is_sent() {
    run(async {
        let (open, closed) = (Upstream::start().await, Upstream::start().await);
        let gateway = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [[routes]]\nmatch = {{ path = \"/admin/*\" }}\nto = \"static/{}\"\n\
             [[routes]]\nto = \"static/{}\"\n",
            closed.address, open.address
        ))
        .start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        let mut endpoint: Option<Wire> = None;
        for written in
            ["/admin/x?a=/../b", "//admin/x?a=/../b", "/a/../admin/x?a=/../b", "/a/%2e%2E/%61dmin/./x?a=/../b"]
        {
            client.send(format!("GET {written} HTTP/1.1\r\nhost: app\r\n\r\n")).await;
            if endpoint.is_none() {
                endpoint = Some(closed.accept().await);
            }
            let endpoint = endpoint.as_mut().unwrap();
            assert_eq!(endpoint.head().await.start, "GET /admin/x?a=/../b HTTP/1.1", "{written}");
            endpoint.send(OK).await;
            client.message().await;
        }
        // In absolute form, and to no path at all.
        client.send("GET http://app/admin/y HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(endpoint.as_mut().unwrap().head().await.start, "GET /admin/y HTTP/1.1");
        endpoint.as_mut().unwrap().send(OK).await;
        client.message().await;
        client.send("OPTIONS * HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, head) = open.request().await;
        assert_eq!(head.start, "OPTIONS * HTTP/1.1");
        endpoint.send(OK).await;
        client.message().await;
    });
}

const CLAIMS: &str = "x-forwarded-client-cert: By=spiffe://a/svc/b\r\nx-client-cert: c\r\nx-spiffe-id: spiffe://a/svc/b\r\n\
     l5d-client-id: admin\r\nl5d-dtab: /a=>/b\r\nmeshless-route: consul/secret\r\nmeshless-error: none\r\n\
     x-envoy-upstream-rq-timeout-ms: 1\r\nproxy: http://evil\r\nproxy-authorization: x\r\n";

#[test]
fn what_a_client_says_about_who_it_is_goes_no_further() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client
            .send(format!(
                "GET / HTTP/1.1\r\nhost: app\r\n{CLAIMS}l5d-ctx-deadline: 1 9000000000000000000\r\nx-request-id: mine\r\n\
                 x-forwarded-for: 203.0.113.1\r\nx-forwarded-for: 203.0.113.2\r\nforwarded: for=203.0.113.1\r\n\r\n"
            ))
            .await;
        let (mut endpoint, head) = upstream.request().await;
        for claim in CLAIMS.lines().filter_map(|line| line.split_once(": ")) {
            assert!(!head.has(claim.0), "{} was passed on", claim.0);
        }
        assert!(head.get("l5d-ctx-deadline").starts_with("1 ") && head.get("x-request-id") == "mine");
        // Loopback is the own application: its word about who asked counts, all of it.
        assert_eq!(head.get("x-forwarded-for"), "203.0.113.1, 203.0.113.2, 127.0.0.1");
        assert_eq!((head.get("x-forwarded-proto"), head.get("forwarded")), ("http", "for=203.0.113.1"));
        endpoint.send(OK).await;
    });
}

#[test]
fn a_remote_clients_word_about_who_asked_is_replaced() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).listener("proxy_protocol = true").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("PROXY TCP4 198.51.100.7 127.0.0.1 1234 80\r\n").await;
        client
            .send("GET / HTTP/1.1\r\nhost: app\r\nx-forwarded-for: 203.0.113.9\r\nx-forwarded-proto: https\r\nforwarded: for=203.0.113.9\r\n\r\n")
            .await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!((head.get("x-forwarded-for"), head.get("x-forwarded-proto")), ("198.51.100.7", "http"));
        assert!(!head.has("forwarded") && head.get("x-request-id").len() >= 16);
        endpoint.send(OK).await;
        client.message().await;
    });
}

#[test]
fn a_request_that_goes_in_circles_is_508() {
    run(async {
        let (gateway, upstream, mut client) = pair().await;
        client.send(format!("GET / HTTP/1.1\r\nhost: app\r\nvia: {}\r\n\r\n", vec!["1.1 x"; 16].join(", "))).await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.all("via").len(), 2);
        endpoint.send(OK).await;
        client.message().await;
        client
            .send(format!("GET / HTTP/1.1\r\nhost: app\r\nvia: {}\r\nvia: 2.0 y\r\n\r\n", vec!["1.1 x"; 16].join(",")))
            .await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error"), reply.has("connection")), (508, "loop", false));
        // A gateway that routes to itself ends that by itself.
        let own = crate::plain::dead_address();
        let looping = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"{own}\"\n[[routes]]\nto = \"static/{own}\"\n"
        ))
        .start();
        let mut client = Wire::connect(own).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (508, "loop"));
        assert!(looping.metric("response_total", &["error=\"loop\""]) >= 1.0);
        gateway.wait_for_metric("response_total", &["error=\"loop\""], 1.0);
    });
}

#[test]
fn a_head_that_does_not_end_is_408_however_it_dribbles() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).listener("limits = { header_timeout = \"300ms\" }").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\n").await;
        let mut number = 0;
        let reply = loop {
            tokio::select! {
                reply = client.head_unless_closed() => break reply.unwrap(),
                () = tokio::time::sleep(std::time::Duration::from_millis(50)) => {}
            }
            number += 1;
            assert!(number < 100, "a byte now and then holds the connection");
            client.send(format!("x-{number}: 1\r\n")).await;
        };
        assert_eq!((reply.status(), reply.get("meshless-error")), (408, "slow_head"));
        // A client that says nothing is closed without a word, and one that stops in the preface of HTTP/2 too.
        for first in ["", "PRI * HTTP/2.0\r\n"] {
            let mut silent = Wire::connect(gateway.address("edge")).await;
            silent.send(first).await;
            assert_eq!(silent.ended().await, End::Closed);
        }
        // After a request, silence is idleness, and longer.
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send(OK).await;
        client.message().await;
        tokio::time::sleep(std::time::Duration::from_millis(500)).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        endpoint.head().await;
        endpoint.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
        gateway.wait_for_metric("meshless_malformed_total", &["label=\"slow_head\""], 1.0);
    });
}

#[test]
fn a_connection_is_closed_in_order_after_its_last_request_and_after_silence() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address])
            .listener("limits = { requests_per_connection = 2, idle_timeout = \"200ms\" }")
            .start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        let mut endpoint: Option<Wire> = None;
        for last in [false, true] {
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            if endpoint.is_none() {
                endpoint = Some(upstream.accept().await);
            }
            endpoint.as_mut().unwrap().head().await;
            endpoint.as_mut().unwrap().send(OK).await;
            assert_eq!(client.message().await.0.get("connection"), if last { "close" } else { "" });
        }
        assert_eq!(client.ended().await, End::Closed);
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        endpoint.as_mut().unwrap().head().await;
        endpoint.as_mut().unwrap().send(OK).await;
        client.message().await;
        assert_eq!(client.ended().await, End::Closed);
    });
}

#[test]
fn header_metric_and_log_say_the_same_word() {
    // The access log is standard output's, so this is a process.
    let directory = tempfile::tempdir().unwrap();
    let own = crate::plain::dead_address();
    let file = directory.path().join("meshless.toml");
    let text = format!(
        "[admin]\nlisten = \"127.0.0.1:0\"\n[node]\nworkers = 1\nstate_dir = \"{}\"\n\
         [[listeners]]\nname = \"edge\"\nlisten = \"{own}\"\n\
         [[routes]]\nmatch = {{ path = \"/dead\" }}\nto = \"static/127.0.0.1:1\"\n",
        directory.path().display()
    );
    std::fs::write(&file, text).unwrap();
    let mut process = Command::new(env!("CARGO_BIN_EXE_meshless"))
        .args(["run", "-c", file.to_str().unwrap()])
        .env_clear()
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let mut labels = Vec::new();
    run(async {
        let deadline = std::time::Instant::now() + std::time::Duration::from_secs(10);
        while tokio::net::TcpStream::connect(own).await.is_err() {
            assert!(std::time::Instant::now() < deadline, "it does not listen");
            tokio::time::sleep(std::time::Duration::from_millis(10)).await;
        }
        for request in [
            "GET /nowhere HTTP/1.1\r\nhost: app\r\n\r\n",
            "GET /dead HTTP/1.1\r\nhost: app\r\n\r\n",
            "GET / HTTP/1.1\r\nhost: app\r\nx(y: 1\r\n\r\n",
            "POST /dead HTTP/1.1\r\nhost: app\r\nvia: a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a,a\r\ncontent-length: 0\r\n\r\n",
        ] {
            let mut client = Wire::connect(own).await;
            client.send(request).await;
            labels.push(client.message().await.0.get("meshless-error").to_owned());
        }
    });
    rustix::process::kill_process(rustix::process::Pid::from_child(&process), rustix::process::Signal::INT).unwrap();
    let mut log = String::new();
    std::io::Read::read_to_string(&mut process.stdout.take().unwrap(), &mut log).unwrap();
    assert_eq!(process.wait().unwrap().code(), Some(0));
    let logged: Vec<_> =
        log.lines().map(|line| serde_json::from_str::<serde_json::Value>(line).unwrap()["error"].clone()).collect();
    assert_eq!(logged, labels);
    assert_eq!(labels, ["no_route", "connect_failed", "field_name", "loop"]);
}
