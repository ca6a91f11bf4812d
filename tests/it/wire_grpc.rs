//! gRPC through a whole gateway: statuses, deadlines, streams.

use std::time::{Duration, Instant};

use bytes::Bytes;
use h2::client::SendRequest;
use h2::server::SendResponse;
use h2::{Reason, RecvStream, SendStream};
use http::{HeaderMap, HeaderValue, Request, Response};

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{h2_client, read, request, run};

/// A message of `text`, framed.
fn message(text: &str) -> Bytes {
    let mut bytes = vec![0, 0, 0, 0, u8::try_from(text.len()).unwrap()];
    bytes.extend(text.bytes());
    bytes.into()
}

fn call(path: &str) -> http::request::Builder {
    request("POST", path).header("content-type", "application/grpc").header("te", "trailers")
}

fn begin(client: &SendRequest<Bytes>, call: Request<()>) -> (h2::client::ResponseFuture, SendStream<Bytes>) {
    client.clone().send_request(call, false).unwrap()
}

fn status(status: &'static str) -> HeaderMap {
    HeaderMap::from_iter([(http::HeaderName::from_static("grpc-status"), HeaderValue::from_static(status))])
}

fn head() -> Response<()> {
    Response::builder().header("content-type", "application/grpc").body(()).unwrap()
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).map_or("", |value| value.to_str().unwrap())
}

/// Answers in trailers alone, as gRPC servers do when they fail at once.
fn trailers_only(respond: &mut SendResponse<Bytes>, code: &str) {
    let head = Response::builder().header("content-type", "application/grpc").header("grpc-status", code);
    respond.send_response(head.body(()).unwrap(), true).unwrap();
}

async fn next_message(body: &mut RecvStream) -> Bytes {
    let bytes = body.data().await.unwrap().unwrap();
    body.flow_control().release_capacity(bytes.len()).unwrap();
    bytes
}

#[test]
fn a_call_is_h2c_to_the_endpoint_without_being_told() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) = begin(&client, call("/echo.Echo/Say").body(()).unwrap());
        body.send_data(message("hi"), true).unwrap();
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        assert_eq!(text(asked.headers(), "te"), "trailers");
        assert_eq!(read(&mut asked.into_body()).await.unwrap().0, message("hi"));
        let mut out = respond.send_response(head(), false).unwrap();
        out.send_data(message("hello"), false).unwrap();
        out.send_trailers(status("0")).unwrap();
        let response = response.await.unwrap();
        let (bytes, trailers) = read(&mut response.into_body()).await.unwrap();
        assert_eq!((&bytes[..], trailers), (&message("hello")[..], Some(status("0"))));
        gateway.wait_for_metric("response_total", &["grpc_status_code=\"0\"", "classification=\"success\""], 1.0);
    });
}

#[test]
fn a_stream_in_both_directions_is_carried_message_by_message() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) = begin(&client, call("/echo.Echo/Chat").body(()).unwrap());
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        // The head of the reply comes before the first message of the client.
        let mut out = respond.send_response(head(), false).unwrap();
        let mut replies = response.await.unwrap().into_body();
        let mut asked = asked.into_body();
        for number in 0..50 {
            let (question, answer) = (message(&format!("ping {number}")), message(&format!("pong {number}")));
            body.send_data(question.clone(), false).unwrap();
            assert_eq!(next_message(&mut asked).await, question);
            out.send_data(answer.clone(), false).unwrap();
            assert_eq!(next_message(&mut replies).await, answer);
        }
        // The server ends the call while the client's half is open.
        out.send_trailers(status("5")).unwrap();
        assert_eq!(replies.trailers().await.unwrap().unwrap(), status("5"));
        gateway.wait_for_metric("response_total", &["grpc_status_code=\"5\""], 1.0);
    });
}

#[test]
fn an_answer_of_trailers_alone_stays_one() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) = begin(&client, call("/a.B/C").body(()).unwrap());
        body.send_data(message("x"), true).unwrap();
        let mut endpoint = upstream.accept_h2().await;
        let (_, mut respond) = endpoint.request().await;
        trailers_only(&mut respond, "12");
        let response = response.await.unwrap();
        assert_eq!((response.status().as_u16(), text(response.headers(), "grpc-status")), (200, "12"));
        assert!(response.body().is_end_stream() && !response.headers().contains_key("meshless-error"));
        gateway.wait_for_metric("response_total", &["grpc_status_code=\"12\"", "status_code=\"200\""], 1.0);
    });
}

#[test]
fn failures_of_our_own_are_statuses_of_grpc() {
    run(async {
        let nobody = crate::plain::dead_address();
        let slow = Upstream::start().await;
        let gateway = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
             [services.slow]\nfrom = \"static/{}\"\nlimits = {{ requests = 1 }}\n\
             [[routes]]\nmatch = {{ path = \"/dead/*\" }}\nto = \"static/{nobody}\"\n\
             [[routes]]\nmatch = {{ path = \"/slow/*\" }}\nto = \"slow\"\n",
            slow.address
        ))
        .start();
        let client = h2_client(gateway.address("edge")).await;
        let failed = async |call: http::request::Builder| {
            let (response, _body) = client.clone().send_request(call.body(()).unwrap(), true).unwrap();
            let response = response.await.unwrap();
            assert_eq!(
                (response.status().as_u16(), text(response.headers(), "content-type")),
                (200, "application/grpc")
            );
            assert!(response.body().is_end_stream(), "it has to be trailers alone");
            assert!(!text(response.headers(), "grpc-message").is_empty());
            let of = |name| text(response.headers(), name).to_owned();
            (of("grpc-status"), of("meshless-error"))
        };
        let is = |status: &str, label: &str| (status.to_owned(), label.to_owned());
        assert_eq!(failed(call("/nowhere/X")).await, is("12", "no_route"));
        assert_eq!(failed(call("/dead/X")).await, is("14", "connect_failed"));
        let via = call("/slow/X").header("via", vec!["1.1 x"; 17].join(", "));
        assert_eq!(failed(via).await, is("12", "loop"));
        assert_eq!(failed(call("/slow/%00")).await, is("13", "path_malformed"));
        let (_one, _body) = begin(&client, call("/slow/X").body(()).unwrap());
        let mut endpoint = slow.accept_h2().await;
        let _kept = endpoint.request().await;
        assert_eq!(failed(call("/slow/X")).await, is("14", "limit_requests"));
        gateway.wait_for_metric("response_total", &["error=\"no_route\"", "grpc_status_code=\"12\""], 1.0);
        gateway.wait_for_metric("response_total", &["error=\"limit_requests\"", "grpc_status_code=\"14\""], 1.0);
    });
}

#[test]
fn unavailable_in_trailers_alone_is_tried_at_the_other_endpoint_if_all_methods_may_be() {
    run(async {
        let endpoints = [Upstream::start().await, Upstream::start().await];
        let gateway = gateway::before(&[endpoints[0].address, endpoints[1].address])
            .policies("retry = { methods = \"all\" }")
            .start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) = begin(&client, call("/a.B/C").body(()).unwrap());
        body.send_data(message("x"), true).unwrap();
        let (first, mut peer) = tokio::select! {
            peer = endpoints[0].accept_h2() => (0, peer),
            peer = endpoints[1].accept_h2() => (1, peer),
        };
        let (asked, mut respond) = peer.request().await;
        read(&mut asked.into_body()).await.unwrap();
        trailers_only(&mut respond, "14");
        let mut other = endpoints[1 - first].accept_h2().await;
        let (asked, mut respond) = other.request().await;
        assert_eq!(read(&mut asked.into_body()).await.unwrap().0, message("x"));
        trailers_only(&mut respond, "0");
        assert_eq!(text(response.await.unwrap().headers(), "grpc-status"), "0");
    });
}

#[test]
fn a_deadline_is_passed_on_shrunk_and_enforced() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let begun = Instant::now();
        let (response, _body) = begin(&client, call("/a.B/C").header("grpc-timeout", "300m").body(()).unwrap());
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        let passed = text(asked.headers(), "grpc-timeout").to_owned();
        let millis: u64 = passed.strip_suffix('m').unwrap().parse().unwrap();
        assert!(millis <= 300 && millis > 0, "{passed}");
        let response = response.await.unwrap();
        assert_eq!(text(response.headers(), "grpc-status"), "4");
        assert_eq!(text(response.headers(), "meshless-error"), "deadline");
        assert!(begun.elapsed() >= Duration::from_millis(300));
        assert_eq!(std::future::poll_fn(|context| respond.poll_reset(context)).await.unwrap(), Reason::CANCEL);
    });
}

#[test]
fn a_deadline_ends_a_stream_that_has_begun() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _body) = begin(&client, call("/a.B/C").header("grpc-timeout", "300m").body(()).unwrap());
        let mut endpoint = upstream.accept_h2().await;
        let (_asked, mut respond) = endpoint.request().await;
        let mut out = respond.send_response(head(), false).unwrap();
        out.send_data(message("x"), false).unwrap();
        let mut body = response.await.unwrap().into_body();
        next_message(&mut body).await;
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(text(&trailers, "grpc-status"), "4");
        assert_eq!(std::future::poll_fn(|context| out.poll_reset(context)).await.unwrap(), Reason::CANCEL);
        gateway.wait_for_metric("response_total", &["error=\"deadline\"", "grpc_status_code=\"4\""], 1.0);
    });
}

#[test]
fn a_call_whose_time_is_over_is_not_sent() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _body) = begin(&client, call("/a.B/C").header("grpc-timeout", "0m").body(()).unwrap());
        assert_eq!(text(response.await.unwrap().headers(), "grpc-status"), "4");
        upstream.is_left_alone().await;
    });
}

#[test]
fn an_endpoint_that_goes_in_the_middle_is_unavailable_in_the_trailers() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _body) = begin(&client, call("/a.B/C").body(()).unwrap());
        let mut endpoint = upstream.accept().await;
        endpoint.take_preface(&[]).await;
        let stream = endpoint.frame_of(crate::wire::HEADERS).await.stream;
        let fields = crate::wire::block(&[("content-type", "application/grpc")]);
        endpoint.frame(crate::wire::HEADERS, crate::wire::END_HEADERS, stream, &[&[0x88], &fields[..]].concat()).await;
        endpoint.frame(crate::wire::DATA, 0, stream, &message("x")).await;
        let mut body = response.await.unwrap().into_body();
        next_message(&mut body).await;
        drop(endpoint);
        assert!(body.data().await.is_none());
        let trailers = body.trailers().await.unwrap().unwrap();
        assert_eq!(text(&trailers, "grpc-status"), "14");
        gateway.wait_for_metric("response_total", &["error=\"body_broken\"", "grpc_status_code=\"14\""], 1.0);
    });
}

#[test]
fn a_client_that_cancels_is_heard_at_the_endpoint() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) = begin(&client, call("/a.B/C").body(()).unwrap());
        let mut endpoint = upstream.accept_h2().await;
        let (asked, mut respond) = endpoint.request().await;
        let mut out = respond.send_response(head(), false).unwrap();
        drop(response.await.unwrap());
        body.send_reset(Reason::CANCEL);
        assert_eq!(std::future::poll_fn(|context| out.poll_reset(context)).await.unwrap(), Reason::CANCEL);
        assert!(read(&mut asked.into_body()).await.is_err());
        gateway.wait_for_metric("response_total", &["error=\"client_gone\""], 1.0);
    });
}

#[test]
fn an_endpoint_that_speaks_no_http2_is_unavailable() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, _body) = begin(&client, call("/a.B/C").body(()).unwrap());
        let serving = async {
            // More than once, because a session that never was is provably no answer.
            loop {
                let mut endpoint = upstream.accept().await;
                endpoint.send("HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").await;
                endpoint.rest().await;
            }
        };
        let response = tokio::select! { response = response => response.unwrap(), () = serving => unreachable!() };
        assert_eq!(text(response.headers(), "grpc-status"), "14");
    });
}

#[test]
fn unavailable_in_trailers_that_follow_at_once_is_tried_again_at_another_endpoint_although_grpc_is_post() {
    run(async {
        let endpoints = [Upstream::start().await, Upstream::start().await];
        let gateway = gateway::before(&[endpoints[0].address, endpoints[1].address]).start();
        let client = h2_client(gateway.address("edge")).await;
        let (response, mut body) = begin(&client, call("/a.B/C").body(()).unwrap());
        body.send_data(message("ask"), true).unwrap();
        let mut seen = Vec::new();
        for code in ["14", "0"] {
            let (which, mut endpoint) = tokio::select! {
                endpoint = endpoints[0].accept_h2() => (0, endpoint),
                endpoint = endpoints[1].accept_h2() => (1, endpoint),
            };
            let (asked, mut respond) = endpoint.request().await;
            assert_eq!(read(&mut asked.into_body()).await.unwrap().0, message("ask"));
            seen.push(which);
            let mut out = respond.send_response(head(), false).unwrap();
            out.send_trailers(status(code)).unwrap();
            // The connection has to live until its frames are out.
            tokio::spawn(async move { endpoint.request().await });
        }
        let (_, trailers) = read(&mut response.await.unwrap().into_body()).await.unwrap();
        assert_eq!(trailers, Some(status("0")));
        assert_ne!(seen[0], seen[1]);
        assert_eq!(gateway.count("meshless_retry_total", &["reason=\"status\""]), 1);
    });
}
