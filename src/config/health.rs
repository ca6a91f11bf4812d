//! `health`, checked: how endpoints are asked whether they are well.

use std::time::Duration;

use serde::Serialize;

use super::units::print;

/// Active health checks of a service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Health {
    /// What is asked.
    #[serde(flatten)]
    pub ask: HealthAsk,
    /// Time between two checks of one endpoint, ± 10 %. Default 5 s.
    #[serde(serialize_with = "print::period")]
    pub interval: Duration,
    /// Limit for one check, connection and TLS included; at most `interval`. Default 1 s.
    #[serde(serialize_with = "print::period")]
    pub timeout: Duration,
    /// Good checks in a row until a bad endpoint is used again. Default 2.
    pub healthy: u32,
    /// Bad checks in a row until a good endpoint is not used any more. Default 3.
    pub unhealthy: u32,
}

/// What is asked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(tag = "type", rename_all = "kebab-case")]
pub enum HealthAsk {
    /// `grpc.health.v1.Health/Check` (the gRPC health checking protocol) says `SERVING`.
    Grpc {
        /// Whose health; empty: the server's as a whole.
        service: String,
    },
    /// A GET is answered with one of these statuses.
    Http {
        /// Path, and query.
        path: String,
        /// The `Host`. Default: `tls.server_name`, else the endpoint's address.
        host: Option<String>,
        /// First and last status that is good. Default 200 to 299.
        status: (u16, u16),
    },
    /// A connection is made, TLS included.
    Tcp,
}
