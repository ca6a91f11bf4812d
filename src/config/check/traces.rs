//! `[telemetry]`.

use std::collections::BTreeMap;

use http::uri::Scheme;
use http::{HeaderName, HeaderValue, Uri, header};

use super::Check;
use crate::config::problem::{At, Path, shown};
use crate::config::{AccessLog, CollectorUrl, Node, Telemetry, Traces, raw};

/// Where collectors listen for OTLP over HTTP.
const OTLP_PORT: u16 = 4318;
/// What OTLP adds to the address of a collector.
const PATH: &str = "/v1/traces";
/// Share of requests that are traced unless told otherwise, that of Zipkin's and Envoy's users.
const SAMPLE: f64 = 0.01;

impl Check<'_> {
    pub(super) fn telemetry(&mut self, raw: Option<&raw::Telemetry>, node: &Node) -> Telemetry {
        let access_log = match raw.and_then(|raw| raw.access_log) {
            None | Some(raw::AccessLog::Json) => AccessLog::Json,
            Some(raw::AccessLog::Off) => AccessLog::Off,
            Some(raw::AccessLog::Text) => AccessLog::Text,
        };
        let path = Path::default().key("telemetry").key("traces");
        let traces = raw.and_then(|raw| raw.traces.as_ref()).and_then(|raw| self.traces(raw, node, &path));
        Telemetry { access_log, traces }
    }

    fn traces(&mut self, raw: &raw::Traces, node: &Node, path: &Path) -> Option<Traces> {
        let otlp = raw.otlp.as_ref().and_then(|url| self.collector(url, &path.key("otlp")));
        if raw.otlp.is_none() {
            let message = "missing: name a collector, such as `otlp = \"http://127.0.0.1:4318\"`";
            self.missing(&path.key("otlp"), message);
        }
        let headers = self.collector_headers(&raw.headers, &path.key("headers"));
        if let Some(name) = &raw.service_name {
            self.not_empty(name, &path.key("service_name"));
        }
        if let Some(ca) = &raw.ca {
            self.not_empty(&ca.to_string_lossy(), &path.key("ca"));
            if otlp.as_ref().is_some_and(|url| !url.tls) {
                let message = "is for a collector that is called by https; write `https://` in `otlp`, or remove it";
                self.error(&path.key("ca"), At::Key, message);
            }
        }
        Some(Traces {
            otlp: otlp?,
            sample: raw.sample.map_or(SAMPLE, |sample| sample.0),
            headers,
            service_name: raw
                .service_name
                .as_ref()
                .or(node.service.as_ref())
                .map_or("meshless", |name| name)
                .to_owned(),
            ca: raw.ca.clone(),
        })
    }

    fn collector(&mut self, text: &str, path: &Path) -> Option<CollectorUrl> {
        let url = text.parse::<Uri>().ok().and_then(|url| {
            let tls = match url.scheme() {
                Some(scheme) if *scheme == Scheme::HTTP => false,
                Some(scheme) if *scheme == Scheme::HTTPS => true,
                _ => return None,
            };
            let authority = url.authority().filter(|authority| !authority.as_str().contains('@'))?;
            // What stands behind the host is a port that fits, or nothing.
            let port = match authority.port() {
                Some(port) => port.as_str().parse::<u16>().ok().filter(|port| *port > 0)?,
                None if authority.as_str() != authority.host() => return None,
                None if tls => 443,
                None => OTLP_PORT,
            };
            let host = authority.host().trim_start_matches('[').trim_end_matches(']').to_owned();
            let base = url.path().trim_end_matches('/');
            let path = if base.ends_with(PATH) { base.to_owned() } else { format!("{base}{PATH}") };
            (url.query().is_none() && !host.is_empty()).then_some(CollectorUrl { tls, host, port, path })
        });
        if url.is_none() {
            let message = format!(
                "expected the URL of an OTLP collector, such as `http://127.0.0.1:4318` or `https://otlp.example.com`, \
                 without user and query, found {}; keys go into `headers`",
                shown(text)
            );
            self.error(path, At::Value, message);
        }
        url
    }

    fn collector_headers(
        &mut self,
        raw: &BTreeMap<String, String>,
        path: &Path,
    ) -> BTreeMap<String, (HeaderName, HeaderValue)> {
        let mut headers = BTreeMap::new();
        for (name, value) in raw {
            let path = path.key(name);
            let Ok(field) = HeaderName::try_from(name.as_str()) else {
                self.error(&path, At::Key, "expected the name of a header");
                continue;
            };
            // The value may be a key: it is not shown.
            let Ok(mut value) = HeaderValue::try_from(value.as_str()) else {
                self.error(&path, At::Value, "expected the value of a header: visible characters of one line");
                continue;
            };
            let ours = [header::CONTENT_TYPE, header::CONTENT_LENGTH, header::CONTENT_ENCODING, header::HOST];
            if ours.contains(&field) || field == header::TRANSFER_ENCODING || field == header::CONNECTION {
                self.error(&path, At::Key, "is set by the exporter; remove it");
                continue;
            }
            value.set_sensitive(true);
            headers.insert(name.clone(), (field, value));
        }
        headers
    }
}

#[cfg(test)]
mod tests;
