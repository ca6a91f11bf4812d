//! The backend against a strict fake; names are those of what broke other clients (`traefik#…` is its issue there).

use std::sync::Arc;
use std::time::Duration;

use meshless_fakes::aws::{Aws, KEY, REGION, Task, definition, definition_with};
use meshless_fakes::http::Mode;
use serde_json::json;

use super::Ecs;
use crate::conformance::{self, Played, Stage, Trouble};
use crate::{
    Address, AppProtocol, AwsConfig, AwsKeys, Backend, EcsConfig, Endpoint, Error, Health, Snapshot, Source, Target,
    Verdict, async_trait,
};

mod calls;

fn config(aws: &Aws) -> EcsConfig {
    EcsConfig {
        aws: AwsConfig {
            region: Some(REGION.to_owned()),
            endpoint: Some(aws.server.url()),
            keys: Some(AwsKeys { id: KEY.to_owned(), secret: "secret".to_owned(), session: Some("token".to_owned()) }),
            ..AwsConfig::default()
        },
        min_interval: Duration::from_millis(20),
        max_interval: Duration::from_millis(50),
    }
}

fn backend(aws: &Aws) -> Ecs {
    Ecs::new(&config(aws)).with_timeout(Duration::from_millis(700))
}

/// Reads `ecs/PATH[KEY=VALUE,…]`.
fn target(text: &str) -> Target {
    let (path, options) = text.trim_end_matches(']').split_once('[').unwrap_or((text, ""));
    let options = options.split(',').filter_map(|pair| pair.split_once('='));
    Target {
        backend: "ecs".to_owned(),
        path: path.to_owned(),
        options: options.map(|(key, value)| (key.to_owned(), value.to_owned())).collect(),
    }
}

fn source(backend: &Ecs, text: &str) -> Box<dyn Source> {
    backend.source(&target(text)).unwrap()
}

async fn next(source: &mut Box<dyn Source>) -> Result<Snapshot, Error> {
    tokio::time::timeout(Duration::from_secs(20), source.next()).await.expect("an answer within 20 s")
}

async fn first(aws: &Aws, text: &str) -> Result<Snapshot, Error> {
    next(&mut source(&backend(aws), text)).await
}

fn addresses(snapshot: &Snapshot) -> Vec<String> {
    snapshot.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect()
}

async fn addresses_of(aws: &Aws, text: &str) -> Vec<String> {
    addresses(&first(aws, text).await.unwrap())
}

/// Waits until the source tells this.
async fn until(source: &mut Box<dyn Source>, what: &str, is_so: impl Fn(&Snapshot) -> bool) -> Snapshot {
    let deadline = tokio::time::Instant::now() + Duration::from_secs(20);
    loop {
        if let Ok(snapshot) = tokio::time::timeout_at(deadline, source.next()).await.expect(what)
            && is_so(&snapshot)
        {
            return snapshot;
        }
    }
}

struct Place {
    aws: Aws,
}

#[async_trait]
impl Stage for Place {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(backend(&self.aws))
    }

    fn target(&self) -> Target {
        target("prod/web:80")
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        let tasks = endpoints.iter().map(|endpoint| {
            let Address::Tcp(address) = &endpoint.address else { panic!("{endpoint:?}") };
            let std::net::IpAddr::V4(ip) = address.ip() else { panic!("{endpoint:?}") };
            Task::new("web", usize::from(ip.octets()[3])).at(&ip.to_string()).json()
        });
        let tasks = tasks.collect();
        self.aws.world().tasks = tasks;
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        match trouble {
            Trouble::Garbage => self.aws.server.set(Mode::Garbage),
            Trouble::Huge => {
                let task = |number: usize| {
                    let ip = format!("10.{}.{}.{}", number >> 16, (number >> 8) & 255, number & 255);
                    Task::new("web", number + 1000).at(&ip).json()
                };
                self.aws.world().tasks = (0..=Snapshot::MAX_ENDPOINTS).map(task).collect();
            }
            Trouble::Partial => {
                let mut world = self.aws.world();
                world.page = 1;
                world.fail("ListTasks", 2);
            }
            Trouble::Restart | Trouble::Unreachable => self.aws.server.set(Mode::Down),
            Trouble::Slow => self.aws.server.set(Mode::Slow(40)),
        }
        Played::Done
    }

    async fn recover(&mut self) {
        let mut world = self.aws.world();
        world.failing = None;
        if world.tasks.len() > 100 {
            world.tasks =
                [1, 2].map(|number| Task::new("web", number).at(&format!("192.0.2.{number}")).json()).to_vec();
        }
        drop(world);
        self.aws.server.set(Mode::Serve);
    }
}

#[tokio::test]
async fn the_suite_for_all_backends_holds() {
    assert_eq!(conformance::run(|| Place { aws: Aws::start() }).await, []);
}

#[tokio::test]
async fn a_server_that_hangs_is_unreachable() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json()];
    let mut source = source(&backend(&aws), "prod/web:80");
    next(&mut source).await.unwrap();
    aws.world().hanging.insert("DescribeTasks".to_owned());
    let error = next(&mut source).await.unwrap_err();
    assert!(matches!(&error, Error::Unreachable(said) if said.contains("DescribeTasks")), "{error}");
    aws.world().hanging.clear();
    assert_eq!(addresses(&next(&mut source).await.unwrap()), ["10.0.0.1:80"]);
}

#[tokio::test]
async fn more_than_a_hundred_tasks_are_described_in_hundreds_traefik_1210() {
    let aws = Aws::start();
    aws.world().tasks =
        (0..250).map(|n| Task::new("web", n).at(&format!("10.0.{}.{}", n / 250, n % 250 + 1)).json()).collect();
    assert_eq!(first(&aws, "prod/web:80").await.unwrap().endpoints().len(), 250);
    let world = aws.world();
    assert_eq!((world.calls["ListTasks"], world.calls["DescribeTasks"]), (3, 3));
}

#[tokio::test]
async fn a_pending_task_that_is_to_run_gets_nothing_traefik_4249() {
    let aws = Aws::start();
    let states = [("PROVISIONING", 1), ("PENDING", 2), ("ACTIVATING", 3), ("RUNNING", 4)];
    let task = |(last, n): (&str, usize)| Task::new("web", n).at(&format!("10.0.0.{n}")).status(last, "RUNNING").json();
    aws.world().tasks = states.map(task).to_vec();
    assert_eq!(addresses_of(&aws, "prod/web:80").await, ["10.0.0.4:80"]);
}

#[tokio::test]
async fn a_task_that_is_to_stop_and_still_runs_drains_and_then_is_gone() {
    let aws = Aws::start();
    let task = |n: usize| Task::new("web", n).at(&format!("10.0.0.{n}"));
    aws.world().tasks = vec![task(1).json(), task(2).json()];
    let mut source = source(&backend(&aws), "prod/web:80");
    next(&mut source).await.unwrap();
    for last in ["RUNNING", "DEACTIVATING", "STOPPING"] {
        aws.world().tasks[0] = task(1).status(last, "STOPPED").json();
        let draining = |snapshot: &Snapshot| snapshot.endpoints()[0].health == Health::Draining;
        if last == "RUNNING" {
            until(&mut source, "it drains", draining).await;
        }
    }
    aws.world().tasks[0] = task(1).status("STOPPED", "STOPPED").json();
    until(&mut source, "it is gone", |snapshot| addresses(snapshot) == ["10.0.0.2:80"]).await;
    // What has stopped is not asked for any more, though ECS lists it for an hour.
    let calls = aws.world().calls["DescribeTasks"];
    aws.world().tasks.remove(0);
    let mut other = self::source(&backend(&aws), "prod/web:80");
    assert_eq!(next(&mut other).await.unwrap().endpoints().len(), 1);
    assert!(aws.world().calls["DescribeTasks"] > calls);
}

#[tokio::test]
async fn the_container_of_service_connect_has_no_interface_and_stops_nobody_traefik_9658() {
    let aws = Aws::start();
    let sidecar = json!({ "name": "ecs-service-connect-a1b2", "lastStatus": "RUNNING" });
    let lonely = Task::new("web", 2).container(sidecar.clone());
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").container(sidecar).json(), lonely.json()];
    aws.world().definitions.insert(definition("web", 1), definition_with("awsvpc", &[("http", 8080)]));
    assert_eq!(addresses_of(&aws, "prod/web:http").await, ["10.0.0.1:8080"]);
}

#[tokio::test]
async fn ids_of_ecs_anywhere_are_never_sent_to_ec2() {
    let aws = Aws::start();
    aws.change(|world| {
        world.tasks = vec![
            Task::new("web", 1).on("ci/1", &[(80, 32768)]).json(),
            Task::new("web", 2).on("ci/2", &[(80, 32769)]).json(),
        ];
        world.instances = [("ci/1", "i-0a"), ("ci/2", "mi-0b")].map(|(arn, id)| (arn.to_owned(), id.to_owned())).into();
        world.addresses =
            [("i-0a", "10.0.1.1"), ("mi-0b", "192.168.0.7")].map(|(id, ip)| (id.to_owned(), ip.to_owned())).into();
    });
    assert_eq!(addresses_of(&aws, "prod/web:80").await, ["10.0.1.1:32768", "192.168.0.7:32769"]);
    assert_eq!(aws.world().calls["DescribeInstanceInformation"], 1);
}

#[tokio::test]
async fn a_bridge_port_is_the_one_that_docker_chose() {
    let aws = Aws::start();
    aws.change(|world| {
        world.tasks = vec![
            Task::new("web", 1).on("ci/1", &[(80, 32768), (9000, 32801)]).json(),
            Task::new("one", 2).on("ci/1", &[(80, 32770)]).json(),
        ];
        world.instances.insert("ci/1".to_owned(), "i-0a".to_owned());
        world.addresses.insert("i-0a".to_owned(), "10.0.1.1".to_owned());
        world.definitions.insert(definition("web", 1), definition_with("bridge", &[("http", 80), ("metrics", 9000)]));
    });
    assert_eq!(addresses_of(&aws, "prod/web:80").await, ["10.0.1.1:32768"]);
    assert_eq!(addresses_of(&aws, "prod/web:metrics").await, ["10.0.1.1:32801"]);
    assert_eq!(addresses_of(&aws, "prod/one").await, ["10.0.1.1:32770"]);
    let error = first(&aws, "prod/web").await.unwrap_err().to_string();
    assert!(error.contains("2 ports on its instance"), "{error}");
}

#[tokio::test]
async fn a_host_port_is_the_one_of_the_container() {
    let aws = Aws::start();
    aws.change(|world| {
        world.tasks = vec![Task::new("web", 1).on("ci/1", &[]).json(), Task::new("none", 2).on("ci/1", &[]).json()];
        world.instances.insert("ci/1".to_owned(), "i-0a".to_owned());
        world.addresses.insert("i-0a".to_owned(), "fd00::1".to_owned());
        world.definitions.insert(definition("web", 1), definition_with("host", &[("http", 8080)]));
        world.definitions.insert(definition("none", 1), definition_with("bridge", &[]));
    });
    assert_eq!(addresses_of(&aws, "prod/web").await, ["[fd00::1]:8080"]);
    assert_eq!(addresses_of(&aws, "prod/web:9090").await, ["[fd00::1]:9090"]);
    let error = first(&aws, "prod/none:80").await.unwrap_err().to_string();
    assert!(error.contains("none:1 publishes no port"), "{error}");
}

#[tokio::test]
async fn a_task_with_ipv6_alone_is_reached_by_it() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("2001:db8::1").json()];
    assert_eq!(addresses_of(&aws, "prod/web:80").await, ["[2001:db8::1]:80"]);
}

#[tokio::test]
async fn a_task_without_a_health_check_is_unknown_and_counts_as_healthy() {
    let aws = Aws::start();
    let task = |n: usize, health: &str| Task::new("web", n).at(&format!("10.0.0.{n}")).health(health).json();
    aws.world().tasks = vec![task(1, "UNKNOWN"), task(2, "HEALTHY"), task(3, "UNHEALTHY")];
    let snapshot = first(&aws, "prod/web:80").await.unwrap();
    let health: Vec<Health> = snapshot.endpoints().iter().map(|endpoint| endpoint.health).collect();
    assert_eq!(health, [Health::Healthy, Health::Healthy, Health::Unhealthy]);
}

#[tokio::test]
async fn the_health_of_one_container_may_decide() {
    let aws = Aws::start();
    let container = |health: &str, last: &str| json!({ "name": "main", "healthStatus": health, "lastStatus": last });
    let task = |n: usize, health: &str, last: &str| {
        Task::new("web", n).at(&format!("10.0.0.{n}")).health("UNHEALTHY").container(container(health, last)).json()
    };
    aws.world().tasks =
        vec![task(1, "HEALTHY", "RUNNING"), task(2, "UNHEALTHY", "RUNNING"), task(3, "HEALTHY", "STOPPED")];
    let snapshot = first(&aws, "prod/web:80[container=main]").await.unwrap();
    let health: Vec<Health> = snapshot.endpoints().iter().map(|endpoint| endpoint.health).collect();
    assert_eq!(health, [Health::Healthy, Health::Unhealthy]);
}

#[tokio::test]
async fn a_task_is_known_by_its_id_zone_and_tags() {
    let aws = Aws::start();
    aws.world().tasks =
        vec![Task::new("web", 7).at("10.0.0.1").tag("stage", "blue").tag("long", &"é".repeat(300)).json()];
    aws.world().definitions.insert(definition("web", 1), definition_with("awsvpc", &[("http", 8080)]));
    let snapshot = first(&aws, "prod/web").await.unwrap();
    let endpoint = &snapshot.endpoints()[0];
    assert_eq!(endpoint.id.as_deref(), Some("00000000000000000000000000000007"));
    assert_eq!((endpoint.zone.as_deref(), endpoint.protocol), (Some("eu-west-1a"), Some(AppProtocol::Http1)));
    let of = |key: &str| endpoint.metadata[key].as_str();
    assert_eq!((of("service"), of("family"), of("revision"), of("tag.stage")), ("web", "web", "1", "blue"));
    assert_eq!(of("tag.long").len(), 256);
}

#[tokio::test]
async fn tasks_are_selected_by_family_and_tag() {
    let aws = Aws::start();
    let job = |n: usize, stage: &str| {
        let task = Task::new("x", n).with("group", json!("family:job")).revision("job", n).tag("stage", stage);
        task.at(&format!("10.0.0.{n}")).json()
    };
    aws.world().tasks =
        vec![job(1, "blue"), job(2, "green"), Task::new("web", 3).at("10.0.0.3").tag("stage", "blue").json()];
    assert_eq!(addresses_of(&aws, "prod/*:80[family=job]").await, ["10.0.0.1:80", "10.0.0.2:80"]);
    assert_eq!(addresses_of(&aws, "prod/*:80[tag.stage=blue]").await, ["10.0.0.1:80", "10.0.0.3:80"]);
    assert_eq!(addresses_of(&aws, "prod/web:80[tag.stage=green]").await, [""; 0]);
}

#[tokio::test]
async fn a_port_that_no_task_has_is_an_error_and_one_that_some_have_a_deploy() {
    let aws = Aws::start();
    let task = |n: usize| Task::new("web", n).at(&format!("10.0.0.{n}")).revision("web", n).json();
    aws.change(|world| {
        world.tasks = vec![task(1), task(2)];
        world.definitions.insert(definition("web", 1), definition_with("awsvpc", &[("", 8080), ("admin", 9000)]));
        world.definitions.insert(definition("web", 2), definition_with("awsvpc", &[("http", 8080), ("admin", 9000)]));
    });
    assert_eq!(addresses_of(&aws, "prod/web:http").await, ["10.0.0.2:8080"]);
    let error = first(&aws, "prod/web:grpc").await.unwrap_err();
    let said = "no port is called `grpc` in web:1, which has 8080, 9000 (`admin`)";
    assert_eq!(error, Error::Malformed(said.to_owned()));
    let error = first(&aws, "prod/web").await.unwrap_err().to_string();
    assert!(error.contains("`:NAME` or `:NUMBER`"), "{error}");
}

#[tokio::test]
async fn throttled_in_the_middle_of_a_look_nothing_of_it_is_told() {
    let aws = Aws::start();
    aws.world().page = 1;
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json(), Task::new("web", 2).at("10.0.0.2").json()];
    let mut source = source(&backend(&aws), "prod/web:80");
    next(&mut source).await.unwrap();
    aws.change(|world| {
        world.tasks.push(Task::new("web", 3).at("10.0.0.3").json());
        (world.budget, world.retry_after) = (Some(2), Some(1));
    });
    let error = next(&mut source).await.unwrap_err();
    assert_eq!(error, Error::Throttled { retry_after: Some(Duration::from_secs(1)) });
    // Nobody asks before the second is over, however often the source is called.
    let calls = aws.world().total();
    assert!(tokio::time::timeout(Duration::from_millis(500), source.next()).await.is_err());
    assert_eq!(aws.world().total(), calls);
    aws.world().budget = None;
    assert_eq!(next(&mut source).await.unwrap().endpoints().len(), 3);
}

#[tokio::test]
async fn a_definition_that_is_denied_stops_only_who_needs_it() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json()];
    aws.world().denied.insert("DescribeTaskDefinition".to_owned());
    let backend = backend(&aws);
    let (mut named, mut numbered) = (source(&backend, "prod/web:http"), source(&backend, "prod/web:80"));
    assert_eq!(addresses(&next(&mut numbered).await.unwrap()), ["10.0.0.1:80"]);
    let error = next(&mut named).await.unwrap_err();
    assert!(matches!(&error, Error::Denied(said) if said.contains("DescribeTaskDefinition")), "{error}");
    aws.world().denied.clear();
    aws.world().definitions.insert(definition("web", 1), definition_with("awsvpc", &[("http", 8080)]));
    assert_eq!(addresses(&next(&mut named).await.unwrap()), ["10.0.0.1:8080"]);
}

#[tokio::test]
async fn a_key_that_was_revoked_is_denied_and_a_cluster_that_is_not_there_gone() {
    let aws = Aws::start();
    aws.world().keys.clear();
    let error = first(&aws, "prod/web:80").await.unwrap_err();
    assert!(matches!(&error, Error::Denied(said) if said.contains("no such key")), "{error}");
    aws.world().keys.insert(KEY.to_owned());
    aws.world().clusters.clear();
    let error = first(&aws, "prod/web:80").await.unwrap_err();
    assert!(matches!(&error, Error::Gone(said) if said.contains("cluster")), "{error}");
}

#[tokio::test]
async fn a_service_that_is_not_there_has_no_tasks_however_many_are_asked_for() {
    let aws = Aws::start();
    assert_eq!(addresses_of(&aws, "prod/nothing:80").await, [""; 0]);
    let backend = backend(&aws);
    let mut sources: Vec<_> = (0..9).map(|n| source(&backend, &format!("prod/nothing{n}:80"))).collect();
    assert!(next(&mut sources[0]).await.unwrap().is_empty());
}

#[tokio::test]
async fn a_role_is_assumed_with_its_external_id() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json()];
    let mut config = config(&aws);
    config.aws.assume_role = Some("arn:aws:iam::210987654321:role/reader".to_owned());
    config.aws.external_id = Some("x1".to_owned());
    let mut source = source(&Ecs::new(&config), "prod/web:80");
    assert_eq!(addresses(&next(&mut source).await.unwrap()), ["10.0.0.1:80"]);
    let assumed = aws.world().assumed.clone();
    assert_eq!(assumed, [("arn:aws:iam::210987654321:role/reader".to_owned(), Some("x1".to_owned()))]);
}

#[tokio::test]
async fn what_is_missing_is_found_and_said_with_the_statement_to_add() {
    let aws = Aws::start();
    aws.world().tasks = vec![Task::new("web", 1).at("10.0.0.1").json()];
    let targets = [target("prod/web:80"), target("prod/typo:80"), target("gone/web:80")];
    let find =
        |findings: &[crate::Finding], what: &str| findings.iter().find(|finding| finding.what == what).unwrap().clone();
    let findings = backend(&aws).examine(&targets).await;
    for (what, verdict) in [
        ("credentials", Verdict::Good),
        ("clock", Verdict::Good),
        ("identity", Verdict::Good),
        ("ecs:DescribeTasks in prod", Verdict::Good),
        ("ecs:DescribeTaskDefinition", Verdict::Good),
        ("ec2:DescribeInstances", Verdict::Good),
        ("service prod/web", Verdict::Good),
        ("service prod/typo", Verdict::Bad),
        ("ecs:ListTasks in gone", Verdict::Bad),
    ] {
        assert_eq!(find(&findings, what).verdict, verdict, "{what}: {findings:#?}");
    }
    assert!(find(&findings, "credentials").seen.contains("the environment"));
    aws.world().denied.extend(["DescribeTasks", "DescribeInstances"].map(str::to_owned));
    aws.world().clock_ahead = 240;
    let findings = backend(&aws).examine(&targets).await;
    let tasks = find(&findings, "ecs:DescribeTasks in prod");
    assert_eq!(tasks.verdict, Verdict::Bad);
    assert!(tasks.remedy.unwrap().contains("\"Action\": [\"ecs:DescribeTasks\"]"));
    assert_eq!(find(&findings, "ec2:DescribeInstances").verdict, Verdict::Warning);
    assert_eq!(find(&findings, "clock").verdict, Verdict::Warning);
    aws.world().keys.clear();
    assert_eq!(find(&backend(&aws).examine(&targets).await, "identity").verdict, Verdict::Bad);
    aws.server.set(Mode::Frozen);
    let began = std::time::Instant::now();
    backend(&aws).examine(&targets).await;
    assert!(began.elapsed() < Duration::from_secs(10));
}
