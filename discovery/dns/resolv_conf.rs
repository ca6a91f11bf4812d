//! What `/etc/resolv.conf` says (pure): resolv.conf(5) as glibc reads it, as far as it concerns us.

use std::net::IpAddr;
use std::time::Duration;

use hickory_resolver::proto::rr::Name;

/// Most name servers that are used, as in glibc (`MAXNS`).
const MAX_SERVERS: usize = 3;

/// Most search domains that are used; each costs questions of its own.
const MAX_SEARCH: usize = 16;

/// What a file says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct ResolvConf {
    pub(super) servers: Vec<IpAddr>,
    pub(super) search: Vec<Name>,
    /// Names with so many dots are tried as they are first.
    pub(super) ndots: usize,
    /// Wait for one answer of one server.
    pub(super) timeout: Duration,
    /// Rounds through the servers.
    pub(super) attempts: usize,
}

impl Default for ResolvConf {
    /// glibc waits 5 s; a gateway that has two servers wants to know sooner that the first one is away.
    fn default() -> Self {
        Self { servers: Vec::new(), search: Vec::new(), ndots: 1, timeout: Duration::from_secs(2), attempts: 2 }
    }
}

impl ResolvConf {
    /// Reads a file. Lines that mean nothing are passed over, as everybody does; an error where no name server is left.
    pub(super) fn parse(text: &str) -> Result<Self, String> {
        let mut conf = Self::default();
        let mut unusable = Vec::new();
        for line in text.lines() {
            let mut words = line.split_whitespace();
            match words.next() {
                Some("nameserver") => {
                    let server = words.next().unwrap_or_default();
                    match server.parse() {
                        Ok(ip) if conf.servers.len() < MAX_SERVERS => conf.servers.push(ip),
                        Ok(_) => {}
                        Err(_) => unusable.push(server),
                    }
                }
                // The last one of either wins.
                Some("search" | "domain") => {
                    let names = words.filter_map(|word| Name::from_ascii(word.to_ascii_lowercase()).ok());
                    // `search .` means: no search.
                    conf.search = names.filter(|name| !name.is_root()).take(MAX_SEARCH).collect();
                }
                Some("options") => words.for_each(|option| conf.option(option)),
                _ => {}
            }
        }
        match (conf.servers.is_empty(), unusable.as_slice()) {
            (false, _) => Ok(conf),
            // Without a line the server of this host is meant.
            (true, []) => Ok(Self { servers: vec![IpAddr::from([127, 0, 0, 1])], ..conf }),
            (true, some) => Err(format!(
                "no name server in it can be used: {} (an address with a zone is not taken); set `resolvers`",
                some.join(", ")
            )),
        }
    }

    fn option(&mut self, option: &str) {
        let Some((name, value)) = option.split_once(':') else { return };
        let Ok(value) = value.parse::<u32>() else { return };
        // The limits are glibc's.
        match name {
            "ndots" => self.ndots = value.min(15) as usize,
            "timeout" => self.timeout = Duration::from_secs(value.clamp(1, 30).into()),
            "attempts" => self.attempts = value.clamp(1, 5) as usize,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(conf: &ResolvConf) -> Vec<String> {
        conf.search.iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_pods_file_is_read() {
        let conf = ResolvConf::parse(
            "search default.svc.cluster.local svc.cluster.local cluster.local\n# c\nnameserver 10.96.0.10\noptions ndots:5 timeout:1\n",
        )
        .unwrap();
        assert_eq!(conf.servers, [IpAddr::from([10, 96, 0, 10])]);
        assert_eq!(names(&conf), ["default.svc.cluster.local", "svc.cluster.local", "cluster.local"]);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (5, Duration::from_secs(1), 2));
    }

    #[test]
    fn the_last_of_search_and_domain_wins_and_a_dot_means_none() {
        assert_eq!(names(&ResolvConf::parse("search a b\ndomain c\n").unwrap()), ["c"]);
        assert_eq!(names(&ResolvConf::parse("domain c\nsearch .\n").unwrap()), [""; 0]);
    }

    #[test]
    fn limits_are_those_of_glibc() {
        let conf = ResolvConf::parse(
            "nameserver 1.1.1.1\nnameserver 2.2.2.2\nnameserver ::3\nnameserver 4.4.4.4\noptions ndots:99 timeout:0 attempts:99 x:y rotate\n",
        )
        .unwrap();
        assert_eq!(conf.servers.len(), 3);
        assert_eq!((conf.ndots, conf.timeout, conf.attempts), (15, Duration::from_secs(1), 5));
    }

    #[test]
    fn without_a_name_server_the_host_itself_is_asked() {
        assert_eq!(ResolvConf::parse("").unwrap().servers, [IpAddr::from([127, 0, 0, 1])]);
    }

    #[test]
    fn a_file_whose_servers_cannot_be_used_is_an_error_that_names_them() {
        let error = ResolvConf::parse("nameserver fe80::1%eth0\n").unwrap_err();
        assert!(error.contains("fe80::1%eth0") && error.contains("resolvers"), "{error}");
    }
}
