//! What a target asks: `HOST:PORT` or `srv/NAME`.

use std::fmt;
use std::net::IpAddr;

use hickory_resolver::proto::rr::Name;

/// Most bytes of a name in text, its last dot excepted (RFC 1035, 2.3.4: 255 on the wire).
const MAX_NAME: usize = 253;

/// Most bytes of a label (RFC 1035, 2.3.4).
const MAX_LABEL: usize = 63;

/// What a target asks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Question {
    /// The addresses of a host; the port is ours.
    Host { name: Name, port: u16 },
    /// The hosts and ports of a service.
    Service { name: Name },
}

impl Question {
    /// Reads a target's path; the error says what is wrong and what to write.
    pub(super) fn parse(path: &str) -> Result<Self, String> {
        if let Some(service) = path.strip_prefix("srv/") {
            return Ok(Self::Service { name: service_name(service)? });
        }
        if let Ok(ip) = path.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Err(format!("{ip} is an address and has no port; write `static/{}`", with_port(ip, "80")));
        }
        let Some((host, port)) = path.rsplit_once(':') else {
            return Err("no port; write `dns/HOST:PORT`, or `dns/srv/NAME` for SRV records".to_owned());
        };
        // Nothing is to be looked up, and an address that is written down deserves to be checked when it is read.
        if let Ok(ip) = host.trim_matches(['[', ']']).parse::<IpAddr>() {
            return Err(format!("{ip} is an address and no name; write `static/{}`", with_port(ip, port)));
        }
        let port = match port.parse::<u16>() {
            Ok(port) if port > 0 => port,
            _ => return Err(format!("port `{port}` is not a number from 1 to 65535")),
        };
        // RFC 6761, 6.3: a resolver should not send it to a server, and servers do answer it wrongly.
        let plain = host.trim_end_matches('.').to_ascii_lowercase();
        if plain == "localhost" || plain.ends_with(".localhost") {
            return Err(format!("`{host}` is this host and not for a DNS server; write `static/127.0.0.1:{port}`"));
        }
        Ok(Self::Host { name: parse_name(host)?, port })
    }
}

impl fmt::Display for Question {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Host { name, port } => write!(formatter, "{name}:{port}"),
            Self::Service { name } => write!(formatter, "srv/{name}"),
        }
    }
}

fn with_port(ip: IpAddr, port: &str) -> String {
    if ip.is_ipv6() { format!("[{ip}]:{port}") } else { format!("{ip}:{port}") }
}

fn service_name(text: &str) -> Result<Name, String> {
    if text.rsplit_once(':').is_some() {
        return Err("an SRV record has the port; write `dns/srv/NAME` without one".to_owned());
    }
    parse_name(text)
}

/// Reads a name; one that ends in a dot is never searched for in other domains.
fn parse_name(text: &str) -> Result<Name, String> {
    let labels = text.strip_suffix('.').unwrap_or(text);
    if labels.is_empty() {
        return Err("a name is missing; write `dns/web.internal:80` or `dns/srv/_http._tcp.web.internal`".to_owned());
    }
    if labels.len() > MAX_NAME {
        return Err(format!("a name of {} bytes, at most {MAX_NAME} are taken", labels.len()));
    }
    if !text.is_ascii() {
        return Err(format!("name `{text}` is not ASCII; write it as it is in DNS, `xn--…`"));
    }
    for label in labels.split('.') {
        if label.is_empty() || label.len() > MAX_LABEL {
            return Err(format!("name `{text}` has a label of {} bytes; 1 to {MAX_LABEL} are allowed", label.len()));
        }
        let allowed = |letter: char| letter.is_ascii_alphanumeric() || letter == '-' || letter == '_';
        if let Some(other) = label.chars().find(|letter| !allowed(*letter)) {
            return Err(format!("name `{text}` has {other:?}; allowed are letters, digits, `-`, `_` and `.`"));
        }
    }
    Name::from_ascii(text.to_ascii_lowercase()).map_err(|error| format!("name `{text}`: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_and_services_are_read() {
        for (path, printed) in [
            ("web.internal:80", "web.internal:80"),
            ("Web.Internal.:443", "web.internal.:443"),
            ("web:8080", "web:8080"),
            ("srv/_http._tcp.web.internal", "srv/_http._tcp.web.internal"),
        ] {
            assert_eq!(Question::parse(path).unwrap().to_string(), printed);
        }
    }

    #[test]
    fn a_name_that_ends_in_a_dot_is_absolute() {
        let is_absolute = |path: &str| match Question::parse(path).unwrap() {
            Question::Host { name, .. } | Question::Service { name } => name.is_fqdn(),
        };
        assert!(is_absolute("web.internal.:80"));
        assert!(!is_absolute("web.internal:80"));
    }

    #[test]
    fn each_usual_mistake_has_its_own_answer() {
        let long = format!("{}:80", ["a"; 128].join("."));
        let label = format!("{}.x:80", "a".repeat(64));
        for (path, answer) in [
            ("web.internal", "no port"),
            ("", "no port"),
            (":80", "a name is missing"),
            ("web:0", "port `0`"),
            ("web:http", "port `http`"),
            ("10.0.0.1:80", "write `static/10.0.0.1:80`"),
            ("[::1]:80", "write `static/[::1]:80`"),
            ("::1", "write `static/[::1]:80`"),
            ("localhost:80", "write `static/127.0.0.1:80`"),
            ("a.localhost.:80", "write `static/127.0.0.1:80`"),
            ("bücher.example:80", "xn--"),
            ("a..b:80", "a label of 0 bytes"),
            ("*.example:80", "'*'"),
            ("http://web:80", "':'"),
            ("srv/_http._tcp.x:80", "without one"),
            ("srv/", "a name is missing"),
            (&long, "at most 253"),
            (&label, "a label of 64 bytes"),
        ] {
            let error = Question::parse(path).unwrap_err();
            assert!(error.contains(answer), "{path:?}: {error}");
        }
    }
}
