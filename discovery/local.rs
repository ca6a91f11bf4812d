//! Addresses that no service has: link-local ones, and the metadata services of the clouds (pure).
//!
//! Whoever can write a record could otherwise make the gateway fetch the credentials of its machine.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// Metadata services that are not on a link-local address: they hand out the credentials of the machine to whoever
/// asks from it. AWS over IPv6, Google over IPv6, Alibaba, Azure's wire server.
const METADATA: [IpAddr; 4] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),
];

/// Returns the address that is reached in the end, in its shortest form.
pub(crate) fn canonical(ip: IpAddr) -> IpAddr {
    embedded(ip).map_or_else(|| ip.to_canonical(), IpAddr::V4)
}

/// Tells whether an address is link-local or that of a metadata service, in whatever spelling.
pub(crate) fn is_local(ip: IpAddr) -> bool {
    let ip = canonical(ip);
    let is_link_local = match ip {
        IpAddr::V4(ip) => ip.is_link_local(),
        IpAddr::V6(ip) => ip.is_unicast_link_local(),
    };
    is_link_local || METADATA.contains(&ip)
}

/// Returns the IPv4 address that a translator would reach, where that is one to be refused: `64:ff9b::/96`, RFC 6052.
fn embedded(ip: IpAddr) -> Option<Ipv4Addr> {
    let IpAddr::V6(ip) = ip else { return None };
    let [0x64, 0xff9b, 0, 0, 0, 0, high, low] = ip.segments() else { return None };
    let inner = Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    (inner.is_link_local() || inner.is_unspecified() || METADATA.contains(&inner.into())).then_some(inner)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn link_local_addresses_and_metadata_services_are_local_in_any_spelling() {
        let local = ["169.254.169.254", "fe80::1", "::ffff:169.254.169.254", "64:ff9b::a9fe:a9fe", "100.100.100.200"];
        for ip in local.iter().chain(&["fd00:ec2::254", "168.63.129.16"]) {
            assert!(is_local(ip.parse().unwrap()), "{ip}");
        }
        for ip in ["10.0.0.1", "127.0.0.1", "::1", "fd00::1", "100.100.100.201"] {
            assert!(!is_local(ip.parse().unwrap()), "{ip}");
        }
    }
}
