//! `[telemetry] traces`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use http::{HeaderName, HeaderValue};
use serde::{Serialize, Serializer};

use super::units::print;

/// Where spans go, and which.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Traces {
    /// The collector.
    pub otlp: CollectorUrl,
    /// Share of the requests that brought no decision of their own. Default 1 %.
    #[serde(serialize_with = "print::ratio")]
    pub sample: f64,
    /// Fields of each request to the collector. Their values are secrets and do not stand in `/config`.
    #[serde(serialize_with = "names_alone")]
    pub headers: BTreeMap<String, (HeaderName, HeaderValue)>,
    /// What the spans say that we are. Default `node.service`, else `meshless`.
    pub service_name: String,
    /// Certificates that the collector's is checked by; `None`: the system's. With `https` only.
    pub ca: Option<PathBuf>,
}

/// `http://HOST:PORT/PATH` or `https://…`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectorUrl {
    /// `https`.
    pub tls: bool,
    /// Name or address, without the brackets of IPv6.
    pub host: String,
    /// Port. Default 4318 for `http`, 443 for `https`.
    pub port: u16,
    /// Path that spans are posted to; ends in `/v1/traces`.
    pub path: String,
}

impl std::fmt::Display for CollectorUrl {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        if self.host.contains(':') {
            write!(formatter, "{scheme}://[{}]:{}{}", self.host, self.port, self.path)
        } else {
            write!(formatter, "{scheme}://{}:{}{}", self.host, self.port, self.path)
        }
    }
}

impl Serialize for CollectorUrl {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

fn names_alone<S: Serializer>(
    headers: &BTreeMap<String, (HeaderName, HeaderValue)>,
    serializer: S,
) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.keys().map(|name| (name, "(hidden)")))
}
