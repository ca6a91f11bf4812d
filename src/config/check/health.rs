//! `health`: how endpoints are asked whether they are well.

use std::time::Duration;

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{Health, HealthAsk, raw};

/// Shortest and longest time between two checks.
const INTERVAL: (Duration, Duration) = (Duration::from_millis(100), Duration::from_hours(1));

impl Check<'_> {
    /// Lays the keys of one table over `base`; a service that says another type takes the times of `base`, and nothing of
    /// what it asks.
    pub(super) fn health(&mut self, raw: Option<&raw::Health>, base: Option<&Health>, path: &Path) -> Option<Health> {
        let Some(raw) = raw else { return base.cloned() };
        let ask = self.ask(raw, base.map(|base| &base.ask), path)?;
        if raw.interval.is_some_and(|interval| interval.0 < INTERVAL.0 || interval.0 > INTERVAL.1) {
            self.error(&path.key("interval"), At::Value, "expected a time from 100ms to 1h");
        }
        let interval = raw
            .interval
            .map_or_else(|| base.map_or(Duration::from_secs(5), |base| base.interval), |interval| interval.0);
        let timeout = base.map_or(Duration::from_secs(1), |base| base.timeout).min(interval);
        let timeout = self.positive(&path.key("timeout"), raw.timeout, timeout);
        if timeout > interval {
            self.error(
                &path.key("timeout"),
                At::Value,
                "expected at most `interval`: an endpoint has one check at a time",
            );
        }
        Some(Health {
            ask,
            interval,
            timeout,
            healthy: raw.healthy.or_else(|| base.map(|base| base.healthy)).unwrap_or(2),
            unhealthy: raw.unhealthy.or_else(|| base.map(|base| base.unhealthy)).unwrap_or(3),
        })
    }

    fn ask(&mut self, raw: &raw::Health, base: Option<&HealthAsk>, path: &Path) -> Option<HealthAsk> {
        let kind =
            raw.r#type.or_else(|| raw.path.as_ref().map(|_| raw::HealthType::Http)).or_else(|| base.map(kind_of));
        let Some(kind) = kind else {
            self.missing(&path.key("path"), "missing: say the path of an HTTP check, or `type = \"tcp\"` or \"grpc\"");
            return None;
        };
        let given = [
            ("path", raw.path.is_some(), raw::HealthType::Http),
            ("host", raw.host.is_some(), raw::HealthType::Http),
            ("status", raw.status.is_some(), raw::HealthType::Http),
            ("service", raw.service.is_some(), raw::HealthType::Grpc),
        ];
        for (key, _, of) in given.into_iter().filter(|(_, given, of)| *given && *of != kind) {
            let of = if of == raw::HealthType::Grpc { "grpc" } else { "http" };
            self.error(&path.key(key), At::Key, format!("belongs to `type = \"{of}\"`; remove it, or change `type`"));
        }
        match kind {
            raw::HealthType::Off => None,
            raw::HealthType::Tcp => Some(HealthAsk::Tcp),
            raw::HealthType::Grpc => {
                let inherited = match base {
                    Some(HealthAsk::Grpc { service }) => service.clone(),
                    _ => String::new(),
                };
                Some(HealthAsk::Grpc { service: raw.service.clone().unwrap_or(inherited) })
            }
            raw::HealthType::Http => self.http(raw, base, path),
        }
    }

    fn http(&mut self, raw: &raw::Health, base: Option<&HealthAsk>, path: &Path) -> Option<HealthAsk> {
        let inherited = match base {
            Some(HealthAsk::Http { path, host, status }) => Some((path.clone(), host.clone(), *status)),
            _ => None,
        };
        let (base_path, base_host, base_status) =
            inherited.map_or((None, None, (200, 299)), |(path, host, status)| (Some(path), host, status));
        let is_path = |text: &str| text.starts_with('/') && text.parse::<http::uri::PathAndQuery>().is_ok();
        if let Some(text) = raw.path.as_deref().filter(|text| !is_path(text) || text.contains('#')) {
            let message = format!("expected a path such as `/healthz`, found {}", shown(text));
            self.error(&path.key("path"), At::Value, message);
        }
        let is_host =
            |text: &str| !text.is_empty() && text.parse::<http::uri::Authority>().is_ok() && !text.contains('@');
        if let Some(text) = raw.host.as_deref().filter(|text| !is_host(text)) {
            let message = format!("expected a host such as `api.internal`, found {}", shown(text));
            self.error(&path.key("host"), At::Value, message);
        }
        let status = raw.status.as_deref().map_or(Some(base_status), statuses);
        if status.is_none() {
            let found = shown(raw.status.as_deref().unwrap_or_default());
            let message = format!("expected a status such as `200`, or a range such as `200-399`, found {found}");
            self.error(&path.key("status"), At::Value, message);
        }
        let Some(asked) = raw.path.clone().or(base_path) else {
            self.missing(&path.key("path"), "missing: an HTTP check needs a path, such as `path = \"/healthz\"`");
            return None;
        };
        Some(HealthAsk::Http { path: asked, host: raw.host.clone().or(base_host), status: status? })
    }
}

fn kind_of(ask: &HealthAsk) -> raw::HealthType {
    match ask {
        HealthAsk::Grpc { .. } => raw::HealthType::Grpc,
        HealthAsk::Http { .. } => raw::HealthType::Http,
        HealthAsk::Tcp => raw::HealthType::Tcp,
    }
}

/// `200`, or `200-399`.
fn statuses(text: &str) -> Option<(u16, u16)> {
    let status = |text: &str| {
        let digits = text.len() == 3 && text.bytes().all(|byte| byte.is_ascii_digit());
        text.parse().ok().filter(|status| digits && (100..=599).contains(status))
    };
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    let (first, last) = (status(first)?, status(last)?);
    (first <= last).then_some((first, last))
}
