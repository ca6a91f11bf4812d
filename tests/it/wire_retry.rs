//! What is sent again, and what is not.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::Reason;
use http::Response;

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{END_HEADERS, END_STREAM, GOAWAY, HEADERS, Wire, ask, h2_client, read, request, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BUSY: &str = "HTTP/1.1 503 Busy\r\ncontent-length: 4\r\n\r\nbusy";

/// Returns a gateway before two endpoints; the first request goes to either.
async fn two() -> (gateway::Running, [Upstream; 2], Wire) {
    let endpoints = [Upstream::start().await, Upstream::start().await];
    let gateway = gateway::before(&[endpoints[0].address, endpoints[1].address]).start();
    let client = Wire::connect(gateway.address("edge")).await;
    (gateway, endpoints, client)
}

/// Takes the next request at whichever endpoint it comes to; returns which.
async fn next(endpoints: &[Upstream; 2]) -> (usize, Wire, crate::wire::Head) {
    let (which, (wire, head)) = tokio::select! {
        taken = endpoints[0].request() => (0, taken),
        taken = endpoints[1].request() => (1, taken),
    };
    (which, wire, head)
}

/// Returns an address where nobody listens.
fn nobody() -> std::net::SocketAddr {
    crate::plain::dead_address()
}

#[test]
fn a_dead_endpoint_costs_no_request_whatever_its_method() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[nobody(), upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        let mut endpoint: Option<Wire> = None;
        for number in 0..6 {
            client.send(format!("POST /{number} HTTP/1.1\r\nhost: app\r\ncontent-length: 3\r\n\r\nabc")).await;
            if endpoint.is_none() {
                endpoint = Some(upstream.accept().await);
            }
            let endpoint = endpoint.as_mut().unwrap();
            assert_eq!(endpoint.message().await.1, "abc");
            endpoint.send(OK).await;
            assert_eq!(client.message().await.0.status(), 200);
        }
        assert!(gateway.metric("meshless_requeue_total", &[]) >= 3.0);
        assert_eq!(gateway.count("meshless_retry_total", &[]), 0);
    });
}

#[test]
fn a_request_without_any_living_endpoint_is_503_connect_failed() {
    run(async {
        let gateway = gateway::before(&[nobody(), nobody()]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (reply, _) = client.message().await;
        assert_eq!(
            (reply.status(), reply.get("meshless-error"), reply.has("connection")),
            (503, "connect_failed", false)
        );
        gateway.wait_for_metric("response_total", &["error=\"connect_failed\"", "status_code=\"503\""], 1.0);
    });
}

#[test]
fn a_reset_after_sending_is_tried_again_for_get_and_not_for_post() {
    run(async {
        let (gateway, endpoints, mut client) = two().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (first, endpoint, _) = next(&endpoints).await;
        endpoint.reset();
        let (second, mut endpoint, _) = next(&endpoints).await;
        assert_ne!(first, second);
        endpoint.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
        drop(endpoint);
        client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 3\r\n\r\nabc").await;
        let (_, endpoint, _) = next(&endpoints).await;
        endpoint.reset();
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (502, "broken"));
        gateway.wait_for_metric("response_total", &["error=\"broken\""], 1.0);
    });
}

#[test]
fn a_small_body_is_sent_again_and_a_large_one_is_not() {
    run(async {
        for (size, again) in [(60_000, true), (70_000, false)] {
            let (_gateway, endpoints, mut client) = two().await;
            client.send(format!("PUT / HTTP/1.1\r\nhost: app\r\ncontent-length: {size}\r\n\r\n")).await;
            client.send(vec![b'x'; size]).await;
            let (_, mut endpoint, head) = next(&endpoints).await;
            endpoint.content(&head).await;
            endpoint.reset();
            if again {
                let (_, mut endpoint, head) = next(&endpoints).await;
                assert_eq!(endpoint.content(&head).await.bytes.len(), size);
                endpoint.send(OK).await;
                assert_eq!(client.message().await.0.status(), 200);
            } else {
                assert_eq!(client.message().await.0.get("meshless-error"), "broken");
            }
        }
    });
}

#[test]
fn a_body_that_broke_off_in_the_middle_of_a_chunk_is_sent_again_whole() {
    run(async {
        let (_gateway, endpoints, mut client) = two().await;
        client.send("PUT / HTTP/1.1\r\nhost: app\r\ntransfer-encoding: chunked\r\n\r\n6\r\nabc").await;
        let (_, mut endpoint, _) = next(&endpoints).await;
        assert_eq!(endpoint.chunk().await.unwrap(), b"abc");
        endpoint.reset();
        let (_, mut endpoint, head) = next(&endpoints).await;
        client.send("def\r\n3\r\nghi\r\n0\r\nx-sum: 9\r\n\r\n").await;
        let content = endpoint.content(&head).await;
        assert_eq!((content.bytes.as_slice(), content.trailers.len()), (&b"abcdefghi"[..], 1));
        endpoint.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
    });
}

#[test]
fn a_503_is_tried_once_more_at_the_other_endpoint_with_the_whole_body() {
    run(async {
        let (gateway, endpoints, mut client) = two().await;
        client.send("PUT / HTTP/1.1\r\nhost: app\r\ncontent-length: 3\r\n\r\nabc").await;
        let (first, mut endpoint, head) = next(&endpoints).await;
        assert_eq!(endpoint.content(&head).await.bytes, b"abc");
        endpoint.send(BUSY).await;
        let (second, mut other, head) = next(&endpoints).await;
        assert_ne!(first, second);
        assert_eq!(other.content(&head).await.bytes, b"abc");
        other.send(BUSY).await;
        // Two tries are all; the client gets what the endpoint said.
        let (reply, body) = client.message().await;
        assert_eq!((reply.status(), body.as_str(), reply.has("meshless-error")), (503, "busy", false));
        gateway.wait_for_metric("response_total", &["status_code=\"503\""], 1.0);
    });
}

#[test]
fn a_503_in_the_middle_of_an_upload_never_makes_a_request_without_its_body() {
    run(async {
        for expect in ["", "expect: 100-continue\r\n"] {
            let (_gateway, endpoints, mut client) = two().await;
            client.send(format!("PUT / HTTP/1.1\r\nhost: app\r\n{expect}content-length: 6\r\n\r\n")).await;
            if expect.is_empty() {
                client.send("abc").await;
            }
            let (_, mut endpoint, _) = next(&endpoints).await;
            if expect.is_empty() {
                assert_eq!(endpoint.exactly(3).await, b"abc");
            }
            endpoint.send(BUSY).await;
            // Either the client is told, or the other endpoint gets all of it.
            tokio::select! {
                (reply, _) = client.message() => assert_eq!(reply.status(), 503),
                (_, mut other, head) = next(&endpoints) => {
                    assert_eq!(head.get("content-length"), "6");
                    if expect.is_empty() {
                        client.send("def").await;
                    } else {
                        other.send("HTTP/1.1 100 Continue\r\n\r\n").await;
                        assert_eq!(client.head().await.status(), 100);
                        client.send("abcdef").await;
                    }
                    assert_eq!(other.content(&head).await.bytes, b"abcdef");
                    other.send(OK).await;
                    assert_eq!(client.message().await.0.status(), 200);
                }
            }
        }
    });
}

#[test]
fn an_early_503_over_http2_never_makes_a_request_without_its_body() {
    run(async {
        let endpoints = [Upstream::start().await, Upstream::start().await];
        let gateway = gateway::before(&[endpoints[0].address, endpoints[1].address]).h2().start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut upload) = client.clone().send_request(request("PUT", "/").body(()).unwrap(), false).unwrap();
        upload.send_data(Bytes::from("abc"), false).unwrap();
        let mut endpoint = tokio::select! {
            endpoint = endpoints[0].accept_h2() => endpoint,
            endpoint = endpoints[1].accept_h2() => endpoint,
        };
        let (_, mut respond) = endpoint.request().await;
        respond.send_response(Response::builder().status(503).body(()).unwrap(), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 503);
    });
}

#[test]
fn a_peers_own_answer_is_not_tried_again() {
    run(async {
        let (_gateway, endpoints, mut client) = two().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (_, mut endpoint, _) = next(&endpoints).await;
        endpoint.send("HTTP/1.1 503 x\r\nmeshless-error: limit_requests\r\ncontent-length: 0\r\n\r\n").await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (503, "limit_requests"));
    });
}

#[test]
fn the_hop_to_the_own_application_is_not_tried_again_for_its_status() {
    run(async {
        let endpoints = [Upstream::start().await, Upstream::start().await];
        let gateway = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{},{}\"\n",
            endpoints[0].address, endpoints[1].address
        ))
        .start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (_, mut endpoint, _) = next(&endpoints).await;
        endpoint.send(BUSY).await;
        assert_eq!(client.message().await.0.status(), 503);
        // Nor for a reset.
        drop(endpoint);
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (_, endpoint, _) = next(&endpoints).await;
        endpoint.reset();
        assert_eq!(client.message().await.0.get("meshless-error"), "broken");
    });
}

#[test]
fn an_idle_connection_that_the_endpoint_closed_is_no_failure() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).policies("retry = { attempts = 1 }").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        for method in ["GET", "POST", "GET", "POST"] {
            client.send(format!("{method} / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n")).await;
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send(OK).await;
            assert_eq!(client.message().await.0.status(), 200);
            drop(endpoint);
            gateway.wait_for_metric("tcp_open_connections", &["peer=\"dst\""], 0.0);
        }
        // It closes just when the next request is under way.
        client.send("GET /1 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send(OK).await;
        client.message().await;
        client.send("GET /2 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(endpoint.head().await.start, "GET /2 HTTP/1.1");
        drop(endpoint);
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!(head.start, "GET /2 HTTP/1.1");
        endpoint.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
        gateway.wait_for_metric("meshless_requeue_total", &[], 1.0);
    });
}

#[test]
fn bytes_that_nobody_asked_for_end_an_idle_connection() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        for extra in [true, false] {
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            let (mut endpoint, _) = upstream.request().await;
            let smuggled = if extra { "HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil" } else { "" };
            endpoint.send(format!("{OK}{smuggled}")).await;
            assert_eq!(client.message().await.1, "ok");
            if extra {
                endpoint.ended().await;
            }
        }
    });
}

#[test]
fn a_refused_stream_goes_elsewhere_whatever_its_method() {
    run(async {
        let endpoints = [Upstream::start().await, Upstream::start().await];
        let gateway = gateway::before(&[endpoints[0].address, endpoints[1].address]).h2().start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 3\r\n\r\nabc").await;
        let (first, mut peer) = tokio::select! {
            peer = endpoints[0].accept_h2() => (0, peer),
            peer = endpoints[1].accept_h2() => (1, peer),
        };
        let (_, mut respond) = peer.request().await;
        respond.send_reset(Reason::REFUSED_STREAM);
        let mut other = endpoints[1 - first].accept_h2().await;
        let (asked, mut respond) = other.request().await;
        assert_eq!(read(&mut asked.into_body()).await.unwrap().0, b"abc");
        respond.send_response(Response::new(()), true).unwrap();
        assert_eq!(client.message().await.0.status(), 200);
        assert_eq!(gateway.count("meshless_requeue_total", &[]), 1);
        // Another code may come from a stream that was looked at: GET is tried again, POST is not.
        client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n").await;
        let (_, mut respond) = tokio::select! { taken = peer.request() => taken, taken = other.request() => taken };
        respond.send_reset(Reason::INTERNAL_ERROR);
        assert_eq!(client.message().await.0.get("meshless-error"), "broken");
    });
}

#[test]
fn requests_beyond_the_last_stream_of_a_goaway_go_again_whatever_their_method() {
    run(async {
        for code in [0u8, 2, 11] {
            let upstream = Upstream::start().await;
            let gateway = gateway::before(&[upstream.address]).h2().start();
            let mut one = Wire::connect(gateway.address("edge")).await;
            let mut two = Wire::connect(gateway.address("edge")).await;
            one.send("POST /1 HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n").await;
            let mut peer = upstream.accept().await;
            peer.take_preface(&[]).await;
            assert_eq!(peer.frame_of(HEADERS).await.stream, 1);
            two.send("POST /2 HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n").await;
            assert_eq!(peer.frame_of(HEADERS).await.stream, 3);
            peer.frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, code]).await;
            // The second one was not looked at; the first one is still answered here.
            let mut next = upstream.accept_h2().await;
            let (asked, mut respond) = next.request().await;
            assert_eq!(asked.uri().path(), "/2");
            respond.send_response(Response::new(()), true).unwrap();
            assert_eq!(two.message().await.0.status(), 200);
            peer.frame(HEADERS, END_STREAM | END_HEADERS, 1, &[0x88]).await;
            assert_eq!(one.message().await.0.status(), 200, "code {code}");
        }
    });
}

#[test]
fn requests_wait_for_a_place_on_the_only_session_and_get_it() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway =
            gateway::before(&[upstream.address]).h2().policies("limits = { connections = 1, queue = \"10s\" }").start();
        let client = h2_client(gateway.address("edge")).await;
        let mut settings = h2::server::Builder::new();
        settings.max_concurrent_streams(1);
        let asking: Vec<_> = (0..4)
            .map(|number| {
                let client = client.clone();
                tokio::spawn(async move {
                    ask(&client, request("GET", &format!("/{number}")).body(()).unwrap()).await.0.status()
                })
            })
            .collect();
        let begun = Instant::now();
        let mut peer = upstream.accept_h2_with(&settings).await;
        for _ in 0..4 {
            let (_, mut respond) = peer.request().await;
            respond.send_response(Response::new(()), true).unwrap();
        }
        for asked in asking {
            assert_eq!(asked.await.unwrap(), 200);
        }
        assert!(begun.elapsed() < Duration::from_secs(5), "they were woken by the end of their patience");
    });
}

#[test]
fn a_session_of_an_endpoint_that_went_away_is_replaced() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        for _ in 0..3 {
            client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n").await;
            let mut peer = upstream.accept().await;
            peer.take_preface(&[]).await;
            let stream = peer.frame_of(HEADERS).await.stream;
            peer.frame(HEADERS, END_STREAM | END_HEADERS, stream, &[0x88]).await;
            assert_eq!(client.message().await.0.status(), 200);
            // With a word of farewell or without.
            peer.frame(GOAWAY, 0, 0, &[0, 0, 0, 1, 0, 0, 0, 0]).await;
            drop(peer);
            gateway.wait_for_metric("tcp_open_connections", &["peer=\"dst\""], 0.0);
        }
    });
}

#[test]
fn a_slow_endpoint_is_504_and_its_request_is_cancelled() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).policies("timeout = \"100ms\"").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (504, "deadline"));
        endpoint.ended().await;
        gateway.wait_for_metric("response_total", &["error=\"deadline\"", "status_code=\"504\""], 1.0);
    });
}

#[test]
fn a_client_that_stops_in_the_middle_of_its_upload_is_not_the_endpoints_fault() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).policies("idle_timeout = \"200ms\"").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 6\r\n\r\nabc").await;
        let (mut endpoint, _) = upstream.request().await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (408, "slow_body"));
        assert_eq!(endpoint.rest().await.0, b"abc");
        gateway.wait_for_metric("response_total", &["classification=\"success\"", "error=\"slow_body\""], 1.0);
    });
}

#[test]
fn too_many_requests_in_flight_are_503_at_once() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).policies("limits = { requests = 1 }").start();
        let mut one = Wire::connect(gateway.address("edge")).await;
        let mut two = Wire::connect(gateway.address("edge")).await;
        one.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        two.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(two.message().await.0.get("meshless-error"), "limit_requests");
        endpoint.send(OK).await;
        one.message().await;
        // A place that was given back can be had.
        gateway.wait_for_metric("response_total", &[], 2.0);
        two.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        endpoint.head().await;
        endpoint.send(OK).await;
        assert_eq!(two.message().await.0.status(), 200);
    });
}

#[test]
fn a_request_waits_for_a_connection_within_the_limit() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address])
            .policies("limits = { connections = 1, pending = 1, queue = \"10s\" }")
            .start();
        let mut one = Wire::connect(gateway.address("edge")).await;
        let mut two = Wire::connect(gateway.address("edge")).await;
        let mut three = Wire::connect(gateway.address("edge")).await;
        one.send("GET /1 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, _) = upstream.request().await;
        two.send("GET /2 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        two.stays_silent().await;
        three.send("GET /3 HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(three.message().await.0.get("meshless-error"), "limit_pending");
        endpoint.send(OK).await;
        assert_eq!(one.message().await.0.status(), 200);
        // Its connection, or its place for one, is had by who waited.
        let (mut next, head) = tokio::select! {
            head = endpoint.head_unless_closed() => match head {
                Some(head) => (endpoint, head),
                None => upstream.request().await,
            },
            taken = upstream.request() => taken,
        };
        assert_eq!(head.start, "GET /2 HTTP/1.1");
        next.send(OK).await;
        assert_eq!(two.message().await.0.status(), 200);
    });
}
