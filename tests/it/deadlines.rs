//! Deadlines that clients set, in each of their forms.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{Wire, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

fn wall() -> u128 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_nanos()
}

#[test]
fn a_deadline_that_has_passed_is_504_and_the_request_is_not_sent() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        client.send("GET /late HTTP/1.1\r\nhost: app\r\nl5d-ctx-deadline: 1 2\r\n\r\n").await;
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (504, "deadline"));
        client.send("GET /next HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (mut endpoint, head) = upstream.request().await;
        assert!(head.start.starts_with("GET /next "), "the late one was never sent: {}", head.start);
        endpoint.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
    });
}

#[test]
fn each_form_is_enforced_and_passed_on_shrunk() {
    run(async {
        let upstream = Upstream::start().await;
        let gateway = gateway::before(&[upstream.address]).start();
        let mut client = Wire::connect(gateway.address("edge")).await;
        let (written, end) = (wall(), wall() + 400_000_000);
        client
            .send(format!(
                "GET / HTTP/1.1\r\nhost: app\r\nx-envoy-expected-rq-timeout-ms: 60000\r\n\
                 l5d-ctx-deadline: {written} {end}\r\n\r\n"
            ))
            .await;
        let began = Instant::now();
        let (_endpoint, head) = upstream.request().await;
        let envoy: u64 = head.get("x-envoy-expected-rq-timeout-ms").parse().unwrap();
        assert!(envoy <= 400, "the strictest binds in every form, got {envoy}");
        let (first, second) = head.get("l5d-ctx-deadline").split_once(' ').unwrap();
        assert_eq!(first, written.to_string());
        assert!(second.parse::<u128>().unwrap() <= end + 1_000_000, "never laxer than what came in");
        let (reply, _) = client.message().await;
        assert_eq!((reply.status(), reply.get("meshless-error")), (504, "deadline"));
        assert!(began.elapsed() < Duration::from_secs(10), "not the 15 s of the service");
    });
}
