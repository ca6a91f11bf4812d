//! One lookup: from a question to endpoints, all of them or an error.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use futures_util::{StreamExt as _, TryStreamExt as _};
use hickory_resolver::proto::rr::rdata::SRV;
use hickory_resolver::proto::rr::{Name, RData, Record, RecordType};
use tokio::time::timeout;

use super::client::Client;
use super::message::{Reading, Records};
use super::servers::Servers;
use super::target::Question;
use super::{place, srv};
use crate::{Address, DnsFamily, Endpoint, Error};

/// Longest that one lookup may take, with all its servers, search domains and hosts: more is as good as no answer.
const LIMIT: Duration = Duration::from_secs(15);

/// Hosts of SRV records that are asked for at once by one lookup.
const HOSTS_AT_ONCE: usize = 32;

/// What a lookup came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Outcome {
    /// These are all. Empty only where the service itself says that it is not offered.
    Endpoints {
        /// All endpoints.
        endpoints: Vec<Endpoint>,
        /// How long they hold, in seconds.
        ttl: u32,
    },
    /// There is no such name, or no such record.
    Nobody {
        /// How long that holds, in seconds, where somebody said so.
        ttl: Option<u32>,
    },
}

/// Looks a question up once.
pub(super) async fn resolve(client: &Client, question: &Question) -> Result<Outcome, Error> {
    let lookup = async {
        let servers = client.servers().await?;
        match question {
            Question::Host { name, port } => host(client, &servers, name, *port).await,
            Question::Service { name } => service(client, &servers, name).await,
        }
    };
    let late = |_| Error::Unreachable(format!("{question}: no answer within {} s", LIMIT.as_secs()));
    timeout(LIMIT, lookup).await.map_err(late)?
}

/// Addresses of one host, and how long they hold.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Addresses {
    list: Vec<IpAddr>,
    /// `None` where there are none and nobody said for how long.
    ttl: Option<u32>,
}

async fn host(client: &Client, servers: &Servers, name: &Name, port: u16) -> Result<Outcome, Error> {
    let mut ttl = None;
    // An error ends the search: the next domain may have a host of the same name that is another service.
    for candidate in servers.candidates(name) {
        let found = addresses(client, servers, &candidate, &[]).await?;
        if found.list.is_empty() {
            ttl = shorter(ttl, found.ttl);
            continue;
        }
        let endpoint = |ip| Endpoint::new(Address::Tcp(SocketAddr::new(ip, port)));
        let endpoints = found.list.into_iter().map(endpoint).collect();
        return Ok(Outcome::Endpoints { endpoints, ttl: found.ttl.unwrap_or(0) });
    }
    Ok(Outcome::Nobody { ttl })
}

/// Asks for the addresses of both families. That one of them has none is usual; that one of them cannot be had is an
/// error: half of the endpoints is not all of them.
///
/// Of `glue`, records that came with another answer, a family that is there is taken and not asked for: an answer has
/// all records of a name and type or none of them (RFC 2181, 5 and 9).
async fn addresses(client: &Client, servers: &Servers, name: &Name, glue: &[Record]) -> Result<Addresses, Error> {
    let family = |kind: RecordType, wanted: bool| async move {
        if !wanted {
            return Ok(Reading::Nothing { ttl: None });
        }
        let given = glue.iter().filter(|record| record.name == *name && record.record_type() == kind);
        let data: Vec<RData> = given.clone().map(|record| record.data.clone()).collect();
        if data.is_empty() {
            return client.ask(servers, name, kind).await;
        }
        let ttl = given.map(|record| record.ttl).min().unwrap_or(0);
        Ok(Reading::Records(Records { data, ttl, additional: Vec::new() }))
    };
    let (four, six) = tokio::join!(
        family(RecordType::A, client.family != DnsFamily::Ipv6),
        family(RecordType::AAAA, client.family != DnsFamily::Ipv4),
    );
    let (mut list, mut positive, mut negative) = (Vec::new(), None, None);
    for reading in [four?, six?] {
        match reading {
            Reading::Records(records) => {
                positive = shorter(positive, Some(records.ttl));
                for ip in records.data.iter().filter_map(RData::ip_addr) {
                    list.push(place::taken(&name.to_ascii(), ip, client.allow_link_local)?);
                }
            }
            Reading::Nothing { ttl } => negative = shorter(negative, ttl),
            Reading::Elsewhere { .. } => {}
        }
    }
    // A server sends the addresses of a host along once for each record that names it: knot does.
    list.sort_unstable();
    list.dedup();
    Ok(Addresses { ttl: if list.is_empty() { negative } else { positive }, list })
}

async fn service(client: &Client, servers: &Servers, name: &Name) -> Result<Outcome, Error> {
    let mut ttl = None;
    for candidate in servers.candidates(name) {
        match client.ask(servers, &candidate, RecordType::SRV).await? {
            Reading::Records(records) => return hosts_of(client, servers, &candidate, records).await,
            Reading::Nothing { ttl: its } => ttl = shorter(ttl, its),
            Reading::Elsewhere { .. } => {}
        }
    }
    Ok(Outcome::Nobody { ttl })
}

/// Finds the addresses of all hosts that SRV records name.
async fn hosts_of(client: &Client, servers: &Servers, name: &Name, records: Records) -> Result<Outcome, Error> {
    let Records { data, mut ttl, additional } = records;
    let all = data.iter().filter_map(|data| if let RData::SRV(record) = data { Some(record) } else { None });
    // A host that is the root means "this service is decidedly not offered here" (RFC 2782).
    let records: Vec<&SRV> = all.filter(|record| !record.target.is_root()).collect();
    if let Some(record) = records.iter().find(|record| record.port == 0) {
        // Consul answers so for a service that was registered without a port.
        return Err(Error::Malformed(format!("{name}: the record of {} has port 0", record.target)));
    }
    let mut hosts: BTreeMap<Name, Addresses> = BTreeMap::new();
    let targets: std::collections::BTreeSet<Name> = records.iter().map(|record| record.target.to_lowercase()).collect();
    let mut asked = futures_util::stream::iter(targets)
        .map(|target| {
            let additional = &additional;
            async move { addresses(client, servers, &target, additional).await.map(|found| (target, found)) }
        })
        .buffer_unordered(HOSTS_AT_ONCE);
    while let Some((target, found)) = asked.try_next().await? {
        ttl = found.ttl.map_or(ttl, |its| its.min(ttl));
        hosts.insert(target, found);
    }
    let endpoints = endpoints(&records, &hosts);
    // Records that lead to nobody are as good as none, and as much to be doubted.
    if endpoints.is_empty() && !records.is_empty() {
        return Ok(Outcome::Nobody { ttl: Some(ttl) });
    }
    Ok(Outcome::Endpoints { endpoints, ttl })
}

/// Makes endpoints of records and the addresses of their hosts.
///
/// An address that several records lead to is one endpoint: of the lowest priority, with the weights of that priority
/// added up, whatever the order of the records was.
fn endpoints(records: &[&SRV], hosts: &BTreeMap<Name, Addresses>) -> Vec<Endpoint> {
    let mut by_priority: BTreeMap<u16, Vec<(&SRV, &[IpAddr])>> = BTreeMap::new();
    for record in records {
        let list = hosts.get(&record.target.to_lowercase()).map(|found| found.list.as_slice()).unwrap_or_default();
        by_priority.entry(record.priority).or_default().push((record, list));
    }
    let mut all: BTreeMap<SocketAddr, Endpoint> = BTreeMap::new();
    for (priority, group) in by_priority {
        let counts: Vec<(u16, usize)> = group.iter().map(|(record, list)| (record.weight, list.len())).collect();
        for ((record, list), weight) in group.into_iter().zip(srv::weights(&counts)) {
            for ip in list {
                let address = SocketAddr::new(*ip, record.port);
                match all.get_mut(&address) {
                    Some(known) if known.priority == priority => {
                        known.weight = known.weight.saturating_add(weight).min(Endpoint::MAX_WEIGHT);
                    }
                    // A lower one came first.
                    Some(_) => {}
                    None => {
                        let host = record.target.to_lowercase().to_ascii().trim_end_matches('.').to_owned();
                        let metadata = BTreeMap::from([("host".to_owned(), host)]);
                        let endpoint = Endpoint { priority, weight, metadata, ..Endpoint::new(Address::Tcp(address)) };
                        all.insert(address, endpoint);
                    }
                }
            }
        }
    }
    all.into_values().collect()
}

fn shorter(left: Option<u32>, right: Option<u32>) -> Option<u32> {
    match (left, right) {
        (Some(left), Some(right)) => Some(left.min(right)),
        (some, None) | (None, some) => some,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(priority: u16, weight: u16, port: u16, target: &str) -> SRV {
        SRV::new(priority, weight, port, Name::from_ascii(target).unwrap())
    }

    fn made(records: &[SRV], hosts: &[(&str, &[&str])]) -> Vec<(String, u16, u32)> {
        let hosts = hosts
            .iter()
            .map(|(name, list)| {
                let list = list.iter().map(|ip| ip.parse().unwrap()).collect();
                (Name::from_ascii(name).unwrap(), Addresses { list, ttl: None })
            })
            .collect();
        let made = endpoints(&records.iter().collect::<Vec<_>>(), &hosts);
        made.into_iter().map(|one| (one.address.to_string(), one.priority, one.weight)).collect()
    }

    #[test]
    fn port_priority_and_weight_are_those_of_the_record() {
        assert_eq!(
            made(
                &[record(0, 10, 8080, "A.x."), record(10, 0, 9090, "b.x.")],
                &[("a.x.", &["192.0.2.1"]), ("b.x.", &["192.0.2.2"])]
            ),
            [("192.0.2.1:8080".to_owned(), 0, 10), ("192.0.2.2:9090".to_owned(), 10, 1)]
        );
    }

    #[test]
    fn an_address_that_two_records_lead_to_is_one_endpoint_whatever_their_order() {
        let (low, same, high) = (record(1, 3, 80, "a.x."), record(1, 4, 80, "b.x."), record(2, 9, 80, "a.x."));
        let hosts: &[(&str, &[&str])] = &[("a.x.", &["192.0.2.1"]), ("b.x.", &["192.0.2.1"])];
        let wanted = [("192.0.2.1:80".to_owned(), 1, 7)];
        assert_eq!(made(&[low.clone(), same.clone(), high.clone()], hosts), wanted);
        assert_eq!(made(&[high, same, low], hosts), wanted);
    }
}
