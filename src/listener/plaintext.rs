//! Who comes in clear text to a listener that wishes for certificates: what a team has to know before it is strict.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

/// Sources that are remembered; beyond, the one that came longest ago is forgotten. The metric counts them all.
const MOST: usize = 100;

/// Sources of connections in clear text. One lock for each such connection, none for a request.
#[derive(Debug, Default)]
pub(crate) struct Sources(Mutex<HashMap<Option<IpAddr>, (u64, SystemTime)>>);

/// One source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Source {
    /// `None`: by a Unix socket.
    pub(crate) address: Option<IpAddr>,
    pub(crate) connections: u64,
    pub(crate) last: SystemTime,
}

impl Sources {
    /// One more connection.
    pub(super) fn count(&self, address: Option<IpAddr>, now: SystemTime) {
        let address = address.map(|address| address.to_canonical());
        let mut sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if sources.len() >= MOST
            && !sources.contains_key(&address)
            && let Some(oldest) = sources.iter().min_by_key(|(_, (_, last))| *last).map(|(address, _)| *address)
        {
            sources.remove(&oldest);
        }
        let source = sources.entry(address).or_insert((0, now));
        *source = (source.0 + 1, now);
    }

    /// Returns all that are remembered, the newest first.
    pub(crate) fn all(&self) -> Vec<Source> {
        let sources = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut all: Vec<_> = sources
            .iter()
            .map(|(address, (connections, last))| Source { address: *address, connections: *connections, last: *last })
            .collect();
        drop(sources);
        all.sort_by_key(|source| (std::cmp::Reverse(source.last), source.address));
        all
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;
    use std::time::{Duration, UNIX_EPOCH};

    use super::*;

    fn address(number: u32) -> IpAddr {
        Ipv4Addr::from(number).into()
    }

    #[test]
    fn a_hundred_sources_are_remembered_and_those_that_come_again_are_not_forgotten() {
        let sources = Sources::default();
        let at = |seconds: u32| UNIX_EPOCH + Duration::from_secs(seconds.into());
        for number in 0..150 {
            sources.count(Some(address(number)), at(number));
            sources.count(Some(address(0)), at(number));
        }
        let all = sources.all();
        assert_eq!(all.len(), MOST);
        let first = all.iter().find(|source| source.address == Some(address(0))).unwrap();
        assert_eq!((first.connections, first.last), (151, at(149)));
        assert!(!all.iter().any(|source| source.address == Some(address(1))));
    }

    #[test]
    fn one_address_is_one_source_in_whichever_family_it_comes() {
        let sources = Sources::default();
        sources.count(Some("::ffff:10.0.0.1".parse().unwrap()), UNIX_EPOCH);
        sources.count(Some("10.0.0.1".parse().unwrap()), UNIX_EPOCH);
        sources.count(None, UNIX_EPOCH);
        assert_eq!(sources.all().iter().map(|source| source.connections).collect::<Vec<_>>(), [1, 2]);
    }
}
