//! The identity of this workload: opens where it comes from, follows it, and puts it in force.
//!
//! [`Mesh`] is the one place where an identity is: every handshake takes it from there, so what is served cannot be older
//! than what was taken last. An authority that does not answer, or that answers what cannot be used, changes nothing: the
//! identity that is there stays until it expires, and long before that somebody is told.

mod alarm;
mod feed;
mod follow;
mod source;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use meshless_certs::{Identity, IdentitySource, Mesh, fingerprint, hex};
use tokio::task::JoinHandle;

pub use self::feed::IdentityFeed;
pub(super) use self::source::Around;
use super::StartError;
use crate::admin::{IdentityView, RootView};
use crate::config::{self, Authority, Config};
use crate::telemetry::metrics::IdentitySeries;
use crate::telemetry::timestamp::Timestamp;

/// Follows the identity that the configuration asks for.
#[derive(Debug)]
pub(super) struct Identities {
    mesh: Arc<Mesh>,
    standing: Arc<Standing>,
    series: IdentitySeries,
    seed: u64,
    around: Around,
    running: Option<Running>,
}

#[derive(Debug)]
struct Running {
    config: config::Identity,
    task: JoinHandle<()>,
}

impl Drop for Running {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// What a configuration asks for, opened and not yet in force.
#[derive(Debug)]
pub(super) enum Opened {
    /// The same as before.
    Kept,
    /// None.
    None,
    /// Another one.
    Other(Box<Other>),
}

/// An identity that comes from elsewhere than before.
#[derive(Debug)]
pub(super) struct Other {
    config: config::Identity,
    source: Box<dyn IdentitySource>,
    longest: Duration,
}

/// Where the identity stands, for everybody who tells of it.
#[derive(Debug)]
pub(super) struct Standing {
    mesh: Arc<Mesh>,
    told: Mutex<Told>,
}

#[derive(Debug, Default)]
struct Told {
    /// What is asked for; `None`: no identity.
    asked: Option<Asked>,
    /// Why the last try to get one failed; `None` where it did not.
    last_error: Option<String>,
    /// Something came of the first try.
    answered: bool,
}

#[derive(Debug, Clone)]
struct Asked {
    trust_domain: String,
    source: String,
    /// It is us who renew it.
    renews: bool,
}

impl Identities {
    pub(super) fn new(mesh: Arc<Mesh>, series: IdentitySeries, seed: u64, around: Around) -> Self {
        let standing = Arc::new(Standing { mesh: mesh.clone(), told: Mutex::default() });
        Self { mesh, standing, series, seed, around, running: None }
    }

    /// Returns where the identity stands.
    pub(super) fn standing(&self) -> &Arc<Standing> {
        &self.standing
    }

    /// Opens what a configuration asks for. Nobody is asked yet; what this build cannot do is an error.
    pub(super) fn open(&self, config: &Config) -> Result<Opened, StartError> {
        let Some(wanted) = &config.identity else { return Ok(Opened::None) };
        if self.running.as_ref().is_some_and(|running| running.config == *wanted) {
            return Ok(Opened::Kept);
        }
        let (source, longest) = source::open(wanted, &self.around)?;
        Ok(Opened::Other(Box::new(Other { config: wanted.clone(), source, longest })))
    }

    /// Begins to follow what was opened. The identity that is in force stays until another one comes.
    pub(super) fn commit(&mut self, opened: Opened) {
        match opened {
            Opened::Kept => {}
            Opened::None => {
                self.running = None;
                *self.standing.told() = Told::default();
            }
            Opened::Other(other) => {
                let Other { config, source, longest } = *other;
                self.running = None;
                let asked = Asked {
                    trust_domain: config.trust_domain.to_string(),
                    source: described(&config.authority),
                    renews: !matches!(config.authority, Authority::Files { .. }),
                };
                *self.standing.told() = Told { asked: Some(asked), ..Told::default() };
                let follower = follow::Follower {
                    mesh: self.mesh.clone(),
                    standing: self.standing.clone(),
                    series: self.series.clone(),
                    random: fastrand::Rng::with_seed(self.seed),
                };
                let task = tokio::spawn(follower.run(source, longest));
                self.running = Some(Running { config, task });
            }
        }
    }

    /// Waits until the first try of what is followed came to something, or `longest`.
    pub(super) async fn first(&self, longest: Duration) {
        let answered = async {
            while self.running.is_some() && !self.standing.told().answered {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let _ = tokio::time::timeout(longest, answered).await;
    }
}

fn described(authority: &Authority) -> String {
    match authority {
        Authority::Embedded { .. } => "embedded".to_owned(),
        Authority::Files { chain, .. } => format!("files ({})", chain.display()),
        Authority::Remote { address, .. } => address.to_string(),
    }
}

impl Standing {
    /// Says why there is no identity although one is asked for, or why it is worth nothing; `None`: all is well.
    pub(super) fn missing(&self, now: SystemTime) -> Option<String> {
        let told = self.told();
        told.asked.as_ref()?;
        let because = || told.last_error.as_deref().map(|why| format!(": {why}")).unwrap_or_default();
        match self.mesh.identity() {
            None => Some(format!("identity: none yet{}", because())),
            Some(identity) if identity.left(now).is_zero() => Some(format!("identity: it has expired{}", because())),
            Some(_) => None,
        }
    }

    /// Says whether there has been an identity.
    pub(super) fn has_one(&self) -> bool {
        self.mesh.identity().is_some()
    }

    /// Returns all of it; `None` where no identity is asked for.
    pub(super) fn view(&self, now: SystemTime) -> Option<IdentityView> {
        let told = self.told();
        let asked = told.asked.clone()?;
        let last_error = told.last_error.clone();
        drop(told);
        let identity = self.mesh.identity();
        let leaf = identity.as_ref().map(|identity| identity.leaf());
        let time = |at: SystemTime| Timestamp(at).to_string();
        let roots = |identity: &Arc<Identity>| {
            identity.bundle().roots.iter().map(|root| RootView { sha256: hex(&fingerprint(root)) }).collect()
        };
        Some(IdentityView {
            trust_domain: asked.trust_domain,
            source: asked.source,
            id: leaf.map(|leaf| leaf.id.to_string()),
            serial: leaf.map(|leaf| leaf.serial.clone()),
            not_before: leaf.map(|leaf| time(leaf.not_before)),
            not_after: leaf.map(|leaf| time(leaf.not_after)),
            left_seconds: identity.as_ref().map(|identity| identity.left(now).as_secs_f64()),
            renew_at: identity.as_ref().filter(|_| asked.renews).map(|identity| time(identity.renew_at(0.5))),
            bundle_sequence: identity.as_ref().map(|identity| identity.bundle().sequence),
            roots: identity.as_ref().map(roots).unwrap_or_default(),
            last_error,
            plaintext: Vec::new(),
        })
    }

    fn told(&self) -> MutexGuard<'_, Told> {
        // What is told is replaced piece by piece; a panic elsewhere leaves nothing half done.
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An identity came.
    fn came(&self) {
        let mut told = self.told();
        told.answered = true;
        told.last_error = None;
    }

    /// None came.
    fn failed(&self, why: &str) {
        let mut told = self.told();
        told.answered = true;
        told.last_error = Some(why.to_owned());
    }
}
