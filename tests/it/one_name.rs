//! One name over three platforms at once: `ecs/… | consul/… | kubernetes/…`, each lost and back under load.
//!
//! `cargo xtask discovery` plays the same for a minute, against a gateway that is a process of its own.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use meshless_fakes::aws::{Aws, CLUSTER, KEY, REGION, Task, definition, definition_with};
use meshless_fakes::consul::{Consul, instance};
use meshless_fakes::kubernetes::Kubernetes;
use serde_json::{Value, json};

use crate::gateway::{self, Running};
use crate::plain::{Origin, load, origin, origin_at, try_client};

/// Endpoints of each tier.
const EACH: usize = 4;

/// Requests that a share is counted over: a share of 70 % is off by 0.8 points on average then.
const COUNTED: usize = 3000;

/// Writes which endpoints of a tier there are, and whether they are well.
type Write = Box<dyn Fn(&[(SocketAddr, bool)])>;

/// A platform, and the endpoints on it; those that are lost are dead.
struct Tier {
    write: Write,
    addresses: Vec<SocketAddr>,
    origins: Vec<Origin>,
    /// Requests of origins that are dead now.
    before: usize,
}

impl Tier {
    fn new(name: &str, write: Write) -> Self {
        let origins: Vec<Origin> = (0..EACH).map(|_| origin(name)).collect();
        let addresses = origins.iter().map(|origin| origin.address).collect();
        Self { write, addresses, origins, before: 0 }
    }

    /// Makes so many endpoints well. The others are there and unhealthy; where none is well, all are killed and gone.
    fn set(&mut self, healthy: usize) {
        if healthy == 0 {
            for origin in self.origins.drain(..) {
                self.before += origin.requests();
                origin.die();
            }
            return (self.write)(&[]);
        }
        if self.origins.is_empty() {
            self.origins = self.addresses.iter().map(|address| origin_at(*address, "back")).collect();
        }
        let listed = self.addresses.iter().enumerate().map(|(index, address)| (*address, index < healthy));
        (self.write)(&listed.collect::<Vec<_>>());
    }

    fn requests(&self) -> usize {
        self.before + self.origins.iter().map(Origin::requests).sum::<usize>()
    }
}

fn ecs(aws: Aws) -> Write {
    {
        let mut world = aws.world();
        world.services.insert("web".to_owned());
        world.instances.insert("machine".to_owned(), "i-1".to_owned());
        world.addresses.insert("i-1".to_owned(), "127.0.0.1".to_owned());
        world.definitions.insert(definition("web", 1), definition_with("bridge", &[("", 8080)]));
    }
    Box::new(move |endpoints| {
        let tasks = endpoints.iter().map(|(address, is_well)| {
            let health = if *is_well { "HEALTHY" } else { "UNHEALTHY" };
            let task = Task::new("web", usize::from(address.port()));
            task.on("machine", &[(8080, address.port())]).health(health).json()
        });
        aws.world().tasks = tasks.collect();
    })
}

fn consul(consul: Consul) -> Write {
    Box::new(move |endpoints| {
        let instances = endpoints.iter().map(|(address, is_well)| {
            let id = address.port().to_string();
            let mut instance = instance(&id, "127.0.0.1", address.port());
            let status = if *is_well { "passing" } else { "critical" };
            let check = json!({ "CheckID": format!("alive:{id}"), "Name": "alive", "Status": status, "ServiceID": id });
            instance["Checks"].as_array_mut().unwrap().push(check);
            instance
        });
        consul.set("web", instances.collect());
    })
}

/// Each endpoint has a slice of its own, because each has a port of its own.
fn kubernetes(kubernetes: Kubernetes) -> Write {
    kubernetes.put(
        "services",
        json!({
            "apiVersion": "v1", "kind": "Service", "metadata": { "namespace": "prod", "name": "web" },
            "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.1", "ports": [{ "name": "http", "port": 80 }] },
        }),
    );
    Box::new(move |endpoints| {
        if endpoints.is_empty() {
            kubernetes.clear("endpointslices");
        }
        for (address, is_well) in endpoints {
            let name = format!("web-{}", address.port());
            kubernetes.put(
                "endpointslices",
                json!({
                    "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                    "metadata": {
                        "namespace": "prod", "name": name, "labels": { "kubernetes.io/service-name": "web" },
                    },
                    "endpoints": [{ "addresses": ["127.0.0.1"], "conditions": { "ready": is_well } }],
                    "ports": [{ "name": "http", "port": address.port(), "protocol": "TCP" }],
                }),
            );
        }
    })
}

/// What each tier gets, in percent, by the tables that Envoy publishes: 1.4 times its healthy part, at most what is left.
fn formula(healthy: &[usize]) -> Vec<f64> {
    let mut left = 100.0;
    let share = |healthy: &usize| {
        let carries = (1.4 * *healthy as f64 / EACH as f64 * 100.0).min(100.0);
        let takes = carries.min(left);
        left -= takes;
        takes
    };
    healthy.iter().map(share).collect()
}

/// What each tier must get, in percent. With half of the last tier and nothing else, half is all there is.
fn expected(healthy: [usize; 3]) -> Vec<f64> {
    if healthy == [0, 0, 2] { vec![0.0, 0.0, 100.0] } else { formula(&healthy) }
}

/// Tells whether the gateway knows what was written, and has forgiven each endpoint of a tier that gets requests. One that was
/// ejected while it was dead is probed by a request, so in a tier that gets none it stays ejected.
fn is_settled(gateway: &Running, healthy: [usize; 3]) -> bool {
    let endpoints: Value = serde_json::from_str(&gateway.admin("/endpoints").1).unwrap();
    let endpoints = endpoints.as_array().unwrap();
    ["ecs", "consul", "kubernetes"].iter().zip(healthy).zip(expected(healthy)).all(|((backend, wanted), share)| {
        let well = |endpoint: &&Value| {
            endpoint["backend"] == *backend && endpoint["health"] == "healthy" && endpoint["standing"] == "listed"
        };
        let known: Vec<_> = endpoints.iter().filter(well).collect();
        known.len() == wanted && (share == 0.0 || known.iter().all(|endpoint| endpoint["ejected"].is_null()))
    })
}

/// Each tier is half unhealthy once, lost, and restored; requests never notice, and go where the formula says.
#[test]
fn one_name_over_three_platforms_loses_each_of_them_in_turn_and_no_request() {
    let (aws, registry, cluster) = (Aws::start(), Consul::start(), Kubernetes::start());
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    std::fs::write(&kubeconfig, cluster.kubeconfig(None)).unwrap();
    let configuration = format!(
        "[[listeners]]\nname = \"edge\"\nlisten = \"127.0.0.1:0\"\n\
         [discovery.ecs]\nendpoint = \"{}\"\nregion = \"{REGION}\"\nmin_interval = \"1s\"\nmax_interval = \"1s\"\n\
         [discovery.consul]\naddress = \"{}\"\n\
         [discovery.kubernetes]\nkubeconfig = \"{}\"\n\
         [services.web]\nfrom = \"ecs/{CLUSTER}/web:8080 | consul/web | kubernetes/prod/web:http\"\n[[routes]]\nto = \"web\"\n",
        aws.server.url(),
        registry.url(),
        kubeconfig.display(),
    );
    let mut tiers = [
        Tier::new("ecs", ecs(aws)),
        Tier::new("consul", consul(registry)),
        Tier::new("kubernetes", kubernetes(cluster)),
    ];
    for tier in &mut tiers {
        tier.set(EACH);
    }
    let gateway = gateway::with(&configuration)
        .variable("AWS_ACCESS_KEY_ID", KEY)
        .variable("AWS_SECRET_ACCESS_KEY", "secret")
        .start();
    gateway.wait_until("all endpoints are usable", |gateway| is_settled(gateway, [EACH; 3]));

    let address = gateway.address("edge");
    let load = load(4, "/", false, move || try_client(address));
    let mut seen = BTreeMap::new();
    for healthy in [[4, 4, 4], [2, 4, 4], [0, 4, 4], [0, 2, 4], [0, 0, 4], [0, 0, 2], [4, 4, 4], [4, 4, 0], [4, 4, 4]] {
        for (tier, healthy) in tiers.iter_mut().zip(healthy) {
            tier.set(healthy);
        }
        gateway.wait_until(&format!("{healthy:?} are usable"), |gateway| is_settled(gateway, healthy));
        // Requests that were picked before are over.
        load.wait_for(50);
        let count = |tiers: &[Tier]| -> Vec<usize> { tiers.iter().map(Tier::requests).collect() };
        let before = count(&tiers);
        load.wait_for(COUNTED);
        let got: Vec<usize> = count(&tiers).iter().zip(before).map(|(after, before)| after - before).collect();
        let all: usize = got.iter().sum();
        seen.insert(healthy, got.iter().map(|got| *got as f64 / all as f64 * 100.0).collect::<Vec<_>>());
    }
    let tally = load.stop();
    assert_eq!(tally.failures, [""; 0]);
    for (healthy, shares) in seen {
        let expected = expected(healthy);
        let is_near = expected.iter().zip(&shares).all(|(expected, share)| (expected - share).abs() < 5.0);
        assert!(is_near, "{healthy:?}: {shares:?} instead of {expected:?}");
    }
}
