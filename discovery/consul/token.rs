//! The token that is shown to an agent; one in a file is read anew when the file changes.

use std::path::PathBuf;
use std::time::Duration;

use reqwest::header::HeaderValue;
use tokio::sync::Mutex;
use tokio::time::Instant;

use crate::{ConsulConfig, Error};

/// How old what was read may be: a file that is replaced is noticed within that time, and a thousand requests a second
/// read it once.
const REREAD: Duration = Duration::from_secs(1);

/// Where the token comes from.
#[derive(Debug)]
pub(super) enum Token {
    /// There is none: the agent's own or the anonymous one counts.
    None,
    /// It stands in the configuration.
    Written(String),
    /// It stands in a file.
    File { path: PathBuf, read: Mutex<Option<(HeaderValue, Instant)>> },
}

impl Token {
    pub(super) fn new(config: &ConsulConfig) -> Self {
        match (&config.token_file, &config.token) {
            (Some(path), _) => Self::File { path: path.clone(), read: Mutex::default() },
            (None, Some(token)) => Self::Written(token.clone()),
            (None, None) => Self::None,
        }
    }

    /// Returns the token as it is now.
    pub(super) async fn header(&self) -> Result<Option<HeaderValue>, Error> {
        match self {
            Self::None => Ok(None),
            Self::Written(token) => {
                header(token).map(Some).map_err(|problem| Error::Denied(format!("`token` {problem}")))
            }
            Self::File { path, read } => {
                let mut read = read.lock().await;
                if let Some((token, at)) = &*read
                    && at.elapsed() < REREAD
                {
                    return Ok(Some(token.clone()));
                }
                let text = tokio::fs::read_to_string(path).await.map_err(|error| format!("cannot be read: {error}"));
                let token = match (text.and_then(|text| header(text.trim())), &*read) {
                    (Ok(token), _) => token,
                    // A file that is being replaced: what it said last holds until Consul says otherwise.
                    (Err(problem), Some((token, _))) => {
                        tracing::debug!(path = %path.display(), problem, "The token file is of no use, its last token stays.");
                        token.clone()
                    }
                    (Err(problem), None) => {
                        return Err(Error::Denied(format!("token file {}: {problem}", path.display())));
                    }
                };
                *read = Some((token.clone(), Instant::now()));
                Ok(Some(token))
            }
        }
    }
}

/// Makes a header of a token, which no log shows. The error never has the token in it.
fn header(token: &str) -> Result<HeaderValue, String> {
    if token.is_empty() {
        return Err("is empty".to_owned());
    }
    if !token.bytes().all(|byte| byte.is_ascii_graphic()) {
        return Err("has a space or a character that no token has".to_owned());
    }
    let mut value = HeaderValue::from_str(token).map_err(|_| "has a character that no token has".to_owned())?;
    value.set_sensitive(true);
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn shown(token: &Token) -> String {
        match token.header().await {
            Ok(value) => value.map_or_else(|| "none".to_owned(), |value| value.to_str().unwrap().to_owned()),
            Err(error) => error.to_string(),
        }
    }

    #[tokio::test]
    async fn a_token_file_that_changes_is_read_anew_and_one_that_is_half_written_is_not_believed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let token = Token::new(&ConsulConfig {
            token: Some("ignored".to_owned()),
            token_file: Some(path.clone()),
            ..ConsulConfig::default()
        });
        assert!(shown(&token).await.starts_with("denied: token file "), "{}", shown(&token).await);
        std::fs::write(&path, "one\n").unwrap();
        assert_eq!(shown(&token).await, "one");
        tokio::time::pause();
        std::fs::write(&path, "").unwrap();
        tokio::time::advance(REREAD).await;
        assert_eq!(shown(&token).await, "one");
        std::fs::write(&path, "two").unwrap();
        assert_eq!(shown(&token).await, "one");
        tokio::time::advance(REREAD).await;
        assert_eq!(shown(&token).await, "two");
    }

    #[tokio::test]
    async fn a_token_that_cannot_be_sent_is_refused_without_being_shown() {
        let token = Token::new(&ConsulConfig { token: Some("se\ncret".to_owned()), ..ConsulConfig::default() });
        let said = shown(&token).await;
        assert!(said.starts_with("denied: `token` has") && !said.contains("cret"), "{said}");
        assert_eq!(shown(&Token::new(&ConsulConfig::default())).await, "none");
        assert_eq!(format!("{:?}", header("secret").unwrap()), "Sensitive");
    }
}
