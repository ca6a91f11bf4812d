//! What the gateway says about itself: metrics, the access log, traces and its own log.
//!
//! All of it follows one rule: a request pays a few plain stores and one formatted line, and nothing here can make it
//! wait. A slow scrape, a full disk or a reader that went away costs a counter, never a request.

pub mod access_log;
pub mod exposition;
pub mod log;
pub mod metrics;
pub(crate) mod rarely;
pub mod timestamp;
pub mod traces;

use std::sync::Arc;

use access_log::{AccessLog, Lane};
use metrics::{Registry, WorkerMetrics};
use traces::Tracer;

/// All that workers tell something by; clones are the same.
#[derive(Debug, Clone)]
pub struct Telemetry {
    /// Metrics.
    pub registry: Arc<Registry>,
    /// The access log; `None`: there is none.
    pub access_log: Option<AccessLog>,
    /// Traces.
    pub tracer: Tracer,
}

/// One worker's end of it.
#[derive(Debug)]
pub struct WorkerTelemetry {
    /// Makes its metrics.
    pub metrics: WorkerMetrics,
    /// Its end of the access log.
    pub lane: Option<Lane>,
    /// Where its spans go.
    pub tracer: Tracer,
}

impl Telemetry {
    /// Makes the end for one worker.
    pub fn worker(&self) -> WorkerTelemetry {
        WorkerTelemetry {
            metrics: WorkerMetrics::new(&self.registry),
            lane: self.access_log.as_ref().map(AccessLog::lane),
            tracer: self.tracer.clone(),
        }
    }
}
