//! What a route does with a request, checked.

use std::collections::BTreeSet;
use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};
use serde::{Serialize, Serializer};

use super::units::{Rate, print};
use super::{Retry, RetryMethods, RetryOn, Template};
use crate::target::Expression;

/// Who answers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteAction {
    /// An endpoint of this.
    To(Expression),
    /// The route, by sending the client elsewhere.
    Redirect(Redirect),
    /// The route.
    Respond(Respond),
}

/// Answers with a redirect; what is not set stays as it was asked for. The query stays.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Redirect {
    /// 301, 302, 303, 307 or 308. Default 308.
    #[serde(serialize_with = "status")]
    pub status: StatusCode,
    /// `http` or `https`.
    pub scheme: Option<&'static str>,
    /// Host, with a port where it is not that of the scheme.
    pub host: Option<String>,
    /// Port in place of the one that was asked for; the scheme's own is left out. No key of ours sets it: `host` may
    /// have a port.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// Path.
    pub path: Option<Template>,
}

/// An answer of the route.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Respond {
    /// Status. Default 200.
    #[serde(serialize_with = "status")]
    pub status: StatusCode,
    /// Body. Default empty.
    pub body: String,
}

/// Changes where a request seems to go.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct Rewrite {
    /// New path; the query stays.
    pub path: Option<Template>,
    /// New host.
    #[serde(serialize_with = "some_value")]
    pub host: Option<HeaderValue>,
}

/// Changes headers.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct HeaderChanges {
    /// One more line beside what was there. No key of ours sets it.
    #[serde(serialize_with = "set", skip_serializing_if = "Vec::is_empty")]
    pub add: Vec<(HeaderName, HeaderValue)>,
    /// In place of what was there.
    #[serde(serialize_with = "set")]
    pub set: Vec<(HeaderName, HeaderValue)>,
    /// Every line of these goes.
    #[serde(serialize_with = "names")]
    pub remove: Vec<HeaderName>,
}

impl HeaderChanges {
    /// Applies them.
    pub(crate) fn apply(&self, headers: &mut http::HeaderMap) {
        for name in &self.remove {
            headers.remove(name);
        }
        for (name, value) in &self.set {
            headers.insert(name.clone(), value.clone());
        }
        for (name, value) in &self.add {
            headers.append(name.clone(), value.clone());
        }
    }
}

/// Sends a copy elsewhere.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Mirror {
    /// Where.
    pub to: Expression,
    /// Of which share of requests, 0 to 1. Default all.
    #[serde(serialize_with = "print::ratio")]
    pub share: f64,
}

/// Limits the rate of requests.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct RateLimit {
    /// What has a limit of its own.
    pub per: RateKey,
    /// How many in which time.
    #[serde(serialize_with = "rate")]
    pub rate: Rate,
    /// How many at once. Default: what comes in one second, at least 1.
    pub burst: u32,
}

/// What each limit is for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum RateKey {
    /// Each client address; IPv6 by its /64.
    Address,
    /// Each SPIFFE ID.
    From,
    /// Each value of this header.
    Header(#[serde(serialize_with = "name")] HeaderName),
    /// All requests of the route together.
    Route,
}

/// Makes some requests slow or fail.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Fault {
    /// Waits so long.
    #[serde(serialize_with = "print::some_period")]
    pub delay: Option<Duration>,
    /// Then answers with this; `None`: the request goes on.
    #[serde(serialize_with = "some_status")]
    pub status: Option<StatusCode>,
    /// Which share of requests, 0 to 1. Default all.
    #[serde(serialize_with = "print::ratio")]
    pub share: f64,
}

/// Keys of `retry` that win over those of a service. The budget is not among them: it belongs to the service, whatever the
/// route.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub struct RetryOverlay {
    /// See [`Retry::on`].
    pub on: Option<BTreeSet<RetryOn>>,
    /// See [`Retry::attempts`].
    pub attempts: Option<u32>,
    /// See [`Retry::per_try`].
    #[serde(serialize_with = "print::some_period")]
    pub per_try: Option<Duration>,
    /// See [`Retry::backoff`].
    #[serde(serialize_with = "print::some_range")]
    pub backoff: Option<(Duration, Duration)>,
    /// See [`Retry::body_limit`].
    #[serde(serialize_with = "print::some_size")]
    pub body_limit: Option<usize>,
    /// See [`Retry::methods`].
    pub methods: Option<RetryMethods>,
}

impl RetryOverlay {
    /// Lays the keys that are set over `base`.
    #[must_use]
    pub fn over(&self, base: &Retry) -> Retry {
        Retry {
            on: self.on.as_ref().unwrap_or(&base.on).clone(),
            attempts: self.attempts.unwrap_or(base.attempts),
            per_try: self.per_try.or(base.per_try),
            backoff: self.backoff.unwrap_or(base.backoff),
            budget: base.budget,
            min_per_second: base.min_per_second,
            body_limit: self.body_limit.unwrap_or(base.body_limit),
            methods: self.methods.unwrap_or(base.methods),
        }
    }
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference to the field")]
fn status<S: Serializer>(status: &StatusCode, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_u16(status.as_u16())
}

#[allow(clippy::ref_option, clippy::trivially_copy_pass_by_ref, reason = "serde gives a reference to the field")]
fn some_status<S: Serializer>(status: &Option<StatusCode>, serializer: S) -> Result<S::Ok, S::Error> {
    status.map(|status| status.as_u16()).serialize(serializer)
}

fn rate<S: Serializer>(rate: &Rate, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(rate)
}

fn name<S: Serializer>(name: &HeaderName, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(name.as_str())
}

fn names<S: Serializer>(names: &[HeaderName], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(names.iter().map(HeaderName::as_str))
}

#[allow(clippy::ref_option, reason = "serde gives a reference to the field")]
fn some_value<S: Serializer>(value: &Option<HeaderValue>, serializer: S) -> Result<S::Ok, S::Error> {
    value.as_ref().map(|value| String::from_utf8_lossy(value.as_bytes())).serialize(serializer)
}

/// Names alone: a value may be a token for the endpoint, and `/config` tells no secrets.
fn set<S: Serializer>(set: &[(HeaderName, HeaderValue)], serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_seq(set.iter().map(|(name, _)| name.as_str()))
}
