//! One request, from its head to its answer.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use http::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue, RETRY_AFTER};
use http::{HeaderMap, Method, Request, Response, StatusCode};
use http_body_util::{BodyExt as _, Full, LengthLimitError, Limited};
use hyper::body::{Body as _, Incoming};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::time::timeout;

use super::answers::{Answers, Digest, Known, Outcome};
use super::{Peer, Server};
use crate::Verifier;
use crate::authority::protocol::{
    BUNDLE, BundleBody, CHALLENGE, ChallengeBody, ChallengeRequest, ErrorBody, ISSUE, IssueRequest, IssuedBody,
    PART_BYTES, RENEW, REQUEST_BYTES, RenewRequest, read_csr,
};
use crate::authority::{Denied, Proof, Request as Wanted};

/// Until a body is complete.
const BODY: Duration = Duration::from_secs(10);
/// Longest that a client waits for a decision; the answer is kept for when it asks again. Our agent waits 15 s.
const DECISION: Duration = Duration::from_secs(14);

/// An answer that is no success.
struct Failure {
    status: StatusCode,
    reason: &'static str,
    error: String,
    retry_after: Option<u64>,
    allow: Option<&'static str>,
}

impl Failure {
    fn new(status: StatusCode, reason: &'static str, error: impl Into<String>) -> Self {
        Self { status, reason, error: error.into(), retry_after: None, allow: None }
    }

    fn malformed(error: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "malformed", error)
    }
}

impl From<Denied> for Failure {
    fn from(denied: Denied) -> Self {
        let status = StatusCode::from_u16(denied.status()).unwrap_or(StatusCode::SERVICE_UNAVAILABLE);
        let mut failure = Self::new(status, denied.label(), denied.to_string());
        failure.retry_after = match denied {
            Denied::Throttled { retry_after } => Some(up(retry_after)),
            Denied::Unavailable(_) => Some(1),
            _ => None,
        };
        failure
    }
}

impl Server {
    pub(super) async fn answer(&self, peer: &Peer, request: Request<Incoming>) -> Response<Full<Bytes>> {
        let (head, body) = request.into_parts();
        let (name, method) = match head.uri.path() {
            BUNDLE => ("bundle", Method::GET),
            CHALLENGE => ("challenge", Method::POST),
            ISSUE => ("issue", Method::POST),
            RENEW => ("renew", Method::POST),
            _ => ("other", Method::GET),
        };
        let outcome = if name == "other" {
            Err(Failure::new(StatusCode::NOT_FOUND, "not_found", "there is no such path; see docs/ca-protocol.md"))
        } else if head.method != method {
            let allow = if method == Method::GET { "GET" } else { "POST" };
            let why = format!("this path takes {allow}");
            let failure = Failure::new(StatusCode::METHOD_NOT_ALLOWED, "method", why);
            Err(Failure { allow: Some(allow), ..failure })
        } else {
            match name {
                "bundle" => json(&BundleBody::of(&self.issuer.bundle())),
                "challenge" => self.challenge(peer, &head.headers, body).await,
                "issue" => self.issue(peer, &head.headers, body).await,
                _ => self.renew(peer, &head.headers, body).await,
            }
        };
        let response = respond(outcome);
        self.witness.answered(name, response.status().as_u16());
        response
    }

    async fn challenge(&self, peer: &Peer, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Failure> {
        let body = self.read(peer.source, headers, body).await?;
        let ChallengeRequest { key } = parse(&body)?;
        if key.len() != 64 || !key.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
            return Err(Failure::malformed("key: expected SHA-256 of a public key: 64 hexadecimal digits, lower case"));
        }
        json(&ChallengeBody::of(self.issuer.challenge(&key)))
    }

    async fn issue(&self, peer: &Peer, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Failure> {
        let body = self.read(peer.source, headers, body).await?;
        let IssueRequest { csr, method, evidence, nonce, service } = parse(&body)?;
        let csr = read_csr(&csr).map_err(Failure::malformed)?;
        if serde_json::to_vec(&evidence).map_or(true, |bytes| bytes.len() > PART_BYTES) {
            return Err(Failure::malformed("evidence: it is longer than 16 KiB"));
        }
        let wanted = Wanted { csr, service, source: Some(peer.source) };
        // A certificate that the client happens to show plays no part in this.
        let digest = Answers::digest("issue", &[], &body);
        self.decide(digest, wanted, Proof::Evidence { method, evidence, nonce }).await
    }

    async fn renew(&self, peer: &Peer, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Failure> {
        let body = self.read(peer.source, headers, body).await?;
        let RenewRequest { csr } = parse(&body)?;
        let csr = read_csr(&csr).map_err(Failure::malformed)?;
        // The handshake was under the bundle and the clock of its time; the connection may be older than both.
        let now =
            Verifier::new(&self.issuer.bundle()).and_then(|verifier| verifier.verify(&peer.chain, SystemTime::now()));
        now.map_err(|why| Denied::NotProved { reason: why.label() })?;
        let wanted = Wanted { csr, service: None, source: Some(peer.source) };
        let digest = Answers::digest("renew", &peer.chain, &body);
        self.decide(digest, wanted, Proof::Renewal { chain: peer.chain.clone() }).await
    }

    async fn read(&self, source: IpAddr, headers: &HeaderMap, body: Incoming) -> Result<Bytes, Failure> {
        let attempt = self.sources().attempt(source, Instant::now());
        attempt.map_err(|retry_after| Denied::Throttled { retry_after })?;
        let kind = headers.get(CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        if !kind.split(';').next().is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/json")) {
            let why = "content-type: expected application/json";
            return Err(Failure::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "media_type", why));
        }
        let too_large = || Failure::new(StatusCode::PAYLOAD_TOO_LARGE, "too_large", "the body is longer than 64 KiB");
        if body.size_hint().lower() > u64::try_from(REQUEST_BYTES).unwrap_or(u64::MAX) {
            return Err(too_large());
        }
        match timeout(BODY, Limited::new(body, REQUEST_BYTES).collect()).await {
            Ok(Ok(body)) => Ok(body.to_bytes()),
            Ok(Err(error)) if error.is::<LengthLimitError>() => Err(too_large()),
            Ok(Err(error)) => Err(Failure::malformed(format!("the body broke: {error}"))),
            Err(_) => {
                Err(Failure::new(StatusCode::REQUEST_TIMEOUT, "timeout", "the body was not complete within 10 s"))
            }
        }
    }

    /// Decides in a job of its own, once for each request, however often it is asked.
    async fn decide(&self, digest: Digest, wanted: Wanted, proof: Proof) -> Result<Bytes, Failure> {
        let mut waiting = match self.answers.look(digest, Instant::now()) {
            Known::Answered(answer) => return Ok(answer),
            Known::UnderWay(waiting) => waiting,
            Known::Full => return Err(Denied::Throttled { retry_after: Duration::from_secs(1) }.into()),
            Known::New(ticket, waiting) => {
                let issuer = Arc::clone(&self.issuer);
                let room = self.jobs.clone().try_acquire_owned();
                let Ok(room) = room else {
                    return Err(Denied::Throttled { retry_after: Duration::from_secs(1) }.into());
                };
                (self.spawn)(Box::pin(async move {
                    let outcome: Outcome = issuer.issue(&wanted, proof).await.and_then(|issued| {
                        let body = IssuedBody::of(&issued).map_err(Denied::Unavailable)?;
                        serde_json::to_vec(&body).map(Bytes::from).map_err(|why| Denied::Unavailable(why.to_string()))
                    });
                    ticket.finish(outcome, Instant::now());
                    drop(room);
                }));
                waiting
            }
        };
        let unavailable = |why: &str| Failure::from(Denied::Unavailable(why.to_owned()));
        match timeout(DECISION, waiting.wait_for(Option::is_some)).await {
            Ok(Ok(outcome)) => match &*outcome {
                Some(Ok(answer)) => Ok(answer.clone()),
                Some(Err(denied)) => Err(denied.clone().into()),
                None => Err(unavailable("nothing was decided; ask again")),
            },
            Ok(Err(_)) => Err(unavailable("nothing was decided; ask again")),
            Err(_) => Err(unavailable("it is not decided yet; ask again with the same body")),
        }
    }
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(body).map_err(|why| Failure::malformed(format!("the body: {why}")))
}

fn json(body: &impl Serialize) -> Result<Bytes, Failure> {
    let bytes = serde_json::to_vec(body).map(Bytes::from);
    bytes.map_err(|why| Failure::from(Denied::Unavailable(why.to_string())))
}

/// Whole seconds, rounded up, at least one.
fn up(wait: Duration) -> u64 {
    (wait.as_secs() + u64::from(wait.subsec_nanos() > 0)).max(1)
}

fn respond(outcome: Result<Bytes, Failure>) -> Response<Full<Bytes>> {
    let (status, body, retry_after, allow) = match outcome {
        Ok(body) => (StatusCode::OK, body, None, None),
        Err(Failure { status, reason, error, retry_after, allow }) => {
            let body = ErrorBody { error, reason: reason.to_owned(), retry_after };
            let body = serde_json::to_vec(&body).map(Bytes::from).unwrap_or_default();
            (status, body, retry_after, allow)
        }
    };
    let mut response = Response::new(Full::new(body));
    *response.status_mut() = status;
    let headers = response.headers_mut();
    headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    headers.insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    if let Some(seconds) = retry_after {
        headers.insert(RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Some(methods) = allow {
        headers.insert(ALLOW, HeaderValue::from_static(methods));
    }
    response
}
