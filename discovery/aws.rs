//! What the backends of AWS share: where an account is found, signed calls, and the poll that sources drive together.
//!
//! Of AWS's own code only the chain of credentials is used (`aws-config`), because it has a dozen links with quirks of
//! their own. The handful of calls are plain HTTP requests, signed by `aws-sigv4`: one client counts them, bounds them in time
//! and size, and names their errors (decision 0075).

mod call;
mod chain;
mod endpoint;
mod examine;
mod poll;
mod schedule;
mod session;
mod signer;
mod trouble;
#[cfg(feature = "ecs")]
mod xml;

use std::sync::Arc;
use std::time::Duration;

use serde::de::DeserializeOwned;
use tokio::sync::Mutex;

pub(crate) use endpoint::Service;
pub(crate) use examine::Permission;
pub(crate) use poll::{Look, Poll};
pub(crate) use schedule::Schedule;
pub use signer::signer;
pub(crate) use trouble::Trouble;
#[cfg(feature = "ecs")]
pub(crate) use xml::Element;

use crate::{AwsConfig, Calls, Error};
use session::Session;

/// Longest time that one call may take, connecting and reading included.
const CALL_TIMEOUT: Duration = Duration::from_secs(10);

/// Most bytes of a key or a value of metadata.
const MAX_VALUE: usize = 256;

/// An account and a region of AWS, opened when it is first asked.
#[derive(Debug)]
pub(crate) struct Aws {
    config: AwsConfig,
    calls: Calls,
    timeout: Duration,
    /// Opened anew after credentials were refused: files may have changed since.
    session: Arc<Mutex<Option<Arc<Session>>>>,
}

impl Aws {
    pub(crate) fn new(config: &AwsConfig, calls: Calls) -> Self {
        Self { config: config.clone(), calls, timeout: CALL_TIMEOUT, session: Arc::default() }
    }

    /// Returns the same one, which gives up on a call sooner.
    pub(crate) fn with_timeout(&self, timeout: Duration) -> Self {
        Self { timeout, config: self.config.clone(), calls: self.calls.clone(), session: Arc::clone(&self.session) }
    }

    /// Asks a service that speaks JSON; `action` is the name of the call as IAM and `calls` know it.
    pub(crate) async fn json<T: DeserializeOwned>(
        &self,
        service: Service,
        action: &'static str,
        input: serde_json::Value,
    ) -> Result<T, Trouble> {
        let session = self.session().await?;
        let answered = self.settle(session.json(&self.calls, self.timeout, service, action, &input).await).await?;
        serde_json::from_slice(&answered.body)
            .map_err(|error| Trouble::of(Error::Malformed(format!("{action}: the answer cannot be read: {error}"))))
    }

    /// Asks a service that takes a form and answers in XML.
    #[cfg(feature = "ecs")]
    pub(crate) async fn form(
        &self,
        service: Service,
        action: &'static str,
        fields: &[(String, String)],
    ) -> Result<Element, Trouble> {
        let session = self.session().await?;
        let answered = self.settle(session.form(&self.calls, self.timeout, service, action, fields).await).await?;
        xml::parse(&answered.body)
            .map_err(|problem| Trouble::of(Error::Malformed(format!("{action}: the answer cannot be read: {problem}"))))
    }

    /// Returns the open session, or opens one.
    async fn session(&self) -> Result<Arc<Session>, Trouble> {
        let mut session = self.session.lock().await;
        if let Some(open) = session.as_ref() {
            return Ok(Arc::clone(open));
        }
        let open = Arc::new(Session::open(&self.config).await.map_err(Trouble::of)?);
        *session = Some(Arc::clone(&open));
        Ok(open)
    }

    /// Forgets the session where its credentials were not taken. That an action is not permitted is no fault of theirs.
    async fn settle<T>(&self, result: Result<T, Trouble>) -> Result<T, Trouble> {
        if let Err(trouble) = &result
            && matches!(trouble.error, Error::Denied(_))
            && !trouble.is_not_permitted()
        {
            *self.session.lock().await = None;
        }
        result
    }
}

/// Returns an input with one more field, where there is a value for it: AWS takes no `null`.
pub(crate) fn with<T: Into<serde_json::Value>>(
    mut input: serde_json::Value,
    field: &str,
    value: Option<T>,
) -> serde_json::Value {
    if let (Some(fields), Some(value)) = (input.as_object_mut(), value) {
        fields.insert(field.to_owned(), value.into());
    }
    input
}

/// Returns a value of metadata, or as much of it as is kept.
pub(crate) fn capped(value: &str) -> String {
    let end = (0..=MAX_VALUE.min(value.len())).rev().find(|end| value.is_char_boundary(*end)).unwrap_or_default();
    value.get(..end).unwrap_or_default().to_owned()
}
