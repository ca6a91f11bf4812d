//! An identity for another program: followed as a gateway follows its own, without a gateway.

use std::sync::Arc;
use std::time::Duration;

use meshless_certs::{Identity, Mesh};
use tokio::runtime::{Builder, Runtime};
use tokio::time::{Instant, sleep};

use super::{Around, Identities, Opened};
use crate::compose::{Options, StartError, place};
use crate::config::{self, Authority};
use crate::telemetry::metrics::{ControlMetrics, Registry};

/// How often it is looked whether another identity is in force.
const LOOK: Duration = Duration::from_millis(100);

/// The identity that a configuration asks for, kept fresh as long as this is there.
#[derive(Debug)]
pub struct IdentityFeed {
    identities: Identities,
    mesh: Arc<Mesh>,
    seen: u64,
    // Last: what follows runs on it.
    _runtime: Runtime,
}

impl IdentityFeed {
    /// Reads the configuration and begins to follow `[identity]`; nothing else of it is opened.
    pub fn start(options: Options) -> Result<Self, StartError> {
        let options = place::located(options)?;
        let loaded =
            config::load(&options.paths, &*options.surroundings, &options.sets).map_err(StartError::Configuration)?;
        let Some(identity) = &loaded.config.identity else {
            return Err(StartError::Unusable("there is no `[identity]` in the configuration".to_owned()));
        };
        if matches!(identity.authority, Authority::Embedded { .. }) {
            return Err(StartError::Unusable(
                "identity.authority: `embedded` is the authority of the process that runs the gateway; \
                 write its URL (`ca.listen`) in a configuration for this command"
                    .to_owned(),
            ));
        }
        let registry = Registry::new(Instant::now().into_std());
        let metrics = ControlMetrics::new(&registry);
        let mesh = Arc::<Mesh>::default();
        let around = Around {
            surroundings: options.surroundings.clone(),
            authority: None,
            state_dir: loaded.config.node.state_dir.clone(),
        };
        let runtime = Builder::new_multi_thread().worker_threads(1).thread_name("identity").enable_all().build()?;
        let mut identities = Identities::new(mesh.clone(), metrics.identity(), fastrand::u64(..), around);
        let opened: Opened = identities.open(&loaded.config)?;
        let entered = runtime.enter();
        identities.commit(opened);
        drop(entered);
        Ok(Self { identities, mesh, seen: 0, _runtime: runtime })
    }

    /// Waits until another identity is in force than at the last call, and returns it.
    pub async fn next(&mut self) -> Arc<Identity> {
        loop {
            let generation = self.mesh.generation();
            if generation != self.seen
                && let Some(identity) = self.mesh.identity()
            {
                self.seen = generation;
                return identity;
            }
            sleep(LOOK).await;
        }
    }

    /// Says why there is none yet, as far as that is known.
    pub fn missing(&self) -> Option<String> {
        self.identities.standing().missing(std::time::SystemTime::now())
    }
}
