//! `[register]`: what is registered, where, and how the application is checked.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use meshless_discovery::{Address, Config as Kind, Target, written};

use super::Check;
use super::process::is_local;
use crate::config::problem::{At, Path, shown, suggestion};
use crate::config::raw::{self, Raw, RegisterCheckType};
use crate::config::units::Period;
use crate::config::{
    Backend, CheckedBy, Health, HealthAsk, ListenAddress, Listener, Node, Register, RegisterCheck, Service,
};
use crate::target::{Node as Leaf, is_name};

/// Most tags, and most keys of metadata: Consul takes 64 keys, four are ours.
const MOST: usize = 60;
/// Longest key and longest value of metadata, in bytes, as Consul takes them.
const META: (usize, usize) = (128, 512);
/// Shortest and longest `ttl`: with a third of it between two words, the agent is asked every 1.7 s at most.
const TTL: (Duration, Duration) = (Duration::from_secs(5), Duration::from_hours(1));
/// Shortest and longest `deregister_after`; Consul takes less for its least.
const DEREGISTER: (Duration, Duration) = (Duration::from_mins(1), Duration::from_hours(24));
/// Longest `wait`.
const WAIT: Duration = Duration::from_mins(10);
/// What is not said of a check.
const CHECK: Health = Health {
    ask: HealthAsk::Tcp,
    interval: Duration::from_secs(2),
    timeout: Duration::from_secs(1),
    healthy: 2,
    unhealthy: 3,
};

/// What `[register]` refers to.
pub(super) struct Place<'a> {
    pub(super) node: &'a Node,
    pub(super) discovery: &'a BTreeMap<String, Backend>,
    pub(super) listeners: &'a [Option<Listener>],
    pub(super) services: &'a BTreeMap<String, Service>,
}

impl Check<'_> {
    pub(super) fn register(&mut self, table: Option<&raw::Register>, raw: &Raw, place: &Place<'_>) -> Option<Register> {
        let table = table?;
        let path = Path::default().key("register");
        let backend = self.register_backend(table, raw, place, &path);
        let listener = self.register_listener(table, raw, place, &path);
        let service = self.register_service(table, place, &path);
        let address = self.register_address(table, listener, &path);
        self.tags(&table.tags, &path.key("tags"));
        self.meta(&table.meta, &path.key("meta"));
        let ttl = self.within(table.ttl, TTL, Duration::from_secs(15), "from 5s to 1h", &path.key("ttl"));
        let deregister_after = self.within(
            table.deregister_after,
            DEREGISTER,
            Duration::from_mins(1),
            "from 1m, which is Consul's own least, to 24h",
            &path.key("deregister_after"),
        );
        let wait = (Duration::ZERO, WAIT);
        let wait = self.within(table.wait, wait, Duration::from_secs(2), "of at most 10m", &path.key("wait"));
        let check = match &table.check {
            Some(check) => Some(self.register_check(check, listener, place, &path.key("check"))?),
            None => None,
        };
        Some(Register {
            backend: backend?,
            listener: listener?.name.clone(),
            service: service?,
            address,
            port: table.port,
            tags: table.tags.clone(),
            meta: table.meta.clone(),
            weight: table.weight.unwrap_or(1),
            check,
            ttl,
            deregister_after,
            wait,
        })
    }

    fn register_backend(&mut self, table: &raw::Register, raw: &Raw, place: &Place<'_>, path: &Path) -> Option<String> {
        let path = path.key("backend");
        let Some(name) = &table.backend else {
            self.missing(
                &path,
                "missing: name a table of `[discovery]` of type `consul`, such as `backend = \"consul\"`",
            );
            return None;
        };
        match place.discovery.get(name) {
            Some(Backend::Consul(_)) => return Some(name.clone()),
            Some(_) => {
                let message = format!("the backend `{name}` is not of type `consul`; only there can we register");
                self.error(&path, At::Value, message);
            }
            // It is there, and wrong: that has been said.
            None if raw.discovery.contains_key(name) => {}
            None => {
                let consul = place.discovery.iter().filter(|(_, backend)| matches!(backend, Backend::Consul(_)));
                let hint = suggestion(name, consul.map(|(name, _)| name.as_str()));
                let name = name.escape_debug();
                let message = format!("there is no backend `{name}`{hint}; add `[discovery.{name}]` of type `consul`");
                self.error(&path, At::Value, message);
            }
        }
        None
    }

    fn register_listener<'a>(
        &mut self,
        table: &raw::Register,
        raw: &Raw,
        place: &Place<'a>,
        path: &Path,
    ) -> Option<&'a Listener> {
        let path = path.key("listener");
        let listeners = || place.listeners.iter().flatten();
        let found = match &table.listener {
            Some(name) => {
                let found = listeners().find(|listener| listener.name == *name);
                // One that is there and wrong has been told of.
                if found.is_none() && !raw.listeners.iter().any(|listener| listener.name.as_ref() == Some(name)) {
                    let hint = suggestion(name, listeners().map(|listener| listener.name.as_str()));
                    let message = format!("there is no listener `{}`{hint}", name.escape_debug());
                    self.error(&path, At::Value, message);
                }
                found?
            }
            None if raw.listeners.len() == 1 => listeners().next()?,
            None => {
                self.missing(&path, "missing: there is more than one listener; name the one that others shall reach");
                return None;
            }
        };
        if matches!(found.listen, ListenAddress::Unix(_)) {
            let message = format!("the listener `{}` is a Unix socket, which no other host reaches", found.name);
            self.error(&path, At::Value, message);
            return None;
        }
        Some(found)
    }

    fn register_service(&mut self, table: &raw::Register, place: &Place<'_>, path: &Path) -> Option<String> {
        let path = path.key("service");
        match table.service.as_ref().or(place.node.service.as_ref()) {
            Some(name) if is_name(name) => Some(name.clone()),
            Some(name) => {
                let message = format!("expected a name of a-z, 0-9, `.`, `_` and `-`, found {}", shown(name));
                // The other one has been told of where it stands.
                if table.service.is_some() {
                    self.error(&path, At::Value, message);
                }
                None
            }
            None => {
                self.missing(&path, "missing: say which service this is, here or in `node.service`");
                None
            }
        }
    }

    fn register_address(&mut self, table: &raw::Register, listener: Option<&Listener>, path: &Path) -> Option<IpAddr> {
        let Some(text) = &table.address else {
            if let Some(listener) = listener.filter(|listener| is_local(&listener.listen)) {
                let message = format!(
                    "the listener `{}` is on loopback: who finds `{}` would reach itself; listen on another address, \
                     or set `register.address`",
                    listener.name, listener.listen
                );
                self.report.warning(&path.key("listener"), At::Value, message);
            }
            return None;
        };
        let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
        if address.is_none() {
            let message = format!("expected an IP address that others reach us by, found {}", shown(text));
            self.error(&path.key("address"), At::Value, message);
        }
        address
    }

    fn tags(&mut self, tags: &[String], path: &Path) {
        if tags.len() > MOST {
            self.error(path, At::Value, format!("expected at most {MOST} tags, found {}", tags.len()));
        }
        for (position, tag) in tags.iter().enumerate() {
            if tag.is_empty() || tag.len() > META.1 || tag.chars().any(char::is_control) {
                let message = format!("expected a tag of 1 to {} bytes without control characters", META.1);
                self.error(&path.position(position), At::Value, message);
            }
        }
    }

    fn meta(&mut self, meta: &BTreeMap<String, String>, path: &Path) {
        if meta.len() > MOST {
            self.error(path, At::Value, format!("expected at most {MOST} keys, found {}", meta.len()));
        }
        let is_key = |key: &str| {
            (1..=META.0).contains(&key.len())
                && key.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        };
        for (key, value) in meta {
            let path = path.key(key);
            if key.starts_with("meshless-") || key.starts_with("consul-") {
                self.error(&path, At::Key, "keys that begin with `meshless-` are ours, `consul-` Consul's; rename it");
            } else if !is_key(key) {
                let message = format!("expected a key of 1 to {} letters, digits, `_` and `-`", META.0);
                self.error(&path, At::Key, message);
            }
            if value.len() > META.1 {
                self.error(&path, At::Value, format!("expected at most {} bytes, found {}", META.1, value.len()));
            }
        }
    }

    fn register_check(
        &mut self,
        raw: &raw::RegisterCheck,
        listener: Option<&Listener>,
        place: &Place<'_>,
        path: &Path,
    ) -> Option<RegisterCheck> {
        let by = match raw.by {
            Some(raw::CheckedBy::Agent) => CheckedBy::Agent,
            Some(raw::CheckedBy::Gateway) | None => CheckedBy::Gateway,
        };
        if by == CheckedBy::Agent && raw.status.is_some() {
            let message = "Consul's agent takes 2xx for good, and nothing else; remove it, or `by = \"agent\"`";
            self.error(&path.key("status"), At::Key, message);
        }
        let asked = raw::Health {
            r#type: raw.r#type.map(|kind| match kind {
                RegisterCheckType::Grpc => raw::HealthType::Grpc,
                RegisterCheckType::Http => raw::HealthType::Http,
                RegisterCheckType::Tcp => raw::HealthType::Tcp,
            }),
            path: raw.path.clone(),
            host: raw.host.clone(),
            status: raw.status.clone(),
            service: raw.service.clone(),
            interval: raw.interval,
            timeout: raw.timeout,
            healthy: raw.healthy,
            unhealthy: raw.unhealthy,
        };
        let health = self.health(Some(&asked), Some(&CHECK), path);
        let address = self.application(raw, listener, place, path);
        if by == CheckedBy::Agent && matches!(address, Some(Address::Unix(_))) {
            self.error(&path.key("by"), At::Value, "Consul's agent does not check Unix sockets; let the gateway do it");
        }
        Some(RegisterCheck { by, address: address?, health: health? })
    }

    /// Where the application listens.
    fn application(
        &mut self,
        raw: &raw::RegisterCheck,
        listener: Option<&Listener>,
        place: &Place<'_>,
        path: &Path,
    ) -> Option<Address> {
        let path = path.key("address");
        if let Some(text) = &raw.address {
            let address = text.parse();
            if let Err(error) = &address {
                self.error(&path, At::Value, format!("expected an address such as `127.0.0.1:8080`: {error}"));
            }
            return address.ok();
        }
        let endpoints = behind(listener?, place.services);
        if let [address] = endpoints.as_slice() {
            return Some(address.clone());
        }
        let message = match endpoints.len() {
            0 => "missing: the listener's `to` names no address; say where the application listens, such as \
                  `address = \"127.0.0.1:8080\"`"
                .to_owned(),
            count => format!("missing: the listener's `to` names {count} addresses; say which one answers for all"),
        };
        self.missing(&path, &message);
        None
    }

    fn within(
        &mut self,
        given: Option<Period>,
        (least, most): (Duration, Duration),
        default: Duration,
        expected: &str,
        path: &Path,
    ) -> Duration {
        if given.is_some_and(|given| given.0 < least || given.0 > most) {
            self.error(path, At::Value, format!("expected a time {expected}"));
        }
        given.map_or(default, |given| given.0)
    }
}

/// The addresses that a listener's `to` names by itself or by services.
fn behind(listener: &Listener, services: &BTreeMap<String, Service>) -> Vec<Address> {
    let mut targets: Vec<&Target> = Vec::new();
    for leaf in listener.to.iter().flat_map(|to| to.leaves()) {
        match leaf {
            Leaf::Target(target) => targets.push(target),
            Leaf::Service(name) => targets.extend(services.get(name).iter().flat_map(|service| service.from.targets())),
            // Leaves are not groups.
            Leaf::Group(_) => {}
        }
    }
    let is_written = |target: &&&Target| target.backend == "static";
    // One that is found elsewhere is an address that we do not know.
    if !targets.iter().all(|target| is_written(&target)) {
        return Vec::new();
    }
    let found = targets.iter().filter_map(|target| written(&Kind::Static, target)?.ok());
    let mut addresses: Vec<Address> =
        found.flat_map(|found| found.endpoints().iter().map(|one| one.address.clone()).collect::<Vec<_>>()).collect();
    addresses.sort();
    addresses.dedup();
    addresses
}
