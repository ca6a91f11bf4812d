//! Values of headers and query parameters that a route may ask for.

use super::super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{ValueMatch, raw};

impl Check<'_> {
    pub(super) fn value_match(&mut self, raw: &raw::ValueMatch, at: &Path) -> Option<ValueMatch> {
        let rule = match raw {
            raw::ValueMatch::Text(text) => return self.value_text(text, at),
            raw::ValueMatch::Rule(rule) => rule,
        };
        match (&rule.regex, rule.present, &rule.not) {
            (Some(text), None, None) => self.pattern(text, &at.key("regex")).map(ValueMatch::Regex),
            (None, Some(present), None) => Some(ValueMatch::Present(present)),
            (None, None, Some(raw::NotMatch::Text(text))) => {
                self.value_text(text, &at.key("not")).map(|value| ValueMatch::Not(Box::new(value)))
            }
            (None, None, Some(raw::NotMatch::Regex(raw::Regex { regex: Some(text) }))) => {
                let pattern = self.pattern(text, &at.key("not").key("regex"))?;
                Some(ValueMatch::Not(Box::new(ValueMatch::Regex(pattern))))
            }
            // What was refused before is not missing.
            _ if self.is_wrong(at) => None,
            _ => {
                self.error(at, At::Value, "expected one of `regex`, `present` and `not`");
                None
            }
        }
    }

    fn value_text(&mut self, text: &str, at: &Path) -> Option<ValueMatch> {
        let hint = match text {
            "*" => "; for any value write `{ present = true }`",
            _ if text.len() > 1 && text.starts_with('*') && text.ends_with('*') => {
                "; for a text in the middle write `{ regex = \".*….*\" }`"
            }
            _ if text.trim_matches('*').contains('*') => "; a `*` that is meant so needs `{ regex = \"…\" }`",
            _ if text.trim() != text => "; values have no spaces around them, so it would match nothing",
            _ if !text.bytes().all(|byte| byte == b'\t' || byte >= b' ' && byte != 0x7f) => {
                "; values have no control characters"
            }
            _ => {
                return Some(match (text.strip_prefix('*'), text.strip_suffix('*')) {
                    (Some(suffix), _) => ValueMatch::Suffix(suffix.to_owned()),
                    (None, Some(prefix)) => ValueMatch::Prefix(prefix.to_owned()),
                    (None, None) => ValueMatch::Exact(text.to_owned()),
                });
            }
        };
        let message = format!("expected a value such as `v`, `v*` or `*v`, found {}{hint}", shown(text));
        self.error(at, At::Value, message);
        None
    }
}
