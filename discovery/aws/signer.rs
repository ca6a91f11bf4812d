//! Signs the one request by which a workload proves its role to an authority, with the credentials of the standard chain.

use std::sync::Arc;
use std::time::SystemTime;

use async_trait::async_trait;
use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use meshless_certs::SourceError;
use meshless_certs::attest::aws_iam::{Signed, Signer, Unsigned};

use super::trouble::chain_of;
use super::{Aws, Service};
use crate::{AwsConfig, Calls, Error};

/// Returns what signs for an authority; credentials and region are looked up when they are first needed.
#[must_use]
pub fn signer(config: &AwsConfig) -> Arc<dyn Signer> {
    Arc::new(Chain(Aws::new(config, Calls::default())))
}

#[derive(Debug)]
struct Chain(Aws);

#[async_trait]
impl Signer for Chain {
    async fn region(&self) -> Result<String, SourceError> {
        Ok(self.0.session().await.map_err(|trouble| told(trouble.error))?.region.clone())
    }

    async fn sign(&self, request: &Unsigned) -> Result<Signed, SourceError> {
        let session = self.0.session().await.map_err(|trouble| told(trouble.error))?;
        let identity = session.credentials().await.map_err(told)?.into();
        let unsigned =
            |problem: String| SourceError::Malformed(format!("the request to STS cannot be signed: {problem}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&request.region)
            .name(Service::Sts.signing_name())
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.to_string()))?
            .into();
        let url = format!("https://{}/", request.host);
        let headers = request.headers.iter().map(|(name, value)| (*name, value.as_str()));
        let signable = SignableRequest::new("POST", &url, headers, SignableBody::Bytes(request.body.as_bytes()))
            .map_err(|error| unsigned(chain_of(&error)))?;
        let (instructions, _) = sign(signable, &params).map_err(|error| unsigned(chain_of(&error)))?.into_parts();
        let header = |name: &str| {
            let mut found = instructions.headers().filter(|(known, _)| known.eq_ignore_ascii_case(name));
            found.next().map(|(_, value)| value.to_owned())
        };
        let missing = |name: &str| unsigned(format!("the signature has no `{name}`"));
        Ok(Signed {
            date: header("x-amz-date").ok_or_else(|| missing("x-amz-date"))?,
            security_token: header("x-amz-security-token"),
            authorization: header("authorization").ok_or_else(|| missing("authorization"))?,
        })
    }
}

/// The same trouble, in the words of identities.
fn told(error: Error) -> SourceError {
    match error {
        Error::Throttled { retry_after } => SourceError::Throttled { retry_after },
        Error::Unreachable(why) => SourceError::Unreachable(why),
        // Credentials that are not there or not taken are ours to repair, not the authority's refusal.
        other => SourceError::Malformed(other.to_string()),
    }
}
