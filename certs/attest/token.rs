//! Join tokens: a secret that somebody put on this machine, good for one identity, once.

use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;

use async_trait::async_trait;
use serde_json::json;
use zeroize::Zeroizing;

use super::{Challenge, Method, Prover};
use crate::SourceError;

/// Longest token, in bytes; ours have less than 100.
const LONGEST: usize = 512;

/// Shows the token of a file, which is read at each attempt: it may be replaced by a fresh one.
#[derive(Debug)]
pub struct TokenProver {
    path: PathBuf,
}

impl TokenProver {
    /// Reads the token from `path` (`identity.token_file`).
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self { path }
    }

    async fn read(&self) -> Result<Zeroizing<String>, SourceError> {
        let path = self.path.display();
        let wrong = |why: String| SourceError::Malformed(format!("identity.token_file {path}: {why}"));
        let text = tokio::fs::read(&self.path).await.map(Zeroizing::new).map_err(|error| wrong(error.to_string()))?;
        if tokio::fs::metadata(&self.path).await.is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0) {
            tracing::warn!(path = %path, "Others than its owner may read the join token; the mode 0600 is enough.");
        }
        let token = std::str::from_utf8(&text).map(str::trim).unwrap_or_default();
        if token.is_empty() || token.len() > LONGEST || !token.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(wrong("it has no join token; make one with `meshless ca token create`".to_owned()));
        }
        Ok(Zeroizing::new(token.to_owned()))
    }
}

#[async_trait]
impl Prover for TokenProver {
    fn method(&self) -> Method {
        Method::JoinToken
    }

    async fn prove(&self, _challenge: &Challenge) -> Result<serde_json::Value, SourceError> {
        Ok(json!({ "token": self.read().await?.as_str() }))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn the_token_is_read_anew_at_each_attempt() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("token");
        let prover = TokenProver::new(path.clone());
        let challenge = Challenge { authority: "example.org".into(), nonce: "n".into(), key: "k".into() };
        let missing = prover.prove(&challenge).await.unwrap_err().to_string();
        assert!(missing.contains("token_file") && missing.contains("token"), "{missing}");
        for token in ["first", "second"] {
            std::fs::write(&path, format!("{token}\n")).unwrap();
            assert_eq!(prover.prove(&challenge).await.unwrap(), json!({ "token": token }));
        }
        for nothing in ["", "\n", "two words", "\u{e9}", &"x".repeat(LONGEST + 1)] {
            std::fs::write(&path, nothing).unwrap();
            let error = prover.prove(&challenge).await.unwrap_err().to_string();
            assert!(
                error.contains("token create") && (nothing.trim().is_empty() || !error.contains(nothing)),
                "{error}"
            );
        }
    }
}
