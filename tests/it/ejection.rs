//! Endpoints that fail are left out, and come back.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use crate::gateway;
use crate::plain;
use crate::upstream::Upstream;
use crate::wire::{Wire, run};

const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok";
const BAD: &str = "HTTP/1.1 500 Bad\r\ncontent-length: 3\r\n\r\nbad";

/// Answers every request at an endpoint with what `reply` says at that time; returns how many there were.
fn answer(upstream: Upstream, reply: tokio::sync::watch::Receiver<&'static str>) -> Arc<AtomicUsize> {
    let served = Arc::new(AtomicUsize::new(0));
    let count = served.clone();
    tokio::spawn(async move {
        loop {
            let mut endpoint = upstream.accept().await;
            let (reply, count) = (reply.clone(), count.clone());
            tokio::spawn(async move {
                while let Some(head) = endpoint.head_unless_closed().await {
                    endpoint.content(&head).await;
                    let now = *reply.borrow();
                    endpoint.send(now).await;
                    count.fetch_add(1, Ordering::Relaxed);
                }
            });
        }
    });
    served
}

#[test]
fn an_endpoint_that_fails_is_left_out_and_is_back_after_a_good_probe() {
    run(async {
        let (good, bad) = (Upstream::start().await, Upstream::start().await);
        let gateway =
            gateway::before(&[good.address, bad.address]).policies("breaker = { eject = \"200ms..1s\" }").start();
        let (_keep, always) = tokio::sync::watch::channel(OK);
        let (turn, sometimes) = tokio::sync::watch::channel(BAD);
        answer(good, always);
        let served = answer(bad, sometimes);
        let mut client = Wire::connect(gateway.address("edge")).await;
        let mut statuses = Vec::new();
        for _ in 0..30 {
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            statuses.push(client.message().await.0.status());
        }
        let failed = statuses.iter().filter(|status| **status == 500).count();
        assert!((5..=7).contains(&failed), "five in a row, and a probe or two: {statuses:?}");
        turn.send(OK).unwrap();
        // Its share is half again once it is back.
        let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
        let mut before = served.load(Ordering::Relaxed);
        loop {
            assert!(tokio::time::Instant::now() < deadline, "it does not come back");
            for _ in 0..10 {
                client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
                client.message().await;
            }
            let now = served.load(Ordering::Relaxed);
            if now - before >= 5 {
                break;
            }
            before = now;
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    });
}

#[test]
fn a_tier_that_is_gone_hands_its_traffic_to_the_next_one_without_an_error() {
    run(async {
        let backup = Upstream::start().await;
        let gateway = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n[services.app]\nfrom = \"static/{},{} | static/{}\"\n\
             breaker = {{ max_ejected = \"100%\" }}\n[[routes]]\nto = \"app\"\n",
            plain::dead_address(),
            plain::dead_address(),
            backup.address
        ))
        .start();
        let (_keep, always) = tokio::sync::watch::channel(OK);
        answer(backup, always);
        let mut client = Wire::connect(gateway.address("edge")).await;
        for _ in 0..50 {
            client.send("POST / HTTP/1.1\r\nhost: app\r\ncontent-length: 1\r\n\r\nx").await;
            assert_eq!(client.message().await.0.status(), 200);
        }
        assert!(gateway.metric("meshless_requeue_total", &[]) <= 30.0, "ejected, they are not asked again and again");
    });
}

#[test]
fn the_application_of_a_sidecar_is_never_ejected() {
    run(async {
        let application = Upstream::start().await;
        let gateway = gateway::with(&format!(
            "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\nto = \"static/{}\"\n",
            application.address
        ))
        .start();
        let (turn, reply) = tokio::sync::watch::channel(BAD);
        answer(application, reply);
        let mut client = Wire::connect(gateway.address("edge")).await;
        for _ in 0..20 {
            client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
            assert_eq!(client.message().await.0.status(), 500);
        }
        turn.send(OK).unwrap();
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        client.message().await;
        client.send("GET / HTTP/1.1\r\nhost: app\r\n\r\n").await;
        assert_eq!(client.message().await.0.status(), 200);
    });
}
