//! The `kubernetes` backend.

use crate::{Backend, KubernetesConfig, Source, Target, TargetError};

#[derive(Debug)]
pub(crate) struct Kubernetes {
    config: KubernetesConfig,
}

impl Kubernetes {
    pub(crate) fn new(config: &KubernetesConfig) -> Self {
        Self { config: config.clone() }
    }
}

impl Backend for Kubernetes {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Err(TargetError(format!("target `{target}`: {:?} is not in this build yet", self.config)))
    }
}
