//! A source that knows the pods of a service: its EndpointSlices, watched, and its Service, read.
//!
//! The Service says which port is meant and whether DNS stands for it. It is read again whenever the slices are listed,
//! the watch is renewed or the ports of the slices change; a service that is not there, or that DNS stands for, has no
//! slices that would tell, so it is read every 30 s.

use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::{EndpointPort, EndpointSlice};
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Collection};
use super::external_name::External;
use super::service::Facts;
use super::slices;
use super::target::Question;
use super::watch::{Told, Watch};
use crate::{Error, Snapshot, Source, async_trait};

/// Follows the pods of one service.
#[derive(Debug)]
pub(super) struct Pods {
    client: Arc<Client>,
    question: Question,
    watch: Watch<EndpointSlice>,
    /// What the Service says; `None`: to be read. Inside: `None` where there is no such Service.
    facts: Option<Option<Facts>>,
    /// What the slices were when it was read.
    shape: Vec<(String, Vec<EndpointPort>)>,
    /// When it is read again, where nothing else would tell.
    due: Instant,
    /// Asks DNS, for a service of the type `ExternalName`.
    external: Option<External>,
    /// Something happened that is not told yet.
    is_behind: bool,
    known: Option<Snapshot>,
    /// The next answer is told even if nothing changed: at the start and after an error.
    must_tell: bool,
}

/// What ended a wait.
enum Woke {
    Slices(Told),
    External,
    Due,
}

impl Pods {
    pub(super) fn new(client: Arc<Client>, question: Question) -> Self {
        let slices = Collection::slices(&question.namespace, &question.service);
        Self {
            watch: Watch::new(Arc::clone(&client), slices),
            client,
            question,
            facts: None,
            shape: Vec::new(),
            due: Instant::now(),
            external: None,
            is_behind: false,
            known: None,
            must_tell: true,
        }
    }

    async fn step(&mut self) -> Result<Snapshot, Error> {
        loop {
            if !self.is_behind {
                let woke = self.wait().await?;
                // No await between what was taken and this.
                self.is_behind = true;
                match woke {
                    Woke::Slices(Told::Changed) if self.shape == slices::shape(self.watch.objects()) => {}
                    Woke::Slices(_) | Woke::Due => self.facts = None,
                    Woke::External => {}
                }
            }
            if self.facts.is_none() {
                let services = Collection::new("", "v1", "services").of(&self.question.namespace);
                let service = self.client.get::<Service>(&services, &self.question.service).await?;
                self.facts = Some(service.as_ref().map(Facts::of));
                self.shape = slices::shape(self.watch.objects());
                self.due = Instant::now() + self.client.timing().poll;
            }
            // No await from here on: a call that is dropped has told nothing, and is still behind.
            let Some(snapshot) = self.snapshot()? else {
                self.is_behind = false;
                continue;
            };
            self.is_behind = false;
            if self.must_tell || self.known.as_ref() != Some(&snapshot) {
                self.must_tell = false;
                self.known = Some(snapshot.clone());
                return Ok(snapshot);
            }
        }
    }

    async fn wait(&mut self) -> Result<Woke, Error> {
        let needs_reading = self.external.is_some() || matches!(self.facts, Some(None));
        let due = self.due;
        let external = async {
            match &mut self.external {
                Some(external) => external.next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            told = self.watch.next() => Ok(Woke::Slices(told?)),
            answered = external => answered.map(|()| Woke::External),
            () = sleep_until(due), if needs_reading => Ok(Woke::Due),
        }
    }

    /// Returns what is known; `None` where DNS has not answered yet.
    fn snapshot(&mut self) -> Result<Option<Snapshot>, Error> {
        // A service that is not there has nobody: it may come, or another tier may have somebody.
        let Some(facts) = self.facts.as_ref().and_then(Option::as_ref) else {
            self.external = None;
            return Ok(Some(Snapshot::default()));
        };
        let wrong = |problem: String| Error::Malformed(format!("service {}: {problem}", self.question));
        if let Some(host) = &facts.external_name {
            let path = External::path(host, facts, &self.question.port).map_err(wrong)?;
            let before = self.external.take().filter(|external| external.is_at(&path));
            let external = before.map_or_else(|| External::new(&path), Ok).map_err(wrong)?;
            let known = external.known();
            self.external = Some(external);
            return Ok(known);
        }
        self.external = None;
        let wanted = facts.find(&self.question.port).map_err(wrong)?;
        let all: Vec<&EndpointSlice> = self.watch.objects().collect();
        let endpoints = slices::endpoints(&all, &wanted, facts.family.as_deref()).map_err(wrong)?;
        Snapshot::new(endpoints).map(Some).map_err(|error| wrong(error.to_string()))
    }
}

#[async_trait]
impl Source for Pods {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        let answer = self.step().await;
        if answer.is_err() {
            // After an error everything is asked anew.
            self.watch.restart();
            self.facts = None;
            self.is_behind = false;
            self.must_tell = true;
        }
        answer
    }
}
