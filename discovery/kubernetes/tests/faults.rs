//! What goes wrong at an API server, each thing by itself.

use meshless_fakes::kubernetes::Gone;

use super::*;
use crate::Verdict;

async fn told(source: &mut Box<dyn Source>, wanted: &[&str]) {
    let mut before = Vec::new();
    for _ in 0..200 {
        match answer(source).await {
            Ok(found) if found == wanted => return,
            other => before.push(format!("{other:?}")),
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("{wanted:?} never came, but {before:?}");
}

fn web(place: &Place) -> Box<dyn Source> {
    place.backend().source(&target("shop/web:80")).unwrap()
}

async fn quiet(source: &mut Box<dyn Source>) {
    let more = timeout(Duration::from_millis(400), source.next()).await;
    assert!(more.is_err(), "{more:?}");
}

/// How often a request of this kind came.
fn asked(place: &Place, part: &str) -> usize {
    place.fake.server().requests().iter().filter(|request| request.contains(part)).count()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_410_lists_anew_without_a_blink_of_emptiness() {
    for gone in [Gone::Event, Gone::Status] {
        let place = Place::new();
        place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
        let mut source = web(&place);
        told(&mut source, &["10.0.0.1:80"]).await;
        place.fake.compact(gone);
        place.fake.drop_watches();
        // Nothing changed, so nothing is told: neither emptiness nor the same again.
        quiet(&mut source).await;
        place.fake.compact(gone);
        place.fake.put("endpointslices", slice("web-1", 80, &addresses(2)));
        place.fake.drop_watches();
        assert_eq!(answer(&mut source).await.unwrap(), ["10.0.0.1:80", "10.0.0.2:80"], "{gone:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_ends_goes_on_where_it_was_without_a_list() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let mut source = web(&place);
    told(&mut source, &["10.0.0.1:80"]).await;
    quiet(&mut source).await;
    assert_eq!(asked(&place, "limit="), 1);
    place.fake.bookmark();
    quiet(&mut source).await;
    place.fake.drop_watches();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(2)));
    assert_eq!(answer(&mut source).await.unwrap().len(), 2);
    assert_eq!(asked(&place, "limit="), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bookmark_moves_the_place_that_a_watch_goes_on_from() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let mut source = web(&place);
    told(&mut source, &["10.0.0.1:80"]).await;
    quiet(&mut source).await;
    // Others are busy: without bookmarks our place would be forgotten.
    place.fake.compact(Gone::Event);
    place.fake.bookmark();
    quiet(&mut source).await;
    let before = place.fake.server().requests().len();
    place.fake.drop_watches();
    quiet(&mut source).await;
    let later = place.fake.server().requests().split_off(before);
    assert!(later.iter().any(|request| request.contains("watch=true")), "{later:?}");
    assert!(!later.iter().any(|request| request.contains("limit=")), "{later:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_was_restored_behind_the_same_address_is_listed_anew_after_a_silent_watch() {
    // A real server takes a version that it has not come to yet, and keeps still until it has.
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let second = Duration::from_secs(1);
    let timing = Timing { watch: (second, second), silence: second / 2, ..QUICK };
    let mut source = place.backend_with(timing).source(&target("shop/web:80")).unwrap();
    told(&mut source, &["10.0.0.1:80"]).await;
    // Ends the watch as a server does that goes in order; the next one is taken at once, by another one.
    place.fake.restart();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(2)));
    told(&mut source, &["10.0.0.1:80", "10.0.0.2:80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_quiet_watch_that_ends_with_a_bookmark_is_renewed_without_a_list() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let second = Duration::from_secs(1);
    let timing = Timing { watch: (second, second), silence: second / 2, ..QUICK };
    let mut source = place.backend_with(timing).source(&target("shop/web:80")).unwrap();
    told(&mut source, &["10.0.0.1:80"]).await;
    let renewed = async {
        while asked(&place, "watch=true") < 3 {
            let _ = timeout(Duration::from_millis(50), source.next()).await;
        }
    };
    timeout(PATIENCE, renewed).await.expect("the watch is not renewed");
    assert_eq!(asked(&place, "limit="), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_slice_is_written_as_null() {
    // As a real server writes it: Go has no empty list in JSON.
    let place = Place::new();
    let mut empty = slice("web-2", 80, &[]);
    (empty["endpoints"], empty["ports"]) = (Value::Null, Value::Null);
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    place.fake.put("endpointslices", empty);
    let mut source = web(&place);
    told(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_fails_on_a_later_page_is_no_list() {
    let place = Place::new();
    place.fake.set_page(1);
    for (number, address) in addresses(3).into_iter().enumerate() {
        place.fake.put("endpointslices", slice(&format!("web-{number}"), 80, &[address]));
    }
    place.fake.fail_later_pages(true);
    let mut source = web(&place);
    assert!(matches!(answer(&mut source).await, Err(Error::Unreachable(_))));
    place.fake.fail_later_pages(false);
    assert_eq!(answer(&mut source).await.unwrap().len(), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_watch_that_hangs_is_noticed() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let timing = Timing { watch: (Duration::from_secs(1), Duration::from_secs(1)), ..QUICK };
    let mut source = place.backend_with(timing).source(&target("shop/web:80")).unwrap();
    told(&mut source, &["10.0.0.1:80"]).await;
    place.fake.never_end_watches();
    let error = loop {
        match answer(&mut source).await {
            Ok(same) => assert_eq!(same, ["10.0.0.1:80"]),
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, Error::Unreachable(text) if text.contains("hangs")), "{error}");
    told(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_ends_each_watch_at_once_is_not_asked_in_a_tight_loop() {
    let place = Place::new();
    let mut source = web(&place);
    told(&mut source, &[]).await;
    place.fake.end_watches_at_once(true);
    place.fake.drop_watches();
    let error = answer(&mut source).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(text) if text.contains("ends as soon")), "{error}");
    assert!(asked(&place, "watch=true") < 5);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_permission_that_is_missing_is_named() {
    for (verb, resource, group) in [
        ("list", "endpointslices", "discovery.k8s.io"),
        ("watch", "endpointslices", "discovery.k8s.io"),
        ("get", "services", ""),
    ] {
        let place = Place::new();
        place.fake.deny(verb, resource);
        let mut source = web(&place);
        let error = loop {
            match answer(&mut source).await {
                Ok(_) => {}
                Err(error) => break error,
            }
        };
        let wanted =
            format!("give the account a Role with verb `{verb}` on resource `{resource}` of apiGroup \"{group}\"");
        assert!(matches!(&error, Error::Denied(text) if text.contains(&wanted)), "{error}");
        place.fake.permit();
        told(&mut source, &[]).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_was_revoked_is_an_error_and_the_next_one_is_read_from_its_file() {
    let place = Place::new();
    place.fake.set_token(Some("one"));
    place.write_kubeconfig(Some("one"));
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let mut source = web(&place);
    told(&mut source, &["10.0.0.1:80"]).await;
    place.fake.set_token(Some("two"));
    place.fake.drop_watches();
    let error = answer(&mut source).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(text) if text.contains("401")), "{error}");
    place.write_kubeconfig(Some("two"));
    told(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_server_that_asks_for_fewer_requests_says_how_long() {
    let place = Place::new();
    place.fake.fail("list", "endpointslices", Some(429));
    place.fake.set_retry_after(Some(7));
    let error = answer(&mut web(&place)).await.unwrap_err();
    assert_eq!(error, Error::Throttled { retry_after: Some(Duration::from_secs(7)) });
}

#[tokio::test(flavor = "multi_thread")]
async fn an_error_within_a_watch_is_an_error() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let mut source = web(&place);
    told(&mut source, &["10.0.0.1:80"]).await;
    let watching = tokio::spawn(async move { (answer(&mut source).await, source) });
    while place.fake.watches() == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    place.fake.error_event(500);
    let (error, mut source) = watching.await.unwrap();
    assert!(matches!(error, Err(Error::Unreachable(_))), "{error:?}");
    told(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_service_that_is_not_there_has_nobody_until_it_comes() {
    let place = Place::new();
    place.fake.clear("services");
    let mut source = web(&place);
    told(&mut source, &[]).await;
    place.fake.put("services", service(&json!([{ "name": "http", "port": 80 }])));
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    told(&mut source, &["10.0.0.1:80"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_port_that_the_service_does_not_have_is_an_error_that_lists_those_it_has() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let mut source = place.backend().source(&target("shop/web:81")).unwrap();
    let error = answer(&mut source).await.unwrap_err();
    assert_eq!(error.to_string(), "malformed: service shop/web:81: it has no such port, it has: http (80)");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stale_copy_of_a_slice_is_not_what_stays_after_a_race() {
    // What Linkerd 1 got wrong: endpoints that change while the watch begins anew stayed as they were.
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 80, &addresses(1)));
    let mut source = web(&place);
    told(&mut source, &["10.0.0.1:80"]).await;
    for count in 2..20 {
        place.fake.put("endpointslices", slice("web-1", 80, &addresses(count)));
        place.fake.drop_watches();
        place.fake.put("endpointslices", slice("web-1", 80, &addresses(count + 1)));
        let last: Vec<String> = addresses(count + 1).iter().map(|address| format!("{address}:80")).collect();
        let mut last: Vec<&str> = last.iter().map(String::as_str).collect();
        last.sort_by_key(|text| text.parse::<SocketAddr>().unwrap());
        told(&mut source, &last).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn node_ports_are_those_of_the_nodes_and_of_those_with_pods_where_the_service_is_local() {
    let place = Place::new();
    let node = |name: &str, address: &str| {
        json!({
            "metadata": { "name": name },
            "status": {
                "conditions": [{ "type": "Ready", "status": "True" }],
                "addresses": [{ "type": "InternalIP", "address": address }],
            },
        })
    };
    place.fake.put("nodes", node("n1", "10.1.0.1"));
    place.fake.put("nodes", node("n2", "10.1.0.2"));
    let service = |policy: &str| {
        json!({
            "metadata": { "namespace": "shop", "name": "web" },
            "spec": {
                "type": "NodePort", "externalTrafficPolicy": policy,
                "ports": [{ "name": "http", "port": 80, "nodePort": 30080 }],
            },
        })
    };
    place.fake.put("services", service("Cluster"));
    let mut pods = slice("web-1", 80, &addresses(1));
    pods["endpoints"][0]["nodeName"] = json!("n2");
    place.fake.put("endpointslices", pods);
    let client = Client::new(&place.config()).with_timing(QUICK);
    let backend = Kubernetes::over(client, &place.config_of(KubernetesAddresses::NodePort));
    let mut source = backend.source(&target("shop/web:http")).unwrap();
    told(&mut source, &["10.1.0.1:30080", "10.1.0.2:30080"]).await;
    place.fake.put("services", service("Local"));
    told(&mut source, &["10.1.0.2:30080"]).await;
    place.fake.put("services", service("Cluster"));
    place.fake.remove("nodes", "", "n1");
    told(&mut source, &["10.1.0.2:30080"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_load_balancer_is_followed_to_its_addresses() {
    let place = Place::new();
    let service = |ingress: Value| {
        json!({
            "metadata": { "namespace": "shop", "name": "web" },
            "spec": { "type": "LoadBalancer", "ports": [{ "port": 443 }] },
            "status": { "loadBalancer": { "ingress": ingress } },
        })
    };
    place.fake.put("services", service(json!([])));
    let client = Client::new(&place.config()).with_timing(QUICK);
    let mut source = Kubernetes::over(client, &place.config_of(KubernetesAddresses::LoadBalancer))
        .source(&target("shop/web"))
        .unwrap();
    told(&mut source, &[]).await;
    place.fake.put("services", service(json!([{ "ip": "192.0.2.7" }])));
    told(&mut source, &["192.0.2.7:443"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_names_what_is_wrong() {
    let place = Place::new();
    let targets = [target("shop/web:80"), target("shop/api:80")];
    place.fake.deny("watch", "endpointslices");
    place.fake.set_date("Sun, 06 Nov 1994 08:49:37 GMT");
    let found = place.backend().examine(&targets).await;
    let of = |what: &str| found.iter().find(|finding| finding.what == what).unwrap_or_else(|| panic!("{found:#?}"));
    assert!(of("reachable").seen.contains("v1.33.0-fake"));
    assert_eq!(of("authenticated").verdict, Verdict::Good);
    assert_eq!(of("clock").verdict, Verdict::Warning);
    assert_eq!(of("list endpointslices").verdict, Verdict::Good);
    assert_eq!(of("watch endpointslices").verdict, Verdict::Bad);
    assert_eq!(of("get services").verdict, Verdict::Good);
    assert_eq!(of("service shop/api:80").verdict, Verdict::Warning);
    assert_eq!(found.iter().filter(|finding| finding.what.starts_with("service ")).count(), 1);
    place.fake.server().set(Mode::Down);
    let found = place.backend().examine(&targets).await;
    assert_eq!(found.iter().map(|finding| finding.verdict).collect::<Vec<_>>(), [Verdict::Bad], "{found:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn calls_are_counted_by_their_verb() {
    let place = Place::new();
    let backend = place.backend();
    let mut source = backend.source(&target("shop/web:80")).unwrap();
    told(&mut source, &[]).await;
    quiet(&mut source).await;
    let totals = backend.calls().totals();
    assert_eq!((totals["list"], totals["get"], totals["watch"]), (1, 1, 1), "{totals:?}");
}
