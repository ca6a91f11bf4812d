//! A second request when the first one is slow.

use crate::gateway;
use crate::upstream::Upstream;
use crate::wire::{Wire, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";

/// Returns a gateway before two endpoints, with a client.
async fn two(policies: &str) -> (gateway::Running, [Upstream; 2], Wire) {
    let endpoints = [Upstream::start().await, Upstream::start().await];
    let gateway = gateway::before(&[endpoints[0].address, endpoints[1].address]).policies(policies).start();
    let client = Wire::connect(gateway.address("edge")).await;
    (gateway, endpoints, client)
}

async fn either(endpoints: &[Upstream; 2]) -> (usize, Wire, crate::wire::Head) {
    let (which, (wire, head)) = tokio::select! {
        taken = endpoints[0].request() => (0, taken),
        taken = endpoints[1].request() => (1, taken),
    };
    (which, wire, head)
}

#[test]
fn the_second_endpoint_answers_for_a_slow_first_one_which_hears_that_it_is_not_needed() {
    run(async {
        let (gateway, endpoints, mut client) = two("hedge = { after = \"20ms\" }").await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (first, mut slow, _) = either(&endpoints).await;
        let (second, mut quick, _) = either(&endpoints).await;
        assert_ne!(first, second);
        quick.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
        slow.ended().await;
        assert_eq!(gateway.count("meshless_retry_total", &["reason=\"hedge\""]), 1);
    });
}

#[test]
fn the_first_reply_wins_when_it_comes_before_the_second_one() {
    run(async {
        let (_gateway, endpoints, mut client) = two("hedge = { after = \"20ms\" }").await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        let (_, mut first, _) = either(&endpoints).await;
        let (_, mut second, _) = either(&endpoints).await;
        first.send(OK).await;
        assert_eq!(client.message().await.0.status(), 200);
        second.ended().await;
    });
}

#[test]
fn what_has_a_body_or_may_not_be_repeated_is_never_sent_twice_and_an_empty_budget_pays_for_nothing() {
    run(async {
        for (request, policies) in [
            ("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 0\r\n\r\n", ""),
            ("PUT / HTTP/1.1\r\nhost: app\r\ncontent-length: 1\r\n\r\nx", ""),
            ("GET / HTTP/1.1\r\nhost: app\r\n\r\n", "retry = { budget = \"0%\", min_per_second = 0 }"),
        ] {
            let (gateway, endpoints, mut client) = two(&format!("hedge = {{ after = \"1ms\" }}\n{policies}")).await;
            client.send(request).await;
            let (which, mut endpoint, head) = either(&endpoints).await;
            endpoint.content(&head).await;
            let other = tokio::time::timeout(std::time::Duration::from_millis(100), endpoints[1 - which].request());
            assert!(other.await.is_err(), "{request}");
            endpoint.send(OK).await;
            assert_eq!(client.message().await.0.status(), 200);
            assert_eq!(gateway.count("meshless_retry_total", &[]), 0);
        }
    });
}
