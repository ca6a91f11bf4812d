//! What a route does: rewrites, header changes, answers of its own, faults, limits, mirrors.

pub(crate) mod headers;

use std::time::Duration;

use http::{HeaderName, HeaderValue, StatusCode};

use super::Check;
use super::matches::is_host;
use super::routes::all_or_none;
use crate::config::problem::{At, Path, shown, suggestion};
use crate::config::{Fault, Mirror, RateKey, RateLimit, Redirect, Respond, RetryOverlay, Rewrite, Template, raw};

/// Longest answer of a route, in bytes: it is no file server.
const MAX_BODY: usize = 64 * 1024;
/// Longest delay of a fault.
const MAX_DELAY: Duration = Duration::from_mins(10);

impl Check<'_> {
    pub(super) fn rewrite(&mut self, raw: &raw::Rewrite, captures: Option<&[&str]>, at: &Path) -> Option<Rewrite> {
        if raw.path.is_none() && raw.host.is_none() && !self.is_wrong(at) {
            self.error(at, At::Value, "changes nothing; give `path` or `host`");
            return None;
        }
        let path = raw.path.as_deref().map(|text| self.new_path(text, captures, &at.key("path")));
        let host = raw.host.as_deref().map(|text| self.new_host(text, &at.key("host")));
        let host = all_or_none(host)?;
        Some(Rewrite { path: all_or_none(path)?, host: host.and_then(|host| HeaderValue::try_from(host).ok()) })
    }

    pub(super) fn redirect(&mut self, raw: &raw::Redirect, captures: Option<&[&str]>, at: &Path) -> Option<Redirect> {
        if raw.scheme.is_none() && raw.host.is_none() && raw.path.is_none() && !self.is_wrong(at) {
            self.error(at, At::Value, "leads back to itself; give `scheme`, `host` or `path`");
            return None;
        }
        let status = match raw.status.unwrap_or(308) {
            status @ (301 | 302 | 303 | 307 | 308) => StatusCode::from_u16(status).ok(),
            other => {
                let message = format!("expected 301, 302, 303, 307 or 308, found the number {other}");
                self.error(&at.key("status"), At::Value, message);
                None
            }
        };
        let scheme = match raw.scheme.as_deref() {
            None => Some(None),
            Some("http") => Some(Some("http")),
            Some("https") => Some(Some("https")),
            Some(other) => {
                let message = format!("expected `http` or `https`, found {}", shown(other));
                self.error(&at.key("scheme"), At::Value, message);
                None
            }
        };
        let host = raw.host.as_deref().map(|text| self.new_host(text, &at.key("host")));
        let path = raw.path.as_deref().map(|text| self.new_path(text, captures, &at.key("path")));
        Some(Redirect {
            status: status?,
            scheme: scheme?,
            host: all_or_none(host)?,
            port: None,
            path: all_or_none(path)?,
        })
    }

    pub(super) fn respond(&mut self, raw: &raw::Respond, at: &Path) -> Option<Respond> {
        let status = StatusCode::from_u16(raw.status.unwrap_or(200)).ok()?;
        let body = raw.body.clone().unwrap_or_default();
        if matches!(status.as_u16(), 204 | 205 | 304) && !body.is_empty() {
            self.error(&at.key("body"), At::Key, format!("a reply with status {} has no body", status.as_u16()));
            return None;
        }
        if body.len() > MAX_BODY {
            let message = format!("expected at most 64KiB, found {} bytes", body.len());
            self.error(&at.key("body"), At::Value, message);
            return None;
        }
        Some(Respond { status, body })
    }

    pub(super) fn fault(&mut self, raw: &raw::Fault, at: &Path) -> Option<Fault> {
        if raw.delay.is_none() && raw.status.is_none() && !self.is_wrong(at) {
            self.error(at, At::Value, "does nothing; give `delay` or `status`");
            return None;
        }
        let delay = self.some_positive(&at.key("delay"), raw.delay);
        if delay.is_some_and(|delay| delay > MAX_DELAY) {
            self.error(&at.key("delay"), At::Value, "expected at most 10m");
            return None;
        }
        let status = raw.status.and_then(|status| StatusCode::from_u16(status).ok());
        Some(Fault { delay, status, share: raw.share.map_or(1.0, |share| share.0) })
    }

    pub(super) fn mirror(&mut self, raw: &raw::Mirror, at: &Path) -> Option<Mirror> {
        let Some(to) = &raw.to else {
            self.missing(&at.key("to"), "missing: say where copies go, such as `to = \"web-shadow\"`");
            return None;
        };
        let share = raw.share.map_or(1.0, |share| share.0);
        Some(Mirror { to: self.destination(to, &at.key("to"))?, share })
    }

    pub(super) fn rate_limit(&mut self, raw: &raw::RateLimit, at: &Path) -> Option<RateLimit> {
        let per = match raw.per.as_deref() {
            None => Some(RateKey::Route),
            Some("address") => Some(RateKey::Address),
            Some("from") => Some(RateKey::From),
            Some(text) => {
                let name = text.strip_prefix("header:").and_then(|name| HeaderName::from_bytes(name.as_bytes()).ok());
                if name.is_none() {
                    let near = suggestion(text, ["address", "from"]);
                    let near = if near.contains("did you mean") { near } else { String::new() };
                    let message = format!(
                        "expected `from`, `address` or `header:NAME`, found {}{near}; left out, the whole route has one limit",
                        shown(text)
                    );
                    self.error(&at.key("per"), At::Value, message);
                }
                name.map(RateKey::Header)
            }
        };
        let Some(rate) = raw.rate else {
            self.missing(&at.key("rate"), "missing: say how many, such as `rate = \"100/s\"`");
            return None;
        };
        let a_second = u64::from(rate.count) / rate.per.as_secs().max(1);
        let burst = raw.burst.unwrap_or_else(|| u32::try_from(a_second).unwrap_or(u32::MAX).max(1));
        Some(RateLimit { per: per?, rate, burst })
    }

    pub(super) fn route_retry(&mut self, raw: &raw::Retry, at: &Path) -> RetryOverlay {
        let keys = [("budget", raw.budget.is_some()), ("min_per_second", raw.min_per_second.is_some())];
        for (key, _) in keys.into_iter().filter(|(_, is_set)| *is_set) {
            let message = "the budget is one for all requests to a service; set it there";
            self.error(&at.key(key), At::Key, message);
        }
        self.retry_overlay(raw, at)
    }

    fn new_host(&mut self, text: &str, at: &Path) -> Option<String> {
        let bare = crate::route::without_port(text);
        let port = text.get(bare.len()..).and_then(|port| port.strip_prefix(':'));
        if is_host(bare) && port.is_none_or(|port| port.parse::<u16>().is_ok_and(|port| port > 0)) {
            return Some(text.to_ascii_lowercase());
        }
        let hint = if text.contains(['{', '}']) { "; captures stand in paths alone" } else { "" };
        let message =
            format!("expected a host such as `api.internal` or `api.internal:8443`, found {}{hint}", shown(text));
        self.error(at, At::Value, message);
        None
    }

    /// A path that is sent, or that a client is sent to.
    fn new_path(&mut self, text: &str, captures: Option<&[&str]>, at: &Path) -> Option<Template> {
        if let Err(message) = sendable(text) {
            self.error(at, At::Value, message);
            return None;
        }
        match Template::new(text, captures?) {
            Ok(template) => Some(template),
            Err(error) => {
                self.error(at, At::Offset(error.offset), error.message);
                None
            }
        }
    }
}

/// Says whether a path, with its captures in braces, can be sent, or what was expected.
pub(crate) fn sendable(text: &str) -> Result<(), String> {
    let problem = if !text.starts_with('/') {
        "; a path begins with `/`"
    } else if text.contains(['?', '#']) {
        "; a path ends before `?` and `#`, and the query stays as it came"
    } else if text.ends_with("/*") {
        "; what `*` took is `{rest}`"
    } else if text.contains("//") || text.split('/').any(|segment| segment == "." || segment == "..") {
        "; it has empty or dot segments"
    } else if !text.bytes().all(|byte| byte.is_ascii_graphic()) || text.contains(['\\', '"', '<', '>', '^', '`', '|']) {
        "; write other characters percent-encoded"
    } else {
        return Ok(());
    };
    Err(format!("expected a path such as `/v2/{{rest}}`, found {}{problem}", shown(text)))
}
