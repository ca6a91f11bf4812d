//! The `consul` backend: services, their sidecars and prepared queries of Consul, by an agent's HTTP interface.
//!
//! One [`Client`] per backend talks to the agent for all its sources, and one set of [`Slots`] bounds what it is asked at
//! one time. A source waits for a change by a blocking query where it may, and polls where it may not.
//!
//! `client` (with `transport`, `token` and `failure`) moves one exchange; `target` (pure) says what is asked, `instances`
//! (pure) what the answer means, `pace` (pure) how queries go on, `slots` who may ask, `watch` puts it together, `examine`
//! looks at an agent for a person. See `docs/decisions/0070-who-waits-in-consul.md`.

mod client;
mod examine;
mod failure;
mod instances;
mod pace;
pub(crate) mod register;
mod slots;
mod target;
mod token;
mod transport;
mod watch;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use slots::Slots;
use target::Question;
use watch::Watch;

use crate::{Backend, Calls, ConsulConfig, Finding, Source, Target, TargetError, async_trait};

pub(crate) use client::Client;

/// The `consul` backend.
#[derive(Debug)]
pub(crate) struct Consul {
    config: ConsulConfig,
    client: Arc<Client>,
    slots: Arc<Slots>,
}

impl Consul {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &ConsulConfig) -> Self {
        Self {
            config: config.clone(),
            client: Arc::new(Client::new(config)),
            slots: Arc::new(Slots::new(config.blocking)),
        }
    }

    fn question(&self, target: &Target) -> Result<Question, TargetError> {
        Question::parse(&target.path, &target.options, &self.config)
            .map_err(|problem| TargetError(format!("target `{target}`: {problem}")))
    }
}

#[async_trait]
impl Backend for Consul {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        let question = self.question(target)?;
        Ok(Box::new(Watch::new(question, Arc::clone(&self.client), Arc::clone(&self.slots), self.config.wait)))
    }

    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        let questions = targets.iter().map(|target| (target.to_string(), self.question(target))).collect();
        examine::examine(&self.client, questions, self.config.blocking).await
    }

    fn calls(&self) -> Calls {
        self.client.calls()
    }
}
