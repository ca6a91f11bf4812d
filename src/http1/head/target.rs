//! What a request asks for: the four forms of RFC 9112 §3.2, each only with the methods it is for.

use std::net::Ipv6Addr;

use bytes::{BufMut, Bytes, BytesMut};
use http::Method;
use http::uri::{Authority, PathAndQuery, Scheme, Uri};

use super::Reject;

/// The target of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// `http://authority/path?query`, as it is sent to forward proxies. Its authority is that of Host.
    Absolute {
        /// `http` or `https`.
        scheme: Scheme,
        /// Host and port.
        authority: Authority,
        /// Path and query; `*` for an OPTIONS about the server as a whole (RFC 9112 §3.2.4).
        path: PathAndQuery,
    },
    /// `*`: OPTIONS about the server as a whole.
    Asterisk,
    /// `host:port`, the target of CONNECT.
    Authority(Authority),
    /// `/path?query`.
    Origin(PathAndQuery),
}

impl Target {
    /// Returns the path and query; `None` for CONNECT. It is `*` or begins with a slash.
    pub fn path_and_query(&self) -> Option<&str> {
        match self {
            Self::Absolute { path, .. } | Self::Origin(path) => Some(path.as_str()),
            Self::Asterisk => Some("*"),
            Self::Authority(_) => None,
        }
    }

    /// Returns the authority if the target itself has one.
    pub fn authority(&self) -> Option<&Authority> {
        match self {
            Self::Absolute { authority, .. } | Self::Authority(authority) => Some(authority),
            Self::Asterisk | Self::Origin(_) => None,
        }
    }

    /// Returns the target as the `http` crate has it: scheme and authority only if the target had them.
    pub fn into_uri(self) -> Uri {
        match self {
            Self::Absolute { scheme, authority, path } => {
                let mut parts = http::uri::Parts::default();
                parts.scheme = Some(scheme);
                parts.authority = Some(authority);
                parts.path_and_query = Some(path);
                // Cannot fail with all three parts; the path alone still means the right thing.
                Uri::from_parts(parts).unwrap_or_default()
            }
            Self::Asterisk => Uri::from(PathAndQuery::from_static("*")),
            Self::Authority(authority) => Uri::from(authority),
            Self::Origin(path) => Uri::from(path),
        }
    }
}

/// Parses the target of a `method` request; `raw` must be a slice of `head`.
pub(super) fn parse(method: &Method, raw: &str, head: &Bytes) -> Result<Target, Reject> {
    if *method == Method::CONNECT {
        return if is_host_and_port(raw.as_bytes()) {
            parse_authority(raw, head).map(Target::Authority)
        } else {
            Err(Reject::ConnectForm)
        };
    }
    let mut graphic = true;
    let mut fragment = false;
    for byte in raw.bytes() {
        graphic &= byte.is_ascii_graphic();
        fragment |= byte == b'#';
    }
    if !graphic {
        return Err(Reject::Target);
    }
    if fragment {
        return Err(Reject::TargetFragment);
    }
    if raw.starts_with('/') {
        return parse_path(head.slice_ref(raw.as_bytes())).map(Target::Origin);
    }
    if raw == "*" {
        return if *method == Method::OPTIONS { Ok(Target::Asterisk) } else { Err(Reject::TargetForm) };
    }
    absolute(method, raw, head)
}

/// Returns whether `bytes` is a host with or without a port, and nothing else: no user, path, list or empty host.
pub(super) fn is_authority(bytes: &[u8]) -> bool {
    split_port(bytes).is_some_and(|(host, port)| is_host(host) && port.is_none_or(is_port))
}

fn is_host_and_port(bytes: &[u8]) -> bool {
    split_port(bytes).is_some_and(|(host, port)| is_host(host) && port.is_some_and(is_port))
}

/// Splits `host:port` at the colon that is not part of an IPv6 literal.
fn split_port(bytes: &[u8]) -> Option<(&[u8], Option<&[u8]>)> {
    let host_length = if bytes.starts_with(b"[") {
        memchr::memchr(b']', bytes)? + 1
    } else {
        memchr::memchr(b':', bytes).unwrap_or(bytes.len())
    };
    let (host, rest) = bytes.split_at_checked(host_length)?;
    match rest {
        [] => Some((host, None)),
        [b':', port @ ..] => Some((host, Some(port))),
        _ => None,
    }
}

/// Names with the letters of DNS (and `_`, which containers use), IPv4, and IPv6 in brackets. Percent-encoding and
/// sub-delimiters are legal in a URI and only ever seen in attacks.
fn is_host(host: &[u8]) -> bool {
    if let Some(literal) = host.strip_prefix(b"[") {
        let literal = literal.strip_suffix(b"]").and_then(|literal| std::str::from_utf8(literal).ok());
        return literal.is_some_and(|literal| literal.parse::<Ipv6Addr>().is_ok());
    }
    (1..=255).contains(&host.len())
        && host.iter().all(|&byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_'))
}

fn is_port(port: &[u8]) -> bool {
    // Five digits at most, so that `u16` decides about the value alone.
    (1..=5).contains(&port.len())
        && port.iter().all(u8::is_ascii_digit)
        && std::str::from_utf8(port).is_ok_and(|port| port.parse::<u16>().is_ok())
}

fn absolute(method: &Method, raw: &str, head: &Bytes) -> Result<Target, Reject> {
    let (scheme, rest) = raw.split_once("://").ok_or(Reject::TargetForm)?;
    let scheme = if scheme.eq_ignore_ascii_case("http") {
        Scheme::HTTP
    } else if scheme.eq_ignore_ascii_case("https") {
        Scheme::HTTPS
    } else {
        return Err(Reject::TargetForm);
    };
    let end = rest.find(['/', '?']).unwrap_or(rest.len());
    let (authority, path) = rest.split_at_checked(end).ok_or(Reject::Target)?;
    if !is_authority(authority.as_bytes()) {
        return Err(Reject::Host);
    }
    let path = match path.as_bytes().first() {
        Some(b'/') => parse_path(head.slice_ref(path.as_bytes()))?,
        Some(_) => {
            let mut with_slash = BytesMut::with_capacity(path.len() + 1);
            with_slash.put_u8(b'/');
            with_slash.put_slice(path.as_bytes());
            parse_path(with_slash.freeze())?
        }
        None if *method == Method::OPTIONS => PathAndQuery::from_static("*"),
        None => PathAndQuery::from_static("/"),
    };
    Ok(Target::Absolute { scheme, authority: parse_authority(authority, head)?, path })
}

fn parse_path(path: Bytes) -> Result<PathAndQuery, Reject> {
    PathAndQuery::from_maybe_shared(path).map_err(|_| Reject::Target)
}

fn parse_authority(authority: &str, head: &Bytes) -> Result<Authority, Reject> {
    Authority::from_maybe_shared(head.slice_ref(authority.as_bytes())).map_err(|_| Reject::Host)
}
