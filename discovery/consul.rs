//! The `consul` backend.

mod client;
mod failure;
mod token;
mod transport;

use crate::{Backend, ConsulConfig, Source, Target, TargetError};

#[allow(unused_imports, reason = "registration asks with the same client")]
pub(crate) use client::{Ask, Client, Reply};

#[derive(Debug)]
pub(crate) struct Consul {
    client: Client,
}

impl Consul {
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        Self { client: Client::new(config) }
    }
}

impl Backend for Consul {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Err(TargetError(format!("target `{target}`: not yet")))
    }
}
