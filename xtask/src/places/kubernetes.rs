//! `EndpointSlice` objects on a fake API server.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use meshless_fakes::http::Mode;
use meshless_fakes::kubernetes::Kubernetes;
use serde_json::json;

use super::{Health, Listed, Place, Played, Trouble};

const NAMESPACE: &str = "prod";

/// The token that the gateway has.
const TOKEN: &str = "first";

#[derive(Debug)]
pub(super) struct Cluster {
    server: Kubernetes,
    kubeconfig: PathBuf,
    services: Vec<(String, Vec<Listed>)>,
    slices: BTreeSet<String>,
}

impl Cluster {
    pub(super) fn start(folder: &Path) -> anyhow::Result<Self> {
        let server = Kubernetes::start();
        server.set_token(Some(TOKEN));
        let kubeconfig = folder.join("kubeconfig");
        fs::write(&kubeconfig, server.kubeconfig(Some(TOKEN))).context("write a kubeconfig")?;
        Ok(Self { server, kubeconfig, services: Vec::new(), slices: BTreeSet::new() })
    }

    /// Writes a slice for each endpoint, because each has a port of its own.
    fn write(&mut self, service: &str, endpoints: &[Listed]) {
        self.server.put("services", json!({
            "apiVersion": "v1", "kind": "Service",
            "metadata": { "namespace": NAMESPACE, "name": service },
            "spec": { "type": "ClusterIP", "clusterIP": "10.96.0.10", "ports": [{ "name": "http", "port": 80, "protocol": "TCP" }] },
        }));
        let name = |endpoint: &Listed| format!("{service}-{}", endpoint.address.port());
        for endpoint in endpoints {
            self.server.put("endpointslices", json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "namespace": NAMESPACE, "name": name(endpoint), "labels": { "kubernetes.io/service-name": service },
                },
                "endpoints": [{
                    "addresses": [endpoint.address.ip().to_string()],
                    "conditions": { "ready": endpoint.health == Health::Healthy },
                }],
                "ports": [{ "name": "http", "port": endpoint.address.port(), "protocol": "TCP" }],
            }));
            self.slices.insert(name(endpoint));
        }
        let names: BTreeSet<String> = endpoints.iter().map(name).collect();
        let prefix = format!("{service}-");
        for gone in self.slices.iter().filter(|slice| slice.starts_with(&prefix) && !names.contains(*slice)) {
            self.server.remove("endpointslices", NAMESPACE, gone);
        }
        self.slices.retain(|slice| !slice.starts_with(&prefix) || names.contains(slice));
    }
}

impl Place for Cluster {
    fn configuration(&self) -> String {
        format!("[discovery.kubernetes]\nkubeconfig = \"{}\"\n", self.kubeconfig.display())
    }

    fn target(&self, service: &str) -> String {
        format!("kubernetes/{NAMESPACE}/{service}:http")
    }

    fn set(&mut self, service: &str, endpoints: &[Listed]) -> anyhow::Result<()> {
        self.services.retain(|(name, _)| name != service);
        self.services.push((service.to_owned(), endpoints.to_vec()));
        self.write(service, endpoints);
        Ok(())
    }

    fn strike(&mut self, trouble: Trouble) -> anyhow::Result<Played> {
        let server = self.server.server();
        match trouble {
            Trouble::Killed => server.set(Mode::Down),
            Trouble::Frozen => server.set(Mode::Frozen),
            Trouble::Fails => server.set(Mode::Status(500)),
            Trouble::Garbage => server.set(Mode::Garbage),
            Trouble::Slow => server.set(Mode::Slow(1000)),
            Trouble::Empty => self.clear(),
            Trouble::Revoked => self.server.set_token(Some("another")),
            Trouble::Replaced => {
                self.clear();
                self.server.restart();
            }
        }
        if matches!(trouble, Trouble::Fails | Trouble::Garbage | Trouble::Slow | Trouble::Revoked) {
            // A watch that is open goes on undisturbed; sooner or later it ends, and then the trouble is felt.
            self.server.drop_watches();
        }
        Ok(Played::Done)
    }

    fn recover(&mut self) -> anyhow::Result<()> {
        self.server.server().set(Mode::Serve);
        self.server.set_token(Some(TOKEN));
        for (service, endpoints) in self.services.clone() {
            self.write(&service, &endpoints);
        }
        Ok(())
    }
}

impl Cluster {
    fn clear(&mut self) {
        self.server.clear("endpointslices");
        self.slices.clear();
    }
}
