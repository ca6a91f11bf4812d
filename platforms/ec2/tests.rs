//! A metadata service that takes tokens alone, and one that fails.

use meshless_fakes::ec2::Instance;
use meshless_fakes::http::Mode;

use super::*;
use crate::surroundings::Scripted;

fn scripted(variables: &[(&str, &str)]) -> Scripted {
    Scripted(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect())
}

fn at(instance: &Instance) -> Scripted {
    scripted(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", &instance.server.url())])
}

#[tokio::test]
async fn an_instance_is_asked_with_a_token() {
    let instance = Instance::start();
    let place = ask("test".to_owned(), &at(&instance)).await;
    assert_eq!(place.unanswered, None);
    for (name, value) in [
        ("node.zone", "eu-west-1a"),
        ("node.region", "eu-west-1"),
        ("node.address", "10.0.3.7"),
        ("ec2.instance", "i-0123456789abcdef0"),
        ("ec2.local_ip", "10.0.3.7"),
        ("ec2.region", "eu-west-1"),
        ("ec2.account", "111122223333"),
        ("ec2.type", "m7g.large"),
    ] {
        assert_eq!(place.value(name), Some(value), "{name}");
    }
    let document = "GET /latest/dynamic/instance-identity/document";
    assert_eq!(instance.server.requests(), ["PUT /latest/api/token", document]);
}

#[tokio::test]
async fn version_one_is_never_asked() {
    let instance = Instance::start();
    instance.refuse_tokens(403);
    let place = ask("test".to_owned(), &at(&instance)).await;
    assert!(place.unanswered.unwrap().ends_with("/latest/api/token answered 403 Forbidden"));
    assert_eq!(instance.server.requests(), ["PUT /latest/api/token"]);
}

#[tokio::test]
async fn a_service_that_hangs_is_waited_for_one_second() {
    let instance = Instance::start();
    for mode in [Mode::Frozen, Mode::Slow(700)] {
        instance.server.set(mode);
        let began = tokio::time::Instant::now();
        let place = ask("test".to_owned(), &at(&instance)).await;
        // Two answers of 0.7 s are more than the second that all of it may take.
        assert!(place.unanswered.as_deref().unwrap().contains("hop limit"), "{mode:?}: {:?}", place.unanswered);
        assert_eq!(place.missing["node.zone"], place.unanswered.unwrap(), "{mode:?}");
        assert!(began.elapsed() < 3 * LIMIT, "{mode:?}: {:?}", began.elapsed());
    }
    instance.server.set(Mode::Garbage);
    assert!(ask("test".to_owned(), &at(&instance)).await.unanswered.is_some());
}

#[tokio::test]
async fn who_switches_it_off_is_not_asked() {
    let instance = Instance::start();
    let mut off = at(&instance);
    off.0.insert("AWS_EC2_METADATA_DISABLED".to_owned(), "TRUE".to_owned());
    let place = ask("test".to_owned(), &off).await;
    assert_eq!(place.unanswered.as_deref(), Some("instance metadata: AWS_EC2_METADATA_DISABLED=true: it is not asked"));
    assert!(instance.server.requests().is_empty());
}

#[test]
fn the_service_is_where_the_variables_of_aws_say() {
    let url = |variables: &[(&str, &str)]| service(&scripted(variables)).unwrap().url("");
    assert_eq!(url(&[]), IPV4);
    assert_eq!(url(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "IPv6")]), IPV6);
    assert_eq!(url(&[("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://127.0.0.1:1/")]), "http://127.0.0.1:1");
}

#[test]
fn a_machine_of_ec2_is_known_without_a_question() {
    let of = |path: &str, text: &str| hint(&scripted(&[(path, text)]));
    assert!(of("/sys/class/dmi/id/sys_vendor", "Amazon EC2\n").is_some());
    assert!(of("/sys/hypervisor/uuid", "ec2f0000-0000-0000-0000-000000000000\n").is_some());
    assert!(of("/sys/class/dmi/id/sys_vendor", "QEMU\n").is_none());
    assert!(of("/sys/hypervisor/uuid", "0ec2f000-0000\n").is_none());
}

#[tokio::test]
async fn notices_are_told_when_they_come() {
    let instance = Instance::start();
    let mut notices = Notices::open(&at(&instance)).unwrap();
    assert!(notices.are_given().await.unwrap());
    assert_eq!(notices.look().await.unwrap(), []);
    instance.recommend_rebalance("2026-11-23T08:00:00Z");
    let rebalance =
        Notice { kind: NoticeKind::Rebalance, action: "rebalance".into(), time: "2026-11-23T08:00:00Z".into() };
    assert_eq!(notices.look().await.unwrap(), std::slice::from_ref(&rebalance));
    instance.interrupt("terminate", "2026-11-23T08:02:00Z");
    let end =
        Notice { kind: NoticeKind::Interruption, action: "terminate".into(), time: "2026-11-23T08:02:00Z".into() };
    assert_eq!(notices.look().await.unwrap(), [end, rebalance]);
}

#[tokio::test]
async fn an_instance_on_demand_is_given_none() {
    let instance = Instance::start();
    instance.on_demand();
    assert!(!Notices::open(&at(&instance)).unwrap().are_given().await.unwrap());
}

#[tokio::test]
async fn a_token_that_expired_is_replaced() {
    let instance = Instance::start();
    let mut notices = Notices::open(&at(&instance)).unwrap();
    notices.look().await.unwrap();
    instance.expire_tokens();
    notices.look().await.unwrap();
    let tokens = instance.server.requests().iter().filter(|request| request.starts_with("PUT")).count();
    assert_eq!(tokens, 2);
}
