//! `[[routes]].match`, checked.

mod network;
mod path;
mod pattern;

use std::collections::BTreeMap;

use http::{HeaderName, Method};
use serde::{Serialize, Serializer};

pub use network::{Network, NetworkError};
pub use path::{PathMatch, PathTemplate, Segment};
pub use pattern::{Pattern, PatternError};

/// What a route matches: all of it must hold. Nothing set matches everything.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Match {
    /// Which host; `None`: any.
    pub host: Option<HostMatch>,
    /// Which path; `None`: any.
    pub path: Option<PathMatch>,
    /// Which methods; empty: any.
    #[serde(serialize_with = "methods")]
    pub methods: Vec<Method>,
    /// Which headers, by name.
    #[serde(serialize_with = "headers")]
    pub headers: Vec<(HeaderName, ValueMatch)>,
    /// Which query parameters, by name.
    pub query: BTreeMap<String, ValueMatch>,
    /// Which gRPC service or method; `None`: any, and what is no gRPC.
    pub grpc: Option<GrpcMatch>,
    /// Which client by its SPIFFE ID; `None`: any, and clients without one.
    pub from: Option<FromMatch>,
    /// Networks of the client; empty: any.
    pub addresses: Vec<Network>,
}

impl Match {
    /// Returns the first key that only an open HTTP request can answer; on passed TLS there is no such thing.
    #[must_use]
    pub fn needs_http(&self) -> Option<&'static str> {
        [
            ("path", self.path.is_some()),
            ("method", !self.methods.is_empty()),
            ("headers", !self.headers.is_empty()),
            ("query", !self.query.is_empty()),
            ("grpc", self.grpc.is_some()),
            ("from", self.from.is_some()),
        ]
        .into_iter()
        .find_map(|(key, is_set)| is_set.then_some(key))
    }
}

/// Which host a route is for; ports are ignored, names are lower case.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum HostMatch {
    /// This host.
    Exact(String),
    /// One or more labels before this suffix, which begins with a dot.
    Suffix(String),
}

/// Which value of a header or query parameter. Of several values with one name, one that fits is enough.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ValueMatch {
    /// This one.
    Exact(String),
    /// One that begins so.
    Prefix(String),
    /// One that ends so.
    Suffix(String),
    /// One that matches as a whole.
    Regex(Pattern),
    /// Whether there is one.
    Present(bool),
    /// None that fits, which holds where there is none at all.
    Not(Box<Self>),
}

/// Which gRPC calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct GrpcMatch {
    /// The service with its package, such as `pkg.Service`.
    pub service: String,
    /// The method; `None`: all of the service.
    pub method: Option<String>,
}

impl Serialize for GrpcMatch {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.method {
            Some(method) => serializer.collect_str(&format_args!("{}/{method}", self.service)),
            None => serializer.serialize_str(&self.service),
        }
    }
}

/// Which SPIFFE IDs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum FromMatch {
    /// This one.
    Exact(String),
    /// Those below this prefix, which ends in `/`.
    Below(String),
}

impl FromMatch {
    /// Tells whether an ID fits.
    #[must_use]
    pub fn matches(&self, id: &str) -> bool {
        match self {
            Self::Exact(exact) => exact == id,
            Self::Below(prefix) => id.len() > prefix.len() && id.starts_with(prefix.as_str()),
        }
    }
}

fn methods<S: Serializer>(methods: &[Method], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(methods.iter().map(Method::as_str))
}

fn headers<S: Serializer>(headers: &[(HeaderName, ValueMatch)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_map(headers.iter().map(|(name, value)| (name.as_str(), value)))
}
