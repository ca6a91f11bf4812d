//! The answer of a watch: one JSON object a line, for as long as it lasts.

use std::fmt;
use std::marker::PhantomData;

use http::StatusCode;
use http_body_util::BodyExt as _;
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;
use tokio::time::{Instant, timeout_at};

use super::client::{Asked, Collection, Refusal};
use crate::Error;

/// Most bytes of one event: etcd takes no object over 1.5 MiB, and JSON is longer than what it keeps.
const MAX_EVENT: usize = 8 * 1024 * 1024;

/// What a watch tells.
#[derive(Debug, PartialEq)]
pub(crate) enum Event<K> {
    /// The object is there now, and so.
    Applied(K),
    /// The object is gone.
    Deleted(K),
    /// Nothing changed up to this version.
    Bookmark(String),
    /// The server no longer knows what happened since the version that was asked for, or is no longer there: everything has
    /// to be listed anew.
    Gone,
}

/// A watch under way.
pub(crate) struct Stream<K> {
    body: Body,
    /// What came and is not read yet.
    buffer: Vec<u8>,
    /// Up to where there is no end of a line in it.
    searched: usize,
    deadline: Instant,
    collection: Collection,
    of: PhantomData<fn() -> K>,
}

impl<K> fmt::Debug for Stream<K> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Stream").field("collection", &self.collection).finish_non_exhaustive()
    }
}

impl<K> Stream<K> {
    pub(super) fn new(body: Body, deadline: Instant, collection: Collection) -> Self {
        Self { body, buffer: Vec::new(), searched: 0, deadline, collection, of: PhantomData }
    }

    /// Cuts the next line off.
    fn line(&mut self) -> Option<Vec<u8>> {
        let end = self.buffer.iter().skip(self.searched).position(|byte| *byte == b'\n');
        let Some(end) = end.map(|end| self.searched + end) else {
            self.searched = self.buffer.len();
            return None;
        };
        self.searched = 0;
        let rest = self.buffer.split_off(end + 1);
        Some(std::mem::replace(&mut self.buffer, rest))
    }
}

impl<K: DeserializeOwned> Stream<K> {
    /// Waits for the next event; `None`: the watch ended, as each does after a while. Cancel-safe.
    pub(crate) async fn next(&mut self) -> Result<Option<Event<K>>, Error> {
        loop {
            if let Some(event) = self.ready()? {
                return Ok(Some(event));
            }
            let frame = match timeout_at(self.deadline, self.body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                // Who breaks off may be another one when it comes back, with other data and versions that mean
                // something else: a cluster that was restored from a backup.
                Ok(Some(Err(error))) => {
                    tracing::debug!(collection = %self.collection, %error, "A watch broke off.");
                    return Ok(Some(Event::Gone));
                }
                Ok(None) if self.buffer.iter().all(u8::is_ascii_whitespace) => return Ok(None),
                Ok(None) => return Err(self.asked().malformed(&"it ended in the middle of an event")),
                Err(_) => {
                    let problem = "it did not end when it should have, so the server or the way to it hangs";
                    return Err(Error::Unreachable(format!("watch of {}: {problem}", self.collection)));
                }
            };
            let Ok(data) = frame.into_data() else { continue };
            if self.buffer.len() + data.len() > MAX_EVENT && !data.contains(&b'\n') {
                return Err(self.asked().malformed(&format!("an event of more than {MAX_EVENT} bytes")));
            }
            self.buffer.extend_from_slice(&data);
        }
    }

    /// Returns an event that is here already.
    pub(crate) fn ready(&mut self) -> Result<Option<Event<K>>, Error> {
        while let Some(line) = self.line() {
            if line.iter().all(u8::is_ascii_whitespace) {
                continue;
            }
            return parse(&line, &self.asked()).map(Some);
        }
        Ok(None)
    }

    fn asked(&self) -> Asked<'_> {
        Asked { verb: "watch", collection: &self.collection }
    }
}

#[derive(Deserialize)]
struct Line<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    #[serde(borrow)]
    object: &'a RawValue,
}

#[derive(Deserialize)]
struct Marker {
    metadata: MarkerMetadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct MarkerMetadata {
    resource_version: String,
}

#[derive(Deserialize)]
struct Failure {
    #[serde(default)]
    code: u16,
    #[serde(default)]
    reason: String,
}

fn parse<K: DeserializeOwned>(line: &[u8], asked: &Asked<'_>) -> Result<Event<K>, Error> {
    let wrong = |error: serde_json::Error| asked.malformed(&error);
    let Line { kind, object } = serde_json::from_slice(line).map_err(wrong)?;
    match kind {
        "ADDED" | "MODIFIED" => serde_json::from_str(object.get()).map(Event::Applied).map_err(wrong),
        "DELETED" => serde_json::from_str(object.get()).map(Event::Deleted).map_err(wrong),
        "BOOKMARK" => {
            let marker: Marker = serde_json::from_str(object.get()).map_err(wrong)?;
            Ok(Event::Bookmark(marker.metadata.resource_version))
        }
        "ERROR" => {
            let failure: Failure = serde_json::from_str(object.get()).map_err(wrong)?;
            // Some say it by the reason alone.
            if failure.code == StatusCode::GONE.as_u16() || matches!(failure.reason.as_str(), "Expired" | "Gone") {
                return Ok(Event::Gone);
            }
            let status = StatusCode::from_u16(failure.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
            let message = Refusal::message(object.get().as_bytes());
            Err(Refusal { status, retry_after: None, message }.into_error(asked))
        }
        other => Err(asked.malformed(&format!("an event of the type `{other}`"))),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;

    fn read(line: &str) -> Result<Event<Value>, Error> {
        let collection = Collection::new("discovery.k8s.io", "v1", "endpointslices").of("web");
        parse(line.as_bytes(), &Asked { verb: "watch", collection: &collection })
    }

    #[test]
    fn events_are_told_apart() {
        assert_eq!(read(r#"{"type":"ADDED","object":{"a":1}}"#), Ok(Event::Applied(serde_json::json!({"a": 1}))));
        assert_eq!(read(r#"{"type":"DELETED","object":{}}"#), Ok(Event::Deleted(serde_json::json!({}))));
        let bookmark = r#"{"type":"BOOKMARK","object":{"kind":"EndpointSlice","metadata":{"resourceVersion":"7"}}}"#;
        assert_eq!(read(bookmark), Ok(Event::Bookmark("7".to_owned())));
        assert_eq!(read(r#"{"type":"ERROR","object":{"kind":"Status","code":410}}"#), Ok(Event::Gone));
        assert_eq!(read(r#"{"type":"ERROR","object":{"reason":"Expired"}}"#), Ok(Event::Gone));
    }

    #[test]
    fn what_goes_wrong_within_a_watch_has_a_kind() {
        let of = |line: &str| read(line).unwrap_err();
        assert!(matches!(of(r#"{"type":"ERROR","object":{"code":403,"message":"no"}}"#), Error::Denied(text)
            if text.contains("verb `watch` on resource `endpointslices`")));
        assert!(matches!(of(r#"{"type":"ERROR","object":{"code":500}}"#), Error::Unreachable(_)));
        assert!(matches!(of(r#"{"type":"ERROR","object":{"code":429}}"#), Error::Throttled { .. }));
        assert!(matches!(of(r#"{"type":"NEW","object":{}}"#), Error::Malformed(_)));
        assert!(matches!(of("{"), Error::Malformed(_)));
    }
}
