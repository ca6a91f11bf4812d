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
    /// What the surroundings say of a cluster.
    pub surroundings: KubernetesSurroundings,
}

/// What the surroundings say of a cluster: read with the configuration, so that nothing later reads the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KubernetesSurroundings {
    /// URL of the API server that a pod is told of (`KUBERNETES_SERVICE_HOST` and `_PORT`).
    pub server: Option<String>,
    /// Directory with the token, the authority and the namespace of a pod's account, default
    /// [`KubernetesSurroundings::ACCOUNT`].
    pub account: PathBuf,
    /// Kubeconfigs that are merged, the first one wins: `KUBECONFIG`, else `~/.kube/config`.
    pub kubeconfigs: Vec<PathBuf>,
}

impl KubernetesSurroundings {
    /// Where the kubelet puts a pod's account.
    pub const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";
}

impl Default for KubernetesSurroundings {
    fn default() -> Self {
        Self { server: None, account: PathBuf::from(Self::ACCOUNT), kubeconfigs: Vec::new() }
    }
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
