//! The `kubernetes` backend: the endpoints of services, by an API server's word.
//!
//! One [`Client`] per backend speaks to the API server for all its sources. `access` reads where the server is and who
//! we are, `exec` runs programs that hand out credentials, `connect` makes a client of both, `client` lists, watches and
//! reads, `stream` reads one watch, and `watch` keeps a collection of objects as they are now. `target` (pure) reads what
//! is asked, `service` and `slices` (pure) make endpoints of objects, and `pods` is the source that puts these together.
//! `routes` is the source of the objects of the Gateway API.
//! `outside` is the source for gateways that cannot reach pods, with `nodes`; `external_name` asks DNS where a Service
//! names a host. `examine` is for the doctor.

mod access;
mod client;
mod connect;
mod examine;
mod exec;
mod external_name;
mod nodes;
mod outside;
mod pods;
mod routes;
mod service;
mod slices;
mod stream;
mod target;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use client::Client;
use nodes::Nodes;
use outside::{Outside, Way};
use pods::Pods;
use target::Question;

use crate::{
    Backend, Calls, Finding, KubernetesAddresses, KubernetesConfig, ObjectSource, Source, Target, TargetError,
    async_trait,
};

/// The `kubernetes` backend.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    client: Arc<Client>,
    nodes: Arc<Nodes>,
    addresses: KubernetesAddresses,
    /// Reads objects of the Gateway API too.
    routes: bool,
}

impl Kubernetes {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &KubernetesConfig) -> Self {
        Self::over(Client::new(config), config)
    }

    fn over(client: Client, config: &KubernetesConfig) -> Self {
        let client = Arc::new(client);
        let nodes = Arc::new(Nodes::new(Arc::clone(&client)));
        Self { client, nodes, addresses: config.addresses, routes: config.routes }
    }
}

#[async_trait]
impl Backend for Kubernetes {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        target.refuse_options()?;
        let question =
            Question::parse(&target.path).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))?;
        let client = Arc::clone(&self.client);
        Ok(match self.addresses {
            KubernetesAddresses::Pod => Box::new(Pods::new(client, question)),
            KubernetesAddresses::NodePort => {
                Box::new(Outside::new(client, question, Way::NodePort(Arc::clone(&self.nodes))))
            }
            KubernetesAddresses::LoadBalancer => Box::new(Outside::new(client, question, Way::LoadBalancer)),
        })
    }

    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        examine::examine(&self.client, self.addresses, targets).await
    }

    fn objects(&self) -> Option<Box<dyn ObjectSource>> {
        self.routes.then(|| Box::new(routes::Routes::new(Arc::clone(&self.client))) as _)
    }

    fn calls(&self) -> Calls {
        self.client.calls()
    }
}
