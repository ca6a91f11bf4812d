//! `timeouts` and `retry` of a rule.

use std::collections::BTreeSet;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::Value;

use super::durations;
use super::objects::{Retry, Rule, Timeouts, strict};
use crate::config::{RetryOn, RetryOverlay};

/// Stands for no limit: longer than any request.
const NEVER: Duration = Duration::from_hours(8760);
/// How much longer than `backoff` a wait between tries may become.
const GROWTH: u32 = 10;

/// What a rule says about time.
#[derive(Debug, Default)]
pub(super) struct Time {
    pub(super) timeout: Option<Duration>,
    pub(super) retry: Option<RetryOverlay>,
    /// Keys that are not read.
    pub(super) unread: Vec<String>,
}

/// Reads both.
pub(super) fn of_rule(rule: &Rule) -> Result<Time, String> {
    let Timeouts { request, backend_request, unread } = read(rule.timeouts.as_ref(), "timeouts")?.unwrap_or_default();
    let mut time = Time::default();
    time.unread.extend(unread.keys().map(|key| format!("timeouts.{key}")));
    time.timeout = duration(request.as_deref(), "timeouts.request")?.map(or_never);
    let per_try = duration(backend_request.as_deref(), "timeouts.backendRequest")?.map(or_never);
    let written: Option<Retry> = read(rule.retry.as_ref(), "retry")?;
    if let Some(retry) = &written {
        time.unread.extend(retry.unread.keys().map(|key| format!("retry.{key}")));
    }
    if written.is_some() || per_try.is_some() {
        let overlay = written.as_ref().map(retry).transpose()?.unwrap_or_default();
        time.retry = Some(RetryOverlay { per_try, ..overlay });
    }
    Ok(time)
}

/// `attempts` counts what comes after the first try. What is retried besides `codes` is what no endpoint has worked on: no
/// connection, and UNAVAILABLE; a connection that broke after the request was sent is not.
fn retry(written: &Retry) -> Result<RetryOverlay, String> {
    let mut on = BTreeSet::from([RetryOn::Connect, RetryOn::GrpcUnavailable]);
    for (position, code) in written.codes.iter().flatten().enumerate() {
        if !(400..=599).contains(code) {
            return Err(format!("`retry.codes[{position}]`: expected a status from 400 to 599, found {code}"));
        }
        on.insert(RetryOn::Status(*code));
    }
    let backoff = duration(written.backoff.as_deref(), "retry.backoff")?;
    Ok(RetryOverlay {
        on: Some(on),
        attempts: written.attempts.map(|more| more.saturating_add(1)),
        backoff: backoff.map(|base| (base, base.saturating_mul(GROWTH))),
        ..RetryOverlay::default()
    })
}

fn read<T: DeserializeOwned>(value: Option<&Value>, at: &str) -> Result<Option<T>, String> {
    value.map(|value| strict(value, at)).transpose()
}

fn duration(text: Option<&str>, at: &str) -> Result<Option<Duration>, String> {
    text.map(durations::parse).transpose().map_err(|error| format!("`{at}`: {error}"))
}

fn or_never(duration: Duration) -> Duration {
    if duration.is_zero() { NEVER } else { duration }
}
