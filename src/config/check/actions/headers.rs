//! Which headers a route may change.

use http::{HeaderName, HeaderValue};

use super::super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{HeaderChanges, raw};

impl Check<'_> {
    pub(in crate::config::check) fn header_changes(
        &mut self,
        raw: Option<&raw::HeaderChanges>,
        at: &Path,
    ) -> Option<HeaderChanges> {
        let mut changes = Some(HeaderChanges::default());
        let Some(raw) = raw else { return changes };
        for (name, value) in raw.set.iter().flatten() {
            let path = at.key("set").key(name);
            let name = self.changeable(name, &path, At::Key);
            let is_twice = |changes: &HeaderChanges| changes.set.iter().any(|(known, _)| Some(known) == name.as_ref());
            if changes.as_ref().is_some_and(is_twice) {
                self.error(&path, At::Key, "stands there twice; names of headers do not differ by case");
                changes = None;
            }
            let value = self.header_value(value, &path);
            match (&mut changes, name.zip(value)) {
                (Some(changes), Some(pair)) => changes.set.push(pair),
                _ => changes = None,
            }
        }
        for (position, name) in raw.remove.iter().flatten().enumerate() {
            let path = at.key("remove").position(position);
            let name = self.changeable(name, &path, At::Value);
            let is_set = |changes: &HeaderChanges| changes.set.iter().any(|(known, _)| Some(known) == name.as_ref());
            if changes.as_ref().is_some_and(is_set) {
                self.error(&path, At::Value, "is under `set`, too, which replaces every line of it already");
                changes = None;
            }
            match (&mut changes, name) {
                (Some(changes), Some(name)) => changes.remove.push(name),
                _ => changes = None,
            }
        }
        changes
    }

    /// A header that may be changed, or what speaks against it at its place.
    fn changeable(&mut self, text: &str, at: &Path, point: At) -> Option<HeaderName> {
        match changeable(text) {
            Ok(name) => Some(name),
            Err(problem) => {
                self.error(at, point, format!("{} {problem}", shown(text)));
                None
            }
        }
    }

    fn header_value(&mut self, text: &str, at: &Path) -> Option<HeaderValue> {
        match header_value(text) {
            Ok(value) => Some(value),
            Err(problem) => {
                self.error(at, At::Value, problem);
                None
            }
        }
    }
}

/// Returns a header whose change breaks neither framing nor what proxies tell each other, or what speaks against it.
pub(crate) fn changeable(text: &str) -> Result<HeaderName, &'static str> {
    Err(match text.to_ascii_lowercase().as_str() {
        "content-length" | "transfer-encoding" | "trailer" => "says where the message ends; it follows from the body",
        "connection" | "keep-alive" | "te" | "upgrade" | "http2-settings" => {
            "belongs to one connection; every hop writes its own"
        }
        "expect" => "belongs to the exchange of `100 Continue`",
        "host" => "is changed by `rewrite = { host = \"…\" }`",
        "via" => "tells loops apart; every proxy adds itself",
        "meshless-error" => "tells our answers from those of endpoints",
        other if other == "proxy" || other.starts_with("proxy-") => "is for proxies alone",
        other if other.starts_with(':') => "has no place here; there is `rewrite`",
        other => return HeaderName::from_bytes(other.as_bytes()).map_err(|_| "is no name of a header"),
    })
}

/// Returns a value that may be sent, or what was expected.
pub(crate) fn header_value(text: &str) -> Result<HeaderValue, String> {
    match HeaderValue::from_str(text) {
        Ok(value) if text.trim() == text => Ok(value),
        _ => {
            Err(format!("expected a value of visible ASCII characters without spaces around it, found {}", shown(text)))
        }
    }
}
