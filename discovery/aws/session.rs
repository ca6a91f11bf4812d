//! An open session: region, credentials and connections of one account.

use std::sync::Arc;
use std::time::Duration;

use aws_config::retry::RetryConfig;
use aws_config::sts::AssumeRoleProvider;
use aws_config::timeout::TimeoutConfig;
use aws_config::{BehaviorVersion, Region, SdkConfig};
use aws_credential_types::Credentials;
use aws_credential_types::provider::SharedCredentialsProvider;
use aws_smithy_http_client::{Builder, Connector, tls};
use aws_smithy_runtime_api::client::http::{HttpConnector as _, SharedHttpClient, SharedHttpConnector};
use tokio::time::timeout;

use super::chain::{Chain, Kept};
use super::endpoint::{self, Service, Variant};
use crate::{AwsConfig, Error};

/// Longest time for credentials, with every link that has to be tried.
const CREDENTIALS_TIMEOUT: Duration = Duration::from_secs(15);

/// Region, credentials and connections.
#[derive(Debug)]
pub(super) struct Session {
    pub(super) region: String,
    endpoint: Option<String>,
    variant: Variant,
    credentials: Kept,
    connector: SharedHttpConnector,
}

impl Session {
    /// Looks region and settings up; on an instance that is a call to its metadata service.
    pub(super) async fn open(config: &AwsConfig) -> Result<Self, Error> {
        let http = client();
        let mut loader = aws_config::defaults(BehaviorVersion::latest())
            .no_credentials()
            .http_client(http.clone())
            .retry_config(RetryConfig::disabled())
            .timeout_config(TimeoutConfig::builder().operation_timeout(CREDENTIALS_TIMEOUT / 3).build());
        if let Some(region) = &config.region {
            loader = loader.region(Region::new(region.clone()));
        }
        if let Some(profile) = &config.profile {
            loader = loader.profile_name(profile);
        }
        if let Some(endpoint) = &config.endpoint {
            loader = loader.endpoint_url(endpoint);
        }
        let answered = timeout(CREDENTIALS_TIMEOUT, loader.load()).await;
        let sdk = answered.map_err(|_| Error::Unreachable("the region could not be looked up in time".to_owned()))?;
        let Some(region) = sdk.region().map(|region| region.as_ref().to_owned()) else {
            return Err(Error::Denied(
                "no region: neither the configuration, the environment, the profile nor an instance says one; \
                 set `region`"
                    .to_owned(),
            ));
        };
        let credentials = credentials(config, &sdk, http, &region).await;
        Ok(Self {
            region,
            endpoint: sdk.endpoint_url().map(str::to_owned),
            variant: Variant {
                dual_stack: sdk.use_dual_stack().unwrap_or(false),
                fips: sdk.use_fips().unwrap_or(false),
            },
            credentials: Kept::new(credentials),
            connector: SharedHttpConnector::new(connector()),
        })
    }

    /// Returns credentials that hold for some time yet.
    pub(super) async fn credentials(&self) -> Result<Credentials, Error> {
        timeout(CREDENTIALS_TIMEOUT, self.credentials.current())
            .await
            .unwrap_or_else(|_| Err(Error::Unreachable("no credentials came in time".to_owned())))
    }

    /// Returns which link of the chain the credentials are from.
    pub(super) fn link(&self) -> Option<&'static str> {
        self.credentials.link()
    }

    /// Returns where a service answers.
    pub(super) fn url(&self, service: Service) -> String {
        self.endpoint.clone().unwrap_or_else(|| endpoint::url(service, &self.region, self.variant))
    }

    pub(super) fn send(
        &self,
        request: aws_smithy_runtime_api::client::orchestrator::HttpRequest,
    ) -> aws_smithy_runtime_api::client::http::HttpConnectorFuture {
        self.connector.call(request)
    }
}

/// The standard chain, and in front of it the role to assume, if there is one.
async fn credentials(config: &AwsConfig, sdk: &SdkConfig, http: SharedHttpClient, region: &str) -> Arc<Chain> {
    let chain = Chain::standard(config, http, region);
    let Some(role) = &config.assume_role else { return Arc::new(chain) };
    let mut builder = AssumeRoleProvider::builder(role)
        .configure(sdk)
        .region(Region::new(region.to_owned()))
        .session_name("meshless");
    if let Some(id) = &config.external_id {
        builder = builder.external_id(id);
    }
    let assumed = builder.build_from_provider(Kept::new(Arc::new(chain))).await;
    Arc::new(Chain::of("the assumed role", SharedCredentialsProvider::new(assumed)))
}

/// What credentials are fetched with. No client of ours uses a proxy from the environment.
fn client() -> SharedHttpClient {
    Builder::new().tls_provider(ring()).build_https()
}

/// What services are called with.
fn connector() -> Connector {
    Connector::builder().tls_provider(ring()).build()
}

/// The provider of cryptography that all of this build uses (`certs/provider.rs`).
fn ring() -> tls::Provider {
    tls::Provider::Rustls(tls::rustls_provider::CryptoMode::Ring)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_client_that_speaks_tls_can_be_built() {
        let _ = (client(), connector());
    }
}
