//! The keys of an issuer: in a file, or as the issuer publishes them.

use std::path::PathBuf;
use std::time::Duration;

use serde::Deserialize;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::not_taken;
use crate::Anchors;
use crate::attest::Rejected;
use crate::attest::http::{Http, MAX_ANSWER, PATIENCE, exchange};
use crate::attest::jwt::{self, Bad, Key, Token};

/// How long keys are used before they are asked for again.
const FRESH: Duration = Duration::from_mins(10);

/// How long keys are used while the issuer does not answer: an outage of it must not become ours.
const STALE: Duration = Duration::from_hours(1);

/// Shortest time between two looks for a key that is not known, so that made-up key ids cost the issuer nothing.
const RELOOK: Duration = Duration::from_secs(10);

/// Keys of one issuer.
#[derive(Debug)]
pub(super) enum Keys {
    File(PathBuf),
    Published(Box<Published>),
}

#[derive(Debug)]
pub(super) struct Published {
    issuer: String,
    http: Http,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    keys: Option<(Vec<Key>, Instant)>,
    /// When the issuer was asked last, whatever came of it.
    asked: Option<Instant>,
}

/// What OpenID Connect Discovery 1.0, 3, answers, as far as it is needed.
#[derive(Deserialize)]
struct Discovered {
    issuer: String,
    jwks_uri: String,
}

impl Keys {
    pub(super) fn file(path: PathBuf) -> Self {
        Self::File(path)
    }

    pub(super) fn published(issuer: &str, anchors: Anchors) -> Self {
        let published = Published { issuer: issuer.to_owned(), http: Http::new(anchors), known: Mutex::default() };
        Self::Published(Box::new(published))
    }

    /// Verifies a token; a key that is not known yet is looked for.
    pub(super) async fn verify(&self, token: &Token<'_>) -> Result<(), Rejected> {
        match self {
            Self::File(path) => {
                let unreadable = |why: String| Rejected::Unavailable(format!("{}: {why}", path.display()));
                let text = tokio::fs::read(path).await.map_err(|error| unreadable(error.to_string()))?;
                if text.len() > MAX_ANSWER {
                    return Err(unreadable(format!("more than {MAX_ANSWER} bytes")));
                }
                token.verify(&jwt::keys(&text).map_err(unreadable)?).map_err(not_taken)
            }
            Self::Published(published) => published.verify(token).await,
        }
    }
}

impl Published {
    async fn verify(&self, token: &Token<'_>) -> Result<(), Rejected> {
        let mut known = self.known.lock().await;
        let now = Instant::now();
        let age = known.keys.as_ref().map(|(_, since)| now.duration_since(*since));
        let may_ask = known.asked.is_none_or(|asked| now.duration_since(asked) >= RELOOK);
        let mut trouble = None;
        if age.is_none_or(|age| age >= FRESH) && may_ask {
            trouble = self.look(&mut known).await.err();
        }
        match known.keys.as_ref().filter(|(_, since)| now.duration_since(*since) < STALE) {
            None => {
                let why = trouble.unwrap_or_else(|| "it did not answer a moment ago".to_owned());
                return Err(Rejected::Unavailable(format!("the keys of {}: {why}", self.issuer)));
            }
            Some((keys, _)) => match token.verify(keys) {
                // It may have changed its keys since.
                Err(Bad::UnknownKey) if known.asked.is_none_or(|asked| now.duration_since(asked) >= RELOOK) => {}
                verified => return verified.map_err(not_taken),
            },
        }
        self.look(&mut known)
            .await
            .map_err(|why| Rejected::Unavailable(format!("the keys of {}: {why}", self.issuer)))?;
        let keys = known.keys.as_ref().map_or(&[][..], |(keys, _)| keys);
        token.verify(keys).map_err(not_taken)
    }

    async fn look(&self, known: &mut Known) -> Result<(), String> {
        known.asked = Some(Instant::now());
        let text = self.get(&format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'))).await?;
        let discovered: Discovered =
            serde_json::from_slice(&text).map_err(|error| format!("its discovery document cannot be read: {error}"))?;
        // "MUST be identical" (OpenID Connect Discovery 1.0, 4.3).
        if discovered.issuer != self.issuer {
            return Err("its discovery document is another issuer's".to_owned());
        }
        let is_safe = discovered.jwks_uri.starts_with("https://") || self.issuer.starts_with("http://");
        if !is_safe {
            return Err("its keys are not at an `https://` URL".to_owned());
        }
        let keys = jwt::keys(&self.get(&discovered.jwks_uri).await?)?;
        known.keys = Some((keys, Instant::now()));
        Ok(())
    }

    async fn get(&self, url: &str) -> Result<Vec<u8>, String> {
        let request = self.http.client().await?.get(url).header("accept", "application/json");
        let answer = exchange(request, PATIENCE).await?;
        if answer.status != 200 {
            return Err(format!("{url} answered {}", answer.status));
        }
        Ok(answer.body)
    }
}
