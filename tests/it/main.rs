//! The integration tests, in one binary: every further one would be another link.

#![allow(
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    clippy::unwrap_used,
    reason = "all of this is test code; clippy excuses only functions that are tests themselves"
)]
#![allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    clippy::format_collect,
    clippy::format_push_string,
    clippy::similar_names,
    reason = "small numbers and texts of tests: what reads best is best"
)]

mod architecture;
#[cfg(feature = "ecs")]
mod attest;
mod authorize;
mod balance;
mod ca;
mod cases;
mod check;
mod deadlines;
mod demo;
#[cfg(feature = "dns")]
mod discovery_consul;
mod discovery_dns;
#[cfg(all(feature = "ecs", feature = "cloudmap"))]
mod discovery_ecs;
mod discovery_file;
#[cfg(feature = "kubernetes")]
mod discovery_kubernetes;
#[cfg(feature = "kubernetes")]
mod discovery_kubernetes_real;
mod discovery_told;
mod doctor;
mod ejection;
mod explain;
#[cfg(feature = "kubernetes")]
mod gateway_api;
mod health;
mod hedging;
mod http1;
mod issued;
mod lifecycle;
mod limits;
mod mesh;
mod metrics;
mod names;
#[cfg(all(feature = "consul", feature = "ecs", feature = "kubernetes"))]
mod one_name;
mod overrides;
mod platforms;
mod real_programs;
#[cfg(feature = "consul")]
mod register;
mod reload;
mod routes;
mod runbook;
mod simulate;
mod strict;
mod targets;
mod tcp;
mod texts_replayed;
mod tls;
mod traces;
mod wire_grpc;
mod wire_http1;
mod wire_http2;
mod wire_retry;

#[path = "../support/answering.rs"]
mod answering;
#[path = "../support/tls.rs"]
mod authority;
#[path = "../support/certificates.rs"]
mod certificates;
#[path = "../support/corpus.rs"]
mod corpus;
#[path = "../support/differential.rs"]
mod differential;
#[path = "../support/gateway.rs"]
mod gateway;
#[path = "../support/mesh.rs"]
mod identities;
#[path = "../support/invariants.rs"]
mod invariants;
#[cfg(feature = "kubernetes")]
#[path = "../support/kube_apiserver.rs"]
mod kube_apiserver;
#[path = "../support/plain.rs"]
mod plain;
#[path = "../support/process.rs"]
mod process;
#[path = "../support/texts.rs"]
mod texts;
#[path = "../support/upstream.rs"]
mod upstream;
#[path = "../support/wire.rs"]
mod wire;
