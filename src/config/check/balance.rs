//! `balance`, `slow_start`, `zones` and `spill`.

use std::time::Duration;

use http::HeaderName;

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::units::Period;
use crate::config::{Balance, HashOn, ZonePreference, raw};

/// Longest slow start: beyond it, an endpoint is not new but small, and has a weight for that.
const MAX_SLOW_START: Duration = Duration::from_hours(1);

impl Check<'_> {
    pub(super) fn balance(&mut self, raw: Option<&raw::Balance>, base: &Balance, path: &Path) -> Balance {
        match raw {
            None => base.clone(),
            Some(raw::Balance::Name(raw::BalanceName::LeastRequest)) => Balance::LeastRequest,
            Some(raw::Balance::Name(raw::BalanceName::PeakEwma)) => Balance::PeakEwma,
            Some(raw::Balance::Name(raw::BalanceName::Random)) => Balance::Random,
            Some(raw::Balance::Name(raw::BalanceName::RoundRobin)) => Balance::RoundRobin,
            Some(raw::Balance::Hash(raw)) => {
                // Both are looked at, so that both are told.
                if raw.kind.is_none() {
                    self.missing(&path.key("kind"), "missing: write `kind = \"ring-hash\"` or `kind = \"maglev\"`");
                }
                let on = self.hash_on(raw.on.as_deref(), &path.key("on"));
                match (raw.kind, on) {
                    (Some(raw::HashKind::Maglev), Some(on)) => Balance::Maglev(on),
                    (Some(raw::HashKind::RingHash), Some(on)) => Balance::RingHash(on),
                    _ => base.clone(),
                }
            }
        }
    }

    fn hash_on(&mut self, raw: Option<&str>, path: &Path) -> Option<HashOn> {
        const EXPECTED: &str = "`header:NAME`, `cookie:NAME` or `address`";
        let Some(text) = raw else {
            self.missing(path, &format!("missing: say what is hashed: {EXPECTED}"));
            return None;
        };
        let on = match text.split_once(':') {
            None if text == "address" => Some(HashOn::Address),
            Some(("cookie", name)) if is_token(name) => Some(HashOn::Cookie(name.to_owned())),
            Some(("header", name)) => HeaderName::from_bytes(name.as_bytes()).ok().map(HashOn::Header),
            _ => None,
        };
        if on.is_none() {
            self.error(path, At::Value, format!("expected {EXPECTED}, found {}", shown(text)));
        }
        on
    }

    /// A TCP service has no headers that its key could stand in.
    pub(super) fn hashes_bytes(&mut self, balance: &Balance, path: &Path) {
        if let Some(on @ (HashOn::Cookie(_) | HashOn::Header(_))) = balance.hashes_on() {
            let message = format!("a `tcp` service has no headers to find `{on}` in; use `on = \"address\"`");
            self.error(path, At::Key, message);
        }
    }

    pub(super) fn slow_start(&mut self, raw: Option<Period>, base: Option<Duration>, path: &Path) -> Option<Duration> {
        match raw {
            Some(Period(window)) if window > MAX_SLOW_START => {
                self.error(path, At::Value, "expected at most 1h; an endpoint that is small for good has a weight");
                base
            }
            // Nothing: a service does without the default's.
            Some(Period(Duration::ZERO)) => None,
            Some(Period(window)) => Some(window),
            None => base,
        }
    }
}

pub(super) fn zones(raw: raw::Zones) -> ZonePreference {
    match raw {
        raw::Zones::Ignore => ZonePreference::Ignore,
        raw::Zones::Prefer => ZonePreference::Prefer,
    }
}

/// A token of RFC 9110, which the name of a cookie is.
fn is_token(name: &str) -> bool {
    let is_token = |byte: u8| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte);
    !name.is_empty() && name.bytes().all(is_token)
}
