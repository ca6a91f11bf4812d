//! A service of the type `ExternalName`, or behind a load balancer with a name: DNS knows its endpoints.

use super::service::{Facts, Wanted};
use super::target::Port;
use crate::{Error, Snapshot, Source};

/// Asks DNS for one name.
#[derive(Debug)]
pub(super) struct External {
    /// `HOST:PORT`.
    path: String,
    source: Box<dyn Source>,
    known: Option<Snapshot>,
}

impl External {
    /// Returns what DNS is asked for a service that has this name outside, or says what is wrong.
    ///
    /// The number is the one in the target, else that of the Service's port: such a Service maps no numbers.
    pub(super) fn path(host: &str, facts: &Facts, port: &Port) -> Result<String, String> {
        let number = match (facts.find(port), port) {
            (_, Port::Number(number)) => *number,
            (Ok(Wanted::Name { number, .. } | Wanted::Number(number)), _) => number,
            (Err(problem), _) => return Err(format!("{problem} (its externalName is {host})")),
        };
        // Absolute: it is written for the search list of pods, and we may be no pod.
        Ok(format!("{}.:{number}", host.trim_end_matches('.')))
    }

    /// Returns a source for `HOST:PORT` that has not asked yet.
    pub(super) fn new(path: &str) -> Result<Self, String> {
        Ok(Self { path: path.to_owned(), source: source(path)?, known: None })
    }

    /// Tells whether it asks for this.
    pub(super) fn is_at(&self, path: &str) -> bool {
        self.path == path
    }

    /// Waits for another answer and keeps it. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<(), Error> {
        self.known = Some(self.source.next().await?);
        Ok(())
    }

    /// Returns the last answer.
    pub(super) fn known(&self) -> Option<Snapshot> {
        self.known.clone()
    }
}

/// Waits until any of them has another answer; for ever, if there is none. Cancel-safe.
pub(super) async fn any(externals: impl Iterator<Item = &mut External>) -> Result<(), Error> {
    let all: Vec<_> = externals.map(|external| Box::pin(external.next())).collect();
    if all.is_empty() {
        return std::future::pending().await;
    }
    futures_util::future::select_all(all).await.0
}

#[cfg(feature = "dns")]
fn source(path: &str) -> Result<Box<dyn Source>, String> {
    use std::collections::BTreeMap;

    use crate::{Backend as _, DnsConfig, Target};

    let target = Target { backend: "dns".to_owned(), path: path.to_owned(), options: BTreeMap::new() };
    crate::dns::Dns::new(&DnsConfig::default()).source(&target).map_err(|error| format!("its externalName: {error}"))
}

#[cfg(not(feature = "dns"))]
fn source(_path: &str) -> Result<Box<dyn Source>, String> {
    Err("a name in DNS stands for it, and this build has no `dns` backend to ask; build it with that feature"
        .to_owned())
}
