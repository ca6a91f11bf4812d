//! The `cloudmap` backend.

use crate::{Backend, CloudmapConfig, Source, Target, TargetError};

#[derive(Debug)]
pub(crate) struct Cloudmap {
    config: CloudmapConfig,
}

impl Cloudmap {
    pub(crate) fn new(config: &CloudmapConfig) -> Self {
        Self { config: config.clone() }
    }
}

impl Backend for Cloudmap {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Err(TargetError(format!("target `{target}`: {:?} is not in this build yet", self.config)))
    }
}
