//! The `file` backend: endpoints that a person, a template or another program writes into files.
//!
//! One [`Shared`] per backend reads the files for all its sources, so a hundred targets cost one watch and one read.
//! `read` gets bytes without a half-done set, `document` understands them, `watch` says when to look again.

mod document;
mod examine;
mod read;
mod shared;
mod watch;
mod yaml;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use shared::Shared;

use crate::{Backend, Calls, Error, Finding, Snapshot, Source, Target, TargetError, async_trait};

/// Most bytes of a service's name.
const MAX_NAME: usize = 253;

/// The `file` backend.
#[derive(Debug)]
pub(crate) struct File {
    shared: Arc<Shared>,
}

impl File {
    /// Returns a backend for a file or a directory; nothing is read before a source is asked.
    pub(crate) fn new(path: PathBuf) -> Self {
        Self { shared: Arc::new(Shared::new(path)) }
    }
}

#[async_trait]
impl Backend for File {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        target.refuse_options()?;
        check_name(&target.path).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))?;
        Ok(Box::new(Service { name: target.path.clone(), shared: Arc::clone(&self.shared), seen: 0, said: None }))
    }

    fn calls(&self) -> Calls {
        self.shared.calls()
    }

    /// Says whether the files can be read and understood, and whether a change would be seen at once.
    async fn examine(&self, targets: &[Target]) -> Vec<Finding> {
        let (path, targets) = (self.shared.path().to_owned(), targets.to_vec());
        let looked = tokio::task::spawn_blocking(move || examine::look(&path, &targets));
        looked.await.unwrap_or_else(|error| vec![Finding::bad("readable", error.to_string(), "please report it")])
    }
}

/// Waits for change of one service.
#[derive(Debug)]
struct Service {
    name: String,
    shared: Arc<Shared>,
    /// The newest outcome that was looked at.
    seen: u64,
    /// What was returned last; `None` at the start and after an error, so that a recovery is always told.
    said: Option<Snapshot>,
}

#[async_trait]
impl Source for Service {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        loop {
            let outcome = self.shared.newer_than(self.seen).await;
            // No await from here on: a call that is dropped has either seen nothing or returned it.
            self.seen = outcome.generation;
            match outcome.result {
                Ok(services) => {
                    let snapshot = services.get(&self.name).cloned().unwrap_or_default();
                    if self.said.as_ref() != Some(&snapshot) {
                        self.said = Some(snapshot.clone());
                        return Ok(snapshot);
                    }
                }
                Err(error) => {
                    self.said = None;
                    return Err(error);
                }
            }
        }
    }
}

/// Reads endpoints that stand in for those of other backends: a file as this backend takes it, whose services are named
/// like the targets that they stand for. Blocks on the file system.
pub fn fixtures(path: &Path) -> Result<BTreeMap<String, Snapshot>, Error> {
    document::parse_named(&read::read(path)?, |name| match name.split_once('/') {
        Some((backend, path)) if !backend.is_empty() && !path.is_empty() => Ok(()),
        _ => Err(format!("`{name}` is no target; write BACKEND/NAME as the configuration does")),
    })
}

/// Checks a service's name: `[a-z0-9][a-z0-9._-]*`, so that it never means a path.
fn check_name(name: &str) -> Result<(), String> {
    let first = name.bytes().next();
    if !first.is_some_and(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit()) {
        return Err(format!("service name `{name}` does not begin with a lower-case letter or a digit"));
    }
    let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'.' | b'_' | b'-');
    if let Some(other) = name.chars().find(|character| !character.is_ascii() || !allowed(*character as u8)) {
        return Err(format!("service name `{name}` has {other:?}; allowed are a-z, 0-9, `.`, `_` and `-`"));
    }
    if name.len() > MAX_NAME {
        return Err(format!("service name of {} bytes, at most {MAX_NAME} are taken", name.len()));
    }
    Ok(())
}
