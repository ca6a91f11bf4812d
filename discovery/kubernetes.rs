//! The `kubernetes` backend.

#![allow(dead_code, reason = "the sources come next")]

mod access;
mod client;
mod connect;
mod exec;
mod stream;
mod watch;

use std::sync::Arc;

use client::Client;

use crate::{Backend, Calls, KubernetesConfig, Source, Target, TargetError};

/// The `kubernetes` backend.
#[derive(Debug)]
pub(crate) struct Kubernetes {
    client: Arc<Client>,
}

impl Kubernetes {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &KubernetesConfig) -> Self {
        Self { client: Arc::new(Client::new(config)) }
    }
}

impl Backend for Kubernetes {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Err(TargetError(format!("target `{target}`: is not in this build yet")))
    }

    fn calls(&self) -> Calls {
        self.client.calls()
    }
}
