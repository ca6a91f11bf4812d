//! One signed call: a request, its signature, its answer, within bounds of time and size.

use std::fmt::Write as _;
use std::time::{Duration, SystemTime};

use aws_sigv4::http_request::{SignableBody, SignableRequest, SigningSettings, sign};
use aws_sigv4::sign::v4;
use aws_smithy_runtime_api::client::orchestrator::HttpRequest;
use aws_smithy_types::body::SdkBody;
use http::{HeaderMap, Request, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use serde_json::Value;
use tokio::time::timeout;

use super::endpoint::Service;
use super::session::Session;
use super::trouble::{Trouble, chain_of, refused};
use crate::{Calls, Error};

/// Most bytes of an answer: a hundred tasks with fifty tags each are about one.
const MAX_ANSWER: usize = 16 << 20;

/// What came back, if it was good.
#[derive(Debug)]
pub(super) struct Answered {
    pub(super) body: Vec<u8>,
    /// What the service took the time to be.
    pub(super) date: Option<SystemTime>,
}

impl Session {
    /// Asks a service that speaks JSON.
    pub(super) async fn json(
        &self,
        calls: &Calls,
        limit: Duration,
        service: Service,
        action: &'static str,
        input: &Value,
    ) -> Result<Answered, Trouble> {
        let target = format!("{}.{action}", service.json_prefix().unwrap_or_default());
        let headers = [("content-type", "application/x-amz-json-1.1"), ("x-amz-target", target.as_str())];
        self.call(calls, limit, service, action, &headers, input.to_string().into_bytes()).await
    }

    /// Asks a service that takes a form and answers in XML.
    pub(super) async fn form(
        &self,
        calls: &Calls,
        limit: Duration,
        service: Service,
        action: &'static str,
        fields: &[(String, String)],
    ) -> Result<Answered, Trouble> {
        let mut body = format!("Action={action}&Version={}", service.version());
        for (name, value) in fields {
            body.push('&');
            body.push_str(&encode(name));
            body.push('=');
            body.push_str(&encode(value));
        }
        let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
        self.call(calls, limit, service, action, &headers, body.into_bytes()).await
    }

    async fn call(
        &self,
        calls: &Calls,
        limit: Duration,
        service: Service,
        action: &'static str,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<Answered, Trouble> {
        let request = self.signed(service, headers, body).await.map_err(Trouble::of)?;
        calls.count(action);
        match timeout(limit, self.exchange(action, request)).await {
            Ok(answered) => answered,
            Err(_) => Err(Trouble::of(Error::Unreachable(format!(
                "{action}: no answer from {} within {limit:?}",
                self.url(service)
            )))),
        }
    }

    async fn signed(
        &self,
        service: Service,
        headers: &[(&'static str, &str)],
        body: Vec<u8>,
    ) -> Result<HttpRequest, Error> {
        let url = self.url(service);
        let identity = self.credentials().await?.into();
        let unsigned = |problem: String| Error::Denied(format!("the request to {url} cannot be signed: {problem}"));
        let params = v4::SigningParams::builder()
            .identity(&identity)
            .region(&self.region)
            .name(service.signing_name())
            .time(SystemTime::now())
            .settings(SigningSettings::default())
            .build()
            .map_err(|error| unsigned(error.to_string()))?
            .into();
        let signable = SignableRequest::new("POST", &url, headers.iter().copied(), SignableBody::Bytes(&body))
            .map_err(|error| unsigned(chain_of(&error)))?;
        let (instructions, _) = sign(signable, &params).map_err(|error| unsigned(chain_of(&error)))?.into_parts();
        let mut request = Request::post(&url);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut request = request.body(SdkBody::from(body)).map_err(|error| unsigned(error.to_string()))?;
        instructions.apply_to_request_http1x(&mut request);
        HttpRequest::try_from(request).map_err(|error| unsigned(error.to_string()))
    }

    async fn exchange(&self, action: &'static str, request: HttpRequest) -> Result<Answered, Trouble> {
        let uri = request.uri().to_owned();
        let unreachable =
            |problem: String| Trouble::of(Error::Unreachable(format!("{action}: no answer from {uri}: {problem}")));
        let response = self.send(request).await.map_err(|error| unreachable(chain_of(&error)))?;
        let response = response.try_into_http1x().map_err(|error| unreachable(error.to_string()))?;
        let (parts, body) = response.into_parts();
        let body = match Limited::new(body, MAX_ANSWER).collect().await {
            Ok(body) => body.to_bytes().to_vec(),
            Err(error) if error.is::<http_body_util::LengthLimitError>() => {
                let problem = format!("{action}: the answer has more than {MAX_ANSWER} bytes");
                return Err(Trouble::of(Error::Malformed(problem)));
            }
            Err(error) => return Err(unreachable(format!("the answer broke off: {error}"))),
        };
        let date = when(&parts.headers, "date");
        if parts.status == StatusCode::OK {
            return Ok(Answered { body, date });
        }
        let retry_after = retry_after(&parts.headers, SystemTime::now());
        let named = parts.headers.get("x-amzn-errortype").and_then(|value| value.to_str().ok());
        let mut trouble = refused(action, parts.status, named, &body, retry_after);
        trouble.date = date;
        Err(trouble)
    }
}

fn when(headers: &HeaderMap, name: &str) -> Option<SystemTime> {
    httpdate::parse_http_date(headers.get(name)?.to_str().ok()?).ok()
}

/// Seconds, or a time (RFC 9110, 10.2.3).
fn retry_after(headers: &HeaderMap, now: SystemTime) -> Option<Duration> {
    let value = headers.get("retry-after")?.to_str().ok()?.trim();
    let seconds = value.parse().ok().map(Duration::from_secs);
    seconds.or_else(|| httpdate::parse_http_date(value).ok()?.duration_since(now).ok())
}

/// What AWS takes in a form: everything but unreserved characters as `%XX` (RFC 3986, 2.3).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_' | b'.' | b'~') {
            encoded.push(byte as char);
        } else {
            let _ = write!(encoded, "%{byte:02X}");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_form_cannot_take_is_encoded() {
        assert_eq!(encode("instance-id"), "instance-id");
        assert_eq!(encode("a b&c=d/é"), "a%20b%26c%3Dd%2F%C3%A9");
    }

    #[test]
    fn retry_after_is_seconds_or_a_time() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(784_111_767);
        let headers = |value: &str| HeaderMap::from_iter([(http::header::RETRY_AFTER, value.parse().unwrap())]);
        assert_eq!(retry_after(&headers("7"), now), Some(Duration::from_secs(7)));
        assert_eq!(retry_after(&headers("Sun, 06 Nov 1994 08:49:37 GMT"), now), Some(Duration::from_secs(10)));
        assert_eq!(retry_after(&headers("soon"), now), None);
        assert_eq!(retry_after(&HeaderMap::new(), now), None);
    }
}
