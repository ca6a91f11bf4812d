//! A Consul of a test: one agent of the datacenter `dc1`, strict about what it is asked.
//!
//! It knows health with blocking queries and indexes, prepared queries, datacenters, ACLs, and the part of an agent
//! that takes registrations. A parameter, a field or a method that Consul does not take here is an error, so that a
//! client's mistake is seen. Tests against a real Consul prove that it tells the truth.

mod agent;
mod health;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use serde_json::{Value, json};
use tokio::sync::watch;

use crate::http::{Body, Mode, Server, json as reply, text};

/// A fake Consul; it ends when this is dropped.
#[derive(Debug)]
pub struct Consul {
    /// The server below it, to be broken.
    pub server: Server,
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    inner: Mutex<Inner>,
    /// Wakes blocking queries; counts changes.
    changed: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    index: u64,
    /// Entries as `/v1/health/service` lists them, by datacenter and name, and the index of their last change.
    services: BTreeMap<(String, String), (u64, Vec<Value>)>,
    /// Which service a prepared query asks for.
    queries: BTreeMap<String, String>,
    datacenters: BTreeSet<String>,
    hanging: BTreeSet<String>,
    /// Tokens and what they may; `None`: ACLs are off.
    tokens: Option<BTreeMap<String, BTreeSet<String>>>,
    says_filtered: bool,
    has_leader: bool,
    last_contact: Duration,
    age: Duration,
    forced_index: Option<u64>,
    raw: Option<Value>,
    waiting: usize,
    most_waiting: usize,
    max_connections: u64,
    /// Checks of services that the agent was told of, by their id.
    checks: BTreeMap<String, Value>,
    /// What was registered, by service id.
    registered: BTreeMap<String, Value>,
}

/// The node that the agent is.
const NODE: &str = "node-1";

/// Returns an instance as `/v1/health/service` lists it: healthy, on a node of its own.
pub fn instance(id: &str, address: &str, port: u16) -> Value {
    json!({
        "Node": { "ID": "", "Node": format!("node-of-{id}"), "Address": "192.0.2.250", "Datacenter": "dc1", "Meta": {} },
        "Service": {
            "ID": id, "Service": "web", "Tags": [], "Address": address, "Meta": {}, "Port": port,
            "Weights": { "Passing": 1, "Warning": 1 }, "EnableTagOverride": false,
        },
        "Checks": [{ "CheckID": "serfHealth", "Name": "Serf Health Status", "Status": "passing", "ServiceID": "" }],
    })
}

impl Consul {
    /// Starts one that knows no service, without ACLs.
    pub fn start() -> Self {
        let inner = Inner {
            index: 10,
            services: BTreeMap::new(),
            queries: BTreeMap::new(),
            datacenters: BTreeSet::from(["dc1".to_owned()]),
            hanging: BTreeSet::new(),
            tokens: None,
            says_filtered: true,
            has_leader: true,
            last_contact: Duration::ZERO,
            age: Duration::ZERO,
            forced_index: None,
            raw: None,
            waiting: 0,
            most_waiting: 0,
            max_connections: 200,
            checks: BTreeMap::new(),
            registered: BTreeMap::new(),
        };
        let state = Arc::new(State { inner: Mutex::new(inner), changed: watch::channel(0).0 });
        let handled = state.clone();
        let server = Server::start(Arc::new(move |request| {
            let state = handled.clone();
            Box::pin(async move { answer(&state, request).await })
        }));
        Self { server, state }
    }

    /// Returns `http://ADDRESS`.
    pub fn url(&self) -> String {
        self.server.url()
    }

    /// Makes a service have exactly these instances; see [`instance`].
    pub fn set(&self, name: &str, instances: Vec<Value>) {
        self.set_in("dc1", name, instances);
    }

    /// Makes a service of another datacenter have exactly these instances; the datacenter exists from now on.
    pub fn set_in(&self, datacenter: &str, name: &str, instances: Vec<Value>) {
        self.change(|inner| {
            inner.datacenters.insert(datacenter.to_owned());
            inner.list(datacenter, name, instances);
        });
    }

    /// Makes a prepared query ask for a service.
    pub fn prepare(&self, query: &str, service: &str) {
        self.change(|inner| drop(inner.queries.insert(query.to_owned(), service.to_owned())));
    }

    /// Raises the index of a service though nothing changed, as an idempotent write does.
    pub fn touch(&self, name: &str) {
        self.change(|inner| {
            let instances = inner.services.get(&("dc1".to_owned(), name.to_owned()));
            let instances = instances.map(|(_, instances)| instances.clone()).unwrap_or_default();
            inner.list("dc1", name, instances);
        });
    }

    /// Sets the index back, as a restored snapshot does; the services stay.
    pub fn set_back(&self, index: u64) {
        self.change(|inner| {
            inner.index = index;
            inner.services.values_mut().for_each(|(of_service, _)| *of_service = index);
        });
    }

    /// Answers every query with this index, whatever it is; `None`: with the true one.
    pub fn force_index(&self, index: Option<u64>) {
        self.change(|inner| inner.forced_index = index);
    }

    /// Answers every health query with this body; `None`: with the true one.
    pub fn force_body(&self, body: Option<Value>) {
        self.change(|inner| inner.raw = body);
    }

    /// Answers nothing that is asked of a datacenter, which exists.
    pub fn hang(&self, datacenter: &str) {
        self.change(|inner| {
            inner.datacenters.insert(datacenter.to_owned());
            inner.hanging.insert(datacenter.to_owned());
        });
    }

    /// Turns ACLs on: a token (`""` is the anonymous one) may do what is listed, such as `service:read`.
    pub fn permit(&self, token: &str, permissions: &[&str]) {
        self.change(|inner| {
            let permissions = permissions.iter().map(ToString::to_string).collect();
            inner.tokens.get_or_insert_default().insert(token.to_owned(), permissions);
        });
    }

    /// Makes a token unknown. ACLs are on from now on.
    pub fn revoke(&self, token: &str) {
        self.change(|inner| drop(inner.tokens.get_or_insert_default().remove(token)));
    }

    /// Answers as versions before 1.11 do, which do not say that ACLs filtered an answer.
    pub fn hide_filtering(&self) {
        self.change(|inner| inner.says_filtered = false);
    }

    /// Takes the leader away, or gives one back.
    pub fn lead(&self, has_leader: bool) {
        self.change(|inner| inner.has_leader = has_leader);
    }

    /// Says how long ago the server heard from its leader; only queries that allow stale answers see that.
    pub fn lag(&self, last_contact: Duration) {
        self.change(|inner| inner.last_contact = last_contact);
    }

    /// Says how long the agent has been cut off from its servers; only cached answers see that.
    pub fn cut_off(&self, age: Duration) {
        self.change(|inner| inner.age = age);
    }

    /// Sets how many connections of one client the agent says that it takes.
    pub fn limit_connections(&self, most: u64) {
        self.change(|inner| inner.max_connections = most);
    }

    /// Goes away and comes back with an index that begins anew; what was registered stays.
    pub fn restart(&self) {
        self.server.set(Mode::Down);
        self.set_back(3);
        self.server.set(Mode::Serve);
    }

    /// Returns how many blocking queries wait now.
    pub fn waiting(&self) -> usize {
        self.state.lock().waiting
    }

    /// Returns the most blocking queries that waited at one time.
    pub fn most_waiting(&self) -> usize {
        self.state.lock().most_waiting
    }

    /// Returns what is registered with the agent, by service id, as it was sent.
    pub fn registered(&self) -> BTreeMap<String, Value> {
        self.state.lock().registered.clone()
    }

    /// Returns the status of a check of the agent: `passing`, `warning` or `critical`.
    pub fn status(&self, check: &str) -> Option<String> {
        Some(self.state.lock().checks.get(check)?["Status"].as_str()?.to_owned())
    }

    /// Lets the time of a TTL check run out.
    pub fn expire(&self, check: &str) {
        self.change(|inner| inner.set_status(check, "critical", "TTL expired"));
    }

    /// Returns method and target of every request that wrote, in order.
    pub fn writes(&self) -> Vec<String> {
        self.server.requests().into_iter().filter(|request| request.starts_with("PUT ")).collect()
    }

    fn change(&self, change: impl FnOnce(&mut Inner)) {
        self.state.change(change);
    }
}

impl State {
    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn change<T>(&self, change: impl FnOnce(&mut Inner) -> T) -> T {
        let changed = change(&mut self.lock());
        self.changed.send_modify(|count| *count += 1);
        changed
    }
}

impl Inner {
    fn list(&mut self, datacenter: &str, name: &str, instances: Vec<Value>) {
        self.index += 1;
        let index = self.index;
        self.services.insert((datacenter.to_owned(), name.to_owned()), (index, instances));
    }

    /// Returns what a token may; `None`: everything.
    fn permissions(&self, token: &str) -> Result<Option<BTreeSet<String>>, Box<Response<Body>>> {
        match &self.tokens {
            None => Ok(None),
            Some(tokens) => match tokens.get(token) {
                Some(permissions) => Ok(Some(permissions.clone())),
                None if token.is_empty() => Ok(Some(BTreeSet::new())),
                None => Err(Box::new(text(403, "ACL not found"))),
            },
        }
    }
}

/// A request, taken apart.
struct Asked {
    method: Method,
    segments: Vec<String>,
    query: Vec<(String, String)>,
    /// What the token may; `None`: everything.
    permissions: Option<BTreeSet<String>>,
    body: Bytes,
}

impl Asked {
    fn value(&self, key: &str) -> Option<&str> {
        self.query.iter().find(|(name, _)| name == key).map(|(_, value)| value.as_str())
    }

    fn may(&self, permission: &str) -> bool {
        self.permissions.as_ref().is_none_or(|permissions| permissions.contains(permission))
    }

    /// Refuses parameters that are not listed, and those that contradict each other.
    fn takes_only(&self, keys: &[&str]) -> Result<(), Box<Response<Body>>> {
        if let Some((key, _)) = self.query.iter().find(|(key, _)| !keys.contains(&key.as_str())) {
            return Err(Box::new(text(400, format!("Invalid query parameter: \"{key}\""))));
        }
        let has = |key| self.value(key).is_some();
        if has("consistent") && (has("stale") || has("cached")) {
            return Err(Box::new(text(400, "Cannot specify ?stale with ?consistent, conflicting semantics.")));
        }
        Ok(())
    }
}

async fn answer(state: &Arc<State>, request: Request<Bytes>) -> Response<Body> {
    let token = request.headers().get("x-consul-token").map_or("", |value| value.to_str().unwrap_or("?"));
    let permissions = match state.lock().permissions(token) {
        Ok(permissions) => permissions,
        Err(refused) => return *refused,
    };
    let asked = Asked {
        method: request.method().clone(),
        segments: request.uri().path().split('/').skip(1).map(decode).collect(),
        query: request.uri().query().into_iter().flat_map(|query| query.split('&')).map(pair).collect(),
        permissions,
        body: request.into_body(),
    };
    let path: Vec<&str> = asked.segments.iter().map(String::as_str).collect();
    let is_get = asked.method == Method::GET;
    match path.as_slice() {
        ["v1", "agent" | "acl", ..] => agent::answer(state, &asked),
        _ if !is_get => text(405, "method not allowed"),
        ["v1", "health", "service" | "connect", name] => health::of_service(state, &asked, name).await,
        ["v1", "query", name, "execute"] => health::of_query(state, &asked, name),
        ["v1", "catalog", "datacenters"] => reply(&json!(state.lock().datacenters)),
        ["v1", "status", "leader"] => reply(&json!(if state.lock().has_leader { "127.0.0.1:8300" } else { "" })),
        _ => text(404, "not found"),
    }
}

fn pair(text: &str) -> (String, String) {
    let (key, value) = text.split_once('=').unwrap_or((text, ""));
    (decode(key), decode(value))
}

fn decode(text: &str) -> String {
    let mut bytes = Vec::new();
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        let escaped = (byte == b'%').then(|| [rest.next(), rest.next()]);
        match escaped {
            Some([Some(high), Some(low)]) => {
                let digits = [high, low].map(|digit| char::from(digit).to_digit(16).unwrap());
                bytes.push(u8::try_from(digits[0] * 16 + digits[1]).unwrap());
            }
            _ => bytes.push(byte),
        }
    }
    String::from_utf8(bytes).unwrap()
}
