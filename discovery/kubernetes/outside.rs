//! A source for a gateway that cannot reach pods: the node port of a service, or its load balancer.
//!
//! The Service is watched here, because it says everything that matters. Nodes change rarely and are long, so all sources
//! of a backend share one list of them, read every 30 s.

use std::collections::BTreeMap;
use std::sync::Arc;

use k8s_openapi::api::core::v1::Service;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Collection};
use super::external_name::{External, any};
use super::nodes::{Node, Nodes};
use super::service::{Balanced, Facts, Wanted, balanced};
use super::slices;
use super::target::Question;
use super::watch::Watch;
use crate::{Endpoint, Error, Snapshot, Source, async_trait};

/// Which way leads into the cluster.
#[derive(Debug, Clone)]
pub(super) enum Way {
    /// The same port of every node.
    NodePort(Arc<Nodes>),
    /// What stands before the cluster.
    LoadBalancer,
}

/// Follows the ways to one service from outside.
#[derive(Debug)]
pub(super) struct Outside {
    client: Arc<Client>,
    question: Question,
    way: Way,
    service: Watch<Service>,
    /// For a service that nodes pass on to their own pods alone.
    slices: Option<Watch<EndpointSlice>>,
    /// Names that DNS has to be asked for.
    hosts: BTreeMap<String, External>,
    /// When the nodes are looked at again.
    due: Instant,
    /// Something happened that is not told yet.
    is_behind: bool,
    known: Option<Snapshot>,
    /// The next answer is told even if nothing changed: at the start and after an error.
    must_tell: bool,
}

impl Outside {
    pub(super) fn new(client: Arc<Client>, question: Question, way: Way) -> Self {
        let services = Collection {
            fields: Some(format!("metadata.name={}", question.service)),
            ..Collection::new("", "v1", "services").of(&question.namespace)
        };
        Self {
            service: Watch::new(Arc::clone(&client), services),
            client,
            question,
            way,
            slices: None,
            hosts: BTreeMap::new(),
            due: Instant::now(),
            is_behind: false,
            known: None,
            must_tell: true,
        }
    }

    async fn step(&mut self) -> Result<Snapshot, Error> {
        loop {
            if !self.is_behind {
                self.wait().await?;
                self.is_behind = true;
            }
            let nodes = match &self.way {
                Way::NodePort(nodes) => Some(nodes.all().await?),
                Way::LoadBalancer => None,
            };
            // No await from here on: a call that is dropped has told nothing, and is still behind.
            self.due = Instant::now() + self.client.timing().poll;
            let snapshot = self.snapshot(nodes.as_deref().map(Vec::as_slice))?;
            self.is_behind = false;
            let Some(snapshot) = snapshot else { continue };
            if self.must_tell || self.known.as_ref() != Some(&snapshot) {
                self.must_tell = false;
                self.known = Some(snapshot.clone());
                return Ok(snapshot);
            }
        }
    }

    async fn wait(&mut self) -> Result<(), Error> {
        let slices = async {
            match &mut self.slices {
                Some(slices) => slices.next().await,
                None => std::future::pending().await,
            }
        };
        let polls = matches!(self.way, Way::NodePort(_)) && self.service.is_known();
        tokio::select! {
            told = self.service.next() => told.map(drop),
            told = slices => told.map(drop),
            answered = any(self.hosts.values_mut()) => answered,
            () = sleep_until(self.due), if polls => Ok(()),
        }
    }

    /// Returns what is known; `None` where something has not answered yet.
    fn snapshot(&mut self, nodes: Option<&[Node]>) -> Result<Option<Snapshot>, Error> {
        let question = &self.question;
        let wrong = |problem: String| Error::Malformed(format!("service {question}: {problem}"));
        let Some(service) = self.service.objects().next() else {
            (self.slices, self.hosts) = (None, BTreeMap::new());
            return Ok(Some(Snapshot::default()));
        };
        let facts = Facts::of(service);
        let (mut endpoints, mut hosts) = (Vec::new(), Vec::new());
        if let Some(host) = &facts.external_name {
            self.slices = None;
            hosts.push(External::path(host, &facts, &question.port).map_err(wrong)?);
        } else {
            let wanted = facts.find(&question.port).map_err(wrong)?;
            match nodes {
                Some(nodes) => {
                    let only = if facts.is_local {
                        let client = &self.client;
                        let slices = self.slices.get_or_insert_with(|| {
                            Watch::new(Arc::clone(client), Collection::slices(&question.namespace, &question.service))
                        });
                        if !slices.is_known() {
                            return Ok(None);
                        }
                        let all: Vec<&EndpointSlice> = slices.objects().collect();
                        Some(slices::nodes(&all, &wanted, facts.family.as_deref()).map_err(wrong)?)
                    } else {
                        self.slices = None;
                        None
                    };
                    endpoints = super::nodes::endpoints(nodes, &wanted, &facts, &question.namespace, only.as_ref())
                        .map_err(wrong)?;
                }
                None => {
                    for at in balanced(service, &wanted).map_err(wrong)? {
                        match at {
                            Balanced::Address(address) => {
                                let protocol = wanted.protocol();
                                endpoints.push(Endpoint { protocol, ..Endpoint::new(address) });
                            }
                            Balanced::Host(host) => {
                                let Wanted::Name { number, .. } = &wanted else { continue };
                                hosts.push(format!("{}.:{number}", host.trim_end_matches('.')));
                            }
                        }
                    }
                }
            }
        }
        self.hosts.retain(|path, _| hosts.contains(path));
        for path in hosts {
            let host = match self.hosts.remove(&path) {
                Some(host) => host,
                None => External::new(&path).map_err(wrong)?,
            };
            let known = host.known();
            self.hosts.insert(path, host);
            let Some(known) = known else { continue };
            endpoints.extend(Vec::from(known));
        }
        if self.hosts.values().any(|host| host.known().is_none()) {
            return Ok(None);
        }
        Snapshot::new(endpoints).map(Some).map_err(|error| wrong(error.to_string()))
    }
}

#[async_trait]
impl Source for Outside {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        let answer = self.step().await;
        if answer.is_err() {
            // After an error everything is asked anew.
            self.service.restart();
            self.slices = None;
            self.is_behind = false;
            self.must_tell = true;
        }
        answer
    }
}
