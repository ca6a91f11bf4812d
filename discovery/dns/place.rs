//! Which addresses from a DNS server are taken (pure).

use std::net::{IpAddr, Ipv4Addr};

use crate::Error;
use crate::local::{canonical, is_local};

/// Returns the address in its canonical form, or why it is not taken. `name` is whose address it is.
///
/// Whoever can write a record could otherwise make the gateway fetch credentials. The whole answer fails, not the one
/// address: an answer with such an address in it is not to be trusted in part. Loopback is taken: the applications of
/// a host have names too.
pub(super) fn taken(name: &str, ip: IpAddr, allow_link_local: bool) -> Result<IpAddr, Error> {
    let ip = canonical(ip);
    // 0.0.0.0 is what filtering resolvers answer for names that they block; to connect to it reaches ourselves.
    if ip.is_unspecified() || ip.is_multicast() || ip == IpAddr::V4(Ipv4Addr::BROADCAST) {
        return Err(Error::Malformed(format!("{name} has the address {ip}, which nothing can be reached at")));
    }
    if is_local(ip) && !allow_link_local {
        return Err(Error::Denied(format!(
            "{name} has the link-local or metadata address {ip}; `allow_link_local = true` allows such"
        )));
    }
    Ok(ip)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn take(ip: &str, allow: bool) -> Result<String, Error> {
        taken("web.x", ip.parse().unwrap(), allow).map(|ip| ip.to_string())
    }

    #[test]
    fn ordinary_and_loopback_addresses_are_taken_in_their_shortest_form() {
        for (ip, as_taken) in [
            ("10.0.0.1", "10.0.0.1"),
            ("127.0.0.1", "127.0.0.1"),
            ("::1", "::1"),
            ("::ffff:10.0.0.1", "10.0.0.1"),
            ("64:ff9b::a00:1", "64:ff9b::a00:1"),
        ] {
            assert_eq!(take(ip, false).unwrap(), as_taken);
        }
    }

    #[test]
    fn link_local_and_metadata_addresses_need_permission_in_every_spelling() {
        for ip in [
            "169.254.169.254",
            "169.254.0.7",
            "fe80::1",
            "::ffff:169.254.169.254",
            "64:ff9b::a9fe:a9fe",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
        ] {
            let error = take(ip, false).unwrap_err();
            assert!(matches!(&error, Error::Denied(text) if text.contains("allow_link_local")), "{ip}: {error}");
            assert!(take(ip, true).is_ok(), "{ip}");
        }
    }

    #[test]
    fn what_nothing_can_be_reached_at_is_an_error_even_with_permission() {
        for ip in ["0.0.0.0", "::", "224.0.0.1", "ff02::1", "255.255.255.255", "::ffff:0.0.0.0"] {
            assert!(matches!(take(ip, true), Err(Error::Malformed(_))), "{ip}");
        }
    }
}
