//! `[node]`, `[admin]`, `[shutdown]`.

use std::collections::BTreeSet;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::{Path as FilePath, PathBuf};
use std::time::Duration;

use meshless_platforms::{Platform, Surroundings};

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{Admin, ListenAddress, Node, Notice, Shutdown, raw};
use crate::target::is_name;

/// Longest path of a Unix socket: `sun_path` has 108 bytes, the last one is 0.
const MAX_SOCKET_PATH: usize = 107;
/// Least memory that may be configured, in bytes: an idle gateway has about as much resident.
const LEAST_MEMORY: usize = 16 << 20;

impl Check<'_> {
    pub(super) fn node(&mut self, raw: Option<&raw::Node>, surroundings: &dyn Surroundings) -> Node {
        let raw = raw.cloned().unwrap_or_default();
        let path = Path::default().key("node");
        if let Some(name) = raw.service.as_deref().filter(|name| !is_name(name)) {
            let message = format!("expected a name of a-z, 0-9, `.`, `_` and `-`, found {}", shown(name));
            self.error(&path.key("service"), At::Value, message);
        }
        if raw.zone.as_deref() == Some("") {
            self.error(
                &path.key("zone"),
                At::Value,
                "expected a zone, found nothing; remove the key if it is not known",
            );
        }
        let address = raw.address.as_deref().and_then(|text| {
            let address = text.parse::<IpAddr>().ok().filter(|address| !address.is_unspecified());
            if address.is_none() {
                let message =
                    format!("expected an IP address that others reach this process by, found {}", shown(text));
                self.error(&path.key("address"), At::Value, message);
            }
            address
        });
        if let Some(directory) = &raw.state_dir {
            self.not_empty(&directory.to_string_lossy(), &path.key("state_dir"));
        }
        if raw.memory.is_some_and(|size| size.0 < LEAST_MEMORY) {
            self.error(
                &path.key("memory"),
                At::Value,
                "expected at least 16MiB: the gateway itself needs about as much",
            );
        }
        let whereabouts = surroundings.whereabouts();
        // systemd separates several directories by colons; the first one is ours.
        let systemd =
            || surroundings.variable("STATE_DIRECTORY").and_then(|all| Some(PathBuf::from(all.split(':').next()?)));
        let given = raw.state_dir.or_else(|| systemd().filter(|directory| !directory.as_os_str().is_empty()));
        Node {
            service: raw.service,
            zone: raw.zone.or_else(|| whereabouts?.zone().map(str::to_owned)),
            address: address.or_else(|| whereabouts?.address()),
            platform: named(raw.platform).or_else(|| Some(whereabouts?.platform)),
            state_dir: Some(given.unwrap_or_else(|| PathBuf::from("/var/lib/meshless"))),
            workers: raw.workers,
            memory: raw.memory.map(|size| size.0),
        }
    }

    pub(super) fn admin(&mut self, raw: Option<&raw::Admin>) -> Option<Admin> {
        let raw = raw.cloned().unwrap_or_default();
        let path = Path::default().key("admin");
        let default = ListenAddress::Tcp(SocketAddr::from((Ipv4Addr::LOCALHOST, 9990)));
        let listen = match raw.listen.as_deref() {
            Some(text) => self.listen_address(text, &path.key("listen")),
            None => Some(default),
        };
        // It shows everything and changes things, and asks for no credentials.
        if listen.as_ref().is_some_and(|address| !is_local(address)) {
            let message = "expected a loopback address or a Unix socket; \
                           for kubelet, load balancers and Prometheus there is `admin.probes`";
            self.error(&path.key("listen"), At::Value, message);
        }
        let probes = raw.probes.as_deref().map(|text| self.listen_address(text, &path.key("probes")));
        match (listen, probes) {
            (Some(listen), None) => Some(Admin { listen, probes: None }),
            (Some(listen), Some(Some(probes))) => Some(Admin { listen, probes: Some(probes) }),
            _ => None,
        }
    }

    /// Parses where to listen; reports what it is not.
    pub(super) fn listen_address(&mut self, text: &str, path: &Path) -> Option<ListenAddress> {
        if let Some(socket) = text.strip_prefix("unix:") {
            if !FilePath::new(socket).is_absolute() {
                self.error(
                    path,
                    At::Value,
                    format!("expected an absolute path after `unix:`, found {}", shown(socket)),
                );
                return None;
            }
            if socket.len() > MAX_SOCKET_PATH || socket.contains('\0') {
                let message = format!("expected a path of at most {MAX_SOCKET_PATH} bytes, found {}", socket.len());
                self.error(path, At::Value, message);
                return None;
            }
            return Some(ListenAddress::Unix(PathBuf::from(socket)));
        }
        if let Ok(address) = text.parse() {
            Some(ListenAddress::Tcp(address))
        } else {
            let hint = match text.strip_prefix(':') {
                Some(port) if port.parse::<u16>().is_ok() => format!("; for all addresses write `[::]:{port}`"),
                _ if text.starts_with("localhost:") => "; names are not resolved, write `127.0.0.1`".to_owned(),
                _ => String::new(),
            };
            let message = format!(
                "expected an IP address and a port such as `127.0.0.1:4140`, or `unix:` and a path, found {}{hint}",
                shown(text)
            );
            self.error(path, At::Value, message);
            None
        }
    }
}

/// Only processes on this host can reach it.
pub(super) fn is_local(address: &ListenAddress) -> bool {
    match address {
        ListenAddress::Tcp(address) => address.ip().to_canonical().is_loopback(),
        ListenAddress::Unix(_) => true,
    }
}

/// Returns the platform that is named; `None`: it is to be found out.
fn named(platform: Option<raw::Platform>) -> Option<Platform> {
    match platform? {
        raw::Platform::Auto => None,
        raw::Platform::Ec2 => Some(Platform::Ec2),
        raw::Platform::Ecs => Some(Platform::Ecs),
        raw::Platform::Kubernetes => Some(Platform::Kubernetes),
        raw::Platform::Nomad => Some(Platform::Nomad),
        raw::Platform::Vm => Some(Platform::Vm),
    }
}

pub(super) fn shutdown(raw: Option<&raw::Shutdown>) -> Shutdown {
    let (grace, drain) = raw.map_or((None, None), |raw| (raw.grace, raw.drain));
    let notice = |notice: &raw::Notice| match notice {
        raw::Notice::Interruption => Notice::Interruption,
        raw::Notice::Rebalance => Notice::Rebalance,
    };
    let notices = raw.and_then(|raw| raw.notices.as_ref());
    Shutdown {
        notices: notices.map_or_else(
            || BTreeSet::from([Notice::Interruption, Notice::Rebalance]),
            |notices| notices.iter().map(notice).collect(),
        ),
        grace: grace.map_or(Duration::ZERO, |grace| grace.0),
        drain: drain.map_or(Duration::from_secs(25), |drain| drain.0),
    }
}
