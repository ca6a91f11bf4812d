//! The instance's side: its document and the signature over it, from its metadata service.

use std::time::Duration;

use async_trait::async_trait;

use super::Evidence;
use crate::SourceError;
use crate::attest::http::{Http, exchange};
use crate::attest::{Challenge, Method, Prover};

/// Where the metadata service of every instance is.
const ADDRESS: &str = "http://169.254.169.254";

/// Longest time of one exchange: it answers within milliseconds, and elsewhere nobody does.
const PATIENCE: Duration = Duration::from_secs(2);

/// For how long the token is asked for that version 2 of the service wants, in seconds.
const TOKEN_TTL: &str = "60";

/// Proves by the identity document of the instance that this process runs on. Only version 2 of the metadata service is asked.
#[derive(Debug)]
pub struct Instance {
    address: String,
    http: Http,
}

impl Instance {
    /// Asks the metadata service at `address`; default `http://169.254.169.254`.
    #[must_use]
    pub fn new(address: Option<&str>) -> Self {
        Self { address: address.unwrap_or(ADDRESS).trim_end_matches('/').to_owned(), http: Http::clear() }
    }

    async fn ask(&self, request: reqwest::RequestBuilder, path: &str) -> Result<String, SourceError> {
        let at = format!("the metadata service of the instance at {}{path}", self.address);
        let answer =
            exchange(request, PATIENCE).await.map_err(|why| SourceError::Unreachable(format!("{at}: {why}")))?;
        if answer.status != 200 {
            let hint = "is version 2 of it enabled, and its hop limit 2 for containers?";
            return Err(SourceError::Unreachable(format!("{at}: it answered {}; {hint}", answer.status)));
        }
        String::from_utf8(answer.body).map_err(|_| SourceError::Malformed(format!("{at}: the answer is not UTF-8")))
    }
}

#[async_trait]
impl Prover for Instance {
    fn method(&self) -> Method {
        Method::Ec2
    }

    async fn prove(&self, _: &Challenge) -> Result<serde_json::Value, SourceError> {
        let client = self.http.client().await.map_err(SourceError::Unreachable)?;
        let url = |path: &str| format!("{}{path}", self.address);
        let path = "/latest/api/token";
        let request = client.put(url(path)).header("x-aws-ec2-metadata-token-ttl-seconds", TOKEN_TTL);
        let token = self.ask(request, path).await?;
        let mut found = Vec::new();
        for path in ["/latest/dynamic/instance-identity/document", "/latest/dynamic/instance-identity/rsa2048"] {
            let request = client.get(url(path)).header("x-aws-ec2-metadata-token", token.trim());
            found.push(self.ask(request, path).await?);
        }
        let (rsa2048, document) = (found.pop().unwrap_or_default(), found.pop().unwrap_or_default());
        serde_json::to_value(&Evidence { document, rsa2048 }).map_err(|error| SourceError::Malformed(error.to_string()))
    }
}
