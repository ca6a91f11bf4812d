//! What a Service says of its ports and of how it is reached (pure).
//!
//! `EndpointSlice`s name ports as the Service does, and have the numbers that pods listen on: so the number in a target,
//! which is the Service's, leads to a name by the Service alone.

use std::net::{IpAddr, SocketAddr};

use k8s_openapi::api::core::v1::{Service, ServicePort};

use super::target::Port;
use crate::{Address, AppProtocol};

/// What is taken of a Service.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// A name in DNS that stands for it: type `ExternalName`.
    pub(super) external_name: Option<String>,
    /// Its ports; only those that TCP has.
    ports: Vec<PortFacts>,
    /// `IPv4` or `IPv6`: the family of its own address.
    pub(super) family: Option<String>,
    /// A node passes what comes from outside on to its own pods alone.
    pub(super) is_local: bool,
}

/// Where a load balancer takes a service's requests.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Balanced {
    /// At an address.
    Address(Address),
    /// At the addresses of a name.
    Host(String),
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct PortFacts {
    name: String,
    number: u16,
    node_port: Option<u16>,
    protocol: Option<AppProtocol>,
}

/// The port that a target means.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Wanted {
    /// A port of the Service, as slices name it; empty: the only one, which needs no name.
    Name {
        /// Its name.
        name: String,
        /// Its number at the Service.
        number: u16,
        /// Its number at every node, where it has one.
        node_port: Option<u16>,
        /// What it speaks, where the Service says so.
        protocol: Option<AppProtocol>,
    },
    /// This number at every pod: the Service (a headless one) names no ports.
    Number(u16),
}

impl Wanted {
    /// Returns what the port speaks, where the Service says so.
    pub(super) fn protocol(&self) -> Option<AppProtocol> {
        match self {
            Self::Name { protocol, .. } => *protocol,
            Self::Number(_) => None,
        }
    }
}

/// Reads where the load balancer of a service is; empty while it is being made.
pub(super) fn balanced(service: &Service, wanted: &Wanted) -> Result<Vec<Balanced>, String> {
    if service.spec.as_ref().and_then(|spec| spec.type_.as_deref()) != Some("LoadBalancer") {
        return Err("with `addresses = \"load-balancer\"` its type must be LoadBalancer".to_owned());
    }
    let Wanted::Name { number, .. } = wanted else { return Err("its ports have no names or numbers".to_owned()) };
    let status = service.status.as_ref().and_then(|status| status.load_balancer.as_ref());
    let ingress = status.and_then(|status| status.ingress.as_ref()).into_iter().flatten();
    let mut found = Vec::new();
    for each in ingress {
        let text = |value: &Option<String>| value.clone().filter(|value| !value.is_empty());
        match (text(&each.ip), text(&each.hostname)) {
            (Some(ip), _) => {
                let ip: IpAddr = ip.parse().map_err(|_| format!("its load balancer has the address `{ip}`"))?;
                found.push(Balanced::Address(Address::Tcp(SocketAddr::new(ip, *number))));
            }
            (None, Some(host)) => found.push(Balanced::Host(host)),
            (None, None) => {}
        }
    }
    Ok(found)
}

impl Facts {
    /// Takes what matters out of a Service.
    pub(super) fn of(service: &Service) -> Self {
        let Some(spec) = &service.spec else { return Self::default() };
        let is_external = spec.type_.as_deref() == Some("ExternalName");
        let ports = spec.ports.iter().flatten().filter(|port| is_tcp(port.protocol.as_deref()));
        Self {
            external_name: spec.external_name.clone().filter(|name| is_external && !name.is_empty()),
            ports: ports.filter_map(PortFacts::of).collect(),
            family: spec.ip_families.as_ref().and_then(|families| families.first().cloned()),
            is_local: spec.external_traffic_policy.as_deref() == Some("Local"),
        }
    }

    /// Finds the port that is meant, or says which ones there are.
    pub(super) fn find(&self, port: &Port) -> Result<Wanted, String> {
        let found = match port {
            Port::Named(name) => self.ports.iter().find(|each| each.name == *name),
            Port::Number(number) => self.ports.iter().find(|each| each.number == *number),
            Port::Only => match self.ports.as_slice() {
                [only] => Some(only),
                [] => None,
                _ => return Err(format!("it has several ports, name one of them: {}", self.listed())),
            },
        };
        match (found, port) {
            (Some(PortFacts { name, number, node_port, protocol }), _) => {
                Ok(Wanted::Name { name: name.clone(), number: *number, node_port: *node_port, protocol: *protocol })
            }
            (None, Port::Number(number)) if self.ports.is_empty() => Ok(Wanted::Number(*number)),
            (None, _) if self.ports.is_empty() => {
                Err("it has no port that TCP has; write the number that pods listen on".to_owned())
            }
            (None, _) => Err(format!("it has no such port, it has: {}", self.listed())),
        }
    }

    fn listed(&self) -> String {
        let ports = self.ports.iter().map(|port| match port.name.as_str() {
            "" => port.number.to_string(),
            name => format!("{name} ({})", port.number),
        });
        ports.collect::<Vec<_>>().join(", ")
    }
}

impl PortFacts {
    fn of(port: &ServicePort) -> Option<Self> {
        Some(Self {
            name: port.name.clone().unwrap_or_default(),
            number: u16::try_from(port.port).ok().filter(|number| *number != 0)?,
            node_port: port.node_port.and_then(|number| u16::try_from(number).ok()).filter(|number| *number != 0),
            protocol: protocol(port.app_protocol.as_deref()),
        })
    }
}

/// Nothing said is TCP.
pub(super) fn is_tcp(protocol: Option<&str>) -> bool {
    matches!(protocol, None | Some("TCP"))
}

/// Reads `appProtocol`: the names of Kubernetes and the ones that people use. What is encrypted or not known says nothing
/// about what is spoken in clear text.
pub(super) fn protocol(named: Option<&str>) -> Option<AppProtocol> {
    match named? {
        "kubernetes.io/h2c" | "h2c" | "http2" | "grpc" => Some(AppProtocol::H2c),
        "http" | "kubernetes.io/ws" => Some(AppProtocol::Http1),
        "tcp" => Some(AppProtocol::Tcp),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    #[allow(clippy::needless_pass_by_value, reason = "it is written in place")]
    fn facts(spec: Value) -> Facts {
        Facts::of(&serde_json::from_value(json!({ "spec": spec })).unwrap())
    }

    fn name(wanted: Result<Wanted, String>) -> Result<String, String> {
        wanted.map(|wanted| match wanted {
            Wanted::Name { name, .. } => name,
            Wanted::Number(number) => format!("={number}"),
        })
    }

    #[test]
    fn a_number_is_that_of_the_service_and_leads_to_a_name() {
        let facts = facts(json!({ "ports": [
            { "name": "dns", "port": 80, "protocol": "UDP" },
            { "name": "http", "port": 80, "targetPort": 8080 },
            { "name": "grpc", "port": 9090, "appProtocol": "grpc" },
        ] }));
        assert_eq!(name(facts.find(&Port::Number(80))), Ok("http".to_owned()));
        assert_eq!(name(facts.find(&Port::Named("grpc".to_owned()))), Ok("grpc".to_owned()));
        let error = facts.find(&Port::Number(8080)).unwrap_err();
        assert_eq!(error, "it has no such port, it has: http (80), grpc (9090)");
        assert!(facts.find(&Port::Only).unwrap_err().starts_with("it has several ports"));
        assert!(facts.find(&Port::Named("dns".to_owned())).is_err());
    }

    #[test]
    fn a_service_with_one_port_needs_none_in_the_target() {
        let facts = facts(json!({ "ports": [{ "port": 80 }] }));
        assert_eq!(name(facts.find(&Port::Only)), Ok(String::new()));
        assert_eq!(name(facts.find(&Port::Number(80))), Ok(String::new()));
    }

    #[test]
    fn a_headless_service_without_ports_takes_the_number_of_its_pods() {
        let facts = facts(json!({ "clusterIP": "None" }));
        assert_eq!(name(facts.find(&Port::Number(7000))), Ok("=7000".to_owned()));
        assert!(facts.find(&Port::Only).is_err());
        assert!(facts.find(&Port::Named("http".to_owned())).is_err());
    }

    #[test]
    fn an_external_name_counts_for_its_type_alone() {
        let external = json!({ "type": "ExternalName", "externalName": "db.example.com" });
        assert_eq!(facts(external).external_name.as_deref(), Some("db.example.com"));
        assert_eq!(facts(json!({ "type": "ClusterIP", "externalName": "x" })).external_name, None);
    }

    #[test]
    fn a_load_balancer_is_at_addresses_and_names() {
        let service = |kind: &str| {
            let ingress =
                json!([{ "ip": "192.0.2.1" }, { "hostname": "lb.example.com" }, { "ip": "", "hostname": "" }]);
            serde_json::from_value::<Service>(json!({
                "spec": { "type": kind, "ports": [{ "port": 80, "nodePort": 30080 }] },
                "status": { "loadBalancer": { "ingress": ingress } },
            }))
            .unwrap()
        };
        let wanted = Facts::of(&service("LoadBalancer")).find(&Port::Only).unwrap();
        let found = balanced(&service("LoadBalancer"), &wanted).unwrap();
        let address = Balanced::Address("192.0.2.1:80".parse().unwrap());
        assert_eq!(found, [address, Balanced::Host("lb.example.com".to_owned())]);
        assert!(balanced(&service("NodePort"), &wanted).is_err());
    }

    #[test]
    fn protocols_have_several_names() {
        for (named, meant) in [
            (Some("kubernetes.io/h2c"), Some(AppProtocol::H2c)),
            (Some("grpc"), Some(AppProtocol::H2c)),
            (Some("http2"), Some(AppProtocol::H2c)),
            (Some("http"), Some(AppProtocol::Http1)),
            (Some("kubernetes.io/ws"), Some(AppProtocol::Http1)),
            (Some("tcp"), Some(AppProtocol::Tcp)),
            (Some("https"), None),
            (Some("kubernetes.io/wss"), None),
            (Some("mongo"), None),
            (None, None),
        ] {
            assert_eq!(protocol(named), meant, "{named:?}");
        }
    }
}
