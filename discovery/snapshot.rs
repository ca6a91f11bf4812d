//! What a backend knew about one target at one time.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

/// Where an endpoint listens.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Address {
    /// An IP address and a port.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

impl fmt::Display for Address {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(formatter),
            Self::Unix(path) => write!(formatter, "unix:{}", path.display()),
        }
    }
}

/// The application protocol that a platform says an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AppProtocol {
    /// HTTP/1.1.
    Http1,
    /// HTTP/2 in clear text, by prior knowledge.
    H2c,
    /// Bytes.
    Tcp,
}

/// What a backend says about an endpoint's health.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Health {
    /// Finishes what it has; gets nothing new.
    Draining,
    /// Serves.
    #[default]
    Healthy,
    /// Known, but said to be failing.
    Unhealthy,
}

/// One address that can serve a request.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Endpoint {
    /// Where it listens.
    pub address: Address,
    /// The backend's own id where it has one (a Consul service id, a task ARN); tells two instances on one address apart.
    pub id: Option<String>,
    /// Relative weight, default 1; 0 gets nothing.
    pub weight: u32,
    /// Zone, where known.
    pub zone: Option<String>,
    /// What the backend says about its health.
    pub health: Health,
    /// What it speaks, where the platform says so.
    pub protocol: Option<AppProtocol>,
    /// Tags and metadata for matching, `/endpoints` and logs.
    pub metadata: BTreeMap<String, String>,
}

impl Endpoint {
    /// Returns a healthy endpoint of weight 1 with nothing else known.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            id: None,
            weight: 1,
            zone: None,
            health: Health::Healthy,
            protocol: None,
            metadata: BTreeMap::new(),
        }
    }
}

/// All endpoints of one target, as a backend knew them at one time: sorted, without duplicates, bounded.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    endpoints: Vec<Endpoint>,
}

/// Why a list of endpoints is not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// More endpoints than [`Snapshot::MAX_ENDPOINTS`].
    #[error("{0} endpoints, at most {max} are taken", max = Snapshot::MAX_ENDPOINTS)]
    TooMany(usize),
}

impl Snapshot {
    /// Most endpoints that one target may have; the bound of the security paper (§1, Discovery).
    pub const MAX_ENDPOINTS: usize = 10_000;

    /// Sorts, removes duplicates (same address and id: the first one stays) and checks the bound.
    pub fn new(mut endpoints: Vec<Endpoint>) -> Result<Self, SnapshotError> {
        endpoints.sort_by(|left, right| (&left.address, &left.id).cmp(&(&right.address, &right.id)));
        endpoints.dedup_by(|next, kept| next.address == kept.address && next.id == kept.id);
        if endpoints.len() > Self::MAX_ENDPOINTS {
            return Err(SnapshotError::TooMany(endpoints.len()));
        }
        Ok(Self { endpoints })
    }

    /// Returns the endpoints in the order of their address and id.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }
}
