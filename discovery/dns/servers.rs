//! The servers that are asked, in order, and what they are asked for a name that is not absolute.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverOpts};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::Name;
use hickory_resolver::{NameServerPool, PoolContext, TlsConfig};

use super::resolv_conf::ResolvConf;

/// Questions under way at once over one TCP connection.
const MAX_ACTIVE: usize = 256;

/// One server.
#[derive(Clone)]
pub(super) struct Server {
    pub(super) address: SocketAddr,
    /// A pool of this server alone: in which order servers are asked, and what makes us go on to the next one, is ours.
    /// It sends over UDP, again over TCP where the answer was cut off, and keeps TCP connections.
    pub(super) pool: NameServerPool<TokioRuntimeProvider>,
}

impl fmt::Debug for Server {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_tuple("Server").field(&self.address).finish()
    }
}

/// All servers, and how they are asked.
#[derive(Debug)]
pub(super) struct Servers {
    list: Vec<Server>,
    /// Who answered last. A server that is away costs its time limit once and not for each question, and servers with
    /// different views of a name do not take turns.
    first: AtomicUsize,
    search: Vec<Name>,
    ndots: usize,
    /// Wait for one answer of one server.
    pub(super) timeout: Duration,
    /// Rounds through the servers.
    pub(super) attempts: usize,
}

impl Servers {
    /// Returns the servers of `resolvers`; names are absolute for them.
    pub(super) fn fixed(addresses: &[SocketAddr], timeout: Duration) -> Result<Self, NetError> {
        let conf = ResolvConf { timeout, ..ResolvConf::default() };
        Self::of(addresses.iter().copied(), conf)
    }

    /// Returns the servers of the system's file, which listen on `port`.
    pub(super) fn of_system(conf: ResolvConf, port: u16) -> Result<Self, NetError> {
        let addresses: Vec<SocketAddr> = conf.servers.iter().map(|ip| SocketAddr::new(*ip, port)).collect();
        Self::of(addresses, conf)
    }

    fn of(addresses: impl IntoIterator<Item = SocketAddr>, conf: ResolvConf) -> Result<Self, NetError> {
        let server = |address| Ok(Server { address, pool: pool(address, conf.timeout)? });
        let list = addresses.into_iter().map(server).collect::<Result<_, NetError>>()?;
        let ResolvConf { search, ndots, timeout, attempts, servers: _ } = conf;
        Ok(Self { list, first: AtomicUsize::new(0), search, ndots, timeout, attempts })
    }

    /// Returns every server twice: one that is asked over UDP alone, and one over TCP alone.
    pub(super) fn by_protocol(&self) -> Result<Vec<[Server; 2]>, NetError> {
        let over = |address: SocketAddr, connection| {
            Ok::<_, NetError>(Server { address, pool: pool_over(address, self.timeout, vec![connection])? })
        };
        let both = |server: &Server| {
            Ok([over(server.address, ConnectionConfig::udp())?, over(server.address, ConnectionConfig::tcp())?])
        };
        self.list.iter().map(both).collect()
    }

    /// Returns the servers in the order in which they are asked.
    pub(super) fn in_order(&self) -> impl Iterator<Item = (usize, &Server)> {
        let first = self.first.load(Ordering::Relaxed);
        let (before, from) = self.list.split_at(first.min(self.list.len()));
        let numbered = from.iter().enumerate().map(move |(offset, server)| (first + offset, server));
        numbered.chain(before.iter().enumerate())
    }

    /// Notes that a server answered.
    pub(super) fn answered(&self, index: usize) {
        self.first.store(index, Ordering::Relaxed);
    }

    /// Returns the absolute names that a name may stand for, in order (resolv.conf(5), `search` and `ndots`).
    pub(super) fn candidates(&self, name: &Name) -> Vec<Name> {
        let mut absolute = name.clone();
        absolute.set_fqdn(true);
        if name.is_fqdn() {
            return vec![absolute];
        }
        let dots = usize::from(name.num_labels()).saturating_sub(1);
        let searched = self.search.iter().filter_map(|domain| {
            let mut longer = name.clone().append_domain(domain).ok()?;
            longer.set_fqdn(true);
            Some(longer)
        });
        if dots >= self.ndots {
            std::iter::once(absolute).chain(searched).collect()
        } else {
            searched.chain(std::iter::once(absolute)).collect()
        }
    }
}

fn pool(address: SocketAddr, timeout: Duration) -> Result<NameServerPool<TokioRuntimeProvider>, NetError> {
    pool_over(address, timeout, vec![ConnectionConfig::udp(), ConnectionConfig::tcp()])
}

fn pool_over(
    address: SocketAddr,
    timeout: Duration,
    mut connections: Vec<ConnectionConfig>,
) -> Result<NameServerPool<TokioRuntimeProvider>, NetError> {
    let mut options = ResolverOpts::default();
    options.timeout = timeout;
    options.max_active_requests = MAX_ACTIVE;
    for connection in &mut connections {
        connection.port = address.port();
    }
    let server = NameServerConfig::new(address.ip(), true, connections);
    let context = Arc::new(PoolContext::new(options, TlsConfig::new()?));
    Ok(NameServerPool::from_config([server], context, TokioRuntimeProvider::default()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn candidates(conf: &str, name: &str) -> Vec<String> {
        let servers = Servers::of_system(ResolvConf::parse(conf).unwrap(), 53).unwrap();
        servers.candidates(&Name::from_ascii(name).unwrap()).iter().map(ToString::to_string).collect()
    }

    #[tokio::test]
    async fn search_domains_and_ndots_are_honoured() {
        assert_eq!(candidates("search a.x b.x\n", "web"), ["web.a.x.", "web.b.x.", "web."]);
        assert_eq!(candidates("search a.x\n", "web.y"), ["web.y.", "web.y.a.x."]);
        assert_eq!(candidates("search a.x\noptions ndots:2\n", "web.y"), ["web.y.a.x.", "web.y."]);
        assert_eq!(candidates("search a.x\n", "web."), ["web."]);
        assert_eq!(candidates("", "web"), ["web."]);
    }

    #[tokio::test]
    async fn who_answered_last_is_asked_first() {
        let conf = ResolvConf::parse("nameserver 192.0.2.1\nnameserver 192.0.2.2\nnameserver 192.0.2.3\n").unwrap();
        let servers = Servers::of_system(conf, 53).unwrap();
        let order = || servers.in_order().map(|(index, _)| index).collect::<Vec<_>>();
        assert_eq!(order(), [0, 1, 2]);
        servers.answered(1);
        assert_eq!(order(), [1, 2, 0]);
    }
}
