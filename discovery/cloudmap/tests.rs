//! The backend against a strict fake.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use meshless_fakes::aws::{Aws, KEY, REGION, Service};
use meshless_fakes::http::Mode;

use super::Cloudmap;
use crate::conformance::{self, Played, Stage, Trouble};
use crate::{
    Address, AwsConfig, AwsKeys, Backend, CloudmapConfig, Endpoint, Error, Health, Snapshot, Source, Target, Verdict,
    async_trait,
};

fn backend(aws: &Aws) -> Cloudmap {
    let config = CloudmapConfig {
        aws: AwsConfig {
            region: Some(REGION.to_owned()),
            endpoint: Some(aws.server.url()),
            keys: Some(AwsKeys { id: KEY.to_owned(), secret: "secret".to_owned(), session: None }),
            ..AwsConfig::default()
        },
        min_interval: Duration::from_millis(20),
        max_interval: Duration::from_millis(50),
    };
    Cloudmap::new(&config).with_timeout(Duration::from_millis(700))
}

fn target(path: &str) -> Target {
    Target { backend: "cloudmap".to_owned(), path: path.to_owned(), options: BTreeMap::new() }
}

async fn next(source: &mut Box<dyn Source>) -> Result<Snapshot, Error> {
    tokio::time::timeout(Duration::from_secs(20), source.next()).await.expect("an answer within 20 s")
}

async fn first(aws: &Aws, path: &str) -> Result<Snapshot, Error> {
    next(&mut backend(aws).source(&target(path)).unwrap()).await
}

/// Id, health and attributes of an instance.
type Given<'a> = (&'a str, &'a str, &'a [(&'a str, &'a str)]);

/// Replaces the instances of `prod/web`.
fn set(aws: &Aws, instances: &[Given<'_>]) {
    aws.change(|world| {
        let service = world.discovered.entry(("prod".to_owned(), "web".to_owned())).or_default();
        service.revision += 1;
        service.instances = instances
            .iter()
            .map(|(id, health, attributes)| {
                let attributes = attributes.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
                ((*id).to_owned(), (*health).to_owned(), attributes.collect())
            })
            .collect();
    });
}

struct Place(Aws);

#[async_trait]
impl Stage for Place {
    fn backend(&self) -> Arc<dyn Backend> {
        Arc::new(backend(&self.0))
    }

    fn target(&self) -> Target {
        target("prod/web")
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        let all = endpoints.iter().map(|endpoint| {
            let Address::Tcp(address) = &endpoint.address else { panic!("{endpoint:?}") };
            (address.ip().to_string(), address.port().to_string())
        });
        let all: Vec<_> = all.collect();
        let attributes: Vec<_> =
            all.iter().map(|(ip, port)| [("AWS_INSTANCE_IPV4", ip.as_str()), ("AWS_INSTANCE_PORT", port)]).collect();
        let instances: Vec<_> = all
            .iter()
            .zip(&attributes)
            .map(|((ip, _), attributes)| (ip.as_str(), "HEALTHY", &attributes[..]))
            .collect();
        set(&self.0, &instances);
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        match trouble {
            Trouble::Garbage => self.0.server.set(Mode::Garbage),
            // Cloud Map lets no service have as many, and its answer is in one part.
            Trouble::Huge | Trouble::Partial => return Played::Impossible,
            Trouble::Restart | Trouble::Unreachable => self.0.server.set(Mode::Down),
            Trouble::Slow => self.0.server.set(Mode::Slow(40)),
        }
        Played::Done
    }

    async fn recover(&mut self) {
        self.0.server.set(Mode::Serve);
    }
}

#[tokio::test]
async fn the_suite_for_all_backends_holds() {
    let mut impossible = conformance::run(|| Place(Aws::start())).await;
    impossible.dedup();
    assert_eq!(impossible, [Trouble::Huge, Trouble::Partial]);
}

#[tokio::test]
async fn instances_are_asked_for_only_when_the_revision_changed() {
    let aws = Aws::start();
    set(&aws, &[("a", "HEALTHY", &[("AWS_INSTANCE_IPV4", "10.0.0.1")])]);
    let backend = backend(&aws);
    let mut source = backend.source(&target("prod/web:80")).unwrap();
    next(&mut source).await.unwrap();
    let waited = tokio::time::timeout(Duration::from_secs(10), async {
        while aws.world().calls.get("DiscoverInstancesRevision").is_none_or(|count| *count < 5) {
            assert!(tokio::time::timeout(Duration::from_millis(20), source.next()).await.is_err());
        }
    });
    waited.await.unwrap();
    assert_eq!(aws.world().calls["DiscoverInstances"], 1);
    set(&aws, &[("b", "HEALTHY", &[("AWS_INSTANCE_IPV4", "10.0.0.2")])]);
    assert_eq!(next(&mut source).await.unwrap().endpoints()[0].id.as_deref(), Some("b"));
    assert_eq!(backend.calls().totals()["DiscoverInstances"], 2);
}

#[tokio::test]
async fn attributes_become_addresses_health_zone_and_metadata() {
    let aws = Aws::start();
    set(
        &aws,
        &[
            (
                "task1",
                "HEALTHY",
                &[
                    ("AWS_INSTANCE_IPV4", "10.0.0.1"),
                    ("AWS_INSTANCE_PORT", "8080"),
                    ("AVAILABILITY_ZONE", "eu-west-1b"),
                    ("ECS_SERVICE_NAME", "web"),
                    ("stage", "blue"),
                ],
            ),
            ("task2", "UNHEALTHY", &[("AWS_INSTANCE_IPV6", "2001:db8::1"), ("AWS_INSTANCE_PORT", "8080")]),
            ("metadata", "HEALTHY", &[("AWS_INSTANCE_IPV4", "169.254.169.254"), ("AWS_INSTANCE_PORT", "80")]),
            ("alias", "UNKNOWN", &[("AWS_INSTANCE_CNAME", "x.example")]),
        ],
    );
    let snapshot = first(&aws, "prod/web").await.unwrap();
    let [one, two] = snapshot.endpoints() else { panic!("{snapshot:?}") };
    assert_eq!(
        (one.address.to_string(), one.health, one.zone.as_deref()),
        ("10.0.0.1:8080".to_owned(), Health::Healthy, Some("eu-west-1b"))
    );
    assert_eq!(
        one.metadata,
        [("service", "web"), ("stage", "blue")].map(|(key, value)| (key.to_owned(), value.to_owned())).into()
    );
    assert_eq!((two.address.to_string(), two.health), ("[2001:db8::1]:8080".to_owned(), Health::Unhealthy));
}

#[tokio::test]
async fn a_service_without_ports_says_what_to_write() {
    let aws = Aws::start();
    set(&aws, &[("a", "HEALTHY", &[("AWS_INSTANCE_IPV4", "10.0.0.1")])]);
    let error = first(&aws, "prod/web").await.unwrap_err();
    assert!(matches!(&error, Error::Malformed(said) if said.contains("`cloudmap/prod/web:PORT`")), "{error}");
    assert_eq!(first(&aws, "prod/web:80").await.unwrap().endpoints().len(), 1);
}

#[tokio::test]
async fn what_is_not_there_is_gone_and_a_throttle_is_one() {
    let aws = Aws::start();
    aws.change(|world| {
        world.discovered.insert(("prod".to_owned(), "web".to_owned()), Service::default());
    });
    for path in ["none/web", "prod/none"] {
        assert!(matches!(first(&aws, path).await, Err(Error::Gone(_))), "{path}");
    }
    aws.world().budget = Some(0);
    assert!(matches!(first(&aws, "prod/web").await, Err(Error::Throttled { .. })));
}

#[tokio::test]
async fn each_permission_is_looked_at() {
    let aws = Aws::start();
    set(&aws, &[]);
    aws.world().denied.insert("DiscoverInstances".to_owned());
    let findings = backend(&aws).examine(&[target("prod/web")]).await;
    let of = |action: &str| findings.iter().find(|each| each.what == format!("{action} of prod/web")).unwrap();
    assert_eq!(of("servicediscovery:DiscoverInstancesRevision").verdict, Verdict::Good);
    let missing = of("servicediscovery:DiscoverInstances");
    assert!(missing.remedy.as_ref().unwrap().contains("\"servicediscovery:DiscoverInstances\""), "{missing:?}");
}
