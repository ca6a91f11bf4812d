//! What belongs to one connection and must not be relayed over the next.

use http::header::{self, HeaderMap, HeaderName, HeaderValue};

use super::names;

/// Which way a message goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// From the client to the endpoint.
    Request,
    /// From the endpoint to the client.
    Response,
}

/// What happens to the Upgrade field.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Upgrade {
    /// It stays, because this exchange may switch to the protocol it names. One to HTTP itself (`h2c`) goes
    /// nevertheless: it would let a client speak past every check that is made on HTTP/1.1.
    Keep,
    /// It goes.
    Strip,
}

/// Removes the hop-by-hop fields of a message that is about to be relayed: what Connection names (save what no
/// Connection may have dropped, which the parser refuses anyway), Connection, Keep-Alive, Proxy, Proxy-*,
/// HTTP2-Settings, Transfer-Encoding, Upgrade, and of TE everything but `trailers`.
///
/// Content-Length stays; the writer of the head replaces it. A kept Upgrade makes the writer put it into Connection.
pub fn strip(headers: &mut HeaderMap, direction: Direction, upgrade: Upgrade) {
    let mut found = Found::default();
    for name in headers.keys() {
        match name.as_str() {
            "connection" => found.connection = true,
            "keep-alive" => found.keep_alive = true,
            "te" => found.te = true,
            "transfer-encoding" => found.transfer_encoding = true,
            "upgrade" => found.upgrade = true,
            // `Proxy` is not hop-by-hop but the httpoxy trap: CGI turns it into HTTP_PROXY.
            other if other == "http2-settings" || other == "proxy" || other.starts_with("proxy-") => {
                found.others.push(name.clone());
            }
            _ => {}
        }
    }
    if found.connection {
        found.others.extend(headers.get_all(header::CONNECTION).iter().flat_map(named));
        headers.remove(header::CONNECTION);
    }
    if found.keep_alive {
        headers.remove("keep-alive");
    }
    if found.te {
        strip_te(headers, direction);
    }
    if found.transfer_encoding {
        headers.remove(header::TRANSFER_ENCODING);
    }
    if found.upgrade && (upgrade == Upgrade::Strip || upgrades_to_http(headers)) {
        headers.remove(header::UPGRADE);
    }
    for name in found.others {
        headers.remove(name);
    }
}

/// What one look at the names showed. `others` allocates only if there are any.
#[derive(Default)]
struct Found {
    connection: bool,
    keep_alive: bool,
    te: bool,
    transfer_encoding: bool,
    upgrade: bool,
    others: Vec<HeaderName>,
}

/// Returns the fields that a Connection field names. Upgrade and TE have rules of their own.
fn named(value: &HeaderValue) -> impl Iterator<Item = HeaderName> + '_ {
    value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii).filter_map(|option| {
        let known: [&[u8]; 4] = [b"keep-alive", b"close", b"upgrade", b"te"];
        if known.iter().any(|known| option.eq_ignore_ascii_case(known)) || names::is_protected(option) {
            return None;
        }
        HeaderName::from_bytes(option).ok()
    })
}

fn strip_te(headers: &mut HeaderMap, direction: Direction) {
    let trailers = direction == Direction::Request
        && headers.get_all(header::TE).iter().any(|value| {
            let mut codings = value.as_bytes().split(|&byte| byte == b',');
            codings.any(|coding| coding.trim_ascii().eq_ignore_ascii_case(b"trailers"))
        });
    if trailers {
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
    } else {
        headers.remove(header::TE);
    }
}

fn upgrades_to_http(headers: &HeaderMap) -> bool {
    headers.get_all(header::UPGRADE).iter().any(|value| {
        let mut protocols = value.as_bytes().split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
        protocols.any(|protocol| {
            let starts =
                |prefix: &[u8]| protocol.get(..prefix.len()).is_some_and(|start| start.eq_ignore_ascii_case(prefix));
            starts(b"h2") || starts(b"http")
        })
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripped(fields: &[(&str, &str)], direction: Direction, upgrade: Upgrade) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), value.parse().unwrap());
        }
        strip(&mut headers, direction, upgrade);
        let mut left: Vec<String> =
            headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap())).collect();
        left.sort();
        left
    }

    #[test]
    fn hop_by_hop_fields_are_not_relayed() {
        let fields = [
            ("connection", "keep-alive"),
            ("keep-alive", "timeout=5"),
            ("proxy-connection", "keep-alive"),
            ("proxy-authorization", "Basic eA=="),
            ("proxy", "http://evil"),
            ("http2-settings", "AAMAAABk"),
            ("transfer-encoding", "chunked"),
            ("upgrade", "websocket"),
            ("accept", "*/*"),
        ];
        for direction in [Direction::Request, Direction::Response] {
            assert_eq!(stripped(&fields, direction, Upgrade::Strip), ["accept: */*"]);
        }
    }

    #[test]
    fn what_connection_names_goes_in_every_field_of_it() {
        let fields =
            [("connection", "close, X-One"), ("connection", "x-two"), ("x-one", "1"), ("x-two", "2"), ("x-three", "3")];
        assert_eq!(stripped(&fields, Direction::Request, Upgrade::Strip), ["x-three: 3"]);
    }

    #[test]
    fn connection_cannot_have_identity_or_routing_dropped() {
        let fields = [
            ("connection", "host, authorization, x-forwarded-for, cookie"),
            ("authorization", "a"),
            ("cookie", "c"),
            ("host", "h"),
            ("x-forwarded-for", "f"),
        ];
        let left = stripped(&fields, Direction::Request, Upgrade::Strip);
        assert_eq!(left, ["authorization: a", "cookie: c", "host: h", "x-forwarded-for: f"]);
    }

    #[test]
    fn of_te_only_trailers_is_relayed() {
        let te = [("te", "gzip;q=0.5, Trailers")];
        assert_eq!(stripped(&te, Direction::Request, Upgrade::Strip), ["te: trailers"]);
        assert_eq!(stripped(&te, Direction::Response, Upgrade::Strip), [""; 0]);
        assert_eq!(stripped(&[("te", "gzip")], Direction::Request, Upgrade::Strip), [""; 0]);
        // The option `TE` in Connection goes with TE by the rule of TE, not by being named.
        let named = [("connection", "te"), ("te", "trailers")];
        assert_eq!(stripped(&named, Direction::Request, Upgrade::Strip), ["te: trailers"]);
    }

    #[test]
    fn an_allowed_upgrade_stays_but_never_one_to_http() {
        let websocket = [("connection", "Upgrade"), ("upgrade", "websocket")];
        assert_eq!(stripped(&websocket, Direction::Request, Upgrade::Keep), ["upgrade: websocket"]);
        for protocol in ["h2c", "H2C", "websocket, h2c", "HTTP/2.0", "h2"] {
            assert_eq!(stripped(&[("upgrade", protocol)], Direction::Request, Upgrade::Keep), [""; 0], "{protocol}");
        }
    }
}
