//! HTTP/2 on either side of a whole gateway, and translation between the versions.

use bytes::Bytes;
use h2::Reason;
use http::{HeaderMap, HeaderValue, Response, StatusCode};

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{
    self, DATA, END_HEADERS, END_STREAM, End, GOAWAY, HEADERS, PING, RST_STREAM, SETTINGS, WINDOW_UPDATE, Wire, ask,
    block, h2_client, read, request, run, write,
};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn trailers(name: &'static str, value: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static(name), HeaderValue::from_static(value))])
}

fn reply(status: u16) -> Response<()> {
    Response::builder().status(status).body(()).unwrap()
}

#[test]
fn http2_to_http2_carries_bodies_and_trailers_both_ways() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) =
            client.clone().send_request(request("POST", "/up?q=1").body(()).unwrap(), false).unwrap();
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        assert_eq!(asked.uri().to_string(), "http://app.example/up?q=1");
        assert_eq!(
            (asked.headers()["via"].to_str().unwrap(), asked.headers().contains_key("host")),
            ("2.0 meshless", false)
        );
        body.send_data(Bytes::from("abc"), false).unwrap();
        body.send_trailers(trailers("x-sum", "6")).unwrap();
        let (bytes, sent) = read(&mut asked.into_body()).await.unwrap();
        assert_eq!((bytes.as_slice(), sent), (&b"abc"[..], Some(trailers("x-sum", "6"))));
        let mut out = respond.send_response(reply(201), false).unwrap();
        out.send_data(Bytes::from("xyz"), false).unwrap();
        out.send_trailers(trailers("x-sum", "7")).unwrap();
        let response = response.await.unwrap();
        assert_eq!(response.status(), 201);
        let (bytes, sent) = read(&mut response.into_body()).await.unwrap();
        assert_eq!((bytes.as_slice(), sent), (&b"xyz"[..], Some(trailers("x-sum", "7"))));
        gateway.wait_for_metric("response_total", &["status_code=\"201\"", "success\"}"], 1.0);
    });
}

#[test]
fn http2_to_http1_is_translated() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let asked = request("POST", "/a").header("cookie", "a=1").header("cookie", "b=2").header("te", "trailers");
        let (response, mut body) = client.clone().send_request(asked.body(()).unwrap(), false).unwrap();
        let (mut endpoint, head) = upstream.request().await;
        assert_eq!((head.start.as_str(), head.get("host")), ("POST /a HTTP/1.1", "app.example"));
        assert_eq!((head.get("cookie"), head.get("te"), head.get("connection")), ("a=1; b=2", "trailers", "te"));
        assert_eq!(head.get("transfer-encoding"), "chunked");
        body.send_data(Bytes::from("abc"), false).unwrap();
        assert_eq!(endpoint.chunk().await.unwrap(), b"abc");
        body.send_trailers(trailers("x-sum", "6")).unwrap();
        assert_eq!(endpoint.content(&head).await.trailers, [("x-sum".to_owned(), "6".to_owned())]);
        endpoint
            .send("HTTP/1.1 200 OK\r\nconnection: x-hop\r\nx-hop: 1\r\nkeep-alive: timeout=1\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n0\r\nx-sum: 7\r\n\r\n")
            .await;
        let response = response.await.unwrap();
        assert!(!response.headers().contains_key("x-hop") && !response.headers().contains_key("keep-alive"));
        let (bytes, sent) = read(&mut response.into_body()).await.unwrap();
        assert_eq!((bytes.as_slice(), sent), (&b"x"[..], Some(trailers("x-sum", "7"))));
        // A known length stays known both ways.
        let asked = request("POST", "/b").header("content-length", "2").body(()).unwrap();
        let (response, mut body) = client.clone().send_request(asked, false).unwrap();
        body.send_data(Bytes::from("hi"), true).unwrap();
        let (head, text) = endpoint.message().await;
        assert_eq!((head.get("content-length"), text.as_str()), ("2", "hi"));
        endpoint.send(OK).await;
        assert_eq!(response.await.unwrap().headers()["content-length"], "2");
    });
}

#[test]
fn http1_to_http2_is_translated() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client
            .send("POST /a HTTP/1.1\r\nhost: app.example:81\r\nconnection: x-hop\r\nx-hop: 1\r\nte: gzip, trailers\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nx-sum: 6\r\n\r\n")
            .await;
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        assert_eq!(asked.uri().to_string(), "http://app.example:81/a");
        assert!(!asked.headers().contains_key("x-hop") && !asked.headers().contains_key("host"));
        assert_eq!(asked.headers()["te"], "trailers");
        let (bytes, sent) = read(&mut asked.into_body()).await.unwrap();
        assert_eq!((bytes.as_slice(), sent), (&b"abc"[..], Some(trailers("x-sum", "6"))));
        let mut out = respond.send_response(reply(200), false).unwrap();
        out.send_data(Bytes::from("xyz"), false).unwrap();
        out.send_trailers(trailers("x-sum", "7")).unwrap();
        let head = client.head().await;
        let content = client.content(&head).await;
        assert_eq!((content.bytes.as_slice(), content.trailers), (&b"xyz"[..], vec![("x-sum".into(), "7".into())]));
        // Without a body, on the same connections.
        client.send("GET /b HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
        let (asked, mut respond) = endpoint.request().await;
        assert!(asked.body().is_end_stream());
        respond.send_response(reply(204), true).unwrap();
        let head = client.head().await;
        assert_eq!((head.status(), head.has("content-length"), head.has("transfer-encoding")), (204, false, false));
        client.send("HEAD /c HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
        let (_, mut respond) = endpoint.request().await;
        let answer = Response::builder().header("content-length", "77").body(()).unwrap();
        respond.send_response(answer, true).unwrap();
        assert_eq!(client.head().await.get("content-length"), "77");
        client.stays_silent().await;
    });
}

#[test]
fn early_hints_and_100_continue_cross_the_versions() {
    run(async {
        // HTTP/1.1 endpoint, HTTP/2 client.
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (mut response, _) = client.clone().send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n").await;
        let hints = std::future::poll_fn(|context| response.poll_informational(context)).await.unwrap().unwrap();
        assert_eq!((hints.status().as_u16(), hints.headers()["link"].to_str().unwrap()), (103, "</a>"));
        endpoint.send(OK).await;
        assert_eq!(response.await.unwrap().status(), 200);
        let asked = request("POST", "/").header("expect", "100-continue").body(()).unwrap();
        let (mut response, mut body) = client.clone().send_request(asked, false).unwrap();
        let interim = std::future::poll_fn(|context| response.poll_informational(context)).await.unwrap().unwrap();
        assert_eq!(interim.status(), 100);
        body.send_data(Bytes::from("abc"), true).unwrap();
        let (_, text) = endpoint.message().await;
        assert_eq!(text, "abc");
        endpoint.send(OK).await;
        assert_eq!(response.await.unwrap().status(), 200);

        // HTTP/2 endpoint, clients of both.
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let client = h2_client(gateway.address("edge")).await;
        let (mut response, _) = client.clone().send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let mut endpoint = upstream.accept_h2().await;
        let (_, mut respond) = endpoint.request().await;
        respond.send_informational(Response::builder().status(103).header("link", "</b>").body(()).unwrap()).unwrap();
        let hints = std::future::poll_fn(|context| response.poll_informational(context)).await.unwrap().unwrap();
        assert_eq!((hints.status().as_u16(), hints.headers()["link"].to_str().unwrap()), (103, "</b>"));
        respond.send_response(reply(200), true).unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("POST / HTTP/1.1\r\nhost: app.example\r\nexpect: 100-continue\r\ncontent-length: 3\r\n\r\n").await;
        let (asked, mut respond) = endpoint.request().await;
        respond.send_informational(Response::builder().status(103).header("link", "</c>").body(()).unwrap()).unwrap();
        let mut seen = vec![client.head().await.status(), client.head().await.status()];
        seen.sort_unstable();
        assert_eq!(seen, [100, 103]);
        client.send("abc").await;
        assert_eq!(read(&mut asked.into_body()).await.unwrap().0, b"abc");
        respond.send_response(reply(200), true).unwrap();
        assert_eq!(client.head().await.status(), 200);
    });
}

#[test]
fn a_client_that_resets_its_stream_cancels_what_is_done_for_it() {
    run(async {
        // HTTP/1.1 endpoint: its connection is closed.
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _) = client.clone().send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let (mut endpoint, _) = upstream.request().await;
        drop(response);
        endpoint.ended().await;
        gateway.wait_for_metric("response_total", &["error=\"client_gone\""], 1.0);
        // HTTP/2 endpoint: RST_STREAM with CANCEL, while it thinks and while it sends.
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _) = client.clone().send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let mut endpoint = upstream.accept_h2().await;
        let (_, mut respond) = endpoint.request().await;
        drop(response);
        assert_eq!(std::future::poll_fn(|context| respond.poll_reset(context)).await.unwrap(), Reason::CANCEL);
        let (response, mut upload) =
            client.clone().send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
        let (asked, mut respond) = endpoint.request().await;
        let mut out = respond.send_response(reply(200), false).unwrap();
        let response = response.await.unwrap();
        upload.send_reset(Reason::CANCEL);
        drop(response);
        assert_eq!(std::future::poll_fn(|context| out.poll_reset(context)).await.unwrap(), Reason::CANCEL);
        assert!(read(&mut asked.into_body()).await.is_err(), "half of an upload is not all of it");
        // The session serves on.
        let asking = ask(&client, request("GET", "/").body(()).unwrap());
        let answering = async {
            endpoint.request().await.1.send_response(reply(200), true).unwrap();
        };
        assert_eq!(tokio::join!(asking, answering).0.0.status(), 200);
    });
}

#[test]
fn a_stream_that_ends_by_a_fault_of_the_client_is_cancelled_as_well() {
    run(async {
        // MadeYouReset: the client makes the server reset the stream, and the work must stop all the same.
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.preface().await;
        let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")]);
        client.frame(HEADERS, END_STREAM | END_HEADERS, 1, &head).await;
        let (mut endpoint, _) = upstream.request().await;
        client.frame(WINDOW_UPDATE, 0, 1, &[0, 0, 0, 0]).await;
        endpoint.ended().await;
    });
}

#[test]
fn reset_codes_of_an_endpoint_reach_the_client() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let client = h2_client(gateway.address("edge")).await;
        let mut endpoint = None;
        for reason in [Reason::INTERNAL_ERROR, Reason::CANCEL, Reason::ENHANCE_YOUR_CALM, Reason::from(0x1234)] {
            let (response, _) = client.clone().send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
            if endpoint.is_none() {
                endpoint = Some(upstream.accept_h2().await);
            }
            let (_, mut respond) = endpoint.as_mut().unwrap().request().await;
            let mut out = respond.send_response(reply(200), false).unwrap();
            out.send_data(Bytes::from("abc"), false).unwrap();
            let mut body = response.await.unwrap().into_body();
            assert_eq!(body.data().await.unwrap().unwrap(), "abc");
            out.send_reset(reason);
            assert_eq!(read(&mut body).await.unwrap_err().reason(), Some(reason));
        }
        gateway.wait_for_metric("response_total", &["error=\"body_broken\"", "classification=\"failure\""], 4.0);
        // An HTTP/1.1 client sees its connection break before the last chunk.
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET / HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
        let (_, mut respond) = endpoint.as_mut().unwrap().request().await;
        let mut out = respond.send_response(reply(200), false).unwrap();
        out.send_data(Bytes::from("abc"), false).unwrap();
        client.head().await;
        assert_eq!(client.chunk().await.unwrap(), b"abc");
        out.send_reset(Reason::INTERNAL_ERROR);
        client.ended().await;
    });
}

#[test]
fn a_broken_http1_reply_resets_the_stream() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _) = client.clone().send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n1\r\nx\r\n").await;
        let mut body = response.await.unwrap().into_body();
        assert_eq!(body.data().await.unwrap().unwrap(), "x");
        drop(endpoint);
        assert_eq!(read(&mut body).await.unwrap_err().reason(), Some(Reason::INTERNAL_ERROR));
    });
}

#[test]
fn a_reply_before_the_end_of_the_upload_ends_the_stream_in_order() {
    run(async {
        for speaks_h2 in [false, true] {
            let upstream = Upstream::start().await;
            let edge = gateway::before(&[upstream.address]);
            let gateway = if speaks_h2 { edge.h2().start() } else { edge.start() };
            let client = h2_client(gateway.address("edge")).await;
            let (response, mut upload) =
                client.clone().send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
            upload.send_data(Bytes::from("abc"), false).unwrap();
            let answering = async {
                if speaks_h2 {
                    let mut endpoint = upstream.accept_h2().await;
                    let (_, mut respond) = endpoint.request().await;
                    respond.send_response(reply(413), false).unwrap().send_data(Bytes::from("no"), true).unwrap();
                    return Some(endpoint);
                }
                let (mut endpoint, _) = upstream.request().await;
                endpoint.send("HTTP/1.1 413 x\r\ncontent-length: 2\r\n\r\nno").await;
                endpoint.ended_after(b"3\r\nabc\r\n").await;
                None
            };
            let (response, _endpoint) = tokio::join!(response, answering);
            let response = response.unwrap();
            assert_eq!(response.status(), 413);
            assert_eq!(read(&mut response.into_body()).await.unwrap().0, b"no");
            // RFC 9113, 8.1: the rest of the upload is not wanted, and that is no error.
            let reason = std::future::poll_fn(|context| upload.poll_reset(context)).await.unwrap();
            assert_eq!(reason, Reason::NO_ERROR);
        }
    });
}

#[test]
fn uploads_that_nobody_reads_do_not_close_the_window_for_others() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [[routes]]\nmatch = {{ path = \"/yes\" }}\nto = \"static/{}\"\n",
            upstream.address
        ))
        .start();
        let client = h2_client(gateway.address("edge")).await;
        // 6 MB to nowhere, over a connection window of 1 MiB.
        for _ in 0..100 {
            let (response, mut upload) = client
                .clone()
                .ready()
                .await
                .unwrap()
                .send_request(request("POST", "/no").body(()).unwrap(), false)
                .unwrap();
            // It may be reset before all of it is sent.
            let _ = write(&mut upload, Bytes::from(vec![b'x'; 60_000]), true).await;
            assert_eq!(response.await.unwrap().status(), 404);
        }
        let (response, mut upload) = client
            .clone()
            .ready()
            .await
            .unwrap()
            .send_request(request("POST", "/yes").body(()).unwrap(), false)
            .unwrap();
        let sending = write(&mut upload, Bytes::from(vec![b'x'; 2 << 20]), true);
        let taking = async {
            let mut endpoint = upstream.accept().await;
            let head = endpoint.head().await;
            assert_eq!(endpoint.content(&head).await.bytes.len(), 2 << 20);
            endpoint.send(OK).await;
            endpoint
        };
        let (sent, _endpoint) = tokio::join!(sending, taking);
        sent.unwrap();
        assert_eq!(response.await.unwrap().status(), 200);
    });
}

#[test]
fn clients_that_do_not_read_do_not_stop_the_replies_to_others() {
    run(async {
        // All requests share one session to the endpoint; twelve stalled replies must not use its window up.
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let mut stalled = Vec::new();
        let mut endpoint = None;
        for _ in 0..12 {
            let mut client = Wire::connect_narrow(gateway.address("edge")).await;
            client.send("GET /big HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
            if endpoint.is_none() {
                endpoint = Some(upstream.accept_h2().await);
            }
            let (_, mut respond) = endpoint.as_mut().unwrap().request().await;
            let mut out = respond.send_response(reply(200), false).unwrap();
            tokio::spawn(async move {
                let _ = write(&mut out, Bytes::from(vec![b'x'; 16 << 20]), true).await;
            });
            stalled.push(client);
        }
        // Once nothing moves any more, somebody else asks.
        tokio::time::sleep(std::time::Duration::from_millis(300)).await;
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET /small HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
        let (_, mut respond) = endpoint.as_mut().unwrap().request().await;
        let mut out = respond.send_response(reply(200), false).unwrap();
        tokio::spawn(async move {
            let _ = write(&mut out, Bytes::from(vec![b'y'; 100_000]), true).await;
        });
        let head = client.head().await;
        assert_eq!(client.content(&head).await.bytes.len(), 100_000);
        // Replies that are given up give their window back, too.
        drop(stalled);
        client.send("GET /large HTTP/1.1\r\nhost: app.example\r\n\r\n").await;
        let (_, mut respond) = endpoint.as_mut().unwrap().request().await;
        let mut out = respond.send_response(reply(200), false).unwrap();
        tokio::spawn(async move {
            let _ = write(&mut out, Bytes::from(vec![b'y'; 8 << 20]), true).await;
        });
        let head = client.head().await;
        assert_eq!(client.content(&head).await.bytes.len(), 8 << 20);
    });
}

#[test]
fn a_slow_reader_stops_the_sender_over_http2() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut upload) =
            client.clone().send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        let mut out = respond.send_response(reply(200), false).unwrap();
        let _response = response.await.unwrap();
        // Neither side reads a byte: both senders stand still after what windows and buffers take.
        for stream in [&mut out, &mut upload] {
            let sent = send_until_blocked(stream, 64 << 20).await;
            assert!(sent > 0 && sent < 4 << 20, "{sent} bytes were taken for somebody who reads nothing");
        }
        drop(asked);
    });
}

async fn send_until_blocked(stream: &mut h2::SendStream<Bytes>, most: usize) -> usize {
    let mut sent = 0;
    while sent < most {
        let piece = write(stream, Bytes::from(vec![b'x'; 16 * 1024]), false);
        match tokio::time::timeout(std::time::Duration::from_millis(200), piece).await {
            Ok(written) => written.unwrap(),
            Err(_) => break,
        }
        sent += 16 * 1024;
    }
    sent
}

#[test]
fn large_bodies_go_both_ways_at_once_over_http2() {
    const SIZE: usize = 4 << 20;
    run(async {
        for endpoint_h2 in [true, false] {
            let upstream = Upstream::start().await;
            let edge = gateway::before(&[upstream.address]);
            let gateway = if endpoint_h2 { edge.h2().start() } else { edge.start() };
            // The endpoint answers each piece as it comes.
            let serving = async {
                if endpoint_h2 {
                    let mut endpoint = upstream.accept_h2().await;
                    let (asked, mut respond) = endpoint.request().await;
                    let mut out = respond.send_response(reply(200), false).unwrap();
                    let mut body = asked.into_body();
                    while let Some(piece) = body.data().await {
                        let piece = piece.unwrap();
                        body.flow_control().release_capacity(piece.len()).unwrap();
                        write(&mut out, piece, false).await.unwrap();
                    }
                    out.send_data(Bytes::new(), true).unwrap();
                    return Some(endpoint);
                }
                let (mut endpoint, _) = upstream.request().await;
                endpoint.send("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n").await;
                while let Some(chunk) = endpoint.chunk().await {
                    endpoint.send(format!("{:x}\r\n", chunk.len())).await;
                    endpoint.send(chunk).await;
                    endpoint.send("\r\n").await;
                }
                endpoint.send("0\r\n\r\n").await;
                None
            };
            let client = h2_client(gateway.address("edge")).await;
            let (response, mut upload) =
                client.clone().send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
            let sending = write(&mut upload, Bytes::from(vec![b'x'; SIZE]), true);
            let reading = async { read(&mut response.await.unwrap().into_body()).await.unwrap().0.len() };
            let (_endpoint, sent, read) = tokio::join!(serving, sending, reading);
            sent.unwrap();
            assert_eq!(read, SIZE, "endpoint h2: {endpoint_h2}");
        }
    });
}

#[test]
fn an_http1_client_that_reads_last_and_an_http2_endpoint_that_answers_at_once_do_not_wait_for_each_other() {
    const SIZE: usize = 4 << 20;
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).h2().start();
        let serving = async {
            let mut endpoint = upstream.accept_h2().await;
            let (asked, mut respond) = endpoint.request().await;
            // Almost all of the answer goes out beside the upload.
            let mut out = respond.send_response(reply(200), false).unwrap();
            let answering = write(&mut out, Bytes::from(vec![b'y'; SIZE - 1]), false);
            let mut body = asked.into_body();
            let (answered, got) = tokio::join!(answering, read(&mut body));
            answered.unwrap();
            assert_eq!(got.unwrap().0.len(), SIZE);
            out.send_data(Bytes::from("z"), true).unwrap();
            endpoint
        };
        let asking = async {
            let mut client = Wire::connect_narrow(gateway.address("edge")).await;
            client.send(format!("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: {SIZE}\r\n\r\n")).await;
            for _ in 0..SIZE / 65536 {
                client.send(vec![b'x'; 65536]).await;
            }
            let head = client.head().await;
            client.content(&head).await.bytes.len()
        };
        assert_eq!(tokio::join!(serving, asking).1, SIZE);
    });
}

#[test]
fn control_frames_without_end_are_answered_by_goaway() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let open = wire::frame(
            HEADERS,
            END_HEADERS,
            1,
            &block(&[(":method", "POST"), (":scheme", "http"), (":path", "/"), (":authority", "app")]),
        );
        let floods: [(&str, Vec<u8>, Vec<u8>); 6] = [
            ("SETTINGS", vec![], wire::frame(SETTINGS, 0, 0, &[])),
            ("PING", vec![], wire::frame(PING, 0, 0, &[0; 8])),
            ("PRIORITY", vec![], wire::frame(wire::PRIORITY, 0, 1, &[0, 0, 0, 0, 1])),
            ("WINDOW_UPDATE", vec![], wire::frame(WINDOW_UPDATE, 0, 0, &[0, 0, 0, 1])),
            ("empty DATA", open, wire::frame(DATA, 0, 1, &[])),
            ("unknown", vec![], wire::frame(0xbe, 0, 0, b"x")),
        ];
        for (name, first, each) in floods {
            let mut client = Wire::connect(gateway.address("edge")).await;
            client.preface().await;
            client.send(&first).await;
            client.send(each.repeat(1100)).await;
            let goaway = client.frame_of(GOAWAY).await;
            assert_eq!(goaway.reason(), Reason::ENHANCE_YOUR_CALM, "{name}");
            client.rest().await;
        }
        let floods = gateway.metric("meshless_malformed_total", &["label=\"http2_control_frame_flood\""]);
        // h2 itself ends the flood of empty DATA where it is stricter than we are.
        assert!((5.0..=6.0).contains(&floods), "{floods}");
    });
}

#[test]
fn resets_without_end_are_answered_by_goaway_and_cancelled() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.preface().await;
        let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")]);
        let mut bytes = Vec::new();
        for stream in (1..2001).step_by(2) {
            bytes.extend(wire::frame(HEADERS, END_STREAM | END_HEADERS, stream, &head));
            bytes.extend(wire::frame(RST_STREAM, 0, stream, &[0, 0, 0, 8]));
        }
        client.send(bytes).await;
        assert_eq!(client.frame_of(GOAWAY).await.reason(), Reason::ENHANCE_YOUR_CALM);
        client.rest().await;
        // Nothing is left in flight.
        gateway.wait_for_metric("tcp_open_connections", &["peer=\"src\""], 0.0);
        gateway.wait_until("all requests have ended", |gateway| {
            let ended = gateway.metric("response_total", &[]);
            (ended - gateway.metric("request_total", &[])).abs() < 1e-9
        });
    });
}

#[test]
fn a_stream_over_the_limit_is_refused_and_may_come_again() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).listener("limits = { streams = 2 }").start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.preface().await;
        let settings = client.frame_of(SETTINGS).await;
        let wanted = [0, 3, 0, 0, 0, 2];
        assert!(settings.payload.chunks(6).any(|setting| setting == wanted), "{settings:?}");
        let head = block(&[(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")]);
        for stream in [1, 3, 5] {
            client.frame(HEADERS, END_STREAM | END_HEADERS, stream, &head).await;
        }
        let reset = client.frame_of(RST_STREAM).await;
        assert_eq!((reset.stream, reset.reason()), (5, Reason::REFUSED_STREAM));
    });
}

#[test]
fn a_head_over_the_limits_is_431() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway =
            gateway::before(&[upstream.address]).listener("limits = { headers = 10, head_bytes = \"4KiB\" }").start();
        let client = h2_client(gateway.address("edge")).await;
        let mut many = request("GET", "/");
        for number in 0..20 {
            many = many.header(format!("x-{number}"), "1");
        }
        let (head, _) = ask(&client, many.body(()).unwrap()).await;
        assert_eq!(
            (head.status(), head.headers()["meshless-error"].to_str().unwrap()),
            (StatusCode::from_u16(431).unwrap(), "too_many_fields")
        );
        let large = request("GET", "/").header("x", "x".repeat(8000)).body(()).unwrap();
        let (response, _) = client.clone().send_request(large, true).unwrap();
        assert_eq!(response.await.unwrap().status(), 431);
        upstream.is_left_alone().await;
    });
}

#[test]
fn what_would_mean_something_else_in_http1_is_refused() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let base = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "app")];
        let with = |fields: &[(&'static str, &'static str)]| {
            let mut all: Vec<_> =
                base.iter().filter(|(name, _)| fields.iter().all(|(other, _)| other != name)).copied().collect();
            // Pseudo-fields first.
            all.splice(0..0, fields.iter().filter(|(name, _)| name.starts_with(':')).copied());
            all.extend(fields.iter().filter(|(name, _)| !name.starts_with(':')).copied());
            all
        };
        // Each ends its stream by an answer of 400 or by a reset, and no endpoint hears of it.
        for fields in [
            with(&[("x", "a\r\nb: c")]),
            with(&[("x", "a\nb")]),
            with(&[("x", "a\0b")]),
            with(&[("x", "a\x01b")]),
            with(&[("X-Upper", "1")]),
            with(&[("x y", "1")]),
            with(&[("x:y", "1")]),
            with(&[("content_length", "1")]),
            with(&[("x_forwarded_for", "1")]),
            with(&[("connection", "close")]),
            with(&[("transfer-encoding", "chunked")]),
            with(&[("upgrade", "websocket")]),
            with(&[("te", "gzip")]),
            with(&[("host", "other")]),
            with(&[("content-length", "1"), ("content-length", "1")]),
            with(&[("content-length", "+1")]),
            with(&[(":path", "no-slash")]),
            with(&[(":path", "/a b")]),
            with(&[(":path", "/a\r\nx: y")]),
            with(&[(":path", "/a%00")]),
            with(&[(":path", "/a%2fb")]),
            with(&[(":path", "/a\\b")]),
            with(&[(":path", "*")]),
            with(&[(":path", "")]),
            with(&[(":method", "GET /x HTTP/1.1")]),
            with(&[(":method", "CONNECT")]),
            with(&[(":authority", "user@app")]),
            with(&[(":authority", "app/x")]),
            with(&[(":authority", "")]),
            with(&[(":authority", "a, b")]),
        ] {
            let mut client = Wire::connect(gateway.address("edge")).await;
            client.preface().await;
            client.frame(HEADERS, END_STREAM | END_HEADERS, 1, &block(&fields)).await;
            let seen = loop {
                let frame = client.next_frame().await;
                match frame.kind {
                    // Indexed `:status: 400`.
                    HEADERS => break frame.payload.contains(&0x8c),
                    RST_STREAM | GOAWAY => break true,
                    _ => {}
                }
            };
            assert!(seen, "{fields:?}");
        }
        upstream.is_left_alone().await;
    });
}

#[test]
fn a_length_that_the_frames_do_not_keep_never_reaches_an_endpoint_as_a_whole_body() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        for (length, end) in [("5", b"abc"), ("2", b"abc")] {
            let mut client = Wire::connect(gateway.address("edge")).await;
            client.preface().await;
            let head = [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "app"),
                ("content-length", length),
            ];
            client.frame(HEADERS, END_HEADERS, 1, &block(&head)).await;
            client.frame(DATA, END_STREAM, 1, end).await;
            let ended = loop {
                let frame = client.next_frame().await;
                if matches!(frame.kind, HEADERS | RST_STREAM | GOAWAY) {
                    break frame;
                }
            };
            assert!(ended.kind != HEADERS || ended.payload.contains(&0x8c), "{ended:?}");
        }
        // What an endpoint may have seen of it broke off.
        let accepted = tokio::time::timeout(std::time::Duration::from_millis(200), upstream.accept()).await;
        if let Ok(mut endpoint) = accepted {
            let (bytes, _) = endpoint.rest().await;
            let text = String::from_utf8(bytes).unwrap();
            assert!(!text.ends_with("abcde") && !text.contains("content-length: 3"), "{text}");
        }
        assert_eq!(gateway.count("response_total", &["classification=\"failure\""]), 0);
    });
}

#[test]
fn forbidden_trailers_are_no_way_around_the_rules() {
    run(async {
        for speaks_h2 in [false, true] {
            let upstream = Upstream::start().await;
            let edge = gateway::before(&[upstream.address]);
            let gateway = if speaks_h2 { edge.h2().start() } else { edge.start() };
            let client = h2_client(gateway.address("edge")).await;
            let (response, mut upload) =
                client.clone().send_request(request("POST", "/").body(()).unwrap(), false).unwrap();
            upload.send_data(Bytes::from("abc"), false).unwrap();
            let claim = trailers("x-forwarded-for", "192.0.2.1");
            if speaks_h2 {
                let mut endpoint = upstream.accept_h2().await;
                let (asked, _respond) = endpoint.request().await;
                upload.send_trailers(claim).unwrap();
                assert!(read(&mut asked.into_body()).await.is_err());
            } else {
                let (mut endpoint, _) = upstream.request().await;
                upload.send_trailers(claim).unwrap();
                endpoint.ended_after(b"3\r\nabc\r\n").await;
            }
            let response = response.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), response.headers()["meshless-error"].to_str().unwrap()),
                (400, "trailer_forbidden")
            );
        }
    });
}

#[test]
fn a_client_that_breaks_the_protocol_is_told_and_closed() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.preface().await;
        client.frame(DATA, 0, 1, b"on a stream that is idle").await;
        assert_eq!(client.frame_of(GOAWAY).await.reason(), Reason::PROTOCOL_ERROR);
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("PRI * HTTP/2.0\r\n\r\nSM\r\n\r\nthis is no frame of settings").await;
        client.rest().await;
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("PRI * HTTP/2.0\r\n\r\nXX").await;
        let (rest, end) = client.rest().await;
        assert!(
            rest.starts_with(b"HTTP/1.1 400") || rest.starts_with(b"HTTP/1.1 505"),
            "{:?}",
            String::from_utf8_lossy(&rest)
        );
        assert_eq!(end, End::Closed);
    });
}

#[test]
fn a_204_of_http1_announces_no_length_over_http2() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let asking = ask(&client, request("GET", "/").body(()).unwrap());
        let answering = async {
            let (mut endpoint, _) = upstream.request().await;
            endpoint.send("HTTP/1.1 204 x\r\ncontent-length: 0\r\n\r\n").await;
        };
        let (head, _) = tokio::join!(asking, answering).0;
        assert_eq!((head.status().as_u16(), head.headers().contains_key("content-length")), (204, false));
        // HEAD keeps what GET would have.
        let (response, _) = client.clone().send_request(request("HEAD", "/").body(()).unwrap(), true).unwrap();
        let (mut endpoint, _) = upstream.request().await;
        endpoint.send("HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n").await;
        let response = response.await.unwrap();
        assert_eq!(response.headers()["content-length"], "7");
        assert!(response.body().is_end_stream());
    });
}

#[test]
fn a_thousand_requests_on_many_streams_get_their_own_replies() {
    run(async {
        for speaks_h2 in [false, true] {
            let upstream = Upstream::start().await;
            let edge = gateway::before(&[upstream.address]);
            let builder = if speaks_h2 { edge.h2().build() } else { edge.build() };
            let gateway = builder.workers(2).start();
            let address = gateway.address("edge");
            // The endpoint says what it was asked for, in whatever order it comes to it.
            tokio::spawn(async move {
                loop {
                    if speaks_h2 {
                        let mut peer = upstream.accept_h2().await;
                        tokio::spawn(async move {
                            loop {
                                let (asked, mut respond) = peer.request().await;
                                tokio::spawn(async move {
                                    let path = asked.uri().path().to_owned();
                                    let body = read(&mut asked.into_body()).await.unwrap().0;
                                    assert_eq!(path.as_bytes(), body);
                                    let mut out = respond.send_response(reply(200), false).unwrap();
                                    out.send_data(body.into(), true).unwrap();
                                });
                            }
                        });
                    } else {
                        let mut wire = upstream.accept().await;
                        tokio::spawn(async move {
                            while let Some(head) = wire.head_unless_closed().await {
                                let body = wire.content(&head).await.bytes;
                                assert_eq!(head.start.split(' ').nth(1).unwrap().as_bytes(), body);
                                wire.send(format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n", body.len())).await;
                                wire.send(body).await;
                            }
                        });
                    }
                }
            });
            let clients: Vec<_> = (0..5)
                .map(|client| {
                    tokio::spawn(async move {
                        let connection = h2_client(address).await;
                        let asking: Vec<_> = (0..200)
                            .map(|number| {
                                let connection = connection.clone();
                                tokio::spawn(async move {
                                    let path = format!("/{client}/{number}");
                                    let asked = request("POST", &path).body(()).unwrap();
                                    let mut ready = connection.ready().await.unwrap();
                                    let (response, mut body) = ready.send_request(asked, false).unwrap();
                                    body.send_data(path.clone().into(), true).unwrap();
                                    let response = response.await.unwrap();
                                    let status = response.status();
                                    let said = read(&mut response.into_body()).await.unwrap().0;
                                    assert_eq!((status.as_u16(), String::from_utf8(said).unwrap()), (200, path));
                                })
                            })
                            .collect();
                        for asked in asking {
                            asked.await.unwrap();
                        }
                    })
                })
                .collect();
            for client in clients {
                client.await.unwrap();
            }
            gateway.wait_for_metric("response_total", &["status_code=\"200\""], 1000.0);
            assert_eq!(gateway.count("response_total", &[]), 1000);
        }
    });
}

/// A worker that has heard of the listener hands connections to one that has not yet; told to leave at once, they would
/// fail all that is asked on them.
#[test]
fn connections_that_come_while_workers_start_are_served_like_any() {
    run(async {
        for _ in 0..20 {
            let gateway = gateway::with(
                "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
                 [[routes]]\nrespond = { status = 200, body = \"here\" }",
            )
            .workers(4)
            .start();
            let address = gateway.address("edge");
            let clients: Vec<_> = (0..16).map(|_| tokio::spawn(h2_client(address))).collect();
            for client in clients {
                let client = client.await.unwrap();
                for _ in 0..2 {
                    let mut ready = client.clone().ready().await.unwrap();
                    let (response, _) = ready.send_request(request("GET", "/").body(()).unwrap(), true).unwrap();
                    assert_eq!(response.await.unwrap().status().as_u16(), 200);
                }
            }
        }
    });
}
