//! The workload's side of the authority: a source of identities.
//!
//! ```text
//! kept on disk ──► Identity ──┐
//! challenge ─► prove ─► issue ┴► renew at half of the lifetime, with a new key ─► …
//!                                 └ refused or expired ─► prove again
//! bundle, by its hint ──────────► the same leaf beside another bundle
//! ```
//!
//! An error leaves what is in force as it is: the runner hears of it, asks again, and has the old identity until it
//! expires.

mod channel;
mod embedded;
mod pin;
mod plan;
mod remote;
mod store;
#[cfg(test)]
pub(crate) mod tests;
mod wire;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use reqwest::Url;
use ring::rand::{SecureRandom as _, SystemRandom};
use tokio::time::sleep;

use self::channel::{Channel, Granted};
use self::embedded::Embedded;
pub use self::pin::{KeyHash, KeyHashError, Pin};
use self::plan::{Schedule, Step};
use self::remote::Remote;
use self::store::{Found, Store};
use crate::attest::Prover;
use crate::authority::Issuer;
use crate::{Identity, IdentityError, IdentitySource, SourceError, TrustBundle, TrustDomain};

/// Where the authority is, and what is asked of it.
#[derive(Debug, Clone)]
pub struct AgentOptions {
    /// `https://HOST:PORT`, nothing behind it.
    pub url: AuthorityUrl,
    /// What it is known by.
    pub pin: Pin,
    /// Our trust domain.
    pub trust_domain: TrustDomain,
    /// The service that we ask to be (`node.service`).
    pub service: Option<String>,
    /// Directory that the identity is kept in over restarts; `None`: it is not kept.
    pub state_dir: Option<PathBuf>,
}

/// The URL of an authority.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthorityUrl(Url);

/// Why a text is no URL of an authority.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("expected `https://HOST:PORT`, without user, path, query and fragment")]
pub struct AuthorityUrlError;

impl std::str::FromStr for AuthorityUrl {
    type Err = AuthorityUrlError;

    fn from_str(text: &str) -> Result<Self, AuthorityUrlError> {
        let url = Url::parse(text).map_err(|_| AuthorityUrlError)?;
        let is_plain = url.scheme() == "https"
            && url.has_host()
            && url.username().is_empty()
            && url.password().is_none()
            && url.path() == "/"
            && url.query().is_none()
            && url.fragment().is_none();
        if is_plain { Ok(Self(url)) } else { Err(AuthorityUrlError) }
    }
}

impl fmt::Display for AuthorityUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.0.as_str().trim_end_matches('/'))
    }
}

type Clock = Box<dyn Fn() -> SystemTime + Send>;
type Luck = Box<dyn FnMut() -> f64 + Send>;

/// Gets an identity, keeps it fresh, and keeps it on disk.
pub struct Agent {
    channel: Box<dyn Channel>,
    store: Option<Store>,
    clock: Clock,
    luck: Luck,
    has_looked_on_disk: bool,
    current: Option<(Arc<Identity>, Schedule)>,
    /// What was learned last of the authority's roots; newer than the identity's where that cannot be used with it.
    bundle: Option<Arc<TrustBundle>>,
    /// Whether the caller has yet to be told of what is current: a call that was dropped in the middle loses nothing.
    is_news: bool,
}

impl fmt::Debug for Agent {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Agent")
            .field("channel", &self.channel)
            .field("current", &self.current)
            .finish_non_exhaustive()
    }
}

#[async_trait]
impl IdentitySource for Agent {
    /// Cancel-safe: what was issued meanwhile is returned by the next call.
    async fn next(&mut self) -> Result<Arc<Identity>, SourceError> {
        if !self.has_looked_on_disk {
            self.load().await;
        }
        loop {
            if self.is_news
                && let Some((identity, _)) = &self.current
            {
                self.is_news = false;
                return Ok(identity.clone());
            }
            match plan::step(self.current.as_ref().map(|(_, schedule)| schedule), (self.clock)()) {
                Step::Attest => self.attest().await?,
                Step::Renew => self.renew().await?,
                Step::Look => self.look().await?,
                Step::Sleep(pause) => sleep(pause).await,
            }
        }
    }
}

impl Agent {
    /// Asks an authority in the network; `prover` shows it what we are.
    #[must_use]
    pub fn new(options: AgentOptions, prover: Arc<dyn Prover>) -> Self {
        let AgentOptions { url, pin, trust_domain, service, state_dir } = options;
        let store = state_dir.map(|directory| Store {
            directory,
            trust_domain: trust_domain.clone(),
            service: service.clone(),
            pin: pin.clone(),
        });
        Self::over(Box::new(Remote { url: url.0, pin, trust_domain, service, prover, lost: None }), store)
    }

    /// Asks the authority of this process for the identity of `service`. Nothing is kept on disk: it is always there.
    #[must_use]
    pub fn embedded(issuer: Arc<dyn Issuer>, service: String) -> Self {
        Self::over(Box::new(Embedded { issuer, service }), None)
    }

    fn over(channel: Box<dyn Channel>, store: Option<Store>) -> Self {
        Self {
            channel,
            store,
            clock: Box::new(SystemTime::now),
            luck: Box::new(draw),
            has_looked_on_disk: false,
            current: None,
            bundle: None,
            is_news: false,
        }
    }

    async fn load(&mut self) {
        if let Some(store) = self.store.clone() {
            let now = (self.clock)();
            let found = tokio::task::spawn_blocking(move || store.load(now)).await;
            let Found { identity, bundle } = found.unwrap_or_default();
            self.bundle = bundle;
            if let Some(identity) = identity {
                tracing::info!(id = %identity.id(), left = ?identity.left(now), "Begins with the identity that was kept.");
                self.adopt(identity);
            }
        }
        self.has_looked_on_disk = true;
    }

    async fn attest(&mut self) -> Result<(), SourceError> {
        let granted = self.channel.attest(self.bundle.as_ref()).await?;
        self.take(granted).await
    }

    async fn renew(&mut self) -> Result<(), SourceError> {
        let Some((identity, _)) = self.current.clone() else { return self.attest().await };
        let refused = match self.channel.renew(&identity, self.bundle.as_ref()).await {
            Ok(granted) => return self.take(granted).await,
            Err(SourceError::Denied(why)) => why,
            Err(error) => return Err(error),
        };
        tracing::warn!(why = refused, "This identity is not renewed: proving anew what this workload is.");
        self.attest().await.map_err(|error| match error {
            SourceError::Denied(why) => SourceError::Denied(format!("{why}; and before, to renew: {refused}")),
            other => other,
        })
    }

    async fn look(&mut self) -> Result<(), SourceError> {
        let Some((identity, mut schedule)) = self.current.clone() else { return Ok(()) };
        let told = self.channel.bundle(self.bundle.as_ref()).await?;
        let now = (self.clock)();
        schedule.look_at = self.next_look(&identity, &told, now);
        let bundle = newest(self.bundle.take(), told);
        self.bundle = Some(bundle.clone());
        if bundle == *identity.bundle() {
            self.current = Some((identity, schedule));
            return Ok(());
        }
        match identity.with_bundle(bundle.clone(), now) {
            Ok(changed) => {
                tracing::info!(sequence = bundle.sequence, roots = bundle.roots.len(), "The trust bundle changed.");
                self.current = Some((Arc::new(changed), schedule));
                self.is_news = true;
                self.save().await;
            }
            Err(why) => {
                tracing::warn!(%why, sequence = bundle.sequence, "The bundle changed and does not know who issued \
                     this leaf: asking for another one.");
                schedule.renew_at = now;
                self.current = Some((identity, schedule));
            }
        }
        Ok(())
    }

    /// Puts what was issued in force.
    async fn take(&mut self, granted: Granted) -> Result<(), SourceError> {
        let Granted { key, chain, bundle } = granted;
        let bundle = newest(self.bundle.clone(), bundle);
        let identity = Identity::new(chain, key, bundle.clone(), (self.clock)()).map_err(|why| unusable(&why))?;
        self.bundle = Some(bundle);
        tracing::info!(
            id = %identity.id(),
            serial = identity.leaf().serial,
            lifetime = ?identity.leaf().not_after.duration_since(identity.leaf().not_before).unwrap_or_default(),
            "An identity was issued."
        );
        self.adopt(Arc::new(identity));
        let now = (self.clock)();
        if let Some((_, schedule)) = &mut self.current {
            schedule.renew_at = plan::renew_at(schedule.renew_at, schedule.not_after, now);
        }
        self.save().await;
        Ok(())
    }

    fn adopt(&mut self, identity: Arc<Identity>) {
        let now = (self.clock)();
        let schedule = Schedule {
            not_after: identity.leaf().not_after,
            renew_at: identity.renew_at((self.luck)()),
            look_at: self.next_look(&identity, identity.bundle(), now),
        };
        self.current = Some((identity, schedule));
        self.is_news = true;
    }

    fn next_look(&mut self, identity: &Identity, bundle: &TrustBundle, now: SystemTime) -> SystemTime {
        let leaf = identity.leaf();
        let lifetime = leaf.not_after.duration_since(leaf.not_before).unwrap_or_default();
        now + plan::look_after(bundle.refresh_hint, lifetime, (self.luck)())
    }

    /// What cannot be kept is in force all the same.
    async fn save(&mut self) {
        let (Some(store), Some((identity, _))) = (self.store.clone(), self.current.clone()) else { return };
        let directory = store.directory.clone();
        let saved = tokio::task::spawn_blocking(move || store.save(&identity)).await;
        if let Err(error) = saved.unwrap_or_else(|error| Err(std::io::Error::other(error))) {
            tracing::warn!(
                directory = %directory.display(), %error,
                "The identity is not kept: after a restart it has to be asked for again."
            );
        }
    }
}

/// A bundle gives way to one with a larger number alone.
fn newest(known: Option<Arc<TrustBundle>>, told: TrustBundle) -> Arc<TrustBundle> {
    let Some(known) = known else { return Arc::new(told) };
    if told.sequence > known.sequence {
        return Arc::new(told);
    }
    if told.sequence < known.sequence {
        tracing::warn!(
            known = known.sequence,
            told = told.sequence,
            "The authority tells an older trust bundle than before; it is refused."
        );
    } else if told.roots != known.roots {
        tracing::warn!(sequence = known.sequence, "The authority tells other roots under the same number; refused.");
    }
    known
}

fn unusable(why: &IdentityError) -> SourceError {
    SourceError::Malformed(format!("what the authority issued cannot be used: {why}"))
}

/// Draws from 0 to 1; without luck, the middle.
fn draw() -> f64 {
    let mut bytes = [0; 4];
    match SystemRandom::new().fill(&mut bytes) {
        Ok(()) => f64::from(u32::from_ne_bytes(bytes)) / f64::from(u32::MAX),
        Err(_) => 0.5,
    }
}
