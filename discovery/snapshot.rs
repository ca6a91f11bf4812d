//! What a backend knew about one target at one time.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Address;

/// The application protocol that a platform says an endpoint speaks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
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
#[serde(rename_all = "lowercase")]
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
    /// Which step of a failover list it is on, lower ones first: SRV's priority. Default 0.
    ///
    /// Left out where it is 0, so that a snapshot without tiers reads and writes as it did before there were any.
    #[serde(default, skip_serializing_if = "is_first")]
    pub priority: u16,
    /// Relative weight, default 1, at most [`Endpoint::MAX_WEIGHT`]; 0 gets nothing.
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
    /// Largest weight: the sum of a whole snapshot then fits in 32 bits, so no picker has to fear overflow.
    pub const MAX_WEIGHT: u32 = 100_000;

    /// Returns a healthy endpoint of weight 1 with nothing else known.
    pub fn new(address: Address) -> Self {
        Self {
            address,
            id: None,
            priority: 0,
            weight: 1,
            zone: None,
            health: Health::Healthy,
            protocol: None,
            metadata: BTreeMap::new(),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde hands a reference")]
fn is_first(priority: &u16) -> bool {
    *priority == 0
}

/// All endpoints of one target, as a backend knew them at one time: sorted, without duplicates, bounded.
///
/// What is read back from a disk passes the same checks as what a backend says.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "Vec<Endpoint>", into = "Vec<Endpoint>")]
pub struct Snapshot {
    endpoints: Vec<Endpoint>,
}

/// Why a list of endpoints is not a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SnapshotError {
    /// A weight over [`Endpoint::MAX_WEIGHT`].
    #[error("weight {weight} of {address}, at most {max} is taken", max = Endpoint::MAX_WEIGHT)]
    Heavy {
        /// Whose weight it is.
        address: Address,
        /// The weight.
        weight: u32,
    },
    /// More endpoints than [`Snapshot::MAX_ENDPOINTS`].
    #[error("{0} endpoints, at most {max} are taken", max = Snapshot::MAX_ENDPOINTS)]
    TooMany(usize),
}

impl Snapshot {
    /// Most endpoints that one target may have; beyond it an answer is an error, never cut short.
    pub const MAX_ENDPOINTS: usize = 10_000;

    /// Sorts, removes duplicates (same address and id: the first one stays) and checks the bounds.
    pub fn new(mut endpoints: Vec<Endpoint>) -> Result<Self, SnapshotError> {
        endpoints.sort_by(|left, right| (&left.address, &left.id).cmp(&(&right.address, &right.id)));
        endpoints.dedup_by(|next, kept| next.address == kept.address && next.id == kept.id);
        if endpoints.len() > Self::MAX_ENDPOINTS {
            return Err(SnapshotError::TooMany(endpoints.len()));
        }
        if let Some(heavy) = endpoints.iter().find(|endpoint| endpoint.weight > Endpoint::MAX_WEIGHT) {
            return Err(SnapshotError::Heavy { address: heavy.address.clone(), weight: heavy.weight });
        }
        Ok(Self { endpoints })
    }

    /// Returns the endpoints in the order of their address and id.
    pub fn endpoints(&self) -> &[Endpoint] {
        &self.endpoints
    }

    /// Tells whether there is no endpoint: an answer like any other, not an error.
    pub fn is_empty(&self) -> bool {
        self.endpoints.is_empty()
    }
}

impl TryFrom<Vec<Endpoint>> for Snapshot {
    type Error = SnapshotError;

    fn try_from(endpoints: Vec<Endpoint>) -> Result<Self, SnapshotError> {
        Self::new(endpoints)
    }
}

impl From<Snapshot> for Vec<Endpoint> {
    fn from(snapshot: Snapshot) -> Self {
        snapshot.endpoints
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn endpoint(address: &str) -> Endpoint {
        Endpoint::new(address.parse().unwrap())
    }

    #[test]
    fn the_order_of_the_answer_does_not_matter() {
        let (one, two) = (endpoint("10.0.0.1:80"), endpoint("10.0.0.2:80"));
        assert_eq!(Snapshot::new(vec![two.clone(), one.clone()]), Snapshot::new(vec![one, two]));
    }

    #[test]
    fn of_two_with_the_same_address_and_id_the_first_one_stays() {
        let heavy = Endpoint { weight: 7, ..endpoint("10.0.0.1:80") };
        let snapshot = Snapshot::new(vec![heavy.clone(), endpoint("10.0.0.1:80")]).unwrap();
        assert_eq!(snapshot.endpoints(), [heavy]);
    }

    #[test]
    fn two_instances_on_one_address_are_two_endpoints() {
        let with_id = |id: &str| Endpoint { id: Some(id.to_owned()), ..endpoint("10.0.0.1:80") };
        assert_eq!(Snapshot::new(vec![with_id("a"), with_id("b")]).unwrap().endpoints().len(), 2);
    }

    #[test]
    fn too_many_endpoints_are_an_error_and_not_cut_short() {
        let many = |count: usize| {
            (0..count).map(|port| endpoint(&format!("10.0.{}.{}:80", port / 250, port % 250))).collect::<Vec<_>>()
        };
        assert!(Snapshot::new(many(Snapshot::MAX_ENDPOINTS)).is_ok());
        assert_eq!(Snapshot::new(many(Snapshot::MAX_ENDPOINTS + 1)), Err(SnapshotError::TooMany(10_001)));
    }

    #[test]
    fn a_weight_whose_sum_could_overflow_is_an_error() {
        let heavy = Endpoint { weight: Endpoint::MAX_WEIGHT + 1, ..endpoint("10.0.0.1:80") };
        assert!(matches!(Snapshot::new(vec![heavy]), Err(SnapshotError::Heavy { .. })));
        let most = u32::try_from(Snapshot::MAX_ENDPOINTS).unwrap();
        assert!(Endpoint::MAX_WEIGHT.checked_mul(most).is_some());
    }

    #[test]
    fn what_is_read_back_passes_the_same_checks() {
        let snapshot = Snapshot::new(vec![endpoint("10.0.0.1:80"), endpoint("unix:/run/a.sock")]).unwrap();
        let text = serde_json::to_string(&snapshot).unwrap();
        assert_eq!(serde_json::from_str::<Snapshot>(&text).unwrap(), snapshot);
        assert!(!text.contains("priority"), "{text}");
        let second = text.replacen("\"weight\":1", "\"priority\":2,\"weight\":1", 1);
        let read = serde_json::from_str::<Snapshot>(&second).unwrap();
        assert_eq!(read.endpoints()[0].priority, 2);
        assert_eq!(serde_json::to_string(&read).unwrap(), second);
        let heavy = text.replace("\"weight\":1", "\"weight\":4000000000");
        assert!(serde_json::from_str::<Snapshot>(&heavy).is_err());
    }
}
