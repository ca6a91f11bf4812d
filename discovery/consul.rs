//! The `consul` backend.

use crate::{Backend, ConsulConfig, Source, Target, TargetError};

#[derive(Debug)]
pub(crate) struct Consul {
    config: ConsulConfig,
}

impl Consul {
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        Self { config: config.clone() }
    }
}

impl Backend for Consul {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Err(TargetError(format!("target `{target}`: {:?} is not in this build yet", self.config)))
    }
}
