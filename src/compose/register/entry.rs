//! From a configuration and a listener to an entry of a registry (pure).

use std::net::{IpAddr, SocketAddr};

use meshless_discovery::{Address, Ask, Registration, Upkeep};

use crate::config::{CheckedBy, HealthAsk, Register, RegisterCheck};
use crate::register::leftovers::{self, Mark};

/// Makes the entry. `bound` is where the listener listens; `address` what others reach us by where nothing says it.
///
/// The id is made of service, address and port: a process that is started again on the same place replaces its own entry,
/// and two on one host never replace each other's.
pub(super) fn registration(
    config: &Register,
    bound: SocketAddr,
    address: Option<IpAddr>,
    mark: Option<&Mark>,
    zone: Option<&str>,
) -> Registration {
    let address = config.address.or(address);
    let port = config.port.unwrap_or_else(|| bound.port());
    let place = address.map_or_else(|| "node".to_owned(), |address| address.to_string());
    let mut meta = config.meta.clone();
    if let Some(mark) = mark {
        meta.insert(leftovers::KEY.to_owned(), mark.to_string());
    }
    if let Some(zone) = zone {
        meta.entry("zone".to_owned()).or_insert_with(|| zone.to_owned());
    }
    let upkeep = match &config.check {
        Some(check) if check.by == CheckedBy::Agent => asked(check),
        _ => Upkeep::Told { ttl: config.ttl },
    };
    Registration {
        id: format!("{}-{place}-{port}", config.service),
        service: config.service.clone(),
        address,
        port,
        tags: config.tags.clone(),
        meta,
        weight: config.weight,
        upkeep,
        deregister_after: config.deregister_after,
    }
}

/// What the registry's agent asks the application.
fn asked(check: &RegisterCheck) -> Upkeep {
    let address = match &check.address {
        Address::Tcp(address) => address.to_string(),
        // The configuration does not let an agent check a socket.
        Address::Unix(path) => path.display().to_string(),
    };
    let ask = match &check.health.ask {
        HealthAsk::Grpc { service } => Ask::Grpc { address, service: service.clone() },
        HealthAsk::Http { path, host, .. } => Ask::Http { url: format!("http://{address}{path}"), host: host.clone() },
        HealthAsk::Tcp => Ask::Tcp { address },
    };
    let health = &check.health;
    Upkeep::Asked {
        ask,
        interval: health.interval,
        timeout: health.timeout,
        healthy: health.healthy,
        unhealthy: health.unhealthy,
    }
}

/// Returns the address that a listener is reached by, where it does not listen on all of them.
pub(super) fn bound_address(bound: SocketAddr) -> Option<IpAddr> {
    Some(bound.ip().to_canonical()).filter(|address| !address.is_unspecified())
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::Health;

    fn config() -> Register {
        Register {
            backend: "consul".to_owned(),
            listener: "in".to_owned(),
            service: "web".to_owned(),
            address: None,
            port: None,
            tags: vec!["blue".to_owned()],
            meta: [("version".to_owned(), "1".to_owned())].into(),
            weight: 2,
            check: None,
            ttl: Duration::from_secs(15),
            deregister_after: Duration::from_mins(1),
            wait: Duration::from_secs(2),
        }
    }

    #[test]
    fn the_id_is_the_place_so_that_a_restart_replaces_itself_and_nobody_else() {
        let id = |config: &Register, bound: &str, found: Option<&str>| {
            let found = found.map(|found| found.parse().unwrap());
            registration(config, bound.parse().unwrap(), found, None, None).id
        };
        assert_eq!(id(&config(), "10.0.0.1:4143", Some("10.0.0.1")), "web-10.0.0.1-4143");
        assert_eq!(id(&config(), "10.0.0.1:4144", Some("10.0.0.1")), "web-10.0.0.1-4144");
        assert_eq!(id(&config(), "[::]:1", Some("2001:db8::1")), "web-2001:db8::1-1");
        assert_eq!(id(&config(), "0.0.0.0:1", None), "web-node-1");
        let mapped = Register { address: Some("192.0.2.7".parse().unwrap()), port: Some(32_768), ..config() };
        assert_eq!(id(&mapped, "0.0.0.0:4143", Some("10.0.0.1")), "web-192.0.2.7-32768");
    }

    #[test]
    fn an_entry_says_who_wrote_it_and_where_it_is() {
        let mark = Mark::of("boot", "pid:[1]", "7 (m) S 1 1 1 0 -1 0 1 0 0 0 5 6 0 0 20 0 7 0 99 1").unwrap();
        let bound = "0.0.0.0:80".parse().unwrap();
        let entry = registration(&config(), bound, None, Some(&mark), Some("a"));
        let pairs: Vec<_> = entry.meta.iter().map(|(key, value)| format!("{key}={value}")).collect();
        assert_eq!(pairs, ["meshless-instance=boot/1/7/99", "version=1", "zone=a"]);
        assert_eq!((entry.weight, entry.upkeep), (2, Upkeep::Told { ttl: Duration::from_secs(15) }));
    }

    #[test]
    fn an_agent_is_told_whom_to_ask() {
        let health = Health {
            ask: HealthAsk::Http { path: "/healthz".to_owned(), host: None, status: (200, 299) },
            interval: Duration::from_secs(2),
            timeout: Duration::from_secs(1),
            healthy: 2,
            unhealthy: 3,
        };
        let address = Address::Tcp("[::1]:8080".parse().unwrap());
        let check = RegisterCheck { by: CheckedBy::Agent, address, health };
        let config = Register { check: Some(check), ..config() };
        let entry = registration(&config, "0.0.0.0:80".parse().unwrap(), None, None, None);
        let Upkeep::Asked { ask, .. } = entry.upkeep else { panic!("{entry:?}") };
        assert_eq!(ask, Ask::Http { url: "http://[::1]:8080/healthz".to_owned(), host: None });
    }

    #[test]
    fn a_listener_on_all_addresses_says_nothing_of_where_it_is() {
        assert_eq!(bound_address("0.0.0.0:1".parse().unwrap()), None);
        assert_eq!(bound_address("[::]:1".parse().unwrap()), None);
        assert_eq!(bound_address("[::ffff:10.0.0.1]:1".parse().unwrap()), Some("10.0.0.1".parse().unwrap()));
    }
}
