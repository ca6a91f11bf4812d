//! HTTP/1.1 clients and HTTP/1.1 endpoints through a whole gateway.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{Content, End, Wire, read, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// A gateway before one endpoint, and a client.
async fn pair() -> (gateway::Running, Upstream, Wire) {
    let upstream = Upstream::start().await;
    let gateway = gateway::before(&[upstream.address]).start();
    let client = Wire::connect(gateway.address("edge")).await;
    (gateway, upstream, client)
}

#[test]
fn connections_of_both_sides_are_kept_and_used_again() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET /1 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.start, "GET /1 HTTP/1.1");
        assert_eq!((head.get("host"), head.get("via"), head.has("connection")), ("app", "1.1 meshless", false));
        assert!(!head.has("content-length") && !head.has("transfer-encoding"));
        endpoint.send(OK).await;
        let (reply, body) = client.message().await;
        assert_eq!((reply.status(), body.as_str(), reply.get("via")), (200, "ok", "1.1 meshless"));
        client.send("POST /2 HTTP/1.1\r\nhost: app\r\ncontent-length: 3\r\n\r\nabc").await;
        let (head, body) = endpoint.message().await;
        assert_eq!((head.start.as_str(), body.as_str()), ("POST /2 HTTP/1.1", "abc"));
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
    });
}

#[test]
fn a_body_of_any_framing_arrives_whole_both_ways() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.get("transfer-encoding"), "chunked");
        // Piece by piece: nothing is held back until there is more.
        client.send("3;extension=1\r\nabc\r\n").await;
        assert_eq!(endpoint.chunk().await.unwrap(), b"abc");
        client.send("2\r\nde\r\n0\r\nx-checksum: 7\r\n\r\n").await;
        let rest = endpoint.content(&head).await;
        assert_eq!(rest, Content { bytes: b"de".into(), trailers: vec![("x-checksum".into(), "7".into())] });
        endpoint.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        let reply = client.head().await;
        assert_eq!(client.chunk().await.unwrap(), b"x");
        endpoint.send("4\r\nyyyy\r\n0\r\netag: \"1\"\r\n\r\n").await;
        let rest = client.content(&reply).await;
        assert_eq!(rest, Content { bytes: b"yyyy".into(), trailers: vec![("etag".into(), "\"1\"".into())] });
        // Until the end of the connection: told in chunks, so that the client sees the end.
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        endpoint.head().await;
        endpoint.send("HTTP/1.1 200 OK\r\n\r\nto the end").await;
        drop(endpoint);
        let (reply, body) = client.message().await;
        assert_eq!((reply.get("transfer-encoding"), body.as_str()), ("chunked", "to the end"));
        // … and the client's connection lives on.
        client.send("PUT / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.get("content-length"), "0");
        endpoint.send("HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n").await;
        assert_eq!(client.message().await.1, "");
    });
}

#[test]
fn a_hundred_pipelined_requests_are_answered_in_their_order() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        let all: Vec<_> = (0..100)
            .map(|n| format!("POST /{n} HTTP/1.1\r\nhost: app\r\ncontent-length: 1\r\n\r\n{}", n % 10))
            .collect();
        client.send(all.concat()).await;
        let mut endpoint = upstream.accept().await;
        for number in 0..100 {
            let (head, body) = endpoint.message().await;
            assert_eq!((head.start, body), (format!("POST /{number} HTTP/1.1"), (number % 10).to_string()));
            endpoint.send(format!("HTTP/1.1 200 OK\r\nx-number: {number}\r\ncontent-length: 0\r\n\r\n")).await;
        }
        for number in 0..100 {
            assert_eq!(client.message().await.0.get("x-number"), number.to_string());
        }
    });
}

#[test]
fn an_http_1_0_client_gets_what_it_can_read() {
    run(async {
        let (gateway, upstream, mut client) = pair().await;
        // No Host, and no chunks: the end of the connection ends the body. No interim reply either.
        client.send("GET /old HTTP/1.0\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.start, "GET /old HTTP/1.1");
        assert_eq!(head.get("via"), "1.0 meshless");
        endpoint
            .send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\nHTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
            .await;
        endpoint.send("3\r\nabc\r\n0\r\n\r\n").await;
        let reply = client.head().await;
        assert_eq!((reply.status(), reply.get("connection")), (200, "close"));
        assert!(!reply.has("transfer-encoding") && !reply.has("content-length"));
        assert_eq!(client.rest().await, (b"abc".into(), End::Closed));
        // It may ask to stay, where the length is known.
        let mut client = Wire::connect(gateway.address("edge")).await;
        for _ in 0..2 {
            client.send("GET / HTTP/1.0\r\nhost: app\r\nconnection: keep-alive\r\n\r\n").await;
            endpoint.head().await;
            endpoint.send(OK).await;
            let (reply, body) = client.message().await;
            assert_eq!((reply.get("connection"), body.as_str()), ("keep-alive", "ok"));
        }
    });
}

#[test]
fn a_client_that_says_close_is_answered_and_closed() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert!(!head.has("connection"), "the endpoint's connection is another one");
        endpoint.send(OK).await;
        let (reply, _) = client.message().await;
        assert_eq!(reply.get("connection"), "close");
        assert_eq!(client.ended().await, End::Closed);
    });
}

#[test]
fn a_connection_that_was_busy_while_idle_ones_were_looked_through_is_used_again() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET /1 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        // Several times as long as the pool waits between two looks.
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(1) {
            client.stays_silent().await;
        }
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
        client.send("GET /2 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(endpoint.head().await.start, "GET /2 HTTP/1.1");
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
    });
}

#[test]
fn a_reply_to_head_keeps_its_length_and_has_no_body() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("HEAD / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 200 OK\r\ncontent-length: 5000000000\r\n\r\n").await;
        let reply = client.head().await;
        assert_eq!((reply.status(), reply.get("content-length")), (200, "5000000000"));
        for (status, field) in [(204, ""), (304, "content-length: 7\r\n"), (304, "etag: \"x\"\r\n")] {
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            endpoint.head().await;
            endpoint.send(format!("HTTP/1.1 {status} x\r\n{field}\r\n")).await;
            let reply = client.head().await;
            assert_eq!(reply.status(), status);
            assert!(!reply.has("transfer-encoding") && (status != 204 || !reply.has("content-length")));
            client.stays_silent().await;
        }
        // A 204 that announces a body may be followed by one: its connection is not trusted again.
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        endpoint.head().await;
        endpoint.send("HTTP/1.1 204 x\r\ncontent-length: 3\r\n\r\n").await;
        assert!(!client.head().await.has("content-length"));
        assert_eq!(endpoint.ended().await, End::Closed);
        client.send("HEAD / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 200);
        client.stays_silent().await;
    });
}

#[test]
fn an_endpoints_100_continue_is_passed_on() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("POST / HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.get("expect"), "100-continue");
        client.stays_silent().await;
        endpoint.send("HTTP/1.1 100 Continue\r\n\r\n").await;
        assert_eq!(client.head().await.status(), 100);
        client.send("abc").await;
        assert_eq!(endpoint.exactly(3).await, b"abc");
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
    });
}

#[test]
fn a_final_reply_instead_of_100_continue_ends_the_exchange_and_no_100_follows() {
    run(async {
        for body in ["content-length: 7\r\n\r\nno more", "transfer-encoding: chunked\r\n\r\n7\r\nno more\r\n0\r\n\r\n"]
        {
            let (_gateway, upstream, mut client) = pair().await;
            client.send("POST / HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send(format!("HTTP/1.1 413 Too Large\r\n{body}")).await;
            let (reply, text) = client.message().await;
            assert_eq!((reply.status(), text.as_str(), reply.get("connection")), (413, "no more", "close"));
            assert_eq!(client.ended().await, End::Closed);
            // The endpoint got no body, and cannot take the next request for one.
            endpoint.ended().await;
        }
    });
}

#[test]
fn an_endpoint_that_ignores_expect_gets_the_body_after_a_second() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("POST / HTTP/1.1\r\nhost: app\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        // Nobody says 100 but the gateway, and only after a while.
        client.stays_silent().await;
        assert_eq!(client.head().await.status(), 100);
        client.send("abc").await;
        assert_eq!(endpoint.exactly(3).await, b"abc");
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
    });
}

#[test]
fn early_hints_are_passed_on_before_the_reply() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint
            .send(
                "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\nconnection: x-hop\r\nx-hop: 1\r\n\r\n",
            )
            .await;
        let hints = client.head().await;
        assert_eq!((hints.status(), hints.get("link")), (103, "</style.css>; rel=preload"));
        assert!(!hints.has("x-hop") && !hints.has("connection"), "{hints:?}");
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
    });
}

#[test]
fn a_reply_that_comes_before_the_upload_has_ended_goes_on_beside_it() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("POST /echo HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        assert_eq!(endpoint.chunk().await.unwrap(), b"a");
        endpoint.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nA\r\n").await;
        let reply = client.head().await;
        assert_eq!(client.chunk().await.unwrap(), b"A");
        for _ in 0..3 {
            client.send("1\r\nb\r\n").await;
            assert_eq!(endpoint.chunk().await.unwrap(), b"b");
            endpoint.send("1\r\nB\r\n").await;
            assert_eq!(client.chunk().await.unwrap(), b"B");
        }
        client.send("0\r\n\r\n").await;
        assert_eq!(endpoint.chunk().await, None);
        endpoint.send("0\r\n\r\n").await;
        assert_eq!(client.content(&reply).await.bytes, b"");
    });
}

#[test]
fn an_upload_that_turns_out_malformed_ends_the_reply_beside_it_and_blames_the_client() {
    run(async {
        for speaks_h2 in [false, true] {
            let upstream = Upstream::start().await;
            let edge = gateway::before(&[upstream.address]);
            let gateway = if speaks_h2 { edge.h2().start() } else { edge.start() };
            let mut client = Wire::connect(gateway.address("edge")).await;
            client.send("POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
            if speaks_h2 {
                let mut endpoint = upstream.accept_h2().await;
                let (asked, mut respond) = endpoint.request().await;
                let _out = respond.send_response(http::Response::new(()), false).unwrap();
                client.head().await;
                client.send("zz\r\n").await;
                assert!(read(&mut asked.into_body()).await.is_err());
                client.rest().await;
            } else {
                let (mut endpoint, _) = upstream.request().await;
                endpoint.send("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n").await;
                client.head().await;
                client.send("zz\r\n").await;
                endpoint.ended_after(b"1\r\na\r\n").await;
                client.ended().await;
            }
            gateway.wait_for_metric("response_total", &["error=\"chunk_size\"", "classification=\"success\""], 1.0);
            gateway.wait_for_metric("meshless_malformed_total", &["label=\"chunk_size\""], 1.0);
        }
    });
}

#[test]
fn an_early_refusal_reaches_a_client_that_still_sends() {
    run(async {
        for end in ["connection: close\r\n", ""] {
            let (_gateway, upstream, mut client) = pair().await;
            client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 40000\r\n\r\n").await;
            client.send(vec![b'x'; 10_000]).await;
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send(format!("HTTP/1.1 413 Too Large\r\n{end}content-length: 2\r\n\r\nno")).await;
            if !end.is_empty() {
                drop(endpoint);
            }
            let (reply, body) = client.message().await;
            assert_eq!((reply.status(), reply.get("connection"), body.as_str()), (413, "close", "no"));
            client.send(vec![b'x'; 30_000]).await;
            assert_eq!(client.ended().await, End::Closed);
        }
    });
}

#[test]
fn large_bodies_go_both_ways_at_once() {
    const SIZE: usize = 8 << 20;
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: {SIZE}\r\n\r\n")).await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {SIZE}\r\n\r\n")).await;
        assert_eq!(client.head().await.status(), 200);
        // The endpoint echoes; the client reads only once it has sent everything, so the upload must go on meanwhile …
        let sending = async {
            for _ in 0..SIZE / 65536 {
                client.send(vec![b'u'; 65536]).await;
            }
            client.exactly(SIZE).await
        };
        // … as the endpoint answers only when it has read everything.
        let echoing = async {
            let got = endpoint.exactly(SIZE).await;
            endpoint.send(&got).await;
            got.len()
        };
        let (back, got) = tokio::join!(sending, echoing);
        assert!(back.iter().all(|&byte| byte == b'u'));
        assert_eq!((back.len(), got), (SIZE, SIZE));
    });
}

#[test]
fn a_client_that_reads_only_after_it_has_sent_all_does_not_stop_an_endpoint_that_answers_while_it_reads() {
    const SIZE: usize = 4 << 20;
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send(format!("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: {SIZE}\r\n\r\n")).await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", 1 << 20)).await;
        let sending = async {
            for _ in 0..SIZE / 65536 {
                client.send(vec![b'u'; 65536]).await;
            }
            client.head().await;
            client.exactly(1 << 20).await.len()
        };
        let echoing = async {
            for _ in 0..SIZE / 65536 {
                endpoint.exactly(65536).await;
                endpoint.send(vec![b'd'; 16384]).await;
            }
        };
        assert_eq!(tokio::join!(sending, echoing).0, 1 << 20);
    });
}

#[test]
fn a_slow_reader_stops_the_sender() {
    const MUCH: usize = 256 << 20;
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect_narrow(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {MUCH}\r\n\r\n")).await;
        let sent = endpoint.send_until_blocked(MUCH).await;
        assert!(sent < 32 << 20, "{sent} bytes were taken for a client that reads nothing");
        // And the other way.
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send(format!("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: {MUCH}\r\n\r\n")).await;
        let (_endpoint, _) = upstream.request().await;
        let sent = client.send_until_blocked(MUCH).await;
        assert!(sent < 32 << 20, "{sent} bytes were taken for an endpoint that reads nothing");
    });
}

#[test]
fn a_switch_of_protocols_carries_the_bytes_behind_the_heads() {
    run(async {
        let (gateway, upstream, mut client) = pair().await;
        client
            .send("GET /chat HTTP/1.1\r\nhost: app\r\nconnection: Upgrade\r\nupgrade: websocket\r\nsec-websocket-key: k\r\n\r\nearly")
            .await;
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!((head.get("connection"), head.get("upgrade")), ("upgrade", "websocket"));
        assert_eq!(head.get("sec-websocket-key"), "k");
        endpoint.send("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\nwelcome").await;
        let reply = client.head().await;
        assert_eq!((reply.status(), reply.get("connection"), reply.get("upgrade")), (101, "upgrade", "websocket"));
        assert_eq!((endpoint.exactly(5).await, client.exactly(7).await), (b"early".into(), b"welcome".into()));
        client.send("ping").await;
        assert_eq!(endpoint.exactly(4).await, b"ping");
        // One half may close before the other.
        client.finish().await;
        assert_eq!(endpoint.ended().await, End::Closed);
        endpoint.send("bye").await;
        assert_eq!(client.exactly(3).await, b"bye");
        drop(endpoint);
        assert_eq!(client.ended().await, End::Closed);
        gateway.wait_for_metric("response_total", &["status_code=\"101\",classification=\"success\"}"], 1.0);
    });
}

#[test]
fn a_refused_switch_is_an_ordinary_reply_and_the_connection_goes_on() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 403 No\r\ncontent-length: 2\r\n\r\nno").await;
        let (reply, body) = client.message().await;
        assert_eq!((reply.status(), body.as_str(), reply.has("upgrade")), (403, "no", false));
        client.send("GET /2 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(endpoint.head().await.start, "GET /2 HTTP/1.1");
        endpoint.send(OK).await;
        assert_eq!(client.message().await.1, "ok");
    });
}

#[test]
fn nobody_switches_to_http2_behind_our_back() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client
            .send("GET / HTTP/1.1\r\nhost: app\r\nconnection: upgrade, http2-settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n\r\n")
            .await;
        let (mut endpoint, head) = upstream.request().await;
        assert!(!head.has("upgrade") && !head.has("http2-settings") && !head.has("connection"), "{head:?}");
        endpoint.send("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: h2c\r\n\r\n").await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (502, "bad_reply"));
        endpoint.ended().await;
        // Nor to anything else that the client did not ask for.
        let (_gateway, upstream, mut client) = pair().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 101 x\r\nconnection: upgrade\r\nupgrade: websocket\r\n\r\n").await;
        assert_eq!(client.message().await.0.get("meshless-error"), "bad_reply");
    });
}

#[test]
fn a_client_that_leaves_cancels_what_is_done_for_it() {
    run(async {
        let (gateway, upstream, mut client) = pair().await;
        // While the endpoint thinks.
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        drop(client);
        endpoint.ended().await;
        // While it sends.
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\nx").await;
        client.head().await;
        client.reset();
        endpoint.ended().await;
        // While it reads: it must not take half of a body for all of it.
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("POST / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n1\r\na\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        assert_eq!(endpoint.chunk().await.unwrap(), b"a");
        drop(client);
        endpoint.ended().await;
        gateway.wait_for_metric("response_total", &["error=\"client_gone\""], 3.0);
    });
}

#[test]
fn a_reply_that_breaks_off_is_never_completed() {
    run(async {
        for head in ["transfer-encoding: chunked\r\n\r\n1\r\na\r\n", "content-length: 10\r\n\r\na"] {
            let (gateway, upstream, mut client) = pair().await;
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send(format!("HTTP/1.1 200 OK\r\n{head}")).await;
            client.head().await;
            drop(endpoint);
            let (rest, _) = client.rest().await;
            assert!(rest == b"1\r\na\r\n" || rest == b"a", "{:?}", String::from_utf8_lossy(&rest));
            gateway.wait_for_metric("response_total", &["error=\"body_broken\"", "classification=\"failure\""], 1.0);
        }
    });
}

#[test]
fn connect_is_refused() {
    run(async {
        let (_gateway, upstream, mut client) = pair().await;
        client.send("CONNECT app:443 HTTP/1.1\r\nhost: app:443\r\n\r\n").await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (400, "connect_not_allowed"));
        assert_eq!(client.ended().await, End::Closed);
        upstream.is_left_alone().await;
    });
}

#[test]
fn a_connection_that_comes_while_the_workers_start_is_served() {
    run(async {
        for _ in 0..10 {
            let own = crate::plain::dead_address();
            // Clients knock before there is a door; each that is let in must be answered.
            let clients: Vec<_> = (0..8)
                .map(|_| {
                    std::thread::spawn(move || {
                        let deadline = Instant::now() + Duration::from_secs(10);
                        let mut stream = loop {
                            match std::net::TcpStream::connect(own) {
                                // A port of the kernel's choice may connect to itself.
                                Ok(stream) if stream.local_addr().unwrap() != own => break stream,
                                Ok(_) => {}
                                Err(error) => assert!(Instant::now() < deadline, "{error}"),
                            }
                        };
                        stream.write_all(b"GET / HTTP/1.1\r\nhost: app\r\nconnection: close\r\n\r\n").unwrap();
                        let mut answer = String::new();
                        stream.read_to_string(&mut answer).unwrap();
                        answer
                    })
                })
                .collect();
            let gateway = gateway::with(&format!(
                "[[listeners]]\nname = \"edge\"\nlisten = \"{own}\"\n\
                 [[routes]]\nmatch = {{ path = \"/x\" }}\nto = \"static/127.0.0.1:1\"\n"
            ))
            .workers(8)
            .start();
            for client in clients {
                let answer = client.join().unwrap();
                assert!(answer.starts_with("HTTP/1.1 404 "), "{answer:?}");
            }
            drop(gateway);
        }
    });
}
