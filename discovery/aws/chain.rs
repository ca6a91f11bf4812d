//! Credentials: which link of the standard chain has them, and for how long they are kept.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use aws_config::Region;
use aws_config::ecs::EcsCredentialsProvider;
use aws_config::imds::credentials::ImdsCredentialsProvider;
use aws_config::profile::ProfileFileCredentialsProvider;
use aws_config::provider_config::ProviderConfig;
use aws_config::web_identity_token::WebIdentityTokenCredentialsProvider;
use aws_credential_types::Credentials;
use aws_credential_types::provider::error::CredentialsError;
use aws_credential_types::provider::{ProvideCredentials, SharedCredentialsProvider, future};
use aws_smithy_runtime_api::client::http::SharedHttpClient;
use tokio::sync::Mutex;

use super::trouble::chain_of;
use crate::{AwsConfig, Error};

/// How long before they expire credentials are fetched anew: AWS hands out the next ones 5 min before.
const EARLY: Duration = Duration::from_mins(5);

/// Where credentials may be from, in the order in which they are looked for.
#[derive(Debug)]
pub(super) struct Chain {
    links: Vec<(&'static str, SharedCredentialsProvider)>,
    /// Position of the link that had some, plus one.
    found: AtomicUsize,
}

impl Chain {
    /// The standard chain: environment, profile, web identity, role of the container, role of the instance. A profile
    /// that the configuration names is the only link: who names one does not want what happens to lie around.
    pub(super) fn standard(config: &AwsConfig, http: SharedHttpClient, region: &str) -> Self {
        let provider =
            ProviderConfig::default().with_http_client(http).with_region(Some(Region::new(region.to_owned())));
        let profile = ProfileFileCredentialsProvider::builder().configure(&provider);
        if let Some(name) = &config.profile {
            return Self::of("the profile", SharedCredentialsProvider::new(profile.profile_name(name).build()));
        }
        let mut links = Vec::new();
        if let Some(keys) = &config.keys {
            let keys = Credentials::new(&keys.id, &keys.secret, keys.session.clone(), None, "environment");
            links.push(("the environment", SharedCredentialsProvider::new(keys)));
        }
        links.push(("the profile", SharedCredentialsProvider::new(profile.build())));
        let web = WebIdentityTokenCredentialsProvider::builder().configure(&provider).build();
        links.push(("the web identity token", SharedCredentialsProvider::new(web)));
        let container = EcsCredentialsProvider::builder().configure(&provider).build();
        links.push(("the role of the container", SharedCredentialsProvider::new(container)));
        let instance = ImdsCredentialsProvider::builder().configure(&provider).build();
        links.push(("the role of the instance", SharedCredentialsProvider::new(instance)));
        Self { links, found: AtomicUsize::new(0) }
    }

    pub(super) fn of(name: &'static str, link: SharedCredentialsProvider) -> Self {
        Self { links: vec![(name, link)], found: AtomicUsize::new(0) }
    }

    /// Asks each link until one has credentials; one that is not set up is passed over, one that fails ends the search,
    /// so that what lies further back is never used by accident.
    async fn ask(&self) -> Result<Credentials, Error> {
        for (position, (name, link)) in self.links.iter().enumerate() {
            match link.provide_credentials().await {
                Ok(credentials) => {
                    self.found.store(position + 1, Ordering::Relaxed);
                    return Ok(credentials);
                }
                Err(CredentialsError::CredentialsNotLoaded(_)) => {}
                Err(error) => return Err(refused(name, &error)),
            }
        }
        let names: Vec<&str> = self.links.iter().map(|(name, _)| *name).collect();
        Err(Error::Denied(format!(
            "no credentials: neither {} has some; give the task or the instance a role, or set `profile`",
            names.join(", nor ")
        )))
    }
}

/// Why a link that is set up has no credentials.
fn refused(link: &str, error: &CredentialsError) -> Error {
    let said = format!("{link}: {}", chain_of(error));
    match error {
        CredentialsError::ProviderTimedOut(_) => Error::Unreachable(said),
        // STS and the metadata services say why in what they answered; without such a word nobody answered.
        CredentialsError::ProviderError(_)
            if !["AccessDenied", "InvalidClientTokenId", "ExpiredToken", "SignatureDoesNotMatch", "not authorized"]
                .iter()
                .any(|word| said.contains(word)) =>
        {
            Error::Unreachable(said)
        }
        _ => Error::Denied(format!("{said}; look at what that link says, and at the role's trust policy")),
    }
}

/// Credentials, kept until shortly before they expire.
#[derive(Debug)]
pub(super) struct Kept {
    chain: Arc<Chain>,
    kept: Mutex<Option<Credentials>>,
}

impl Kept {
    pub(super) fn new(chain: Arc<Chain>) -> Self {
        Self { chain, kept: Mutex::default() }
    }

    pub(super) fn link(&self) -> Option<&'static str> {
        let found = self.chain.found.load(Ordering::Relaxed);
        self.chain.links.get(found.checked_sub(1)?).map(|(name, _)| *name)
    }

    /// Returns credentials. While those that are kept still hold, a failure to renew them is no failure.
    pub(super) async fn current(&self) -> Result<Credentials, Error> {
        let mut kept = self.kept.lock().await;
        let now = SystemTime::now();
        if let Some(credentials) = kept.as_ref().filter(|credentials| holds(credentials, now + EARLY)) {
            return Ok(credentials.clone());
        }
        match self.chain.ask().await {
            Ok(credentials) => Ok(kept.insert(credentials).clone()),
            Err(error) => kept.clone().filter(|credentials| holds(credentials, now)).ok_or(error),
        }
    }
}

fn holds(credentials: &Credentials, at: SystemTime) -> bool {
    credentials.expiry().is_none_or(|expiry| expiry > at)
}

/// For `sts:AssumeRole`, which is signed with these.
impl ProvideCredentials for Kept {
    fn provide_credentials<'a>(&'a self) -> future::ProvideCredentials<'a>
    where
        Self: 'a,
    {
        future::ProvideCredentials::new(async { self.current().await.map_err(CredentialsError::provider_error) })
    }
}
