//! The `ecs` backend.

use crate::{Backend, EcsConfig, Source, Target, TargetError};

#[derive(Debug)]
pub(crate) struct Ecs {
    config: EcsConfig,
}

impl Ecs {
    pub(crate) fn new(config: &EcsConfig) -> Self {
        Self { config: config.clone() }
    }
}

impl Backend for Ecs {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Err(TargetError(format!("target `{target}`: {:?} is not in this build yet", self.config)))
    }
}
