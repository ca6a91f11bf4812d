//! The backend against a fake API server.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use meshless_fakes::http::Mode;
use meshless_fakes::kubernetes::Kubernetes as Fake;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::time::timeout;

use super::client::{Client, Timing};
use super::*;
use crate::conformance::{self, Played, Stage, Trouble};
use crate::{Address, Endpoint, Error, async_trait};

mod faults;

const PATIENCE: Duration = Duration::from_secs(20);

/// Time limits that a test can wait for.
const QUICK: Timing = Timing {
    answer: Duration::from_secs(2),
    watch: (Duration::from_mins(1), Duration::from_mins(1)),
    grace: Duration::from_secs(1),
    silence: Duration::from_secs(30),
    poll: Duration::from_millis(50),
};

/// A fake server with a kubeconfig for it.
struct Place {
    fake: Fake,
    folder: TempDir,
}

impl Place {
    fn new() -> Self {
        let place = Self { fake: Fake::start(), folder: tempfile::tempdir().unwrap() };
        place.write_kubeconfig(None);
        place.fake.put("services", service(&json!([{ "name": "http", "port": 80, "targetPort": 80 }])));
        place
    }

    fn write_kubeconfig(&self, token: Option<&str>) {
        std::fs::write(self.folder.path().join("config"), self.fake.kubeconfig(token)).unwrap();
    }

    fn config(&self) -> KubernetesConfig {
        KubernetesConfig { kubeconfig: Some(self.folder.path().join("config")), ..KubernetesConfig::default() }
    }

    fn config_of(&self, addresses: KubernetesAddresses) -> KubernetesConfig {
        KubernetesConfig { addresses, ..self.config() }
    }

    fn backend(&self) -> Kubernetes {
        self.backend_with(QUICK)
    }

    fn backend_with(&self, timing: Timing) -> Kubernetes {
        Kubernetes::over(Client::new(&self.config()).with_timing(timing), &self.config())
    }
}

fn target(path: &str) -> Target {
    Target { backend: "kubernetes".to_owned(), path: path.to_owned(), options: std::collections::BTreeMap::new() }
}

fn service(ports: &Value) -> Value {
    json!({ "metadata": { "namespace": "shop", "name": "web" }, "spec": { "ports": ports } })
}

/// A slice of the service `web`; each pod is an address, with conditions where it is not ready.
fn slice(name: &str, port: u16, addresses: &[String]) -> Value {
    let endpoints: Vec<Value> = addresses.iter().map(|address| json!({ "addresses": [address] })).collect();
    json!({
        "metadata": {
            "namespace": "shop", "name": name, "labels": { "kubernetes.io/service-name": "web" },
        },
        "addressType": "IPv4",
        "endpoints": endpoints,
        "ports": [{ "name": "http", "port": port, "protocol": "TCP" }],
    })
}

fn addresses(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("10.{}.{}.{}", number / 62_500, number / 250 % 250, number % 250 + 1)).collect()
}

async fn answer(source: &mut Box<dyn Source>) -> Result<Vec<String>, Error> {
    let snapshot = timeout(PATIENCE, source.next()).await.expect("no answer came")?;
    Ok(snapshot.endpoints().iter().map(|endpoint| endpoint.address.to_string()).collect())
}

/// The suite's place: a service whose endpoints are spread over slices of two.
struct Cluster {
    place: Place,
    slices: usize,
}

#[async_trait]
impl Stage for Cluster {
    fn backend(&self) -> Arc<dyn Backend> {
        // The suite asks nothing while a place restarts: what comes back may know none of the versions, and keep still.
        let (watch, silence) = ((Duration::from_secs(2), Duration::from_secs(2)), Duration::from_secs(1));
        Arc::new(self.place.backend_with(Timing { watch, silence, ..QUICK }))
    }

    fn target(&self) -> Target {
        target("shop/web:http")
    }

    async fn set(&mut self, endpoints: &[Endpoint]) {
        let addresses: Vec<SocketAddr> = endpoints
            .iter()
            .map(|endpoint| match &endpoint.address {
                Address::Tcp(address) => *address,
                Address::Unix(path) => panic!("{path:?} is not for Kubernetes"),
            })
            .collect();
        let parts: Vec<Vec<String>> =
            addresses.chunks(2).map(|part| part.iter().map(|address| address.ip().to_string()).collect()).collect();
        for (number, part) in parts.iter().enumerate() {
            self.place.fake.put("endpointslices", slice(&format!("web-{number}"), 80, part));
        }
        for number in parts.len()..self.slices {
            self.place.fake.remove("endpointslices", "shop", &format!("web-{number}"));
        }
        self.slices = parts.len();
    }

    async fn play(&mut self, trouble: Trouble) -> Played {
        let fake = &self.place.fake;
        match trouble {
            Trouble::Garbage => fake.server().set(Mode::Garbage),
            Trouble::Huge => {
                // All in one: slices that come one by one would be answers, each of them.
                fake.put("endpointslices", slice("huge", 80, &addresses(10_500)));
            }
            Trouble::Partial => {
                fake.set_page(1);
                fake.put("endpointslices", slice("zz", 80, &[]));
                fake.fail_later_pages(true);
            }
            Trouble::Restart => {
                fake.server().set(Mode::Down);
                while std::net::TcpStream::connect(fake.server().address).is_ok() {
                    tokio::time::sleep(Duration::from_millis(1)).await;
                }
                fake.restart();
            }
            Trouble::Slow => fake.server().set(Mode::Slow(30)),
            Trouble::Unreachable => fake.server().set(Mode::Down),
        }
        fake.drop_watches();
        if trouble == Trouble::Partial {
            fake.compact(meshless_fakes::kubernetes::Gone::Event);
        }
        Played::Done
    }

    async fn recover(&mut self) {
        let fake = &self.place.fake;
        fake.server().set(Mode::Serve);
        fake.fail_later_pages(false);
        fake.remove("endpointslices", "shop", "huge");
        fake.remove("endpointslices", "shop", "zz");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn the_suite_passes() {
    let impossible = conformance::run(|| Cluster { place: Place::new(), slices: 0 }).await;
    assert_eq!(impossible, []);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_is_told_while_it_is_watched() {
    let place = Place::new();
    place.fake.put("endpointslices", slice("web-1", 8080, &addresses(1)));
    let mut source = place.backend().source(&target("shop/web:80")).unwrap();
    assert_eq!(answer(&mut source).await.unwrap(), ["10.0.0.1:8080"]);
    place.fake.put("endpointslices", slice("web-1", 8080, &addresses(2)));
    assert_eq!(answer(&mut source).await.unwrap(), ["10.0.0.1:8080", "10.0.0.2:8080"]);
}
