//! The one runner of identity sources.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use meshless_certs::{Identity, IdentitySource, Mesh, SourceError};
use tokio::time::{Instant, interval, sleep_until};

use super::Standing;
use super::alarm::{Alarm, alarm};
use crate::follow::backoff::Backoff;
use crate::telemetry::metrics::IdentitySeries;

/// Longest first wait after a failure.
const FIRST: Duration = Duration::from_millis(200);
/// How often the time that an identity has left is looked at.
const LOOK: Duration = Duration::from_secs(1);

/// Waits for identities and puts them in force.
pub(super) struct Follower {
    pub(super) mesh: Arc<Mesh>,
    pub(super) standing: Arc<Standing>,
    pub(super) series: IdentitySeries,
    pub(super) random: fastrand::Rng,
}

impl Follower {
    /// Follows a source for ever; after failures it waits at most `longest`.
    pub(super) async fn run(mut self, mut source: Box<dyn IdentitySource>, longest: Duration) {
        let mut backoff = Backoff::new(FIRST, longest);
        let mut look = interval(LOOK);
        let (mut told, mut alarmed) = (None, Alarm::None);
        loop {
            let next = {
                let mut asking = source.next();
                loop {
                    tokio::select! {
                        next = &mut asking => break next,
                        _ = look.tick() => self.look(&mut alarmed),
                    }
                }
            };
            let error = match next {
                Ok(identity) => {
                    backoff.reset();
                    if told.take().is_some() {
                        tracing::info!("The identity can be had again.");
                    }
                    self.take(identity);
                    alarmed = Alarm::None;
                    continue;
                }
                Err(error) => error,
            };
            let wait = match &error {
                SourceError::Throttled { retry_after: Some(asked) } => backoff.asked(*asked, &mut self.random),
                _ => backoff.next(&mut self.random),
            };
            self.note(&error, &mut told);
            let until = Instant::now() + wait;
            loop {
                tokio::select! {
                    () = sleep_until(until) => break,
                    _ = look.tick() => self.look(&mut alarmed),
                }
            }
        }
    }

    fn take(&self, identity: Arc<Identity>) {
        self.standing.came();
        let before = self.mesh.identity();
        let is_same = |before: &Arc<Identity>| {
            before.chain() == identity.chain() && before.key() == identity.key() && before.bundle() == identity.bundle()
        };
        // What was agreed on under an identity is forgotten with it, so the same one is not put in force again.
        if before.as_ref().is_some_and(is_same) {
            return;
        }
        let leaf = identity.leaf();
        let not_after = crate::telemetry::timestamp::Timestamp(leaf.not_after);
        let (id, serial, bundle) = (&leaf.id, &leaf.serial, identity.bundle().sequence);
        tracing::info!(%id, serial, %not_after, bundle, roots = identity.bundle().roots.len(), "An identity is in force.");
        self.series.refreshed(leaf.not_after);
        self.mesh.publish(identity);
    }

    fn note(&self, error: &SourceError, told: &mut Option<String>) {
        self.series.failed(error.label());
        let why = error.to_string();
        self.standing.failed(&why);
        // The same again is not news; the metric counts it.
        if told.as_ref() != Some(&why) {
            let has_one = self.standing.has_one();
            tracing::warn!(%error, has_one, "The identity cannot be had; what is in force stays until it expires.");
            *told = Some(why);
        }
    }

    /// Tells, once each, that an identity is about to expire and that it has.
    fn look(&self, alarmed: &mut Alarm) {
        let Some(identity) = self.mesh.identity() else { return };
        let now = SystemTime::now();
        let alarm = alarm(identity.leaf(), now);
        if alarm <= *alarmed {
            return;
        }
        *alarmed = alarm;
        let id = &identity.leaf().id;
        match alarm {
            Alarm::None => {}
            Alarm::Soon => {
                let left = crate::config::units::Period(Duration::from_secs(identity.left(now).as_secs()));
                tracing::warn!(%id, %left, "The identity was not renewed and expires soon.");
            }
            Alarm::Expired => {
                tracing::error!(%id, "The identity has expired: nobody is spoken to and nobody let in by mesh TLS.");
            }
        }
    }
}
