//! The objects of the Gateway API that are read: `HTTPRoute` and `GRPCRoute` of one namespace.
//!
//! Both kinds are one answer. A cluster may serve one of them alone, because an older Gateway API is installed: that kind
//! has no objects then, and is looked for again. A kind that was served and is not any more is an error: API servers that
//! start say so of kinds that they have not read yet, and then every route would be gone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use kube::api::DynamicObject;
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};

use super::client::{Client, Collection, is_not_served};
use super::watch::{Told, Watch};
use crate::{Error, ObjectSource};

/// API group of both kinds.
const GROUP: &str = "gateway.networking.k8s.io";
/// How often a kind is looked for that the cluster did not serve.
const LOOK: Duration = Duration::from_mins(1);

/// A source of the objects of one namespace.
#[derive(Debug)]
pub(super) struct Routes {
    client: Arc<Client>,
    /// Made at the first call: the namespace may be that of the account.
    kinds: Option<[Kind; 2]>,
    /// What was returned last; `None`: nothing yet, or an error was.
    last: Option<Vec<Value>>,
}

/// One of both kinds.
#[derive(Debug)]
struct Kind {
    name: &'static str,
    watch: Watch<DynamicObject>,
    state: State,
    was_served: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    /// Its objects are not known.
    Unknown,
    Known,
    /// The cluster does not serve it; it is looked for again then.
    Absent(Instant),
}

impl Routes {
    pub(super) fn new(client: Arc<Client>) -> Self {
        Self { client, kinds: None, last: None }
    }

    /// Waits until the objects are others than those that were returned last.
    async fn changed(&mut self) -> Result<Vec<Value>, Error> {
        if self.kinds.is_none() {
            let namespace = self.client.namespace().await?;
            let kind = |name, resource| {
                let collection = Collection::new(GROUP, "v1", resource).of(&namespace);
                let watch = Watch::new(Arc::clone(&self.client), collection);
                Kind { name, watch, state: State::Unknown, was_served: false }
            };
            self.kinds = Some([kind("HTTPRoute", "httproutes"), kind("GRPCRoute", "grpcroutes")]);
        }
        let Some([http, grpc]) = &mut self.kinds else { return Err(Error::Unreachable("no client yet".to_owned())) };
        loop {
            tokio::select! {
                told = http.next() => told?,
                told = grpc.next() => told?,
            }
            if http.state == State::Unknown || grpc.state == State::Unknown {
                continue;
            }
            if !http.was_served && !grpc.was_served {
                return Err(Error::Malformed(format!(
                    "the cluster serves no HTTPRoute and no GRPCRoute of {GROUP}/v1: install the Gateway API, or take \
                     `routes = true` away"
                )));
            }
            let objects: Vec<Value> = http.objects().chain(grpc.objects()).collect();
            if self.last.as_ref() != Some(&objects) {
                return Ok(objects);
            }
        }
    }
}

impl Kind {
    /// Waits until something happened to its objects. Cancel-safe.
    async fn next(&mut self) -> Result<(), Error> {
        if let State::Absent(until) = self.state {
            sleep_until(until).await;
        }
        loop {
            match self.watch.next().await {
                Ok(Told::Renewed) => {}
                Ok(Told::Listed | Told::Changed) => {
                    (self.state, self.was_served) = (State::Known, true);
                    return Ok(());
                }
                Err(error) if is_not_served(&error) && !self.was_served => {
                    self.state = State::Absent(Instant::now() + LOOK);
                    return Ok(());
                }
                Err(error) => {
                    self.state = State::Unknown;
                    return Err(error);
                }
            }
        }
    }

    /// Returns its objects, with what is read of them: a status that is written changes nothing.
    fn objects(&self) -> impl Iterator<Item = Value> {
        self.watch.objects().map(|object| {
            let metadata = &object.metadata;
            let created = metadata.creation_timestamp.as_ref().and_then(|time| serde_json::to_value(time).ok());
            json!({
                "kind": self.name,
                "metadata": {
                    "name": metadata.name,
                    "namespace": metadata.namespace,
                    "creationTimestamp": created,
                },
                "spec": object.data.get("spec"),
            })
        })
    }
}

#[async_trait]
impl ObjectSource for Routes {
    async fn next(&mut self) -> Result<Vec<Value>, Error> {
        let changed = self.changed().await;
        if let Ok(objects) = &changed {
            self.last = Some(objects.clone());
        } else {
            self.last = None;
            // Both have to be there again before anything is told.
            for kind in self.kinds.iter_mut().flatten() {
                kind.watch.restart();
                kind.state = State::Unknown;
            }
        }
        changed
    }
}

#[cfg(test)]
mod tests;
