//! Backends of the type `kubernetes`.

use meshless_discovery::{KubernetesAddresses, KubernetesConfig};
use meshless_platforms::Surroundings;

use super::Check;
use crate::config::problem::Path;
use crate::config::raw;

impl Check<'_> {
    pub(super) fn kubernetes_backend(
        &mut self,
        table: &raw::Discovery,
        path: &Path,
        surroundings: &dyn Surroundings,
    ) -> KubernetesConfig {
        let _ = (path, surroundings);
        KubernetesConfig {
            kubeconfig: table.kubeconfig.clone(),
            context: table.context.clone(),
            addresses: match table.addresses {
                None | Some(raw::KubernetesAddresses::Pod) => KubernetesAddresses::Pod,
                Some(raw::KubernetesAddresses::NodePort) => KubernetesAddresses::NodePort,
                Some(raw::KubernetesAddresses::LoadBalancer) => KubernetesAddresses::LoadBalancer,
            },
            routes: table.routes.unwrap_or_default(),
            namespace: table.namespace.clone(),
        }
    }
}
