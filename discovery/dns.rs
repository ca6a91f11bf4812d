//! The `dns` backend: A, AAAA and SRV records, by hickory.
//!
//! One [`Client`] per backend knows the servers and talks to them for all its sources; hickory moves the bytes (UDP, TCP
//! where an answer is truncated, EDNS, ids and ports at random). What hickory's own resolver would decide above that is
//! decided here, because each of these decisions can empty a service that is well: which error ends a search list, how
//! a chain of CNAMEs is followed, what counts as "nobody is there", how long an answer holds. Nothing is cached and
//! nothing of ours runs in the background. See `docs/decisions/0055-dns-below-hickorys-resolver.md`.
//!
//! `target` reads what is asked, `resolv_conf` and `servers` who is asked, `client` asks, `message` (pure) reads one
//! answer, `lookup` puts answers together, `srv` (pure) shares weights out, `place` (pure) says which addresses are
//! taken, and `schedule` (pure) says when to ask again and when "nobody" is believed.

mod client;
mod examine;
mod lookup;
mod message;
mod place;
mod resolv_conf;
mod schedule;
mod servers;
mod srv;
mod target;

#[cfg(test)]
mod tests;

use std::sync::Arc;

use tokio::time::{Instant, sleep_until};

use client::Client;
use lookup::Outcome;
use schedule::{Doubt, Schedule};
use target::Question;

use crate::{Backend, Calls, DnsConfig, Error, Finding, Snapshot, Source, Target, TargetError, async_trait};

/// The `dns` backend.
#[derive(Debug)]
pub(crate) struct Dns {
    client: Arc<Client>,
    schedule: Schedule,
}

impl Dns {
    /// Returns a backend; nothing is read or asked before a source is.
    pub(crate) fn new(config: &DnsConfig) -> Self {
        let schedule = Schedule { min: config.min_ttl, max: config.max_ttl, ..Schedule::default() };
        Self { client: Arc::new(Client::new(config)), schedule }
    }
}

#[async_trait]
impl Backend for Dns {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        target.refuse_options()?;
        let question =
            Question::parse(&target.path).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))?;
        Ok(Box::new(Asker {
            question,
            client: Arc::clone(&self.client),
            schedule: self.schedule,
            random: fastrand::Rng::new(),
            known: None,
            must_tell: true,
            doubt: None,
            due: None,
        }))
    }

    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        examine::look(&self.client, targets).await
    }

    fn calls(&self) -> Calls {
        self.client.calls.clone()
    }
}

/// Asks one question again and again.
#[derive(Debug)]
struct Asker {
    question: Question,
    client: Arc<Client>,
    schedule: Schedule,
    random: fastrand::Rng,
    /// The last good answer, through errors too: it says whether there is something that "nobody" would take away.
    known: Option<Snapshot>,
    /// The next answer is told even if nothing changed: at the start and after an error.
    must_tell: bool,
    /// What was said against `known`, and is not believed yet.
    doubt: Option<Doubt>,
    /// When to ask next; `None`: at once.
    due: Option<Instant>,
}

#[async_trait]
impl Source for Asker {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        loop {
            if let Some(due) = self.due {
                sleep_until(due).await;
            }
            let outcome = lookup::resolve(&self.client, &self.question).await;
            // No await from here on: a call that is dropped has either learnt nothing or returned it.
            let snapshot = outcome.and_then(|outcome| self.judge(outcome, Instant::now()));
            match snapshot {
                Ok(Some(snapshot)) => return Ok(snapshot),
                Ok(None) => {}
                Err(error) => {
                    self.must_tell = true;
                    // "In a row" means in a row.
                    self.doubt = None;
                    // The caller owns the back-off.
                    self.due = None;
                    return Err(error);
                }
            }
        }
    }
}

impl Asker {
    /// Takes an outcome in and returns what is to be told, if anything is.
    fn judge(&mut self, outcome: Outcome, now: Instant) -> Result<Option<Snapshot>, Error> {
        let (snapshot, ttl) = match outcome {
            Outcome::Endpoints { endpoints, ttl } => {
                (Snapshot::new(endpoints).map_err(|error| Error::Malformed(error.to_string()))?, ttl)
            }
            Outcome::Nobody { ttl } => {
                // With nothing to lose there is nothing to confirm; what came from disk the engine holds by itself.
                if self.known.as_ref().is_some_and(|known| !known.is_empty()) {
                    let doubt = self.doubt.get_or_insert_with(|| Doubt::new(now));
                    if !doubt.another(now, &self.schedule) {
                        tracing::debug!(question = %self.question, doubt.answers, "Nobody is there, asking again.");
                        self.due = Some(now + self.schedule.confirm_after);
                        return Ok(None);
                    }
                }
                (Snapshot::default(), ttl.unwrap_or(0))
            }
        };
        self.doubt = None;
        self.due = Some(now + self.schedule.wait(ttl, &mut self.random));
        if !self.must_tell && self.known.as_ref() == Some(&snapshot) {
            return Ok(None);
        }
        self.must_tell = false;
        self.known = Some(snapshot.clone());
        Ok(Some(snapshot))
    }
}
