//! The authority of this process: opened, served on a runtime of its own, and moved along.
//!
//! Workloads must get their identity while this gateway is busy, reloads or drains, and an authority waits for the disk
//! with each decision: so it shares no thread with anything else.

mod alone;
mod counted;
mod serve;

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use meshless_certs::authority::command::{Command, Refusal, RefusalKind};
use meshless_certs::authority::server::ServerOptions;
use meshless_certs::authority::server::operator::Operator;
use meshless_certs::authority::{self, Authority, Limits, Passphrase, SOCKET};
use meshless_platforms::Surroundings;
use serde_json::{Value, json};
use tokio::time::sleep;

use self::serve::Parts;
pub(super) use self::serve::Served;
use super::StartError;
use crate::config::Config;
use crate::telemetry::metrics::Registry;

pub use alone::AuthorityAlone;

/// Pause after a step that failed, such as because the disk is full.
const AFTER_FAILURE: Duration = Duration::from_secs(5);

/// Carries out what operators say at the socket.
#[derive(Debug)]
struct Desk(Arc<Authority>);

#[async_trait]
impl Operator for Desk {
    async fn execute(&self, command: Value) -> Value {
        let outcome = match serde_json::from_value::<Command>(command) {
            Ok(command) => {
                let authority = self.0.clone();
                let failed = |error: tokio::task::JoinError| Refusal {
                    kind: RefusalKind::Failed,
                    why: format!("the command did not end: {error}"),
                };
                tokio::task::spawn_blocking(move || authority.execute(command)).await.map_err(failed).flatten()
            }
            Err(error) => {
                Err(Refusal { kind: RefusalKind::Wrong, why: format!("this version knows no such command: {error}") })
            }
        };
        serde_json::to_value(outcome)
            .unwrap_or_else(|error| json!({ "Err": { "kind": "failed", "why": error.to_string() } }))
    }
}

/// Opens the authority of a configuration, if there is one, and serves it. Blocks.
pub(super) fn start(
    config: &Config,
    surroundings: &dyn Surroundings,
    registry: &Arc<Registry>,
) -> Result<Option<Served>, StartError> {
    let attestors = config.attestors.as_ref().map(|found| super::attestors(found, surroundings)).transpose()?;
    let Some(config) = &config.ca else { return Ok(None) };
    let unusable = |why: String| StartError::Unusable(format!("ca: {why}"));
    let passphrase = config.passphrase_file.as_deref().map(Passphrase::read).transpose();
    let passphrase = passphrase.map_err(|error| unusable(format!("passphrase_file: {error}")))?;
    let options = authority::Options {
        leaf_ttl: config.leaf_ttl,
        intermediate_ttl: config.intermediate_ttl,
        rules: config.allow.clone(),
        limits: Limits { per_second: config.limits.per_second, per_identity: config.limits.per_identity },
        passphrase,
        ..authority::Options::default()
    };
    let opened = Authority::open(&config.state_dir, options, attestors.unwrap_or_default());
    let authority = Arc::new(opened.map_err(|error| unusable(error.to_string()))?);
    let told = authority.desk().trust_domain().clone();
    if let Some(expected) = config.trust_domain.as_ref().filter(|expected| **expected != told) {
        let directory = config.state_dir.display();
        return Err(unusable(format!(
            "the authority in {directory} is that of the trust domain `{told}`, and identity.trust_domain is `{expected}`"
        )));
    }
    let socket = config.state_dir.join(SOCKET);
    let parts = Parts {
        issuer: authority.clone(),
        operator: Arc::new(Desk(authority.clone())),
        listen: config.listen,
        socket: Path::new(&socket),
        options: ServerOptions {
            handshakes: usize::try_from(config.limits.handshakes).unwrap_or(usize::MAX),
            per_source: config.limits.per_source,
        },
        registry,
    };
    let served = Served::start(parts, upkeep(authority)).map_err(|error| unusable(error.to_string()))?;
    let listen = served.address().map_or_else(|| "nowhere".to_owned(), |address| address.to_string());
    tracing::info!(trust_domain = %told, listen, directory = %config.state_dir.display(), "The authority is open.");
    Ok(Some(served))
}

/// Moves intermediates and roots along, for ever.
async fn upkeep(authority: Arc<Authority>) {
    loop {
        let moved = authority.clone();
        let pause = match tokio::task::spawn_blocking(move || moved.advance()).await {
            Ok(Ok(pause)) => pause,
            Ok(Err(error)) => {
                tracing::error!(%error, "The authority cannot move its intermediates and roots along.");
                AFTER_FAILURE
            }
            Err(error) => {
                tracing::error!(%error, "The authority failed.");
                AFTER_FAILURE
            }
        };
        sleep(pause).await;
    }
}
