//! `[[listeners]]`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use schemars::JsonSchema;
use serde::Deserialize;

use super::route::{PathMatch, ValueMatch};
use crate::config::units::{Period, Size};

/// A listener: where requests come in.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Listener {
    /// Its name; names are unique. Default: its address.
    pub name: Option<String>,
    /// An IP address and a port (0 asks for a free one), or `unix:` and an absolute path. Required.
    pub listen: Option<String>,
    /// What it expects. Default `auto`: HTTP/1.1 or HTTP/2.
    pub protocol: Option<ListenerProtocol>,
    /// A target expression: everything goes there, instead of by routes. Default: not set.
    pub to: Option<String>,
    /// TLS of the listener. Default: off.
    pub tls: Option<ListenerTls>,
    /// Each connection begins with a PROXY protocol header, version 1 or 2. Default false.
    pub proxy_protocol: Option<bool>,
    /// Limits and timeouts.
    pub limits: Option<ListenerLimits>,
    /// `meshless-route` and `l5d-dtab` of a request may change where it goes; never for clients that are not trusted.
    /// Needs routes or names, not `to`. Default false: those headers are removed.
    pub overrides: Option<bool>,
    /// Takes the original destination of redirected connections.
    #[schemars(extend("x-later" = true, "x-later-unless" = false))]
    pub transparent: Option<bool>,
    /// Who may do what: a request has to fit one of these rules, else it is answered 403, and bytes are cut off. `[]`:
    /// nobody may do anything. Default: not set, which lets everybody in whom `tls` lets in.
    pub allow: Option<Vec<Allow>>,
    /// `allow` denies nothing yet: what would be denied is counted and written to the log. Default false.
    pub dry_run: Option<bool>,
}

/// What a listener expects.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum ListenerProtocol {
    Auto,
    Http,
    Tcp,
    TlsPassthrough,
}

/// TLS of a listener.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerTls {
    /// `off`; `strict`: mesh TLS, every client shows an identity of the trust domain; `permissive`: that, or clear text, which
    /// is counted; `server`: TLS by the certificates that are given. Required.
    pub mode: Option<TlsMode>,
    /// For `server`: certificate chain, a PEM file, leaf first; with `key`.
    pub cert: Option<PathBuf>,
    /// For `server`: private key, a PEM file; with `cert`.
    pub key: Option<PathBuf>,
    /// For `server`: several certificates, chosen by SNI, instead of `cert` and `key`; the first one where none fits.
    pub certs: Option<Vec<CertifiedKey>>,
    /// For `server`: client certificates are asked for and must be signed by one of these, a PEM file. Default: not set.
    pub client_ca: Option<PathBuf>,
}

/// How a listener does TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the words say it")]
pub enum TlsMode {
    Off,
    Strict,
    Permissive,
    Server,
}

/// A certificate chain and its key.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct CertifiedKey {
    /// Certificate chain, a PEM file, leaf first. Required.
    pub cert: Option<PathBuf>,
    /// Private key, a PEM file. Required.
    pub key: Option<PathBuf>,
}

/// Limits and timeouts of a listener.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ListenerLimits {
    /// Open connections. Default 10,000.
    #[schemars(range(min = 1))]
    pub connections: Option<usize>,
    /// Open connections of one client address, loopback and Unix peers exempt; 0 is no limit. Default 1,000.
    #[schemars(range(min = 0))]
    pub connections_per_address: Option<usize>,
    /// Requests in flight, over all connections and workers. Default 10,000.
    #[schemars(range(min = 1))]
    pub requests: Option<usize>,
    /// Requests on one connection before it is closed in order; 0 is no limit. Default 10,000.
    #[schemars(range(min = 0))]
    pub requests_per_connection: Option<u64>,
    /// Age at which a connection is closed in order. Default `1h`.
    pub connection_age: Option<Period>,
    /// Until a TLS handshake, and a PROXY header, is done. Default `10s`.
    pub handshake_timeout: Option<Period>,
    /// From the first byte of a head to its end. Default `10s`.
    pub header_timeout: Option<Period>,
    /// Longest silence between requests. Default `60s`.
    pub idle_timeout: Option<Period>,
    /// Request line and headers; `1KiB` to `1MiB`. Default `16KiB`.
    pub head_bytes: Option<Size>,
    /// Header lines, 1 to 1,000. Default 100.
    #[schemars(range(min = 1, max = 1000))]
    pub headers: Option<usize>,
    /// Trailers; at most `1MiB`. Default `8KiB`.
    pub trailer_bytes: Option<Size>,
    /// Concurrent HTTP/2 streams of one connection. Default 100.
    #[schemars(range(min = 1, max = 100_000))]
    pub streams: Option<u32>,
    /// `Via` hops over which a request is a loop. Default 16.
    #[schemars(range(min = 1, max = 1000))]
    pub hops: Option<usize>,
    /// Most HTTP/2 control frames in 10 s on one connection.
    pub control_frames: Option<ControlFrames>,
}

/// Most HTTP/2 control frames in 10 s on one connection.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct ControlFrames {
    /// SETTINGS. Default 50.
    #[schemars(range(min = 1))]
    pub settings: Option<u32>,
    /// PING. Default 100.
    #[schemars(range(min = 1))]
    pub ping: Option<u32>,
    /// `RST_STREAM`, where they are also more than half of the streams opened. Default 100.
    #[schemars(range(min = 1))]
    pub reset: Option<u32>,
    /// Empty DATA, PRIORITY, needless `WINDOW_UPDATE` and unknown kinds. Default 1,000.
    #[schemars(range(min = 1))]
    pub other: Option<u32>,
}

/// Who may do what; all of it must hold. A rule without `from` is for every client, one without an identity too.
#[derive(Debug, Clone, Default, PartialEq, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields, default)]
pub struct Allow {
    /// SPIFFE ID of the client, or its beginning and `/*`: `spiffe://example.org/*` is every client with an identity of
    /// that trust domain. Default: any client, one without an identity too.
    pub from: Option<String>,
    /// Methods. Default: any.
    pub methods: Option<Vec<String>>,
    /// A path; `/a/*` for the path before `/*` and all below it; `/a/{id}` where a segment may be anything; or
    /// `{ regex = "…" }` for the whole path. Default: any.
    pub path: Option<PathMatch>,
    /// Headers by name, as in `match` of a route. Default: any.
    pub headers: Option<BTreeMap<String, ValueMatch>>,
    /// A gRPC service or method: `pkg.Service` or `pkg.Service/Method`. Default: any.
    pub grpc: Option<String>,
    /// Networks of the client, such as `10.0.0.0/8`. Default: any.
    pub address: Option<Vec<String>>,
}
