//! `[discovery.NAME]` of type `kubernetes`, as it is written.

use meshless_discovery::{KubernetesAddresses, KubernetesConfig};
use serde::ser::SerializeMap as _;
use serde::{Serialize, Serializer};

/// A backend of type `kubernetes`.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Kubernetes(pub KubernetesConfig);

impl Serialize for Kubernetes {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        // What the surroundings say is not written: it holds for this place alone.
        let KubernetesConfig { kubeconfig, context, addresses, routes, namespace, surroundings: _ } = &self.0;
        let mut fields = serializer.serialize_map(None)?;
        if let Some(kubeconfig) = kubeconfig {
            fields.serialize_entry("kubeconfig", kubeconfig)?;
        }
        if let Some(context) = context {
            fields.serialize_entry("context", context)?;
        }
        let addresses = match addresses {
            KubernetesAddresses::Pod => "pod",
            KubernetesAddresses::NodePort => "node-port",
            KubernetesAddresses::LoadBalancer => "load-balancer",
        };
        fields.serialize_entry("addresses", addresses)?;
        fields.serialize_entry("routes", routes)?;
        if let Some(namespace) = namespace {
            fields.serialize_entry("namespace", namespace)?;
        }
        fields.end()
    }
}
