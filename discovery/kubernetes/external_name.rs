//! A service of the type `ExternalName`: DNS knows its endpoints.

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
    /// Returns a source for the name, which is the one there was if it asks for the same, or says what is wrong.
    ///
    /// The number is the one in the target, or that of the Service's port: such a Service maps no numbers.
    pub(super) fn open(before: Option<Self>, host: &str, facts: &Facts, port: &Port) -> Result<Self, String> {
        let number = match (facts.find(port), port) {
            (_, Port::Number(number)) => *number,
            (Ok(Wanted::Name { number, .. } | Wanted::Number(number)), _) => number,
            (Err(problem), _) => return Err(format!("{problem} (its externalName is {host})")),
        };
        let host = host.trim_end_matches('.');
        // Absolute: it is written for the search list of pods, and we may be no pod.
        let path = format!("{host}.:{number}");
        match before {
            Some(before) if before.path == path => Ok(before),
            _ => Ok(Self { source: source(&path)?, path, known: None }),
        }
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

#[cfg(feature = "dns")]
fn source(path: &str) -> Result<Box<dyn Source>, String> {
    use std::collections::BTreeMap;

    use crate::{Backend as _, DnsConfig, Target};

    let target = Target { backend: "dns".to_owned(), path: path.to_owned(), options: BTreeMap::new() };
    crate::dns::Dns::new(&DnsConfig::default()).source(&target).map_err(|error| format!("its externalName: {error}"))
}

#[cfg(not(feature = "dns"))]
fn source(_path: &str) -> Result<Box<dyn Source>, String> {
    Err("it is of the type ExternalName, and this build has no `dns` backend to ask; build it with that feature"
        .to_owned())
}
