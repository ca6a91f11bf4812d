//! The `kubernetes` backend: the endpoints of services, by an API server's word.
//!
//! One [`Client`] per backend speaks to the API server for all its sources. `access` reads where the server is and who
//! we are, `exec` runs programs that hand out credentials, `connect` makes a client of both, `client` lists, watches and
//! reads, `stream` reads one watch, and `watch` keeps a collection of objects as they are now. `target` (pure) reads what
//! is asked, `service` and `slices` (pure) make endpoints of objects, and `pods` is the source that puts these together.

mod access;
mod client;
mod connect;
mod exec;
mod external_name;
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
use pods::Pods;
use target::Question;

use crate::{Backend, Calls, KubernetesConfig, ObjectSource, Source, Target, TargetError};

/// The `kubernetes` backend.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    client: Arc<Client>,
    /// Reads objects of the Gateway API too.
    routes: bool,
}

impl Kubernetes {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &KubernetesConfig) -> Self {
        Self { client: Arc::new(Client::new(config)), routes: config.routes }
    }
}

impl Backend for Kubernetes {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        target.refuse_options()?;
        let question =
            Question::parse(&target.path).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))?;
        Ok(Box::new(Pods::new(Arc::clone(&self.client), question)))
    }

    fn objects(&self) -> Option<Box<dyn ObjectSource>> {
        self.routes.then(|| Box::new(routes::Routes::new(Arc::clone(&self.client))) as _)
    }

    fn calls(&self) -> Calls {
        self.client.calls()
    }
}
