//! Asks an API server: lists, watches, single objects.
//!
//! `kube` brings the connection, the layers and the types. Requests are our own, because of what they must tell apart: an
//! answer that is late, one that is too long, one that means nothing, "gone", "denied" (and what permission is missing),
//! "too many requests" (and how long to wait). See `docs/decisions/0080-our-own-list-and-watch.md`.

use std::fmt;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt as _;
use kube::api::{ListParams, WatchParams};
use kube::client::Body;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::sync::Mutex;
use tokio::time::{Instant, timeout};

use super::access::{self, Access, Identity};
use super::connect;
use super::exec::{self, Credential};
use super::stream::Stream;
use crate::{Calls, Error, KubernetesConfig};

/// How often what a client is made of is read anew: tokens of pods are replaced some minutes before they end.
const REREAD: Duration = Duration::from_secs(30);

/// A credential is replaced this long before it ends.
const EARLY: Duration = Duration::from_secs(30);

/// Objects of one page: 100 endpoints each, that is some megabytes.
const PAGE: u32 = 250;

/// Most bytes of one answer; etcd takes no object over 1.5 MiB.
const MAX_ANSWER: usize = 64 * 1024 * 1024;

/// Most bytes of an error that are read.
const MAX_ERROR: usize = 64 * 1024;

/// How often a list that went stale between two pages is begun anew.
const LISTINGS: usize = 3;

/// What is said of a kind of object that there is not.
const NOT_SERVED: &str = "the cluster does not serve this API, or this is no API server";

/// Tells whether an error says that the cluster does not serve a kind of object.
pub(crate) fn is_not_served(error: &Error) -> bool {
    matches!(error, Error::Malformed(said) if said.ends_with(NOT_SERVED))
}

/// Time limits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timing {
    /// Longest wait for an answer, with all of its bytes; of a watch: with its first line, the headers.
    pub(crate) answer: Duration,
    /// Shortest and longest time that a watch is asked to last; at random, so that many do not end together.
    pub(crate) watch: (Duration, Duration),
    /// How much longer than that a watch may last before it is taken for dead.
    pub(crate) grace: Duration,
    /// A watch that lasted this long without a word, not even a bookmark, is not believed.
    pub(crate) silence: Duration,
    /// How often that is asked for which is not watched.
    pub(crate) poll: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            answer: Duration::from_secs(10),
            // A thousand targets at rest are four or five requests a second; a server that hangs is noticed by then.
            watch: (Duration::from_mins(3), Duration::from_mins(4)),
            grace: Duration::from_secs(10),
            // Servers send a bookmark about once a minute.
            silence: Duration::from_mins(2),
            poll: Duration::from_secs(30),
        }
    }
}

/// Objects of one kind, as they are asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Collection {
    /// API group; empty: the core.
    pub(crate) group: &'static str,
    /// Version of the group, such as `v1`.
    pub(crate) version: &'static str,
    /// Name of the resource, such as `endpointslices`.
    pub(crate) resource: &'static str,
    /// Namespace; `None`: of the whole cluster.
    pub(crate) namespace: Option<String>,
    /// Those with these labels alone, as `key=value`.
    pub(crate) labels: Option<String>,
    /// Those with these fields alone, as `metadata.name=web`.
    pub(crate) fields: Option<String>,
}

impl Collection {
    /// Returns all objects of a kind.
    pub(crate) fn new(group: &'static str, version: &'static str, resource: &'static str) -> Self {
        Self { group, version, resource, namespace: None, labels: None, fields: None }
    }

    /// Returns those of one namespace.
    pub(crate) fn of(self, namespace: &str) -> Self {
        Self { namespace: Some(namespace.to_owned()), ..self }
    }

    /// Returns the slices of a service's endpoints.
    pub(crate) fn slices(namespace: &str, service: &str) -> Self {
        let labels = Some(format!("kubernetes.io/service-name={service}"));
        Self { labels, ..Self::new("discovery.k8s.io", "v1", "endpointslices").of(namespace) }
    }

    fn path(&self) -> String {
        let root = if self.group.is_empty() {
            format!("/api/{}", self.version)
        } else {
            format!("/apis/{}/{}", self.group, self.version)
        };
        match &self.namespace {
            Some(namespace) => format!("{root}/namespaces/{namespace}/{}", self.resource),
            None => format!("{root}/{}", self.resource),
        }
    }
}

impl fmt::Display for Collection {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.resource)?;
        if !self.group.is_empty() {
            write!(formatter, ".{}", self.group)?;
        }
        match &self.namespace {
            Some(namespace) => write!(formatter, " of namespace `{namespace}`"),
            None => Ok(()),
        }
    }
}

/// All objects of a collection at one time.
#[derive(Debug)]
pub(crate) struct Listed<K> {
    /// The objects.
    pub(crate) items: Vec<K>,
    /// The time, as a version to watch from.
    pub(crate) version: String,
}

/// Talks to one cluster, for all sources of a backend. Connects when it is first asked.
pub(crate) struct Client {
    config: KubernetesConfig,
    calls: Calls,
    timing: Timing,
    made: Mutex<Option<Made>>,
}

/// A client, and what it was made of.
struct Made {
    client: kube::Client,
    access: Access,
    credential: Option<Credential>,
    read: Instant,
}

impl Made {
    fn is_current(&self, now: SystemTime) -> bool {
        let until = self.credential.as_ref().and_then(|credential| credential.until);
        until.is_none_or(|until| now + EARLY < until)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Client").field("config", &self.config).finish_non_exhaustive()
    }
}

impl Client {
    /// Returns a client that has not connected yet. Does no IO.
    pub(crate) fn new(config: &KubernetesConfig) -> Self {
        Self { config: config.clone(), calls: Calls::default(), timing: Timing::default(), made: Mutex::default() }
    }

    /// Waits less long, for tests.
    #[cfg(test)]
    pub(crate) fn with_timing(self, timing: Timing) -> Self {
        Self { timing, ..self }
    }

    /// Returns the time limits.
    pub(crate) fn timing(&self) -> Timing {
        self.timing
    }

    /// Returns how often it asked.
    pub(crate) fn calls(&self) -> Calls {
        self.calls.clone()
    }

    /// Returns the client of `kube`, made of what the files say now.
    pub(crate) async fn connect(&self) -> Result<kube::Client, Error> {
        let mut made = self.made.lock().await;
        if let Some(made) = &*made
            && made.read.elapsed() < REREAD
            && made.is_current(SystemTime::now())
        {
            return Ok(made.client.clone());
        }
        let config = self.config.clone();
        let read = tokio::task::spawn_blocking(move || access::read(&config)).await;
        let access = match read.map_err(|error| Error::Unreachable(error.to_string())).flatten() {
            Ok(access) => access,
            Err(error) => {
                let Some(made) = made.as_mut().filter(|made| made.is_current(SystemTime::now())) else {
                    return Err(error);
                };
                // A file that is being replaced: what it said last holds.
                tracing::debug!(%error, "How the cluster is reached cannot be read, what was known stays.");
                made.read = Instant::now();
                return Ok(made.client.clone());
            }
        };
        if let Some(made) = &mut *made
            && made.access == access
            && made.is_current(SystemTime::now())
        {
            made.read = Instant::now();
            return Ok(made.client.clone());
        }
        let credential = match &access.identity {
            Identity::Program(program) => Some(exec::run(program).await?),
            _ => None,
        };
        let identity = credential.as_ref().map_or(&access.identity, |credential| &credential.identity);
        let client = connect::client(&access, identity)?;
        tracing::debug!(?access, "A client for the API server was made.");
        *made = Some(Made { client: client.clone(), access, credential, read: Instant::now() });
        Ok(client)
    }

    /// Returns where the API server is, as it is known now.
    pub(crate) async fn server(&self) -> Result<String, Error> {
        self.connect().await?;
        let made = self.made.lock().await;
        Ok(made.as_ref().map(|made| made.access.server.clone()).unwrap_or_default())
    }

    /// Returns the namespace that is meant where none is named: the configured one, else that of the account.
    pub(crate) async fn namespace(&self) -> Result<String, Error> {
        match &self.config.namespace {
            Some(namespace) => Ok(namespace.clone()),
            None => Ok(self.connect().await?.default_namespace().to_owned()),
        }
    }

    /// Lists all objects, page by page; an error of any page is an error of all.
    pub(crate) async fn list<K: DeserializeOwned>(&self, collection: &Collection) -> Result<Listed<K>, Error> {
        for _ in 0..LISTINGS {
            if let Some(listed) = self.pages(collection).await? {
                return Ok(listed);
            }
        }
        Err(Error::Unreachable(format!(
            "list of {collection}: went stale between two pages, {LISTINGS} times in a row"
        )))
    }

    /// Returns `None` where the server no longer knows what the first page was a page of.
    async fn pages<K: DeserializeOwned>(&self, collection: &Collection) -> Result<Option<Listed<K>>, Error> {
        let mut items = Vec::new();
        let mut params = ListParams::default().limit(PAGE);
        params.label_selector.clone_from(&collection.labels);
        params.field_selector.clone_from(&collection.fields);
        loop {
            let request = kube::core::Request::new(collection.path()).list(&params).map_err(|error| unfit(&error))?;
            let asked = Asked { verb: "list", collection };
            let answer = match self.answer(&asked, request).await? {
                Answer::Good(bytes) => bytes,
                Answer::Refused(refusal) if refusal.status == StatusCode::GONE && params.continue_token.is_some() => {
                    return Ok(None);
                }
                Answer::Refused(refusal) => return Err(refusal.into_error(&asked)),
            };
            let page: Page<K> = serde_json::from_slice(&answer).map_err(|error| asked.malformed(&error))?;
            items.extend(page.items.into_iter().flatten());
            if let Some(token) = page.metadata.continue_.filter(|token| !token.is_empty()) {
                params.continue_token = Some(token);
                continue;
            }
            let version = page.metadata.resource_version.filter(|version| !version.is_empty());
            let version = version.ok_or_else(|| asked.malformed(&"no `resourceVersion`"))?;
            return Ok(Some(Listed { items, version }));
        }
    }

    /// Starts a watch from a version on; `None` where the server no longer knows that version.
    pub(crate) async fn watch<K>(
        &self,
        collection: &Collection,
        version: &str,
        lasts: Duration,
    ) -> Result<Option<Stream<K>>, Error> {
        let seconds = u32::try_from(lasts.as_secs()).unwrap_or(u32::MAX).max(1);
        let mut params = WatchParams::default().timeout(seconds);
        params.label_selector.clone_from(&collection.labels);
        params.field_selector.clone_from(&collection.fields);
        let request =
            kube::core::Request::new(collection.path()).watch(&params, version).map_err(|error| unfit(&error))?;
        let asked = Asked { verb: "watch", collection };
        let deadline = Instant::now() + Duration::from_secs(seconds.into()) + self.timing.grace;
        let response = self.send(&asked, request).await?;
        if response.status() == StatusCode::GONE {
            return Ok(None);
        }
        if !response.status().is_success() {
            return Err(self.refused(&asked, response).await.into_error(&asked));
        }
        Ok(Some(Stream::new(response.into_body(), deadline, collection.clone())))
    }

    /// Reads one object; `None` where there is none.
    pub(crate) async fn get<K: DeserializeOwned>(
        &self,
        collection: &Collection,
        name: &str,
    ) -> Result<Option<K>, Error> {
        let request = Request::get(format!("{}/{name}", collection.path())).body(Vec::new());
        let asked = Asked { verb: "get", collection };
        match self.answer(&asked, request.map_err(|error| unfit(&error))?).await? {
            Answer::Good(bytes) => serde_json::from_slice(&bytes).map(Some).map_err(|error| asked.malformed(&error)),
            Answer::Refused(refusal) if refusal.is_absent() => Ok(None),
            Answer::Refused(refusal) => Err(refusal.into_error(&asked)),
        }
    }

    /// Sends a request that no object is behind, such as a review of our permissions, and returns the answer with its
    /// headers.
    pub(crate) async fn ask(&self, verb: &'static str, request: Request<Vec<u8>>) -> Result<Response<Bytes>, Error> {
        let collection = Collection::new("", "", "");
        let asked = Asked { verb, collection: &collection };
        let response = self.send(&asked, request).await?;
        if !response.status().is_success() {
            return Err(self.refused(&asked, response).await.into_error(&asked));
        }
        let (parts, body) = response.into_parts();
        let bytes = self.whole(&asked, body, MAX_ANSWER).await?;
        Ok(Response::from_parts(parts, bytes))
    }

    async fn answer(&self, asked: &Asked<'_>, request: Request<Vec<u8>>) -> Result<Answer, Error> {
        let response = self.send(asked, request).await?;
        if !response.status().is_success() {
            return Ok(Answer::Refused(self.refused(asked, response).await));
        }
        self.whole(asked, response.into_body(), MAX_ANSWER).await.map(Answer::Good)
    }

    async fn send(&self, asked: &Asked<'_>, request: Request<Vec<u8>>) -> Result<Response<Body>, Error> {
        let client = self.connect().await?;
        self.calls.count(asked.verb);
        let sent = timeout(self.timing.answer, client.send(request.map(Body::from))).await;
        let response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Err(asked.unreachable(&chain(&error))),
            Err(_) => return Err(asked.unreachable(&format!("no answer within {:?}", self.timing.answer))),
        };
        if response.status() == StatusCode::UNAUTHORIZED {
            // A token that was replaced, or a program whose credential was revoked: both are asked again.
            *self.made.lock().await = None;
        }
        Ok(response)
    }

    async fn whole(&self, asked: &Asked<'_>, body: Body, most: usize) -> Result<Bytes, Error> {
        let limited = http_body_util::Limited::new(body, most);
        match timeout(self.timing.answer, limited.collect()).await {
            Ok(Ok(whole)) => Ok(whole.to_bytes()),
            Ok(Err(error)) if error.is::<http_body_util::LengthLimitError>() => {
                Err(asked.malformed(&format!("an answer of more than {most} bytes")))
            }
            Ok(Err(error)) => Err(asked.unreachable(&chain(&*error))),
            Err(_) => Err(asked.unreachable(&format!("an answer that did not end within {:?}", self.timing.answer))),
        }
    }

    async fn refused(&self, asked: &Asked<'_>, response: Response<Body>) -> Refusal {
        let (parts, body) = response.into_parts();
        let wait = parts.headers.get(http::header::RETRY_AFTER).and_then(|value| value.to_str().ok()?.parse().ok());
        let body = self.whole(asked, body, MAX_ERROR).await.unwrap_or_default();
        Refusal { status: parts.status, retry_after: wait.map(Duration::from_secs), message: Refusal::message(&body) }
    }
}

/// What is done, for errors.
pub(super) struct Asked<'a> {
    pub(super) verb: &'static str,
    pub(super) collection: &'a Collection,
}

impl Asked<'_> {
    fn unreachable(&self, problem: &dyn fmt::Display) -> Error {
        Error::Unreachable(format!("{self}: {problem}"))
    }

    pub(super) fn malformed(&self, problem: &dyn fmt::Display) -> Error {
        Error::Malformed(format!("{self}: {problem}"))
    }
}

impl fmt::Display for Asked<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.collection.resource.is_empty() {
            return formatter.write_str(self.verb);
        }
        write!(formatter, "{} of {}", self.verb, self.collection)
    }
}

enum Answer {
    Good(Bytes),
    Refused(Refusal),
}

/// A status that is no success, and what the server said of it.
#[derive(Debug)]
pub(super) struct Refusal {
    pub(super) status: StatusCode,
    pub(super) retry_after: Option<Duration>,
    pub(super) message: String,
}

impl Refusal {
    /// What the server said, in one line.
    pub(super) fn message(body: &[u8]) -> String {
        #[derive(Deserialize)]
        struct Status {
            message: String,
        }
        let text = serde_json::from_slice::<Status>(body)
            .map_or_else(|_| String::from_utf8_lossy(body).into_owned(), |status| status.message);
        let words: Vec<&str> = text.split_whitespace().collect();
        words.join(" ").chars().take(300).collect()
    }

    /// Tells whether the object is not there; a path that no API serves is something else.
    fn is_absent(&self) -> bool {
        // As in `services "web" not found`; a server that is none says "404 page not found".
        self.status == StatusCode::NOT_FOUND && self.message.contains("\" not found")
    }

    pub(super) fn into_error(self, asked: &Asked<'_>) -> Error {
        let Self { status, retry_after, message } = self;
        let said = format!("{asked}: {status}: {message}");
        match status {
            StatusCode::UNAUTHORIZED => Error::Denied(format!(
                "{said}; the server does not take our credentials: look at the token or the kubeconfig"
            )),
            StatusCode::FORBIDDEN if !asked.collection.resource.is_empty() => {
                let Collection { group, resource, namespace, .. } = asked.collection;
                let role = if namespace.is_some() { "Role" } else { "ClusterRole" };
                Error::Denied(format!(
                    "{said}; give the account a {role} with verb `{}` on resource `{resource}` of apiGroup \"{group}\"",
                    asked.verb
                ))
            }
            StatusCode::FORBIDDEN => Error::Denied(said),
            StatusCode::TOO_MANY_REQUESTS => Error::Throttled { retry_after },
            StatusCode::NOT_FOUND => Error::Malformed(format!("{said}; {NOT_SERVED}")),
            StatusCode::GONE => Error::Unreachable(said),
            _ if status.is_server_error() => Error::Unreachable(said),
            _ => Error::Malformed(said),
        }
    }
}

#[derive(Deserialize)]
#[serde(bound = "K: DeserializeOwned")]
struct Page<K> {
    metadata: PageMetadata,
    /// Go writes an empty list as null.
    items: Option<Vec<K>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMetadata {
    #[serde(rename = "continue")]
    continue_: Option<String>,
    resource_version: Option<String>,
}

/// A request that cannot be written: what it is made of is checked before, so this names a fault of ours.
fn unfit(error: &dyn fmt::Display) -> Error {
    Error::Malformed(format!("the request cannot be written: {error}"))
}

/// An error with what caused it; `hyper` says "client error (Connect)" and keeps the reason below.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        let said = cause.to_string();
        if !text.contains(&said) {
            text = format!("{text}: {said}");
        }
        source = cause.source();
    }
    text
}
