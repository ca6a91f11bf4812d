//! What the `kubernetes` backend needs to be told.

use std::path::PathBuf;

/// What the `kubernetes` backend needs to be told. Without a kubeconfig it is the account of the pod, else the kubeconfig
/// that the environment or the home folder names.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KubernetesConfig {
    /// A kubeconfig.
    pub kubeconfig: Option<PathBuf>,
    /// The context in it; default its current one.
    pub context: Option<String>,
    /// Which addresses of a service's endpoints are used.
    pub addresses: KubernetesAddresses,
    /// Reads `HTTPRoute` and `GRPCRoute` objects too.
    pub routes: bool,
    /// Namespace whose routes are read; default that of the account.
    pub namespace: Option<String>,
}

/// Which addresses of a service's endpoints are used.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum KubernetesAddresses {
    /// Those of the pods, which have to be reachable from here.
    #[default]
    Pod,
    /// Those of the nodes, with the service's node port.
    NodePort,
    /// Those of the service's load balancer.
    LoadBalancer,
}
