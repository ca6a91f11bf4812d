//! One conversation with the authority by HTTP/2: bounded in time and size, through no proxy, after no redirect.

use std::error::Error as _;
use std::sync::Arc;
use std::time::Duration;

use reqwest::redirect::Policy;
use reqwest::{Client, Method, RequestBuilder, StatusCode, Url};
use serde::de::DeserializeOwned;

use super::pin::{Pinned, Trusted};
use crate::authority::protocol::{ANSWER_BYTES, ErrorBody};
use crate::{Identity, SourceError};

/// Limit of making a connection.
const CONNECT: Duration = Duration::from_secs(5);
/// Limit of a request, from its beginning to the end of its answer.
const REQUEST: Duration = Duration::from_secs(15);
/// Most of what an authority says in an error that is told on, in characters.
const TOLD: usize = 300;

/// A conversation; it has one connection.
pub(super) struct Wire {
    client: Client,
    pinned: Arc<Pinned>,
    url: Url,
}

/// Why a request came to nothing.
pub(super) enum Failure {
    /// There is an answer, which is no success.
    Answered(SourceError),
    /// There is no connection, or it was closed; the request may have arrived.
    Closed(SourceError),
    /// There is no answer in time; the request may have arrived.
    Late(SourceError),
}

impl Failure {
    pub(super) fn into_error(self) -> SourceError {
        match self {
            Self::Answered(error) | Self::Closed(error) | Self::Late(error) => error,
        }
    }
}

impl Wire {
    /// Speaks to who is at `url` if that is whom `trust` expects; shows `identity` where there is one.
    pub(super) fn new(url: &Url, trust: &Trusted, identity: Option<&Identity>) -> Result<Self, SourceError> {
        let unusable = |why: String| SourceError::Malformed(format!("the authority cannot be asked: {why}"));
        let pinned = Pinned::new(trust).map_err(unusable)?;
        let client = Client::builder()
            .tls_backend_preconfigured(pinned.config(identity).map_err(unusable)?)
            .https_only(true)
            .http2_prior_knowledge()
            .no_proxy()
            .redirect(Policy::none())
            .connect_timeout(CONNECT)
            .timeout(REQUEST)
            .user_agent(concat!("meshless/", env!("CARGO_PKG_VERSION")))
            .build()
            .map_err(|why| unusable(chain_of(&why)))?;
        Ok(Self { client, pinned, url: url.clone() })
    }

    /// Asks by GET.
    pub(super) async fn get<T: DeserializeOwned>(&self, path: &str) -> Result<T, Failure> {
        self.ask(self.request(Method::GET, path)).await
    }

    /// Asks by POST; `body` is JSON.
    pub(super) async fn post<T: DeserializeOwned>(&self, path: &str, body: Vec<u8>) -> Result<T, Failure> {
        let request = self.request(Method::POST, path).header("content-type", "application/json");
        self.ask(request.body(body)).await
    }

    fn request(&self, method: Method, path: &str) -> RequestBuilder {
        let mut url = self.url.clone();
        url.set_path(path);
        self.client.request(method, url)
    }

    async fn ask<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<T, Failure> {
        let mut response = request.send().await.map_err(|error| self.no_answer(&error))?;
        let status = response.status();
        let mut body = Vec::new();
        while let Some(part) = response.chunk().await.map_err(|error| self.no_answer(&error))? {
            body.extend_from_slice(&part);
            if body.len() > ANSWER_BYTES {
                let why = format!("{} answered with more than 256 KiB", self.url);
                return Err(Failure::Answered(SourceError::Malformed(why)));
            }
        }
        if status != StatusCode::OK {
            return Err(Failure::Answered(refusal(&self.url, status, &body)));
        }
        serde_json::from_slice(&body).map_err(|why| {
            Failure::Answered(SourceError::Malformed(format!("what {} answered is not the protocol: {why}", self.url)))
        })
    }

    fn no_answer(&self, error: &reqwest::Error) -> Failure {
        let url = &self.url;
        match self.pinned.refused() {
            Some(why) => {
                Failure::Closed(SourceError::Malformed(format!("who answers at {url} is not the authority: {why}")))
            }
            None if error.is_timeout() => {
                Failure::Late(SourceError::Unreachable(format!("no answer from {url} in time")))
            }
            None => Failure::Closed(SourceError::Unreachable(format!("no answer from {url}: {}", chain_of(error)))),
        }
    }
}

/// Returns what an answer that is no success means for who asked.
fn refusal(url: &Url, status: StatusCode, body: &[u8]) -> SourceError {
    let said: Option<ErrorBody> = serde_json::from_slice(body).ok();
    let retry_after = said.as_ref().and_then(|said| said.retry_after).map(Duration::from_secs);
    let why = match said {
        Some(ErrorBody { error, reason, .. }) => plain(&format!("{error} ({status}, {reason})")),
        None => status.to_string(),
    };
    match status {
        StatusCode::TOO_MANY_REQUESTS => SourceError::Throttled { retry_after },
        _ if status.is_server_error() => SourceError::Unreachable(format!("{url} cannot answer now: {why}")),
        StatusCode::REQUEST_TIMEOUT => SourceError::Unreachable(format!("{url}: {why}")),
        _ if status.is_client_error() => SourceError::Denied(why),
        _ => SourceError::Malformed(format!("{url} answered with {status}, which is not the protocol")),
    }
}

/// One line of bounded length, whatever it says.
fn plain(text: &str) -> String {
    text.chars().map(|letter| if letter.is_control() { ' ' } else { letter }).take(TOLD).collect()
}

/// Returns an error with its causes; the outermost alone says "error sending request".
fn chain_of(error: &reqwest::Error) -> String {
    let mut text = String::new();
    let mut next = error.source();
    while let Some(cause) = next {
        let said = cause.to_string();
        if !text.contains(&said) {
            text.push_str(if text.is_empty() { "" } else { ": " });
            text.push_str(&said);
        }
        next = cause.source();
    }
    if text.is_empty() { error.to_string() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(status: u16, body: &str) -> SourceError {
        let url = Url::parse("https://ca.example:8443").unwrap();
        refusal(&url, StatusCode::from_u16(status).unwrap(), body.as_bytes())
    }

    #[test]
    fn each_status_says_what_the_caller_can_do() {
        let said = r#"{"error":"no entry gives an identity","reason":"not_allowed","retry_after":7}"#;
        assert!(
            matches!(of(403, said), SourceError::Denied(why) if why.contains("no entry") && why.contains("not_allowed"))
        );
        assert!(matches!(of(400, "not json"), SourceError::Denied(why) if why == "400 Bad Request"));
        assert!(matches!(of(429, said), SourceError::Throttled { retry_after: Some(wait) } if wait.as_secs() == 7));
        assert!(matches!(of(429, ""), SourceError::Throttled { retry_after: None }));
        assert!(matches!(of(503, said), SourceError::Unreachable(why) if why.contains("cannot answer now")));
        assert!(matches!(of(408, said), SourceError::Unreachable(_)));
        assert!(matches!(of(302, ""), SourceError::Malformed(_)));
        assert!(matches!(of(204, ""), SourceError::Malformed(_)));
    }

    #[test]
    fn what_an_authority_says_stays_one_short_line() {
        let said = serde_json::json!({ "error": format!("a\nb{}", "x".repeat(1000)), "reason": "r" }).to_string();
        let SourceError::Denied(why) = of(403, &said) else { panic!("it is denied") };
        assert!(why.starts_with("a b") && why.chars().count() == TOLD, "{why}");
    }
}
