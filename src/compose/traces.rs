//! The trace collector that a configuration names.

use std::sync::Arc;

use meshless_certs::Anchors;

use super::StartError;
use crate::config::Config;
use crate::telemetry::traces::{Collector, Resource, context};

/// Builds what the exporter needs; reads the certificates that the collector's is checked by.
pub(super) fn collector(config: &Config) -> Result<Option<Arc<Collector>>, StartError> {
    let Some(traces) = &config.telemetry.traces else { return Ok(None) };
    let tls = if traces.otlp.tls {
        let anchors = traces.ca.clone().map_or(Anchors::System, Anchors::File);
        let mut tls = meshless_certs::client(&anchors, None)
            .map_err(|error| StartError::Unusable(format!("telemetry.traces: tls: {error}")))?;
        tls.alpn_protocols = vec![b"http/1.1".to_vec()];
        Some(Arc::new(tls))
    } else {
        None
    };
    Ok(Some(Arc::new(Collector {
        tls,
        host: traces.otlp.host.clone(),
        port: traces.otlp.port,
        path: traces.otlp.path.clone(),
        headers: traces.headers.values().cloned().collect(),
        resource: Resource::new(&traces.service_name, config.node.zone.as_deref()),
        threshold: context::threshold(traces.sample),
    })))
}
