//! Objects that a backend keeps beside endpoints, such as routes.

use std::fmt;

use async_trait::async_trait;
use serde_json::Value;

use crate::Error;

/// Waits for change in the objects that a backend knows, all of them together.
///
/// What holds for a [`Source`](crate::Source) holds here: all or nothing, an error is not an empty answer, and a call that
/// waits says by waiting that what it returned last still holds.
#[async_trait]
pub trait ObjectSource: fmt::Debug + Send {
    /// Waits until an object came, changed or went, then returns all of them as JSON, without what changes by itself
    /// (status, versions). The first call answers at once.
    ///
    /// After an error the next call tries anew, and answers even if nothing changed. Cancel-safe.
    async fn next(&mut self) -> Result<Vec<Value>, Error>;
}
