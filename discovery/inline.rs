//! The `static` backend: the endpoints stand in the target itself.
//!
//! `static/10.0.0.1:80*3,[::1]:80,unix:/run/app.sock`. What is wrong is said when the target is opened, so the source
//! cannot fail: it answers once and then waits for ever, because what is written never changes.

use crate::{Address, Backend, Endpoint, Error, Snapshot, Source, Target, TargetError, async_trait};

/// The `static` backend.
#[derive(Debug)]
pub(crate) struct Inline;

impl Backend for Inline {
    fn source(&self, target: &Target) -> Result<Box<dyn Source>, TargetError> {
        Ok(Box::new(Once { unsaid: Some(written(target)?) }))
    }
}

/// Returns the endpoints that stand in a `static` target itself, for who asks without waiting.
pub(crate) fn written(target: &Target) -> Result<Snapshot, TargetError> {
    target.refuse_options()?;
    parse(&target.path).map_err(|problem| TargetError(format!("target `{target}`: {problem}")))
}

/// Says what it has once.
#[derive(Debug)]
struct Once {
    unsaid: Option<Snapshot>,
}

#[async_trait]
impl Source for Once {
    async fn next(&mut self) -> Result<Snapshot, Error> {
        match self.unsaid.take() {
            Some(snapshot) => Ok(snapshot),
            None => std::future::pending().await,
        }
    }
}

/// Reads `ADDRESS[*WEIGHT]{,ADDRESS[*WEIGHT]}`.
fn parse(path: &str) -> Result<Snapshot, String> {
    let mut endpoints: Vec<Endpoint> = Vec::new();
    for part in path.split(',').map(str::trim) {
        if part.is_empty() {
            return Err("an address is missing; write `static/10.0.0.1:80,10.0.0.2:80*3`".to_owned());
        }
        let endpoint = endpoint(part)?;
        if endpoints.iter().any(|known| known.address == endpoint.address) {
            return Err(format!("`{}` stands there twice; give it a weight instead", endpoint.address));
        }
        endpoints.push(endpoint);
    }
    Snapshot::new(endpoints).map_err(|error| error.to_string())
}

fn endpoint(part: &str) -> Result<Endpoint, String> {
    let (address, weight) = match part.rsplit_once('*') {
        Some((address, weight)) => (address.trim_end(), weigh(weight.trim_start())?),
        None => (part, 1),
    };
    let address = address.parse::<Address>().map_err(|error| error.to_string())?;
    Ok(Endpoint { weight, ..Endpoint::new(address) })
}

fn weigh(text: &str) -> Result<u32, String> {
    text.parse().map_err(|_| format!("weight `{text}` is not a whole number from 0 to {}", Endpoint::MAX_WEIGHT))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;
    use std::sync::Arc;

    use super::*;
    use crate::conformance::{self, Played, Stage, Trouble};

    fn open(path: &str) -> Result<Box<dyn Source>, TargetError> {
        Inline.source(&Target { backend: "static".to_owned(), path: path.to_owned(), options: BTreeMap::new() })
    }

    async fn endpoints(path: &str) -> Vec<(String, u32)> {
        let snapshot = open(path).unwrap().next().await.unwrap();
        snapshot.endpoints().iter().map(|endpoint| (endpoint.address.to_string(), endpoint.weight)).collect()
    }

    #[tokio::test]
    async fn addresses_of_each_kind_may_have_a_weight() {
        assert_eq!(
            endpoints("10.0.0.1:80*3, [::1]:80,unix:/run/app.sock * 0").await,
            [("10.0.0.1:80".to_owned(), 3), ("[::1]:80".to_owned(), 1), ("unix:/run/app.sock".to_owned(), 0)]
        );
    }

    #[tokio::test]
    async fn it_answers_once_and_then_waits() {
        let mut source = open("10.0.0.1:80").unwrap();
        source.next().await.unwrap();
        let second = tokio::time::timeout(std::time::Duration::from_millis(10), source.next()).await;
        assert!(second.is_err());
    }

    #[test]
    fn what_is_wrong_is_said_with_the_target() {
        for (path, problem) in [
            ("", "an address is missing"),
            ("10.0.0.1:80,", "an address is missing"),
            ("10.0.0.1:80*x", "weight `x`"),
            ("10.0.0.1:80*-1", "weight `-1`"),
            ("10.0.0.1:80*100001", "weight 100001"),
            ("10.0.0.1:80,10.0.0.1:80", "twice"),
            ("web:80", "`dns/web:80`"),
        ] {
            let error = open(path).unwrap_err().to_string();
            assert!(error.starts_with("target `static/"), "{error}");
            assert!(error.contains(problem), "{path:?}: {error}");
        }
    }

    #[test]
    fn an_option_is_refused() {
        let options = BTreeMap::from([("tag".to_owned(), "blue".to_owned())]);
        let target = Target { backend: "static".to_owned(), path: "10.0.0.1:80".to_owned(), options };
        assert!(Inline.source(&target).unwrap_err().to_string().contains("option `tag`"));
    }

    /// What the target says, as a stage; it can be set before the backend is opened, and nothing of it can break.
    struct Written(String);

    #[async_trait]
    impl Stage for Written {
        fn backend(&self) -> Arc<dyn Backend> {
            Arc::new(Inline)
        }

        fn target(&self) -> Target {
            Target { backend: "static".to_owned(), path: self.0.clone(), options: BTreeMap::new() }
        }

        async fn set(&mut self, endpoints: &[Endpoint]) {
            let addresses: Vec<String> = endpoints.iter().map(|endpoint| endpoint.address.to_string()).collect();
            self.0 = addresses.join(",");
        }

        async fn play(&mut self, _trouble: Trouble) -> Played {
            Played::Impossible
        }

        async fn recover(&mut self) {}
    }

    #[tokio::test]
    async fn it_holds_what_fits_a_backend_that_never_changes() {
        let mut stage = Written(String::new());
        conformance::the_first_call_answers_at_once(&mut stage).await;
        conformance::a_call_waits_while_nothing_changes(&mut stage).await;
    }
}
