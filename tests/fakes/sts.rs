//! STS of AWS, which recomputes every signature: a request that was not signed by the secret of its key is refused.
//!
//! Written after "Create a signed AWS API request" of AWS's IAM user guide, not after what we send.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{Method, Request, Response};
use ring::{digest, hmac};
use serde_json::json;

use crate::http::{Body, Server, full};

/// Somebody who may ask who he is.
#[derive(Debug, Clone)]
pub struct Principal {
    /// Secret of the key.
    pub secret: String,
    /// Token of the session that the key is of.
    pub token: Option<String>,
    /// Number of the account.
    pub account: String,
    /// ARN.
    pub arn: String,
}

/// An answer that is given whatever is asked.
#[derive(Debug, Clone)]
pub struct Canned {
    /// Status.
    pub status: u16,
    /// Name and value of each header.
    pub headers: Vec<(&'static str, String)>,
    /// Body.
    pub body: String,
}

#[derive(Debug, Default)]
struct World {
    principals: BTreeMap<String, Principal>,
    canned: Option<Canned>,
}

/// The service.
#[derive(Debug)]
pub struct Sts {
    /// How it is broken as a server.
    pub server: Server,
    world: Arc<Mutex<World>>,
}

impl Sts {
    /// Starts one that knows nobody.
    pub fn start() -> Self {
        let world = Arc::new(Mutex::new(World::default()));
        let of_handler = Arc::clone(&world);
        let server = Server::start(Arc::new(move |request| {
            let answer = answer(&of_handler.lock().unwrap_or_else(PoisonError::into_inner), &request);
            Box::pin(async move { answer })
        }));
        Self { server, world }
    }

    /// Lets it know a key.
    pub fn put(&self, key: &str, principal: Principal) {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).principals.insert(key.to_owned(), principal);
    }

    /// Gives the same answer whatever is asked; `None`: as usual again.
    pub fn answer_with(&self, canned: Option<Canned>) {
        self.world.lock().unwrap_or_else(PoisonError::into_inner).canned = canned;
    }
}

fn answer(world: &World, request: &Request<Bytes>) -> Response<Body> {
    if let Some(Canned { status, headers, body }) = &world.canned {
        let mut reply = Response::builder().status(*status);
        for (name, value) in headers {
            reply = reply.header(*name, value);
        }
        return reply.body(full(body.clone())).unwrap();
    }
    let wants_json = header(request, "accept") == "application/json";
    match caller(world, request) {
        Ok(Principal { account, arn, .. }) if wants_json => {
            let result = json!({ "Account": account, "Arn": arn, "UserId": "AROAFAKE:session" });
            let body = json!({ "GetCallerIdentityResponse": {
                "GetCallerIdentityResult": result, "ResponseMetadata": { "RequestId": "r" } } });
            reply(200, "application/json", body.to_string())
        }
        Ok(Principal { account, arn, .. }) => reply(
            200,
            "text/xml",
            format!(
                "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>{arn}</Arn><Account>{account}</Account>\
                 </GetCallerIdentityResult></GetCallerIdentityResponse>"
            ),
        ),
        Err((code, message)) if wants_json => {
            let error = json!({ "Code": code, "Message": message, "Type": "Sender" });
            reply(403, "application/json", json!({ "Error": error, "RequestId": "r" }).to_string())
        }
        Err((code, message)) => reply(
            403,
            "text/xml",
            format!("<ErrorResponse><Error><Code>{code}</Code><Message>{message}</Message></Error></ErrorResponse>"),
        ),
    }
}

fn reply(status: u16, content_type: &str, body: String) -> Response<Body> {
    Response::builder().status(status).header("content-type", content_type).body(full(body)).unwrap()
}

/// Says who signed a request, or what is wrong with it.
fn caller<'a>(world: &'a World, request: &Request<Bytes>) -> Result<&'a Principal, (&'static str, String)> {
    let refuse = |code: &'static str, message: &str| Err((code, message.to_owned()));
    if request.method() != Method::POST || request.uri().path() != "/" {
        return refuse("InvalidAction", "POST / is expected");
    }
    if request.body() != "Action=GetCallerIdentity&Version=2011-06-15" {
        return refuse("InvalidAction", "Could not find operation for version 2011-06-15");
    }
    let authorization = header(request, "authorization");
    let Some(rest) = authorization.strip_prefix("AWS4-HMAC-SHA256 ") else {
        return refuse("MissingAuthenticationToken", "Request is missing Authentication Token");
    };
    let parts: BTreeMap<&str, &str> = rest.split(',').filter_map(|part| part.trim().split_once('=')).collect();
    let part = |name: &str| parts.get(name).copied().unwrap_or_default();
    let scope: Vec<&str> = part("Credential").split('/').collect();
    let [key, day, region, "sts", "aws4_request"] = scope.as_slice() else {
        return refuse("IncompleteSignature", "Credential should be scoped to a valid region and service");
    };
    let date = header(request, "x-amz-date");
    if !date.starts_with(day) {
        return refuse(
            "SignatureDoesNotMatch",
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version",
        );
    }
    let now = SystemTime::now();
    let is_fresh = [now - Duration::from_mins(15), now, now + Duration::from_mins(15)].map(stamp);
    if date < is_fresh[0].as_str() || date > is_fresh[2].as_str() {
        return refuse("SignatureDoesNotMatch", "Signature expired");
    }
    if header(request, "host") != format!("sts.{region}.amazonaws.com") {
        return refuse("SignatureDoesNotMatch", "Credential should be scoped to a valid region");
    }
    let Some(principal) = world.principals.get(*key) else {
        return refuse("InvalidClientTokenId", "The security token included in the request is invalid.");
    };
    if principal.token.as_deref().unwrap_or_default() != header(request, "x-amz-security-token") {
        return refuse("InvalidClientTokenId", "The security token included in the request is invalid.");
    }
    let signed = part("SignedHeaders");
    let mut canonical = "POST\n/\n\n".to_owned();
    for name in signed.split(';') {
        let values: Vec<&str> =
            request.headers().get_all(name).iter().map(|value| value.to_str().unwrap().trim()).collect();
        canonical.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    canonical.push_str(&format!("\n{signed}\n{}", hash(request.body())));
    let scope = format!("{day}/{region}/sts/aws4_request");
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
    let mut secret = format!("AWS4{}", principal.secret).into_bytes();
    for step in [day, region, "sts", "aws4_request"] {
        secret = mac(&secret, step);
    }
    if hex(&mac(&secret, &to_sign)) != part("Signature") {
        return refuse(
            "SignatureDoesNotMatch",
            "The request signature we calculated does not match the signature you provided.",
        );
    }
    Ok(principal)
}

fn header<'a>(request: &'a Request<Bytes>, name: &str) -> &'a str {
    request.headers().get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

fn mac(key: &[u8], text: &str) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref().to_vec()
}

fn hash(bytes: &[u8]) -> String {
    hex(digest::digest(&digest::SHA256, bytes).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// A time as `X-Amz-Date` has it.
pub fn stamp(time: SystemTime) -> String {
    // `Sun, 06 Nov 1994 08:49:37 GMT`
    let text = httpdate::fmt_http_date(time);
    let months = ["Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"];
    let month = months.iter().position(|month| *month == &text[8..11]).unwrap() + 1;
    format!("{}{month:02}{}T{}Z", &text[12..16], &text[5..7], text[17..25].replace(':', ""))
}

/// Signs as a workload would, by the same guide: `host`, `headers` (lower case, with `host` and `x-amz-date`) and the body. Returns
/// `Authorization`.
pub fn authorize(key: &str, secret: &str, region: &str, headers: &BTreeMap<String, String>, body: &str) -> String {
    let date = &headers["x-amz-date"];
    let signed = headers.keys().cloned().collect::<Vec<_>>().join(";");
    let lines: String = headers.iter().map(|(name, value)| format!("{name}:{}\n", value.trim())).collect();
    let canonical = format!("POST\n/\n\n{lines}\n{signed}\n{}", hash(body.as_bytes()));
    let scope = format!("{}/{region}/sts/aws4_request", &date[..8]);
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{scope}\n{}", hash(canonical.as_bytes()));
    let mut derived = format!("AWS4{secret}").into_bytes();
    for step in [&date[..8], region, "sts", "aws4_request"] {
        derived = mac(&derived, step);
    }
    let signature = hex(&mac(&derived, &to_sign));
    format!("AWS4-HMAC-SHA256 Credential={key}/{scope}, SignedHeaders={signed}, Signature={signature}")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of AWS's documentation ("Signature Version 4 signing process", the derived key).
    #[test]
    fn the_key_is_derived_as_aws_says() {
        let mut secret = b"AWS4wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY".to_vec();
        for step in ["20120215", "us-east-1", "iam", "aws4_request"] {
            secret = mac(&secret, step);
        }
        assert_eq!(hex(&secret), "f4780e2d9f65fa895f9c67b32ce1baf0b0d8a43505a000a1a9e090d414db404d");
    }

    #[test]
    fn a_time_is_written_as_aws_writes_it() {
        assert_eq!(stamp(SystemTime::UNIX_EPOCH + Duration::from_secs(1_767_323_045)), "20260102T030405Z");
    }
}
