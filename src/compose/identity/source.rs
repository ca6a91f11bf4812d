//! Where an identity comes from, by the configuration.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use meshless_certs::agent::{Agent, AgentOptions, KeyHash, Pin};
use meshless_certs::authority::Issuer;
use meshless_certs::{FilesSource, IdentityFiles, IdentitySource};
use meshless_platforms::Surroundings as Environment;

use crate::compose::{StartError, prover};
use crate::config::{self, Authority, AuthorityTrust};

/// Longest wait between two looks at files that make no identity: looking costs nothing.
const LONGEST_FOR_FILES: Duration = Duration::from_secs(5);
/// Longest wait between two questions to an authority that does not answer: it heals soon after it is back, and a
/// thousand workloads are no burden.
const LONGEST_FOR_AUTHORITY: Duration = Duration::from_secs(15);
/// Where the agent keeps the identity, in `node.state_dir`.
const KEPT: &str = "identity";

/// What identities come from beside their own configuration.
#[derive(Debug, Clone)]
pub(in crate::compose) struct Surroundings {
    /// The authority of this process.
    pub(in crate::compose) authority: Option<Arc<dyn Issuer>>,
    /// `node.state_dir`.
    pub(in crate::compose) state_dir: Option<PathBuf>,
    /// The environment.
    pub(in crate::compose) environment: Arc<dyn Environment>,
}

/// Opens the source, and says how long to wait at most after a failure of it. Nobody is asked yet.
pub(super) fn open(
    config: &config::Identity,
    around: &Surroundings,
) -> Result<(Box<dyn IdentitySource>, Duration), StartError> {
    match &config.authority {
        Authority::Files { chain, key, bundle } => {
            let files = IdentityFiles { chain: chain.clone(), key: key.clone(), bundle: bundle.clone() };
            Ok((Box::new(FilesSource::new(files, config.trust_domain.clone())), LONGEST_FOR_FILES))
        }
        Authority::Embedded { service } => {
            let authority = around.authority.clone().ok_or_else(|| {
                StartError::Unusable("identity.authority: the authority of this process begins with a restart".into())
            })?;
            let told = &authority.bundle().trust_domain;
            if *told != config.trust_domain {
                return Err(StartError::Unusable(format!(
                    "identity.trust_domain is `{}`, the authority of this process is that of `{told}`",
                    config.trust_domain
                )));
            }
            Ok((Box::new(Agent::embedded(authority, service.clone())), LONGEST_FOR_AUTHORITY))
        }
        Authority::Remote { address, trust, attest, service } => {
            let url = address.to_string();
            let url = url.parse().map_err(|why| StartError::Unusable(format!("identity.authority: `{url}`: {why}")))?;
            let pin = match trust {
                AuthorityTrust::Bundle(path) => Pin::File(path.clone()),
                AuthorityTrust::Pin(hash) => Pin::Key(KeyHash::from(*hash)),
            };
            let options = AgentOptions {
                url,
                pin,
                trust_domain: config.trust_domain.clone(),
                service: Some(service.clone()),
                state_dir: around.state_dir.as_deref().map(|directory: &Path| directory.join(KEPT)),
            };
            Ok((Box::new(Agent::new(options, Arc::from(prover(attest, &*around.environment)?))), LONGEST_FOR_AUTHORITY))
        }
    }
}
