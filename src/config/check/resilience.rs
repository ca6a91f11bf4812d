//! `classify` and `breaker`: what counts against an endpoint, and when it is ejected.

use std::time::Duration;

use super::Check;
use crate::config::problem::{At, Path, shown, suggestion};
use crate::config::{Breaker, Classify, Hedge, StatusWord, Statuses, raw};

/// Shortest and longest window of a success rate: under a second ten buckets are no time, and what an endpoint did ten
/// minutes ago says little of it now.
const WINDOW: (Duration, Duration) = (Duration::from_secs(1), Duration::from_mins(10));
/// Shortest and longest ejection: after an hour at the latest a probe must find out.
const EJECT: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(1));

impl Check<'_> {
    pub(super) fn classify(&mut self, raw: Option<&raw::Classify>, base: &Classify, path: &Path) -> Classify {
        let Some(raw) = raw else { return base.clone() };
        Classify {
            failure: match &raw.failure {
                None => base.failure.clone(),
                Some(words) if words.is_empty() => Statuses::default(),
                Some(words) => Statuses::failures(&self.status_words(words, &path.key("failure"))),
            },
            retryable: match &raw.retryable {
                None => base.retryable.clone(),
                Some(words) => Statuses::new(&self.status_words(words, &path.key("retryable"))),
            },
        }
    }

    pub(super) fn hedge(&mut self, raw: Option<&raw::Hedge>, base: Option<Hedge>, path: &Path) -> Option<Hedge> {
        let Some(raw) = raw else { return base };
        let Some(text) = &raw.after else {
            self.missing(&path.key("after"), "missing: say after how long, such as `after = \"p95\"`");
            return None;
        };
        let hedge = text.parse().ok();
        if hedge.is_none() {
            let message = format!("expected a percentile from `p50` to `p99.9`, or a duration, found {}", shown(text));
            self.error(&path.key("after"), At::Value, message);
        }
        hedge
    }

    fn status_words(&mut self, words: &[String], path: &Path) -> Vec<StatusWord> {
        let mut found = Vec::with_capacity(words.len());
        for (position, word) in words.iter().enumerate() {
            if let Ok(word) = word.parse() {
                found.push(word);
                continue;
            }
            let near = suggestion(&word.replace('_', "-"), StatusWord::grpc_names());
            let near = if near.contains("did you mean") { near } else { String::new() };
            let message = format!(
                "expected `4xx`, `5xx`, a status from `400` to `599`, a range such as `500-504`, or a gRPC status such as \
                 `unavailable`, found {}{near}",
                shown(word)
            );
            self.error(&path.position(position), At::Value, message);
        }
        found
    }

    pub(super) fn breaker(&mut self, raw: Option<&raw::Breaker>, base: &Breaker, path: &Path) -> Breaker {
        let Some(raw) = raw else { return base.clone() };
        if raw.window.is_some_and(|window| window.0 < WINDOW.0 || window.0 > WINDOW.1) {
            self.error(&path.key("window"), At::Value, "expected a time from 1s to 10m");
        }
        if raw.eject.is_some_and(|eject| eject.0 < EJECT.0 || eject.1 > EJECT.1) {
            self.error(&path.key("eject"), At::Value, "expected a range within 100ms..1h");
        }
        if raw.max_ejected.is_some_and(|share| share.0 <= 0.0) {
            let message = "expected more than 0%: one endpoint may always be ejected; to eject none, write \
                           `consecutive = 0` and `success_below = \"0%\"`";
            self.error(&path.key("max_ejected"), At::Value, message);
        }
        Breaker {
            consecutive: raw.consecutive.unwrap_or(base.consecutive),
            success_below: raw.success_below.map_or(base.success_below, |ratio| ratio.0),
            window: raw.window.map_or(base.window, |window| window.0),
            min_requests: raw.min_requests.unwrap_or(base.min_requests),
            eject: raw.eject.map_or(base.eject, |eject| (eject.0, eject.1)),
            max_ejected: raw.max_ejected.map_or(base.max_ejected, |ratio| ratio.0),
        }
    }
}
