//! Policies of `[defaults]` and of services: each key over what is under it.

use std::collections::BTreeSet;

use super::Check;
use super::balance::zones;
use crate::config::problem::{At, Path, shown, suggestion};
use crate::config::{
    CertifiedKeyFiles, Limits, Policies, Retry, RetryMethods, RetryOn, RetryOverlay, TrustAnchors, UpstreamProtocol,
    UpstreamTls, raw,
};

/// Largest body that may be kept for another try, in bytes: it is held in memory for each request.
const MAX_RETRY_BODY: usize = 16 << 20;

impl Check<'_> {
    /// Lays the keys of one table over `base`.
    pub(super) fn policies(&mut self, raw: Option<&raw::Policies>, base: &Policies, path: &Path) -> Policies {
        let Some(raw) = raw else { return base.clone() };
        let policies = Policies {
            protocol: raw.protocol.map_or(base.protocol, protocol),
            tls: match &raw.tls {
                None => base.tls.clone(),
                Some(raw::Tls::Name(raw::TlsName::Off)) => UpstreamTls::Off,
                Some(raw::Tls::Name(raw::TlsName::Mesh)) => {
                    self.needs_identity("`tls = \"mesh\"`", &path.key("tls"));
                    UpstreamTls::Mesh { expected: Vec::new() }
                }
                Some(raw::Tls::Files(files)) => self.upstream_tls(files, &path.key("tls")),
            },
            balance: self.balance(raw.balance.as_ref(), &base.balance, &path.key("balance")),
            slow_start: self.slow_start(raw.slow_start, base.slow_start, &path.key("slow_start")),
            zones: raw.zones.map_or(base.zones, zones),
            spill: raw.spill.unwrap_or(base.spill),
            timeout: self.positive(&path.key("timeout"), raw.timeout, base.timeout),
            connect_timeout: self.positive(&path.key("connect_timeout"), raw.connect_timeout, base.connect_timeout),
            idle_timeout: self.positive(&path.key("idle_timeout"), raw.idle_timeout, base.idle_timeout),
            retry: self.retry(raw.retry.as_ref(), &base.retry, &path.key("retry")),
            hedge: self.hedge(raw.hedge.as_ref(), base.hedge, &path.key("hedge")),
            classify: self.classify(raw.classify.as_ref(), &base.classify, &path.key("classify")),
            breaker: self.breaker(raw.breaker.as_ref(), &base.breaker, &path.key("breaker")),
            health: self.health(raw.health.as_ref(), base.health.as_ref(), &path.key("health")),
            limits: self.limits(raw.limits.as_ref(), &base.limits, &path.key("limits")),
            panic: raw.panic.map_or(base.panic, |ratio| ratio.0),
        };
        if policies.protocol == UpstreamProtocol::Tcp && raw.balance.is_some() {
            self.hashes_bytes(&policies.balance, &path.key("balance"));
        }
        policies
    }

    fn upstream_tls(&mut self, raw: &raw::TlsFiles, path: &Path) -> UpstreamTls {
        let ca = match raw.ca.as_deref() {
            None | Some("system") => TrustAnchors::System,
            Some(file) => {
                self.not_empty(file, &path.key("ca"));
                TrustAnchors::File(file.into())
            }
        };
        let client = self.certified_key(raw.cert.as_ref(), raw.key.as_ref(), path);
        if let Some(name) = raw.server_name.as_deref().filter(|name| !is_server_name(name)) {
            let message = format!("expected a host name or an IP address without a port, found {}", shown(name));
            self.error(&path.key("server_name"), At::Value, message);
        }
        UpstreamTls::On { ca, client, server_name: raw.server_name.clone() }
    }

    /// A chain and its key stand together or not at all.
    pub(super) fn certified_key(
        &mut self,
        cert: Option<&std::path::PathBuf>,
        key: Option<&std::path::PathBuf>,
        path: &Path,
    ) -> Option<CertifiedKeyFiles> {
        for (name, file) in [("cert", cert), ("key", key)] {
            if let Some(file) = file {
                self.not_empty(&file.to_string_lossy(), &path.key(name));
            }
        }
        match (cert, key) {
            (Some(cert), Some(key)) => Some(CertifiedKeyFiles { cert: cert.clone(), key: key.clone() }),
            (Some(_), None) => {
                self.missing(&path.key("key"), "missing: a certificate chain needs its private key");
                None
            }
            (None, Some(_)) => {
                self.missing(&path.key("cert"), "missing: a private key needs its certificate chain");
                None
            }
            (None, None) => None,
        }
    }

    pub(super) fn not_empty(&mut self, file: &str, path: &Path) {
        if file.is_empty() {
            self.error(path, At::Value, "expected the path of a file, found nothing");
        }
    }

    fn retry(&mut self, raw: Option<&raw::Retry>, base: &Retry, path: &Path) -> Retry {
        let Some(raw) = raw else { return base.clone() };
        let overlay = self.retry_overlay(raw, path);
        Retry {
            budget: raw.budget.map_or(base.budget, |ratio| ratio.0),
            min_per_second: raw.min_per_second.unwrap_or(base.min_per_second),
            ..overlay.over(base)
        }
    }

    /// What a service lays over the defaults and a route over its service.
    pub(super) fn retry_overlay(&mut self, raw: &raw::Retry, path: &Path) -> RetryOverlay {
        if raw.body_limit.is_some_and(|size| size.0 > MAX_RETRY_BODY) {
            self.error(
                &path.key("body_limit"),
                At::Value,
                "expected at most 16MiB: it is held in memory for each request",
            );
        }
        RetryOverlay {
            on: raw.on.as_ref().map(|on| self.retry_on(on, &path.key("on"))),
            attempts: raw.attempts,
            per_try: self.some_positive(&path.key("per_try"), raw.per_try),
            backoff: raw.backoff.map(|range| (range.0, range.1)),
            body_limit: raw.body_limit.map(|size| size.0),
            methods: raw.methods.map(|methods| match methods {
                raw::RetryMethods::All => RetryMethods::All,
                raw::RetryMethods::Idempotent => RetryMethods::Idempotent,
            }),
        }
    }

    fn retry_on(&mut self, raw: &[String], path: &Path) -> BTreeSet<RetryOn> {
        let mut reasons = BTreeSet::new();
        for (position, text) in raw.iter().enumerate() {
            let status = (text.len() == 3).then(|| text.parse::<u16>().ok()).flatten();
            let reason = match (text.as_str(), status) {
                ("connect", _) => RetryOn::Connect,
                ("reset", _) => RetryOn::Reset,
                ("unavailable", _) => RetryOn::GrpcUnavailable,
                (_, Some(status @ 400..=599)) => RetryOn::Status(status),
                _ => {
                    let near = suggestion(text, ["connect", "reset", "unavailable"]);
                    let near = if near.contains("did you mean") { near } else { String::new() };
                    let message = format!(
                        "expected `connect`, `reset`, `unavailable` or a status from `400` to `599`, found {}{near}",
                        shown(text)
                    );
                    self.error(&path.position(position), At::Value, message);
                    continue;
                }
            };
            reasons.insert(reason);
        }
        reasons
    }

    fn limits(&mut self, raw: Option<&raw::Limits>, base: &Limits, path: &Path) -> Limits {
        let Some(raw) = raw else { return base.clone() };
        Limits {
            connections: raw.connections.unwrap_or(base.connections),
            pending: raw.pending.unwrap_or(base.pending),
            requests: raw.requests.unwrap_or(base.requests),
            queue: self.positive(&path.key("queue"), raw.queue, base.queue),
        }
    }
}

fn protocol(raw: raw::Protocol) -> UpstreamProtocol {
    match raw {
        raw::Protocol::Auto => UpstreamProtocol::Auto,
        raw::Protocol::Http1 => UpstreamProtocol::Http1,
        raw::Protocol::Http2 => UpstreamProtocol::Http2,
        raw::Protocol::Tcp => UpstreamProtocol::Tcp,
    }
}

fn is_server_name(name: &str) -> bool {
    rustls::pki_types::ServerName::try_from(name).is_ok()
}
