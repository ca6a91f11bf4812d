//! An API server: objects of any kind, lists with pages, watches, and every way in which one fails its clients.
//!
//! It keeps what was written and a history of it, as etcd does, and never looks into an object beyond its metadata; a
//! test writes objects as they would stand in a manifest. Reviews of permissions are answered from the rules that it
//! enforces.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use crate::http::{Body, Server, json as reply, streamed, text};

/// How the server says that it no longer knows a version.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Gone {
    /// The watch begins, and its first event is an error: what servers do.
    #[default]
    Event,
    /// The request is answered with status 410.
    Status,
}

/// A server; it ends when this is dropped.
pub struct Kubernetes {
    server: Server,
    state: Arc<Mutex<State>>,
}

impl fmt::Debug for Kubernetes {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Kubernetes").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Resource, namespace (empty for what has none) and name.
type Key = (String, String, String);

struct State {
    objects: BTreeMap<Key, Value>,
    /// What happened, with the version that it made.
    history: Vec<(u64, Change)>,
    version: u64,
    restarts: u64,
    /// Versions up to this one are forgotten.
    compacted: u64,
    watches: Vec<Watcher>,
    watched: u64,
    gone: Gone,
    /// Most objects of one page, whatever is asked for.
    page: usize,
    /// Lists in the middle of their pages, by the token that goes on with them.
    listings: HashMap<String, (Vec<Value>, u64)>,
    listed: u64,
    token: Option<String>,
    denied: BTreeSet<(String, String)>,
    failing: BTreeMap<(String, String), u16>,
    retry_after: Option<u64>,
    later_pages_fail: bool,
    watches_are_endless: bool,
    watches_end_at_once: bool,
    date: Option<String>,
}

#[derive(Clone)]
struct Change {
    kind: &'static str,
    resource: String,
    object: Value,
}

struct Watcher {
    id: u64,
    query: Query,
    send: UnboundedSender<Bytes>,
}

/// What a request names.
#[derive(Debug, Clone, Default)]
struct Query {
    group: String,
    resource: String,
    namespace: String,
    name: Option<String>,
    parameters: HashMap<String, String>,
}

impl Kubernetes {
    /// Starts one without objects, which takes anybody.
    pub fn start() -> Self {
        let state = Arc::new(Mutex::new(State {
            objects: BTreeMap::new(),
            history: Vec::new(),
            // As of a cluster that has been there for a while.
            version: 1000,
            restarts: 0,
            compacted: 0,
            watches: Vec::new(),
            watched: 0,
            gone: Gone::default(),
            page: usize::MAX,
            listings: HashMap::new(),
            listed: 0,
            token: None,
            denied: BTreeSet::new(),
            failing: BTreeMap::new(),
            retry_after: None,
            later_pages_fail: false,
            watches_are_endless: false,
            watches_end_at_once: false,
            date: None,
        }));
        let shared = Arc::clone(&state);
        let server = Server::start(Arc::new(move |request| {
            let state = Arc::clone(&shared);
            Box::pin(async move { answer(&request, &state) })
        }));
        Self { server, state }
    }

    /// Returns the server, to break it.
    pub fn server(&self) -> &Server {
        &self.server
    }

    /// Returns a kubeconfig with one context, whose user has this token.
    pub fn kubeconfig(&self, token: Option<&str>) -> String {
        let user = token.map_or_else(|| "{}".to_owned(), |token| format!("{{ token: {token} }}"));
        format!(
            "apiVersion: v1\nkind: Config\ncurrent-context: fake\n\
             clusters:\n- name: fake\n  cluster: {{ server: \"{}\" }}\n\
             users:\n- name: fake\n  user: {user}\n\
             contexts:\n- name: fake\n  context: {{ cluster: fake, user: fake }}\n",
            self.server.url()
        )
    }

    /// Creates or replaces an object of a resource such as `endpointslices`; namespace and name stand in its metadata.
    pub fn put(&self, resource: &str, mut object: Value) {
        let mut state = self.lock();
        state.version += 1;
        let version = state.version;
        object["metadata"]["resourceVersion"] = json!(version.to_string());
        let key = key(resource, &object);
        let kind = if state.objects.insert(key, object.clone()).is_some() { "MODIFIED" } else { "ADDED" };
        state.happened(Change { kind, resource: resource.to_owned(), object });
    }

    /// Removes an object; an empty namespace is for what has none.
    pub fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let mut state = self.lock();
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        let Some(mut object) = state.objects.remove(&key) else { return };
        state.version += 1;
        object["metadata"]["resourceVersion"] = json!(state.version.to_string());
        state.happened(Change { kind: "DELETED", resource: resource.to_owned(), object });
    }

    /// Removes all objects of a resource.
    pub fn clear(&self, resource: &str) {
        let keys: Vec<Key> = self.lock().objects.keys().filter(|key| key.0 == resource).cloned().collect();
        for (_, namespace, name) in keys {
            self.remove(resource, &namespace, &name);
        }
    }

    /// Tells every watch that nothing else happened up to now.
    pub fn bookmark(&self) {
        self.lock().bookmark(None);
    }

    /// Ends every watch, as servers do after a while and when they restart.
    pub fn drop_watches(&self) {
        self.lock().watches.clear();
    }

    /// Returns how many watches are open.
    pub fn watches(&self) -> usize {
        let mut state = self.lock();
        state.watches.retain(|watch| !watch.send.is_closed());
        state.watches.len()
    }

    /// Forgets what happened until now: watches from before it, and pages of lists from before it, are gone.
    pub fn compact(&self, gone: Gone) {
        let mut state = self.lock();
        // Something else in the cluster always happens.
        state.version += 1;
        state.compacted = state.version;
        state.gone = gone;
        state.listings.clear();
    }

    /// Begins anew with other versions, below those that there were at the start: a cluster restored from a backup. What
    /// happened before the backup is forgotten.
    pub fn restart(&self) {
        let mut state = self.lock();
        state.restarts += 1;
        state.version = 50 * state.restarts;
        state.compacted = state.version;
        state.history.clear();
        state.watches.clear();
        state.listings.clear();
        let version = state.version.to_string();
        for object in state.objects.values_mut() {
            object["metadata"]["resourceVersion"] = json!(version);
        }
    }

    /// Sends an error event with this status to every watch, and leaves the watches open.
    pub fn error_event(&self, status: u16) {
        let object = failure(status, "told to fail");
        self.lock().watches.retain(|watch| watch.send.send(line("ERROR", &object)).is_ok());
    }

    /// Sends bytes as they are to every watch.
    pub fn send_to_watches(&self, bytes: &'static [u8]) {
        self.lock().watches.retain(|watch| watch.send.send(Bytes::from_static(bytes)).is_ok());
    }

    /// Puts at most so many objects on a page.
    pub fn set_page(&self, objects: usize) {
        self.lock().page = objects;
    }

    /// Fails every page but the first one with a status 500.
    pub fn fail_later_pages(&self, fail: bool) {
        self.lock().later_pages_fail = fail;
    }

    /// Ends no watch any more, whatever time it was asked for, as a server does that hangs.
    pub fn never_end_watches(&self) {
        self.lock().watches_are_endless = true;
    }

    /// Ends each new watch as soon as it begins.
    pub fn end_watches_at_once(&self, end: bool) {
        self.lock().watches_end_at_once = end;
    }

    /// Takes requests with this token alone; `None`: anybody's.
    pub fn set_token(&self, token: Option<&str>) {
        self.lock().token = token.map(str::to_owned);
    }

    /// Denies a verb (`get`, `list`, `watch`) on a resource, for what begins from now on.
    pub fn deny(&self, verb: &str, resource: &str) {
        self.lock().denied.insert((verb.to_owned(), resource.to_owned()));
    }

    /// Denies nothing any more.
    pub fn permit(&self) {
        self.lock().denied.clear();
    }

    /// Answers a verb on a resource with a status; `None`: as usual again.
    pub fn fail(&self, verb: &str, resource: &str, status: Option<u16>) {
        let key = (verb.to_owned(), resource.to_owned());
        let mut state = self.lock();
        match status {
            Some(status) => state.failing.insert(key, status),
            None => state.failing.remove(&key),
        };
    }

    /// Says with every failure that was asked for how many seconds to wait.
    pub fn set_retry_after(&self, seconds: Option<u64>) {
        self.lock().retry_after = seconds;
    }

    /// Says another time than it is, as `Date` has it.
    pub fn set_date(&self, date: &str) {
        self.lock().date = Some(date.to_owned());
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

impl State {
    fn happened(&mut self, change: Change) {
        self.watches.retain(|watch| {
            if watch.query.takes(&change.resource, &change.object) {
                watch.send.send(line(change.kind, &change.object)).is_ok()
            } else {
                !watch.send.is_closed()
            }
        });
        self.history.push((self.version, change));
    }

    /// Tells one watch, or all of them, that nothing else happened up to now; those alone that want to be told.
    fn bookmark(&mut self, id: Option<u64>) {
        let object = json!({ "kind": "Bookmark", "metadata": { "resourceVersion": self.version.to_string() } });
        self.watches.retain(|watch| {
            let wants = watch.query.parameters.get("allowWatchBookmarks").is_some_and(|value| value == "true");
            let is_meant = id.is_none_or(|id| watch.id == id);
            !(wants && is_meant) || watch.send.send(line("BOOKMARK", &object)).is_ok()
        });
    }

    fn is_permitted(&self, verb: &str, resource: &str) -> bool {
        !self.denied.contains(&(verb.to_owned(), resource.to_owned()))
    }
}

impl Query {
    /// Reads `/api/v1/…` and `/apis/GROUP/VERSION/…`.
    fn parse(request: &Request<Bytes>) -> Option<Self> {
        let mut parts: Vec<&str> = request.uri().path().split('/').filter(|part| !part.is_empty()).collect();
        let prefix = match *parts.first()? {
            "api" => 2,
            "apis" => 3,
            _ => return None,
        };
        if parts.len() <= prefix {
            return None;
        }
        let mut rest = parts.split_off(prefix).into_iter();
        let group = if prefix == 3 { parts[1].to_owned() } else { String::new() };
        let (first, second, third) = (rest.next()?, rest.next(), rest.next());
        let parameters = request.uri().query().map(parameters).unwrap_or_default();
        let query = match (first, second, third) {
            ("namespaces", Some(namespace), Some(resource)) => Self {
                group,
                resource: resource.to_owned(),
                namespace: namespace.to_owned(),
                name: rest.next().map(str::to_owned),
                parameters,
            },
            (resource, name, _) => {
                let (resource, name) = (resource.to_owned(), name.map(str::to_owned));
                Self { group, resource, name, parameters, ..Self::default() }
            }
        };
        Some(query)
    }

    fn parameter(&self, name: &str) -> Option<&str> {
        self.parameters.get(name).map(String::as_str).filter(|value| !value.is_empty())
    }

    fn takes(&self, resource: &str, object: &Value) -> bool {
        let metadata = &object["metadata"];
        let labels = self.parameter("labelSelector").into_iter().flat_map(|list| list.split(','));
        let fields = self.parameter("fieldSelector").into_iter().flat_map(|list| list.split(','));
        resource == self.resource
            && (self.namespace.is_empty() || metadata["namespace"] == self.namespace.as_str())
            && labels.filter_map(|pair| pair.split_once('=')).all(|(key, value)| metadata["labels"][key] == value)
            && fields.filter_map(|pair| pair.split_once('=')).all(|(path, value)| {
                let field = path.split('.').fold(object, |inner, key| &inner[key]);
                field == value
            })
    }
}

fn key(resource: &str, object: &Value) -> Key {
    let text = |name: &str| object["metadata"][name].as_str().unwrap_or_default().to_owned();
    (resource.to_owned(), text("namespace"), text("name"))
}

fn parameters(query: &str) -> HashMap<String, String> {
    let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
    pairs.map(|(key, value)| (unescaped(key), unescaped(value))).collect()
}

fn unescaped(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        bytes.push(match byte {
            b'%' => {
                let digits = [rest.next().unwrap_or(b'0'), rest.next().unwrap_or(b'0')];
                u8::from_str_radix(std::str::from_utf8(&digits).unwrap_or("3f"), 16).unwrap_or(b'?')
            }
            b'+' => b' ',
            other => other,
        });
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

fn line(kind: &str, object: &Value) -> Bytes {
    let mut line = json!({ "type": kind, "object": object }).to_string();
    line.push('\n');
    line.into()
}

fn failure(status: u16, message: &str) -> Value {
    let reason = match status {
        401 => "Unauthorized",
        403 => "Forbidden",
        404 => "NotFound",
        410 => "Expired",
        429 => "TooManyRequests",
        _ => "InternalError",
    };
    json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    })
}

fn refuse(status: u16, message: &str) -> Response<Body> {
    let mut response = reply(&failure(status, message));
    *response.status_mut() = http::StatusCode::from_u16(status).unwrap();
    response
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

fn answer(request: &Request<Bytes>, shared: &Arc<Mutex<State>>) -> Response<Body> {
    let mut state = lock(shared);
    let mut response = serve(request, &mut state, shared);
    if let Some(date) = &state.date {
        response.headers_mut().insert("date", date.parse().unwrap());
    }
    if let Some(seconds) = state.retry_after.filter(|_| response.status().as_u16() >= 400) {
        response.headers_mut().insert("retry-after", seconds.into());
    }
    response
}

fn serve(request: &Request<Bytes>, state: &mut State, shared: &Arc<Mutex<State>>) -> Response<Body> {
    if let Some(token) = &state.token {
        let sent = request.headers().get("authorization").and_then(|value| value.to_str().ok());
        if sent != Some(&format!("Bearer {token}")) {
            return refuse(401, "Unauthorized");
        }
    }
    let path = request.uri().path();
    if path == "/version" {
        return reply(&json!({ "major": "1", "minor": "33", "gitVersion": "v1.33.0-fake" }));
    }
    if request.method() == Method::POST {
        return review(path, request.body(), state);
    }
    let Some(query) = Query::parse(request) else { return text(404, "404 page not found\n") };
    let is_watch = matches!(query.parameter("watch"), Some("true" | "1"));
    let verb = match (&query.name, is_watch) {
        (Some(_), _) => "get",
        (None, true) => "watch",
        (None, false) => "list",
    };
    if !state.is_permitted(verb, &query.resource) {
        let scope = if query.namespace.is_empty() {
            "at the cluster scope".to_owned()
        } else {
            format!("in the namespace \"{}\"", query.namespace)
        };
        let Query { group, resource, .. } = &query;
        let dot = if group.is_empty() { "" } else { "." };
        let message = format!(
            "{resource}{dot}{group} is forbidden: User \"fake\" cannot {verb} resource \"{resource}\" in API group \
             \"{group}\" {scope}"
        );
        return refuse(403, &message);
    }
    if let Some(status) = state.failing.get(&(verb.to_owned(), query.resource.clone())) {
        return refuse(*status, "told to fail");
    }
    match verb {
        "get" => get(&query, state),
        "list" => list(&query, state),
        _ => watch(query, state, shared),
    }
}

fn get(query: &Query, state: &State) -> Response<Body> {
    let name = query.name.clone().unwrap_or_default();
    let key = (query.resource.clone(), query.namespace.clone(), name.clone());
    match state.objects.get(&key) {
        Some(object) => reply(object),
        None => refuse(404, &format!("{} \"{name}\" not found", query.resource)),
    }
}

fn list(query: &Query, state: &mut State) -> Response<Body> {
    let (rest, version) = match query.parameter("continue") {
        Some(_) if state.later_pages_fail => return refuse(500, "told to fail later pages"),
        Some(token) => match state.listings.remove(token) {
            Some(listing) => listing,
            None => return refuse(410, "The provided continue parameter is too old"),
        },
        None => {
            let all = state.objects.iter().filter(|(key, object)| query.takes(&key.0, object));
            (all.map(|(_, object)| object.clone()).collect(), state.version)
        }
    };
    let limit = query.parameter("limit").and_then(|text| text.parse().ok()).unwrap_or(usize::MAX).min(state.page);
    let mut items: Vec<Value> = rest;
    let mut metadata = json!({ "resourceVersion": version.to_string() });
    if items.len() > limit {
        let later = items.split_off(limit);
        state.listed += 1;
        let token = format!("page-{}", state.listed);
        metadata["continue"] = json!(token);
        metadata["remainingItemCount"] = json!(later.len());
        state.listings.insert(token, (later, version));
    }
    reply(&json!({ "kind": "List", "apiVersion": "v1", "metadata": metadata, "items": items }))
}

fn watch(query: Query, state: &mut State, shared: &Arc<Mutex<State>>) -> Response<Body> {
    let from: u64 = query.parameter("resourceVersion").and_then(|text| text.parse().ok()).unwrap_or_default();
    // A version from before a restore may be ahead of what is there: nothing is told of it until it is reached.
    let is_ahead = from > state.version;
    let is_gone = from < state.compacted;
    if is_gone && state.gone == Gone::Status {
        return refuse(410, "too old resource version");
    }
    let (send, chunks) = unbounded_channel();
    if is_gone {
        let _ = send.send(line("ERROR", &failure(410, "too old resource version")));
    } else if !state.watches_end_at_once {
        for (_, change) in state.history.iter().filter(|(version, _)| *version > from) {
            if query.takes(&change.resource, &change.object) {
                let _ = send.send(line(change.kind, &change.object));
            }
        }
        state.watched += 1;
        let id = state.watched;
        if let Some(seconds) = query.parameter("timeoutSeconds").and_then(|text| text.parse().ok()) {
            let shared = Arc::clone(shared);
            tokio::spawn(async move {
                tokio::time::sleep(Duration::from_secs(seconds)).await;
                let mut state = lock(&shared);
                let endless = state.watches_are_endless;
                if !is_ahead && !endless {
                    state.bookmark(Some(id));
                }
                state.watches.retain(|watch| endless || watch.id != id);
            });
        }
        state.watches.push(Watcher { id, query, send });
    }
    Response::builder().header("content-type", "application/json").body(streamed(chunks)).unwrap()
}

fn review(path: &str, body: &Bytes, state: &State) -> Response<Body> {
    if path.ends_with("/selfsubjectreviews") {
        return reply(&json!({
            "kind": "SelfSubjectReview", "status": { "userInfo": { "username": "system:serviceaccount:web:meshless" } },
        }));
    }
    if !path.ends_with("/selfsubjectaccessreviews") {
        return text(404, "404 page not found\n");
    }
    let asked: Value = serde_json::from_slice(body).unwrap_or_default();
    let attributes = &asked["spec"]["resourceAttributes"];
    let text = |name: &str| attributes[name].as_str().unwrap_or_default().to_owned();
    let allowed = state.is_permitted(&text("verb"), &text("resource"));
    reply(&json!({ "kind": "SelfSubjectAccessReview", "status": { "allowed": allowed } }))
}
