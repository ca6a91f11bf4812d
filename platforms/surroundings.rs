//! The only reader of the environment.
//!
//! Everything that depends on environment variables takes a `&dyn Surroundings`, so that a test can hand in its own
//! and two gateways in one process do not share hidden state.

use std::collections::BTreeMap;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, UdpSocket};
use std::sync::Arc;

use crate::whereabouts::Whereabouts;

/// What a process can ask of the place it runs in.
pub trait Surroundings: fmt::Debug + Send + Sync {
    /// Returns the value of an environment variable; `None` when it is not set or is not UTF-8.
    fn variable(&self, name: &str) -> Option<String>;

    /// Returns all environment variables that are UTF-8.
    fn variables(&self) -> BTreeMap<String, String>;

    /// Returns the text of a file of the system, such as `/proc/self/cgroup`; `None` where it cannot be read.
    fn file(&self, path: &str) -> Option<String>;

    /// Returns the address that others are reached from; `None` without a default route, and where nobody looks.
    fn address(&self) -> Option<IpAddr> {
        None
    }

    /// Returns what the platform said when it was asked; `None`: it was not.
    fn whereabouts(&self) -> Option<&Whereabouts> {
        None
    }
}

/// The surroundings of the running process.
#[derive(Debug, Clone, Copy, Default)]
pub struct Process;

impl Surroundings for Process {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn variable(&self, name: &str) -> Option<String> {
        std::env::var(name).ok()
    }

    #[allow(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
    fn variables(&self) -> BTreeMap<String, String> {
        std::env::vars_os()
            .filter_map(|(name, value)| Some((name.into_string().ok()?, value.into_string().ok()?)))
            .collect()
    }

    fn file(&self, path: &str) -> Option<String> {
        std::fs::read_to_string(path).ok()
    }

    fn address(&self) -> Option<IpAddr> {
        reached_from()
    }
}

/// Returns the address that this host reaches others from: that of its default route, as the kernel chooses it for an address
/// of documentation (RFC 5737, RFC 3849). Nothing is sent.
///
/// A list of interfaces would not say which of their addresses that is: routes, rules and preferred source addresses do.
pub fn reached_from() -> Option<IpAddr> {
    let probe = |from: IpAddr, to: IpAddr| {
        let socket = UdpSocket::bind((from, 0)).ok()?;
        socket.connect((to, 9)).ok()?;
        let address = socket.local_addr().ok()?.ip();
        (!address.is_unspecified() && !address.is_loopback()).then_some(address)
    };
    probe(Ipv4Addr::UNSPECIFIED.into(), Ipv4Addr::new(192, 0, 2, 1).into())
        .or_else(|| probe(Ipv6Addr::UNSPECIFIED.into(), Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1).into()))
}

/// Surroundings whose platform was asked once: whoever has them need not ask again.
#[derive(Debug, Clone)]
pub struct Located {
    surroundings: Arc<dyn Surroundings>,
    whereabouts: Arc<Whereabouts>,
}

impl Located {
    /// Adds what the platform said.
    pub fn new(surroundings: Arc<dyn Surroundings>, whereabouts: Arc<Whereabouts>) -> Self {
        Self { surroundings, whereabouts }
    }
}

impl Surroundings for Located {
    fn variable(&self, name: &str) -> Option<String> {
        self.surroundings.variable(name)
    }

    fn variables(&self) -> BTreeMap<String, String> {
        self.surroundings.variables()
    }

    fn file(&self, path: &str) -> Option<String> {
        self.surroundings.file(path)
    }

    fn address(&self) -> Option<IpAddr> {
        self.surroundings.address()
    }

    fn whereabouts(&self) -> Option<&Whereabouts> {
        Some(&self.whereabouts)
    }
}

/// Surroundings that a test writes down: variables, and files by their absolute paths. `ADDRESS` is the address.
#[derive(Debug, Clone, Default)]
pub struct Scripted(pub BTreeMap<String, String>);

impl Surroundings for Scripted {
    fn variable(&self, name: &str) -> Option<String> {
        self.0.get(name).cloned()
    }

    fn variables(&self) -> BTreeMap<String, String> {
        // No variable begins with a slash.
        self.0
            .iter()
            .filter(|(name, _)| !name.starts_with('/'))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect()
    }

    fn file(&self, path: &str) -> Option<String> {
        self.0.get(path).cloned()
    }
    fn address(&self) -> Option<IpAddr> {
        self.0.get("ADDRESS")?.parse().ok()
    }
}
