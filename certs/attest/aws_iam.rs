//! AWS: a workload proves its role by a signed `sts:GetCallerIdentity`, which the authority sends.
//!
//! The workload signs a request that it never sends (`request`); what it shows of it is its region, its date, its session token
//! and its signature. The authority builds the same request anew, with its own host, its own body, and the challenge in signed
//! headers, and sends it. So nothing that a workload shows can lead the request elsewhere or make it ask something else
//! (CVE-2020-16250), and a signature that was made for another authority, nonce or key is none here.
//!
//! A role may be that of many tasks. A task of ECS also says which one it is, and the authority asks ECS (`task`).

mod authorization;
mod caller;
mod request;
mod task;

use std::collections::BTreeSet;
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use authorization::Authorization;
use caller::Caller;
pub use caller::plain_role;
pub use request::{Region, Unsigned};
pub use task::{Metadata, Task, Tasks, TasksError};

use super::evidence::{self, refused};
use super::http::{Http, PATIENCE, exchange};
use super::{Attested, Attestor, Challenge, Method, Presented, Prover, Rejected};
use crate::{Anchors, SourceError};

/// What a request is signed with: the credentials of this workload, which never leave it.
#[async_trait]
pub trait Signer: std::fmt::Debug + Send + Sync {
    /// Returns the region whose STS is to be asked.
    async fn region(&self) -> Result<String, SourceError>;

    /// Signs a request by Signature Version 4 for the service `sts`, in the region of its host.
    async fn sign(&self, request: &Unsigned) -> Result<Signed, SourceError>;
}

/// What a signature adds to a request.
#[derive(Clone, PartialEq, Eq)]
pub struct Signed {
    /// `X-Amz-Date`.
    pub date: String,
    /// `X-Amz-Security-Token`, where the credentials are those of a session.
    pub security_token: Option<String>,
    /// `Authorization`.
    pub authorization: String,
}

/// Whoever has both headers can ask STS who we are, for as long as the date is fresh.
impl std::fmt::Debug for Signed {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Signed").field("date", &self.date).finish_non_exhaustive()
    }
}

/// What is shown.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Evidence {
    region: String,
    date: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    security_token: Option<String>,
    authorization: String,
    /// ARN of the task of ECS that it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    task: Option<String>,
}

/// Proves by the credentials that this workload has, and by the task of ECS that it is.
#[derive(Debug)]
pub struct Role {
    signer: Arc<dyn Signer>,
    metadata: Option<Metadata>,
}

impl Role {
    /// Proves by these credentials. `metadata` is there in a task of ECS.
    #[must_use]
    pub fn new(signer: Arc<dyn Signer>, metadata: Option<Metadata>) -> Self {
        Self { signer, metadata }
    }
}

#[async_trait]
impl Prover for Role {
    fn method(&self) -> Method {
        Method::AwsIam
    }

    async fn prove(&self, challenge: &Challenge) -> Result<serde_json::Value, SourceError> {
        let task = match &self.metadata {
            Some(metadata) => Some(metadata.task().await?),
            None => None,
        };
        let text = self.signer.region().await?;
        let region = Region::parse(&text)
            .ok_or_else(|| SourceError::Malformed(format!("`{text}` is no region of AWS; set `AWS_REGION`")))?;
        let Signed { date, security_token, authorization } =
            self.signer.sign(&Unsigned::new(&region, challenge)).await?;
        let evidence = Evidence { region: text, date, security_token, authorization, task };
        serde_json::to_value(&evidence).map_err(|error| SourceError::Malformed(error.to_string()))
    }
}

/// Whose roles are believed.
#[derive(Debug)]
pub struct Accounts {
    /// Numbers of accounts.
    pub accounts: BTreeSet<String>,
    /// Regions whose STS is asked.
    pub regions: BTreeSet<Region>,
    /// URL that STS is asked at in place of its own; the host that is signed stays STS's own. Default: none.
    pub endpoint: Option<String>,
    /// Where tasks of ECS are looked up. `None`: nobody is asked, and a role is all that is proved.
    pub tasks: Option<Arc<dyn Tasks>>,
    /// Tasks may come from another address than their own, such as that of a NAT.
    pub behind_nat: bool,
}

/// Takes signed calls of STS.
///
/// Facts: `account`, `role` (its ARN without a path: [`plain_role`]), `session`; of a task of ECS also `cluster`, `service`,
/// `family` and `task` (its id).
#[derive(Debug)]
pub struct Roles {
    of: Accounts,
    http: Http,
}

impl Roles {
    /// Takes roles of these accounts.
    #[must_use]
    pub fn new(of: Accounts) -> Self {
        Self { of, http: Http::new(Anchors::System) }
    }

    async fn caller(&self, evidence: &Evidence, presented: &Presented<'_>) -> Result<Caller, Rejected> {
        let region = Region::parse(&evidence.region).filter(|region| self.of.regions.contains(region));
        let Some(region) = region else {
            let why = format!("`{}` is none of the regions that are allowed", evidence::shown(&evidence.region));
            return Err(refused("region", why));
        };
        let unsigned = Unsigned::new(&region, presented.challenge);
        let Evidence { date, security_token, authorization, .. } = evidence;
        let token = security_token.as_deref();
        Authorization::check(authorization, &unsigned, date, token, &region, presented.now)?;
        let url = self.of.endpoint.clone().unwrap_or_else(|| format!("https://{}/", unsigned.host));
        let unavailable = |why: String| Rejected::Unavailable(format!("STS at {url}: {why}"));
        let mut request = self.http.client().await.map_err(unavailable)?.post(&url).body(unsigned.body);
        for (name, value) in &unsigned.headers {
            request = request.header(*name, value);
        }
        request = request.header("host", &unsigned.host).header("x-amz-date", date);
        request = request.header("authorization", authorization);
        if let Some(token) = token {
            request = request.header("x-amz-security-token", token);
        }
        let answer = exchange(request, PATIENCE).await.map_err(unavailable)?;
        Caller::read(&answer).map_err(|rejected| match rejected {
            Rejected::Unavailable(why) => unavailable(why),
            refused @ Rejected::Refused { .. } => refused,
        })
    }
}

#[async_trait]
impl Attestor for Roles {
    fn method(&self) -> Method {
        Method::AwsIam
    }

    async fn attest(&self, presented: &Presented<'_>) -> Result<Attested, Rejected> {
        let evidence: Evidence = evidence::read(presented.evidence)?;
        let caller = self.caller(&evidence, presented).await?;
        if !self.of.accounts.contains(&caller.account) {
            return Err(refused("account", format!("the account {} is none that is allowed", caller.account)));
        }
        let mut facts =
            vec![("account", caller.account.clone()), ("role", caller.role_arn()), ("session", caller.session.clone())];
        if let (Some(tasks), Some(arn)) = (&self.of.tasks, &evidence.task) {
            let source = if self.of.behind_nat { None } else { Some(presented.source) };
            facts.extend(task::facts(&**tasks, arn, &caller, &self.of.regions, source).await?);
        }
        Ok(Attested { method: Method::AwsIam, facts })
    }
}

#[cfg(test)]
mod tests;
