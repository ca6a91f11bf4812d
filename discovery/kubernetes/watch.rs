//! Keeps the objects of a collection as they are now: a list, then a watch from its version on.
//!
//! What is known is replaced as a whole when it is listed anew, never emptied first. An ordinary end of a watch is
//! followed by the next one from the same place; when the server no longer knows that place (410), when it breaks off,
//! after an error, or when it told nothing for as long as no server keeps still (`docs/decisions/0100`), everything is
//! listed anew.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use kube::ResourceExt;
use serde::de::DeserializeOwned;
use tokio::time::Instant;

use super::client::{Client, Collection};
use super::stream::{Event, Stream};
use crate::Error;

/// A watch that ends sooner and told nothing is renewed once; if the next one does the same the caller has to back off.
const SHORTEST: Duration = Duration::from_secs(1);

/// What happened to the objects.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Told {
    /// They were listed, for the first time or anew: anything may have changed.
    Listed,
    /// Some came, changed or went.
    Changed,
    /// The watch began anew where the last one ended; nothing changed.
    Renewed,
}

/// The objects of a collection, by namespace and name.
#[derive(Debug)]
pub(crate) struct Watch<K> {
    client: Arc<Client>,
    collection: Collection,
    objects: BTreeMap<(String, String), K>,
    state: State<K>,
    /// The last watch was too short.
    was_short: bool,
    random: fastrand::Rng,
}

#[derive(Debug)]
enum State<K> {
    /// They have to be listed.
    Unlisted,
    /// They were known at this version.
    Known(String),
    /// They are watched; the version is that of the last event.
    Watched { stream: Box<Stream<K>>, version: String, since: Instant, has_told: bool },
}

impl<K: ResourceExt + DeserializeOwned> Watch<K> {
    /// Returns a watch that has not begun.
    pub(crate) fn new(client: Arc<Client>, collection: Collection) -> Self {
        let (objects, state, random) = (BTreeMap::new(), State::Unlisted, fastrand::Rng::new());
        Self { client, collection, objects, state, was_short: false, random }
    }

    /// Returns the objects as they are known.
    pub(crate) fn objects(&self) -> impl Iterator<Item = &K> {
        self.objects.values()
    }

    /// Tells whether the objects have been listed since the last error.
    pub(crate) fn is_known(&self) -> bool {
        !matches!(self.state, State::Unlisted)
    }

    /// Lists anew at the next call.
    pub(crate) fn restart(&mut self) {
        self.state = State::Unlisted;
    }

    /// Waits until something happened. The first call, and the first one after an error, lists. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Told, Error> {
        let told = self.step().await;
        if told.is_err() {
            self.restart();
        }
        told
    }

    async fn step(&mut self) -> Result<Told, Error> {
        loop {
            match &mut self.state {
                State::Unlisted => {
                    let listed = self.client.list::<K>(&self.collection).await?;
                    self.objects = listed.items.into_iter().map(|object| (key(&object), object)).collect();
                    self.state = State::Known(listed.version);
                    return Ok(Told::Listed);
                }
                State::Known(version) => {
                    let version = version.clone();
                    let (shortest, longest) = self.client.timing().watch;
                    let lasts = shortest + longest.saturating_sub(shortest).mul_f64(self.random.f64());
                    self.state = match self.client.watch(&self.collection, &version, lasts).await? {
                        None => State::Unlisted,
                        Some(stream) => {
                            let stream = Box::new(stream);
                            State::Watched { stream, version, since: Instant::now(), has_told: false }
                        }
                    };
                }
                State::Watched { stream, version, since, has_told } => {
                    let Some(event) = stream.next().await? else {
                        let was_short = self.was_short;
                        let (lasted, was_silent) = (since.elapsed(), !*has_told);
                        self.was_short = lasted < SHORTEST && was_silent;
                        if was_silent && lasted >= self.client.timing().silence {
                            // The version is one that the server has not come to: it may never tell anything from there.
                            tracing::debug!(collection = %self.collection, ?lasted, "A watch told nothing at all.");
                            self.state = State::Unlisted;
                            continue;
                        }
                        self.state = State::Known(std::mem::take(version));
                        if was_short && self.was_short {
                            return Err(Error::Unreachable(format!(
                                "watch of {}: it ends as soon as it begins",
                                self.collection
                            )));
                        }
                        return Ok(Told::Renewed);
                    };
                    *has_told = true;
                    // No await from here on: a call that is dropped took nothing.
                    if self.take(event)? {
                        return Ok(Told::Changed);
                    }
                }
            }
        }
    }

    /// Takes an event and all that came with it; tells whether any object changed.
    fn take(&mut self, first: Event<K>) -> Result<bool, Error> {
        let mut next = Some(first);
        let mut changed = false;
        while let Some(event) = next {
            let State::Watched { stream, version, .. } = &mut self.state else { return Ok(changed) };
            match event {
                Event::Applied(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    self.objects.insert(key(&object), object);
                    changed = true;
                }
                Event::Deleted(object) => {
                    *version = object.resource_version().unwrap_or_default();
                    self.objects.remove(&key(&object));
                    changed = true;
                }
                Event::Bookmark(at) => *version = at,
                Event::Gone => {
                    // What came before it is told with the list.
                    self.state = State::Unlisted;
                    return Ok(false);
                }
            }
            if version.is_empty() {
                return Err(Error::Malformed(format!("watch of {}: an object without a version", self.collection)));
            }
            next = stream.ready()?;
        }
        Ok(changed)
    }
}

fn key<K: ResourceExt>(object: &K) -> (String, String) {
    (object.namespace().unwrap_or_default(), object.name_any())
}
